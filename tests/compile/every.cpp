/* Calls every public function and macro of mproc.h from C++; run.sh compares the names with the header's.
   Compiled with the implementation in it, and without, to be linked with one that was compiled as C. */
#ifndef LINKED
#define MPROC_IMPLEMENTATION
#endif
#include "../../mproc.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

#if MPROC_VERSION_MAJOR < 0 || MPROC_VERSION_MINOR < 0 || MPROC_VERSION_PATCH < 0
#error "no version"
#endif
static_assert(MPROC_ARENA_SIZE > 0, "the size is a constant");
static_assert(MPROC_EXIT_GRACE >= 0, "the grace is a constant");
static_assert(MPROC_SPINS >= 0, "so are the looks before a sleep");

static const double soon = 20; /* seconds in which what has to happen does, on a loaded machine too */

#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                \
        }                                                                                \
    } while (0)

static void errors() {
    const int all[] = {MPROC_ETIMEDOUT, MPROC_ECLOSED,   MPROC_EOWNERDEAD, MPROC_EBROKEN, MPROC_ECRASHED,
                       MPROC_EFAILED,   MPROC_ECANCELED, MPROC_EMSGSIZE,   MPROC_EBUSY,   MPROC_EINVAL,
                       MPROC_EPERM,     MPROC_ENOMEM,    MPROC_EAGAIN,     MPROC_ECHILD};
    for (int error : all) EXPECT(error < 0 && std::strcmp(mproc_strerror(error), "unknown error") != 0);
}

/* Processes */

static int seven(void *arg) { return *static_cast<int *>(arg) + 6; }
static int sleeps(void *) {
    for (;;) pause();
}
struct counter {
    mproc_process process; /* first: run gets its address */
    int number;
};
static int runs(mproc_process *self) { return reinterpret_cast<counter *>(self)->number; }

static void processes() {
    int one = 1;
    pid_t pids[4];
    mproc_process p = mproc_process(), q = mproc_process();
    p.target = seven;
    p.arg = &one;
    EXPECT(mproc_process_start(&p) == 0 && p.exitcode == MPROC_NO_EXITCODE);
    EXPECT(mproc_process_fd(&p) >= 0);
    mproc_process *both[] = {&p};
    EXPECT(mproc_process_wait_any(both, 1, soon) == 0);
    EXPECT(mproc_process_join(&p, MPROC_FOREVER) == 0 && p.exitcode == 7);
    EXPECT(mproc_process_close(&p) == 0);

    q.target = sleeps;
    q.daemon = true;
    EXPECT(mproc_process_start(&q) == 0 && mproc_process_is_alive(&q));
    EXPECT(mproc_active_children(pids, 4) == 1 && pids[0] == q.pid);
    EXPECT(mproc_process_terminate(&q) == 0 && mproc_process_join(&q, soon) == 0);
    EXPECT(mproc_process_kill(&q) == -ESRCH && mproc_process_close(&q) == 0);

    counter c = counter();
    c.process.run = runs;
    c.number = 9;
    EXPECT(mproc_process_start(&c.process) == 0 && mproc_process_join(&c.process, soon) == 0);
    EXPECT(c.process.exitcode == 9 && mproc_process_close(&c.process) == 0);
    EXPECT(std::strcmp(mproc_current_process()->name, "MainProcess") == 0);
    EXPECT(mproc_parent_pid() == 0 && !mproc_parent_is_alive() && mproc_cpu_count() >= 1);
}

static void note(void *ctx) { ++*static_cast<int *>(ctx); }

static void forks() {
    int code = 0, *told = mproc_value_new(int, 0);
    pid_t pid = mproc_fork();
    if (pid == 0) {
        EXPECT(mproc_at_exit(note, told, 0) == 0 && mproc_at_exit(note, &code, 1) == 0);
        EXPECT(mproc_at_exit_cancel(note, &code) == 0);
        mproc_exit(3);
    }
    EXPECT(mproc_wait(pid, &code, soon) == 0 && code == 3 && *told == 1);
    mproc_event *done = mproc_event_new();
    pid = mproc_fork_detached();
    if (pid == 0) {
        mproc_event_set(done);
        mproc_exit(0);
    }
    EXPECT(pid > 0 && mproc_event_wait(done, soon) == 0 && mproc_reap() == 0);
    mproc_event_free(done);
    mproc_free(told);
}

/* Synchronisation */

#define WITH_BOTH(a, b) \
    MPROC_WITH (a)      \
        MPROC_WITH (b) /* on one line */

static void locks() {
    mproc_lock *lock = mproc_lock_new();
    EXPECT(mproc_lock_acquire(lock, 0) == 0 && !mproc_lock_owner_died(lock) && mproc_lock_release(lock) == 0);
    int rounds = 0;
    for (int i = 0; i < 3; i++) {
        MPROC_WITH (lock) {
            rounds++;
            if (i == 1) break;
            MPROC_WITH (lock) rounds += 100; /* held already: EDEADLK skips the block */
        }
    }
    mproc_lock *other = mproc_lock_new();
    WITH_BOTH(lock, other) rounds++;
    EXPECT(rounds == 4 && mproc_lock_free(other) == 0 && mproc_lock_free(lock) == 0);
    mproc_rlock *rlock = mproc_rlock_new();
    EXPECT(mproc_rlock_acquire(rlock, soon) == 0 && mproc_rlock_acquire(rlock, soon) == 0);
    EXPECT(mproc_rlock_release(rlock) == 0 && mproc_rlock_release(rlock) == 0 &&
           mproc_rlock_free(rlock) == 0);
}

static bool is_set(void *ctx) { return *static_cast<bool *>(ctx); }

static void signals() {
    mproc_semaphore *s = mproc_semaphore_new(1), *bounded = mproc_semaphore_new_bounded(1);
    EXPECT(mproc_semaphore_acquire(s, 0) == 0 && mproc_semaphore_value(s) == 0);
    EXPECT(mproc_semaphore_release(s) == 0 && mproc_semaphore_release(bounded) == -ERANGE);
    EXPECT(mproc_semaphore_free(s) == 0 && mproc_semaphore_free(bounded) == 0);

    mproc_event *e = mproc_event_new();
    EXPECT(!mproc_event_is_set(e) && mproc_event_set(e) == 0 && mproc_event_wait(e, 0) == 0);
    EXPECT(mproc_event_clear(e) == 0 && mproc_event_free(e) == 0);

    bool yes = true;
    mproc_condition *c = mproc_condition_new(NULL);
    EXPECT(mproc_condition_acquire(c, soon) == 0 && mproc_condition_wait(c, 0) == MPROC_ETIMEDOUT);
    EXPECT(mproc_condition_wait_for(c, is_set, &yes, soon) == 0);
    EXPECT(mproc_condition_notify(c, 1) == 0 && mproc_condition_notify_all(c) == 0);
    EXPECT(mproc_condition_release(c) == 0 && mproc_condition_free(c) == 0);

    mproc_barrier *b = mproc_barrier_new(1);
    EXPECT(mproc_barrier_wait(b, soon) == 0 && mproc_barrier_abort(b) == 0);
    EXPECT(mproc_barrier_wait(b, soon) == MPROC_EBROKEN && mproc_barrier_reset(b) == 0);
    EXPECT(mproc_barrier_free(b) == 0);
}

/* Shared memory and messages */

struct point {
    double x, y;
};

static void values() {
    const double source[] = {1, 2, 3};
    point where = {1, 2};
    int *hits = mproc_value_new(int, 40);
    point *p = mproc_value_new(point, where);
    double *a = mproc_array_new(double, 10), *b = mproc_array_from(double, source, 3);
    void *raw = mproc_shm_new(100);
    MPROC_WITH (mproc_lock_of(hits)) *hits += 2;
    EXPECT(*hits == 42 && p->y > 1.5 && mproc_array_len(a) == 10 && b[2] > 2.5 && raw != NULL);
    EXPECT(mproc_free(hits) == 0 && mproc_free(p) == 0 && mproc_free(a) == 0 && mproc_free(b) == 0);
    EXPECT(mproc_free(raw) == 0);
}

static void messages() {
    char text[8];
    mproc_conn *ends[2];
    EXPECT(mproc_pipe_new(ends, false) == 0 && mproc_conn_poll(ends[0], 0) == 0 &&
           mproc_conn_fd(ends[0]) >= 0);
    EXPECT(mproc_conn_send(ends[1], "hello", 5, soon) == 0);
    EXPECT(mproc_conn_recv(ends[0], text, sizeof text, soon) == 5);
    EXPECT(mproc_conn_close(ends[0]) == 0 && mproc_conn_close(ends[1]) == 0);

    size_t size = 0;
    int numbers[] = {1, 2, 3}, got[3];
    mproc_queue *q = mproc_queue_new(10);
    EXPECT(mproc_queue_put(q, "hello", 5, soon) == 0 && mproc_queue_qsize(q) == 1 && mproc_queue_fd(q) >= 0);
    EXPECT(!mproc_queue_empty(q) && !mproc_queue_full(q));
    EXPECT(mproc_queue_get(q, text, sizeof text, soon) == 5 && mproc_queue_put(q, "taken", 5, soon) == 0);
    void *message = mproc_queue_take(q, &size, soon);
    EXPECT(message != NULL && size == 5 && mproc_free(message) == 0);
    EXPECT(mproc_queue_put_many(q, numbers, 3, sizeof numbers[0], soon) == 3);
    EXPECT(mproc_queue_get_many(q, got, 3, sizeof got[0], soon) == 3 && got[2] == 3);
    for (int i = 0; i < 5; i++) EXPECT(mproc_queue_task_done(q) == 0);
    EXPECT(mproc_queue_join(q, soon) == 0 && mproc_queue_close(q) == 0 && mproc_queue_free(q) == 0);

    mproc_ring *r = mproc_ring_new(sizeof(int), 10);
    EXPECT(mproc_ring_put(r, numbers, soon) == 0 && mproc_ring_get(r, got, soon) == 0);
    EXPECT(mproc_ring_put_many(r, numbers, 3, soon) == 3 && mproc_ring_size(r) == 3);
    EXPECT(mproc_ring_get_many(r, got, 3, soon) == 3 && mproc_ring_close(r) == 0 && mproc_ring_free(r) == 0);
}

/* Pool */

static int square(const void *arg, void *result) {
    int n = *static_cast<const int *>(arg);
    *static_cast<int *>(result) = n * n;
    return 0;
}
static int nothing(const void *, void *) { return 0; }
static void called(mproc_future *, void *ctx) { ++*static_cast<int *>(ctx); }
static void add_index(size_t i, void *ctx) {
    __atomic_add_fetch(static_cast<size_t *>(ctx), i, __ATOMIC_SEQ_CST);
}

static void futures(mproc_pool *pool) {
    int three = 3, nine = 0, calls = 0;
    mproc_future *f = mproc_pool_apply_async(pool, square, &three, sizeof three, sizeof nine);
    EXPECT(f != NULL && mproc_future_on_done(f, called, &calls) == 0 && mproc_future_wait(f, soon) == 0);
    EXPECT(mproc_future_ready(f) && mproc_future_successful(f) && mproc_future_code(f) == 0);
    EXPECT(mproc_future_get(f, &nine, soon) == 0 && nine == 9 && calls == 1);
    EXPECT(mproc_future_cancel(f) == -EALREADY && mproc_future_free(f) == 0);
}

static void iterators(mproc_pool *pool, const int *in) {
    int out;
    for (int ordered = 0; ordered < 2; ordered++) {
        mproc_iter *i = ordered ? mproc_pool_imap(pool, square, in, 3, sizeof *in, sizeof out)
                                : mproc_pool_imap_unordered(pool, square, in, 3, sizeof *in, sizeof out);
        EXPECT(i != NULL);
        while (mproc_iter_next(i, &out, soon) >= 0)
            EXPECT(out == in[mproc_iter_index(i)] * in[mproc_iter_index(i)] && mproc_iter_code(i) == 0);
        EXPECT(mproc_iter_free(i) == 0);
    }
}

static void pools() {
    int in[] = {1, 2, 3}, out[3], nine = 0;
    mproc_pool_counts counts;
    mproc_pool_options options = mproc_pool_options();
    mproc_task task = square;
    options.workers = 2;
    mproc_pool *pool = mproc_pool_new_with(&options), *other = mproc_pool_new(1);
    EXPECT(pool != NULL && other != NULL && mproc_pool_fd(pool) >= 0);
    EXPECT(mproc_pool_apply(pool, task, &in[2], sizeof in[2], &nine, sizeof nine) == 0 && nine == 9);
    EXPECT(mproc_pool_submit(pool, nothing, NULL, 0, soon) == 0);
    EXPECT(mproc_pool_map(pool, task, in, 3, sizeof in[0], out, sizeof out[0]) == 0 && out[2] == 9);
    futures(pool);
    iterators(pool, in);
    EXPECT(mproc_pool_stats(pool, &counts) == 0 && counts.workers == 2);
    EXPECT(mproc_pool_close(pool) == 0 && mproc_pool_join(pool, soon) == 0 && mproc_pool_free(pool) == 0);
    EXPECT(mproc_pool_terminate(other) == 0 && mproc_pool_free(other) == 0);

    size_t *sum = mproc_value_new(size_t, 0);
    EXPECT(mproc_parallel_for(101, 2, add_index, sum) == 0 && *sum == 5050 && mproc_free(sum) == 0);
    FILE *null = std::fopen("/dev/null", "w");
    mproc_progress(null, "all", 1, 1);
    EXPECT(mproc_dump(null) == 0 && std::fclose(null) == 0);
}

/* Files */

static int exclaim(char **data, size_t *size, void *) {
    char *more = static_cast<char *>(std::realloc(*data, *size + 1));
    if (more == NULL) return -ENOMEM;
    more[(*size)++] = '!';
    *data = more;
    return 0;
}

static void files() {
    const std::string path = "/tmp/mproc_every_" + std::to_string(getpid());
    mproc_file *f = mproc_file_open(path.c_str());
    EXPECT(f != NULL && mproc_file_lock(f, soon) == 0 && mproc_file_unlock(f) == 0);
    EXPECT(mproc_file_lock_shared(f, soon) == 0 && mproc_file_unlock(f) == 0);
    EXPECT(mproc_file_append(f, "hello", 5) == 0 && mproc_file_update(f, exclaim, NULL) == 0);
    EXPECT(mproc_file_close(f) == 0 && truncate(path.c_str(), 6) == 0 && std::remove(path.c_str()) == 0);
}

int main() {
    errors();
    processes();
    forks();
    locks();
    signals();
    values();
    messages();
    pools();
    files();
    std::puts("every function");
}
