/* What the tests of the pool share: a board in shared memory that tasks and tests write on, tasks, a view of
   the processes below the test, and programs run as families of their own.

   The board is plain mmap(2), not the library's shared memory: a program that a test forks before the test
   itself has used the library is the main program of its own family, and still shares the board. */
#ifndef SUPPORT_POOL_H
#define SUPPORT_POOL_H

#include "support.h"
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define GET(x)        __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, value) __atomic_store_n(&(x), (value), __ATOMIC_SEQ_CST)
#define ADD(x, n)     __atomic_add_fetch(&(x), (n), __ATOMIC_SEQ_CST)
#define NEED(x)       ck_assert_msg((x) != NULL, #x ": %s", strerror(errno))
#define MIB           ((size_t)1 << 20)

enum { RAN = 20000 };
struct board {
    int started, ended;           /* of the tasks that wait at the gate */
    int open;                     /* the gate: they go on */
    int inits;                    /* calls of an initializer */
    int failing;                  /* how many calls of the initializer are yet to fail */
    int counter;                  /* whatever a test counts */
    pid_t child;                  /* a process that a task left behind */
    mproc_future *future;         /* that one process hands to another */
    mproc_pool *pool;             /* likewise */
    int code;                     /* what a program wants to tell */
    size_t arg_size, result_size; /* for the task that checks them */
    unsigned char ran[RAN];       /* how often a task with this number ran */
};
static struct board *board;

static inline void new_board(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none); /* the crashes here are wanted */
    void *memory = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(memory != MAP_FAILED);
    board = memory;
}

/* Waits at the gate; polled, so that a waiter can be killed or stopped at any time and nothing is lost. */
static inline void pass_gate(void) {
    ADD(board->started, 1);
    while (!GET(board->open)) nap(0.001);
    ADD(board->ended, 1);
}

static inline size_t random_below(uint64_t *state, size_t n) { return (size_t)draw(state) % n; }

/* ---- Tasks ---- */

static inline int square(const void *arg, void *result) {
    int n = *(const int *)arg;
    *(int *)result = n * n;
    return 0;
}
static inline int nothing(const void *arg, void *result) {
    (void)arg, (void)result;
    return 0;
}
static inline int count(const void *arg, void *result) {
    (void)arg, (void)result;
    ADD(board->counter, 1);
    return 0;
}
static inline int mark(const void *arg, void *result) { /* notes that the task of this number ran */
    (void)result;
    ADD(board->ran[*(const int *)arg], 1);
    return 0;
}
static inline int gate(const void *arg, void *result) {
    (void)arg, (void)result;
    pass_gate();
    return 0;
}
static inline int gate_square(const void *arg, void *result) {
    pass_gate();
    return square(arg, result);
}
static inline int own_pid(const void *arg, void *result) {
    (void)arg;
    *(pid_t *)result = getpid();
    return 0;
}
static inline int fail_with(const void *arg, void *result) {
    (void)result;
    return *(const int *)arg;
}
static inline int sleep_for(const void *arg, void *result) {
    (void)result;
    nap(*(const double *)arg);
    return 0;
}

/* The ways in which a task may take its worker down. */
enum death { SEGFAULT, ABORT, LOW_EXIT, LIBC_EXIT, OWN_EXIT, EXEC_TRUE, EXEC_7, KILLED, TERMINATED, DEATHS };
static const int death_codes[DEATHS] = {-SIGSEGV, -SIGABRT, 3, 3, 4, 0, 7, -SIGKILL, -SIGTERM};

static inline int die(const void *arg, void *result) {
    (void)result;
    signal(SIGSEGV, SIG_DFL); /* a sanitizer would turn these two into an exit */
    signal(SIGABRT, SIG_DFL);
    switch (*(const int *)arg) {
    case SEGFAULT: {
        void *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *(volatile char *)page = 1;
        break;
    }
    case ABORT: abort();
    case LOW_EXIT: _exit(3);
    case LIBC_EXIT: exit(3);
    case OWN_EXIT: mproc_exit(4);
    case EXEC_TRUE: execl("/bin/sh", "sh", "-c", ":", (char *)NULL); break;
    case EXEC_7: execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL); break;
    case KILLED: raise(SIGKILL); break;
    case TERMINATED: raise(SIGTERM); break;
    }
    return 0;
}

/* ---- Pools ---- */

static inline mproc_pool *pool_of(int workers) {
    mproc_pool *pool = mproc_pool_new(workers);
    NEED(pool);
    return pool;
}
static inline mproc_pool *pool_with(mproc_pool_options options) {
    mproc_pool *pool = mproc_pool_new_with(&options);
    NEED(pool);
    return pool;
}
/* Frees the pool; the library itself has to have collected every child of its own. */
static inline void free_pool(mproc_pool *pool) {
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    ck_assert(no_children());
}
/* Another process has freed a pool of ours: waits for the supervisor's end, and leaves it to the library. */
static inline void await_supervisors_end(void) {
    siginfo_t info;
    ck_assert_int_eq(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
}
static inline mproc_pool_counts counts_of(mproc_pool *pool) {
    mproc_pool_counts counts;
    ck_assert_int_eq(mproc_pool_stats(pool, &counts), 0);
    return counts;
}
static inline bool is_idle(mproc_pool *pool) {
    mproc_pool_counts counts = counts_of(pool);
    return counts.pending + counts.running == 0;
}
static inline mproc_future *begin(mproc_pool *pool, mproc_task task, int arg, size_t result_size) {
    mproc_future *future = mproc_pool_apply_async(pool, task, &arg, sizeof arg, result_size);
    NEED(future);
    return future;
}
static inline int finish(mproc_future *future, void *result) { /* gets and frees */
    int error = mproc_future_get(future, result, MPROC_FOREVER);
    ck_assert_int_eq(mproc_future_free(future), 0);
    return error;
}
/* The pool serves: used after everything that might have harmed it. */
static inline void expect_works(mproc_pool *pool) {
    int in[8] = {0, 1, 2, 3, 4, 5, 6, 7}, out[8] = {0}, one = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, square, &in[7], sizeof in[7], &one, sizeof one), 0);
    ck_assert_int_eq(one, 49);
    ck_assert_int_eq(mproc_pool_map(pool, square, in, 8, sizeof in[0], out, sizeof out[0]), 0);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(out[i], i * i);
}

/* ---- Processes below the test ---- */

struct proc {
    pid_t pid, parent;
    bool dead; /* a zombie */
};

static inline int read_processes(struct proc *table, int capacity) {
    int n = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; dir != NULL && n < capacity && (e = readdir(dir)) != NULL;) {
        pid_t pid = (pid_t)atoi(e->d_name);
        char path[64], text[512], state = 0;
        int parent = 0;
        if (pid <= 0) continue;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        ssize_t got = read(fd, text, sizeof text - 1);
        close(fd);
        text[got > 0 ? got : 0] = 0;
        char *end = strrchr(text, ')');
        if (end == NULL || sscanf(end + 1, " %c %d", &state, &parent) != 2) continue;
        table[n].pid = pid, table[n].parent = (pid_t)parent, table[n].dead = state == 'Z' || state == 'X';
        n++;
    }
    if (dir != NULL) closedir(dir);
    return n;
}

enum { MANY = 8192 };
static struct proc processes[MANY];

/* The living children of a process. */
static inline int children_of(pid_t parent, pid_t *pids, int capacity) {
    int found = 0, n = read_processes(processes, MANY);
    for (int i = 0; i < n && found < capacity; i++)
        if (processes[i].parent == parent && !processes[i].dead) pids[found++] = processes[i].pid;
    return found;
}
/* The supervisor of the one pool that this process has made. */
static inline pid_t supervisor_below(pid_t parent) {
    pid_t child[8];
    ck_assert_int_eq(children_of(parent, child, 8), 1);
    return child[0];
}
static inline pid_t supervisor(void) { return supervisor_below(getpid()); }
static inline int workers_of(pid_t *pids, int capacity) { return children_of(supervisor(), pids, capacity); }
static inline bool has_workers(int wanted) {
    pid_t pids[512];
    return workers_of(pids, 512) == wanted;
}

/* Processes that become orphans below the test become its children, wherever they stand: none gets out of
   sight. For the tests that kill; elsewhere the library shall be seen to collect its own. */
static inline void adopt_orphans(void) { prctl(PR_SET_CHILD_SUBREAPER, 1); }

static inline int count_descendants(void) {
    static bool mine[MANY];
    int n = read_processes(processes, MANY), living = 0;
    memset(mine, 0, sizeof mine);
    for (bool grew = true; grew;) {
        grew = false;
        for (int i = 0; i < n; i++) {
            bool below = processes[i].parent == getpid();
            for (int k = 0; k < n && !below; k++) below = mine[k] && processes[k].pid == processes[i].parent;
            if (below && !mine[i]) mine[i] = grew = true;
        }
    }
    for (int i = 0; i < n; i++) living += mine[i] && !processes[i].dead;
    return living;
}

/* No living process below this one within so many seconds. A look at /proc is no snapshot: two in a row. */
static inline void expect_nothing_left(double within) {
    double start = now();
    for (int calm = 0; calm < 2;) {
        int living = count_descendants();
        calm = living == 0 ? calm + 1 : 0;
        ck_assert_msg(living == 0 || now() - start < within + 2 * SLOW, "%d processes left after %.2f s",
                      living, now() - start);
        nap(0.002);
    }
}

/* ---- Programs ---- */

static inline int program_main_(void *arg) {
    void (*const *body)(void) = arg;
    setpgid(0, 0);
    (*body)();
    return 0;
}
/* A program in a process group of its own; the test must not have used the library. */
static inline void launch(program *p, void (*body)(void)) {
    program_start(p, program_main_, &body);
    setpgid(p->pid, p->pid);
}

/* ---- Calls in a thread ---- */

struct call {
    pthread_t thread;
    int (*function)(struct call *call);
    mproc_pool *pool;
    mproc_future *future;
    int arg;
    double returned; /* when */
    int error;       /* what */
    pid_t tid;
    int done;
};
static inline void *call_main(void *arg) {
    struct call *call = arg;
    SET(call->tid, (pid_t)syscall(SYS_gettid));
    call->error = call->function(call);
    call->returned = now();
    SET(call->done, 1);
    return NULL;
}
static inline void call_begin(struct call *call) {
    SET(call->tid, 0);
    SET(call->done, 0);
    ck_assert_int_eq(pthread_create(&call->thread, NULL, call_main, call), 0);
}
static inline int call_end(struct call *call) {
    EVENTUALLY(GET(call->done));
    pthread_join(call->thread, NULL);
    return call->error;
}

/* True once the thread stays asleep: it is inside the blocking call it was sent into. */
static inline bool call_blocks(struct call *call) {
    if (GET(call->tid) == 0) return false;
    for (int look = 0; look < 5; look++, nap(0.001))
        if (process_state(GET(call->tid)) != 'S') return false;
    return true;
}

#endif
