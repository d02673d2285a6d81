/* Contenders that need nothing but libc and the kernel, and the hand-written ones that show what the machine
   can do when nobody ever dies. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE __attribute__((aligned(128)))

static void futex_wait(uint32_t *word, uint32_t value) {
    syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}
static void futex_wake(uint32_t *word, int n) { syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0); }

/* ---- A pipe, a socket pair ---- */

struct fds {
    int fd[2]; /* to read, to write */
    size_t size;
};

static void *pipe_open(size_t size, int producers, int consumers) {
    struct fds *p = (struct fds *)malloc(sizeof *p);
    (void)producers, (void)consumers;
    if (!p || pipe2(p->fd, O_CLOEXEC) != 0) die("pipe", -errno);
    p->size = size;
    if (size > 4096) fcntl(p->fd[1], F_SETPIPE_SZ, 1 << 20); /* its best */
    return p;
}
static void pipe_put(void *t, const void *items, size_t n) {
    const struct fds *p = (const struct fds *)t;
    const char *from = (const char *)items;
    for (size_t left = n * p->size; left > 0;) {
        ssize_t bytes = write(p->fd[1], from, left);
        if (bytes <= 0) die("write", -errno);
        from += bytes;
        left -= (size_t)bytes;
    }
}
static size_t pipe_get(void *t, void *items, size_t n) {
    const struct fds *p = (const struct fds *)t;
    size_t done = 0;
    do {
        ssize_t bytes = read(p->fd[0], (char *)items + done, n * p->size - done);
        if (bytes <= 0) die("read", -errno);
        done += (size_t)bytes;
    } while (done % p->size != 0);
    return done / p->size;
}
static void fds_close(void *t) {
    struct fds *p = (struct fds *)t;
    close(p->fd[0]);
    close(p->fd[1]);
    free(p);
}
const struct transport raw_pipe = {"raw pipe", pipe_open, NULL, pipe_put, pipe_get, NULL, fds_close};

static void *packet_open(size_t size, int producers, int consumers) {
    struct fds *p = (struct fds *)malloc(sizeof *p);
    int room = (int)size * 4;
    (void)producers, (void)consumers;
    if (!p || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->fd) != 0) die("socketpair", -errno);
    p->size = size;
    if (size > 4096) setsockopt(p->fd[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    char *probe = (char *)calloc(1, size);
    bool fits = send(p->fd[1], probe, size, 0) == (ssize_t)size && recv(p->fd[0], probe, size, 0) > 0;
    free(probe);
    if (fits) return p;
    fds_close(p);
    return NULL;
}
static void packet_put(void *t, const void *items, size_t n) {
    const struct fds *p = (const struct fds *)t;
    for (size_t i = 0; i < n; i++)
        if (send(p->fd[1], (const char *)items + i * p->size, p->size, 0) < 0) die("send", -errno);
}
static size_t packet_get(void *t, void *items, size_t n) {
    const struct fds *p = (const struct fds *)t;
    (void)n;
    if (recv(p->fd[0], items, p->size, 0) != (ssize_t)p->size) die("recv", -errno);
    return 1;
}
const struct transport raw_packet = {
    "SEQPACKET socketpair", packet_open, NULL, packet_put, packet_get, NULL, fds_close};

/* ---- POSIX message queue ---- */

static void *mqueue_open(size_t size, int producers, int consumers) {
    struct fds *p = (struct fds *)malloc(sizeof *p);
    struct mq_attr attr = {.mq_maxmsg = 10, .mq_msgsize = (long)size};
    char name[64];
    static int number;
    (void)producers, (void)consumers;
    snprintf(name, sizeof name, "/mproc-bench-%d-%d", (int)getpid(), number++);
    if (!p) die("memory", -ENOMEM);
    p->size = size;
    p->fd[0] = p->fd[1] = -1;
    for (long most = 1024; most >= 10 && p->fd[0] < 0; most = most == 10 ? 0 : most > 20 ? most / 2 : 10) {
        attr.mq_maxmsg = most; /* more than 10 for the privileged only */
        p->fd[0] = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
    }
    if (p->fd[0] < 0) {
        free(p);
        return NULL;
    }
    mq_unlink(name);
    return p;
}
static void mqueue_put(void *t, const void *items, size_t n) {
    const struct fds *p = (const struct fds *)t;
    for (size_t i = 0; i < n; i++)
        if (mq_send(p->fd[0], (const char *)items + i * p->size, p->size, 0) != 0) die("mq_send", -errno);
}
static size_t mqueue_get(void *t, void *items, size_t n) {
    const struct fds *p = (const struct fds *)t;
    (void)n;
    if (mq_receive(p->fd[0], (char *)items, p->size, NULL) < 0) die("mq_receive", -errno);
    return 1;
}
const struct transport raw_mqueue = {"POSIX mqueue", mqueue_open, NULL,     mqueue_put,
                                     mqueue_get,     NULL,        fds_close};

/* ---- One place for one message: by futex, and spinning ---- */

struct slot {
    size_t size;
    LINE uint32_t full;
    LINE char data[65536];
};

static void *slot_open(size_t size, int producers, int consumers) {
    struct slot *s = (struct slot *)shared_memory(sizeof *s);
    if (size > sizeof s->data || producers != 1 || consumers != 1) return NULL;
    s->size = size;
    return s;
}
static void slot_close(void *t) { unshare_memory(t, sizeof(struct slot)); }

/* For round trips: the place is always empty. */
static void slot_fill(struct slot *s, const void *items) {
    memcpy(s->data, items, s->size);
    __atomic_store_n(&s->full, 1, __ATOMIC_SEQ_CST);
}
static void slot_empty(struct slot *s, void *items) {
    memcpy(items, s->data, s->size);
    __atomic_store_n(&s->full, 0, __ATOMIC_SEQ_CST);
}
static void slot_put(void *t, const void *items, size_t n) {
    struct slot *s = (struct slot *)t;
    (void)n;
    slot_fill(s, items);
    futex_wake(&s->full, 1);
}
static size_t slot_get(void *t, void *items, size_t n) {
    struct slot *s = (struct slot *)t;
    (void)n;
    while (__atomic_load_n(&s->full, __ATOMIC_SEQ_CST) == 0) futex_wait(&s->full, 0);
    slot_empty(s, items);
    return 1;
}
const struct transport raw_futex = {"futex", slot_open, NULL, slot_put, slot_get, NULL, slot_close};

/* The same, with sleeps that end by themselves, as whoever must not miss a death has them. */
static size_t timed_get(void *t, void *items, size_t n) {
    struct slot *s = (struct slot *)t;
    struct timespec slice = {0, 100000000};
    (void)n;
    while (__atomic_load_n(&s->full, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_futex, &s->full, FUTEX_WAIT, 0, &slice, NULL, 0);
    slot_empty(s, items);
    return 1;
}
const struct transport raw_futex_timed = {
    "futex, waits of 100 ms", slot_open, NULL, slot_put, timed_get, NULL, slot_close};

static void spin_put(void *t, const void *items, size_t n) {
    (void)n;
    slot_fill((struct slot *)t, items);
}
static size_t spin_get(void *t, void *items, size_t n) {
    struct slot *s = (struct slot *)t;
    (void)n;
    while (__atomic_load_n(&s->full, __ATOMIC_ACQUIRE) == 0) continue;
    slot_empty(s, items);
    return 1;
}
const struct transport raw_spin = {"limit: spinning", slot_open, NULL, spin_put, spin_get, NULL, slot_close};

/* ---- A ring for one producer and one consumer, that sleeps on futexes ---- */

#define RING  1024 /* items */
#define SPINS 4000 /* looks before a sleep, some 100 us */

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

struct spsc {
    size_t size;
    LINE uint64_t head; /* consumer's */
    uint64_t tail_seen;
    LINE uint64_t tail; /* producer's */
    uint64_t head_seen;
    LINE uint32_t consumer_sleeps, producer_sleeps;
    LINE char data[];
};

static void *spsc_open(size_t size, int producers, int consumers) {
    if (producers != 1 || consumers != 1) return NULL;
    struct spsc *r = (struct spsc *)shared_memory(sizeof *r + RING * size);
    r->size = size;
    return r;
}
static void spsc_close(void *t) {
    struct spsc *r = (struct spsc *)t;
    unshare_memory(r, sizeof *r + RING * r->size);
}

static void sleep_while(uint64_t *position, uint64_t value, uint32_t *flag) {
    for (int i = 0; i < SPINS; i++, relax())
        if (__atomic_load_n(position, __ATOMIC_ACQUIRE) != value) return;
    __atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(position, __ATOMIC_SEQ_CST) == value) futex_wait(flag, 1);
    __atomic_store_n(flag, 0, __ATOMIC_SEQ_CST);
}
static void wake_sleeper(uint32_t *flag) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the position moved before the flag is looked at */
    if (__atomic_load_n(flag, __ATOMIC_RELAXED) == 0) return;
    __atomic_store_n(flag, 0, __ATOMIC_SEQ_CST);
    futex_wake(flag, 1);
}

static void ring_copy(char *data, size_t size, uint64_t at, char *items, size_t n, bool in) {
    size_t from = at % RING, first = n < RING - from ? n : RING - from;
    if (in) {
        memcpy(data + from * size, items, first * size);
        memcpy(data, items + first * size, (n - first) * size);
    } else {
        memcpy(items, data + from * size, first * size);
        memcpy(items + first * size, data, (n - first) * size);
    }
}

static void spsc_put(void *t, const void *items, size_t n) {
    struct spsc *r = (struct spsc *)t;
    char *from = (char *)(uintptr_t)items;
    while (n > 0) {
        uint64_t room = RING - (r->tail - r->head_seen);
        if (room < n) {
            r->head_seen = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE);
            room = RING - (r->tail - r->head_seen);
        }
        if (room == 0) {
            sleep_while(&r->head, r->head_seen, &r->producer_sleeps);
            continue;
        }
        size_t now_ = room < n ? room : n;
        ring_copy(r->data, r->size, r->tail, from, now_, true);
        __atomic_store_n(&r->tail, r->tail + now_, __ATOMIC_RELEASE);
        wake_sleeper(&r->consumer_sleeps);
        from += now_ * r->size;
        n -= now_;
    }
}
static size_t spsc_get(void *t, void *items, size_t n) {
    struct spsc *r = (struct spsc *)t;
    while (r->tail_seen == r->head) {
        r->tail_seen = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
        if (r->tail_seen == r->head) sleep_while(&r->tail, r->head, &r->consumer_sleeps);
    }
    uint64_t there = r->tail_seen - r->head;
    if (there < n) n = there;
    ring_copy(r->data, r->size, r->head, (char *)items, n, false);
    __atomic_store_n(&r->head, r->head + n, __ATOMIC_RELEASE);
    if (r->producer_sleeps && r->tail - r->head <= RING / 2) wake_sleeper(&r->producer_sleeps);
    return n;
}
const struct transport hand_spsc = {
    "limit: hand-written SPSC", spsc_open, NULL, spsc_put, spsc_get, NULL, spsc_close};

/* ---- A ring for many: a sequence number at each item (after D. Vyukov). A process killed between taking its
   place and publishing it stops everybody. ---- */

struct cell {
    uint64_t turn;
    char data[64];
};
struct mpmc {
    LINE uint64_t head;
    LINE uint64_t tail;
    LINE uint32_t consumers_sleep;
    LINE uint32_t producers_sleep;
    LINE struct cell cell[RING];
};

static void *mpmc_open(size_t size, int producers, int consumers) {
    (void)producers, (void)consumers;
    if (size != 64) return NULL;
    struct mpmc *r = (struct mpmc *)shared_memory(sizeof *r);
    for (uint64_t i = 0; i < RING; i++) r->cell[i].turn = i;
    return r;
}
static void mpmc_close(void *t) { unshare_memory(t, sizeof(struct mpmc)); }

/* Takes the next place of one end; NULL: it is not free (or not filled) yet. */
static struct cell *mpmc_claim(struct mpmc *r, uint64_t *end, uint64_t offset, uint64_t *at) {
    *at = __atomic_load_n(end, __ATOMIC_RELAXED);
    for (;;) {
        struct cell *c = &r->cell[*at % RING];
        int64_t ahead = (int64_t)(__atomic_load_n(&c->turn, __ATOMIC_ACQUIRE) - (*at + offset));
        if (ahead < 0) return NULL;
        if (ahead > 0) *at = __atomic_load_n(end, __ATOMIC_RELAXED);
        else if (__atomic_compare_exchange_n(end, at, *at + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return c;
    }
}
static struct cell *mpmc_await(struct mpmc *r, uint64_t *end, uint64_t offset, uint64_t *at, uint32_t *flag) {
    for (struct cell *c;;) {
        for (int i = 0; i < SPINS; i++, relax())
            if ((c = mpmc_claim(r, end, offset, at)) != NULL) return c;
        __atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
        if ((c = mpmc_claim(r, end, offset, at)) != NULL) return c;
        futex_wait(flag, 1);
    }
}
static void mpmc_put(void *t, const void *items, size_t n) {
    struct mpmc *r = (struct mpmc *)t;
    for (size_t i = 0; i < n; i++) {
        uint64_t at;
        struct cell *c = mpmc_await(r, &r->tail, 0, &at, &r->producers_sleep);
        memcpy(c->data, (const char *)items + i * sizeof c->data, sizeof c->data);
        __atomic_store_n(&c->turn, at + 1, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&r->consumers_sleep, __ATOMIC_SEQ_CST)) continue;
        __atomic_store_n(&r->consumers_sleep, 0, __ATOMIC_SEQ_CST);
        futex_wake(&r->consumers_sleep, INT_MAX);
    }
}
static size_t mpmc_get(void *t, void *items, size_t n) {
    struct mpmc *r = (struct mpmc *)t;
    uint64_t at;
    (void)n;
    struct cell *c = mpmc_await(r, &r->head, 1, &at, &r->consumers_sleep);
    memcpy(items, c->data, sizeof c->data);
    __atomic_store_n(&c->turn, at + RING, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&r->producers_sleep, __ATOMIC_SEQ_CST) &&
        __atomic_load_n(&r->tail, __ATOMIC_SEQ_CST) - __atomic_load_n(&r->head, __ATOMIC_SEQ_CST) <=
            RING / 2) {
        __atomic_store_n(&r->producers_sleep, 0, __ATOMIC_SEQ_CST);
        futex_wake(&r->producers_sleep, INT_MAX);
    }
    return 1;
}
const struct transport hand_mpmc = {
    "limit: hand-written MPMC", mpmc_open, NULL, mpmc_put, mpmc_get, NULL, mpmc_close};

/* ---- Locks ---- */

static void *mutex_make(int robust) {
    pthread_mutex_t *m = (pthread_mutex_t *)shared_memory(sizeof *m);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, robust);
    if (pthread_mutex_init(m, &attr) != 0) die("mutex", 0);
    return m;
}
static void *mutex_open(void) { return mutex_make(PTHREAD_MUTEX_STALLED); }
static void *robust_open(void) { return mutex_make(PTHREAD_MUTEX_ROBUST); }
static void mutex_enter(void *l) { pthread_mutex_lock((pthread_mutex_t *)l); }
static void mutex_leave(void *l) { pthread_mutex_unlock((pthread_mutex_t *)l); }
static void mutex_close(void *l) { unshare_memory(l, sizeof(pthread_mutex_t)); }
const struct locker raw_mutex = {"pthread pshared", mutex_open, NULL, mutex_enter, mutex_leave, mutex_close};
const struct locker raw_robust = {"pthread robust", robust_open, NULL, mutex_enter, mutex_leave, mutex_close};

static void *sem_make(void) {
    sem_t *s = (sem_t *)shared_memory(sizeof *s);
    if (sem_init(s, 1, 1) != 0) die("sem_init", -errno);
    return s;
}
static void sem_enter(void *l) {
    while (sem_wait((sem_t *)l) != 0) continue;
}
static void sem_leave(void *l) { sem_post((sem_t *)l); }
static void sem_drop(void *l) { unshare_memory(l, sizeof(sem_t)); }
const struct locker raw_sem = {"sem_t", sem_make, NULL, sem_enter, sem_leave, sem_drop};

static int flock_fd; /* of each process: flock belongs to what was opened */
static void *flock_open(void) {
    char *path = strdup("/tmp/mproc-bench-XXXXXX");
    flock_fd = mkstemp(path);
    return path;
}
static void flock_join(void *l) { flock_fd = open((const char *)l, O_RDWR | O_CLOEXEC); }
static void flock_enter(void *l) {
    (void)l;
    if (flock(flock_fd, LOCK_EX) != 0) die("flock", -errno);
}
static void flock_leave(void *l) {
    (void)l;
    flock(flock_fd, LOCK_UN);
}
static void flock_close(void *l) {
    unlink((const char *)l);
    close(flock_fd);
    free(l);
}
const struct locker raw_flock = {"flock", flock_open, flock_join, flock_enter, flock_leave, flock_close};

static void *add_open(void) { return shared_memory(1); }
static void add_close(void *l) { unshare_memory(l, 1); }
const struct locker raw_add = {"limit: atomic add", add_open, NULL, NULL, NULL, add_close};
