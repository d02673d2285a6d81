/* A bounded buffer, as one would build a queue by hand. A lock guards the buffer; two conditions on that lock
   tell of its changes: "not full" is what producers wait for, "not empty" what consumers wait for. Waiting
   releases the lock, and has it again afterwards. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

#define PLACES    4
#define PRODUCERS 2
#define CONSUMERS 3
#define ITEMS     300 /* of each producer */

struct buffer {
    mproc_lock *lock;
    mproc_condition *not_full, *not_empty;
    long places[PLACES];
    int first, count; /* the places in use: count of them, from first on, round the end */
    bool closed;
    int most;              /* the largest count that was seen */
    long taken, taken_sum; /* what the consumers had in all */
};

static bool has_room(void *ctx) { return ((struct buffer *)ctx)->count < PLACES; }

static bool has_item_or_closed(void *ctx) {
    const struct buffer *b = (const struct buffer *)ctx;
    return b->count > 0 || b->closed;
}

static int put(struct buffer *b, long item) {
    int error = mproc_lock_acquire(b->lock, 10.0);
    if (error) return error;
    error = mproc_condition_wait_for(b->not_full, has_room, b, 10.0);
    if (!error) {
        b->places[(b->first + b->count++) % PLACES] = item;
        if (b->count > b->most) b->most = b->count;
        mproc_condition_notify(b->not_empty, 1); /* one more item: one consumer may go on */
    }
    mproc_lock_release(b->lock);
    return error;
}

/* MPROC_ECLOSED once the buffer is closed and empty. */
static int take(struct buffer *b, long *item) {
    int error = mproc_lock_acquire(b->lock, 10.0);
    if (error) return error;
    error = mproc_condition_wait_for(b->not_empty, has_item_or_closed, b, 10.0);
    if (!error && b->count == 0) error = MPROC_ECLOSED;
    if (!error) {
        *item = b->places[b->first];
        b->first = (b->first + 1) % PLACES;
        b->count--;
        b->taken++;
        b->taken_sum += *item;
        mproc_condition_notify(b->not_full, 1);
    }
    mproc_lock_release(b->lock);
    return error;
}

static int produce(void *arg) {
    for (long i = 1; i <= ITEMS; i++)
        if (put((struct buffer *)arg, i) != 0) return 1;
    return 0;
}

static int consume(void *arg) {
    long item;
    int error;
    while ((error = take((struct buffer *)arg, &item)) == 0) continue;
    return error == MPROC_ECLOSED ? 0 : 1;
}

static bool start(mproc_process *p, int (*target)(void *), struct buffer *b) {
    p->target = target;
    p->arg = b;
    return mproc_process_start(p) == 0;
}

static bool ended_well(mproc_process *p) { return mproc_process_join(p, 30.0) == 0 && p->exitcode == 0; }

static bool produce_and_consume(struct buffer *b) {
    mproc_process producers[PRODUCERS] = {{0}}, consumers[CONSUMERS] = {{0}};
    bool held = true;
    for (int i = 0; i < CONSUMERS; i++)
        if (!start(&consumers[i], consume, b)) return false;
    for (int i = 0; i < PRODUCERS; i++)
        if (!start(&producers[i], produce, b)) return false;

    for (int i = 0; i < PRODUCERS; i++) held = ended_well(&producers[i]) && held;
    if (mproc_lock_acquire(b->lock, 10.0) != 0) return false;
    b->closed = true;
    mproc_condition_notify_all(b->not_empty); /* this one all consumers are to see */
    mproc_lock_release(b->lock);
    for (int i = 0; i < CONSUMERS; i++) held = ended_well(&consumers[i]) && held;

    printf("%d producers put %d items each, %d consumers took %ld; their sum is %ld\n", PRODUCERS, ITEMS,
           CONSUMERS, b->taken, b->taken_sum);
    printf("at most %d items stood in the buffer of %d\n", b->most, PLACES);
    return held && b->taken == PRODUCERS * ITEMS && b->taken_sum == PRODUCERS * (ITEMS * (ITEMS + 1L) / 2) &&
           b->most <= PLACES && b->count == 0;
}

int main(void) {
    struct buffer *b = (struct buffer *)mproc_shm_new(sizeof *b);
    if (!b) return perror("mproc_shm_new"), 1;
    b->lock = mproc_lock_new();
    b->not_full = b->lock ? mproc_condition_new(b->lock) : NULL;  /* one lock for both; NULL would mean */
    b->not_empty = b->lock ? mproc_condition_new(b->lock) : NULL; /* that each makes one of its own */
    if (!b->not_full || !b->not_empty) return perror("lock or condition"), 1;

    bool held = produce_and_consume(b);
    mproc_condition_free(b->not_empty);
    mproc_condition_free(b->not_full);
    mproc_lock_free(b->lock);
    mproc_free(b);
    return held ? 0 : 1;
}
