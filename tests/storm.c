/* storm [seconds [object...]] - eight processes use one object (or, named "all", every kind of object at
   once) as hard as they can; every 20 ms one of them, chosen at random, is killed by SIGKILL and replaced. In
   every second there must be progress, what the object promises is checked all the while, and in the end all
   must come out of their calls by themselves.

   Prints a line for each object, and leaves with 1 if any of them failed. MPROC_TEST_SEED repeats the
   choices. The processes in even slots give (produce, set, send), those in odd slots take, where that makes a
   difference. */
#define MPROC_IMPLEMENTATION
#include "support.h"
#include <stdarg.h>
#include <sys/prctl.h>

enum {
    SLOTS = 8,
    PERMITS = 4,     /* of the semaphore */
    ROOM = 5,        /* places of the bounded buffer that the condition guards */
    BATCH = 5,       /* items moved by one call, at most */
    LIVES = 16384,   /* of producers; each counts its items from 0 */
    LIFE = 1 << 16,  /* items of a life */
    PASSES = 200,    /* through the barrier, when nobody is killed any more */
    LARGE = 1 << 18, /* bytes of the largest message */
};

/* What the processes of a storm share, besides the object itself. */
typedef struct world {
    int stop, pause, closed, broken;
    uint32_t idle, holding; /* a bit for each slot */
    uint32_t lives;
    uint64_t progress, repaired;
    uint64_t pair[2], rpair[2]; /* each two equal whenever the lock, the recursive lock is free */
    uint64_t puts, gets;        /* of the bounded buffer: each changed by one store under the lock */
    uint32_t put[LIVES];        /* items that the producer of that life knows it has put */
    uint32_t seen[LIVES][LIFE / 32];
    int place[PASSES][SLOTS];
    uint64_t by_kind[32]; /* of all at once: operations on each kind of object */
    uint32_t refilled;    /* permits put into the semaphore because none was left */
    bool of_pool[LIVES];  /* this life's items are tasks of the pool */
} world;
static world *w;

static struct {
    mproc_lock *lock;
    mproc_rlock *rlock;
    mproc_semaphore *semaphore;
    mproc_event *event;
    mproc_barrier *barrier;
    mproc_conn *end[2];
    mproc_queue *queue;
    mproc_ring *ring;
    struct {
        mproc_lock *lock;
        mproc_condition *not_full, *not_empty;
    } buffer;
    mproc_pool *pool;
    mproc_file *file;
    int *counter; /* with its lock */
    char folder[64], path[96];
} it; /* the object of the storm */

static pid_t pids[SLOTS];
static int givers_killed, takers_killed;
static bool short_buffers; /* receive into buffers that are sometimes too small; then order is not checked */
static uint64_t seed;
static bool failed, failed_ever;

static void complain(const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("FAILED: ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    failed = failed_ever = true;
}
#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition)) complain("%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
    } while (0)

static bool gives(int slot) { return slot % 2 == 0; }
static bool stopping(void) { return PEEK(&w->stop) != 0; }
static void advance(void) { BUMP(&w->progress); }

/* ---- Lock and recursive lock ----------------------------------------------------------------------------
 */

static bool make_lock(void) { return (it.lock = mproc_lock_new()) != NULL; }
static bool make_rlock(void) { return (it.rlock = mproc_rlock_new()) != NULL; }

/* With the lock held: what a killed holder left half done must have been announced. */
static void change(int error, uint64_t pair[2]) {
    volatile uint64_t *first = &pair[0], *second = &pair[1];
    if (error == MPROC_EOWNERDEAD) {
        *second = *first;
        BUMP(&w->repaired);
    } else {
        MUST_EQ(error, 0);
    }
    MUST(*first == *second);
    ++*first;
    for (volatile int i = 0; i < 20; i++) continue;
    ++*second;
    advance();
}

static int work_lock(int slot) {
    uint64_t luck = seed + (uint64_t)slot;
    while (!stopping()) {
        bool timed = draw(&luck) % 4 == 0;
        int error = mproc_lock_acquire(it.lock, timed ? 0.001 : MPROC_FOREVER);
        if (timed && error == MPROC_ETIMEDOUT) continue;
        change(error, w->pair);
        MUST_EQ(mproc_lock_release(it.lock), 0);
    }
    return 0;
}

static int work_rlock(int slot) {
    uint64_t luck = seed + (uint64_t)slot;
    while (!stopping()) {
        int depth = 1 + (int)(draw(&luck) % 3);
        for (int i = 0; i < depth; i++) {
            int error = mproc_rlock_acquire(it.rlock, MPROC_FOREVER);
            MUST(i == 0 || error == 0);
            change(error, w->rpair);
        }
        for (int i = 0; i < depth; i++) MUST_EQ(mproc_rlock_release(it.rlock), 0);
    }
    return 0;
}

static void check_lock(void) {
    int error = mproc_lock_acquire(it.lock, 1);
    EXPECT(error == 0); /* all have left it in peace */
    EXPECT(w->pair[0] == w->pair[1]);
    EXPECT(mproc_lock_release(it.lock) == 0);
    EXPECT(mproc_lock_free(it.lock) == 0);
}
static void check_rlock(void) {
    EXPECT(mproc_rlock_acquire(it.rlock, 1) == 0);
    EXPECT(w->rpair[0] == w->rpair[1]);
    EXPECT(mproc_rlock_release(it.rlock) == 0);
    EXPECT(mproc_rlock_release(it.rlock) == MPROC_EPERM);
    EXPECT(mproc_rlock_free(it.rlock) == 0);
}

/* ---- Semaphore ------------------------------------------------------------------------------------------
 */

/* The permits of the killed are gone, as the manual says. So now and then all pause, with some permits more
   so that nobody stays blocked, and what is missing is made up for. */

static bool make_semaphore(void) { return (it.semaphore = mproc_semaphore_new(PERMITS)) != NULL; }

static void await_pause_end(uint32_t bit) {
    __atomic_fetch_or(&w->idle, bit, __ATOMIC_SEQ_CST);
    while (PEEK(&w->pause) && !stopping()) nap(0.0002);
    __atomic_fetch_and(&w->idle, ~bit, __ATOMIC_SEQ_CST);
}

static int work_semaphore(int slot) {
    uint64_t luck = seed + (uint64_t)slot;
    uint32_t bit = (uint32_t)1 << slot;
    while (!stopping()) {
        if (PEEK(&w->pause)) await_pause_end(bit);
        bool timed = draw(&luck) % 4 == 0;
        int error = mproc_semaphore_acquire(it.semaphore, timed ? 0.001 : MPROC_FOREVER);
        if (timed && error == MPROC_ETIMEDOUT) continue;
        MUST_EQ(error, 0);
        uint32_t holding = __atomic_or_fetch(&w->holding, bit, __ATOMIC_SEQ_CST);
        if (!PEEK(&w->pause)) MUST(stopping() || __builtin_popcount(holding) <= PERMITS);
        __atomic_fetch_and(&w->holding, ~bit, __ATOMIC_SEQ_CST);
        MUST_EQ(mproc_semaphore_release(it.semaphore), 0);
        advance();
    }
    return 0;
}

static void more_permits(void) {
    for (int i = 0; i < SLOTS; i++) EXPECT(mproc_semaphore_release(it.semaphore) == 0);
}

static void restore_permits(void) {
    double give_up = now() + 5 * SLOW;
    POKE(&w->pause, 1);
    more_permits();
    while (PEEK(&w->idle) != (1u << SLOTS) - 1 && now() < give_up) nap(0.0002);
    int value = mproc_semaphore_value(it.semaphore);
    if (PEEK(&w->idle) != (1u << SLOTS) - 1) complain("semaphore: a process stays blocked, value %d", value);
    if (value < SLOTS || value > PERMITS + SLOTS) complain("semaphore: value %d", value);
    if (value < PERMITS + SLOTS) w->repaired += (uint64_t)(PERMITS + SLOTS - value);
    for (; value > PERMITS; value--) EXPECT(mproc_semaphore_acquire(it.semaphore, 0) == 0);
    for (; value < PERMITS; value++) EXPECT(mproc_semaphore_release(it.semaphore) == 0);
    POKE(&w->pause, 0);
}

static void tick_semaphore(void) {
    if ((givers_killed + takers_killed) % 5 == 0) restore_permits();
}

static void check_semaphore(void) {
    int value = mproc_semaphore_value(it.semaphore);
    EXPECT(value >= SLOTS && value <= SLOTS + PERMITS);
    EXPECT(mproc_semaphore_free(it.semaphore) == 0);
}

/* ---- Event ----------------------------------------------------------------------------------------------
 */

static bool make_event(void) { return (it.event = mproc_event_new()) != NULL; }

static int work_event(int slot) {
    uint64_t luck = seed + (uint64_t)slot;
    while (!stopping()) {
        if (!gives(slot)) {
            MUST_EQ(mproc_event_wait(it.event, MPROC_FOREVER), 0);
            advance();
            continue;
        }
        MUST_EQ(mproc_event_set(it.event), 0);
        if (draw(&luck) % 16 == 0) nap(0.00001);
        MUST_EQ(mproc_event_clear(it.event), 0);
        if (draw(&luck) % 8 == 0) nap(0.0005);
    }
    return 0;
}
static void stop_event(void) { EXPECT(mproc_event_set(it.event) == 0); }
static void check_event(void) {
    EXPECT(mproc_event_wait(it.event, MPROC_FOREVER) == 0);
    EXPECT(mproc_event_clear(it.event) == 0);
    EXPECT(mproc_event_wait(it.event, 0.01) == MPROC_ETIMEDOUT);
    EXPECT(mproc_event_free(it.event) == 0);
}

/* ---- Condition ------------------------------------------------------------------------------------------
 */

static bool make_condition(void) {
    it.buffer.lock = mproc_lock_new();
    it.buffer.not_full = mproc_condition_new(it.buffer.lock);
    it.buffer.not_empty = mproc_condition_new(it.buffer.lock);
    return it.buffer.not_full != NULL && it.buffer.not_empty != NULL;
}

static bool not_full(void *ctx) {
    (void)ctx;
    return w->puts - w->gets < ROOM;
}
static bool not_empty(void *ctx) {
    (void)ctx;
    return w->puts != w->gets || w->closed;
}

/* With the lock held. A holder that was killed may have changed the buffer and told nobody. */
static void look_at_buffer(int error) {
    MUST(w->puts - w->gets <= ROOM);
    if (error != MPROC_EOWNERDEAD) return;
    BUMP(&w->repaired);
    MUST_EQ(mproc_condition_notify_all(it.buffer.not_full), 0);
    MUST_EQ(mproc_condition_notify_all(it.buffer.not_empty), 0);
}

static int work_condition(int slot) {
    bool put = gives(slot);
    mproc_condition *mine = put ? it.buffer.not_full : it.buffer.not_empty,
                    *other = put ? it.buffer.not_empty : it.buffer.not_full;
    while (!stopping() || !put) {
        int error = mproc_condition_acquire(mine, MPROC_FOREVER);
        for (;; error = mproc_condition_wait_for(mine, put ? not_full : not_empty, NULL, MPROC_FOREVER)) {
            MUST(error == 0 || error == MPROC_EOWNERDEAD);
            look_at_buffer(error);
            if (put ? not_full(NULL) : not_empty(NULL)) break;
        }
        bool end = !put && w->puts == w->gets;
        if (!end) POKE(put ? &w->puts : &w->gets, (put ? w->puts : w->gets) + 1);
        if (!end) MUST_EQ(mproc_condition_notify(other, 1), 0);
        MUST_EQ(mproc_condition_release(mine), 0);
        if (end) return 0;
        advance();
    }
    return 0;
}

static void stop_condition(void) {
    int error = mproc_condition_acquire(it.buffer.not_empty, 5 * SLOW);
    EXPECT(error == 0 || error == MPROC_EOWNERDEAD);
    w->closed = 1;
    EXPECT(mproc_condition_notify_all(it.buffer.not_empty) == 0);
    EXPECT(mproc_condition_release(it.buffer.not_empty) == 0);
}
static void check_condition(void) {
    EXPECT(w->puts == w->gets);
    EXPECT(mproc_condition_free(it.buffer.not_full) == 0);
    EXPECT(mproc_condition_free(it.buffer.not_empty) == 0);
    EXPECT(mproc_lock_free(it.buffer.lock) == 0);
}

/* ---- Barrier --------------------------------------------------------------------------------------------
 */

static bool make_barrier(void) { return (it.barrier = mproc_barrier_new(SLOTS)) != NULL; }

/* Killed waiters may break it: who finds it broken twice in a row asks for a reset. */
static int work_barrier(int slot) {
    (void)slot;
    for (int broken = 0; !stopping();) {
        int place = mproc_barrier_wait(it.barrier, MPROC_FOREVER);
        MUST((place >= 0 && place < SLOTS) || place == MPROC_EBROKEN);
        if (place == 0) advance();
        broken = place < 0 ? broken + 1 : 0;
        if (broken < 2) continue;
        POKE(&w->broken, 1);
        nap(0.001);
    }
    return 0;
}

static void tick_barrier(void) {
    if (!PEEK(&w->broken)) return;
    POKE(&w->broken, 0);
    w->repaired++;
    EXPECT(mproc_barrier_reset(it.barrier) == 0);
}
static void stop_barrier(void) { EXPECT(mproc_barrier_abort(it.barrier) == 0); }

/* When all is over it must be as good as new. */
static int pass_barrier(int slot) {
    (void)slot;
    for (int i = 0; i < PASSES; i++) {
        int place = mproc_barrier_wait(it.barrier, 5 * SLOW);
        MUST(place >= 0 && place < SLOTS);
        BUMP(&w->place[i][place]);
    }
    return 0;
}
static void spawn_slot(int slot, int (*work)(int slot));
static void collect(int slot, double seconds);

static void check_barrier(void) {
    EXPECT(mproc_barrier_wait(it.barrier, 0) == MPROC_EBROKEN);
    EXPECT(mproc_barrier_reset(it.barrier) == 0);
    for (int i = 0; i < SLOTS; i++) spawn_slot(i, pass_barrier);
    for (int i = 0; i < SLOTS; i++) collect(i, 10);
    for (int i = 0; i < PASSES && !failed; i++)
        for (int k = 0; k < SLOTS; k++) EXPECT(w->place[i][k] == 1);
    EXPECT(mproc_barrier_free(it.barrier) == 0);
}

/* ---- Pipe, queue, ring: items that name their producer's life and their number ---------------------------
 */

typedef struct item {
    uint32_t life, seq;
    uint64_t size; /* of the whole message; the rest of it is filled with one byte */
} item;
static unsigned char filling(const item *i) { return (unsigned char)(i->life * 7 + i->seq); }

static uint32_t next_life(void) {
    uint32_t life = BUMP(&w->lives) - 1;
    MUST(life < LIVES);
    return life;
}

static size_t compose(unsigned char *message, uint32_t life, uint32_t seq, size_t size) {
    item i = {life, seq, size};
    memcpy(message, &i, sizeof i);
    memset(message + sizeof i, filling(&i), size - sizeof i);
    return size;
}

/* Checks one message, and that it is the first time that it is seen. */
static void receive(const unsigned char *message, size_t size) {
    static int64_t last[LIVES];
    item i;
    MUST(size >= sizeof i);
    memcpy(&i, message, sizeof i);
    MUST(i.life < LIVES && i.seq < LIFE && i.size == size);
    for (size_t k = sizeof i; k < size; k++) MUST(message[k] == filling(&i));
    MUST(short_buffers || i.seq >= last[i.life]); /* in order from each producer */
    last[i.life] = (int64_t)i.seq + 1;
    uint32_t bit = (uint32_t)1 << i.seq % 32;
    MUST((__atomic_fetch_or(&w->seen[i.life][i.seq / 32], bit, __ATOMIC_SEQ_CST) & bit) == 0);
    advance();
}

static size_t some_size(uint64_t *luck) {
    uint64_t n = draw(luck) % 1000;
    if (n == 0) return LARGE;
    return sizeof(item) + (size_t)(draw(luck) % (n < 50 ? 20000 : 200));
}

/* When all have ended: what was put was received, but for what the killed had in their hands. */
static void check_items(int most_per_call) {
    uint64_t lost = 0, unnoted = 0;
    for (uint32_t life = 0; life < w->lives; life++) {
        uint64_t here = 0;
        for (uint32_t seq = 0; seq < LIFE; seq++) {
            bool seen = (w->seen[life][seq / 32] >> seq % 32 & 1) != 0;
            if (seq < w->put[life]) lost += !seen;
            else here += seen;
        }
        unnoted += here;
        if (here > (uint64_t)most_per_call)
            complain("%u items of life %u were never put", (unsigned)here, life);
    }
    if (lost > (uint64_t)(most_per_call * takers_killed))
        complain("%u items lost, but only %d takers killed", (unsigned)lost, takers_killed);
    if (unnoted > (uint64_t)(most_per_call * givers_killed))
        complain("%u items not noted, but only %d givers killed", (unsigned)unnoted, givers_killed);
    w->repaired = lost;
}

static bool make_pipe(void) { return mproc_pipe_new(it.end, false) == 0; }

static int work_pipe(int slot) {
    static unsigned char message[LARGE];
    uint64_t luck = seed + (uint64_t)slot + (uint64_t)getpid();
    if (gives(slot)) {
        for (uint32_t life = next_life(), seq = 0; !stopping();) {
            size_t size = compose(message, life, seq, some_size(&luck));
            MUST_EQ(mproc_conn_send(it.end[1], message, size, MPROC_FOREVER), 0);
            POKE(&w->put[life], ++seq);
            if (seq == LIFE) life = next_life(), seq = 0;
        }
        return 0;
    }
    for (;;) {
        size_t room = short_buffers && draw(&luck) % 16 == 0 ? 50 : sizeof message;
        ssize_t size = mproc_conn_recv(it.end[0], message, room, MPROC_FOREVER);
        if (size == MPROC_ECLOSED && stopping()) return 0;
        if (size == MPROC_EMSGSIZE && room < sizeof message) continue;
        MUST(size >= 0);
        receive(message, (size_t)size);
    }
}
static void stop_pipe(void) { /* then the producers, who have left, were the last to hold the sending end */
    EXPECT(mproc_conn_close(it.end[0]) == 0);
    EXPECT(mproc_conn_close(it.end[1]) == 0);
}
static void check_pipe(void) { check_items(1); }

static bool make_queue(void) { return (it.queue = mproc_queue_new(50)) != NULL; }

static void put_in_queue(unsigned char *message, uint32_t life, uint32_t *seq, uint64_t *luck) {
    uint32_t n = 1 + (uint32_t)(draw(luck) % BATCH);
    if (n == 1 || *seq + n > LIFE) {
        n = 1;
        size_t size = compose(message, life, *seq, some_size(luck));
        MUST_EQ(mproc_queue_put(it.queue, message, size, MPROC_FOREVER), 0);
    } else {
        for (uint32_t i = 0; i < n; i++) compose(message + i * 24, life, *seq + i, 24);
        MUST_EQ(mproc_queue_put_many(it.queue, message, n, 24, MPROC_FOREVER), n);
    }
    *seq += n;
    POKE(&w->put[life], *seq);
}

static int work_queue(int slot) {
    static unsigned char message[LARGE];
    uint64_t luck = seed + (uint64_t)slot + (uint64_t)getpid();
    if (gives(slot)) {
        for (uint32_t life = next_life(), seq = 0; !stopping();) {
            put_in_queue(message, life, &seq, &luck);
            if (seq == LIFE) life = next_life(), seq = 0;
        }
        return 0;
    }
    for (;;) {
        bool many = short_buffers && draw(&luck) % 4 == 0;
        ssize_t n = many ? mproc_queue_get_many(it.queue, message, BATCH, 24, MPROC_FOREVER)
                         : mproc_queue_get(it.queue, message, sizeof message, MPROC_FOREVER);
        if (n == MPROC_ECLOSED && stopping()) return 0;
        if (many && n == MPROC_EMSGSIZE) continue;
        MUST(n >= 0);
        for (ssize_t i = 0; i < (many ? n : 1); i++) {
            item head;
            memcpy(&head, message + i * 24, sizeof head);
            receive(message + i * 24, many ? (size_t)head.size : (size_t)n);
            MUST_EQ(mproc_queue_task_done(it.queue), 0);
        }
    }
}
static void stop_queue(void) { EXPECT(mproc_queue_close(it.queue) == 0); }
static void check_queue(void) {
    int unmarked = 0;
    check_items(BATCH);
    EXPECT(mproc_queue_qsize(it.queue) == 0);
    for (; mproc_queue_join(it.queue, 0) == MPROC_ETIMEDOUT && !failed; unmarked++) /* for the killed ones */
        EXPECT(mproc_queue_task_done(it.queue) == 0);
    EXPECT(unmarked <= BATCH * takers_killed);
    EXPECT(mproc_queue_task_done(it.queue) == MPROC_EINVAL);
    EXPECT(mproc_queue_free(it.queue) == 0);
}

static bool make_ring(void) { return (it.ring = mproc_ring_new(24, 64)) != NULL; }

static int work_ring(int slot) {
    unsigned char items[BATCH * 24];
    uint64_t luck = seed + (uint64_t)slot + (uint64_t)getpid();
    for (uint32_t life = gives(slot) ? next_life() : 0, seq = 0; gives(slot) && !stopping();) {
        uint32_t n = 1 + (uint32_t)(draw(&luck) % BATCH);
        if (n > LIFE - seq) n = LIFE - seq;
        for (uint32_t i = 0; i < n; i++) compose(items + i * 24, life, seq + i, 24);
        if (n == 1) MUST_EQ(mproc_ring_put(it.ring, items, MPROC_FOREVER), 0);
        else MUST_EQ(mproc_ring_put_many(it.ring, items, n, MPROC_FOREVER), n);
        seq += n;
        POKE(&w->put[life], seq);
        if (seq == LIFE) life = next_life(), seq = 0;
    }
    while (!gives(slot)) {
        ssize_t n = mproc_ring_get_many(it.ring, items, 1 + draw(&luck) % BATCH, MPROC_FOREVER);
        if (n == MPROC_ECLOSED && stopping()) return 0;
        MUST(n > 0 && n <= BATCH);
        for (ssize_t i = 0; i < n; i++) receive(items + i * 24, 24);
    }
    return 0;
}
static void stop_ring(void) { EXPECT(mproc_ring_close(it.ring) == 0); }
static void check_ring(void) {
    check_items(BATCH);
    EXPECT(mproc_ring_size(it.ring) == 0);
    EXPECT(mproc_ring_free(it.ring) == 0);
}

/* ---- All objects at once --------------------------------------------------------------------------------
 */

/* Each process does one thing after another, with timeouts, so that a quiet partner holds up nobody. */

#define A_MOMENT 0.002

enum channel { BY_PIPE, BY_QUEUE, BY_RING, BY_POOL, BY_FILE, CHANNELS };
static struct { /* what this process has put where, numbered for each */
    uint32_t life[CHANNELS], seq[CHANNELS];
} mine;
static unsigned char message[LARGE];
static uint64_t luck;

static bool in_time(ssize_t result) {
    MUST(result >= 0 || result == MPROC_ETIMEDOUT);
    return result >= 0;
}

/* The next items of a channel were put. */
static void note_put(enum channel c, uint32_t n) {
    mine.seq[c] += n;
    POKE(&w->put[mine.life[c]], mine.seq[c]);
}
/* Is there a number left for so many items? */
static bool numbers_left(enum channel c, uint32_t n) { return mine.seq[c] + n <= LIFE; }

static bool use_lock(void) {
    int error = mproc_lock_acquire(it.lock, draw(&luck) % 2 == 0 ? A_MOMENT : MPROC_FOREVER);
    if (error == MPROC_ETIMEDOUT) return false;
    change(error, w->pair);
    MUST_EQ(mproc_lock_release(it.lock), 0);
    return true;
}
static bool use_rlock(void) {
    int error = mproc_rlock_acquire(it.rlock, MPROC_FOREVER);
    MUST_EQ(mproc_rlock_acquire(it.rlock, 0), 0);
    change(error, w->rpair);
    MUST_EQ(mproc_rlock_release(it.rlock), 0);
    MUST_EQ(mproc_rlock_release(it.rlock), 0);
    return true;
}
static bool use_semaphore(void) {
    if (!in_time(mproc_semaphore_acquire(it.semaphore, A_MOMENT))) return false;
    MUST_EQ(mproc_semaphore_release(it.semaphore), 0);
    return true;
}
static bool use_event(void) {
    if (draw(&luck) % 2 == 0) return in_time(mproc_event_wait(it.event, A_MOMENT));
    MUST_EQ(mproc_event_set(it.event), 0);
    MUST_EQ(mproc_event_clear(it.event), 0);
    return true;
}
static bool use_condition(void) {
    bool put = draw(&luck) % 2 == 0;
    mproc_condition *own = put ? it.buffer.not_full : it.buffer.not_empty,
                    *other = put ? it.buffer.not_empty : it.buffer.not_full;
    int error = mproc_condition_acquire(own, MPROC_FOREVER);
    MUST(error == 0 || error == MPROC_EOWNERDEAD);
    look_at_buffer(error);
    error = mproc_condition_wait_for(own, put ? not_full : not_empty, NULL, A_MOMENT);
    MUST(error == 0 || error == MPROC_EOWNERDEAD || error == MPROC_ETIMEDOUT);
    look_at_buffer(error);
    bool can = put ? not_full(NULL) : not_empty(NULL);
    MUST(can || error != 0);
    if (can) POKE(put ? &w->puts : &w->gets, (put ? w->puts : w->gets) + 1);
    if (can) MUST_EQ(mproc_condition_notify(other, 1), 0);
    MUST_EQ(mproc_condition_release(own), 0);
    return can;
}
static bool use_barrier(void) { /* hardly ever complete: mostly broken and mended */
    int place = mproc_barrier_wait(it.barrier, A_MOMENT);
    MUST((place >= 0 && place < SLOTS) || place == MPROC_EBROKEN || place == MPROC_ETIMEDOUT);
    if (place < 0) MUST_EQ(mproc_barrier_reset(it.barrier), 0);
    return true;
}
static bool use_pipe(void) {
    if (draw(&luck) % 2 == 0) {
        ssize_t n = mproc_conn_recv(it.end[0], message, sizeof message, A_MOMENT);
        if (in_time(n)) receive(message, (size_t)n);
        return n >= 0;
    }
    if (!numbers_left(BY_PIPE, 1)) return true;
    size_t size = compose(message, mine.life[BY_PIPE], mine.seq[BY_PIPE], some_size(&luck));
    if (!in_time(mproc_conn_send(it.end[1], message, size, A_MOMENT))) return false;
    note_put(BY_PIPE, 1);
    return true;
}
static bool get_from_queue(void) {
    size_t size = 0;
    void *taken = NULL;
    ssize_t n;
    if (draw(&luck) % 2 == 0) n = mproc_queue_get(it.queue, message, sizeof message, A_MOMENT);
    else n = (taken = mproc_queue_take(it.queue, &size, A_MOMENT)) != NULL ? (ssize_t)size : -errno;
    if (!in_time(n)) return false;
    receive(taken != NULL ? taken : message, (size_t)n);
    MUST_EQ(mproc_queue_task_done(it.queue), 0);
    MUST_EQ(mproc_free(taken), 0);
    return true;
}
static bool use_queue(void) {
    uint32_t n = 1 + (uint32_t)(draw(&luck) % BATCH), life = mine.life[BY_QUEUE], seq = mine.seq[BY_QUEUE];
    if (draw(&luck) % 4 != 0 || !numbers_left(BY_QUEUE, n)) return get_from_queue();
    ssize_t put = 1;
    if (n == 1) {
        size_t size = compose(message, life, seq, some_size(&luck));
        if (!in_time(mproc_queue_put(it.queue, message, size, A_MOMENT))) return false;
    } else {
        for (uint32_t i = 0; i < n; i++) compose(message + i * 24, life, seq + i, 24);
        if (!in_time(put = mproc_queue_put_many(it.queue, message, n, 24, A_MOMENT))) return false;
    }
    note_put(BY_QUEUE, (uint32_t)put);
    return true;
}
static bool use_ring(void) {
    uint32_t n = 1 + (uint32_t)(draw(&luck) % BATCH);
    if (draw(&luck) % 2 == 0 || !numbers_left(BY_RING, n)) {
        ssize_t got = mproc_ring_get_many(it.ring, message, n, A_MOMENT);
        if (!in_time(got)) return false;
        for (ssize_t i = 0; i < got; i++) receive(message + i * 24, 24);
        return true;
    }
    for (uint32_t i = 0; i < n; i++) compose(message + i * 24, mine.life[BY_RING], mine.seq[BY_RING] + i, 24);
    ssize_t put = mproc_ring_put_many(it.ring, message, n, A_MOMENT);
    if (!in_time(put)) return false;
    note_put(BY_RING, (uint32_t)put);
    return true;
}
static bool use_memory(void) {
    size_t size = some_size(&luck);
    unsigned char fill = (unsigned char)(draw(&luck) | 1), *block = mproc_shm_new(size);
    MUST(block != NULL);
    for (size_t i = 0; i < size; i++) MUST(block[i] == 0);
    memset(block, fill, size);
    MPROC_WITH (mproc_lock_of(it.counter)) ++*it.counter;
    for (size_t i = 0; i < size; i++) MUST(block[i] == fill);
    MUST_EQ(mproc_free(block), 0);
    return true;
}

/* Marks an item as seen, for the first time. */
static void see(const item *i) {
    uint32_t bit = (uint32_t)1 << i->seq % 32;
    MUST(i->life < LIVES && i->seq < LIFE);
    MUST((__atomic_fetch_or(&w->seen[i->life][i->seq / 32], bit, __ATOMIC_SEQ_CST) & bit) == 0);
}
static int task(const void *arg, void *result) {
    item i;
    memcpy(&i, arg, sizeof i);
    see(&i);
    if (i.size != 0) *(uint64_t *)result = i.size * 3;
    return 0;
}
static bool use_pool(void) {
    item i = {mine.life[BY_POOL], mine.seq[BY_POOL], draw(&luck) % 2};
    uint64_t result = 0;
    if (!numbers_left(BY_POOL, 1)) return true;
    if (i.size == 0) {
        if (!in_time(mproc_pool_submit(it.pool, task, &i, sizeof i, A_MOMENT))) return false;
        note_put(BY_POOL, 1);
        return true;
    }
    mproc_future *f = mproc_pool_apply_async(it.pool, task, &i, sizeof i, sizeof result);
    MUST(f != NULL);
    note_put(BY_POOL, 1);
    int error = mproc_future_get(f, &result, 10 * A_MOMENT);
    MUST(error == 0 || error == MPROC_ETIMEDOUT || error == MPROC_ECRASHED);
    MUST(error != 0 || result == 3);
    MUST_EQ(mproc_future_free(f), 0);
    return error == 0;
}
static bool use_file(void) {
    char line[32];
    if (!numbers_left(BY_FILE, 1)) return true;
    snprintf(line, sizeof line, "%7u %7u %014d\n", mine.life[BY_FILE], mine.seq[BY_FILE], 0);
    MUST_EQ(mproc_file_append(it.file, line, sizeof line - 1), 0);
    note_put(BY_FILE, 1);
    return true;
}
static int child(void *arg) {
    (void)arg;
    return 7;
}
static bool use_process(void) {
    mproc_process p = {.target = child};
    MUST_EQ(mproc_process_start(&p), 0);
    MUST_EQ(mproc_process_join(&p, 10 * SLOW), 0);
    MUST_EQ(p.exitcode, 7);
    return true;
}

static const struct { /* one in so many times, for what takes long */
    const char *name;
    bool (*use)(void);
    unsigned rare;
} kinds[] = {
    {"lock", use_lock, 1},           {"rlock", use_rlock, 1},   {"semaphore", use_semaphore, 1},
    {"event", use_event, 1},         {"pipe", use_pipe, 1},     {"queue", use_queue, 1},
    {"ring", use_ring, 1},           {"memory", use_memory, 1}, {"pool", use_pool, 1},
    {"condition", use_condition, 1}, {"file", use_file, 4},     {"barrier", use_barrier, 8},
    {"process", use_process, 16},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int work_all(int slot) {
    luck = seed + (uint64_t)slot + (uint64_t)getpid();
    for (int c = 0; c < CHANNELS; c++) mine.life[c] = next_life();
    POKE(&w->of_pool[mine.life[BY_POOL]], true);
    memset(mine.seq, 0, sizeof mine.seq);
    while (!stopping()) {
        size_t kind = (size_t)(draw(&luck) % KINDS);
        if (draw(&luck) % kinds[kind].rare != 0 || !kinds[kind].use()) continue;
        BUMP(&w->by_kind[kind]);
        advance();
    }
    return 0;
}

static bool make_file(void) {
    snprintf(it.folder, sizeof it.folder, "%s/mproc-storm-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(it.folder) == NULL) return false;
    snprintf(it.path, sizeof it.path, "%s/file", it.folder);
    return (it.file = mproc_file_open(it.path)) != NULL;
}
static bool make_all(void) {
    short_buffers = false;
    it.counter = mproc_value_new(int, 0);
    it.pool = mproc_pool_new(2);
    return make_lock() && make_rlock() && make_semaphore() && make_event() && make_condition() &&
           make_barrier() && make_pipe() && make_queue() && make_ring() && make_file() &&
           it.counter != NULL && it.pool != NULL;
}

/* Now and then a worker of the pool is killed as well. */
static void strike_worker(void) {
    pid_t pid = (pid_t)PEEK(&it.pool->worker[draw(&seed) % 2].pid);
    if (pid > 0 && draw(&seed) % 8 == 0) kill(pid, SIGKILL);
}

/* Each kind must have got on in the last second; permits that went with the killed are replaced. */
static void tick_all(void) {
    static double second;
    static uint64_t before[KINDS];
    strike_worker();
    if (mproc_semaphore_value(it.semaphore) == 0) {
        EXPECT(mproc_semaphore_release(it.semaphore) == 0);
        w->refilled++;
    }
    if (second == 0) second = now();
    if (now() - second < 1) return;
    for (int i = 0; i < KINDS; i++) {
        uint64_t done = PEEK(&w->by_kind[i]);
        if (done == before[i]) complain("%s: no progress in %.1f s", kinds[i].name, now() - second);
        before[i] = done;
    }
    second = now();
}

/* Every line is whole, and none stands there twice. */
static void read_file_back(void) {
    char line[64];
    item i = {0, 0, 0};
    FILE *file = fopen(it.path, "r");
    EXPECT(file != NULL);
    while (file != NULL && !failed && fgets(line, sizeof line, file) != NULL) {
        int used = 0;
        bool whole = sscanf(line, "%u %u 00000000000000%n", &i.life, &i.seq, &used) == 2 && used == 30;
        if (!whole || strlen(line) != 31) complain("a torn line in the file: %s", line);
        else see(&i);
    }
    if (file != NULL) fclose(file);
    EXPECT(mproc_file_close(it.file) == 0);
    unlink(it.path);
    rmdir(it.folder);
}

/* What the killed left in the channels. */
static void drain_all(void) {
    ssize_t n;
    while ((n = mproc_conn_recv(it.end[0], message, sizeof message, 0)) >= 0) receive(message, (size_t)n);
    EXPECT(n == MPROC_ETIMEDOUT || n == MPROC_ECLOSED); /* nobody who sent is left */
    while ((n = mproc_queue_get(it.queue, message, sizeof message, 0)) >= 0) {
        receive(message, (size_t)n);
        EXPECT(mproc_queue_task_done(it.queue) == 0);
    }
    EXPECT(n == MPROC_ETIMEDOUT);
    while (mproc_ring_get(it.ring, message, 0) == 0) receive(message, 24);
}

static void check_pool(void) {
    mproc_pool_counts counts;
    EXPECT(mproc_pool_close(it.pool) == 0);
    EXPECT(mproc_pool_join(it.pool, 10 * SLOW) == 0);
    EXPECT(mproc_pool_stats(it.pool, &counts) == 0);
    EXPECT(counts.pending == 0 && counts.running == 0 && counts.failed == 0);
    size_t ran = 0, not_run = 0;
    for (uint32_t life = 0; life < w->lives; life++) {
        if (!w->of_pool[life]) continue;
        for (uint32_t seq = 0; seq < LIFE; seq++) {
            bool seen = (w->seen[life][seq / 32] >> seq % 32 & 1) != 0;
            ran += seen;
            not_run += seq < w->put[life] && !seen;
        }
    }
    if (not_run > counts.crashed) complain("%zu tasks never ran, %zu crashed", not_run, counts.crashed);
    if (counts.done > ran || counts.done + counts.crashed < ran)
        complain("%zu tasks are counted, %zu crashed, %zu ran", counts.done, counts.crashed, ran);
    EXPECT(mproc_pool_free(it.pool) == 0);
}

static void check_lock_of_the_dead(mproc_lock *lock, const uint64_t pair[2]) {
    int error = mproc_lock_acquire(lock, 1);
    EXPECT(error == 0 || error == MPROC_EOWNERDEAD);
    EXPECT(error != 0 || pair[0] == pair[1]);
    EXPECT(mproc_lock_release(lock) == 0);
    EXPECT(mproc_lock_free(lock) == 0);
}

static void check_all(void) {
    int kills = givers_killed + takers_killed;
    check_pool();
    drain_all();
    read_file_back();
    takers_killed = givers_killed = kills; /* each of them gave and took */
    check_queue();
    EXPECT(mproc_ring_free(it.ring) == 0);
    stop_pipe();
    check_lock_of_the_dead(it.lock, w->pair);
    int error = mproc_rlock_acquire(it.rlock, 1);
    EXPECT(error == MPROC_EOWNERDEAD || (error == 0 && w->rpair[0] == w->rpair[1]));
    EXPECT(mproc_rlock_release(it.rlock) == 0);
    EXPECT(mproc_rlock_free(it.rlock) == 0);
    int value = mproc_semaphore_value(it.semaphore), most = PERMITS + (int)w->refilled;
    if (value > most || value < most - kills) complain("the semaphore has %d of %d permits", value, most);
    EXPECT(mproc_semaphore_free(it.semaphore) == 0);
    stop_event();
    check_event();
    error = mproc_condition_acquire(it.buffer.not_full, 1);
    EXPECT(error == 0 || error == MPROC_EOWNERDEAD);
    EXPECT(w->puts - w->gets <= ROOM);
    w->gets = w->puts;
    EXPECT(mproc_condition_release(it.buffer.not_full) == 0);
    check_condition();
    EXPECT(mproc_barrier_reset(it.barrier) == 0);
    for (int i = 0; i < SLOTS; i++) spawn_slot(i, pass_barrier);
    for (int i = 0; i < SLOTS; i++) collect(i, 10);
    for (int i = 0; i < PASSES && !failed; i++)
        for (int k = 0; k < SLOTS; k++) EXPECT(w->place[i][k] == 1);
    EXPECT(mproc_barrier_free(it.barrier) == 0);
    EXPECT(mproc_free(it.counter) == 0);
    takers_killed = kills;
    givers_killed = 0;
}

/* ---- The storm ------------------------------------------------------------------------------------------
 */

static void nothing(void) {}

typedef struct object {
    const char *name;
    bool (*make)(void);
    int (*work)(int slot);
    void (*tick)(void);   /* after a process was killed and replaced */
    void (*stop)(void);   /* lets those go who wait: */
    bool takers_only;     /*   called when the givers have left; otherwise at once */
    void (*check)(void);  /* when all have left; frees it too */
    const char *repaired; /* what world.repaired counts */
} object;

static const object objects[] = {
    {"lock", make_lock, work_lock, nothing, nothing, false, check_lock, "dead holders told"},
    {"rlock", make_rlock, work_rlock, nothing, nothing, false, check_rlock, "dead holders told"},
    {"semaphore", make_semaphore, work_semaphore, tick_semaphore, more_permits, false, check_semaphore,
     "permits replaced"},
    {"event", make_event, work_event, nothing, stop_event, true, check_event, "repairs"},
    {"condition", make_condition, work_condition, nothing, stop_condition, true, check_condition,
     "dead holders told"},
    {"barrier", make_barrier, work_barrier, tick_barrier, stop_barrier, false, check_barrier, "resets"},
    {"pipe", make_pipe, work_pipe, nothing, stop_pipe, true, check_pipe, "lost with a receiver"},
    {"queue", make_queue, work_queue, nothing, stop_queue, true, check_queue, "lost with a consumer"},
    {"ring", make_ring, work_ring, nothing, stop_ring, true, check_ring, "lost with a consumer"},
    {"all", make_all, work_all, tick_all, nothing, false, check_all, "messages lost with their receivers"},
};
enum { OBJECTS = sizeof objects / sizeof *objects };

static void spawn_slot(int slot, int (*work)(int slot)) {
    fflush(NULL);
    pids[slot] = fork();
    if (pids[slot] < 0) complain("no process: %s", strerror(errno));
    if (pids[slot] != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(work(slot));
}

/* Waits for the end of a process that should leave by itself. */
static void collect(int slot, double seconds) {
    int status = 0;
    double give_up = now() + seconds * SLOW;
    if (pids[slot] <= 0) return;
    pid_t pid;
    while ((pid = waitpid(pids[slot], &status, WNOHANG)) == 0 && now() < give_up) nap(0.0005);
    if (pid == 0) complain("process %d has not left after %g s", slot, seconds);
    else if (status != 0) complain("process %d left with status %#x", slot, (unsigned)status);
    if (pid != 0) pids[slot] = 0;
}

static void kill_all(void) {
    for (int i = 0; i < SLOTS; i++) {
        if (pids[i] <= 0) continue;
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
        pids[i] = 0;
    }
}

/* Kills and replaces one process, which must have been alive until then. */
static void strike(const object *o) {
    int slot = (int)(draw(&seed) % SLOTS), status = 0;
    kill(pids[slot], SIGKILL);
    if (waitpid(pids[slot], &status, 0) != pids[slot] || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        complain("process %d had left before, with status %#x", slot, (unsigned)status);
    pids[slot] = 0;
    if (gives(slot)) givers_killed++;
    else takers_killed++;
    __atomic_fetch_and(&w->idle, ~((uint32_t)1 << slot), __ATOMIC_SEQ_CST);
    __atomic_fetch_and(&w->holding, ~((uint32_t)1 << slot), __ATOMIC_SEQ_CST);
    spawn_slot(slot, o->work);
    o->tick();
}

/* The storm itself; the fewest operations in any second of it. */
static uint64_t rage(const object *o, double seconds) {
    double begun = now(), next = begun + 0.02, second = begun;
    uint64_t least = UINT64_MAX, before = 0;
    double window = seconds < 1 ? seconds : 1;
    while (!failed && now() < begun + seconds) {
        double left = next - now();
        if (left > 0) nap(left);
        else next = now();
        next += 0.02;
        strike(o);
        if (now() - second < window) continue;
        uint64_t done = PEEK(&w->progress) - before;
        if (done == 0) complain("no progress in %.1f s", now() - second);
        if (done < least) least = done;
        before += done;
        second = now();
    }
    return least == UINT64_MAX ? PEEK(&w->progress) : least;
}

static void end_in_peace(const object *o) {
    POKE(&w->stop, 1);
    if (!o->takers_only) o->stop();
    for (int i = 0; i < SLOTS; i++)
        if (gives(i)) collect(i, 5);
    if (o->takers_only) o->stop();
    for (int i = 0; i < SLOTS; i++)
        if (!gives(i)) collect(i, 5);
}

static void storm(const object *o, double seconds) {
    failed = false;
    givers_killed = takers_killed = 0;
    short_buffers = draw(&seed) % 2 == 0;
    w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w == MAP_FAILED || !o->make()) {
        complain("%s: cannot be made: %s", o->name, strerror(errno));
        return;
    }
    for (int i = 0; i < SLOTS; i++) spawn_slot(i, o->work);
    uint64_t least = rage(o, seconds), all = PEEK(&w->progress);
    if (!failed) end_in_peace(o);
    if (!failed) o->check();
    kill_all();
    printf("%-9s  %4d kills, %9llu operations, at least %8llu in a second, %6llu %s: %s\n", o->name,
           givers_killed + takers_killed, (unsigned long long)all, (unsigned long long)least,
           (unsigned long long)w->repaired, o->repaired, failed ? "FAILED" : "ok");
    fflush(stdout);
    munmap(w, sizeof *w);
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    seed = make_seed("storm");
    for (int i = 2; i < argc; i++) {
        bool known = false;
        for (size_t k = 0; k < OBJECTS; k++) known = known || strcmp(argv[i], objects[k].name) == 0;
        if (!known) complain("no such object: %s", argv[i]);
    }
    for (size_t k = 0; k < OBJECTS; k++) {
        bool wanted = argc <= 2 && objects[k].work != work_all; /* that only by its name */
        for (int i = 2; i < argc; i++) wanted = wanted || strcmp(argv[i], objects[k].name) == 0;
        if (wanted) storm(&objects[k], seconds);
    }
    return failed_ever ? 1 : 0;
}
