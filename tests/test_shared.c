/* Shared memory: values, arrays, structs, their hidden locks, and the allocator behind them. */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE ((size_t)64 << 20) /* small, so that leaks and exhaustion show */
#include "support.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

static int *said; /* what the processes of a test tell each other */

static void begin(void) { said = shared_ints(); }

/* The largest block that can be had now, to within 4 KiB. */
static size_t largest_block(void) {
    size_t fits = 0, fails = 2 * MPROC_ARENA_SIZE;
    while (fails - fits > 4096) {
        size_t middle = fits + (fails - fits) / 2;
        void *block = mproc_shm_new(middle);
        if (block != NULL) fits = middle;
        else fails = middle;
        ck_assert_int_eq(mproc_free(block), 0);
    }
    return fits;
}

/* How many blocks of one size can be had; all are freed again. */
static int blocks_of(size_t size) {
    void **first = NULL;
    int n = 0;
    for (void **block; (block = (void **)mproc_shm_new(size)) != NULL; n++) {
        *block = (void *)first; /* a list through the blocks themselves */
        first = block;
    }
    ck_assert_int_eq(errno, ENOMEM);
    while (first != NULL) {
        void **next = (void **)*first;
        ck_assert_int_eq(mproc_free((void *)first), 0);
        first = next;
    }
    return n;
}

/* ---- Values and arrays ----------------------------------------------------------------------------------
 */

struct point {
    int x, y;
};

typedef struct values {
    int *i;
    double *d;
    int16_t *s;
    int64_t *q;
    char *c;
    struct point *p;
} values;

static int change_values(void *arg) {
    values *v = arg;
    MUST_EQ(*v->i, 4343);
    MUST(*v->d == 3.625);
    MUST_EQ(*v->s, -232);
    MUST_EQ(*v->q, (int64_t)1 << 33);
    MUST_EQ(*v->c, 'x');
    MUST(v->p->x == 1 && v->p->y == 2);
    *v->i = 24234;
    *v->d = -4.25;
    *v->s = 234;
    *v->q = (int64_t)1 << 34;
    *v->c = 'y';
    v->p->y = 3;
    return 0;
}

START_TEST(val_01_02_values_of_many_types) {
    values v = {mproc_value_new(int, 4343),     mproc_value_new(double, 3.625),
                mproc_value_new(int16_t, -232), mproc_value_new(int64_t, (int64_t)1 << 33),
                mproc_value_new(char, 'x'),     mproc_value_new(struct point, {1, 2})};
    ck_assert(v.i != NULL && v.d != NULL && v.s != NULL && v.q != NULL && v.c != NULL && v.p != NULL);
    mproc_process child = {.target = change_values, .arg = &v};
    ck_assert_int_eq(mproc_process_start(&child), 0);
    ck_assert_int_eq(mproc_process_join(&child, 10), 0);
    ck_assert_int_eq(child.exitcode, 0);
    ck_assert_int_eq(*v.i, 24234);
    ck_assert(*v.d == -4.25);
    ck_assert_int_eq(*v.s, 234);
    ck_assert_int_eq(*v.q, (int64_t)1 << 34);
    ck_assert_int_eq(*v.c, 'y');
    ck_assert(v.p->x == 1 && v.p->y == 3);
    ck_assert_uint_eq(mproc_array_len(v.i), 1);
    ck_assert_uint_eq(mproc_array_len(v.p), 1);
    ck_assert_int_eq(mproc_free(v.i), 0);
    ck_assert_int_eq(mproc_free(v.d), 0);
    ck_assert_int_eq(mproc_free(v.s), 0);
    ck_assert_int_eq(mproc_free(v.q), 0);
    ck_assert_int_eq(mproc_free(v.c), 0);
    ck_assert_int_eq(mproc_free(v.p), 0);
}
END_TEST

static int sum_prefixes(void *arg) {
    int *a = arg;
    for (size_t i = 1; i < mproc_array_len(a); i++) a[i] += a[i - 1];
    return 0;
}

START_TEST(val_05_array_changed_in_place_by_a_child) {
    int source[] = {680, 626, 934, 821, 150, 233, 548, 982, 714, 831};
    enum { N = sizeof source / sizeof *source };
    int *a = mproc_array_from(int, source, N);
    ck_assert_ptr_nonnull(a);
    ck_assert_uint_eq(mproc_array_len(a), N);
    ck_assert_int_eq(memcmp(a, source, sizeof source), 0);
    ck_assert_int_eq(ended(spawn(sum_prefixes, a)), 0);
    ck_assert_int_eq(source[1], 626); /* a copy */
    for (size_t i = 1; i < N; i++) source[i] += source[i - 1];
    ck_assert_int_eq(memcmp(a, source, sizeof source), 0);
    ck_assert_int_eq(mproc_free(a), 0);
}
END_TEST

START_TEST(val_06_07_arrays_are_zeroed) {
    for (int round = 0; round < 3; round++) {
        int *small = mproc_array_new(int, 10);
        unsigned char *large = mproc_shm_new(300001);
        ck_assert(small != NULL && large != NULL);
        for (int i = 0; i < 10; i++) ck_assert_int_eq(small[i], 0);
        for (int i = 0; i < 300001; i++) {
            if (large[i] != 0) ck_abort_msg("round %d: byte %d is %d", round, i, large[i]);
        }
        memset(small, 0xaa, 10 * sizeof *small);
        memset(large, 0xaa, 300001);
        ck_assert_int_eq(mproc_free(small), 0);
        ck_assert_int_eq(mproc_free(large), 0);
    }
}
END_TEST

typedef struct mixed {
    int *x;
    double *y;
    int64_t *z;
    struct point *p;
    double *a;
    char *text;
} mixed;

static int double_all(void *arg) {
    mixed *m = arg;
    MPROC_WITH (mproc_lock_of(m->x)) *m->x *= 2;
    MPROC_WITH (mproc_lock_of(m->y)) *m->y *= 2;
    MPROC_WITH (mproc_lock_of(m->z)) *m->z *= 2;
    MPROC_WITH (mproc_lock_of(m->p)) {
        m->p->x *= 2;
        m->p->y *= 2;
    }
    MPROC_WITH (mproc_lock_of(m->a)) {
        for (size_t i = 0; i < mproc_array_len(m->a); i++) m->a[i] *= 2;
    }
    MPROC_WITH (mproc_lock_of(m->text)) memcpy(m->text + 5, m->text, 5);
    return 0;
}

START_TEST(val_09_10_several_changed_together) {
    mixed *m = mproc_shm_new(sizeof *m);
    ck_assert_ptr_nonnull(m);
    m->x = mproc_value_new(int, 7);
    m->y = mproc_value_new(double, 1.0 / 3.0);
    m->z = mproc_value_new(int64_t, (int64_t)1 << 33);
    m->p = mproc_value_new(struct point, {3, 4});
    m->a = mproc_array_new(double, 10);
    m->text = mproc_array_from(char, "hello\0\0\0\0\0", 11);
    for (int i = 0; i < 10; i++) m->a[i] = i;
    ck_assert_int_eq(ended(spawn(double_all, m)), 0);
    ck_assert_int_eq(*m->x, 14);
    ck_assert(*m->y == 2.0 / 3.0);
    ck_assert_int_eq(*m->z, (int64_t)1 << 34);
    ck_assert(m->p->x == 6 && m->p->y == 8);
    for (int i = 0; i < 10; i++) ck_assert(m->a[i] == 2.0 * i);
    ck_assert_str_eq(m->text, "hellohello");
}
END_TEST

START_TEST(val_11_a_copy_is_independent) {
    struct point *one = mproc_value_new(struct point, {1, 2});
    struct point *two = mproc_array_from(struct point, one, 1);
    one->x = 10;
    ck_assert_int_eq(two->x, 1);
    two->y = 20;
    ck_assert_int_eq(one->y, 2);
    ck_assert_ptr_ne(mproc_lock_of(one), mproc_lock_of(two));
}
END_TEST

START_TEST(pointers_are_aligned_for_any_type) {
    for (size_t size = 1; size < 200; size++) {
        void *block = mproc_shm_new(size);
        ck_assert_ptr_nonnull(block);
        ck_assert_uint_eq((uintptr_t)block % __alignof__(long double), 0);
        ck_assert_uint_eq(mproc_array_len(block), size);
    }
}
END_TEST

/* ---- Their locks ----------------------------------------------------------------------------------------
 */

static int add_under_lock(void *arg) {
    int *sum = arg;
    for (int i = 0; i < 1000; i++) {
        MPROC_WITH (mproc_lock_of(sum)) {
            int seen = *(volatile int *)sum;
            if (i % 100 == 0) sched_yield();
            *(volatile int *)sum = seen + 1;
        }
    }
    return 0;
}

START_TEST(val_03_08_every_object_has_a_lock_of_its_own) {
    int local = 0;
    ck_assert_ptr_null(mproc_lock_of(NULL));
    ck_assert_ptr_null(mproc_lock_of(&local));
    int *sum = mproc_value_new(int, 0);
    double *array = mproc_array_new(double, 3);
    void *raw = mproc_shm_new(64);
    mproc_lock *lock = mproc_lock_of(sum);
    ck_assert(lock != NULL && mproc_lock_of(array) != NULL && mproc_lock_of(raw) != NULL);
    ck_assert(lock != mproc_lock_of(array) && lock != mproc_lock_of(raw));
    ck_assert_ptr_eq(mproc_lock_of(sum), lock);
    ck_assert_ptr_null(mproc_lock_of(&local));
    ck_assert_ptr_null(mproc_lock_of(array + 1));
    ck_assert_ptr_null(mproc_lock_of((char *)raw + 16));

    pid_t pids[8];
    for (int i = 0; i < 8; i++) pids[i] = spawn(add_under_lock, sum);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(ended(pids[i]), 0);
    ck_assert_int_eq(*sum, 8000);

    ck_assert_int_eq(mproc_lock_free(lock), MPROC_EINVAL); /* it goes with its object */
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_free(sum), 0);
    ck_assert_ptr_null(mproc_lock_of(sum));
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_EINVAL);
}
END_TEST

static int hold_lock_of(void *arg) {
    MUST_EQ(mproc_lock_acquire(mproc_lock_of(arg), MPROC_FOREVER), 0);
    POKE(&said[0], 1);
    for (;;) pause();
    return 0;
}

START_TEST(free_while_its_lock_is_held) {
    begin();
    int *value = mproc_value_new(int, 5);
    ck_assert_int_eq(mproc_lock_acquire(mproc_lock_of(value), 0), 0);
    ck_assert_int_eq(mproc_free(value), MPROC_EBUSY);
    ck_assert_int_eq(mproc_lock_release(mproc_lock_of(value)), 0);
    pid_t pid = spawn(hold_lock_of, value);
    EVENTUALLY(PEEK(&said[0]) == 1);
    ck_assert_int_eq(mproc_free(value), MPROC_EBUSY);
    ck_assert_int_eq(*value, 5);
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
    ck_assert_int_eq(mproc_free(value), 0); /* the dead do not count */
    ck_assert_int_eq(mproc_free(value), MPROC_EINVAL);

    value = mproc_value_new(int, 6);
    POKE(&said[0], 0);
    pid = spawn(hold_lock_of, value);
    EVENTUALLY(PEEK(&said[0]) == 1);
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
    int told = 0;
    MPROC_WITH (mproc_lock_of(value)) told = mproc_lock_owner_died(mproc_lock_of(value));
    ck_assert_int_eq(told, 1);
    ck_assert_int_eq(mproc_free(value), 0);
}
END_TEST

/* ---- One family, one memory -----------------------------------------------------------------------------
 */

typedef struct board {
    int *from_parent; /* made after the child was forked */
    int *from_child;
    mproc_queue *queue;
    int step;
} board;

static int made_later(void *arg) {
    board *b = arg;
    await(&b->step, 1);
    MUST_EQ(*b->from_parent, 11);
    MUST_EQ((intmax_t)mproc_array_len(b->from_parent), 1);
    MPROC_WITH (mproc_lock_of(b->from_parent)) *b->from_parent = 12;
    b->from_child = mproc_array_new(int, 1000);
    MUST(b->from_child != NULL);
    for (int i = 0; i < 1000; i++) b->from_child[i] = i;
    return 0;
}

START_TEST(p5_objects_made_after_the_fork) {
    board *b = mproc_shm_new(sizeof *b);
    ck_assert_ptr_nonnull(b);
    pid_t pid = spawn(made_later, b);
    b->from_parent = mproc_value_new(int, 11);
    POKE(&b->step, 1);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(*b->from_parent, 12);
    ck_assert_uint_eq(mproc_array_len(b->from_child), 1000); /* outlives its maker */
    for (int i = 0; i < 1000; i++) ck_assert_int_eq(b->from_child[i], i);
    ck_assert_int_eq(mproc_free(b->from_child), 0);
    ck_assert_int_eq(mproc_free(b->from_parent), 0);
    ck_assert_int_eq(mproc_free(b), 0);
}
END_TEST

enum { THREADS = 8 };
static void *first_use(void *arg) {
    await(&said[0], 1);
    int **place = arg;
    *place = mproc_value_new(int, 77);
    return NULL;
}

static int see_all(void *arg) {
    int **made = arg;
    for (int i = 0; i < THREADS; i++) MUST_EQ(++*made[i], 78);
    return 0;
}

START_TEST(first_use_from_several_threads_at_once) {
    int *made[THREADS];
    pthread_t ids[THREADS];
    begin();
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&ids[i], NULL, first_use, (void *)&made[i]), 0);
    POKE(&said[0], 1);
    for (int i = 0; i < THREADS; i++) ck_assert_int_eq(pthread_join(ids[i], NULL), 0);
    for (int i = 0; i < THREADS; i++) ck_assert_ptr_nonnull(made[i]);
    ck_assert_int_eq(ended(spawn(see_all, (void *)made)), 0);
    for (int i = 0; i < THREADS; i++) ck_assert_int_eq(*made[i], 78);
}
END_TEST

/* ---- The allocator --------------------------------------------------------------------------------------
 */

/* Blocks carry their size and a pattern, so that an overlap shows. */
static void mark(unsigned char *block, size_t size, unsigned tag) {
    for (size_t i = 0; i < size; i++) block[i] = (unsigned char)(tag + i * 7);
}
static bool marked(const unsigned char *block, size_t size, unsigned tag) {
    for (size_t i = 0; i < size; i++) {
        if (block[i] != (unsigned char)(tag + i * 7)) return false;
    }
    return true;
}

START_TEST(val_12_random_allocations) {
    enum { LIVE = 50, ROUNDS = 5000 };
    unsigned char *blocks[LIVE] = {NULL};
    size_t sizes[LIVE] = {0};
    uint64_t seed = make_seed("allocator");
    size_t before = largest_block();
    ck_assert_uint_ge(before, MPROC_ARENA_SIZE / 10 * 9);
    for (int i = 0; i < ROUNDS; i++) {
        size_t k = draw(&seed) % LIVE;
        if (blocks[k] != NULL) {
            ck_assert(marked(blocks[k], sizes[k], (unsigned)k));
            ck_assert_uint_eq(mproc_array_len(blocks[k]), sizes[k]);
            ck_assert_int_eq(mproc_free(blocks[k]), 0);
            blocks[k] = NULL;
        } else {
            sizes[k] = 1 + draw(&seed) % ((size_t)1 << draw(&seed) % 16);
            blocks[k] = mproc_shm_new(sizes[k]);
            ck_assert_ptr_nonnull(blocks[k]);
            ck_assert_int_eq(blocks[k][0] | blocks[k][sizes[k] - 1], 0);
            mark(blocks[k], sizes[k], (unsigned)k);
        }
    }
    for (size_t k = 0; k < LIVE; k++) {
        if (blocks[k] != NULL) ck_assert(marked(blocks[k], sizes[k], (unsigned)k));
        ck_assert_int_eq(mproc_free(blocks[k]), 0);
    }
    ck_assert_uint_eq(largest_block(), before); /* all of it has come together again */
}
END_TEST

START_TEST(flat_memory_when_freed) {
    int rounds = (int)(500000 / SLOW);
    mproc_value_new(int, 0);
    size_t before = largest_block();
    for (int i = 0; i < rounds; i++) {
        int *value = mproc_value_new(int, i);
        char *array = mproc_array_new(char, (size_t)(i % 5000 + 1));
        if (value == NULL || array == NULL || *value != i || mproc_free(value) != 0 || mproc_free(array) != 0)
            ck_abort_msg("round %d", i);
    }
    ck_assert_uint_eq(largest_block(), before);
}
END_TEST

START_TEST(x20_exhausted_and_usable_again) {
    int *value = mproc_value_new(int, 9);
    errno = 0;
    ck_assert_ptr_null(mproc_shm_new(MPROC_ARENA_SIZE));
    ck_assert_int_eq(errno, ENOMEM);
    int n = blocks_of(100000);
    ck_assert_int_ge(n, (int)(MPROC_ARENA_SIZE / 100000 / 10 * 8));
    ck_assert_int_eq(blocks_of(100000), n);
    int small = blocks_of(100);
    ck_assert_int_ge(small, (int)(MPROC_ARENA_SIZE / 400));
    ck_assert_int_eq(blocks_of(100), small);
    ck_assert_int_eq(blocks_of(100000), n); /* small ones come together to large ones */
    ck_assert_int_eq(*value, 9);
}
END_TEST

static int limited_address_space(void *arg) {
    (void)arg;
    struct rlimit limit = {(rlim_t)64 << 20, (rlim_t)64 << 20};
    MUST_EQ(setrlimit(RLIMIT_AS, &limit), 0); /* the arena must come out smaller, not fail */
    int *value = mproc_value_new(int, 3);
    MUST(value != NULL && *value == 3);
    errno = 0;
    MUST(mproc_shm_new((size_t)1 << 30) == NULL);
    MUST_EQ(errno, ENOMEM);
    MUST_EQ(mproc_free(value), 0);
    return 0;
}

static int tiny_dev_shm(void *arg) {
    (void)arg;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=64k") != 0) {
        printf("skipped, no small /dev/shm without privileges: %s\n", strerror(errno));
        return 0;
    }
    char *block = mproc_shm_new((size_t)8 << 20);
    MUST(block != NULL);
    memset(block, 1, (size_t)8 << 20); /* no SIGBUS */
    return 0;
}

static int limited_file_size(void *arg) {
    (void)arg;
    struct rlimit limit = {4096, 4096};
    MUST_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    char *block = mproc_shm_new((size_t)1 << 20);
    MUST(block != NULL);
    memset(block, 1, (size_t)1 << 20);
    MUST_EQ(mproc_free(block), 0);
    return 0;
}

START_TEST(x20_limits_of_the_system) {
    /* each is the first to use the library in its family */
    if (SLOW > 1) printf("skipped: sanitizers need more address space\n");
    else ck_assert_int_eq(ended(spawn(limited_address_space, NULL)), 0);
    ck_assert_int_eq(ended(spawn(tiny_dev_shm, NULL)), 0);
    ck_assert_int_eq(ended(spawn(limited_file_size, NULL)), 0);
}
END_TEST

static void *free_what_comes(void *arg) {
    mproc_queue *queue = arg;
    unsigned char *block;
    while (mproc_queue_get(queue, &block, sizeof block, MPROC_FOREVER) == (ssize_t)sizeof block) {
        MUST(marked(block, mproc_array_len(block), (unsigned)((uintptr_t)block >> 4)));
        MUST_EQ(mproc_free(block), 0);
        BUMP(&said[0]);
    }
    return NULL;
}

static int free_what_comes_here(void *arg) {
    free_what_comes(arg);
    return 0;
}

START_TEST(val_13_one_allocates_others_free) {
    enum { ROUNDS = 5000 };
    begin();
    size_t before = largest_block();
    mproc_queue *queue = mproc_queue_new(0);
    ck_assert_ptr_nonnull(queue);
    pthread_t thread;
    pid_t pid = spawn(free_what_comes_here, queue);
    ck_assert_int_eq(pthread_create(&thread, NULL, free_what_comes, queue), 0);
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = (size_t)(i % 3000 + 1);
        unsigned char *block = mproc_shm_new(size);
        if (block == NULL) ck_abort_msg("round %d: %s", i, strerror(errno));
        mark(block, size, (unsigned)((uintptr_t)block >> 4));
        if (mproc_queue_put(queue, &block, sizeof block, 10 * SLOW) != 0) ck_abort_msg("round %d: put", i);
    }
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(PEEK(&said[0]), ROUNDS);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    ck_assert_uint_eq(largest_block(), before);
}
END_TEST

enum { STORM_WORKERS = 4, STORM_SLOTS = 20, STORM_LARGEST = 4096 };
typedef struct slot {
    unsigned char *block; /* published with one store after it is marked; taken back with one exchange */
} slot;
typedef struct churn_state {
    slot *slots;
    uint64_t seed;
    int worker;
} churn_state;

static int churn(void *arg) {
    churn_state *state = arg;
    for (;;) {
        slot *s = &state->slots[state->worker * STORM_SLOTS + (int)(draw(&state->seed) % STORM_SLOTS)];
        unsigned char *block = __atomic_exchange_n(&s->block, NULL, __ATOMIC_SEQ_CST);
        if (block != NULL) {
            MUST(marked(block, mproc_array_len(block), (unsigned)state->worker));
            MUST_EQ(mproc_free(block), 0);
        } else {
            size_t size = 1 + draw(&state->seed) % STORM_LARGEST;
            block = mproc_shm_new(size);
            MUST(block != NULL);
            mark(block, size, (unsigned)state->worker);
            POKE(&s->block, block);
        }
        BUMP(&said[state->worker]);
    }
    return 0;
}

START_TEST(p1_allocator_survives_killed_processes) {
    enum { KILLS = 300, PROBE = 64 << 10 };
    uint64_t seed = make_seed("allocator kill storm");
    churn_state states[STORM_WORKERS];
    pid_t pids[STORM_WORKERS];
    begin();
    slot *slots = mproc_array_new(slot, STORM_WORKERS * STORM_SLOTS);
    ck_assert_ptr_nonnull(slots);
    int before = blocks_of(PROBE);
    for (int i = 0; i < STORM_WORKERS; i++) {
        states[i] = (churn_state){slots, seed + 1 + (uint64_t)i, i};
        pids[i] = spawn(churn, &states[i]);
    }
    for (int k = 0; k < KILLS; k++) {
        nap((double)(draw(&seed) % 2000) * 1e-6);
        int victim = (int)(draw(&seed) % STORM_WORKERS), other = (victim + 1) % STORM_WORKERS;
        kill(pids[victim], SIGKILL);
        ck_assert_int_eq(ended(pids[victim]), -SIGKILL);
        int at = PEEK(&said[other]);
        EVENTUALLY(PEEK(&said[other]) != at);
        states[victim].seed = draw(&seed) | 1;
        pids[victim] = spawn(churn, &states[victim]);
    }
    for (int i = 0; i < STORM_WORKERS; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < STORM_WORKERS; i++) ck_assert_int_eq(ended(pids[i]), -SIGKILL);
    for (int i = 0; i < STORM_WORKERS * STORM_SLOTS; i++) {
        if (slots[i].block == NULL) continue;
        ck_assert(marked(slots[i].block, mproc_array_len(slots[i].block), (unsigned)(i / STORM_SLOTS)));
        ck_assert_int_eq(mproc_free(slots[i].block), 0);
    }
    /* what each killed process had in its hands, one block, may be lost, and spoils the space around it */
    ck_assert_int_ge(blocks_of(PROBE), before - KILLS - STORM_WORKERS);
}
END_TEST

/* ---- Misuse ---------------------------------------------------------------------------------------------
 */

START_TEST(val_04_x38_sizes_that_make_no_sense) {
    int one = 1;
    const size_t half = SIZE_MAX / 2 + 1;
    errno = 0;
    ck_assert_ptr_null(mproc_array_new(int, 0));
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_shm_new(0));
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_array_from(int, NULL, 3));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_ptr_null(mproc_array_from(int, &one, 0));
    const size_t counts[] = {SIZE_MAX, half, half / 2, SIZE_MAX / 4 + 1, SIZE_MAX / 4, SIZE_MAX / 8 + 2};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        errno = 0;
        ck_assert_ptr_null(mproc_array_new(int, counts[i]));
        ck_assert_int_ne(errno, 0);
        errno = 0;
        ck_assert_ptr_null(mproc_array_new(double, counts[i]));
        ck_assert_int_ne(errno, 0);
        errno = 0;
        ck_assert_ptr_null(mproc_array_from(int, &one, counts[i]));
        ck_assert_int_ne(errno, 0);
    }
    for (size_t less = 0; less < 300; less++) { /* the hidden header must not wrap the sum */
        errno = 0;
        ck_assert_ptr_null(mproc_shm_new(SIZE_MAX - less));
        ck_assert_int_ne(errno, 0);
    }
    ck_assert_ptr_nonnull(mproc_value_new(int, 1));
}
END_TEST

static void refused(void *no_object) {
    ck_assert_int_eq(mproc_free(no_object), MPROC_EINVAL);
    ck_assert_uint_eq(mproc_array_len(no_object), 0);
    ck_assert_ptr_null(mproc_lock_of(no_object));
}

START_TEST(x38_what_is_not_shared_memory_of_ours) {
    uint64_t zeros[64] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    ck_assert_int_eq(mproc_free(NULL), 0);
    ck_assert_uint_eq(mproc_array_len(NULL), 0);
    refused(zeros); /* before anything was made */
    int *value = mproc_value_new(int, 1);
    unsigned char *raw = mproc_shm_new(4096);
    void *heap = calloc(1, 512);
    mproc_lock *lock = mproc_lock_new();
    mproc_queue *queue = mproc_queue_new(2);
    ck_assert(value != NULL && raw != NULL && heap != NULL && lock != NULL && queue != NULL);
    refused(&zeros[32]);
    refused(&ones[32]);
    refused((char *)heap + 256);
    refused((void *)(uintptr_t)8);
    refused((void *)(UINTPTR_MAX - 15));
    refused(lock);
    refused(queue);
    begin();
    refused(said); /* shared by other means */
    free(heap);
}
END_TEST

START_TEST(x38_inside_and_after) {
    int *value = mproc_value_new(int, 1);
    unsigned char *raw = mproc_shm_new(4096);
    ck_assert(value != NULL && raw != NULL);
    memset(raw, 0x55, 4096);
    for (size_t offset = 1; offset < 4096; offset += offset < 64 ? 1 : 8) refused(raw + offset);
    ck_assert_int_eq(mproc_free(raw), 0);
    refused(raw);
    ck_assert_int_eq(mproc_free(value), 0);
    refused(value);
    ck_assert_uint_ge(largest_block(), MPROC_ARENA_SIZE / 10 * 9); /* nothing was harmed */
}
END_TEST

SUITE_MAIN("shared", val_01_02_values_of_many_types, val_05_array_changed_in_place_by_a_child,
           val_06_07_arrays_are_zeroed, val_09_10_several_changed_together, val_11_a_copy_is_independent,
           pointers_are_aligned_for_any_type, val_03_08_every_object_has_a_lock_of_its_own,
           free_while_its_lock_is_held, p5_objects_made_after_the_fork,
           first_use_from_several_threads_at_once, val_12_random_allocations, flat_memory_when_freed,
           x20_exhausted_and_usable_again, x20_limits_of_the_system, val_13_one_allocates_others_free,
           p1_allocator_survives_killed_processes, val_04_x38_sizes_that_make_no_sense,
           x38_what_is_not_shared_memory_of_ours, x38_inside_and_after)
