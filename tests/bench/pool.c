/* pool PYTHON_PEER OPENMP_PEER [REPEATS] - what a pool costs, beside its peers

   Everything that is compared is measured in the same run, in turns, REPEATS times (at least 5); the table
   has the median, the smallest and the largest, and how many times as fast as the peer mproc is. Each task
   gives back its argument, and the sum of what came back must be right. Nothing is timed but the tasks:
   pools, processes and threads are there before (parallel_for alone makes its processes within the time). */
#define MPROC_IMPLEMENTATION
#include "../../mproc.h"
#include "work.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SINGLE_ITEMS 4000000000u /* as max_tasks_per_worker: then map hands over items one by one */
#define MAX_REPEATS  99
#define CHUNK_TIME   0.005 /* seconds */

enum place { ANYWHERE, ONE_CPU, TWO_CPUS };

/* One contender of a row. */
struct entry {
    const char *name;
    double (*run)(const struct entry *); /* seconds for count tasks; negative: there is no such peer here */
    size_t count;
    int workers;
    const char *command; /* to a peer that is a program */
    enum place place;
    unsigned variant;
};

struct row {
    const char *title;
    const char *unit;
    double scale; /* from seconds per task to the unit; 0: the unit is tasks per second */
    struct entry entry[6];
};

/* ---- Tools --------------------------------------------------------------------------------------------- */

static void die(const char *what, int error) {
    fprintf(stderr, "pool: %s: %s\n", what, mproc_strerror(error));
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static cpu_set_t all_cpus;
static unsigned first_cpu, second_cpu;

static void find_cpus(void) {
    if (sched_getaffinity(0, sizeof all_cpus, &all_cpus) != 0) die("sched_getaffinity", -errno);
    while (!CPU_ISSET(first_cpu, &all_cpus)) first_cpu++;
    second_cpu = first_cpu;
    for (unsigned i = first_cpu + 1; i < CPU_SETSIZE && second_cpu == first_cpu; i++)
        if (CPU_ISSET(i, &all_cpus)) second_cpu = i;
}

/* Puts the calling process on its CPU: the one that asks is side 0, the one that answers side 1. */
static void take_place(enum place place, int side) {
    cpu_set_t set = all_cpus;
    if (place != ANYWHERE) {
        CPU_ZERO(&set);
        CPU_SET(place == TWO_CPUS && side == 1 ? second_cpu : first_cpu, &set);
    }
    sched_setaffinity(0, sizeof set, &set);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- Peers that are programs --------------------------------------------------------------------------- */

struct peer {
    FILE *to, *from; /* NULL: not there */
    char version[64];
};

static struct peer python, openmp;

static double ask(struct peer *peer, const char *command, int workers, size_t count) {
    char line[80];
    if (!peer->to) return -1;
    fprintf(peer->to, "%s %d %zu\n", command, workers, count);
    fflush(peer->to);
    if (!fgets(line, sizeof line, peer->from)) die(command, -EPIPE);
    double seconds = strtod(line, NULL);
    if (seconds <= 0) die(command, -EBADMSG);
    return seconds;
}

/* Starts a program that answers lines; one that cannot be started or does not answer is not there. */
static void start_peer(struct peer *peer, char *const argv[]) {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) die("pipe", -errno);
    pid_t pid = mproc_fork();
    if (pid < 0) die("fork", (int)pid);
    if (pid == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer->to = fdopen(to[1], "w");
    peer->from = fdopen(from[0], "r");
    if (peer->to && peer->from) {
        fputs("version 1 1\n", peer->to);
        fflush(peer->to);
        if (fgets(peer->version, sizeof peer->version, peer->from)) return;
    }
    peer->to = peer->from = NULL;
    strcpy(peer->version, "not installed\n");
}

static double run_python(const struct entry *e) { return ask(&python, e->command, e->workers, e->count); }
static double run_openmp(const struct entry *e) { return ask(&openmp, e->command, e->workers, e->count); }

/* ---- Empty tasks through map --------------------------------------------------------------------------- */

static int give_back(const void *arg, void *result) {
    *(uint64_t *)result = *(const uint64_t *)arg;
    return 0;
}

static bool sum_is_right(const uint64_t *out, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += out[i];
    return sum == (uint64_t)n * (n - 1) / 2;
}

static double run_map(const struct entry *e) {
    mproc_pool_options options = {.workers = e->workers, .max_tasks_per_worker = e->variant};
    mproc_pool *pool = mproc_pool_new_with(&options);
    uint64_t *in = (uint64_t *)malloc(e->count * sizeof *in),
             *out = (uint64_t *)calloc(e->count, sizeof *out);
    if (!pool || !in || !out) die("pool", -errno);
    for (size_t i = 0; i < e->count; i++) in[i] = i;
    memset(out, 1, e->count * sizeof *out); /* its pages are there before the clock runs */
    double began = now();
    int error = mproc_pool_map(pool, give_back, in, e->count, sizeof *in, out, sizeof *out);
    double seconds = now() - began;
    if (error || !sum_is_right(out, e->count)) die("map", error ? error : -EBADMSG);
    mproc_pool_free(pool);
    free(in);
    free(out);
    return seconds;
}

/* ---- A hand-written pool over pipes -------------------------------------------------------------------- */

/* Tasks go to the workers through one pipe, results come back through another; all writes and reads are
   multiples of a struct and within PIPE_BUF, so none is torn. Nobody notices a worker that dies. */
struct message {
    int (*task)(const void *, void *);
    uint64_t value;
};
#define MESSAGES (PIPE_BUF / sizeof(struct message))
#define WINDOW   1024 /* tasks given and not yet answered: their results fit into the pipe */

static void pipe_worker(int from, int to, size_t batch) {
    struct message m[MESSAGES];
    ssize_t size;
    while ((size = read(from, m, batch * sizeof m[0])) > 0) {
        for (size_t i = 0; i < (size_t)size / sizeof m[0]; i++) {
            uint64_t result;
            if (m[i].task(&m[i].value, &result) != 0) _exit(1);
            m[i].value = result;
        }
        if (write(to, m, (size_t)size) != size) _exit(1);
    }
    _exit(0);
}

static uint64_t pipe_map(int to, int from, size_t count, size_t batch) {
    struct message m[MESSAGES];
    uint64_t sum = 0;
    for (size_t given = 0, taken = 0; taken < count;) {
        while (given < count && given - taken + batch <= WINDOW) {
            size_t n = count - given < batch ? count - given : batch;
            for (size_t i = 0; i < n; i++) m[i].task = give_back, m[i].value = given + i;
            if (write(to, m, n * sizeof m[0]) < 0) die("write", -errno);
            given += n;
        }
        ssize_t size = read(from, m, sizeof m);
        if (size <= 0) die("read", size < 0 ? -errno : -EPIPE);
        for (size_t i = 0; i < (size_t)size / sizeof m[0]; i++) sum += m[i].value;
        taken += (size_t)size / sizeof m[0];
    }
    return sum;
}

/* variant: tasks in one write. */
static double run_pipe_pool(const struct entry *e) {
    int tasks[2], results[2];
    pid_t pids[8];
    if (e->workers > 8) die("pool over pipes", -EINVAL);
    if (pipe2(tasks, O_CLOEXEC) != 0 || pipe2(results, O_CLOEXEC) != 0) die("pipe", -errno);
    for (int i = 0; i < e->workers; i++) {
        pids[i] = fork();
        if (pids[i] < 0) die("fork", -errno);
        if (pids[i] == 0) {
            close(tasks[1]);
            pipe_worker(tasks[0], results[1], e->variant);
        }
    }
    double began = now();
    uint64_t sum = pipe_map(tasks[1], results[0], e->count, e->variant);
    double seconds = now() - began;
    if (sum != (uint64_t)e->count * (e->count - 1) / 2) die("pool over pipes", -EBADMSG);
    close(tasks[0]);
    close(tasks[1]);
    close(results[0]);
    close(results[1]);
    for (int i = 0; i < e->workers; i++)
        if (waitpid(pids[i], NULL, 0) < 0) die("wait", -errno);
    return seconds;
}

/* ---- Round trip ---------------------------------------------------------------------------------------- */

static int pin_worker(void *arg) {
    take_place(*(const enum place *)arg, 1);
    return 0;
}

static double run_apply(const struct entry *e) {
    enum place place = e->place;
    mproc_pool_options options = {.workers = e->workers, .initializer = pin_worker, .initarg = &place};
    mproc_pool *pool = mproc_pool_new_with(&options);
    if (!pool) die("pool", -errno);
    uint64_t sum = 0, out = 0;
    take_place(place, 0);
    if (mproc_pool_apply(pool, give_back, &sum, sizeof sum, &out, sizeof out) != 0) die("apply", -EBADMSG);
    double began = now();
    for (uint64_t i = 0; i < e->count; i++) {
        int error = mproc_pool_apply(pool, give_back, &i, sizeof i, &out, sizeof out);
        if (error) die("apply", error);
        sum += out;
    }
    double seconds = now() - began;
    take_place(ANYWHERE, 0);
    if (sum != (uint64_t)e->count * (e->count - 1) / 2) die("apply", -EBADMSG);
    mproc_pool_free(pool);
    return seconds;
}

struct ball {
    uint32_t ping;
    char apart[124]; /* two cache lines on */
    uint32_t pong;
};

static void send_ball(uint32_t *word, uint32_t value) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await_ball(uint32_t *word, uint32_t value) {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value)
        syscall(SYS_futex, word, FUTEX_WAIT, value - 1, NULL, NULL, 0);
}

static double run_futex(const struct entry *e) {
    struct ball *ball = (struct ball *)mproc_shm_new(sizeof *ball);
    if (!ball) die("shared memory", -errno);
    pid_t pid = fork();
    if (pid < 0) die("fork", -errno);
    if (pid == 0) {
        take_place(e->place, 1);
        for (uint32_t i = 1; i <= e->count + 1; i++) {
            await_ball(&ball->ping, i);
            send_ball(&ball->pong, i);
        }
        _exit(0);
    }
    take_place(e->place, 0);
    double began = 0;
    for (uint32_t i = 1; i <= e->count + 1; i++) {
        send_ball(&ball->ping, i);
        await_ball(&ball->pong, i);
        if (i == 1) began = now(); /* the other side is there */
    }
    double seconds = now() - began;
    take_place(ANYWHERE, 0);
    waitpid(pid, NULL, 0);
    mproc_free(ball);
    return seconds;
}

static double run_pipe(const struct entry *e) {
    int to[2], from[2];
    uint64_t value, sum = 0;
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) die("pipe", -errno);
    pid_t pid = fork();
    if (pid < 0) die("fork", -errno);
    if (pid == 0) {
        take_place(e->place, 1);
        close(to[1]);
        while (read(to[0], &value, sizeof value) == (ssize_t)sizeof value)
            if (write(from[1], &value, sizeof value) < 0) _exit(1);
        _exit(0);
    }
    take_place(e->place, 0);
    double began = 0;
    for (uint64_t i = 0; i <= e->count; i++) {
        if (write(to[1], &i, sizeof i) < 0 || read(from[0], &value, sizeof value) < 0) die("pipe", -errno);
        sum += value;
        if (i == 0) began = now();
    }
    double seconds = now() - began;
    take_place(ANYWHERE, 0);
    close(to[0]);
    close(to[1]);
    close(from[0]);
    close(from[1]);
    waitpid(pid, NULL, 0);
    if (sum != (uint64_t)e->count * (e->count + 1) / 2) die("pipe", -EBADMSG);
    return seconds;
}

/* ---- Submit -------------------------------------------------------------------------------------------- */

static int nothing(const void *arg, void *result) {
    (void)arg, (void)result;
    return 0;
}

/* Until the last one is done, not only accepted. */
static double run_submit(const struct entry *e) {
    mproc_pool *pool = mproc_pool_new(e->workers);
    mproc_pool_counts counts;
    if (!pool) die("pool", -errno);
    double began = now();
    for (size_t i = 0; i < e->count; i++) {
        int error = mproc_pool_submit(pool, nothing, &i, sizeof i, MPROC_FOREVER);
        if (error) die("submit", error);
    }
    do {
        if (mproc_pool_apply(pool, nothing, NULL, 0, NULL, 0) != 0) die("submit", -EBADMSG);
        mproc_pool_stats(pool, &counts);
    } while (counts.done < e->count);
    double seconds = now() - began;
    mproc_pool_free(pool);
    return seconds;
}

/* ---- CPU-bound chunks ---------------------------------------------------------------------------------- */

static unsigned long rounds; /* of a chunk */
static uint64_t work_sum;    /* of all chunks: the right one */

static void calibrate(void) {
    unsigned long trial = 1000000;
    double best = 1;
    for (int i = 0; i < 9; i++) {
        double began = now();
        if (bench_work((uint64_t)i, trial) == 0) die("work", -EBADMSG);
        if (now() - began < best) best = now() - began;
    }
    rounds = (unsigned long)((double)trial * CHUNK_TIME / best);
    for (uint64_t i = 0; i < BENCH_CHUNKS; i++) work_sum += bench_work(i, rounds);
}

static void check_work(const uint64_t *out, int error) {
    uint64_t sum = 0;
    for (int i = 0; i < BENCH_CHUNKS; i++) sum += out[i];
    if (error || sum != work_sum) die("chunks", error ? error : -EBADMSG);
}

static void work_body(size_t i, void *ctx) { ((uint64_t *)ctx)[i] = bench_work(i, rounds); }

static int work_task(const void *arg, void *result) {
    *(uint64_t *)result = bench_work(*(const uint64_t *)arg, rounds);
    return 0;
}

static double run_work_alone(const struct entry *e) {
    (void)e;
    uint64_t out[BENCH_CHUNKS];
    double began = now();
    for (size_t i = 0; i < BENCH_CHUNKS; i++) work_body(i, out);
    double seconds = now() - began;
    check_work(out, 0);
    return seconds;
}

static double run_work_for(const struct entry *e) {
    uint64_t *out = mproc_array_new(uint64_t, BENCH_CHUNKS);
    if (!out) die("array", -errno);
    double began = now();
    int error = mproc_parallel_for(BENCH_CHUNKS, e->workers, work_body, out);
    double seconds = now() - began;
    check_work(out, error);
    mproc_free(out);
    return seconds;
}

static double run_work_map(const struct entry *e) {
    uint64_t in[BENCH_CHUNKS], out[BENCH_CHUNKS];
    mproc_pool *pool = mproc_pool_new(e->workers);
    if (!pool) die("pool", -errno);
    for (uint64_t i = 0; i < BENCH_CHUNKS; i++) in[i] = i;
    double began = now();
    int error = mproc_pool_map(pool, work_task, in, BENCH_CHUNKS, sizeof in[0], out, sizeof out[0]);
    double seconds = now() - began;
    check_work(out, error);
    mproc_pool_free(pool);
    return seconds;
}

static double run_work_openmp(const struct entry *e) { return ask(&openmp, "work", e->workers, rounds); }

/* ---- The table ----------------------------------------------------------------------------------------- */

#define APPLY(place_)                                           \
    {"mproc apply", run_apply, 20000, 1, NULL, place_, 0},      \
        {"bare futex", run_futex, 20000, 1, NULL, place_, 0}, { \
        "bare pipe", run_pipe, 20000, 1, NULL, place_, 0        \
    }

static const struct row rows[] = {
    {"empty tasks by map, single items, 2 workers",
     "tasks/s",
     0,
     {{"mproc map, items one by one", run_map, 400000, 2, NULL, ANYWHERE, SINGLE_ITEMS},
      {"pool over pipes, 1 task a write", run_pipe_pool, 400000, 2, NULL, ANYWHERE, 1},
      {"pool over pipes, 64 tasks a write", run_pipe_pool, 400000, 2, NULL, ANYWHERE, 64},
      {"CPython Pool.map(chunksize=1)", run_python, 20000, 2, "map1", ANYWHERE, 0},
      {"CPython ProcessPoolExecutor.map", run_python, 5000, 2, "executor", ANYWHERE, 0},
      {"OpenMP dynamic,1 (threads)", run_openmp, 2000000, 2, "empty", ANYWHERE, 0}}},
    {"empty tasks by map, default chunks, 2 workers",
     "tasks/s",
     0,
     {{"mproc map", run_map, 4000000, 2, NULL, ANYWHERE, 0},
      {"pool over pipes, 256 tasks a write", run_pipe_pool, 2000000, 2, NULL, ANYWHERE, 256},
      {"CPython Pool.map", run_python, 200000, 2, "map", ANYWHERE, 0}}},
    {"round trip, free to move",
     "us",
     1e6,
     {APPLY(ANYWHERE), {"CPython Pool.apply", run_python, 2000, 1, "apply", ANYWHERE, 0}}},
    {"round trip, both on one CPU", "us", 1e6, {APPLY(ONE_CPU)}},
    {"round trip, on two CPUs", "us", 1e6, {APPLY(TWO_CPUS)}},
    {"submit empty tasks, until all are done, 2 workers",
     "tasks/s",
     0,
     {{"mproc submit", run_submit, 1000000, 2, NULL, ANYWHERE, 0},
      {"CPython Pool.apply_async", run_python, 20000, 2, "submit", ANYWHERE, 0}}},
    {"64 CPU-bound chunks, 1 worker",
     "ms",
     1e3,
     {{"mproc parallel_for", run_work_for, 1, 1, NULL, ANYWHERE, 0},
      {"mproc map", run_work_map, 1, 1, NULL, ANYWHERE, 0},
      {"OpenMP dynamic,1", run_work_openmp, 1, 1, NULL, ANYWHERE, 0},
      {"one process alone", run_work_alone, 1, 1, NULL, ANYWHERE, 0}}},
    {"64 CPU-bound chunks, 2 workers",
     "ms",
     1e3,
     {{"mproc parallel_for", run_work_for, 1, 2, NULL, ANYWHERE, 0},
      {"mproc map", run_work_map, 1, 2, NULL, ANYWHERE, 0},
      {"OpenMP dynamic,1", run_work_openmp, 1, 2, NULL, ANYWHERE, 0}}},
};

static void print_machine(void) {
    struct utsname u;
    char line[200], model[120] = "unknown CPU";
    double load[3] = {0, 0, 0};
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':'))
            snprintf(model, sizeof model, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"),
                     strchr(line, ':') + 2);
    if (f) fclose(f);
    uname(&u);
    if (getloadavg(load, 3) < 1) load[0] = -1;
    printf("machine:  %s, %d CPUs, load %.1f\n", model, mproc_cpu_count(), load[0]);
    printf("kernel:   %s %s %s\n", u.sysname, u.release, u.machine);
#ifdef __clang__
    printf("compiler: %s\n", __VERSION__);
#else
    printf("compiler: gcc %s\n", __VERSION__);
#endif
    printf("peers:    %s          %s", python.version, openmp.version);
}

static void print_number(double value) {
    if (value >= 1e6) printf(" %9.2f M", value * 1e-6);
    else if (value >= 1e4) printf(" %9.1f k", value * 1e-3);
    else printf(" %9.2f  ", value);
}

static void measure(const struct row *row, int repeats) {
    static double value[6][MAX_REPEATS];
    int entries = 0;
    while (entries < 6 && row->entry[entries].name) entries++;
    for (int k = 0; k < repeats; k++)
        for (int i = 0; i < entries; i++) {
            const struct entry *e = &row->entry[i];
            double seconds = e->run(e);
            value[i][k] = seconds < 0      ? -1
                          : row->scale > 0 ? row->scale * seconds / (double)e->count
                                           : (double)e->count / seconds;
        }
    printf("\n%s (%s)\n", row->title, row->unit);
    for (int i = 0; i < entries; i++) qsort(value[i], (size_t)repeats, sizeof(double), by_size);
    for (int i = 0; i < entries; i++) {
        double median = value[i][repeats / 2], ours = value[0][repeats / 2];
        printf("  %-36s", row->entry[i].name);
        if (median < 0) {
            puts("   not installed");
            continue;
        }
        print_number(median);
        print_number(value[i][0]);
        printf(" ..");
        print_number(value[i][repeats - 1]);
        if (i > 0) printf(" %8.2f x", row->scale > 0 ? median / ours : ours / median);
        puts("");
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    int repeats = argc > 3 ? atoi(argv[3]) : 5;
    if (argc < 3 || repeats < 1 || repeats > MAX_REPEATS)
        return fputs("usage: pool PYTHON_PEER OPENMP_PEER [REPEATS]\n", stderr), 2;
    signal(SIGPIPE, SIG_IGN); /* a peer that is not there shows in what it does not answer */
    setvbuf(stdout, NULL, _IOLBF, 0);
    find_cpus();
    char python3[] = "python3";
    start_peer(&python, (char *const[]){python3, argv[1], NULL});
    start_peer(&openmp, (char *const[]){argv[2], NULL});
    calibrate();
    print_machine();
    printf(
        "chunk:    %.1f ms\nmedian of %d, smallest .. largest; x: how many times as fast as this mproc is\n",
        CHUNK_TIME * 1e3, repeats);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].entry[0].place == TWO_CPUS && first_cpu == second_cpu)
            printf("\n%s: one only\n", rows[i].title);
        else measure(&rows[i], repeats);
    return 0;
}
