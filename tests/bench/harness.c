/* The harness: processes that start together, the clock, the check of what arrived. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CROWD 1024
#define LINE      128 /* two cache lines: processors fetch them in pairs */

void die(const char *what, int error) {
    fprintf(stderr, "bench: %s: %s\n", what, error ? strerror(-error) : "wrong");
    exit(1);
}

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void *shared_memory(size_t size) {
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap", -errno);
    return p;
}
void unshare_memory(void *p, size_t size) { munmap(p, size); }

/* ---- CPUs ---- */

static cpu_set_t all_cpus;

int cpu_number(int i) {
    if (CPU_COUNT(&all_cpus) == 0) sched_getaffinity(0, sizeof all_cpus, &all_cpus);
    i %= CPU_COUNT(&all_cpus);
    for (int cpu = 0;; cpu++)
        if (CPU_ISSET((size_t)cpu, &all_cpus) && i-- == 0) return cpu;
}

void take_place(enum place place, int process) {
    int cpu = cpu_number(place == ONE_CPU ? 0 : process);
    cpu_set_t set = all_cpus;
    if (place != ANYWHERE) {
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
    }
    sched_setaffinity(0, sizeof set, &set);
}

/* ---- Processes ---- */

struct crowd {
    uint32_t ready, go, done;
    struct {
        double began, ended;
        char apart[LINE - 2 * sizeof(double)];
    } of[MAX_CROWD];
};

static void await(uint32_t *word, uint32_t value) {
    struct timespec moment = {0, 200000};
    for (int i = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) < value; i++)
        if (i > 100) nanosleep(&moment, NULL);
        else sched_yield();
}

static void crowd_member(struct crowd *c, int n, int i, void (*enter)(void *, int), void (*work)(void *, int),
                         void (*leave)(void *, int), void *ctx) {
    if (enter) enter(ctx, i);
    __atomic_add_fetch(&c->ready, 1, __ATOMIC_SEQ_CST);
    await(&c->go, 1);
    c->of[i].began = now();
    work(ctx, i);
    c->of[i].ended = now();
    __atomic_add_fetch(&c->done, 1, __ATOMIC_SEQ_CST);
    await(&c->done, (uint32_t)n); /* what this one has sent may still be on its way */
    if (leave) leave(ctx, i);
    _exit(0);
}

static double crowd_seconds(const struct crowd *c, int n) {
    double began = c->of[0].began, ended = c->of[0].ended;
    for (int i = 1; i < n; i++) {
        if (c->of[i].began < began) began = c->of[i].began;
        if (c->of[i].ended > ended) ended = c->of[i].ended;
    }
    return ended - began;
}

double run_crowd(int n, enum place place, void (*enter)(void *, int), void (*work)(void *, int),
                 void (*leave)(void *, int), void *ctx) {
    static pid_t pid[MAX_CROWD];
    struct crowd *c = (struct crowd *)shared_memory(sizeof *c);
    if (n > MAX_CROWD) die("crowd", -EINVAL);
    fflush(stdout);
    for (int i = 0; i < n; i++) {
        pid[i] = fork();
        if (pid[i] < 0) die("fork", -errno);
        if (pid[i] > 0) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(60); /* a contender that hangs ends the benchmark, not the machine's day */
        take_place(place, i);
        crowd_member(c, n, i, enter, work, leave, ctx);
    }
    await(&c->ready, (uint32_t)n);
    __atomic_store_n(&c->go, 1, __ATOMIC_RELEASE);
    for (int i = 0, status; i < n; i++)
        if (waitpid(pid[i], &status, 0) != pid[i] || status != 0) die("a process of the crowd failed", 0);
    double seconds = crowd_seconds(c, n);
    unshare_memory(c, sizeof *c);
    return seconds;
}

/* ---- Messages ---- */

struct job {
    const struct row *row;
    const struct transport *t;
    void *channel, *back; /* back: the other way of a round trip */
    size_t total;         /* messages */
    double *trip;         /* seconds of each round trip */
    struct {
        uint64_t count, sum;
        char apart[LINE - 16];
    } * got; /* of each consumer */
};

/* Its number stands at the start of each message, at its end, and every so often in between. */
static size_t stride(size_t size) { return size > 65536 ? 4096 : 64; }

static void stamp(char *message, size_t size, uint64_t value) {
    for (size_t at = 0; at < size; at += stride(size)) *(uint64_t *)(void *)(message + at) = value;
    if (size >= 16) *(uint64_t *)(void *)(message + size - 8) = value;
}

static uint64_t check(const char *message, size_t size) {
    if (size == 0) return 0; /* has no room for a number: it is only counted */
    uint64_t value = *(const uint64_t *)(const void *)message, wrong = 0;
    for (size_t at = 0; at < size; at += stride(size))
        wrong |= value ^ *(const uint64_t *)(const void *)(message + at);
    if (size >= 16) wrong |= value ^ *(const uint64_t *)(const void *)(message + size - 8);
    if (wrong) die("a message arrived torn", 0);
    return value;
}

static char *message_buffer(const struct row *row) {
    void *p = NULL;
    size_t size = row->size * row->batch + 1;
    if (posix_memalign(&p, 4096, size) != 0) die("memory", -ENOMEM);
    memset(p, 1, size);
    return (char *)p;
}

static void produce(struct job *j, int index) {
    const struct row *row = j->row;
    size_t share = j->total / (size_t)row->producers, first = share * (size_t)index;
    char *items = message_buffer(row);
    for (size_t i = 0; i < share; i += row->batch) {
        size_t n = share - i < row->batch ? share - i : row->batch;
        for (size_t k = 0; k < n; k++) stamp(items + k * row->size, row->size, first + i + k + 1);
        j->t->put(j->channel, items, n);
    }
}

static size_t all_got(const struct job *j) {
    size_t n = 0;
    for (int i = 0; i < j->row->consumers; i++) n += __atomic_load_n(&j->got[i].count, __ATOMIC_ACQUIRE);
    return n;
}

/* Each consumer takes its share, but for transports that share out the messages themselves: there it takes
   what comes until all have come. */
static void consume(struct job *j, int index) {
    const struct row *row = j->row;
    size_t share = j->total / (size_t)row->consumers, count = 0, n;
    uint64_t sum = 0;
    char *items = message_buffer(row);
    bool pushed = j->t->leave != NULL && row->consumers > 1;
    while (pushed ? all_got(j) < j->total : count < share) {
        n = pushed || share - count > row->batch ? row->batch : share - count;
        n = j->t->get(j->channel, items, n);
        for (size_t k = 0; k < n; k++) sum += check(items + k * row->size, row->size);
        count += n;
        if (pushed) __atomic_store_n(&j->got[index].count, count, __ATOMIC_RELEASE);
    }
    j->got[index].sum = sum;
    j->got[index].count = count;
}

static void messages_enter(void *ctx, int i) {
    struct job *j = (struct job *)ctx;
    bool producer = i < j->row->producers;
    int index = producer ? i : i - j->row->producers;
    /* producers and consumers alternate over the CPUs: a lone pair has one each */
    if (j->row->producers + j->row->consumers > 2) take_place(j->row->place, producer ? index : index + 1);
    if (j->t->enter) j->t->enter(j->channel, producer, index);
}
static void messages_work(void *ctx, int i) {
    struct job *j = (struct job *)ctx;
    if (i < j->row->producers) produce(j, i);
    else consume(j, i - j->row->producers);
}
static void messages_leave(void *ctx, int i) {
    struct job *j = (struct job *)ctx;
    (void)i;
    if (j->t->leave) j->t->leave(j->channel);
}

static const struct figure missing = {NOT_INSTALLED, -1, -1}, unable = {CANNOT, -1, -1};

struct figure run_messages(const struct row *row, const struct entry *entry, size_t count) {
    struct job j = {.row = row, .t = (const struct transport *)entry->what};
    size_t parts = (size_t)(row->producers * row->consumers),
           got_size = (size_t)row->consumers * sizeof *j.got;
    uint64_t sum = 0, right;
    if (!j.t->open) return missing;
    if (!(j.channel = j.t->open(row->size, row->producers, row->consumers))) return unable;
    j.total = (count + parts - 1) / parts * parts;
    j.got = shared_memory(got_size);
    double seconds = run_crowd(row->producers + row->consumers, row->place, messages_enter, messages_work,
                               messages_leave, &j);
    for (int i = 0; i < row->consumers; i++) sum += j.got[i].sum;
    right = row->size > 0 ? j.total * (j.total + 1) / 2 : 0;
    if (all_got(&j) != j.total || sum != right) die(entry->name, 0);
    unshare_memory(j.got, got_size);
    j.t->close(j.channel);
    return (struct figure){(double)j.total / seconds, -1, -1};
}

/* ---- Round trips ---- */

static void trip_enter(void *ctx, int i) {
    struct job *j = (struct job *)ctx;
    if (!j->t->enter) return;
    j->t->enter(j->channel, i == 0, 0);
    j->t->enter(j->back, i == 1, 0);
}
static void trip_work(void *ctx, int i) {
    struct job *j = (struct job *)ctx;
    char *m = message_buffer(j->row);
    for (size_t k = 0; k < j->total; k++) {
        double began = now();
        if (i == 0) {
            stamp(m, j->row->size, k + 1);
            j->t->put(j->channel, m, 1);
            while (j->t->get(j->back, m, 1) == 0) continue;
            j->trip[k] = now() - began;
            if (check(m, j->row->size) != k + 1) die("round trip", 0);
        } else {
            while (j->t->get(j->channel, m, 1) == 0) continue;
            j->t->put(j->back, m, 1);
        }
    }
}
static void trip_leave(void *ctx, int i) {
    struct job *j = (struct job *)ctx;
    (void)i;
    if (!j->t->leave) return;
    j->t->leave(j->channel);
    j->t->leave(j->back);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct figure trip_figure(double *trip, size_t n) {
    qsort(trip, n, sizeof *trip, by_size);
    return (struct figure){trip[n / 2] * 1e6, trip[n - 1 - n / 100] * 1e6, trip[n - 1 - n / 1000] * 1e6};
}

struct figure run_round_trip(const struct row *row, const struct entry *entry, size_t count) {
    struct job j = {.row = row, .t = (const struct transport *)entry->what, .total = count};
    if (!j.t->open) return missing;
    j.channel = j.t->open(row->size, 1, 1);
    j.back = j.t->open(row->size, 1, 1);
    if (!j.channel || !j.back) return unable;
    j.trip = (double *)shared_memory(count * sizeof *j.trip);
    run_crowd(2, row->place, trip_enter, trip_work, trip_leave, &j);
    struct figure f = trip_figure(j.trip, count);
    unshare_memory(j.trip, count * sizeof *j.trip);
    j.t->close(j.channel);
    j.t->close(j.back);
    return f;
}

/* ---- Locks ---- */

struct lock_job {
    const struct locker *l;
    void *lock;
    size_t count;      /* pairs of each process; 0: until the time is up */
    uint64_t *counter; /* what the lock guards */
    struct {
        uint64_t pairs;
        double ended;
        char apart[LINE - 16];
    } * of;
};

static void lock_enter(void *ctx, int i) {
    struct lock_job *j = (struct lock_job *)ctx;
    (void)i;
    if (j->l->join) j->l->join(j->lock);
}
static void lock_work(void *ctx, int i) {
    struct lock_job *j = (struct lock_job *)ctx;
    double end = now() + 0.05;
    uint64_t n = 0;
    bool bare = j->l->enter == NULL; /* no lock: an atomic addition */
    do {
        for (int k = 0; k < 64; k++, n++) {
            if (bare) {
                __atomic_add_fetch(j->counter, 1, __ATOMIC_SEQ_CST);
                continue;
            }
            j->l->enter(j->lock);
            *(volatile uint64_t *)j->counter += 1;
            j->l->leave(j->lock);
        }
    } while (j->count ? n < j->count : now() < end);
    j->of[i].pairs = n;
}

/* One process: nanoseconds of a pair. Several: all their pairs in a second, and the smallest share of a
   process as a part of a fair one. */
struct figure run_lock(const struct row *row, const struct entry *entry, size_t count) {
    int n = row->producers;
    struct lock_job j = {.l = (const struct locker *)entry->what, .count = n == 1 ? count : 0};
    if (!j.l->open) return missing;
    j.lock = j.l->open();
    j.counter = (uint64_t *)shared_memory(LINE);
    j.of = shared_memory((size_t)n * sizeof *j.of);
    double seconds = run_crowd(n, row->place, lock_enter, lock_work, NULL, &j);
    uint64_t sum = 0, least = UINT64_MAX;
    for (int i = 0; i < n; i++) {
        sum += j.of[i].pairs;
        if (j.of[i].pairs < least) least = j.of[i].pairs;
    }
    if (sum != *j.counter) die(entry->name, 0);
    unshare_memory(j.counter, LINE);
    unshare_memory(j.of, (size_t)n * sizeof *j.of);
    j.l->close(j.lock);
    if (n == 1) return (struct figure){seconds / (double)sum * 1e9, -1, -1};
    return (struct figure){(double)sum / seconds, (double)least * n / (double)sum, -1};
}
