/* What the header has to offer, as contenders. */
#define MPROC_IMPLEMENTATION
#include "../../mproc.h"
#include "bench.h"
#include "tasks.h"
#include "work.h"

#define RING_ITEMS 1024

/* ---- Messages ---- */

struct channel {
    size_t size;
    mproc_queue *queue;
    mproc_ring *ring;
    mproc_conn *end[2];
    mproc_event *event;
    char *data; /* what an event announces */
};

static struct channel *channel_new(size_t size) {
    struct channel *c = (struct channel *)calloc(1, sizeof *c);
    if (!c) die("memory", -ENOMEM);
    c->size = size;
    return c;
}
static void channel_close(void *t) {
    struct channel *c = (struct channel *)t;
    int error = mproc_queue_free(c->queue);
    if (!error) error = mproc_ring_free(c->ring);
    if (!error) error = mproc_event_free(c->event);
    if (!error) error = mproc_free(c->data);
    for (int i = 0; i < 2 && !error; i++)
        if (c->end[i]) error = mproc_conn_close(c->end[i]);
    if (error) die("close", error);
    free(c);
}

static void *queue_open(size_t size, int producers, int consumers) {
    struct channel *c = channel_new(size);
    (void)producers, (void)consumers;
    if (!(c->queue = mproc_queue_new(0))) die("queue", -errno);
    return c;
}
static void queue_put(void *t, const void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    ssize_t put = n == 1 ? mproc_queue_put(c->queue, items, c->size, MPROC_FOREVER)
                         : mproc_queue_put_many(c->queue, items, n, c->size, MPROC_FOREVER);
    if (put < 0) die("put", (int)put);
}
static size_t queue_get(void *t, void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    ssize_t got;
    if (n > 1) got = mproc_queue_get_many(c->queue, items, n, c->size, MPROC_FOREVER);
    else got = mproc_queue_get(c->queue, items, c->size, MPROC_FOREVER);
    if (got < 0) die("get", (int)got);
    return n > 1 ? (size_t)got : 1;
}
const struct transport our_queue = {"mproc queue", queue_open, NULL,         queue_put,
                                    queue_get,     NULL,       channel_close};

static void *ring_open(size_t size, int producers, int consumers) {
    struct channel *c = channel_new(size);
    (void)producers, (void)consumers;
    if (!(c->ring = mproc_ring_new(size, size > 65536 ? 16 : RING_ITEMS))) die("ring", -errno);
    return c;
}
static void ring_put(void *t, const void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    ssize_t put = n == 1 ? mproc_ring_put(c->ring, items, MPROC_FOREVER)
                         : mproc_ring_put_many(c->ring, items, n, MPROC_FOREVER);
    if (put < 0) die("put", (int)put);
}
static size_t ring_get(void *t, void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    ssize_t got = n == 1 ? mproc_ring_get(c->ring, items, MPROC_FOREVER)
                         : mproc_ring_get_many(c->ring, items, n, MPROC_FOREVER);
    if (got < 0) die("get", (int)got);
    return n == 1 ? 1 : (size_t)got;
}
const struct transport our_ring = {"mproc ring", ring_open, NULL, ring_put, ring_get, NULL, channel_close};

static void *conn_open(size_t size, int producers, int consumers) {
    struct channel *c = channel_new(size);
    (void)producers, (void)consumers;
    int error = mproc_pipe_new(c->end, false);
    if (error) die("pipe", error);
    return c;
}
static void conn_put(void *t, const void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    for (size_t i = 0; i < n; i++) {
        int error = mproc_conn_send(c->end[1], (const char *)items + i * c->size, c->size, MPROC_FOREVER);
        if (error) die("send", error);
    }
}
static size_t conn_get(void *t, void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    ssize_t size = mproc_conn_recv(c->end[0], items, c->size, MPROC_FOREVER);
    (void)n;
    if (size < 0) die("recv", (int)size);
    return 1;
}
const struct transport our_pipe = {"mproc pipe", conn_open, NULL, conn_put, conn_get, NULL, channel_close};

static void *event_open(size_t size, int producers, int consumers) {
    struct channel *c = channel_new(size);
    (void)producers, (void)consumers;
    c->event = mproc_event_new();
    c->data = (char *)mproc_shm_new(size);
    if (!c->event || !c->data) die("event", -errno);
    return c;
}
static void event_put(void *t, const void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    (void)n;
    memcpy(c->data, items, c->size);
    int error = mproc_event_set(c->event);
    if (error) die("set", error);
}
static size_t event_get(void *t, void *items, size_t n) {
    const struct channel *c = (const struct channel *)t;
    (void)n;
    int error = mproc_event_wait(c->event, MPROC_FOREVER);
    if (error) die("wait", error);
    memcpy(items, c->data, c->size);
    mproc_event_clear(c->event);
    return 1;
}
const struct transport our_events = {"mproc event pair", event_open, NULL,         event_put,
                                     event_get,          NULL,       channel_close};

/* ---- Locks ---- */

static void *lock_open(void) {
    mproc_lock *lock = mproc_lock_new();
    if (!lock) die("lock", -errno);
    return lock;
}
static void lock_acquire(void *l) {
    int error = mproc_lock_acquire((mproc_lock *)l, MPROC_FOREVER);
    if (error) die("acquire", error);
}
static void lock_release(void *l) { mproc_lock_release((mproc_lock *)l); }
static void lock_close(void *l) {
    int error = mproc_lock_free((mproc_lock *)l);
    if (error) die("free", error);
}
const struct locker our_lock = {"mproc lock", lock_open, NULL, lock_acquire, lock_release, lock_close};

/* ---- Processes ---- */

static int end_with_seven(void *arg) {
    (void)arg;
    return 7;
}

struct figure run_our_start(const struct row *row, const struct entry *entry, size_t count) {
    (void)entry;
    hold_memory(row->size);
    double began = now();
    for (size_t i = 0; i < count; i++) {
        mproc_process p = {.target = end_with_seven};
        int error = mproc_process_start(&p);
        if (!error) error = mproc_process_join(&p, MPROC_FOREVER);
        if (error || p.exitcode != 7) die("start", error);
        mproc_process_close(&p);
    }
    return (struct figure){(now() - began) / (double)count * 1e6, -1, -1};
}

static int become_true(void *arg) {
    (void)arg;
    execl("/bin/true", "true", (char *)NULL);
    return 127;
}

/* A process for each task, two at a time. */
struct figure run_our_process_each(const struct row *row, const struct entry *entry, size_t count) {
    mproc_process p[2], *ps[2] = {&p[0], &p[1]};
    (void)row, (void)entry;
    memset(p, 0, sizeof p);
    double began = now();
    for (size_t i = 0; i < count + 2; i++) {
        int k = i < 2 ? (int)i : mproc_process_wait_any(ps, 2, MPROC_FOREVER);
        if (i >= 2 && (k < 0 || mproc_process_join(ps[k], MPROC_FOREVER) || ps[k]->exitcode)) die("join", k);
        mproc_process_close(ps[k]);
        memset(ps[k], 0, sizeof p[k]);
        ps[k]->target = become_true;
        if (i < count && mproc_process_start(ps[k]) != 0) die("start", 0);
        if (i >= count) ps[k] = ps[1 - k]; /* the other one is left */
    }
    return (struct figure){(double)count / (now() - began), -1, -1};
}

/* ---- Pool ---- */

#define SINGLE_ITEMS 4000000000u /* as max_tasks_per_worker: then map hands over items one by one */

static int give_back(const void *arg, void *result) {
    *(uint64_t *)result = *(const uint64_t *)arg;
    return 0;
}
static int nothing(const void *arg, void *result) {
    (void)arg, (void)result;
    return 0;
}

static struct figure map(const struct row *row, size_t count, unsigned most) {
    mproc_pool_options options = {.workers = row->producers, .max_tasks_per_worker = most};
    mproc_pool *pool = mproc_pool_new_with(&options);
    uint64_t *in = (uint64_t *)malloc(count * sizeof *in), *out = (uint64_t *)malloc(count * sizeof *out),
             sum = 0;
    if (!pool || !in || !out) die("pool", -errno);
    for (size_t i = 0; i < count; i++) in[i] = i;
    memset(out, 1, count * sizeof *out); /* its pages are there before the clock runs */
    double began = now();
    int error = mproc_pool_map(pool, give_back, in, count, sizeof *in, out, sizeof *out);
    double seconds = now() - began;
    for (size_t i = 0; i < count; i++) sum += out[i];
    if (error || sum != (uint64_t)count * (count - 1) / 2) die("map", error);
    mproc_pool_free(pool);
    free(in);
    free(out);
    return (struct figure){(double)count / seconds, -1, -1};
}
struct figure run_our_map(const struct row *row, const struct entry *entry, size_t count) {
    (void)entry;
    return map(row, count, 0);
}
struct figure run_our_single_map(const struct row *row, const struct entry *entry, size_t count) {
    (void)entry;
    return map(row, count, SINGLE_ITEMS);
}

static int pin_worker(void *arg) {
    take_place(*(const enum place *)arg, 1);
    return 0;
}

struct figure run_our_apply(const struct row *row, const struct entry *entry, size_t count) {
    enum place place = row->place;
    mproc_pool_options options = {.workers = row->producers, .initializer = pin_worker, .initarg = &place};
    mproc_pool *pool = mproc_pool_new_with(&options);
    uint64_t sum = 0, out = 0;
    double *trip = (double *)calloc(count + 1, sizeof *trip), began = 0;
    (void)entry;
    if (!pool || !trip) die("pool", -errno);
    take_place(place, 0);
    for (uint64_t i = 0; i <= count; i++, began = now()) { /* the first one waits for the worker's start */
        int error = mproc_pool_apply(pool, give_back, &i, sizeof i, &out, sizeof out);
        if (error) die("apply", error);
        sum += out;
        if (i > 0) trip[i - 1] = now() - began;
    }
    struct figure f = trip_figure(trip, count);
    free(trip);
    take_place(ANYWHERE, 0);
    if (sum != (uint64_t)count * (count + 1) / 2) die("apply", 0);
    mproc_pool_free(pool);
    return f;
}

/* Until the last one is done, not only accepted. */
struct figure run_our_submit(const struct row *row, const struct entry *entry, size_t count) {
    mproc_pool *pool = mproc_pool_new(row->producers);
    mproc_pool_counts counts;
    (void)entry;
    if (!pool) die("pool", -errno);
    double began = now();
    for (size_t i = 0; i < count; i++) {
        int error = mproc_pool_submit(pool, nothing, &i, sizeof i, MPROC_FOREVER);
        if (error) die("submit", error);
    }
    do {
        if (mproc_pool_apply(pool, nothing, NULL, 0, NULL, 0) != 0) die("submit", 0);
        mproc_pool_stats(pool, &counts);
    } while (counts.done < count);
    double seconds = now() - began;
    mproc_pool_free(pool);
    return (struct figure){(double)count / seconds, -1, -1};
}

static void work_body(size_t i, void *ctx) { ((uint64_t *)ctx)[i] = bench_work(i, work_rounds()); }
static int work_task(const void *arg, void *result) {
    *(uint64_t *)result = bench_work(*(const uint64_t *)arg, work_rounds());
    return 0;
}

struct figure run_our_work_for(const struct row *row, const struct entry *entry, size_t count) {
    uint64_t *out = mproc_array_new(uint64_t, BENCH_CHUNKS);
    (void)entry, (void)count;
    if (!out) die("array", -errno);
    work_rounds();
    double began = now();
    int error = mproc_parallel_for(BENCH_CHUNKS, row->producers, work_body, out);
    double seconds = now() - began;
    work_check(out, error);
    mproc_free(out);
    return (struct figure){seconds * 1e3, -1, -1};
}

struct figure run_our_work_map(const struct row *row, const struct entry *entry, size_t count) {
    uint64_t in[BENCH_CHUNKS], out[BENCH_CHUNKS];
    (void)entry, (void)count;
    work_rounds();
    mproc_pool *pool = mproc_pool_new(row->producers);
    if (!pool) die("pool", -errno);
    for (uint64_t i = 0; i < BENCH_CHUNKS; i++) in[i] = i;
    double began = now();
    int error = mproc_pool_map(pool, work_task, in, BENCH_CHUNKS, sizeof in[0], out, sizeof out[0]);
    double seconds = now() - began;
    work_check(out, error);
    mproc_pool_free(pool);
    return (struct figure){seconds * 1e3, -1, -1};
}

/* ---- Files ---- */

struct append_job {
    char path[64];
    size_t share;
};
static void append_work(void *ctx, int i) {
    const struct append_job *j = (const struct append_job *)ctx;
    char line[APPEND_LINE];
    mproc_file *file = mproc_file_open(j->path);
    if (!file) die("open", -errno);
    for (size_t k = 0; k < j->share; k++) {
        append_line(line, i, k);
        int error = mproc_file_append(file, line, sizeof line);
        if (error) die("append", error);
    }
    mproc_file_close(file);
}
struct figure run_our_append(const struct row *row, const struct entry *entry, size_t count) {
    struct append_job j = {.share = count / (size_t)row->producers + 1};
    (void)entry;
    append_open(j.path);
    double seconds = run_crowd(row->producers, row->place, NULL, append_work, NULL, &j);
    size_t lines = j.share * (size_t)row->producers;
    append_check(j.path, lines);
    return (struct figure){(double)lines / seconds, -1, -1};
}

/* ---- What waiting costs ---- */

static mproc_queue *idle_queue;
static mproc_ring *idle_ring;
static mproc_conn *idle_end[2];
static mproc_event *idle_event;
static mproc_lock *idle_lock;
static mproc_semaphore *idle_semaphore;
static mproc_barrier *idle_barrier;
static mproc_condition *idle_condition;
static mproc_process idle_process;
static mproc_pool *idle_pool;
static int sleep_task(const void *arg, void *result) {
    (void)arg, (void)result;
    sleep(4);
    return 0;
}
static int sleep_target(void *arg) {
    (void)arg;
    sleep(4);
    return 0;
}

#define IDLE 2.0 /* seconds */
static char idle_item[64];
static void idle_get(void) { mproc_queue_get(idle_queue, idle_item, sizeof idle_item, IDLE); }
static void idle_ring_get(void) { mproc_ring_get(idle_ring, idle_item, IDLE); }
static void idle_recv(void) { mproc_conn_recv(idle_end[0], idle_item, sizeof idle_item, IDLE); }
static void idle_event_wait(void) { mproc_event_wait(idle_event, IDLE); }
static void idle_acquire(void) { mproc_lock_acquire(idle_lock, IDLE); }
static void idle_semaphore_acquire(void) { mproc_semaphore_acquire(idle_semaphore, IDLE); }
static void idle_barrier_wait(void) { mproc_barrier_wait(idle_barrier, IDLE); }
static void idle_condition_wait(void) {
    mproc_condition_acquire(idle_condition, IDLE);
    mproc_condition_wait(idle_condition, IDLE);
}
static void idle_future_wait(void) {
    mproc_future_wait(mproc_pool_apply_async(idle_pool, sleep_task, NULL, 0, 0), IDLE);
}
static void idle_join(void) { mproc_process_join(&idle_process, IDLE); }

static const struct {
    const char *name;
    void (*wait)(void);
} idles[] = {{"queue get", idle_get},
             {"ring get", idle_ring_get},
             {"pipe recv", idle_recv},
             {"event wait", idle_event_wait},
             {"lock acquire", idle_acquire},
             {"semaphore acquire", idle_semaphore_acquire},
             {"barrier wait", idle_barrier_wait},
             {"condition wait", idle_condition_wait},
             {"future wait", idle_future_wait},
             {"process join", idle_join}};
#define IDLES (sizeof idles / sizeof idles[0])

static double cpu_ms(int who) {
    struct rusage use;
    getrusage(who, &use);
    return 1e3 * (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           1e-3 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void idle_work(void *ctx, int i) {
    double *ms = (double *)ctx;
    if (idles[i].wait == idle_join) {
        idle_process.target = sleep_target;
        mproc_process_start(&idle_process);
    }
    double before = cpu_ms(RUSAGE_SELF), began = now();
    idles[i].wait();
    ms[i] = now() - began < 0.99 * IDLE ? -1 : cpu_ms(RUSAGE_SELF) - before;
    if (idles[i].wait == idle_join) mproc_process_kill(&idle_process);
}

void idle_table(void) {
    double *ms = (double *)shared_memory(4096);
    idle_queue = mproc_queue_new(0);
    idle_ring = mproc_ring_new(64, 64);
    mproc_pipe_new(idle_end, false);
    idle_event = mproc_event_new();
    idle_lock = mproc_lock_new();
    idle_semaphore = mproc_semaphore_new(0);
    idle_barrier = mproc_barrier_new(2);
    idle_condition = mproc_condition_new(NULL);
    idle_pool = mproc_pool_new(1);
    mproc_lock_acquire(idle_lock, MPROC_FOREVER);
    run_crowd(IDLES, ANYWHERE, NULL, idle_work, NULL, ms);
    mproc_lock_release(idle_lock);
    mproc_pool_free(idle_pool);
    printf("\n### CPU time of a wait of %.0f s\n\n| | ms | target |\n|---|---|---|\n", IDLE);
    for (size_t i = 0; i < IDLES; i++)
        printf("| %s | %.2f | 5 ms: %s |\n", idles[i].name, ms[i],
               ms[i] >= 0 && ms[i] < 5 ? "met" : "**missed**");
    unshare_memory(ms, 4096);
}

/* ---- How cost grows ---- */

static void growth_of_objects(void) {
    mproc_event **e = (mproc_event **)calloc(100000, sizeof *e);
    puts("\n### Another object beside live ones\n\n| live | ns for new + free |\n|---|---|");
    for (size_t live = 0, next = 1; next <= 100000 && e; next *= 10) {
        for (; live < next; live++)
            if (!(e[live] = mproc_event_new())) die("event", -errno);
        double began = now();
        for (int i = 0; i < 20000; i++) mproc_event_free(mproc_event_new());
        printf("| %zu | %.0f |\n", live, (now() - began) / 20000 * 1e9);
    }
    for (size_t i = 0; e && i < 100000; i++) mproc_event_free(e[i]);
    free(e);
}

static void growth_of_queues(void) {
    static mproc_queue *q[1000];
    char m[64] = {0};
    puts("\n### One message through each of many queues\n\n| queues | ns for put + get |\n|---|---|");
    for (size_t n = 0, next = 1; next <= 1000; next *= 10) {
        for (; n < next; n++)
            if (!(q[n] = mproc_queue_new(1))) die("queue", -errno);
        double began = now();
        for (size_t i = 0; i < 10000; i++)
            if (mproc_queue_put(q[i % n], m, 64, 0) || mproc_queue_get(q[i % n], m, 64, 0) != 64)
                die("queue", 0);
        printf("| %zu | %.0f |\n", n, (now() - began) / 10000 * 1e9);
    }
    for (size_t i = 0; i < 1000; i++) mproc_queue_free(q[i]);
}

static void growth_of_backlog(void) {
    puts("\n### Tasks handed in at once, until the last is done\n\n| tasks | us per task |\n|---|---|");
    for (size_t n = 1; n <= 1000000; n *= 10) {
        mproc_pool_options options = {.workers = 2, .backlog = n};
        mproc_pool *pool = mproc_pool_new_with(&options);
        mproc_future **f = (mproc_future **)calloc(n, sizeof *f);
        if (!pool || !f) die("pool", -errno);
        double began = now();
        for (size_t i = 0; i < n; i++)
            if (!(f[i] = mproc_pool_apply_async(pool, nothing, NULL, 0, 0))) die("apply_async", -errno);
        for (size_t i = 0; i < n; i++)
            if (mproc_future_get(f[i], NULL, MPROC_FOREVER) || mproc_future_free(f[i])) die("future", 0);
        printf("| %zu | %.2f |\n", n, (now() - began) / (double)n * 1e6);
        mproc_pool_free(pool);
        free(f);
    }
    struct row row = {.producers = 2};
    printf("| 10000000 by submit | %.2f |\n", 1e6 / run_our_submit(&row, NULL, 10000000).value);
}

static int nap(const void *arg, void *result) {
    (void)arg, (void)result;
    usleep(10000);
    return 0;
}
static void growth_of_workers(void) {
    puts("\n### Workers, 8 tasks for each that sleep 10 ms\n\n| workers | ms, 80 at best |\n|---|---|");
    for (int n = 1; n <= 256; n *= 4) {
        mproc_pool_options options = {.workers = n, .backlog = 4096};
        mproc_pool *pool = mproc_pool_new_with(&options);
        if (!pool) die("pool", -errno);
        double began = now();
        for (int i = 0; i < 8 * n; i++)
            if (mproc_pool_submit(pool, nap, NULL, 0, MPROC_FOREVER)) die("submit", 0);
        mproc_pool_close(pool);
        mproc_pool_join(pool, MPROC_FOREVER);
        printf("| %d | %.0f |\n", n, (now() - began) * 1e3);
        mproc_pool_free(pool);
    }
}

void growth_tables(void) {
    growth_of_objects();
    growth_of_queues();
    growth_of_backlog();
    growth_of_workers();
}
