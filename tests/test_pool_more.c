/* The pool's other half: lazy maps, cancelling, callbacks, event loops, parallel_for, progress, and a storm
   of every kind of task under random kills. Tests carry the numbers of the checklist they come from. */
#define MPROC_IMPLEMENTATION
#include "support.h"
#include "support_pool.h"

/* ---- imap --------------------------------------------------------------------------------------------- */

static int squares_in[2000];
static void fill_squares(void) {
    for (int i = 0; i < 2000; i++) squares_in[i] = i;
}

typedef mproc_iter *(*lazy_map)(mproc_pool *, mproc_task, const void *, size_t, size_t, size_t);
static const lazy_map lazy_maps[2] = {mproc_pool_imap, mproc_pool_imap_unordered};

START_TEST(imap_in_order) { /* POOL-12 */
    static const size_t lengths[] = {1, 2, 10, 100, 1000, 2000};
    fill_squares();
    mproc_pool *pool = pool_of(3);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        mproc_iter *it = mproc_pool_imap(pool, square, squares_in, lengths[k], sizeof(int), sizeof(int));
        NEED(it);
        for (size_t i = 0; i < lengths[k]; i++) {
            int out = -1;
            ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), (ssize_t)i);
            ck_assert_int_eq(out, (int)(i * i));
            ck_assert_uint_eq(mproc_iter_index(it), i);
            ck_assert_int_eq(mproc_iter_code(it), 0);
        }
        for (int again = 0; again < 3; again++) { /* the end is for ever */
            int out = -1;
            TAKES(0, 0.1, ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), MPROC_ECLOSED));
            ck_assert_int_eq(out, -1);
        }
        ck_assert_int_eq(mproc_iter_free(it), 0);
    }
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(imap_unordered_gives_each_once) { /* POOL-14 */
    static const size_t lengths[] = {1, 10, 1000, 2000};
    fill_squares();
    mproc_pool *pool = pool_of(3);
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        static unsigned char seen[2000];
        memset(seen, 0, sizeof seen);
        mproc_iter *it =
            mproc_pool_imap_unordered(pool, square, squares_in, lengths[k], sizeof(int), sizeof(int));
        NEED(it);
        int out = -1;
        ssize_t i;
        while ((i = mproc_iter_next(it, &out, MPROC_FOREVER)) >= 0) {
            ck_assert_uint_lt((size_t)i, lengths[k]);
            ck_assert_int_eq(out, (int)(i * i));
            ck_assert_uint_eq(mproc_iter_index(it), (size_t)i);
            ck_assert_uint_eq(seen[i]++, 0);
        }
        ck_assert_int_eq(i, MPROC_ECLOSED);
        for (size_t n = 0; n < lengths[k]; n++) ck_assert_uint_eq(seen[n], 1);
        ck_assert_int_eq(mproc_iter_free(it), 0);
    }
    free_pool(pool);
}
END_TEST

static int gate_for_zero(const void *arg, void *result) { /* the first item is the slow one */
    if (*(const int *)arg == 0) pass_gate();
    return square(arg, result);
}

START_TEST(imap_unordered_does_not_wait_for_the_slow) {
    new_board();
    fill_squares();
    mproc_pool *pool = pool_of(2);
    mproc_iter *it = mproc_pool_imap_unordered(pool, gate_for_zero, squares_in, 3, sizeof(int), sizeof(int));
    NEED(it);
    int out = 0;
    for (int n = 0; n < 2; n++) {
        ssize_t i = mproc_iter_next(it, &out, 5);
        ck_assert(i == 1 || i == 2);
        ck_assert_int_eq(out, (int)(i * i));
    }
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_iter_next(it, &out, 0.1), MPROC_ETIMEDOUT));
    SET(board->open, 1);
    ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), 0);
    ck_assert_int_eq(out, 0);
    ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    free_pool(pool);
}
END_TEST

static int next_within_a_task(const void *arg, void *result) {
    static const int items[3] = {0, 1, 2};
    mproc_pool *pool = *(mproc_pool *const *)arg;
    mproc_iter *it = mproc_pool_imap_unordered(pool, gate_for_zero, items, 3, sizeof(int), sizeof(int));
    int out;
    while (it != NULL && GET(board->started) == 0) nap(0.001); /* the other worker has the slow one */
    *(ssize_t *)result = mproc_iter_next(it, &out, 5);
    SET(board->open, 1);
    return mproc_iter_free(it);
}
START_TEST(imap_unordered_within_a_task) { /* that does not wait for the slow one either */
    new_board();
    mproc_pool *pool = pool_of(2);
    ssize_t index = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, next_within_a_task, &pool, sizeof pool, &index, sizeof index), 0);
    ck_assert(index == 1 || index == 2);
    free_pool(pool);
}
END_TEST

/* A task maps into its own result and is killed; chunks of that map run yet. */
enum { INNER = 64, OUTER_SIZE = 8192 };
static int gate_and_scribble(const void *arg, void *result) {
    (void)arg;
    ADD(board->started, 1);
    while (!GET(board->open)) nap(0.001);
    memset(result, 0x5a, OUTER_SIZE / INNER);
    return 0;
}
static int map_into_result(const void *arg, void *result) {
    int in[INNER] = {0};
    SET(board->child, getpid());
    return mproc_pool_map(*(mproc_pool *const *)arg, gate_and_scribble, in, INNER, sizeof(int), result,
                          OUTER_SIZE / INNER);
}
START_TEST(a_killed_tasks_map_leaves_alone_what_lies_where_its_result_lay) {
    enum { ARRAYS = 8 };
    char *array[ARRAYS];
    new_board();
    mproc_pool *pool = pool_of(3);
    mproc_future *future = mproc_pool_apply_async(pool, map_into_result, &pool, sizeof pool, OUTER_SIZE);
    NEED(future);
    EVENTUALLY(GET(board->started) == 2 + 1); /* the task waits for a chunk that it runs itself */
    kill(GET(board->child), SIGKILL);
    ck_assert_int_eq(finish(future, NULL), MPROC_ECRASHED);
    for (int i = 0; i < ARRAYS; i++)
        NEED(array[i] = memset(mproc_array_new(char, OUTER_SIZE), 7, OUTER_SIZE));
    SET(board->open, 1);
    EVENTUALLY(counts_of(pool).done == INNER - 1 && is_idle(pool));
    for (int i = 0; i < ARRAYS; i++) {
        for (int k = 0; k < OUTER_SIZE; k++) ck_assert_int_eq(array[i][k], 7);
        ck_assert_int_eq(mproc_free(array[i]), 0);
    }
    free_pool(pool);
}
END_TEST

/* Each worker leaves after one task, and its count goes over to the next one without a gap. */
START_TEST(counts_never_go_back) {
    enum { N = 500 };
    mproc_pool_counts counts = {0};
    size_t last = 0, back = 0;
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .max_tasks_per_worker = 1});
    for (int i = 0; i < N; i++) ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, 10), 0);
    for (double give_up = now() + 20; counts.done < N && now() < give_up; last = counts.done)
        for (int look = 0; look < 1000; look++, last = counts.done)
            if (mproc_pool_stats(pool, &counts) == 0) back += counts.done < last;
    ck_assert_uint_eq(counts.done, N);
    ck_assert_uint_eq(back, 0);
    free_pool(pool);
}
END_TEST

START_TEST(counts_of_a_pool_that_is_over) {
    for (int way = 0; way < 2; way++) {
        new_board();
        adopt_orphans();
        mproc_pool *pool = pool_of(1);
        mproc_future *future = begin(pool, gate, 0, 0);
        EVENTUALLY(GET(board->started) == 1);
        for (int i = 0; i < 3; i++) ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, 10), 0);
        ck_assert_uint_eq(counts_of(pool).pending, 3);
        if (way == 0) ck_assert_int_eq(mproc_pool_terminate(pool), 0);
        else kill(supervisor(), SIGKILL);
        ck_assert_int_eq(finish(future, NULL), way == 0 ? MPROC_ECANCELED : MPROC_EBROKEN);
        mproc_pool_counts counts = counts_of(pool);
        ck_assert_uint_eq(counts.workers + counts.running + counts.pending, 0);
        ck_assert_int_eq(mproc_pool_free(pool), 0);
    }
}
END_TEST

START_TEST(imap_next_in_time_or_later) { /* POOL-37, EXEC-03 */
    new_board();
    fill_squares();
    mproc_pool *pool = pool_of(2);
    mproc_iter *it = mproc_pool_imap(pool, gate_for_zero, squares_in, 5, sizeof(int), sizeof(int));
    NEED(it);
    int out = -1;
    ck_assert_int_eq(mproc_iter_next(it, &out, 0), MPROC_ETIMEDOUT);
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_iter_next(it, &out, 0.1), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_iter_next(it, &out, (double)NAN), MPROC_EINVAL);
    ck_assert_int_eq(out, -1);
    SET(board->open, 1);
    for (int i = 0; i < 5; i++) { /* nothing was lost */
        ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), i);
        ck_assert_int_eq(out, i * i);
    }
    ck_assert_int_eq(mproc_iter_next(it, &out, 0), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    free_pool(pool);
}
END_TEST

START_TEST(imap_of_nothing) { /* POOL-08 */
    mproc_pool *pool = pool_of(1);
    int out = 7;
    for (int k = 0; k < 2; k++) {
        mproc_iter *it = lazy_maps[k](pool, square, NULL, 0, sizeof(int), sizeof(int));
        NEED(it);
        ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), MPROC_ECLOSED);
        ck_assert_int_eq(mproc_iter_free(it), 0);
    }
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    free_pool(pool);
}
END_TEST

/* Number, and what it does: 0 squares, 1 fails with 40 + number, 2 dies. */
static int mixed(const void *arg, void *result) {
    const int *item = arg;
    ADD(board->ran[item[0]], 1);
    if (item[1] == 1) return 40 + item[0];
    if (item[1] == 2) raise(SIGKILL);
    *(int *)result = item[0] * item[0];
    return 0;
}

START_TEST(imap_tells_each_items_own_error) { /* EXEC-02 */
    enum { N = 60 };
    int in[N][2];
    for (int k = 0; k < 2; k++) {
        new_board();
        for (int i = 0; i < N; i++) in[i][0] = i, in[i][1] = i % 10 == 3 ? 1 : i % 20 == 7 ? 2 : 0;
        mproc_pool *pool = pool_of(2);
        mproc_iter *it = lazy_maps[k](pool, mixed, in, N, sizeof in[0], sizeof(int));
        NEED(it);
        int seen[N] = {0};
        for (int n = 0; n < N; n++) {
            int out = -1;
            ssize_t got = mproc_iter_next(it, &out, MPROC_FOREVER);
            size_t i = mproc_iter_index(it);
            ck_assert_uint_lt(i, N);
            if (k == 0) ck_assert_uint_eq(i, (size_t)n);
            ck_assert_int_eq(seen[i]++, 0);
            if (in[i][1] == 0) {
                ck_assert_int_eq(got, (ssize_t)i);
                ck_assert_int_eq(out, (int)(i * i));
            }
            if (in[i][1] == 1) ck_assert_int_eq(got, MPROC_EFAILED);
            if (in[i][1] == 2) ck_assert_int_eq(got, MPROC_ECRASHED);
            ck_assert_int_eq(mproc_iter_code(it), in[i][1] == 0 ? 0 : in[i][1] == 1 ? 40 + (int)i : -SIGKILL);
        }
        ck_assert_int_eq(mproc_iter_next(it, NULL, MPROC_FOREVER), MPROC_ECLOSED);
        for (int i = 0; i < N; i++) ck_assert_uint_eq(board->ran[i], 1);
        ck_assert_int_eq(mproc_iter_free(it), 0);
        expect_works(pool);
        free_pool(pool);
    }
}
END_TEST

/* X-58, EXEC-38: a million tiny items, right, in order, and looked at only a bounded number ahead. */
static int note_progress(const void *arg, void *result) {
    ADD(board->counter, 1);
    *(uint32_t *)result = *(const uint32_t *)arg ^ 0xa5a5a5a5u;
    return 0;
}
START_TEST(imap_of_a_million_items) {
    enum { N = 1000000 };
    uint32_t *in = malloc(N * sizeof *in);
    NEED(in);
    for (uint32_t i = 0; i < N; i++) in[i] = i * 3;
    for (int k = 0; k < 2; k++) {
        new_board();
        mproc_pool *pool = pool_of(2);
        mproc_iter *it = lazy_maps[k](pool, note_progress, in, N, sizeof *in, sizeof *in);
        NEED(it);
        uint32_t out = 0;
        ssize_t first = mproc_iter_next(it, &out, MPROC_FOREVER);
        ck_assert_int_ge(first, 0);
        for (int before = -1; before != GET(board->counter); nap(0.05)) before = GET(board->counter);
        ck_assert_msg(GET(board->counter) < N / 4, "%d items ran ahead of the first", GET(board->counter));
        uint64_t sum = (uint64_t)first;
        for (ssize_t n = 1; n < N; n++) {
            ssize_t i = mproc_iter_next(it, &out, MPROC_FOREVER);
            if (i < 0 || i >= N || out != (in[i] ^ 0xa5a5a5a5u) || (k == 0 && i != n))
                ck_abort_msg("item %zd is %zd", n, i);
            sum += (uint64_t)i;
        }
        ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), MPROC_ECLOSED);
        ck_assert_uint_eq(sum, (uint64_t)N * (N - 1) / 2);
        ck_assert_int_eq(GET(board->counter), N);
        ck_assert_int_eq(mproc_iter_free(it), 0);
        free_pool(pool);
    }
    free(in);
}
END_TEST

START_TEST(imap_left_half_way) {
    fill_squares();
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .backlog = 32});
    for (int round = 0; round < 40; round++) {
        mproc_iter *it = lazy_maps[round % 2](pool, square, squares_in, 2000, sizeof(int), sizeof(int));
        NEED(it);
        int out = 0;
        for (int i = 0; i < round; i++) ck_assert_int_ge(mproc_iter_next(it, &out, MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_iter_free(it), 0);
        ck_assert_int_eq(mproc_iter_free(it), MPROC_EINVAL);
        expect_works(pool);
    }
    mproc_iter *one = mproc_pool_imap(pool, square, squares_in, 2000, sizeof(int), sizeof(int));
    mproc_iter *two = mproc_pool_imap_unordered(pool, square, squares_in, 2000, sizeof(int), sizeof(int));
    NEED(one);
    NEED(two);
    long sum = 0, wanted = 0;
    for (int i = 0; i < 2000; i++) { /* two at once do not block each other */
        int out = 0;
        wanted += 2L * i * i;
        ck_assert_int_eq(mproc_iter_next(one, &out, MPROC_FOREVER), i);
        sum += out;
        ck_assert_int_ge(mproc_iter_next(two, &out, MPROC_FOREVER), 0);
        sum += out;
    }
    ck_assert_int_eq(sum, wanted);
    ck_assert_int_eq(mproc_iter_free(one), 0);
    ck_assert_int_eq(mproc_iter_free(two), 0);
    free_pool(pool);
}
END_TEST

static int next_call(struct call *call) {
    int out = 0;
    return (int)mproc_iter_next((mproc_iter *)(void *)call->future, &out, MPROC_FOREVER);
}
START_TEST(imap_and_the_end_of_its_pool) { /* */
    fill_squares();
    adopt_orphans();
    for (int way = 0; way < 2; way++)
        for (int k = 0; k < 2; k++) {
            new_board();
            mproc_pool *pool = pool_of(1);
            pid_t boss = supervisor();
            mproc_iter *it = lazy_maps[k](pool, gate_for_zero, squares_in, 2000, sizeof(int), sizeof(int));
            NEED(it);
            EVENTUALLY(GET(board->started) == 1);
            struct call call = {.function = next_call, .future = (mproc_future *)(void *)it};
            call_begin(&call);
            EVENTUALLY(call_blocks(&call));
            double start = now();
            if (way == 0) ck_assert_int_eq(mproc_pool_terminate(pool), 0);
            else kill(boss, SIGKILL);
            ck_assert_int_eq(call_end(&call), way == 0 ? MPROC_ECANCELED : MPROC_EBROKEN);
            ck_assert_msg(call.returned - start < 1 + 2 * SLOW, "%.2f s", call.returned - start);
            int error = 0, steps = 0, out = 0; /* the rest ends too, and does not hang */
            while (error != MPROC_ECLOSED && error != MPROC_EBROKEN && steps++ < 3000) {
                TAKES(0, 0.1, error = (int)mproc_iter_next(it, &out, MPROC_FOREVER));
                ck_assert_int_lt(error, 0);
            }
            ck_assert_int_le(steps, 2001);
            ck_assert_int_eq(mproc_iter_free(it), 0);
            ck_assert_int_eq(mproc_pool_free(pool), 0);
            expect_nothing_left(1);
        }
}
END_TEST

/* Its memory is another's by then: a pool's, or that of an array full of what looks like ready tasks. */
START_TEST(imap_of_a_pool_that_was_freed) {
    enum { WORDS = 1 << 17 };
    fill_squares();
    for (int way = 0; way < 3; way++) { /* freed with items ahead; after the last one; by another process */
        int n = way == 1 ? 10 : 2000, out = 0;
        mproc_pool *pool = pool_of(1);
        mproc_iter *one = mproc_pool_imap(pool, square, squares_in, (size_t)n, sizeof(int), sizeof(int));
        mproc_iter *two = mproc_pool_imap_unordered(pool, square, squares_in, 2000, sizeof(int), sizeof(int));
        NEED(one);
        NEED(two);
        for (int i = 0; i < 10; i++) ck_assert_int_eq(mproc_iter_next(one, &out, MPROC_FOREVER), i);
        pid_t child = way == 2 ? mproc_fork() : 0;
        if (way == 2 && child == 0) _exit(mproc_pool_free(pool) != 0);
        if (way == 2) ck_assert_int_eq(mproc_wait(child, NULL, MPROC_FOREVER), 0);
        else ck_assert_int_eq(mproc_pool_free(pool), 0);
        if (way == 2) await_supervisors_end();
        new_board();
        mproc_pool *fresh = way == 2 ? pool_of(1) : NULL;
        mproc_future *future[50];
        for (int i = 0; way == 2 && i < 50; i++) future[i] = begin(fresh, gate_square, i, sizeof(int));
        uint64_t *words = mproc_array_new(uint64_t, WORDS);
        NEED(words);
        for (int i = 0; i < WORDS; i++) words[i] = 2;
        ck_assert_int_eq(mproc_iter_next(one, &out, 0), way == 1 ? MPROC_ECLOSED : MPROC_EINVAL);
        ck_assert_int_eq(mproc_iter_next(two, &out, 0), MPROC_EINVAL);
        ck_assert_uint_eq(mproc_iter_index(one), 9);
        ck_assert_int_eq(mproc_iter_free(one), 0);
        ck_assert_int_eq(mproc_iter_free(two), 0);
        ck_assert_int_eq(mproc_iter_next(two, &out, 0), MPROC_EINVAL);
        for (int i = 0; i < WORDS; i++) ck_assert_uint_eq(words[i], 2);
        ck_assert_int_eq(mproc_free(words), 0);
        SET(board->open, 1);
        for (int i = 0; way == 2 && i < 50; i++) {
            ck_assert_int_eq(finish(future[i], &out), 0);
            ck_assert_int_eq(out, i * i);
        }
        if (way == 2) free_pool(fresh);
    }
}
END_TEST

static int gate_and_look(const void *arg, void *result) { /* it finds another item than it was given? */
    (void)result;
    pass_gate();
    if (*(const int *)arg == 12345) ADD(board->counter, 1);
    return 0;
}
/* The items are copied: a chunk that has begun does not look into memory that is another's by then. */
START_TEST(imap_of_an_array_freed_after_the_iterator) {
    enum { N = 2000 };
    new_board();
    mproc_pool *pool = pool_of(1);
    for (int k = 0; k < 2; k++) {
        SET(board->open, 0);
        SET(board->started, 0);
        int *in = mproc_array_new(int, N);
        NEED(in);
        mproc_iter *it = lazy_maps[k](pool, gate_and_look, in, N, sizeof(int), 0);
        NEED(it);
        EVENTUALLY(GET(board->started) == 1);
        ck_assert_int_eq(mproc_iter_free(it), 0);
        for (int i = 0; i < N; i++) in[i] = 12345; /* as its next owner might */
        ck_assert_int_eq(mproc_free(in), 0);
        SET(board->open, 1);
        EVENTUALLY(is_idle(pool));
        ck_assert_int_gt(GET(board->ended), 1);
        ck_assert_int_eq(GET(board->counter), 0);
    }
    free_pool(pool);
}
END_TEST

START_TEST(imap_misused) {
    fill_squares();
    mproc_pool *pool = pool_of(1);
    for (int k = 0; k < 2; k++) {
        errno = 0;
        ck_assert_ptr_null(lazy_maps[k](NULL, square, squares_in, 5, sizeof(int), sizeof(int)));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(lazy_maps[k](pool, NULL, squares_in, 5, sizeof(int), sizeof(int)));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(lazy_maps[k](pool, square, NULL, 5, sizeof(int), sizeof(int)));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_ptr_null(lazy_maps[k](pool, square, squares_in, SIZE_MAX / 2, sizeof(int), sizeof(int)));
        ck_assert(errno == EINVAL || errno == ENOMEM);
    }
    int out = 0;
    mproc_iter *garbage[] = {NULL, (mproc_iter *)(void *)pool, (mproc_iter *)(void *)&out};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(mproc_iter_next(garbage[i], &out, 0), MPROC_EINVAL);
        ck_assert_int_eq(mproc_iter_free(garbage[i]), i == 0 ? 0 : MPROC_EINVAL);
        (void)mproc_iter_index(garbage[i]);
        ck_assert_int_ne(mproc_iter_code(garbage[i]), 0);
    }
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    errno = 0;
    ck_assert_ptr_null(mproc_pool_imap(pool, square, squares_in, 5, sizeof(int), sizeof(int)));
    ck_assert_int_eq(errno, -MPROC_ECLOSED);
    free_pool(pool);
}
END_TEST

START_TEST(close_with_an_imap_under_way) { /* it was accepted whole, though it is handed in lazily */
    fill_squares();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .backlog = 16});
    mproc_iter *it = mproc_pool_imap(pool, square, squares_in, 2000, sizeof(int), sizeof(int));
    NEED(it);
    int out = 0;
    ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    for (int i = 1; i < 2000; i++) {
        ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), i);
        ck_assert_int_eq(out, i * i);
    }
    ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    free_pool(pool);
}
END_TEST

/* A close hands in the rest in large chunks: the limits are for each item all the same. */
START_TEST(close_with_an_imap_under_way_and_limits) {
    static double times[200];
    pid_t worker[200];
    times[150] = 1000;
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .task_timeout = 0.5});
    mproc_iter *it = mproc_pool_imap(pool, sleep_for, times, 200, sizeof times[0], 0);
    NEED(it);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(mproc_iter_next(it, NULL, MPROC_FOREVER), i == 150 ? MPROC_ETIMEDOUT : i);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    EVENTUALLY(counts_of(pool).done == 199 && counts_of(pool).timed_out == 1);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    pool = pool_with((mproc_pool_options){.workers = 1, .max_tasks_per_worker = 3});
    it = mproc_pool_imap(pool, own_pid, squares_in, 200, sizeof(int), sizeof(int));
    NEED(it);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(mproc_iter_next(it, &worker[i], MPROC_FOREVER), i);
        int same = 0;
        for (int k = 0; k <= i; k++) same += worker[k] == worker[i];
        ck_assert_int_le(same, 3);
    }
    ck_assert_int_eq(mproc_iter_next(it, NULL, MPROC_FOREVER), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    ck_assert_uint_eq(counts_of(pool).done, 200);
    free_pool(pool);
}
END_TEST

static int close_call(struct call *call) { return mproc_pool_close(call->pool); }

/* A close waits for room; the iterator's own thread, and that of another pool's, are not held up by that. */
START_TEST(close_that_waits_holds_no_iterator_up) {
    new_board();
    fill_squares();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 1}), *other = pool_of(1);
    mproc_iter *it = mproc_pool_imap(pool, gate_square, squares_in, 40, sizeof(int), sizeof(int));
    mproc_iter *others = mproc_pool_imap(other, square, squares_in, 40, sizeof(int), sizeof(int));
    struct call closer = {.function = close_call, .pool = pool};
    int out = 0;
    call_begin(&closer);
    EVENTUALLY(GET(board->started) == 1 && call_blocks(&closer));
    TAKES(0, 0.2, ck_assert_int_eq(mproc_iter_next(others, &out, 1), 0));
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_iter_next(it, &out, 0.1), MPROC_ETIMEDOUT));
    ck_assert(!GET(closer.done));
    SET(board->open, 1);
    for (int i = 0; i < 40; i++) {
        ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), i);
        ck_assert_int_eq(out, i * i);
    }
    ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), MPROC_ECLOSED);
    ck_assert_int_eq(call_end(&closer), 0);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    ck_assert_int_eq(mproc_iter_free(others), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    free_pool(other);
}
END_TEST

/* ---- Cancelling --------------------------------------------------------------------------------------- */

START_TEST(a_queued_task_is_cancelled_and_never_runs) { /* EXEC-41 */
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *running = begin(pool, gate, 0, 0), *queued[20];
    EVENTUALLY(GET(board->started) == 1);
    for (int i = 0; i < 20; i++) queued[i] = begin(pool, mark, i, 0);
    for (int i = 0; i < 20; i += 2) {
        ck_assert_int_eq(mproc_future_cancel(queued[i]), 0);
        ck_assert(mproc_future_ready(queued[i]));
        ck_assert(!mproc_future_successful(queued[i]));
        ck_assert_int_eq(mproc_future_get(queued[i], NULL, 0), MPROC_ECANCELED);
    }
    pid_t pid;
    ck_assert_int_eq(workers_of(&pid, 1), 1);
    SET(board->open, 1);
    ck_assert_int_eq(finish(running, NULL), 0);
    for (int i = 0; i < 20; i++) ck_assert_int_eq(finish(queued[i], NULL), i % 2 == 0 ? MPROC_ECANCELED : 0);
    for (int i = 0; i < 20; i++) ck_assert_int_eq(board->ran[i], i % 2);
    pid_t after = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, own_pid, NULL, 0, &after, sizeof after), 0);
    ck_assert_int_eq(pid, after); /* no worker had to go for that */
    EVENTUALLY(is_idle(pool));
    ck_assert_uint_eq(counts_of(pool).done, 12);
    ck_assert_uint_eq(counts_of(pool).crashed + counts_of(pool).failed, 0);
    free_pool(pool);
}
END_TEST

static int leave_a_child_and_wait(const void *arg, void *result) {
    pid_t child = fork();
    if (child == 0)
        for (;;) pause();
    SET(board->child, child);
    return gate(arg, result);
}
START_TEST(a_running_task_is_cancelled_with_its_children) {
    adopt_orphans();
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *running = begin(pool, leave_a_child_and_wait, 0, 0),
                 *next = begin(pool, square, 5, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    TAKES(0, 1, ck_assert_int_eq(mproc_future_cancel(running), 0));
    TAKES(0, 1, ck_assert_int_eq(mproc_future_get(running, NULL, MPROC_FOREVER), MPROC_ECANCELED));
    ck_assert(!mproc_future_successful(running));
    int error = mproc_future_cancel(running); /* once more: harmless */
    ck_assert_msg(error <= 0, "%d", error);
    ck_assert_int_eq(mproc_future_get(running, NULL, 0), MPROC_ECANCELED);
    EVENTUALLY(process_gone(GET(board->child)));
    int result = 0;
    ck_assert_int_eq(finish(next, &result), 0);
    ck_assert_int_eq(result, 25);
    ck_assert_int_eq(mproc_future_free(running), 0);
    EVENTUALLY(counts_of(pool).workers == 1);
    ck_assert_uint_eq(counts_of(pool).crashed, 0);
    ck_assert_int_eq(GET(board->ended), 0);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    expect_nothing_left(1);
}
END_TEST

static int scribble(const void *arg, void *result) {
    for (;;) *(volatile int *)result = *(const int *)arg;
    return 0;
}
/* A task that was ended by force does not write into the next one that has its slot. */
START_TEST(a_doomed_task_leaves_its_slot_alone) {
    mproc_pool *slow = pool_of(2),
               *limited = pool_with((mproc_pool_options){.workers = 2, .task_timeout = 0.01});
    for (int i = 0; i < 400; i++) {
        bool cancels = i % 2 == 0;
        mproc_pool *pool = cancels ? slow : limited;
        int result = -1;
        mproc_future *future = begin(pool, scribble, -2, sizeof(int));
        if (cancels) EVENTUALLY(counts_of(pool).running == 1);
        if (cancels) ck_assert_int_eq(mproc_future_cancel(future), 0);
        ck_assert_int_eq(finish(future, &result), cancels ? MPROC_ECANCELED : MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_pool_apply(pool, square, &i, sizeof i, &result, sizeof result), 0);
        ck_assert_int_eq(result, i * i);
    }
    ck_assert_uint_eq(counts_of(limited).timed_out, 200);
    ck_assert_uint_eq(counts_of(slow).crashed + counts_of(limited).crashed, 0);
    ck_assert_int_eq(mproc_pool_free(slow), 0);
    free_pool(limited);
}
END_TEST

static int submit_nothing_call(struct call *call) {
    return mproc_pool_submit(call->pool, nothing, NULL, 0, MPROC_FOREVER);
}
START_TEST(cancelled_tasks_leave_the_backlog) {
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 8});
    mproc_future *running = begin(pool, gate, 0, 0), *waiting[8];
    EVENTUALLY(GET(board->started) == 1);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++) waiting[i] = begin(pool, gate, i, 0);
        ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, 0), MPROC_ETIMEDOUT);
        struct call submitter = {.function = submit_nothing_call, .pool = pool};
        if (round == 2) call_begin(&submitter);
        if (round == 2) EVENTUALLY(call_blocks(&submitter));
        for (int i = 0; i < 8; i++) ck_assert_int_eq(mproc_future_cancel(waiting[i]), 0);
        for (int i = 0; i < 8; i++) ck_assert_int_eq(mproc_future_free(waiting[i]), 0);
        if (round == 2) ck_assert_int_eq(call_end(&submitter), 0);
    }
    SET(board->open, 1);
    ck_assert_int_eq(finish(running, NULL), 0);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(a_done_task_cannot_be_cancelled) {
    mproc_pool *pool = pool_of(1);
    mproc_future *good = begin(pool, square, 5, sizeof(int)), *bad = begin(pool, fail_with, 9, 0);
    ck_assert_int_eq(mproc_future_wait(good, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_future_wait(bad, MPROC_FOREVER), 0);
    ck_assert_int_lt(mproc_future_cancel(good), 0);
    ck_assert_int_lt(mproc_future_cancel(bad), 0);
    int result = 0;
    ck_assert_int_eq(mproc_future_code(bad), 9);
    ck_assert_int_eq(finish(good, &result), 0);
    ck_assert_int_eq(result, 25);
    ck_assert_int_eq(finish(bad, NULL), MPROC_EFAILED);
    ck_assert_int_eq(mproc_future_cancel(NULL), MPROC_EINVAL);
    ck_assert_int_eq(mproc_future_cancel((mproc_future *)(void *)pool), MPROC_EINVAL);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

static int get_int_call(struct call *call) { return mproc_future_get(call->future, NULL, MPROC_FOREVER); }

/* Cancelled at a random instant of its life: it ends once, as done or as cancelled, and so says everybody. */
START_TEST(cancelling_races_with_running) {
    uint64_t seed = 31337;
    new_board();
    mproc_pool *pool = pool_of(2);
    int cancelled = 0;
    for (int i = 0; i < 400; i++) {
        mproc_future *future = begin(pool, mark, i, 0);
        for (size_t spin = random_below(&seed, 30000); spin > 0; spin--) __asm__ volatile("");
        struct call call = {.function = get_int_call, .future = future};
        if (i % 10 == 0) call_begin(&call);
        int error = mproc_future_cancel(future), told = mproc_future_get(future, NULL, MPROC_FOREVER);
        if (error == 0) ck_assert_int_eq(told, MPROC_ECANCELED);
        else ck_assert_int_eq(told, 0);
        if (i % 10 == 0) ck_assert_int_eq(call_end(&call), told);
        ck_assert_int_eq(mproc_future_get(future, NULL, 0), told);
        if (told == 0) ck_assert_uint_eq(GET(board->ran[i]), 1);
        else ck_assert_uint_le(GET(board->ran[i]), 1);
        cancelled += told != 0;
        ck_assert_int_eq(mproc_future_free(future), 0);
    }
    EVENTUALLY(is_idle(pool) && counts_of(pool).workers == 2);
    ck_assert_uint_eq(counts_of(pool).done, (size_t)(400 - cancelled));
    ck_assert_uint_eq(counts_of(pool).crashed, 0);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(cancelled_right_before_the_end) { /* EXEC-21, EXEC-22 */
    new_board();
    mproc_pool *pool = pool_of(2);
    mproc_future *futures[50];
    for (int i = 0; i < 50; i++) futures[i] = begin(pool, i < 2 ? gate : mark, i, 0);
    EVENTUALLY(GET(board->started) == 2);
    for (int i = 2; i < 50; i++) ck_assert_int_eq(mproc_future_cancel(futures[i]), 0);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    SET(board->open, 1);
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
    for (int i = 0; i < 50; i++) ck_assert_int_eq(finish(futures[i], NULL), i < 2 ? 0 : MPROC_ECANCELED);
    for (int i = 2; i < 50; i++) ck_assert_uint_eq(board->ran[i], 0);
    free_pool(pool);
}
END_TEST

START_TEST(cancelled_from_another_process) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *running = begin(pool, gate, 0, 0), *queued = begin(pool, mark, 3, 0);
    EVENTUALLY(GET(board->started) == 1);
    pid_t child = mproc_fork();
    if (child == 0) _exit(mproc_future_cancel(queued) == 0 && mproc_future_cancel(running) == 0 ? 0 : 1);
    int code = -1;
    ck_assert_int_eq(mproc_wait(child, &code, MPROC_FOREVER), 0);
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(finish(running, NULL), MPROC_ECANCELED);
    ck_assert_int_eq(finish(queued, NULL), MPROC_ECANCELED);
    expect_works(pool);
    ck_assert_uint_eq(board->ran[3], 0);
    free_pool(pool);
}
END_TEST

/* ---- Callbacks and event loops ------------------------------------------------------------------------ */

struct record {
    mproc_future *future; /* that the callback was called for */
    int calls, error, result;
    pid_t pid;
};
static void record_end(mproc_future *future, void *ctx) {
    struct record *record = ctx;
    record->future = future;
    record->calls++;
    record->pid = getpid();
    record->error = mproc_future_get(future, &record->result, 0); /* it is done, this cannot wait */
}

START_TEST(callbacks_run_once) { /* POOL-05, POOL-26, EXEC-42 */
    new_board();
    mproc_pool *pool = pool_of(1);
    struct record before = {0}, after = {0}, second = {0}, bad = {0}, crashed = {0};
    memset(&before, 0, sizeof before);
    mproc_future *future = begin(pool, gate_square, 6, sizeof(int));
    ck_assert_int_eq(mproc_future_on_done(future, record_end, &before), 0);
    EVENTUALLY(GET(board->started) == 1);
    mproc_future_ready(future);
    ck_assert_int_eq(before.calls, 0);
    SET(board->open, 1);
    ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
    ck_assert_int_eq(before.calls, 1); /* before wait returned */
    ck_assert_ptr_eq(before.future, future);
    ck_assert_int_eq(before.error, 0);
    ck_assert_int_eq(before.result, 36);
    ck_assert_int_eq(before.pid, getpid());
    int added = mproc_future_on_done(future, record_end, &after); /* when it is over already */
    if (added == 0) {
        ck_assert_int_eq(mproc_future_wait(future, 0), 0);
        ck_assert_int_eq(after.calls, 1);
        ck_assert_int_eq(after.result, 36);
    }
    mproc_future *failing = begin(pool, fail_with, 5, 0), *dying = begin(pool, die, KILLED, 0);
    ck_assert_int_eq(mproc_future_on_done(failing, record_end, &bad), 0);
    ck_assert_int_eq(mproc_future_on_done(dying, record_end, &crashed), 0);
    ck_assert_int_eq(mproc_future_wait(failing, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_future_wait(dying, MPROC_FOREVER), 0);
    ck_assert_int_eq(bad.calls, 1);
    ck_assert_int_eq(bad.error, MPROC_EFAILED);
    ck_assert_int_eq(crashed.calls, 1);
    ck_assert_int_eq(crashed.error, MPROC_ECRASHED);
    mproc_future *early = begin(pool, square, 2, sizeof(int)); /* over, but nobody has looked yet */
    EVENTUALLY(counts_of(pool).done == 2);
    ck_assert_int_eq(mproc_future_on_done(early, record_end, &second), 0);
    ck_assert_int_eq(mproc_future_get(early, NULL, MPROC_FOREVER), 0);
    ck_assert_int_eq(second.calls, 1);
    expect_works(pool);
    ck_assert_int_eq(before.calls + bad.calls + crashed.calls + second.calls, 4);
    mproc_future *all[4] = {future, failing, dying, early};
    for (int i = 0; i < 4; i++) ck_assert_int_eq(mproc_future_free(all[i]), 0);
    ck_assert_int_eq(before.calls + bad.calls + crashed.calls + second.calls, 4);
    ck_assert_int_eq(mproc_future_on_done(NULL, record_end, &bad), MPROC_EINVAL);
    free_pool(pool);
}
END_TEST

/* Several of one future, in the order they were asked for, some when it is over already. */
START_TEST(callbacks_of_one_future) { /* EXEC-42 */
    new_board();
    mproc_pool *pool = pool_of(1);
    struct record records[4];
    memset(records, 0, sizeof records);
    mproc_future *future = begin(pool, gate_square, 6, sizeof(int));
    ck_assert_int_eq(mproc_future_on_done(future, NULL, NULL), MPROC_EINVAL);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(mproc_future_on_done(future, record_end, &records[i]), 0);
    ck_assert_int_eq(records[0].calls + records[1].calls + records[2].calls, 0);
    SET(board->open, 1);
    ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(records[i].calls, 1);
    ck_assert_int_eq(mproc_future_on_done(future, record_end, &records[3]), 0);
    ck_assert_int_eq(records[3].calls, 1); /* at once */
    ck_assert_int_eq(mproc_future_wait(future, 0), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(records[i].calls, 1);
        ck_assert_int_eq(records[i].error, 0);
        ck_assert_int_eq(records[i].result, 36);
    }
    ck_assert_int_eq(mproc_future_free(future), 0);
    free_pool(pool);
}
END_TEST

static void count_end(mproc_future *future, void *ctx) {
    ++*(int *)ctx;
    mproc_future_free(future); /* allowed: it is over */
}

START_TEST(callbacks_of_many_run_in_any_call) {
    enum { N = 3000 };
    mproc_pool *pool = pool_of(2);
    int ends = 0;
    for (int i = 0; i < N; i++) {
        mproc_future *future = begin(pool, nothing, i, 0);
        ck_assert_int_eq(mproc_future_on_done(future, count_end, &ends), 0);
    }
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    mproc_pool_counts counts;
    EVENTUALLY(mproc_pool_stats(pool, &counts) == 0 && ends >= N);
    ck_assert_int_eq(ends, N);
    free_pool(pool);
}
END_TEST

struct chain {
    mproc_pool *pool;
    int left;
};
static void chain_on(mproc_future *future, void *ctx) { /* a callback hands in the next task */
    struct chain *chain = ctx;
    if (mproc_future_free(future) != 0 || chain->left-- == 0) return;
    mproc_future *next = mproc_pool_apply_async(chain->pool, nothing, NULL, 0, 0);
    if (next == NULL || mproc_future_on_done(next, chain_on, chain) != 0) abort();
}
START_TEST(callbacks_that_submit) {
    mproc_pool *pool = pool_of(1);
    struct chain chain = {pool, 200};
    mproc_future *first = begin(pool, nothing, 0, 0);
    ck_assert_int_eq(mproc_future_on_done(first, chain_on, &chain), 0);
    mproc_pool_counts counts;
    EVENTUALLY(mproc_pool_stats(pool, &counts) == 0 && counts.done == 201 && chain.left < 0);
    free_pool(pool);
}
END_TEST

START_TEST(callbacks_are_of_the_process_that_asked) {
    new_board();
    mproc_pool *pool = pool_of(1);
    struct record record;
    memset(&record, 0, sizeof record);
    mproc_future *future = begin(pool, gate_square, 3, sizeof(int));
    ck_assert_int_eq(mproc_future_on_done(future, record_end, &record), 0);
    pid_t child = mproc_fork();
    if (child == 0) {
        SET(board->open, 1);
        MUST(mproc_future_wait(future, MPROC_FOREVER) == 0);
        int arg = 2, result = 0;
        MUST(mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result) == 0 && result == 4);
        MUST(record.calls == 0);
        _exit(0);
    }
    int code = -1;
    ck_assert_int_eq(mproc_wait(child, &code, MPROC_FOREVER), 0);
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
    ck_assert_int_eq(record.calls, 1);
    ck_assert_int_eq(record.pid, getpid());
    ck_assert_int_eq(mproc_future_free(future), 0);
    free_pool(pool);
}
END_TEST

static void free_in_a_child(mproc_future *future, mproc_pool *pool) { /* the future; or the pool */
    pid_t child = mproc_fork();
    if (child == 0) _exit(future != NULL ? mproc_future_free(future) != 0 : mproc_pool_free(pool) != 0);
    int code = -1;
    ck_assert_int_eq(mproc_wait(child, &code, MPROC_FOREVER), 0);
    ck_assert_int_eq(code, 0);
}
START_TEST(
    callbacks_of_what_another_process_freed) { /* are never called: not for the slot's next task either */
    new_board();
    struct record first, second;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    mproc_pool *pool = pool_of(1);
    mproc_future *one = begin(pool, gate, 0, 0);
    ck_assert_int_eq(mproc_future_on_done(one, record_end, &first), 0);
    free_in_a_child(one, NULL);
    SET(board->open, 1);
    EVENTUALLY(is_idle(pool));
    mproc_future *two = begin(pool, nothing, 0, 0);
    ck_assert_ptr_eq(two, one); /* the slot is used again, or this tests nothing */
    ck_assert_int_eq(mproc_future_on_done(two, record_end, &second), 0);
    ck_assert_int_eq(finish(two, NULL), 0);
    ck_assert_int_eq(first.calls, 0);
    ck_assert_int_eq(second.calls, 1);

    SET(board->open, 0);
    two = begin(pool, gate, 0, 0);
    ck_assert_int_eq(mproc_future_on_done(two, record_end, &second), 0);
    free_in_a_child(NULL, pool);
    await_supervisors_end();
    mproc_pool *fresh = pool_of(1); /* at the same place, most likely */
    for (int i = 0; i < 4; i++) expect_works(fresh);
    ck_assert_int_eq(second.calls, 1);
    ck_assert_ptr_null(mproc__callbacks.first); /* nor are they kept */
    free_pool(fresh);
}
END_TEST

static void pass_the_gate(mproc_future *future, void *ctx) {
    pass_gate();
    ck_assert(mproc_future_ready(future));
    *(int *)ctx = mproc_future_free(future);
}
static int stats_call(struct call *call) { return (int)counts_of(call->pool).failed; }
START_TEST(a_future_freed_while_a_thread_is_in_its_callback) {
    new_board();
    mproc_pool *pool = pool_of(1);
    int freed = 1;
    mproc_future *future = begin(pool, gate_square, 2, sizeof(int));
    ck_assert_int_eq(mproc_future_on_done(future, pass_the_gate, &freed), 0);
    SET(board->open, 1);
    EVENTUALLY(GET(board->ended) == 1);
    SET(board->open, 0);
    SET(board->started, 0);
    struct call call = {.function = stats_call, .pool = pool};
    while (GET(board->started) == 0) { /* unless the thread came too early, it calls the callback */
        call_begin(&call);
        EVENTUALLY(GET(board->started) == 1 || GET(call.done));
        if (GET(board->started) == 0) ck_assert_int_eq(call_end(&call), 0);
    }
    ck_assert_int_eq(mproc_future_free(future), MPROC_EBUSY);
    ck_assert_int_eq(mproc_future_wait(future, 0), 0); /* other calls do not wait for it */
    ck_assert_int_eq(mproc_pool_free(pool), MPROC_EBUSY);
    SET(board->open, 1);
    ck_assert_int_eq(call_end(&call), 0);
    ck_assert_int_eq(freed, 0);
    ck_assert_int_eq(mproc_future_free(future), MPROC_EINVAL);
    free_pool(pool);
}
END_TEST

struct frees {
    mproc_iter *it;
    mproc_pool *pool;
    int iter_freed, pool_freed;
};
static void free_all(mproc_future *future, void *ctx) {
    struct frees *f = ctx;
    f->iter_freed = mproc_iter_free(f->it);
    f->pool_freed = mproc_pool_free(f->pool);
    ck_assert_int_eq(mproc_future_free(future), 0);
}
/* It may free the iterator whose call it is called from, but not the pool. */
START_TEST(a_callback_that_frees_what_is_in_use) {
    new_board();
    mproc_pool *pool = pool_of(1);
    int in[3] = {1, 2, 3}, out = 0;
    mproc_future *future = begin(pool, gate, 0, 0);
    mproc_iter *it = mproc_pool_imap(pool, square, in, 3, sizeof(int), sizeof(int));
    NEED(it);
    struct frees frees = {it, pool, 1, 1};
    ck_assert_int_eq(mproc_future_on_done(future, free_all, &frees), 0);
    SET(board->open, 1);
    ck_assert_int_eq(mproc_iter_next(it, &out, MPROC_FOREVER), 0);
    ck_assert_int_eq(out, 1);
    ck_assert_int_eq(frees.iter_freed, 0);
    ck_assert_int_eq(frees.pool_freed, MPROC_EBUSY);
    ck_assert_int_eq(mproc_iter_free(it), MPROC_EINVAL);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(callbacks_at_terminate) {
    new_board();
    mproc_pool *pool = pool_of(1);
    struct record running, queued;
    memset(&running, 0, sizeof running);
    memset(&queued, 0, sizeof queued);
    mproc_future *one = begin(pool, gate, 0, 0), *two = begin(pool, nothing, 0, 0);
    ck_assert_int_eq(mproc_future_on_done(one, record_end, &running), 0);
    ck_assert_int_eq(mproc_future_on_done(two, record_end, &queued), 0);
    EVENTUALLY(GET(board->started) == 1);
    ck_assert_int_eq(mproc_pool_terminate(pool), 0);
    ck_assert_int_eq(mproc_future_wait(one, 1), 0);
    ck_assert_int_eq(mproc_future_wait(two, 1), 0);
    ck_assert(running.calls == 1 && queued.calls == 1);
    ck_assert(running.error == MPROC_ECANCELED && queued.error == MPROC_ECANCELED);
    ck_assert_int_eq(mproc_future_free(one), 0);
    ck_assert_int_eq(mproc_future_free(two), 0);
    free_pool(pool);
}
END_TEST

/* The supervisor is killed: a running task and those that wait are done for those that only look, too. */
START_TEST(supervisor_killed_while_the_program_polls) {
    adopt_orphans();
    new_board();
    int ends = 0;
    mproc_pool *pool = pool_of(1);
    mproc_future *future[4];
    for (int i = 0; i < 4; i++) future[i] = begin(pool, gate, 0, 0);
    EVENTUALLY(GET(board->started) == 1);
    ck_assert_int_eq(mproc_future_on_done(future[3], count_end, &ends), 0);
    kill(pool->supervisor, SIGKILL);
    EVENTUALLY(process_gone(pool->supervisor));
    EVENTUALLY(mproc_future_code(future[0]) != MPROC_EAGAIN);
    for (int i = 0; i < 3; i++) {
        ck_assert(mproc_future_ready(future[i]));
        ck_assert(!mproc_future_successful(future[i]));
        ck_assert_int_eq(mproc_future_cancel(future[i]), -EALREADY);
        ck_assert_int_eq(finish(future[i], NULL), MPROC_EBROKEN);
    }
    ck_assert_int_eq(ends, 1);
    expect_nothing_left(1);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

/* And a callback alone brings it to light, in whichever call. */
START_TEST(callbacks_after_the_supervisor_was_killed) {
    adopt_orphans();
    int ends = 0;
    double seconds = 1000;
    mproc_pool *pool = pool_of(1);
    mproc_future *future = mproc_pool_apply_async(pool, sleep_for, &seconds, sizeof seconds, 0);
    NEED(future);
    ck_assert_int_eq(mproc_future_on_done(future, count_end, &ends), 0);
    kill(pool->supervisor, SIGKILL);
    EVENTUALLY(counts_of(pool).done == 0 && ends == 1);
    expect_nothing_left(1);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

static bool is_readable(int fd, int milliseconds) {
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, milliseconds) == 1 && (p.revents & (POLLIN | POLLHUP)) != 0;
}

START_TEST(pool_fd_wakes_an_event_loop) {
    new_board();
    mproc_pool *pool = pool_of(2);
    int fd = mproc_pool_fd(pool), ends = 0;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(mproc_pool_fd(pool), fd);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert(!is_readable(fd, 0));
    mproc_future *plain = begin(pool, gate_square, 4, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    ck_assert(!is_readable(fd, 50));
    SET(board->open, 1);
    ck_assert(is_readable(fd, 5000)); /* a result waits */
    int result = 0;
    ck_assert_int_eq(finish(plain, &result), 0);
    ck_assert_int_eq(result, 16);
    EVENTUALLY(!is_readable(fd, 0));
    mproc_pool_counts counts;
    enum { N = 200 };
    for (int i = 0; i < N; i++) {
        mproc_future *future = begin(pool, nothing, i, 0);
        ck_assert_int_eq(mproc_future_on_done(future, count_end, &ends), 0);
    }
    double give_up = now() + 10;
    while (ends < N && now() < give_up) { /* the loop of a program: only poll, and a call when told */
        ck_assert(is_readable(fd, 5000));
        ck_assert_int_eq(mproc_pool_stats(pool, &counts), 0);
    }
    ck_assert_int_eq(ends, N);
    EVENTUALLY(mproc_pool_stats(pool, &counts) == 0 && !is_readable(fd, 0));
    ck_assert_int_eq(mproc_pool_fd(NULL), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_fd((mproc_pool *)(void *)&ends), MPROC_EINVAL);
    free_pool(pool);
}
END_TEST

/* Readable as long as results wait: whoever takes one at a time is woken for each. */
START_TEST(pool_fd_stays_readable_while_results_wait) {
    enum { N = 6 };
    mproc_pool *pool = pool_of(2);
    int fd = mproc_pool_fd(pool), in[N] = {0, 1, 2, 3, 4, 5}, out = 0;
    mproc_future *future[N];
    for (int i = 0; i < N; i++) future[i] = begin(pool, square, i, sizeof out);
    EVENTUALLY(is_idle(pool));
    for (int i = 0; i < N; i++) {
        ck_assert(is_readable(fd, 2000));
        ck_assert_int_eq(finish(future[i], &out), 0);
        ck_assert_int_eq(out, i * i);
    }
    EVENTUALLY(counts_of(pool).done == N && !is_readable(fd, 0)); /* one byte may have been on its way */
    for (int k = 0; k < 2; k++) {
        mproc_iter *it = lazy_maps[k](pool, square, in, N, sizeof(int), sizeof(int));
        NEED(it);
        for (int i = 0; i < N; i++) {
            ssize_t error = MPROC_ETIMEDOUT;
            while (error == MPROC_ETIMEDOUT) {
                ck_assert(is_readable(fd, 2000));
                error = mproc_iter_next(it, &out, 0);
            }
            ck_assert_int_ge(error, 0);
        }
        ck_assert_int_eq(mproc_iter_next(it, &out, 0), MPROC_ECLOSED);
        ck_assert_int_eq(mproc_iter_free(it), 0);
    }
    mproc_future *kept = begin(pool, square, 3, sizeof out);
    ck_assert(is_readable(fd, 2000));
    EVENTUALLY(mproc_future_ready(kept) && !is_readable(fd, 0)); /* known, and no news any more */
    ck_assert_int_eq(finish(kept, NULL), 0);
    free_pool(pool);
}
END_TEST

/* Whatever call silences it, it is readable again while an iterator has its next item, and only then. */
START_TEST(pool_fd_stays_readable_while_an_iterator_has_items) {
    enum { N = 3 };
    mproc_pool *pool = pool_of(1);
    int in[N] = {0, 1, 2}, out = 0;
    mproc_iter *early = mproc_pool_imap(pool, square, in, N, sizeof(int), sizeof(int));
    NEED(early);
    EVENTUALLY(is_idle(pool));
    int fd = mproc_pool_fd(pool);
    ck_assert(is_readable(fd, 2000)); /* it was ready before the descriptor was asked for */
    for (int k = 0; k < 2; k++) {
        mproc_iter *it = lazy_maps[k](pool, square, in, N, sizeof(int), sizeof(int));
        NEED(it);
        EVENTUALLY(is_idle(pool)); /* each look is a call of mproc_pool_stats */
        ck_assert(is_readable(fd, 2000));
        ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, MPROC_FOREVER), 0);
        ck_assert(is_readable(fd, 2000));
        ck_assert_int_eq(mproc_pool_apply(pool, nothing, NULL, 0, NULL, 0), 0);
        ck_assert(is_readable(fd, 2000));
        ck_assert_int_eq(mproc_iter_next(early, &out, 0), k); /* the other one's next item */
        for (int i = 0; i < N; i++) {
            ck_assert(is_readable(fd, 2000));
            ck_assert_int_ge(mproc_iter_next(it, &out, 0), 0);
        }
        ck_assert_int_eq(mproc_iter_free(it), 0);
    }
    ck_assert(is_readable(fd, 2000));
    ck_assert_int_eq(mproc_iter_next(early, &out, 0), 2);
    ck_assert_int_eq(out, 4);
    EVENTUALLY(is_idle(pool) && !is_readable(fd, 0));
    ck_assert_int_eq(mproc_iter_free(early), 0);
    free_pool(pool);
}
END_TEST

/* It is for the maker's own results, and the supervisor rings where nobody else lived to do it. */
START_TEST(pool_fd_is_for_the_makers_results) {
    new_board();
    mproc_pool *pool = pool_of(1);
    int fd = mproc_pool_fd(pool);
    pid_t child = mproc_fork();
    if (child == 0) {
        mproc_future *kept = begin(pool, nothing, 0, 0);
        while (!mproc__is_done(kept)) nap(0.001);
        SET(board->started, 1);
        for (;;) pause(); /* never asks */
    }
    EVENTUALLY(GET(board->started) == 1);
    EVENTUALLY(is_idle(pool) && !is_readable(fd, 0));
    mproc_future *own = begin(pool, nothing, 0, 0);
    ck_assert(is_readable(fd, 2000));
    char byte;
    ck_assert_int_eq(read(fd, &byte, 1), 1); /* as if nobody had rung */
    SET(pool->fd_rung, 0);
    ck_assert(is_readable(fd, 5000));
    ck_assert_int_eq(finish(own, NULL), 0);
    EVENTUALLY(is_idle(pool) && !is_readable(fd, 0));
    kill(child, SIGKILL);
    ck_assert_int_eq(mproc_wait(child, NULL, MPROC_FOREVER), 0);
    free_pool(pool);
}
END_TEST

/* With nothing outstanding it falls silent without a further call: a loop that asks after what it has, and
   that is nothing, would turn for ever. (Now and then a byte comes late, so not each round counts.) */
START_TEST(pool_fd_falls_silent_after_every_call) {
    enum { WAYS = 7, ROUNDS = 10 };
    new_board();
    SET(board->open, 1);
    mproc_pool *pool = pool_of(1);
    int fd = mproc_pool_fd(pool), in[3] = {0, 1, 2}, out[3];
    for (int way = 0; way < WAYS; way++) {
        int silent = 0;
        for (int round = 0; round < ROUNDS; round++) {
            mproc_future *future = NULL;
            mproc_iter *it = NULL;
            if (way < 5) future = begin(pool, nothing, 0, 0);
            if (way == 0) EVENTUALLY(mproc_future_successful(future));
            if (way == 1) EVENTUALLY(mproc_future_code(future) == 0);
            if (way == 2) EVENTUALLY(mproc__is_done(future)); /* and nobody asks */
            if (way == 3) mproc_future_cancel(future);
            if (way == 4) ck_assert_int_eq(mproc_future_wait(future, 5), 0);
            if (way == 5)
                ck_assert_int_eq(mproc_pool_map(pool, square, in, 3, sizeof(int), out, sizeof(int)), 0);
            if (way == 6) it = mproc_pool_imap(pool, nothing, in, 3, sizeof(int), 0);
            if (it != NULL) EVENTUALLY(mproc__is_done(mproc__iter_head(it)));
            ck_assert_int_eq(mproc_future_free(future), 0);
            ck_assert_int_eq(mproc_iter_free(it), 0);
            silent += !is_readable(fd, 10);
        }
        ck_assert_msg(silent > 0, "way %d: readable after all %d rounds", way, ROUNDS);
    }
    free_pool(pool);
}
END_TEST

/* A thread that waits has not taken the news of what others poll for. */
START_TEST(pool_fd_tells_while_a_thread_waits) {
    new_board();
    mproc_pool *pool = pool_of(2);
    int fd = mproc_pool_fd(pool), in[2] = {1, 2};
    struct call call = {.function = get_int_call, .pool = pool, .future = begin(pool, gate, 0, 0)};
    EVENTUALLY(GET(board->started) == 1);
    mproc_iter *it = mproc_pool_imap(pool, nothing, in, 2, sizeof(int), 0);
    NEED(it);
    EVENTUALLY(mproc__is_done(*mproc__iter_at(it, it->tail - 1)) && counts_of(pool).done == 2);
    ck_assert(is_readable(fd, 2000));
    call_begin(&call);
    EVENTUALLY(call_blocks(&call));
    ck_assert(is_readable(fd, 2000));
    ck_assert_int_eq(mproc_iter_next(it, NULL, 0), 0);
    SET(board->open, 1);
    ck_assert_int_eq(call_end(&call), 0);
    ck_assert_int_eq(mproc_future_free(call.future), 0);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    free_pool(pool);
}
END_TEST

/* It is news to the maker though another process has asked already. */
START_TEST(pool_fd_tells_what_another_process_knows) {
    mproc_pool *pool = pool_of(1);
    int fd = mproc_pool_fd(pool);
    mproc_future *one = begin(pool, nothing, 0, 0), *other = begin(pool, nothing, 0, 0);
    EVENTUALLY(mproc__is_done(one) && mproc__is_done(other));
    pid_t child = mproc_fork();
    if (child == 0) _exit(mproc_future_wait(other, 5) != 0);
    int code = -1;
    ck_assert_int_eq(mproc_wait(child, &code, MPROC_FOREVER), 0);
    ck_assert_int_eq(code, 0);
    ck_assert(is_readable(fd, 2000));
    ck_assert_int_eq(finish(one, NULL), 0);
    ck_assert(is_readable(fd, 2000));
    ck_assert_int_eq(finish(other, NULL), 0);
    free_pool(pool);
}
END_TEST

static int depth, deepest;
static void count_depth(mproc_future *future, void *ends) {
    if (++depth > deepest) deepest = depth;
    ck_assert_int_eq(mproc_future_get(future, NULL, 0), 0); /* a call on the pool */
    ++*(int *)ends;
    depth--;
}

START_TEST(callbacks_run_one_after_the_other) {
    enum { N = 1000 };
    mproc_pool *pool = pool_of(2);
    int ends = 0;
    mproc_future *future[N];
    for (int i = 0; i < N; i++) {
        future[i] = begin(pool, nothing, i, 0);
        ck_assert_int_eq(mproc_future_on_done(future[i], count_depth, &ends), 0);
    }
    EVENTUALLY(is_idle(pool) && ends == N);
    ck_assert_int_eq(deepest, 1);
    for (int i = 0; i < N; i++) ck_assert_int_eq(mproc_future_free(future[i]), 0);
    free_pool(pool);
}
END_TEST

START_TEST(pool_fd_tells_of_crashes_and_of_the_end) {
    adopt_orphans();
    mproc_pool *pool = pool_of(1);
    int fd = mproc_pool_fd(pool);
    ck_assert_int_ge(fd, 0);
    mproc_future *dying = begin(pool, die, KILLED, 0);
    ck_assert(is_readable(fd, 2000));
    ck_assert_int_eq(finish(dying, NULL), MPROC_ECRASHED);
    double hour = 3600;
    mproc_future *slow = mproc_pool_apply_async(pool, sleep_for, &hour, sizeof hour, 0);
    NEED(slow);
    EVENTUALLY(counts_of(pool).running == 1 && !is_readable(fd, 0));
    kill(supervisor(), SIGKILL);
    ck_assert(is_readable(fd, 2000));
    ck_assert_int_eq(finish(slow, NULL), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    expect_nothing_left(1);
}
END_TEST

START_TEST(pool_fd_tells_though_who_had_the_news_was_killed) {
    mproc_pool *pool = pool_of(1);
    int fd = mproc_pool_fd(pool);
    ck_assert_int_ge(fd, 0);
    SET(pool->fd_rung, 1); /* what such a process leaves: it has asked for the byte, and woken nobody */
    ck_assert(is_readable(fd, 2000));
    expect_works(pool);
    EVENTUALLY(counts_of(pool).running == 0 && !is_readable(fd, 0));
    free_pool(pool);
}
END_TEST

/* More results than its pipe holds bytes, and nobody looks: neither workers nor submitters wait for that. */
START_TEST(pool_fd_that_nobody_looks_at_holds_nobody_up) { /* EXEC-18 */
    enum { N = 70000 };
    mproc_pool *pool = pool_of(2);
    int fd = mproc_pool_fd(pool);
    mproc_future **futures = calloc(N, sizeof(mproc_future *));
    NEED(futures);
    for (int i = 0; i < N; i++) futures[i] = begin(pool, square, i % 1000, sizeof(int));
    for (double give_up = now() + 10 * SLOW; !mproc__is_done(futures[N - 1]); nap(0.001))
        ck_assert(now() < give_up);
    ck_assert(is_readable(fd, 2000));
    for (int i = 0; i < N; i++) {
        int result = -1;
        ck_assert_int_eq(finish(futures[i], &result), 0);
        if (result != i % 1000 * (i % 1000)) ck_abort_msg("task %d", i);
    }
    EVENTUALLY(is_idle(pool) && !is_readable(fd, 0));
    free(futures);
    free_pool(pool);
}
END_TEST

START_TEST(pool_fd_leaks_nothing) {
    mproc_pool *pool = pool_of(1);
    ck_assert_int_ge(mproc_pool_fd(pool), 0);
    free_pool(pool);
    int fds = open_fds();
    for (int i = 0; i < 5; i++) {
        pool = pool_of(1);
        ck_assert_int_ge(mproc_pool_fd(pool), 0);
        expect_works(pool);
        free_pool(pool);
    }
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

/* ---- Large results ------------------------------------------------------------------------------------ */

static int fill_large(const void *arg, void *result) { /* touches a byte of each 64 KiB only */
    size_t size = *(const size_t *)arg;
    for (size_t i = 0; i < size; i += 65536) ((unsigned char *)result)[i] = (unsigned char)(i >> 16);
    ((unsigned char *)result)[size - 1] = 0x77;
    return 0;
}
START_TEST(a_result_of_more_than_a_gibibyte) {
    if (SLOW > 1 || sizeof(size_t) < 8) {
        puts("skipped: a result of a GiB (a 64-bit machine and no sanitizer are needed)");
        return;
    }
    size_t size = ((size_t)1 << 30) + 4097;
    mproc_pool *pool = pool_of(1);
    mproc_future *future = mproc_pool_apply_async(pool, fill_large, &size, sizeof size, size);
    NEED(future);
    ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
    unsigned char *out =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert(out != MAP_FAILED);
    long free_kib = 0;
    const char *line = strstr(slurp("/proc/meminfo"), "MemAvailable:");
    if (line != NULL && sscanf(line, "MemAvailable: %ld", &free_kib) == 1 && free_kib > 3 << 20) {
        ck_assert_int_eq(mproc_future_get(future, out, MPROC_FOREVER), 0);
        for (size_t i = 0; i < size - 1; i += 65536) ck_assert_uint_eq(out[i], (unsigned char)(i >> 16));
        ck_assert_uint_eq(out[size - 1], 0x77);
    }
    munmap(out, size);
    ck_assert_int_eq(mproc_future_free(future), 0);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

/* ---- parallel_for ------------------------------------------------------------------------------------- */

struct loop {
    const int *mine; /* the caller's own memory, copied on write */
    int *shared;
    int private_sum;
    pid_t caller;
};
static void loop_body(size_t i, void *ctx) {
    struct loop *loop = ctx;
    loop->private_sum += loop->mine[i]; /* seen by nobody else */
    __atomic_add_fetch(&loop->shared[i], loop->mine[i] * 2, __ATOMIC_SEQ_CST);
    if (getpid() == loop->caller) SET(board->code, 1);
}

START_TEST(parallel_for_runs_each_once) {
    static int mine[5000];
    static const size_t lengths[] = {0, 1, 2, 3, 100, 5000};
    new_board();
    int *shared = mproc_array_new(int, 5000);
    NEED(shared);
    for (int i = 0; i < 5000; i++) mine[i] = i;
    for (int workers = 0; workers <= 4; workers++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            struct loop loop = {mine, shared, 0, getpid()};
            memset(shared, 0, 5000 * sizeof *shared);
            ck_assert_int_eq(mproc_parallel_for(lengths[k], workers, loop_body, &loop), 0);
            for (size_t i = 0; i < 5000; i++) ck_assert_int_eq(shared[i], i < lengths[k] ? mine[i] * 2 : 0);
            ck_assert(no_children());
        }
    ck_assert_int_eq(mproc_free(shared), 0);
}
END_TEST

static void crash_body(size_t i, void *ctx) {
    ADD(board->ran[i], 1);
    if (i == 13 && *(int *)ctx != DEATHS) die(ctx, NULL);
}
START_TEST(parallel_for_tells_of_a_crash) {
    adopt_orphans();
    for (int how = 0; how < DEATHS; how++)
        for (int workers = 1; workers <= 3; workers++) {
            new_board();
            TAKES(0, 2, ck_assert_int_eq(mproc_parallel_for(100, workers, crash_body, &how), MPROC_ECRASHED));
            for (int i = 0; i < 100; i++)
                ck_assert_msg(board->ran[i] == 1, "%d ran %d times", i, board->ran[i]);
            munmap(board, sizeof *board);
        }
    expect_nothing_left(0.5);
}
END_TEST

static void all_crash_body(size_t i, void *ctx) {
    (void)ctx;
    ADD(board->ran[i], 1);
    raise(SIGKILL);
}
START_TEST(parallel_for_of_which_all_crash) {
    new_board();
    ck_assert_int_eq(mproc_parallel_for(50, 2, all_crash_body, NULL), MPROC_ECRASHED);
    for (int i = 0; i < 50; i++) ck_assert_uint_eq(board->ran[i], 1);
    ck_assert(no_children());
}
END_TEST

static void slow_body(size_t i, void *ctx) { /* one long body, many short ones: dynamic, not halves */
    (void)ctx;
    nap(i == 0 ? 0.4 : 0.01);
}
START_TEST(parallel_for_schedules_dynamically) {
    TAKES(0.4, 0.6, ck_assert_int_eq(mproc_parallel_for(40, 2, slow_body, NULL), 0));
    double start = now();
    ck_assert_int_eq(mproc_parallel_for(40, 2, slow_body, NULL), 0);
    if (SLOW <= 1) ck_assert_msg(now() - start < 0.75, "%.2f s", now() - start);
}
END_TEST

static void nested_body(size_t i, void *ctx) {
    int *sums = ctx;
    new_board();
    struct loop loop = {(const int[4]){1, 2, 3, 4}, sums + 4 * i, 0, 0};
    if (mproc_parallel_for(4, 2, loop_body, &loop) != 0) abort();
}
START_TEST(parallel_for_inside_another) {
    int *sums = mproc_array_new(int, 32);
    NEED(sums);
    ck_assert_int_eq(mproc_parallel_for(8, 2, nested_body, sums), 0);
    for (int i = 0; i < 32; i++) ck_assert_int_eq(sums[i], 2 * (i % 4 + 1));
    ck_assert_int_eq(mproc_free(sums), 0);
    ck_assert(no_children());
}
END_TEST

static void fork_body(size_t i, void *ctx) { /* the child of the first one is not to go on with the others */
    (void)ctx;
    ADD(board->ran[i], 1);
    if (i == 0 && fork() != 0)
        while (GET(board->open) == 0 && !no_children()) nap(0.001);
    else if (i == 0) board->child = getpid();
    else if (GET(board->child) == getpid()) SET(board->open, 1);
}
START_TEST(parallel_for_of_a_body_that_forks) {
    new_board();
    ck_assert_int_eq(mproc_parallel_for(4, 1, fork_body, NULL), 0);
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(board->ran[i], 1);
    ck_assert_int_eq(board->open, 0);
    ck_assert(no_children());
}
END_TEST

START_TEST(parallel_for_misused) {
    int fds = open_fds();
    ck_assert_int_eq(mproc_parallel_for(10, 2, NULL, NULL), MPROC_EINVAL);
    ck_assert_int_eq(mproc_parallel_for(10, -1, slow_body, NULL), MPROC_EINVAL);
    ck_assert_int_eq(mproc_parallel_for(0, 1, slow_body, NULL), 0);
    ck_assert(no_children());
    ck_assert_int_eq(mproc_parallel_for(3, 2, slow_body, NULL), 0);
    int after = open_fds();
    ck_assert_int_eq(mproc_parallel_for(3, 2, slow_body, NULL), 0);
    ck_assert_int_eq(open_fds(), after);
    ck_assert_int_ge(after, fds);
}
END_TEST

static void loops_for_ever(void) {
    int how = DEATHS;
    mproc_parallel_for(100, 3, crash_body, &how);
    for (int i = 0;; i++) mproc_parallel_for(100, 3, slow_body, NULL);
}
/* The program ends at once though a thread is in a parallel_for, which forks nobody in place of those that
   the end of the program kills. */
static void rest_body(size_t i, void *ctx) {
    (void)i, (void)ctx;
    ADD(board->started, 1);
    nap(30);
}
static void *rests(void *arg) {
    (void)arg;
    mproc_parallel_for(1000, 8, rest_body, NULL);
    return NULL;
}
static void ends_beside_a_loop(void) {
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, rests, NULL) == 0);
    while (GET(board->started) < 8) nap(0.001); /* the last one, perhaps, before its maker knows its number */
    SET(board->ended, 1);
    exit(0);
}
START_TEST(parallel_for_beside_the_end_of_the_program) {
    for (int i = 0; i < 10; i++) {
        new_board();
        program p;
        launch(&p, ends_beside_a_loop);
        EVENTUALLY(GET(board->ended) == 1);
        ck_assert_int_eq(program_ends(&p, 1.5), 0);
    }
}
END_TEST

START_TEST(parallel_for_killed_and_interrupted) {
    adopt_orphans();
    for (int i = 0; i < 2; i++) {
        new_board();
        program p;
        launch(&p, loops_for_ever);
        EVENTUALLY(GET(board->ran[99]) == 1);
        nap(0.02);
        if (i == 0) kill(p.pid, SIGKILL);
        else kill(-p.pid, SIGINT);
        ck_assert_int_eq(program_ends(&p, 3), i == 0 ? -SIGKILL : -SIGINT);
        expect_nothing_left(1);
    }
}
END_TEST

/* ---- Progress ----------------------------------------------------------------------------------------- */

static int lines_in(const char *text) {
    int lines = 0;
    for (; *text != 0; text++) lines += *text == '\n';
    return lines;
}

START_TEST(progress_to_a_file_is_a_line_each_ten_percent) {
    char folder[64], path[96];
    make_folder(folder);
    snprintf(path, sizeof path, "%s/out", folder);
    static const size_t totals[] = {10, 100, 12345};
    for (size_t k = 0; k < 3; k++) {
        FILE *out = fopen(path, "w");
        NEED(out);
        for (size_t i = 0; i <= totals[k]; i++) mproc_progress(out, "copying", i, totals[k]);
        fclose(out);
        const char *text = slurp(path);
        ck_assert_msg(lines_in(text) >= 10 && lines_in(text) <= 11, "%d lines: %s", lines_in(text), text);
        ck_assert_ptr_nonnull(strstr(text, "copying"));
        ck_assert_ptr_nonnull(strstr(text, "100"));
        ck_assert_ptr_null(strchr(text, '\r'));
    }
    FILE *out = fopen(path, "w");
    NEED(out);
    for (size_t i = 0; i <= 4; i++) mproc_progress(out, "quarters", i, 4);
    fclose(out);
    ck_assert_str_eq(slurp(path), "quarters 25% (1 of 4)\nquarters 50% (2 of 4)\nquarters 75% (3 of 4)\n"
                                  "quarters 100% (4 of 4)\n");
    out = fopen(path, "w"); /* numbers that make no sense are shown somehow, no more */
    NEED(out);
    mproc_progress(out, "empty", 0, 0);
    mproc_progress(out, "past", 20, 10);
    mproc_progress(out, NULL, 1, 10);
    mproc_progress(NULL, "nowhere", 1, 10);
    mproc_progress(out, "huge", SIZE_MAX / 2, SIZE_MAX);
    mproc_progress(out, "huge", SIZE_MAX, SIZE_MAX);
    fclose(out);
    remove_folder(folder);
}
END_TEST

START_TEST(progress_on_a_terminal_is_one_line_redrawn) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert_int_ge(master, 0);
    ck_assert(grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(slave, 0);
    fcntl(master, F_SETFL, O_NONBLOCK);
    FILE *out = fdopen(slave, "w");
    NEED(out);
    static char text[1 << 16];
    size_t n = 0, i = 0;
    double start = now();
    while (now() - start < 0.5) { /* thousands of calls: twenty times a second at most is drawn */
        mproc_progress(out, "copying", i++ % 1000, 1000);
        ssize_t got = read(master, text + n, sizeof text - 1 - n);
        if (got > 0) n += (size_t)got;
    }
    mproc_progress(out, "copying", 1000, 1000);
    fflush(out);
    for (struct pollfd p = {master, POLLIN, 0}; poll(&p, 1, 100) == 1;) {
        ssize_t got = read(master, text + n, sizeof text - 1 - n);
        if (got <= 0) break;
        n += (size_t)got;
    }
    text[n] = 0;
    int drawn = 0;
    for (const char *at = text; (at = strstr(at, "copying")) != NULL; at++) drawn++;
    ck_assert_msg(drawn >= 2 && drawn <= 14, "drawn %d times", drawn);
    ck_assert_ptr_nonnull(strchr(text, '\r'));
    ck_assert_ptr_nonnull(strstr(text, "100"));
    ck_assert_int_le(lines_in(text), 1);
    fclose(out);
    close(master);
}
END_TEST

static void maps_with_progress(void) {
    char label[] = "mapping";
    mproc_pool *pool = mproc_pool_new_with(&(mproc_pool_options){.workers = 2, .progress = label});
    MUST(pool != NULL);
    memset(label, '?', strlen(label)); /* the pool has its own */
    static int in[1000], out[1000];
    for (int i = 0; i < 1000; i++) in[i] = i;
    MUST(mproc_pool_map(pool, square, in, 1000, sizeof in[0], out, sizeof out[0]) == 0);
    for (int i = 0; i < 1000; i++) MUST(out[i] == i * i);
    MUST(mproc_pool_free(pool) == 0);
}
START_TEST(progress_of_a_map) {
    adopt_orphans();
    program p;
    launch(&p, maps_with_progress);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    ck_assert_ptr_nonnull(strstr(p.text, "mapping"));
    ck_assert_ptr_nonnull(strstr(p.text, "100"));
    ck_assert_int_le(lines_in(p.text), 11);
    expect_nothing_left(0.5);
}
END_TEST

/* ---- Everything at once ------------------------------------------------------------------------------- */

/* A mixture of good, failing, crashing, slow, huge and cancelled tasks, from two processes, while workers
   are killed at random. Every future ends exactly once, with the right answer or the right error.
   MPROC_TEST_SECONDS says how long, MPROC_TEST_SEED repeats a run. */
enum kind { GOOD, FAILING, CRASHING, SLOWLY, TOO_SLOW, HUGE_RESULT, CANCELLED, FREED, KINDS };
struct job {
    uint32_t kind, number;
    uint64_t salt;
};
enum { HUGE_SIZE = 300000, STORM_WINDOW = 48 };
struct answer {
    uint64_t value;
    uint32_t number, size;
};
static uint64_t answer_to(const struct job *job) { return job->salt * 6364136223846793005u + job->number; }

static int storm_task(const void *arg, void *result) {
    const struct job *job = arg;
    struct answer *answer = result;
    ADD(board->counter, 1);
    switch ((enum kind)job->kind) {
    case FAILING: return 1 + (int)(job->salt % 1000);
    case CRASHING: {
        int how = (int)(job->salt % DEATHS);
        return die(&how, NULL);
    }
    case SLOWLY: nap(0.003); break;
    case TOO_SLOW: nap(100); break;
    case HUGE_RESULT:
        for (size_t i = sizeof *answer; i < HUGE_SIZE; i++)
            ((unsigned char *)result)[i] = (unsigned char)(job->salt + i);
        break;
    default: break;
    }
    answer->value = answer_to(job), answer->number = job->number;
    return 0;
}

struct flight { /* a task under way */
    mproc_future *future;
    struct job job;
    bool cancelled; /* cancel said that it did */
    int callbacks;
};
static void storm_callback(mproc_future *future, void *ctx) {
    (void)future;
    ((struct flight *)ctx)->callbacks++;
}

/* 0, or the line that says what was wrong. */
static int land(struct flight *flight, unsigned char *buffer, size_t *kinds) {
    const struct job *job = &flight->job;
    struct answer answer;
    int error = mproc_future_get(flight->future, buffer, MPROC_FOREVER),
        code = mproc_future_code(flight->future);
    memcpy(&answer, buffer, sizeof answer);
    bool good = error == 0 && answer.value == answer_to(job) && answer.number == job->number, right = false;
    bool killed = error == MPROC_ECRASHED && code == -SIGKILL; /* by us, from outside: can happen to all */
    switch ((enum kind)job->kind) {
    case FAILING: right = error == MPROC_EFAILED && code == 1 + (int)(job->salt % 1000); break;
    case CRASHING: right = error == MPROC_ECRASHED && code == death_codes[job->salt % DEATHS]; break;
    case TOO_SLOW: right = error == MPROC_ETIMEDOUT; break;
    case CANCELLED: right = flight->cancelled ? error == MPROC_ECANCELED : good; break;
    case HUGE_RESULT:
        right = good;
        for (size_t i = sizeof answer; right && i < HUGE_SIZE; i++)
            right = buffer[i] == (unsigned char)(job->salt + i);
        break;
    default: right = good; break;
    }
    if (!right && killed && !flight->cancelled) right = true;
    if (!right) {
        fprintf(stderr, "task %u of kind %u: %s, code %d\n", job->number, job->kind, mproc_strerror(error),
                code);
        return __LINE__;
    }
    if (!mproc_future_ready(flight->future) || mproc_future_successful(flight->future) != (error == 0))
        return __LINE__;
    if (mproc_future_get(flight->future, NULL, 0) != error) return __LINE__; /* and stays so */
    if (flight->callbacks != 1) return __LINE__;
    if (mproc_future_free(flight->future) != 0) return __LINE__;
    if (flight->callbacks != 1) return __LINE__;
    kinds[job->kind]++;
    flight->future = NULL;
    return 0;
}

static int take_off(struct flight *flight, mproc_pool *pool, uint64_t *seed, uint32_t number) {
    struct job *job = &flight->job;
    static const unsigned char weights[] = {GOOD,        GOOD,      GOOD,      GOOD,      GOOD,     GOOD,
                                            GOOD,        FAILING,   FAILING,   SLOWLY,    CRASHING, FREED,
                                            HUGE_RESULT, CANCELLED, CANCELLED, CANCELLED, FREED};
    size_t pick = random_below(seed, 6000);
    job->kind = pick == 5999 || number == 100 ? TOO_SLOW : weights[pick % sizeof weights];
    job->number = number, job->salt = draw(seed);
    flight->cancelled = false, flight->callbacks = 0;
    size_t size = job->kind == HUGE_RESULT ? HUGE_SIZE : sizeof(struct answer);
    flight->future = mproc_pool_apply_async(pool, storm_task, job, sizeof *job, size);
    if (flight->future == NULL) return __LINE__;
    if (job->kind == FREED) {
        if (mproc_future_free(flight->future) != 0) return __LINE__;
        flight->future = NULL;
        return 0;
    }
    if (mproc_future_on_done(flight->future, storm_callback, flight) != 0) return __LINE__;
    if (job->kind == CANCELLED) {
        if (job->salt % 2 == 0) nap(1e-6 * (double)(job->salt % 500));
        flight->cancelled = mproc_future_cancel(flight->future) == 0;
    }
    return 0;
}

/* Submits until the time is over, then waits for the rest; 0, or the line that found something wrong. */
static int storm(mproc_pool *pool, uint64_t seed, double until, pid_t boss) {
    static struct flight window[STORM_WINDOW];
    static unsigned char buffer[HUGE_SIZE];
    size_t kinds[KINDS] = {0}, kills = 0;
    uint32_t number = 0;
    for (bool over = false; !over; over = now() > until) {
        struct flight *flight = &window[random_below(&seed, STORM_WINDOW)];
        int wrong = flight->future != NULL ? land(flight, buffer, kinds) : 0;
        if (wrong == 0) wrong = take_off(flight, pool, &seed, ++number);
        if (wrong != 0) return wrong;
        if (boss != 0 && random_below(&seed, 150) == 0) {
            pid_t pids[16];
            int n = children_of(boss, pids, 16);
            if (n > 0 && kill(pids[random_below(&seed, (size_t)n)], SIGKILL) == 0) kills++;
        }
    }
    for (int i = 0; i < STORM_WINDOW; i++) {
        int wrong = window[i].future != NULL ? land(&window[i], buffer, kinds) : 0;
        if (wrong != 0) return wrong;
    }
    if (boss != 0)
        printf(
            "%u tasks, %zu workers killed; %zu good, %zu failed, %zu crashed, %zu too slow, %zu cancelled\n",
            number, kills, kinds[GOOD], kinds[FAILING], kinds[CRASHING], kinds[TOO_SLOW], kinds[CANCELLED]);
    fflush(stdout);
    return 0;
}

static double storm_seconds(void) {
    const char *given = getenv("MPROC_TEST_SECONDS");
    return given != NULL ? atof(given) : 5;
}
/* Before main: a long storm needs a longer time limit, which Check reads from its environment. */
static void __attribute__((constructor)) allow_time(void) {
    char factor[32];
    snprintf(factor, sizeof factor, "%.0f", 1 + storm_seconds() / 10);
    if (storm_seconds() > 10) setenv("CK_TIMEOUT_MULTIPLIER", factor, 0);
}

START_TEST(storm_of_every_kind_of_task) {
    uint64_t seed = make_seed("storm_of_every_kind_of_task");
    adopt_orphans();
    new_board();
    mproc_pool *pool =
        pool_with((mproc_pool_options){.workers = 3, .task_timeout = 1.0 * SLOW, .backlog = 64});
    pid_t boss = supervisor();
    double until = now() + storm_seconds();
    fflush(NULL);
    pid_t child = mproc_fork();
    if (child == 0) {
        int wrong = storm(pool, seed ^ 0x5555, until, 0);
        if (wrong != 0) fprintf(stderr, "the other process: line %d\n", wrong);
        _exit(wrong != 0);
    }
    int wrong = storm(pool, seed, until, boss), code = -1;
    ck_assert_msg(wrong == 0, "line %d; MPROC_TEST_SEED=%llu", wrong, (unsigned long long)seed);
    ck_assert_int_eq(mproc_wait(child, &code, 20), 0);
    ck_assert_int_eq(code, 0);
    EVENTUALLY(is_idle(pool) && counts_of(pool).workers == 3);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, 10), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    expect_nothing_left(1);
}
END_TEST

/* A callback that says when it is there, waits for something meanwhile, and stays until it may go on. */
static mproc_event *never_set;
static uint32_t in_callback, may_go_on;
static void stay_a_while(mproc_future *f, void *frees) {
    if (frees != NULL) ck_assert_int_eq(mproc_future_free(f), 0);
    mproc_event_wait(never_set, 0.001);
    MPROC__STORE(&in_callback, 1);
    while (MPROC__LOAD(&may_go_on) == 0) sched_yield();
}
static void *get_with_callback(void *pool) {
    mproc_future *f = begin(pool, square, 2, sizeof(int));
    int result;
    if (mproc_future_on_done(f, stay_a_while, pool) == 0) mproc_future_get(f, &result, 5);
    return NULL;
}
static void *next_with_callback(void *iter) {
    static const int item = 3;
    int result;
    mproc_iter *it = iter;
    mproc_future *f = mproc_pool_apply_async(it->pool, gate_square, &item, sizeof item, sizeof result);
    if (f == NULL || mproc_future_on_done(f, stay_a_while, NULL) != 0) return NULL;
    SET(board->open, 1); /* now it may end: so the callback is not called before mproc_iter_next */
    EVENTUALLY(mproc__is_done(f));
    return mproc_iter_next(it, &result, 5) == 0 && mproc_future_free(f) == 0 ? it : NULL;
}
static void callbacks_stay(void) {
    never_set = mproc_event_new();
    MPROC__STORE(&in_callback, 0);
    MPROC__STORE(&may_go_on, 0);
}

/* Who frees a future in its own callback leaves the slot to others, while it is there yet. */
START_TEST(a_slot_used_anew_while_its_callback_lasts) {
    mproc_pool *pool = pool_of(1);
    pthread_t thread;
    callbacks_stay();
    ck_assert_int_eq(pthread_create(&thread, NULL, get_with_callback, pool), 0);
    EVENTUALLY(MPROC__LOAD(&in_callback) == 1);
    for (int i = 0; i < 3; i++) {
        mproc_future *f = begin(pool, square, 2, sizeof(int));
        ck_assert_int_eq(mproc_future_wait(f, 5), 0);
        ck_assert_int_eq(mproc_future_free(f), 0);
    }
    MPROC__STORE(&may_go_on, 1);
    pthread_join(thread, NULL);
    free_pool(pool);
}
END_TEST

START_TEST(free_beside_an_iterator_whatever_its_thread_waits_for) {
    static const int items[] = {1, 2, 3};
    mproc_pool *pool = pool_of(1);
    pthread_t thread;
    void *well;
    new_board();
    callbacks_stay();
    mproc_iter *it = mproc_pool_imap(pool, square, items, 3, sizeof(int), sizeof(int));
    ck_assert_int_eq(pthread_create(&thread, NULL, next_with_callback, it), 0);
    EVENTUALLY(MPROC__LOAD(&in_callback) == 1);
    ck_assert_int_eq(mproc_pool_free(pool), MPROC_EBUSY);
    MPROC__STORE(&may_go_on, 1);
    pthread_join(thread, &well);
    ck_assert_ptr_nonnull(well);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

/* A pool that lies where another one lay does not run what is left of that one's iterator. */
START_TEST(close_of_a_pool_in_the_place_of_a_freed_one) {
    mproc_pool_counts counts;
    fill_squares();
    mproc_pool *pool = pool_of(1), *next;
    mproc_iter *it = mproc_pool_imap(pool, square, squares_in, 2000, sizeof(int), sizeof(int));
    ck_assert_ptr_nonnull(it);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    next = pool_of(1);
    ck_assert_ptr_eq(next, pool);
    ck_assert_int_eq(mproc_pool_close(next), 0);
    ck_assert_int_eq(mproc_pool_join(next, 10), 0);
    ck_assert_int_eq(mproc_pool_stats(next, &counts), 0);
    ck_assert_uint_eq(counts.done, 0);
    ck_assert_int_eq(mproc_iter_free(it), 0);
    ck_assert_int_eq(mproc_pool_free(next), 0);
}
END_TEST

/* What is changed by eight bytes at once stands so that it can be, with 32 bits, too. */
START_TEST(a_pools_ring_is_aligned) {
    for (int workers = 1; workers < 4; workers++) {
        mproc_pool *pool = pool_of(workers);
        ck_assert_uint_eq((uintptr_t)pool->entry % 8, 0);
        ck_assert_uint_eq((uintptr_t)pool->worker->began % 8, 0);
        ck_assert_int_eq(mproc_pool_free(pool), 0);
    }
}
END_TEST

/* A task is doomed right after its worker claimed it: the worker does not end it, for it is about to be
   killed, and would be at the next one by then. */
START_TEST(a_task_doomed_at_its_claim_is_not_ended_by_its_worker) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *busy = begin(pool, gate, 0, 0);
    EVENTUALLY(GET(board->started) == 1);
    mproc_future *future = begin(pool, square, 5, sizeof(int));
    pid_t child = mproc_fork();
    if (child == 0) { /* another worker */
        mproc__worker me;
        memset(&me, 0, sizeof me);
        me.pid = mproc__own_holder();
        mproc__me.worker = &me;
        MUST(mproc__worker_claim(&me, future, GET(future->word)));
        SET(future->word, mproc__word(GET(future->word), MPROC__DOOMED, me.pid)); /* the supervisor */
        mproc__worker_run(&me, future, UINT32_MAX);
        _exit(1);
    }
    EVENTUALLY(GET(future->done) == 1);
    EVENTUALLY(mproc__is_done(future) || process_gone(child) || process_state(child) == 'S');
    ck_assert(!mproc__is_done(future));
    kill(child, SIGKILL);
    ck_assert_int_eq(mproc_wait(child, NULL, MPROC_FOREVER), 0);
    SET(board->open, 1);
    ck_assert_int_eq(finish(busy, NULL), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

SUITE_MAIN("pool, more", imap_in_order, imap_unordered_gives_each_once,
           imap_unordered_does_not_wait_for_the_slow, imap_next_in_time_or_later, imap_of_nothing,
           imap_tells_each_items_own_error, imap_of_a_million_items, imap_left_half_way,
           imap_and_the_end_of_its_pool, imap_misused, close_with_an_imap_under_way,
           close_with_an_imap_under_way_and_limits, close_that_waits_holds_no_iterator_up,
           a_queued_task_is_cancelled_and_never_runs, a_running_task_is_cancelled_with_its_children,
           a_doomed_task_leaves_its_slot_alone, cancelled_tasks_leave_the_backlog,
           a_done_task_cannot_be_cancelled, cancelling_races_with_running, cancelled_right_before_the_end,
           cancelled_from_another_process, callbacks_run_once, callbacks_of_many_run_in_any_call,
           callbacks_that_submit, callbacks_are_of_the_process_that_asked, callbacks_at_terminate,
           supervisor_killed_while_the_program_polls, callbacks_after_the_supervisor_was_killed,
           pool_fd_wakes_an_event_loop, pool_fd_stays_readable_while_results_wait,
           pool_fd_is_for_the_makers_results, callbacks_run_one_after_the_other,
           pool_fd_tells_of_crashes_and_of_the_end, pool_fd_tells_though_who_had_the_news_was_killed,
           pool_fd_leaks_nothing, a_result_of_more_than_a_gibibyte, parallel_for_runs_each_once,
           parallel_for_tells_of_a_crash, parallel_for_of_which_all_crash, parallel_for_schedules_dynamically,
           parallel_for_inside_another, parallel_for_misused, parallel_for_killed_and_interrupted,
           progress_to_a_file_is_a_line_each_ten_percent, progress_on_a_terminal_is_one_line_redrawn,
           progress_of_a_map, storm_of_every_kind_of_task, imap_of_an_array_freed_after_the_iterator,
           imap_of_a_pool_that_was_freed, callbacks_of_what_another_process_freed,
           a_future_freed_while_a_thread_is_in_its_callback,
           pool_fd_stays_readable_while_an_iterator_has_items, a_slot_used_anew_while_its_callback_lasts,
           free_beside_an_iterator_whatever_its_thread_waits_for, close_of_a_pool_in_the_place_of_a_freed_one,
           a_callback_that_frees_what_is_in_use, pool_fd_falls_silent_after_every_call,
           pool_fd_tells_while_a_thread_waits, imap_unordered_within_a_task,
           a_killed_tasks_map_leaves_alone_what_lies_where_its_result_lay, counts_never_go_back,
           counts_of_a_pool_that_is_over, pool_fd_tells_what_another_process_knows,
           parallel_for_of_a_body_that_forks, parallel_for_beside_the_end_of_the_program,
           a_pools_ring_is_aligned, a_task_doomed_at_its_claim_is_not_ended_by_its_worker,
           callbacks_of_one_future, pool_fd_that_nobody_looks_at_holds_nobody_up)
