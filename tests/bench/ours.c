/* What the header has to offer, as contenders. */
#define MPROC_IMPLEMENTATION
#include "../../mproc.h"
#include "bench.h"
#include "ours.h"
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
