/* A stream of measurements, too many for a queue: a ring. Three sensors put batches of them in, one consumer
   takes out what is there and keeps count, mean, minimum and maximum. While both sides are busy neither makes
   a system call. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

#define SENSORS  3
#define READINGS 200000 /* of each sensor */
#define BATCH    64

struct reading {
    int sensor;
    int millidegrees;
};

struct stats {
    long count;
    long long sum;
    int min, max;
};

struct sensor {
    mproc_process process;
    mproc_ring *ring;
    int number;
};

struct consumer {
    mproc_process process;
    mproc_ring *ring;
    struct stats *stats; /* shared: one of each sensor */
};

/* The i-th reading of a sensor; the same numbers each time, so that the result can be checked. */
static struct reading reading_of(int sensor, int i) {
    uint32_t x = ((uint32_t)i * SENSORS + (uint32_t)sensor) * 2654435761u;
    struct reading r = {sensor, (int)((x ^ x >> 15) % 60000) - 20000};
    return r;
}

static void add(struct stats *s, int value) {
    if (s->count == 0 || value < s->min) s->min = value;
    if (s->count == 0 || value > s->max) s->max = value;
    s->count++;
    s->sum += value;
}

static int measure(mproc_process *self) {
    struct sensor *s = (struct sensor *)self;
    struct reading batch[BATCH];
    for (int i = 0; i < READINGS; i += BATCH) {
        int n = READINGS - i < BATCH ? READINGS - i : BATCH;
        for (int k = 0; k < n; k++) batch[k] = reading_of(s->number, i + k);
        if (mproc_ring_put_many(s->ring, batch, (size_t)n, 10.0) != n) return 1;
    }
    return 0;
}

static int consume(mproc_process *self) {
    struct consumer *c = (struct consumer *)self;
    struct reading batch[BATCH];
    ssize_t n;
    while ((n = mproc_ring_get_many(c->ring, batch, BATCH, 10.0)) > 0)
        for (ssize_t k = 0; k < n; k++) add(&c->stats[batch[k].sensor], batch[k].millidegrees);
    return n == MPROC_ECLOSED ? 0 : 1;
}

static bool stream(mproc_ring *ring, struct stats *stats) {
    static struct sensor sensors[SENSORS];
    struct consumer consumer = {.process = {.run = consume}, .ring = ring, .stats = stats};
    bool held = mproc_process_start(&consumer.process) == 0;
    for (int i = 0; i < SENSORS; i++) {
        sensors[i].process.run = measure;
        sensors[i].ring = ring;
        sensors[i].number = i;
        if (mproc_process_start(&sensors[i].process) != 0) held = false;
    }
    for (int i = 0; i < SENSORS; i++)
        if (mproc_process_join(&sensors[i].process, 30.0) != 0 || sensors[i].process.exitcode != 0)
            held = false;
    mproc_ring_close(ring); /* no more: the consumer takes what is left, then is told so */
    return mproc_process_join(&consumer.process, 30.0) == 0 && consumer.process.exitcode == 0 && held;
}

static bool check(const struct stats *stats) {
    bool held = true;
    for (int i = 0; i < SENSORS; i++) {
        struct stats right = {0, 0, 0, 0}, got = stats[i];
        for (int k = 0; k < READINGS; k++) add(&right, reading_of(i, k).millidegrees);
        double mean = got.count ? (double)got.sum / (double)got.count / 1e3 : 0;
        printf("sensor %d: %ld readings, mean %.3f, min %.3f, max %.3f\n", i, got.count, mean, got.min / 1e3,
               got.max / 1e3);
        if (got.count != right.count || got.sum != right.sum || got.min != right.min || got.max != right.max)
            held = false;
    }
    return held;
}

int main(void) {
    mproc_ring *ring = mproc_ring_new(sizeof(struct reading), 1024);
    struct stats *stats = mproc_array_new(struct stats, SENSORS);
    if (!ring || !stats) return perror("ring or array"), 1;
    bool held = stream(ring, stats);
    held = check(stats) && held;
    if (mproc_ring_free(ring) != 0 || mproc_free(stats) != 0) held = false;
    return held ? 0 : 1;
}
