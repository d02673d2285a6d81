/* Random sequences of public calls by several processes at once, out of a string of bytes.

   With clang -fsanitize=fuzzer it is libFuzzer's target (make fuzz); with -DREPLAY it has a main() that runs
   the inputs in the files it is given (make test does so with those kept in tests/fuzz/inputs).

   The first byte says how many helpers are forked at the beginning. Then three bytes make a step: who does
   it, which call, and what with. The helpers run through the same string, each doing its own steps, while the
   main process does its own: so their calls meet in every order. Calls wait a few milliseconds at most.
   Whatever the bytes say: no call crashes or hangs, messages arrive whole, the file holds whole records, and
   at the end everything can be freed and is gone.

   Only what a careful program may do is done: objects are freed, and stale pointers used, while no helper
   runs. */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE ((size_t)128 << 20)
#include "../../mproc.h"
#include <math.h>

enum { SLOTS = 3, HELPERS = 3, LARGEST = 5000 };
enum { LOCK, RLOCK, SEMAPHORE, EVENT, CONDITION, BARRIER, QUEUE, RING, VALUE, KINDS };

static struct world { /* in shared memory: what all processes use */
    void *object[KINDS][SLOTS];
    mproc_conn *conn[SLOTS][2];
} * world;

static struct { /* of each process */
    const uint8_t *data;
    size_t size, at;
    int me; /* 0 the main process, then the helpers */
} script;

static struct { /* of each process, too */
    mproc_process process[SLOTS];
    mproc_file *file;
    mproc_pool *pool;
    mproc_future *future[SLOTS];
    mproc_iter *iter;
} own;

static struct { /* of the main process */
    mproc_process helper[HELPERS];
    void *stale[KINDS];
    bool killed; /* somebody was: blocks may be lost */
} director;

static int forked_unwaited; /* children of mproc_fork that nobody waited for */
static char path[64];
static const char *doing = "nothing", *input = "an input"; /* what a failure is reported with */

#define CHECK(condition)                                                                              \
    do {                                                                                              \
        if (!(condition)) {                                                                           \
            fprintf(stderr, "fuzz.c:%d: %s, process %d, step %zu, %s: not so: %s\n", __LINE__, input, \
                    script.me, script.at / 3, doing, #condition);                                     \
            abort();                                                                                  \
        }                                                                                             \
    } while (0)

static double timeout_of(unsigned arg) {
    static const double some[] = {0, 0.001, 0, 0.0003};
    return arg % 61 == 60 ? (double)NAN : some[arg % 4];
}
static void *object(int kind, unsigned arg) {
    bool alone = script.me == 0 && arg % 16 == 15;
    for (int i = 0; alone && i < HELPERS; i++) alone = !mproc_process_is_alive(&director.helper[i]);
    return alone ? director.stale[kind]
                 : __atomic_load_n(&world->object[kind][arg % SLOTS], __ATOMIC_SEQ_CST);
}
static bool plain_error(intmax_t was) { return was <= 0 && was > -4096 && was != -EINTR; }

/* ---- Messages: every byte tells the size ---- */

static uint8_t message[LARGEST];
static size_t size_of(unsigned arg) {
    static const size_t some[] = {0, 1, 40, 112, 113, 500, 4096, LARGEST};
    return some[arg % 8];
}
static void compose(size_t size) { memset(message, (int)(size * 7 & 255), size); }
static bool sound(const void *data, size_t size) {
    const uint8_t *bytes = (const uint8_t *)data;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (uint8_t)(size * 7)) return false;
    return true;
}

/* ---- Making and freeing ---- */

static void *make(int kind, unsigned arg) {
    switch (kind) {
    case LOCK: return mproc_lock_new();
    case RLOCK: return mproc_rlock_new();
    case SEMAPHORE: return arg & 64 ? mproc_semaphore_new(arg % 4) : mproc_semaphore_new_bounded(arg % 4);
    case EVENT: return mproc_event_new();
    case CONDITION: return mproc_condition_new(NULL);
    case BARRIER: return mproc_barrier_new(arg % 4);
    case QUEUE: return mproc_queue_new(arg & 64 ? arg % 8 : 0);
    case RING: return mproc_ring_new(8, arg % 9);
    default: return arg & 64 ? mproc_array_new(int, arg * 50u) : mproc_value_new(int, 5);
    }
}
static int discard(int kind, void *o) {
    switch (kind) {
    case LOCK: return mproc_lock_free((mproc_lock *)o);
    case RLOCK: return mproc_rlock_free((mproc_rlock *)o);
    case SEMAPHORE: return mproc_semaphore_free((mproc_semaphore *)o);
    case EVENT: return mproc_event_free((mproc_event *)o);
    case CONDITION: return mproc_condition_free((mproc_condition *)o);
    case BARRIER: return mproc_barrier_free((mproc_barrier *)o);
    case QUEUE: return mproc_queue_free((mproc_queue *)o);
    case RING: return mproc_ring_free((mproc_ring *)o);
    default: return mproc_free(o);
    }
}
static void do_new(unsigned arg) {
    int kind = (int)(arg % KINDS);
    void **slot = &world->object[kind][arg / KINDS % SLOTS], *none = NULL;
    if (__atomic_load_n(slot, __ATOMIC_SEQ_CST) != NULL) return;
    void *o = make(kind, arg);
    if (o == NULL || __atomic_compare_exchange_n(slot, &none, o, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    CHECK(discard(kind, o) == 0); /* another process was faster */
}

/* Lets go of what this process holds, so that the object can be freed. */
static void let_go(int kind, void *o) {
    if (kind == LOCK) mproc_lock_release((mproc_lock *)o);
    if (kind == VALUE) mproc_lock_release(mproc_lock_of(o));
    if (kind == CONDITION) mproc_condition_release((mproc_condition *)o);
    while (kind == RLOCK && mproc_rlock_release((mproc_rlock *)o) == 0) continue;
}
static void do_free(unsigned arg) {
    int kind = (int)(arg % KINDS);
    for (int i = 0; i < HELPERS; i++)
        if (mproc_process_is_alive(&director.helper[i])) return;
    if (script.me != 0) return;
    void **slot = &world->object[kind][arg / KINDS % SLOTS], *o = arg > 200 ? director.stale[kind] : *slot;
    if (arg & 1) let_go(kind, o);
    int error = discard(kind, o);
    CHECK(error == 0 || error == MPROC_EBUSY || error == MPROC_EINVAL);
    if (error != 0) return;
    director.stale[kind] = o;
    for (int i = 0; i < SLOTS; i++)
        if (world->object[kind][i] == o) world->object[kind][i] = NULL;
}

/* ---- Steps ---- */

/* Before a wait that has no time limit: what others may wait for meanwhile is not held. */
static void let_go_of_all(const void *but) {
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < SLOTS; i++)
            if (world->object[kind][i] != but) let_go(kind, world->object[kind][i]);
    if (own.file != NULL) mproc_file_unlock(own.file);
}

static bool wanted(void *ctx) {
    (void)ctx;
    return false;
}
static void do_lock(unsigned op, unsigned arg) {
    mproc_lock *lock = op & 1 ? mproc_lock_of(object(VALUE, arg)) : (mproc_lock *)object(LOCK, arg);
    mproc_rlock *rlock = (mproc_rlock *)object(RLOCK, arg);
    switch (op / 2 % 5) {
    case 0: CHECK(plain_error(mproc_lock_acquire(lock, timeout_of(arg)))); break;
    case 1: CHECK(plain_error(mproc_lock_release(lock))); break;
    case 2: CHECK(plain_error(mproc_rlock_acquire(rlock, timeout_of(arg)))); break;
    case 3: CHECK(plain_error(mproc_rlock_release(rlock))); break;
    default: mproc_lock_owner_died(lock); break;
    }
}
static void do_sync(unsigned op, unsigned arg) {
    mproc_semaphore *s = (mproc_semaphore *)object(SEMAPHORE, arg);
    mproc_event *e = (mproc_event *)object(EVENT, arg);
    mproc_barrier *b = (mproc_barrier *)object(BARRIER, arg);
    switch (op % 10) {
    case 0: CHECK(plain_error(mproc_semaphore_acquire(s, timeout_of(arg)))); break;
    case 1: CHECK(plain_error(mproc_semaphore_release(s))); break;
    case 2: mproc_semaphore_value(s); break;
    case 3: CHECK(plain_error(mproc_event_set(e))); break;
    case 4: CHECK(plain_error(mproc_event_clear(e))); break;
    case 5: CHECK(plain_error(mproc_event_wait(e, timeout_of(arg)))); break;
    case 6: mproc_event_is_set(e); break;
    case 7: CHECK(mproc_barrier_wait(b, timeout_of(arg)) < 4); break;
    case 8: CHECK(plain_error(mproc_barrier_reset(b))); break;
    default: CHECK(plain_error(mproc_barrier_abort(b))); break;
    }
}
static void do_condition(unsigned op, unsigned arg) {
    mproc_condition *c = (mproc_condition *)object(CONDITION, arg);
    if (op % 6 == 2 || op % 6 == 3) let_go_of_all(c);
    switch (op % 6) {
    case 0: CHECK(plain_error(mproc_condition_acquire(c, timeout_of(arg)))); break;
    case 1: CHECK(plain_error(mproc_condition_release(c))); break;
    case 2: CHECK(plain_error(mproc_condition_wait(c, timeout_of(arg)))); break;
    case 3: CHECK(plain_error(mproc_condition_wait_for(c, wanted, NULL, timeout_of(arg)))); break;
    case 4: CHECK(plain_error(mproc_condition_notify(c, arg % 3))); break;
    default: CHECK(plain_error(mproc_condition_notify_all(c))); break;
    }
}
static void do_queue_put(mproc_queue *q, unsigned op, unsigned arg) {
    size_t size = size_of(arg);
    static uint8_t many[3 * LARGEST];
    compose(size);
    if (op % 2 == 0) {
        CHECK(plain_error(mproc_queue_put(q, message, size, timeout_of(arg / 8))));
        return;
    }
    memset(many, (int)(size * 7 & 255), sizeof many);
    CHECK(mproc_queue_put_many(q, many, arg % 4, size, timeout_of(arg / 8)) <= 3);
}
static void do_queue_get(mproc_queue *q, unsigned op, unsigned arg) {
    static uint8_t many[3 * LARGEST];
    size_t size = 0, room = size_of(arg);
    if (op % 3 == 0) {
        ssize_t got = mproc_queue_get(q, message, room, timeout_of(arg / 8));
        CHECK(got < 0 ? plain_error(got) : (size_t)got <= room && sound(message, (size_t)got));
    } else if (op % 3 == 1) {
        void *taken = mproc_queue_take(q, &size, timeout_of(arg / 8));
        CHECK(taken == NULL || sound(taken, size));
        CHECK(mproc_free(taken) == 0);
    } else {
        CHECK(mproc_queue_get_many(q, many, arg % 4, room, timeout_of(arg / 8)) <= 3);
    }
}
static void do_queue(unsigned op, unsigned arg) {
    mproc_queue *q = (mproc_queue *)object(QUEUE, arg);
    switch (op % 10) {
    case 0:
    case 1:
    case 2: do_queue_put(q, op / 10, arg); break;
    case 3:
    case 4:
    case 5: do_queue_get(q, op / 10, arg); break;
    case 6: CHECK(plain_error(mproc_queue_task_done(q))); break;
    case 7: CHECK(plain_error(mproc_queue_join(q, timeout_of(arg)))); break;
    case 8:
        mproc_queue_qsize(q);
        mproc_queue_full(q);
        mproc_queue_fd(q);
        break;
    default:
        if (arg > 200) CHECK(plain_error(mproc_queue_close(q)));
        break;
    }
}
static void do_ring(unsigned op, unsigned arg) {
    mproc_ring *r = (mproc_ring *)object(RING, arg);
    uint32_t items[5][2];
    ssize_t n = 0;
    for (unsigned i = 0; i < 5; i++) items[i][0] = arg * 1000 + i, items[i][1] = ~items[i][0];
    switch (op % 6) {
    case 0: CHECK(plain_error(mproc_ring_put(r, items, timeout_of(arg)))); break;
    case 1: n = mproc_ring_put_many(r, items, arg % 6, timeout_of(arg)); break;
    case 2: n = mproc_ring_get(r, items, timeout_of(arg)) == 0; break;
    case 3: n = mproc_ring_get_many(r, items, arg % 6, timeout_of(arg)); break;
    case 4: CHECK(mproc_ring_size(r) <= 9); break;
    default:
        if (arg > 200) CHECK(plain_error(mproc_ring_close(r)));
        break;
    }
    CHECK(n <= 5 && n != -EINTR);
    for (ssize_t i = 0; i < n; i++) CHECK(items[i][0] == ~items[i][1]);
}
static void do_pipe(unsigned op, unsigned arg) {
    mproc_conn **ends = world->conn[arg % SLOTS],
               *end = __atomic_load_n(&ends[arg / 4 % 2], __ATOMIC_SEQ_CST);
    size_t size = size_of(arg);
    ssize_t got;
    switch (op % 8) {
    case 0:
        if (script.me == 0 && end == NULL) CHECK(mproc_pipe_new(ends, arg & 64) == 0);
        break;
    case 1:
    case 2:
        compose(size);
        CHECK(plain_error(mproc_conn_send(end, message, size, timeout_of(arg / 8))));
        break;
    case 3:
    case 4:
        got = mproc_conn_recv(end, message, size, timeout_of(arg / 8));
        CHECK(got < 0 ? plain_error(got) : (size_t)got <= size && sound(message, (size_t)got));
        break;
    case 5: CHECK(mproc_conn_poll(end, timeout_of(arg)) <= 1); break;
    case 6: mproc_conn_fd(end); break;
    default:
        if (arg > 150) CHECK(plain_error(mproc_conn_close(end)));
        break;
    }
}
static int ends_with(void *arg) { return (int)(uintptr_t)arg; }
static int sleeps(void *arg) {
    (void)arg;
    for (;;) pause();
    return 0;
}
static void add_up(size_t i, void *ctx) { __atomic_add_fetch((int *)ctx, (int)i, __ATOMIC_SEQ_CST); }
static void do_process(unsigned op, unsigned arg) {
    mproc_process *p = &own.process[arg % SLOTS], *all[SLOTS];
    int code = 3;
    pid_t pid;
    for (int i = 0; i < SLOTS; i++) all[i] = &own.process[i];
    switch (op % 11) {
    case 0:
        if (p->pid != 0) break;
        p->target = arg & 64 ? sleeps : ends_with;
        p->daemon = arg & 64;
        p->arg = (void *)(uintptr_t)(arg % 100);
        CHECK(plain_error(mproc_process_start(p)));
        break;
    case 1: CHECK(plain_error(mproc_process_join(p, timeout_of(arg)))); break;
    case 2: CHECK(plain_error(mproc_process_terminate(p))); break;
    case 3: CHECK(plain_error(mproc_process_kill(p))); break;
    case 4:
        if (mproc_process_close(p) == 0) memset(p, 0, sizeof *p);
        break;
    case 5: CHECK(mproc_process_wait_any(all, SLOTS, timeout_of(arg)) < SLOTS); break;
    case 6: mproc_process_fd(p); break;
    case 7: mproc_active_children(&pid, 1); break;
    case 8:
        pid = mproc_fork();
        if (pid == 0) mproc_exit(3);
        CHECK(pid > 0);
        if (mproc_wait(pid, &code, arg & 64 ? 0 : 10) != 0) forked_unwaited++;
        CHECK(forked_unwaited == 0 || (arg & 64) || code == 3);
        break;
    case 9: forked_unwaited -= mproc_reap(); break;
    default: {
        int *sum = mproc_value_new(int, 0);
        CHECK(mproc_parallel_for(arg % 8, 2, add_up, sum) == 0);
        CHECK(*sum == (int)(arg % 8 * (arg % 8 - 1) / 2));
        CHECK(mproc_free(sum) == 0);
    }
    }
}

/* ---- The pool ---- */

static int task(const void *arg, void *result) {
    int n = *(const int *)arg;
    *(int *)result = n + 1;
    if (n % 7 == 5) kill(getpid(), SIGKILL);
    if (n % 11 == 7) _exit(3);
    return n % 5 == 4;
}
static void note(mproc_future *f, void *ctx) {
    (void)f;
    *(int *)ctx += 1;
}
static int called;
static void pool_ends(void) {
    mproc_iter_free(own.iter);
    own.iter = NULL;
    for (int i = 0; i < SLOTS; i++) {
        mproc_future_free(own.future[i]);
        own.future[i] = NULL;
    }
    CHECK(mproc_pool_free(own.pool) == 0);
    own.pool = NULL;
}
static void do_pool(unsigned op, unsigned arg) {
    static int in[30], out[30];
    int n = (int)arg, result = 0, error;
    mproc_pool_options options;
    mproc_pool_counts counts;
    memset(&options, 0, sizeof options);
    options.workers = 1 + (int)(arg % 2);
    options.max_tasks_per_worker = arg & 64 ? 2 : 0;
    options.task_timeout = arg & 32 ? 5 : 0;
    for (int i = 0; i < 30; i++) in[i] = n + i;
    switch (op % 10) {
    case 0:
        if (own.pool == NULL) own.pool = mproc_pool_new_with(&options);
        break;
    case 1:
        error = mproc_pool_apply(own.pool, task, &n, sizeof n, &result, sizeof result);
        CHECK(plain_error(error) && (error != 0 || result == n + 1));
        break;
    case 2: CHECK(plain_error(mproc_pool_submit(own.pool, task, &n, sizeof n, timeout_of(arg)))); break;
    case 3: CHECK(plain_error(mproc_pool_map(own.pool, task, in, arg % 31, sizeof n, out, sizeof n))); break;
    case 4:
        if (own.iter == NULL) own.iter = mproc_pool_imap(own.pool, task, in, arg % 31, sizeof n, sizeof n);
        break;
    case 5: CHECK(mproc_iter_next(own.iter, &result, timeout_of(arg)) < 30); break;
    case 6: mproc_pool_stats(own.pool, &counts); break;
    case 7:
        if (arg > 200) CHECK(plain_error(mproc_pool_close(own.pool)));
        else CHECK(mproc_pool_fd(own.pool) != -EINTR);
        break;
    case 8:
        if (arg > 200) CHECK(plain_error(mproc_pool_terminate(own.pool)));
        else CHECK(plain_error(mproc_pool_join(own.pool, timeout_of(arg))));
        break;
    default:
        if (own.pool != NULL) pool_ends();
        break;
    }
}
static void do_future(unsigned op, unsigned arg) {
    mproc_future **f = &own.future[arg % SLOTS];
    int n = (int)arg, result = 0, error;
    switch (op % 6) {
    case 0:
        if (*f == NULL) *f = mproc_pool_apply_async(own.pool, task, &n, sizeof n, sizeof n);
        break;
    case 1:
        error = mproc_future_get(*f, &result, timeout_of(arg));
        CHECK(plain_error(error) && (error != 0 || result > 0));
        break;
    case 2: CHECK(plain_error(mproc_future_cancel(*f))); break;
    case 3: CHECK(plain_error(mproc_future_on_done(*f, note, &called))); break;
    case 4:
        mproc_future_ready(*f);
        mproc_future_code(*f);
        break;
    default:
        CHECK(plain_error(mproc_future_free(*f)));
        *f = NULL;
        break;
    }
}

/* ---- The file: records of one letter, ended by a newline ---- */

static int edit(char **data, size_t *size, void *ctx) {
    unsigned arg = *(unsigned *)ctx;
    if (arg % 4 == 0) return 1;
    if (arg % 4 == 1) *size = 0;
    if (arg % 4 < 2 || *size > 50000) return *size = 0, 0;
    char *more = (char *)realloc(*data, *size + 9);
    if (more == NULL) return -ENOMEM;
    memcpy(more + *size, "uuuuuuuu\n", 9);
    *data = more;
    *size += 9;
    return 0;
}
static void do_file(unsigned op, unsigned arg) {
    static char record[LARGEST];
    size_t size = arg & 64 ? LARGEST : 20;
    switch (op % 6) {
    case 0:
        if (own.file == NULL) own.file = mproc_file_open(path);
        break;
    case 1: CHECK(plain_error(mproc_file_lock(own.file, timeout_of(arg)))); break;
    case 2: CHECK(plain_error(mproc_file_lock_shared(own.file, timeout_of(arg)))); break;
    case 3: CHECK(plain_error(mproc_file_unlock(own.file))); break;
    case 4:
        memset(record, (int)('a' + arg % 20), size);
        record[size - 1] = '\n';
        let_go_of_all(NULL);
        CHECK(plain_error(mproc_file_append(own.file, record, size)));
        break;
    default:
        if (arg & 128) {
            CHECK(mproc_file_close(own.file) == 0);
            own.file = NULL;
        } else {
            let_go_of_all(NULL);
            CHECK(mproc_file_update(own.file, edit, &arg) <= 1);
        }
        break;
    }
}
static void check_file(void) {
    mproc_file *file = mproc_file_open(path);
    CHECK(file != NULL && mproc_file_lock(file, 10) == 0); /* what was torn by a kill is undone */
    FILE *f = fopen(path, "re");
    CHECK(f != NULL);
    for (int c, first = 0; (c = fgetc(f)) != EOF;) {
        CHECK(first == 0 || c == first || c == '\n');
        first = c == '\n' ? 0 : c;
    }
    fclose(f);
    CHECK(mproc_file_close(file) == 0);
}

/* ---- Processes and the script ---- */

static void run_script(void);

static void reap_forked(void) {
    for (; forked_unwaited > 0; forked_unwaited -= mproc_reap()) mproc__sleep(MPROC__MS);
}

static int helper_main(void *arg) {
    script.me = (int)(uintptr_t)arg;
    memset(&own, 0, sizeof own);
    memset(&director, 0, sizeof director);
    forked_unwaited = 0;
    run_script();
    if (own.pool != NULL) pool_ends();
    for (int i = 0; i < SLOTS; i++) mproc_process_kill(&own.process[i]);
    reap_forked(); /* as long as they live they hold pipes */
    return 0;
}
static void helper_start(unsigned k) {
    mproc_process *p = &director.helper[k];
    if (p->pid != 0) return;
    p->target = helper_main;
    p->arg = (void *)(uintptr_t)(k + 1);
    CHECK(mproc_process_start(p) == 0);
}
/* It has ended by itself and well, or was killed by us. */
static void helper_end(unsigned k, bool kill_it) {
    mproc_process *p = &director.helper[k];
    if (p->pid == 0) return;
    let_go_of_all(NULL);
    if (kill_it) director.killed = true;
    if (kill_it) mproc_process_kill(p);
    doing = "the end of a helper";
    CHECK(mproc_process_join(p, 30) == 0);
    CHECK(p->exitcode == 0 || (kill_it && p->exitcode == -SIGKILL));
    CHECK(mproc_process_close(p) == 0);
    memset(p, 0, sizeof *p);
}
static void do_helper(unsigned op, unsigned arg) {
    if (script.me != 0) return;
    if (op % 2 == 0) helper_start(arg % HELPERS);
    else helper_end(arg % HELPERS, arg & 64);
}

static void do_step(unsigned op, unsigned arg) {
    static const struct {
        const char *name;
        void (*run)(unsigned op, unsigned arg);
    } groups[] = {{"lock", do_lock},           {"synchronisation", do_sync},
                  {"condition", do_condition}, {"queue", do_queue},
                  {"ring", do_ring},           {"pipe", do_pipe},
                  {"process", do_process},     {"pool", do_pool},
                  {"future", do_future},       {"file", do_file},
                  {"helper", do_helper},       {"queue", do_queue}};
    unsigned n = sizeof groups / sizeof *groups;
    doing = op % 16 < n ? groups[op % 16].name : "new or free";
    if (op % 16 < n) groups[op % 16].run(op / 16 + arg / 16 % 8 * 16, arg);
    else if (op & 128) do_free(arg);
    else do_new(arg);
}

/* A step of a helper that runs is its own; of one that does not, the main process's. */
static void run_script(void) {
    for (; script.at + 3 <= script.size; script.at += 3) {
        const uint8_t *step = script.data + script.at;
        int who = step[0] % (HELPERS + 1);
        bool theirs = who != 0 && (script.me != 0 || director.helper[who - 1].pid != 0);
        if (theirs ? who != script.me : script.me != 0) continue;
        do_step(step[1], step[2]);
    }
}

/* ---- An input ---- */

static size_t arena_used(void) {
    mproc__arena *a = mproc__shared;
    size_t used = 0;
    for (uint32_t i = 0; i < a->ports_used; i++) {
        mproc__pair *pair = (mproc__pair *)a->pair[i];
        if (pair != NULL) pair->forks = a->forks; /* nobody forks just now */
    }
    mproc__pairs_tidy(a->ports_used);
    for (char *p = a->first; p < a->top; p += mproc__size_of(mproc__block_at(p)))
        if (mproc__used(mproc__block_at(p))) used += mproc__size_of(mproc__block_at(p));
    return used;
}
static int fds_open(void) {
    int n = 0;
    for (int fd = 0; fd < 300; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* Everything goes, whatever state it is in. */
static void clean_up(void) {
    doing = "the end";
    for (unsigned k = 0; k < HELPERS; k++) helper_end(k, false);
    if (own.pool != NULL) pool_ends();
    for (int i = 0; i < SLOTS; i++) {
        mproc_process_kill(&own.process[i]);
        mproc_process_join(&own.process[i], 30);
        mproc_process_close(&own.process[i]);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        for (int i = 0; i < SLOTS; i++) {
            void *o = world->object[kind][i];
            if (o == NULL) continue;
            let_go(kind, o);
            CHECK(discard(kind, o) == 0);
        }
    }
    for (int i = 0; i < 2 * SLOTS; i++) mproc_conn_close(world->conn[i / 2][i % 2]);
    reap_forked();
    if (own.file != NULL) CHECK(mproc_file_close(own.file) == 0);
    check_file();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4 || size > 3001) return 0;
    memset(&own, 0, sizeof own);
    memset(&director, 0, sizeof director);
    if (path[0] == 0) snprintf(path, sizeof path, "/tmp/mproc-fuzz-%d", (int)getpid());
    world = (struct world *)mproc_shm_new(sizeof *world);
    CHECK(world != NULL);
    check_file();
    size_t used = arena_used();
    int fds = fds_open();
    script.data = data + 1;
    script.size = size - 1;
    script.at = 0;
    script.me = 0;
    for (unsigned k = 0; k < data[0] % (HELPERS + 1u); k++) helper_start(k);
    run_script();
    clean_up();
    CHECK(fds_open() == fds);
    size_t left = arena_used();
    if (left != used) fprintf(stderr, "%zu bytes are left\n", left - used);
    CHECK(director.killed || left == used);
    CHECK(mproc_free(world) == 0);
    unlink(path);
    return 0;
}

#ifdef REPLAY
int main(int argc, char **argv) {
    static uint8_t data[4096];
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "re");
        if (f == NULL) {
            perror(argv[i]);
            return 1;
        }
        size_t size = fread(data, 1, sizeof data, f);
        fclose(f);
        alarm(60);
        input = argv[i];
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%d inputs replayed\n", argc - 1);
    return argc > 1 ? 0 : 1;
}
#endif
