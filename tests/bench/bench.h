/* What the parts of the benchmark share. A row of the table is one job; each contender in it does the same
   job in its own way. The harness forks the processes, pins them, lets them go together, takes the time and
   checks what arrived; a contender only says how to open, put, get (or enter, leave). */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_MAX_ENTRIES 12

enum place { TWO_CPUS, ONE_CPU, ANYWHERE };

enum { NOT_INSTALLED = -1, CANNOT = -2 };

struct row;
struct figure {
    double value;  /* in the row's unit; or one of these: */
    double second; /* p99, a share ...; negative: none */
    double third;  /* of a round trip: p99.9 */
};
struct entry {
    const char *name;
    struct figure (*run)(const struct row *row, const struct entry *entry, size_t count);
    const void *what; /* a struct transport, a struct locker ... */
    size_t count;     /* operations of a run; 0: as many as take RUN_TIME */
    const char *ask;  /* command for a peer that is a program of its own */
};
struct row {
    const char *title, *unit;
    const struct entry *entry;
    size_t size, batch;       /* bytes of a message; messages in one call */
    int producers, consumers; /* or workers, or processes that contend */
    enum place place;
    bool smaller_is_better;
    const char *second; /* what the figures' second number is */
    double
        target[BENCH_MAX_ENTRIES]; /* how many times as fast as that entry ours is to be; 0: nothing said */
};

/* ---- Messages ---- */

/* A way for messages of one size to get from some processes to others. */
struct transport {
    const char *name;
    void *(*open)(size_t size, int producers, int consumers); /* before the fork; NULL: cannot */
    void (*enter)(void *t, bool producer, int index);         /* in each process; may be NULL */
    void (*put)(void *t, const void *items, size_t n);        /* blocks until all are put */
    size_t (*get)(void *t, void *items, size_t n);            /* blocks; 0: nothing came for a while */
    void (*leave)(void *t);                                   /* in each process; may be NULL */
    void (*close)(void *t);
};

extern const struct transport our_queue, our_ring, our_pipe, our_events;
extern const struct transport raw_pipe, raw_packet, raw_mqueue, raw_futex, raw_futex_timed, raw_spin,
    hand_spsc, hand_mpmc;
extern const struct transport boost_queue, boost_spsc, zmq_ipc, nng_ipc;

struct figure run_messages(const struct row *, const struct entry *, size_t count);
struct figure run_round_trip(const struct row *, const struct entry *, size_t count);
struct figure trip_figure(double *trip, size_t n); /* of so many seconds: median, p99, p99.9 in us */

/* ---- Locks ---- */

struct locker {
    const char *name;
    void *(*open)(void);
    void (*join)(void *l); /* in each process; may be NULL */
    void (*enter)(void *l);
    void (*leave)(void *l);
    void (*close)(void *l);
};

extern const struct locker our_lock, raw_mutex, raw_robust, raw_sem, raw_flock, raw_add, boost_mutex;

struct figure run_lock(const struct row *, const struct entry *, size_t count);

/* ---- Tools ---- */

void die(const char *what, int error) __attribute__((noreturn)); /* error: negative errno, or 0 */
double now(void);                                                /* seconds */
void *shared_memory(size_t size);                                /* zeroed, inherited by children */
void unshare_memory(void *p, size_t size);
void take_place(enum place place, int process);
int cpu_number(int i); /* the i-th CPU this program may use, counted round */

/* n processes: enter(ctx, i), then all together work(ctx, i), then, when all have done that, leave(ctx, i).
   The seconds from the start to the end of the last. */
double run_crowd(int n, enum place place, void (*enter)(void *, int), void (*work)(void *, int),
                 void (*leave)(void *, int), void *ctx);

/* A program of its own that answers a line with a number or two: see peer.py, openmp.c. */
enum { PYTHON, OPENMP, PEERS };
struct figure ask_peer(int peer, const char *question);

#ifdef __cplusplus
}
#endif
#endif
