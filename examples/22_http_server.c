/* A prefork HTTP server: the main process opens a socket and forks workers, which all accept connections from
   it and count visitors in shared memory. A worker that dies is replaced, and the counters stay right, even
   if it died in the middle of counting.

       22_http_server 8080     serves on http://127.0.0.1:8080/ until Ctrl-C
       22_http_server          tries itself: some hundred visits, and two workers killed on the way */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WORKERS 4
#define CLIENTS 3   /* of the trial */
#define VISITS  150 /* of each client */

/* In shared memory. total is the sum of by_worker, whenever nobody holds the lock. */
struct counters {
    long total;
    long by_worker[WORKERS];
    bool trap; /* the trial sets it: the next worker to count dies in the middle of it */
};

struct server {
    int listener;
    int lifeline[2]; /* a pipe; only the main process has [1], so [0] tells when that one stops or dies */
    pid_t workers[WORKERS];
    int replaced;
    struct counters *counters;
};

/* ---- A worker ------------------------------------------------------------------------------------------ */

/* The visitor's number. Whoever gets the lock from a dead worker sets right what that one left half done. */
static long count_visitor(struct counters *c, int worker) {
    int error = mproc_lock_acquire(mproc_lock_of(c), MPROC_FOREVER);
    if (error == MPROC_EOWNERDEAD) {
        c->total = 0;
        for (int i = 0; i < WORKERS; i++) c->total += c->by_worker[i];
    } else if (error) return -1;
    c->by_worker[worker]++;
    if (c->trap) {
        c->trap = false;
        raise(SIGKILL); /* while it holds the lock, and the total is wrong */
    }
    long number = ++c->total;
    mproc_lock_release(mproc_lock_of(c));
    return number;
}

/* Reads until the empty line that ends a request or until the other side stops; what it got is a string. */
static void read_text(int fd, char *text, size_t capacity, const char *end) {
    size_t size = 0;
    ssize_t n = 1;
    text[0] = '\0';
    while (n > 0 && size + 1 < capacity && !(end && strstr(text, end))) {
        n = recv(fd, text + size, capacity - 1 - size, 0);
        if (n > 0) size += (size_t)n;
        text[size] = '\0';
    }
}

static bool write_text(int fd, const char *text) {
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t n = send(fd, text, size, MSG_NOSIGNAL); /* an error, not SIGPIPE, if the visitor has left */
        if (n <= 0) return false;
        text += n;
        size -= (size_t)n;
    }
    return true;
}

static void answer(int fd, struct server *s, int worker) {
    char request[4096], body[128], response[512];
    read_text(fd, request, sizeof request, "\r\n\r\n");
    const char *status = "400 Bad Request";
    snprintf(body, sizeof body, "This server knows only GET.\n");
    if (strncmp(request, "GET ", 4) == 0 && strstr(request, "\r\n\r\n")) {
        status = "200 OK";
        snprintf(body, sizeof body, "You are visitor %ld, served by worker %d (pid %ld).\n",
                 count_visitor(s->counters, worker), worker, (long)getpid());
    }
    snprintf(response, sizeof response,
             "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
             status, strlen(body), body);
    write_text(fd, response);
}

/* Serves one visitor after another until the main process closes the lifeline, or dies. */
static void serve(struct server *s, int worker) {
    struct pollfd fds[2] = {{.fd = s->listener, .events = POLLIN}, {.fd = s->lifeline[0], .events = POLLIN}};
    struct timeval patience = {5, 0}; /* a visitor who says nothing may not keep a worker for ever */
    close(s->lifeline[1]);
    while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue; /* another worker was faster */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        answer(fd, s, worker);
        close(fd);
    }
}

/* ---- The main process ---------------------------------------------------------------------------------- */

/* Non-blocking, as several workers may wake up for one visitor; port 0: a free one. */
static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    close(fd);
    return -1;
}

static int port_of(int listener) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    return getsockname(listener, (struct sockaddr *)&address, &size) == 0 ? ntohs(address.sin_port) : -1;
}

static bool fork_worker(struct server *s, int worker) {
    s->workers[worker] = mproc_fork();
    if (s->workers[worker] == 0) {
        serve(s, worker);
        mproc_exit(0);
    }
    return s->workers[worker] > 0;
}

static bool replace_the_dead(struct server *s) {
    int exitcode;
    for (int i = 0; i < WORKERS; i++) {
        pid_t old = s->workers[i];
        if (old <= 0 || mproc_wait(old, &exitcode, 0) != 0) continue; /* it lives */
        if (!fork_worker(s, i)) return false;
        s->replaced++;
        printf("worker %d (pid %ld) has ended, exit code %d; replaced by pid %ld\n", i, (long)old, exitcode,
               (long)s->workers[i]);
    }
    return true;
}

/* Signals that are blocked wait until sigwait takes them: none is lost, and no handler interrupts anything.
   The workers inherit that; Ctrl-C, which goes to all of them, makes the main process stop them. */
static void block_signals(sigset_t *signals) {
    sigemptyset(signals);
    sigaddset(signals, SIGCHLD);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    sigprocmask(SIG_BLOCK, signals, NULL);
}

static bool start_server(struct server *s, int port) {
    s->counters = (struct counters *)mproc_shm_new(sizeof *s->counters);
    s->listener = listen_on(port);
    return s->counters && s->listener >= 0 && pipe2(s->lifeline, O_CLOEXEC) == 0;
}

/* Until a signal says to stop, or finished (may be NULL) does. */
static bool run_server(struct server *s, bool (*finished)(struct server *s)) {
    sigset_t signals;
    int signal = SIGCHLD;
    block_signals(&signals);
    for (int i = 0; i < WORKERS; i++)
        if (!fork_worker(s, i)) return false;
    while (signal == SIGCHLD) {
        if (!replace_the_dead(s)) return false;
        if (finished && finished(s)) return true;
        sigwait(&signals, &signal);
    }
    return !finished;
}

static bool stop_server(struct server *s) {
    bool clean = true;
    close(s->lifeline[1]); /* every worker finishes what it does, and ends */
    for (int i = 0; i < WORKERS; i++) {
        int exitcode = -1;
        if (s->workers[i] > 0 && (mproc_wait(s->workers[i], &exitcode, 10.0) != 0 || exitcode != 0))
            clean = false;
    }
    close(s->lifeline[0]);
    close(s->listener);

    long sum = 0;
    for (int i = 0; i < WORKERS; i++) sum += s->counters->by_worker[i];
    printf("%ld visitors:", s->counters->total);
    for (int i = 0; i < WORKERS; i++) printf(" %ld", s->counters->by_worker[i]);
    printf(" by worker; all of them %s\n", clean ? "stopped cleanly" : "did not stop cleanly");
    return clean && sum == s->counters->total;
}

/* ---- The trial ----------------------------------------------------------------------------------------- */

/* In shared memory: what the clients do and find out. */
struct trial {
    int port;
    struct counters *counters;
    int answered, failed;            /* visits with and without an answer */
    int kills;                       /* workers that they killed */
    bool seen[2 * CLIENTS * VISITS]; /* which visitor numbers came up */
    bool twice;                      /* one came up twice */
};

struct client {
    mproc_process process;
    struct trial *trial;
    bool kills;
};

static struct client clients[CLIENTS];
static struct trial *trial;

/* One visit through a plain socket: visitor number and pid of the worker; false without a right answer. */
static bool visit(int port, long *number, long *pid) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {10, 0};
    char response[1024] = "";
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        write_text(fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        read_text(fd, response, sizeof response, NULL);
    close(fd);
    const char *body = strstr(response, "\r\n\r\n");
    return strncmp(response, "HTTP/1.1 200 OK\r\n", 17) == 0 && body &&
           sscanf(body, " You are visitor %ld, served by worker %*d (pid %ld).", number, pid) == 2;
}

static void note(struct trial *t, bool answered, long number) {
    MPROC_WITH (mproc_lock_of(t)) {
        if (!answered) t->failed++;
        else if (number < 1 || number >= 2 * CLIENTS * VISITS || t->seen[number]) t->twice = true;
        else t->seen[number] = true, t->answered++;
    }
}

/* Kills the worker who answered last, who may serve another client by now. */
static int kill_one(struct trial *t, long pid) {
    t->kills++; /* by one client only, so it needs no lock */
    return kill((pid_t)pid, SIGKILL);
}

/* Kills the worker who counts next, at the worst of all moments. */
static void set_trap(struct trial *t) {
    t->kills++;
    MPROC_WITH (mproc_lock_of(t->counters)) t->counters->trap = true;
}

static int make_visits(mproc_process *self) {
    struct client *c = (struct client *)self;
    struct trial *t = c->trial;
    long number = 0, pid = 0;
    for (int answered = 0, failed = 0; answered < VISITS;) {
        bool right = visit(t->port, &number, &pid);
        note(t, right, number);
        if (!right && ++failed > 10) return 1; /* something else is wrong */
        if (!right) continue;                  /* once more */
        answered++;
        if (c->kills && answered == VISITS / 3 && kill_one(t, pid) != 0) return 1;
        if (c->kills && answered == VISITS / 3 * 2) set_trap(t);
    }
    return 0;
}

static bool clients_finished(struct server *s) {
    for (int i = 0; i < CLIENTS; i++)
        if (mproc_process_is_alive(&clients[i].process)) return false;
    return s->replaced >= trial->kills; /* a killed one may take a moment to die */
}

static bool try_out(struct server *s) {
    bool held = true;
    trial->port = port_of(s->listener);
    trial->counters = s->counters;
    for (int i = 0; i < CLIENTS; i++) { /* their first visits wait in the socket until there are workers */
        clients[i].process.run = make_visits;
        clients[i].process.daemon = true; /* ended with the server, should that one end early */
        clients[i].trial = trial;
        clients[i].kills = i == 0;
        if (mproc_process_start(&clients[i].process) != 0) return false;
    }
    held = run_server(s, clients_finished);
    held = stop_server(s) && held;
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i].process.exitcode != 0) held = false;

    /* The trapped worker had counted its visitor, who got no answer. The other one had one visitor at most,
       who may have been counted, or answered, or not. */
    long unanswered = s->counters->total - trial->answered;
    printf("%d answers, %d visits without one (%ld of these counted), no number given twice: %s\n",
           trial->answered, trial->failed, unanswered, trial->twice ? "NO" : "yes");
    return held && s->replaced == 2 && trial->answered == CLIENTS * VISITS && !trial->twice &&
           unanswered >= 1 && unanswered <= trial->failed && trial->failed <= 2;
}

/* The port that was asked for, 0 without one, -1 if it makes no sense. */
static int port_argument(int argc, char **argv) {
    char *end;
    if (argc < 2) return 0;
    long port = strtol(argv[1], &end, 10);
    return argc == 2 && *end == '\0' && port >= 1 && port <= 65535 ? (int)port : -1;
}

int main(int argc, char **argv) {
    struct server s = {.listener = -1};
    int port = port_argument(argc, argv);
    bool held;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (port < 0) return fprintf(stderr, "usage: %s [port]\n", argv[0]), 2;
    if (!start_server(&s, port)) return perror("start"), 1;
    printf("serving on http://127.0.0.1:%d/ with %d workers\n", port_of(s.listener), WORKERS);
    if (port > 0) {
        held = run_server(&s, NULL);
        held = stop_server(&s) && held;
    } else {
        trial = (struct trial *)mproc_shm_new(sizeof *trial);
        if (!trial) return perror("mproc_shm_new"), 1;
        held = try_out(&s);
        mproc_free(trial);
    }
    mproc_free(s.counters);
    return held ? 0 : 1;
}
