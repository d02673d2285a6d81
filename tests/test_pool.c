/* The pool: results, failures, deaths of workers, supervisor and program, shut-down in every order, options.
   Tests carry the numbers of the checklist they come from (POOL-, EXEC-, EXIT-, X-). */
#define MPROC_IMPLEMENTATION
#include "support.h"
#include "support_pool.h"

/* ---- apply, and sizes -------------------------------------------------------------------------------- */

struct factors {
    int a, b;
    double c;
};
static int multiply(const void *arg, void *result) {
    const struct factors *f = arg;
    *(double *)result = f->a * f->b * f->c;
    return 0;
}

START_TEST(apply_returns_the_result) { /* POOL-01, EXEC-01 */
    mproc_pool *pool = pool_of(2);
    int five = 5, result = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, square, &five, sizeof five, &result, sizeof result), 0);
    ck_assert_int_eq(result, 25);
    struct factors f = {3, 4, 0.5};
    double product = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, multiply, &f, sizeof f, &product, sizeof product), 0);
    ck_assert(fabs(product - 6.0) < 1e-9);
    ck_assert_int_eq(mproc_pool_apply(pool, nothing, NULL, 0, NULL, 0), 0);
    pid_t pid = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, own_pid, NULL, 0, &pid, sizeof pid), 0);
    ck_assert_int_ne(pid, getpid());
    ck_assert_int_ne(pid, 0);
    free_pool(pool);
}
END_TEST

static unsigned char pattern(size_t i) { return (unsigned char)(i * 131 + (i >> 8) * 7 + (i >> 16)); }

/* 0 when the argument is what the test filled in; fills the result. */
static int transform(const void *arg, void *result) {
    const unsigned char *in = arg;
    unsigned char *out = result;
    if (((uintptr_t)in | (uintptr_t)out) % sizeof(void *) != 0) return 1;
    for (size_t i = 0; i < board->arg_size; i++)
        if (in[i] != pattern(i)) return 2;
    for (size_t i = 0; i < board->result_size; i++) out[i] = (unsigned char)(pattern(i) ^ 0x5a);
    return 0;
}

START_TEST(any_size_of_argument_and_result) {
    static const size_t sizes[] = {0, 1, 64, 100 << 10, 64 << 20};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    new_board();
    unsigned char *in = malloc(sizes[SIZES - 1]), *out = malloc(sizes[SIZES - 1]);
    NEED(in);
    NEED(out);
    for (size_t i = 0; i < sizes[SIZES - 1]; i++) in[i] = pattern(i);
    mproc_pool *pool = pool_of(2);
    for (int a = 0; a < SIZES; a++)
        for (int r = 0; r < SIZES; r++) {
            if (a == SIZES - 1 && r != 0 && r != SIZES - 1) continue; /* the largest are slow to check */
            size_t arg_size = board->arg_size = sizes[a], result_size = board->result_size = sizes[r];
            memset(out, 0, result_size);
            ck_assert_int_eq(mproc_pool_apply(pool, transform, in, arg_size, out, result_size), 0);
            for (size_t i = 0; i < result_size; i++)
                if (out[i] != (unsigned char)(pattern(i) ^ 0x5a))
                    ck_abort_msg("byte %zu of %zu", i, result_size);
        }
    free_pool(pool);
    free(in), free(out);
}
END_TEST

/* What tasks may put into their structs must be aligned for anything, whatever came before it. */
static int alignment(const void *arg, void *result) {
    memset(result, 0, *(const size_t *)arg);
    return ((uintptr_t)arg | (uintptr_t)result) % 16 != 0;
}
START_TEST(arguments_and_results_are_aligned) {
    mproc_pool *pool = pool_of(1);
    for (size_t size = sizeof(size_t); size < 300; size += 3) {
        char arg[300] = {0}, result[300];
        memcpy(arg, &size, sizeof size);
        ck_assert_int_eq(mproc_pool_apply(pool, alignment, arg, size, result, size), 0);
    }
    free_pool(pool);
}
END_TEST

/* What a task was handed in with is its own, also where the argument lay in shared memory: the caller may
   change or free it at once. (A map waits, and so may use its items where they are.) */
static int count_if_pool(const void *arg, void *result) {
    mproc_pool *const *pools = arg;
    for (size_t i = 1; i < 128 / sizeof *pools; i++)
        if (pools[i] != pools[0]) return 1;
    return count(arg, result);
}
static int resubmit(const void *arg,
                    void *result) { /* hands its own argument on, and is over before that runs */
    (void)result;
    mproc_pool *pool = *(mproc_pool *const *)arg;
    return mproc_pool_submit(pool, count_if_pool, arg, 128, MPROC_FOREVER);
}
START_TEST(arguments_in_shared_memory_are_copied) {
    new_board();
    mproc_pool *pool = pool_of(1);
    int *shared = mproc_value_new(int, 5), result = 0;
    NEED(shared);
    mproc_future *blocker = begin(pool, gate, 0, 0);
    mproc_future *future = mproc_pool_apply_async(pool, square, shared, sizeof *shared, sizeof result);
    NEED(future);
    *shared = 4;
    ck_assert_int_eq(mproc_pool_submit(pool, mark, shared, sizeof *shared, MPROC_FOREVER), 0);
    *shared = 9;
    ck_assert_int_eq(mproc_free(shared), 0);
    SET(board->open, 1);
    ck_assert_int_eq(finish(blocker, NULL), 0);
    ck_assert_int_eq(finish(future, &result), 0);
    EVENTUALLY(is_idle(pool));
    ck_assert_int_eq(result, 25);
    ck_assert_uint_eq(board->ran[4], 1);
    void *handed_on[128 / sizeof(void *)]; /* too large to stand in the slot with a result */
    for (size_t i = 0; i < sizeof handed_on / sizeof *handed_on; i++) handed_on[i] = pool;
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(mproc_pool_submit(pool, resubmit, handed_on, sizeof handed_on, MPROC_FOREVER), 0);
    EVENTUALLY(counts_of(pool).done == 3 + 400 && is_idle(pool));
    ck_assert_int_eq(GET(board->counter), 200);
    free_pool(pool);
}
END_TEST

/* Tasks of random size, checked at both ends; the header stands at the front of argument and result. */
struct parcel {
    uint32_t size, seed; /* of the bytes behind it */
    uint32_t sum, number;
};
static uint32_t checksum(const unsigned char *bytes, size_t n) {
    uint32_t sum = 1;
    for (size_t i = 0; i < n; i++) sum = sum * 31 + bytes[i];
    return sum;
}
static int check_parcel(const void *arg, void *result) {
    const struct parcel *in = arg;
    struct parcel *out = result;
    if (checksum((const unsigned char *)(in + 1), in->size) != in->sum) return 1;
    *out = *in;
    unsigned char *bytes = (unsigned char *)(out + 1);
    for (uint32_t i = 0; i < in->size; i++) bytes[i] = (unsigned char)(in->seed + i);
    out->sum = checksum(bytes, in->size);
    return 0;
}
static size_t fill_parcel(struct parcel *parcel, uint32_t number, uint64_t *seed) {
    size_t most = random_below(seed, 10) == 0 ? 20000 : 600;
    parcel->size = (uint32_t)random_below(seed, most), parcel->seed = (uint32_t)draw(seed);
    parcel->number = number;
    unsigned char *bytes = (unsigned char *)(parcel + 1);
    for (uint32_t i = 0; i < parcel->size; i++) bytes[i] = (unsigned char)(parcel->seed * 3 + i);
    parcel->sum = checksum(bytes, parcel->size);
    return sizeof *parcel + parcel->size;
}
static void expect_parcel(mproc_future *future, struct parcel *parcel, uint32_t number) {
    ck_assert_int_eq(finish(future, parcel), 0);
    ck_assert_uint_eq(parcel->number, number);
    ck_assert_uint_eq(checksum((unsigned char *)(parcel + 1), parcel->size), parcel->sum);
}

START_TEST(ten_thousand_tasks_of_random_size) {
    enum { TASKS = 10000, WINDOW = 100 };
    uint64_t seed = 20240229;
    mproc_pool *pool = pool_of(3);
    struct parcel *parcel = malloc(sizeof *parcel + 20000);
    NEED(parcel);
    mproc_future *window[WINDOW] = {NULL};
    for (uint32_t i = 0; i < TASKS + WINDOW; i++) {
        mproc_future **slot = &window[i % WINDOW];
        if (*slot != NULL) expect_parcel(*slot, parcel, i - WINDOW);
        *slot = NULL;
        if (i >= TASKS) continue;
        size_t size = fill_parcel(parcel, i, &seed);
        *slot = mproc_pool_apply_async(pool, check_parcel, parcel, size, size);
        NEED(*slot);
    }
    ck_assert_uint_eq(counts_of(pool).done, TASKS);
    free(parcel);
    free_pool(pool);
}
END_TEST

START_TEST(sizes_that_cannot_be_are_refused) { /* POOL-06 */
    mproc_pool *pool = pool_of(1);
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 4096, SIZE_MAX / 2 + 1,
                                   (size_t)(((uint64_t)1 << 50) + ((uint64_t)3 << 30))};
    char byte = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int error = 0;
        TAKES(0, 0.1, error = mproc_pool_apply(pool, nothing, &byte, sizes[i], NULL, 0));
        ck_assert_msg(error == MPROC_EINVAL || error == MPROC_ENOMEM || error == MPROC_EMSGSIZE, "%d", error);
        error = mproc_pool_apply(pool, nothing, NULL, 0, &byte, sizes[i]);
        ck_assert_msg(error == MPROC_EINVAL || error == MPROC_ENOMEM || error == MPROC_EMSGSIZE, "%d", error);
        error = mproc_pool_submit(pool, nothing, &byte, sizes[i], MPROC_FOREVER);
        ck_assert_msg(error == MPROC_EINVAL || error == MPROC_ENOMEM || error == MPROC_EMSGSIZE, "%d", error);
        errno = 0;
        ck_assert_ptr_null(mproc_pool_apply_async(pool, nothing, NULL, 0, sizes[i]));
        ck_assert(errno == EINVAL || errno == ENOMEM || errno == EMSGSIZE);
    }
    ck_assert_uint_eq(counts_of(pool).done, 0);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

/* ---- map --------------------------------------------------------------------------------------------- */

START_TEST(map_keeps_the_order) { /* POOL-02, EXEC-27 */
    static int in[1000], out[1000];
    for (int i = 0; i < 1000; i++) in[i] = i;
    mproc_pool *pool = pool_of(3);
    static const size_t lengths[] = {1, 2, 3, 6, 10, 40, 50, 100, 999, 1000};
    size_t total = 0;
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        memset(out, 0xff, sizeof out);
        ck_assert_int_eq(mproc_pool_map(pool, square, in, lengths[k], sizeof in[0], out, sizeof out[0]), 0);
        for (size_t i = 0; i < lengths[k]; i++) ck_assert_int_eq(out[i], (int)(i * i));
        if (lengths[k] < 1000) ck_assert_int_eq(out[lengths[k]], -1); /* nothing behind the end is written */
        total += lengths[k];
    }
    EVENTUALLY(counts_of(pool).done == total);
    free_pool(pool);
}
END_TEST

START_TEST(map_with_structs) { /* POOL-03 */
    struct factors in[100];
    double out[100];
    memset(in, 0, sizeof in);
    for (int i = 0; i < 100; i++) in[i].a = i, in[i].b = 99 - i, in[i].c = 1;
    mproc_pool *pool = pool_of(2);
    ck_assert_int_eq(mproc_pool_map(pool, multiply, in, 100, sizeof in[0], out, sizeof out[0]), 0);
    for (int i = 0; i < 100; i++) ck_assert(fabs(out[i] - i * (99 - i)) < 1e-9);
    free_pool(pool);
}
END_TEST

struct places {
    const void *arg;
    void *result;
};
static int where(const void *arg, void *result) {
    struct places here = {arg, result};
    memcpy(result, &here, sizeof here);
    return 0;
}

START_TEST(map_uses_shared_arrays_where_they_are) {
    enum { N = 500, FROM = 7 };
    mproc_pool *pool = pool_of(2); /* the arrays are younger than the workers */
    int *in = mproc_array_new(int, N + FROM);
    struct places *out = mproc_array_new(struct places, N + FROM);
    NEED(in);
    NEED(out);
    ck_assert_int_eq(mproc_pool_map(pool, where, in + FROM, N, sizeof *in, out + FROM, sizeof *out), 0);
    for (int i = FROM; i < N + FROM; i++) {
        ck_assert_ptr_eq(out[i].arg, &in[i]);
        ck_assert_ptr_eq(out[i].result, &out[i]);
    }
    for (int i = 0; i < N; i++) in[i] = i;
    static int mine[N];
    /* from shared to private memory, and back */
    ck_assert_int_eq(mproc_pool_map(pool, square, in, N, sizeof *in, mine, sizeof *mine), 0);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(mine[i], i * i);
        mine[i] = i;
    }
    memset(in, 0xff, N * sizeof *in);
    ck_assert_int_eq(mproc_pool_map(pool, square, mine, N, sizeof *mine, in, sizeof *in), 0);
    for (int i = 0; i < N; i++) ck_assert_int_eq(in[i], i * i);
    ck_assert_int_eq(mproc_free(in), 0);
    ck_assert_int_eq(mproc_free(out), 0);
    free_pool(pool);
}
END_TEST

START_TEST(map_in_place) {
    enum { N = 300 };
    mproc_pool *pool = pool_of(2);
    int *shared = mproc_array_new(int, N);
    int mine[N];
    NEED(shared);
    for (int i = 0; i < N; i++) shared[i] = mine[i] = i;
    ck_assert_int_eq(mproc_pool_map(pool, square, shared, N, sizeof *shared, shared, sizeof *shared), 0);
    ck_assert_int_eq(mproc_pool_map(pool, square, mine, N, sizeof *mine, mine, sizeof *mine), 0);
    for (int i = 0; i < N; i++) ck_assert(shared[i] == i * i && mine[i] == i * i);
    ck_assert_int_eq(mproc_free(shared), 0);
    free_pool(pool);
}
END_TEST

START_TEST(map_of_nothing) { /* POOL-07, POOL-08 */
    mproc_pool *pool = pool_of(4);
    int in = 1, out = 2;
    TAKES(0, 0.1, ck_assert_int_eq(mproc_pool_map(pool, square, &in, 0, sizeof in, &out, sizeof out), 0));
    ck_assert_int_eq(mproc_pool_map(pool, square, NULL, 0, SIZE_MAX, NULL, 0), 0);
    ck_assert_int_eq(mproc_pool_map(pool, square, NULL, 0, SIZE_MAX / 2, NULL, SIZE_MAX / 2 + 1), 0);
    ck_assert_int_eq(mproc_pool_map(pool, square, NULL, 0, sizeof in, NULL, sizeof out), 0);
    ck_assert_int_eq(mproc_pool_map(pool, square, NULL, 0, 0, NULL, 0), 0);
    ck_assert_int_eq(out, 2);
    ck_assert_uint_eq(counts_of(pool).done, 0);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    free_pool(pool);
}
END_TEST

START_TEST(map_without_input_or_output) {
    new_board();
    mproc_pool *pool = pool_of(2);
    int numbers[100];
    for (int i = 0; i < 100; i++) numbers[i] = i;
    ck_assert_int_eq(mproc_pool_map(pool, mark, numbers, 100, sizeof numbers[0], NULL, 0), 0);
    for (int i = 0; i < 100; i++) ck_assert_uint_eq(board->ran[i], 1);
    ck_assert_int_eq(mproc_pool_map(pool, count, NULL, 100, 0, NULL, 0), 0);
    ck_assert_int_eq(GET(board->counter), 100);
    pid_t pids[10];
    ck_assert_int_eq(mproc_pool_map(pool, own_pid, NULL, 10, 0, pids, sizeof pids[0]), 0);
    for (int i = 0; i < 10; i++) ck_assert(pids[i] > 0 && pids[i] != getpid());
    free_pool(pool);
}
END_TEST

START_TEST(map_of_what_overflows) {
    mproc_pool *pool = pool_of(1);
    int in[4] = {0}, out[4];
    static const size_t lengths[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4 + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int error = mproc_pool_map(pool, square, in, lengths[i], sizeof in[0], out, sizeof out[0]);
        ck_assert_msg(error == MPROC_EINVAL || error == MPROC_ENOMEM, "%d", error);
        error = mproc_pool_map(pool, nothing, in, lengths[i], 8, NULL, 0);
        ck_assert_msg(error == MPROC_EINVAL || error == MPROC_ENOMEM, "%d", error);
        error = mproc_pool_map(pool, square, NULL, lengths[i], 0, out, 8);
        ck_assert_msg(error == MPROC_EINVAL || error == MPROC_ENOMEM, "%d", error);
    }
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(map_of_a_hundred_thousand_tiny_items) {
    enum { N = 100000 };
    int *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    NEED(in);
    NEED(out);
    for (int i = 0; i < N; i++) in[i] = i % 40000, out[i] = -1;
    mproc_pool *pool = pool_of(2);
    TAKES(0, 5, ck_assert_int_eq(mproc_pool_map(pool, square, in, N, sizeof *in, out, sizeof *out), 0));
    for (int i = 0; i < N; i++)
        if (out[i] != in[i] * in[i]) ck_abort_msg("item %d", i);
    free(in), free(out);
    free_pool(pool);
}
END_TEST

struct big_result {
    int number;
    char rest[(1 << 20) - sizeof(int)];
};
static int fail_or_not(const void *arg,
                       void *result) { /* each with a result of 1 MiB; number 3 and up fail */
    struct big_result *big = result;
    memset(big, *(const int *)arg, sizeof *big);
    big->number = *(const int *)arg;
    ADD(board->ran[big->number], 1);
    if (big->number >= 3) nap(0.1);
    return big->number >= 3 ? 100 + big->number : 0;
}

START_TEST(map_waits_for_all_though_some_fail) { /* POOL-22, EXEC-02 */
    enum { N = 12 };
    int in[N];
    struct big_result *out = calloc(N, sizeof *out);
    NEED(out);
    for (int i = 0; i < N; i++) in[i] = i;
    new_board();
    mproc_pool *pool = pool_of(2);
    TAKES(0.45, 1,
          ck_assert_int_eq(mproc_pool_map(pool, fail_or_not, in, N, sizeof in[0], out, sizeof *out),
                           MPROC_EFAILED));
    for (int i = 0; i < N; i++) ck_assert_uint_eq(board->ran[i], 1);
    for (int i = 0; i < 3; i++) ck_assert(out[i].number == i && out[i].rest[sizeof out->rest - 1] == i);
    EVENTUALLY(counts_of(pool).failed == N - 3);
    ck_assert_uint_eq(counts_of(pool).done, 3);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, 5), 0));
    free_pool(pool);
    free(out);
}
END_TEST

/* Item numbers and what they do: 0 squares, 1 fails, 2 dies. */
static int mixed(const void *arg, void *result) {
    const int *item = arg;
    ADD(board->ran[item[0]], 1);
    if (item[1] == 1) return 1;
    if (item[1] == 2) raise(SIGKILL);
    *(int *)result = item[0] * item[0];
    return 0;
}

START_TEST(map_with_items_that_kill_their_worker) { /* X-52 */
    enum { N = 100 };
    int in[N][2], out[N];
    mproc_pool *pool = NULL;
    new_board();
    for (int shared = 0; shared < 2; shared++) {
        pool = pool_of(2);
        for (int first = 1; first <= 2; first++) { /* which error is the first one */
            for (int i = 0; i < N; i++) in[i][0] = i, in[i][1] = 0, out[i] = -1;
            in[20][1] = first, in[60][1] = 3 - first, in[99][1] = 2;
            memset(board->ran, 0, sizeof board->ran);
            int(*items)[2] = in;
            int *results = out;
            if (shared) items = mproc_shm_new(sizeof in), results = mproc_array_new(int, N);
            NEED(items);
            NEED(results);
            if (shared) memcpy(items, in, sizeof in);
            int error = 0;
            TAKES(0, 1.5,
                  error = mproc_pool_map(pool, mixed, items, N, sizeof in[0], results, sizeof *results));
            ck_assert_int_eq(error, first == 1 ? MPROC_EFAILED : MPROC_ECRASHED);
            for (int i = 0; i < N; i++) {
                ck_assert_uint_eq(board->ran[i], 1);
                if (in[i][1] == 0) ck_assert_int_eq(results[i], i * i);
            }
            if (shared) ck_assert(mproc_free(items) == 0 && mproc_free(results) == 0);
        }
        EVENTUALLY(counts_of(pool).crashed == 4 && counts_of(pool).workers == 2);
        ck_assert_uint_eq(counts_of(pool).failed, 2);
        ck_assert_uint_eq(counts_of(pool).done, 2 * (N - 3));
        expect_works(pool);
        free_pool(pool);
    }
}
END_TEST

static int map_call(struct call *call) {
    int in[500], out[500];
    for (int i = 0; i < 500; i++) in[i] = i + call->arg;
    for (int round = 0; round < 20; round++) {
        memset(out, 0, sizeof out);
        int error = mproc_pool_map(call->pool, square, in, 500, sizeof in[0], out, sizeof out[0]);
        if (error != 0) return error;
        for (int i = 0; i < 500; i++)
            if (out[i] != in[i] * in[i]) return 1;
    }
    return 0;
}

START_TEST(maps_of_several_threads_and_processes_at_once) {
    mproc_pool *pool = pool_of(2);
    struct call calls[4];
    pid_t children[3];
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < 3; i++)
        if ((children[i] = mproc_fork()) == 0) {
            struct call call = {.pool = pool, .arg = 5000 * (i + 1)};
            _exit(map_call(&call) != 0);
        }
    for (int i = 0; i < 4; i++) {
        calls[i].function = map_call, calls[i].pool = pool, calls[i].arg = 1000 * i;
        call_begin(&calls[i]);
    }
    for (int i = 0; i < 4; i++) ck_assert_int_eq(call_end(&calls[i]), 0);
    for (int i = 0, code = -1; i < 3; i++) {
        ck_assert_int_eq(mproc_wait(children[i], &code, MPROC_FOREVER), 0);
        ck_assert_int_eq(code, 0);
    }
    EVENTUALLY(counts_of(pool).done == 7 * 20 * 500);
    free_pool(pool);
}
END_TEST

/* ---- Futures ------------------------------------------------------------------------------------------ */

START_TEST(get_waits_for_the_result) { /* POOL-04, POOL-10, POOL-35, POOL-36 */
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *future = begin(pool, gate_square, 7, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    ck_assert(!mproc_future_ready(future));
    ck_assert(!mproc_future_successful(future));
    int code = mproc_future_code(future);
    ck_assert_msg(code == MPROC_EAGAIN || code == MPROC_NO_EXITCODE, "no code yet, but %d", code);
    ck_assert_int_eq(mproc_future_wait(future, 0), MPROC_ETIMEDOUT);
    int result = 0;
    ck_assert_int_eq(mproc_future_get(future, &result, 0), MPROC_ETIMEDOUT);
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_future_get(future, &result, 0.1), MPROC_ETIMEDOUT)); /* POOL-11 */
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_future_wait(future, 0.1), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_future_get(future, &result, (double)NAN), MPROC_EINVAL);
    ck_assert_int_eq(mproc_future_wait(future, (double)NAN), MPROC_EINVAL);
    ck_assert_int_eq(result, 0);
    SET(board->open, 1);
    ck_assert_int_eq(mproc_future_wait(future, 1e300), 0);
    ck_assert_int_eq(mproc_future_wait(future, 0), 0);
    ck_assert(mproc_future_ready(future));
    ck_assert(mproc_future_successful(future));
    ck_assert_int_eq(mproc_future_code(future), 0);
    for (int twice = 0; twice < 2; twice++) {
        result = 0;
        ck_assert_int_eq(mproc_future_get(future, &result, (double)INFINITY), 0);
        ck_assert_int_eq(result, 49);
    }
    ck_assert_int_eq(mproc_future_get(future, NULL, 0), 0); /* the result is not wanted */
    ck_assert_int_eq(mproc_future_free(future), 0);
    ck_assert_int_eq(mproc_future_free(future), MPROC_EINVAL);
    ck_assert_int_eq(mproc_future_get(future, &result, 0), MPROC_EINVAL);
    free_pool(pool);
}
END_TEST

START_TEST(a_failed_task_tells_its_code) { /* POOL-19, EXEC-07, EXEC-11 */
    static const int codes[] = {-123, 1, 77, 255, 256, INT32_MAX, -2147483647};
    enum { CODES = sizeof codes / sizeof *codes };
    mproc_pool *pool = pool_of(2);
    mproc_future *futures[CODES];
    for (int i = 0; i < CODES; i++) futures[i] = begin(pool, fail_with, codes[i], 0);
    for (int i = 0; i < CODES; i++) {
        ck_assert_int_eq(mproc_future_get(futures[i], NULL, MPROC_FOREVER), MPROC_EFAILED);
        ck_assert(mproc_future_ready(futures[i]));
        ck_assert(!mproc_future_successful(futures[i]));
        ck_assert_int_eq(mproc_future_code(futures[i]), codes[i]);
        if (i % 2 == 0) ck_assert_int_eq(mproc_future_free(futures[i]), 0);
    }
    for (int i = 1; i < CODES; i += 2) { /* freeing one leaves the others alone */
        ck_assert_int_eq(mproc_future_code(futures[i]), codes[i]);
        ck_assert_int_eq(mproc_future_free(futures[i]), 0);
    }
    int minus_one = -1;
    ck_assert_int_eq(mproc_pool_apply(pool, fail_with, &minus_one, sizeof minus_one, NULL, 0), MPROC_EFAILED);
    EVENTUALLY(counts_of(pool).failed == CODES + 1);
    ck_assert_uint_eq(counts_of(pool).respawned, 0);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(failures_cost_no_worker) { /* POOL-27 */
    mproc_pool *pool = pool_of(1);
    pid_t before = 0, after = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, own_pid, NULL, 0, &before, sizeof before), 0);
    int code = -5;
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(mproc_pool_apply(pool, fail_with, &code, sizeof code, NULL, 0), MPROC_EFAILED);
    ck_assert_int_eq(mproc_pool_apply(pool, own_pid, NULL, 0, &after, sizeof after), 0);
    ck_assert_int_eq(before, after);
    free_pool(pool);
}
END_TEST

/* As Python's users do: all of them begun, then all of them got, many more than a backlog holds. */
START_TEST(ten_thousand_futures_held) {
    enum { N = 10000 };
    mproc_pool *pool = pool_of(2);
    mproc_future **futures = calloc(N, sizeof(mproc_future *));
    NEED(futures);
    for (int i = 0; i < N; i++) futures[i] = begin(pool, square, i, sizeof(int));
    for (int i = 0; i < N; i++) {
        int result = -1;
        ck_assert_int_eq(finish(futures[i], &result), 0);
        ck_assert_int_eq(result, i * i);
    }
    free(futures);
    free_pool(pool);
}
END_TEST

START_TEST(futures_freed_early) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *running = begin(pool, gate_square, 3, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    mproc_future *queued = begin(pool, count, 0, 0);
    ck_assert_int_eq(mproc_future_free(running), 0);
    ck_assert_int_eq(mproc_future_free(queued), 0);
    SET(board->open, 1);
    EVENTUALLY(counts_of(pool).done == 2);
    ck_assert_int_eq(GET(board->ended), 1);
    ck_assert_int_eq(GET(board->counter), 1);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

static int get_call(struct call *call) {
    int result = 0, error = mproc_future_get(call->future, &result, MPROC_FOREVER);
    return error != 0 ? error : result;
}

START_TEST(future_free_while_another_waits) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *future = begin(pool, gate_square, 9, sizeof(int));
    struct call call = {.function = get_call, .future = future};
    call_begin(&call);
    EVENTUALLY(call_blocks(&call));
    EVENTUALLY(mproc_future_free(future) == MPROC_EBUSY || GET(call.done));
    ck_assert(!GET(call.done));
    SET(board->open, 1);
    ck_assert_int_eq(call_end(&call), 81);
    ck_assert_int_eq(mproc_future_free(future), 0);
    free_pool(pool);
}
END_TEST

START_TEST(future_of_a_process_got_in_others) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *future = begin(pool, gate_square, 12, sizeof(int));
    pid_t children[3];
    for (int i = 0; i < 3; i++)
        if ((children[i] = i == 0 ? fork() : mproc_fork()) == 0) {
            int result = 0;
            ADD(board->counter, 1);
            _exit(mproc_future_get(future, &result, MPROC_FOREVER) == 0 && result == 144 ? 0 : 1);
        }
    EVENTUALLY(GET(board->counter) == 3);
    SET(board->open, 1);
    for (int i = 0, status = -1; i < 3; i++) {
        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert_int_eq(status, 0);
    }
    int result = 0;
    ck_assert_int_eq(finish(future, &result), 0);
    ck_assert_int_eq(result, 144);
    free_pool(pool);
}
END_TEST

/* A waiter killed inside get holds nothing up: neither the task nor the future's end. */
START_TEST(future_of_which_a_waiter_was_killed) {
    new_board();
    mproc_pool *pool = pool_of(1);
    for (int round = 0; round < 20; round++) {
        SET(board->open, 0);
        SET(board->counter, 0);
        mproc_future *future = begin(pool, gate_square, round, sizeof(int));
        pid_t child = mproc_fork();
        if (child == 0) {
            SET(board->counter, 1);
            mproc_future_get(future, NULL, MPROC_FOREVER);
            _exit(0);
        }
        EVENTUALLY(GET(board->counter) == 1 && process_state(child) == 'S');
        kill(child, SIGKILL);
        ck_assert_int_eq(mproc_wait(child, NULL, MPROC_FOREVER), 0);
        SET(board->open, 1);
        int result = -1;
        ck_assert_int_eq(mproc_future_get(future, &result, MPROC_FOREVER), 0);
        ck_assert_int_eq(result, round * round);
        ck_assert_int_eq(mproc_future_free(future), 0);
    }
    free_pool(pool);
}
END_TEST

/* Who asked has ended; who waits for the result is not forgotten. */
static int ask_and_end(void *arg) {
    mproc_pool *pool = arg;
    int six = 6;
    board->future = mproc_pool_apply_async(pool, square, &six, sizeof six, sizeof six);
    return 0;
}
START_TEST(a_future_of_a_process_that_has_ended) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *blocker = begin(pool, gate, 0, 0);
    mproc_process p = {.target = ask_and_end, .arg = pool};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
    NEED(board->future);
    struct call call = {.function = get_call, .future = board->future};
    call_begin(&call);
    EVENTUALLY(call_blocks(&call));
    nap(1.2); /* the pool looks now and then for what the dead have left */
    SET(board->open, 1);
    ck_assert_int_eq(call_end(&call), 36);
    ck_assert_int_eq(mproc_future_free(board->future), 0);
    ck_assert_int_eq(finish(blocker, NULL), 0);
    free_pool(pool);
}
END_TEST

/* Who was told that the time is up does not know that the task is done by now: its end is still news. */
static int take_a_moment(const void *arg, void *result) {
    for (double end = now() + 1e-5; now() < end;) continue;
    return square(arg, result);
}
START_TEST(a_timeout_tells_nobody_of_the_end) {
    mproc_pool *pool = pool_of(1);
    for (int i = 0; i < 3000; i++) {
        mproc_future *future = begin(pool, take_a_moment, 3, sizeof(int));
        int error;
        while ((error = mproc_future_wait(future, 0)) == MPROC_ETIMEDOUT)
            ck_assert_uint_eq(GET(future->told), 0);
        ck_assert_int_eq(error, 0);
        ck_assert_uint_eq(GET(future->told), 1);
        ck_assert_int_eq(mproc_future_free(future), 0);
    }
    free_pool(pool);
}
END_TEST

/* A call that cancels goes on until the task is done; freed meanwhile, it would cancel the slot's next one.
 */
static int cancel_call(struct call *call) { return mproc_future_cancel(call->future); }
START_TEST(future_free_while_another_cancels) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *future = begin(pool, gate_square, 9, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    uint64_t word = GET(future->word); /* by whom the task runs: the supervisor is not to find that out */
    SET(future->word, mproc__word(word, MPROC__RUNNING, MPROC__ORPHAN));
    struct call call = {.function = cancel_call, .future = future};
    call_begin(&call);
    EVENTUALLY(call_blocks(&call));
    for (double end = now() + 0.5; now() < end;) ck_assert_int_eq(mproc_future_free(future), MPROC_EBUSY);
    SET(future->word, word);
    ck_assert_int_eq(call_end(&call), 0);
    ck_assert_int_eq(mproc_future_free(future), 0);
    free_pool(pool);
}
END_TEST

/* Futures freed while their tasks end, beside others that are kept: a slot that is used again is not the one
   that was freed. */
static int free_early_call(struct call *call) {
    for (int i = 0; !GET(board->open); i++) {
        int arg = i & 1023;
        mproc_future *future = mproc_pool_apply_async(call->pool, square, &arg, sizeof arg, sizeof arg);
        if (future == NULL) return -errno;
        for (volatile int spin = 0; spin < i % 2000; spin++) continue;
        int error = mproc_future_free(future);
        if (error != 0) return error;
    }
    return 0;
}
static int keep_call(struct call *call) {
    for (int i = 0; !GET(board->open); i++) {
        int arg = i & 1023, result = -1;
        mproc_future *future = mproc_pool_apply_async(call->pool, square, &arg, sizeof arg, sizeof arg);
        if (future == NULL) return -errno;
        int error = mproc_future_wait(future, MPROC_FOREVER);
        if (i % 3 == 0) sched_yield();
        if (error == 0) error = mproc_future_get(future, &result, 0);
        if (error == 0) error = mproc_future_get(future, &result, 0);
        if (error == 0 && result != arg * arg) return 1;
        if (error == 0) error = mproc_future_free(future);
        if (error != 0) return error;
    }
    return 0;
}
START_TEST(futures_freed_beside_futures_kept) {
    new_board();
    mproc_pool *pool = pool_of(3);
    struct call calls[4];
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < 4; i++) {
        calls[i].function = i % 2 == 0 ? free_early_call : keep_call, calls[i].pool = pool;
        call_begin(&calls[i]);
    }
    nap(1.5); /* so long they race */
    SET(board->open, 1);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(call_end(&calls[i]), 0);
    EVENTUALLY(is_idle(pool));
    ck_assert_uint_eq(counts_of(pool).failed + counts_of(pool).crashed, 0);
    free_pool(pool);
}
END_TEST

START_TEST(stats_tell_what_is_where) {
    new_board();
    mproc_pool *pool = pool_of(2);
    mproc_pool_counts c = counts_of(pool);
    ck_assert_uint_eq(c.workers, 2);
    ck_assert_uint_eq(c.done + c.failed + c.crashed + c.timed_out + c.pending + c.running + c.respawned, 0);
    for (int i = 0; i < 5; i++) ck_assert_int_eq(mproc_pool_submit(pool, gate, NULL, 0, MPROC_FOREVER), 0);
    EVENTUALLY(GET(board->started) == 2);
    c = counts_of(pool);
    ck_assert_uint_eq(c.running, 2);
    ck_assert_uint_eq(c.pending, 3);
    SET(board->open, 1);
    EVENTUALLY(counts_of(pool).done == 5);
    EVENTUALLY(is_idle(pool));
    c = counts_of(pool);
    ck_assert_uint_eq(c.failed + c.crashed + c.timed_out + c.respawned, 0);
    ck_assert_int_eq(mproc_pool_stats(NULL, &c), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_stats(pool, NULL), MPROC_EINVAL);
    free_pool(pool);
}
END_TEST

/* ---- Tasks that take their worker down ---------------------------------------------------------------- */

START_TEST(a_dying_task_fails_alone_and_tells_how) { /* X-52, EXEC-06, EXEC-08, EXEC-09, EXEC-10 */
    for (int workers = 1; workers <= 2; workers++) {
        mproc_pool *pool = pool_of(workers);
        for (int how = 0; how < DEATHS; how++) {
            mproc_future *before = begin(pool, square, 4, sizeof(int)), *dying = begin(pool, die, how, 0);
            mproc_future *after = begin(pool, square, 5, sizeof(int));
            int result = 0;
            TAKES(0, 1, ck_assert_int_eq(mproc_future_get(dying, NULL, MPROC_FOREVER), MPROC_ECRASHED));
            ck_assert_msg(mproc_future_code(dying) == death_codes[how], "death %d: code %d", how,
                          mproc_future_code(dying));
            ck_assert(mproc_future_ready(dying));
            ck_assert(!mproc_future_successful(dying));
            ck_assert_int_eq(mproc_future_free(dying), 0);
            ck_assert_int_eq(finish(before, &result), 0);
            ck_assert_int_eq(result, 16);
            ck_assert_int_eq(finish(after, &result), 0);
            ck_assert_int_eq(result, 25);
        }
        EVENTUALLY(counts_of(pool).crashed == DEATHS && counts_of(pool).workers == (size_t)workers);
        EVENTUALLY(counts_of(pool).respawned == DEATHS);
        ck_assert_int_eq(mproc_pool_apply(pool, die, &(int){KILLED}, sizeof(int), NULL, 0), MPROC_ECRASHED);
        expect_works(pool);
        free_pool(pool);
    }
}
END_TEST

START_TEST(a_hundred_crashes_in_a_row) {
    mproc_pool *pool = pool_of(2);
    int how = KILLED;
    for (int i = 0; i < 100; i++)
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_apply(pool, die, &how, sizeof how, NULL, 0), MPROC_ECRASHED));
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(a_worker_killed_from_outside_costs_one_task) { /* X-52, EXEC-06 */
    new_board();
    mproc_pool *pool = pool_of(4);
    mproc_future *futures[8];
    for (int i = 0; i < 8; i++) futures[i] = begin(pool, gate_square, i, sizeof(int));
    EVENTUALLY(GET(board->started) == 4);
    pid_t pids[16];
    ck_assert_int_eq(workers_of(pids, 16), 4);
    kill(pids[2], SIGKILL);
    EVENTUALLY(GET(board->started) == 5); /* its replacement has taken the next one */
    SET(board->open, 1);
    int crashed = 0;
    for (int i = 0; i < 8; i++) {
        int result = -1, error = mproc_future_get(futures[i], &result, MPROC_FOREVER);
        if (error == MPROC_ECRASHED) {
            crashed++;
            ck_assert_int_eq(mproc_future_code(futures[i]), -SIGKILL);
        } else {
            ck_assert_int_eq(error, 0);
            ck_assert_int_eq(result, i * i);
        }
        ck_assert_int_eq(mproc_future_free(futures[i]), 0);
    }
    ck_assert_int_eq(crashed, 1);
    EVENTUALLY(has_workers(4));
    expect_works(pool);
    free_pool(pool);
}
END_TEST

/* A worker that holds a task for three items and is killed before the first, between two, after the last, or
   in the middle of one: only that one is lost. */
START_TEST(a_worker_killed_between_items) {
    enum { ITEMS = 3 };
    for (uint32_t done = 0; done <= ITEMS; done++)
        for (uint32_t begun = done; begun <= done + 1 && begun <= ITEMS; begun++) {
            new_board();
            mproc_pool *pool = pool_of(1);
            expect_works(pool);
            EVENTUALLY(is_idle(pool));
            int items[ITEMS] = {0, 1, 2};
            mproc__job job = mproc__job_of(mark, items, sizeof items[0], 0);
            job.count = ITEMS;
            mproc_future *future = mproc__slot_claim(pool);
            NEED(future);
            ck_assert_int_eq(mproc__slot_fill(future, &job), 0);
            mproc__tag_set(&future->tag, MPROC__FUTURE);
            mproc__worker *worker = &pool->worker[0];
            future->done = done, future->begun = begun;
            SET(future->word, mproc__word(GET(future->word), MPROC__RUNNING, worker->pid));
            SET(worker->current[0], future->index + 1);
            kill((pid_t)worker->pid, SIGKILL);
            int error = begun > done ? MPROC_ECRASHED : 0;
            ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
            ck_assert_int_eq(mproc_future_get(future, NULL, 0), error);
            for (uint32_t i = 0; i < ITEMS; i++) ck_assert_uint_eq(board->ran[i], i >= begun);
            for (uint32_t i = 0; i < ITEMS; i++)
                ck_assert_int_eq(future->items[i].status, i == done ? error : 0);
            ck_assert_uint_eq(counts_of(pool).crashed, begun > done);
            ck_assert_int_eq(mproc_future_free(future), 0);
            free_pool(pool);
        }
}
END_TEST

START_TEST(idle_workers_killed) { /* X-53 */
    for (int workers = 1; workers <= 3; workers += 2) {
        mproc_pool *pool = pool_of(workers);
        for (int round = 0; round < 20; round++) {
            pid_t pids[8];
            EVENTUALLY(has_workers(workers));
            int n = workers_of(pids, 8);
            for (int i = 0; i < n; i++) kill(pids[i], SIGKILL);
            int arg = round, result = -1;
            TAKES(0, 1,
                  ck_assert_int_eq(mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result),
                                   0));
            ck_assert_int_eq(result, round * round);
            for (int k = 0; k < n; k++) EVENTUALLY(process_gone(pids[k]));
        }
        EVENTUALLY(counts_of(pool).workers == (size_t)workers);
        ck_assert_uint_eq(counts_of(pool).crashed, 0);
        ck_assert_uint_ge(counts_of(pool).respawned, (size_t)(20 * workers - workers));
        free_pool(pool);
    }
}
END_TEST

/* Kills at random instants while tasks of 8 MiB travel in and out. */
struct traffic {
    uint32_t number, fill;
    char rest[(8 << 20) - 8];
};
static int carry(const void *arg, void *result) {
    memcpy(result, arg, sizeof(struct traffic));
    ((struct traffic *)result)->fill = ((const struct traffic *)arg)->number * 3;
    return 0;
}
START_TEST(workers_killed_while_big_data_moves) { /* X-54, EXEC-12, EXEC-13, EXEC-17 */
    uint64_t seed = 77;
    mproc_pool *pool = pool_of(2);
    struct traffic *in = calloc(1, sizeof *in), *out = malloc(sizeof *out);
    NEED(in);
    NEED(out);
    int crashed = 0;
    for (uint32_t round = 0; round < 150; round++) {
        pid_t pids[8];
        memset(in->rest, (int)(round % 256), sizeof in->rest);
        in->number = round;
        int n = workers_of(pids, 8);
        mproc_future *future = mproc_pool_apply_async(pool, carry, in, sizeof *in, sizeof *in);
        NEED(future);
        nap(1e-6 * (double)random_below(&seed, 4000));
        if (n > 0) kill(pids[random_below(&seed, (size_t)n)], SIGKILL);
        int error = 0;
        TAKES(0, 1, error = mproc_future_get(future, out, MPROC_FOREVER));
        if (error == MPROC_ECRASHED) {
            crashed++;
            ck_assert_int_eq(mproc_future_code(future), -SIGKILL);
        } else {
            ck_assert_int_eq(error, 0);
            in->fill = round * 3;
            ck_assert(memcmp(in, out, sizeof *in) == 0);
        }
        ck_assert_int_eq(mproc_future_free(future), 0);
    }
    EVENTUALLY(counts_of(pool).crashed == (size_t)crashed);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, 5), 0));
    free_pool(pool);
    free(in), free(out);
}
END_TEST

/* Tiny tasks, so that most kills hit a worker that takes one or hands one back. */
START_TEST(workers_killed_while_tasks_change_hands) {
    enum { N = 8000, WINDOW = 64 };
    uint64_t seed = 4711;
    new_board();
    mproc_pool *pool = pool_of(2);
    mproc_future *window[WINDOW] = {NULL};
    int numbers[WINDOW] = {0}, crashed = 0;
    size_t kills = 0;
    for (int i = 0; i < N + WINDOW; i++) {
        int k = i % WINDOW;
        if (window[k] != NULL) {
            int error = finish(window[k], NULL);
            ck_assert_msg(error == 0 || error == MPROC_ECRASHED, "task %d: %d", numbers[k], error);
            if (error == 0) ck_assert_uint_eq(GET(board->ran[numbers[k]]), 1);
            else ck_assert_uint_le(GET(board->ran[numbers[k]]), 1);
            crashed += error != 0;
            window[k] = NULL;
        }
        if (i < N) window[k] = begin(pool, mark, numbers[k] = i, 0);
        if (random_below(&seed, 80) == 0) {
            pid_t pids[8];
            int n = workers_of(pids, 8);
            if (n > 0 && kill(pids[random_below(&seed, (size_t)n)], SIGKILL) == 0) kills++;
        }
    }
    ck_assert_uint_le((size_t)crashed, kills);
    EVENTUALLY(is_idle(pool) && counts_of(pool).workers == 2);
    ck_assert_uint_eq(counts_of(pool).done + counts_of(pool).crashed, N);
    ck_assert_uint_eq(counts_of(pool).crashed, (size_t)crashed);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

static int leave_a_child(const void *arg,
                         void *result) { /* and then does what die() does with its argument */
    pid_t child = fork();
    if (child == 0)
        for (;;) pause();
    SET(board->child, child);
    if (*(const int *)arg == DEATHS) return 0;
    if (*(const int *)arg > DEATHS) pass_gate();
    return die(arg, result);
}

START_TEST(children_of_a_task_go_down_with_its_worker) {
    adopt_orphans();
    new_board();
    mproc_pool *pool = pool_of(1);
    for (int how = 0; how < DEATHS; how++) {
        ck_assert_int_eq(mproc_pool_apply(pool, leave_a_child, &how, sizeof how, NULL, 0), MPROC_ECRASHED);
        EVENTUALLY(process_gone(GET(board->child)));
    }
    int fine = DEATHS;
    ck_assert_int_eq(mproc_pool_apply(pool, leave_a_child, &fine, sizeof fine, NULL, 0), 0);
    pid_t left_by_a_good_one = GET(board->child);
    mproc_future *running = begin(pool, leave_a_child, DEATHS + 1, 0);
    EVENTUALLY(GET(board->started) == 1);
    pid_t of_a_running_one = GET(board->child);
    ck_assert(!process_gone(of_a_running_one));
    ck_assert_int_eq(mproc_pool_terminate(pool), 0);
    ck_assert_int_eq(finish(running, NULL), MPROC_ECANCELED);
    EVENTUALLY(process_gone(of_a_running_one) && process_gone(left_by_a_good_one));
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    expect_nothing_left(1);
}
END_TEST

/* ---- Initializer -------------------------------------------------------------------------------------- */

static double cpu_of(pid_t pid) {
    clockid_t clock;
    struct timespec t = {0, 0};
    if (clock_getcpuclockid(pid, &clock) == 0) clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int prepared; /* private memory of each worker */
static int prepare(void *arg) {
    ADD(board->inits, 1);
    if (GET(board->failing) > 0 && ADD(board->failing, -1) >= 0) return 1;
    prepared = *(int *)arg;
    return 0;
}
static int tell_prepared(const void *arg, void *result) {
    (void)arg;
    ((int *)result)[0] = prepared, ((int *)result)[1] = getpid();
    return 0;
}

START_TEST(initializer_runs_once_in_each_worker) { /* POOL-31, EXEC-25 */
    new_board();
    int value = 1234;
    mproc_pool *pool =
        pool_with((mproc_pool_options){.workers = 3, .initializer = prepare, .initarg = &value});
    int results[300][2];
    ck_assert_int_eq(mproc_pool_map(pool, tell_prepared, NULL, 300, 0, results, sizeof results[0]), 0);
    for (int i = 0; i < 300; i++) ck_assert_int_eq(results[i][0], 1234);
    EVENTUALLY(GET(board->inits) == 3);
    int how = KILLED, got[2];
    ck_assert_int_eq(mproc_pool_apply(pool, die, &how, sizeof how, NULL, 0), MPROC_ECRASHED);
    EVENTUALLY(GET(board->inits) == 4); /* in the replacement too */
    ck_assert_int_eq(mproc_pool_apply(pool, tell_prepared, NULL, 0, got, sizeof got), 0);
    ck_assert_int_eq(got[0], 1234);
    ck_assert_int_eq(GET(board->inits), 4);
    ck_assert_int_eq(prepared, 0);
    free_pool(pool);
}
END_TEST

static int fail_at_once(void *arg) {
    ADD(board->inits, 1);
    return die(arg, NULL) == 0;
}

START_TEST(initializer_that_fails_breaks_the_pool) { /* X-56, EXEC-26 */
    static const int ways[] = {DEATHS, LOW_EXIT, SEGFAULT, KILLED};
    enum { WORKERS = 3 };
    for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
        new_board();
        int how = ways[k], five = 5, result = 0;
        double start = now();
        mproc_pool *pool = mproc_pool_new_with(
            &(mproc_pool_options){.workers = WORKERS, .initializer = fail_at_once, .initarg = &how});
        if (pool != NULL) {
            int error = mproc_pool_apply(pool, square, &five, sizeof five, &result, sizeof result);
            ck_assert_int_eq(error, MPROC_EBROKEN);
            ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, MPROC_FOREVER), MPROC_EBROKEN);
            ck_assert_int_eq(mproc_pool_map(pool, square, &five, 1, sizeof five, &result, sizeof result),
                             MPROC_EBROKEN);
            mproc_future *late = mproc_pool_apply_async(pool, nothing, NULL, 0, 0);
            if (late == NULL) ck_assert_int_eq(-errno, MPROC_EBROKEN);
            else ck_assert_int_eq(finish(late, NULL), MPROC_EBROKEN);
        }
        ck_assert_msg(now() - start < 1 + 2 * SLOW, "told after %.2f s", now() - start);
        int tries = GET(board->inits);
        ck_assert_msg(tries >= 1 && tries <= 2 * WORKERS, "%d tries", tries);
        nap(0.3); /* to see that nothing goes on */
        ck_assert_int_eq(GET(board->inits), tries);
        if (pool != NULL) free_pool(pool);
        ck_assert(no_children());
    }
}
END_TEST

START_TEST(initializer_that_fails_once_is_tried_again) {
    new_board();
    SET(board->failing, 1);
    int value = 8;
    mproc_pool *pool =
        pool_with((mproc_pool_options){.workers = 2, .initializer = prepare, .initarg = &value});
    expect_works(pool);
    EVENTUALLY(counts_of(pool).workers == 2 && GET(board->inits) == 3);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

/* The initializer of a replacement fails once: no item of a map that nobody has begun is lost for that. */
START_TEST(initializer_that_fails_in_the_middle_of_a_map) {
    new_board();
    int value = 8;
    mproc_pool *pool =
        pool_with((mproc_pool_options){.workers = 1, .initializer = prepare, .initarg = &value});
    int in[200][2], out[200];
    memset(in, 0, sizeof in);
    for (int i = 0; i < 200; i++) in[i][0] = i;
    in[50][1] = 2;
    expect_works(pool); /* the first one is through its initializer */
    SET(board->failing, 1);
    ck_assert_int_eq(mproc_pool_map(pool, mixed, in, 200, sizeof in[0], out, sizeof out[0]), MPROC_ECRASHED);
    EVENTUALLY(counts_of(pool).done == 9 + 199);
    ck_assert_uint_eq(counts_of(pool).crashed, 1);
    for (int i = 0; i < 200; i++) ck_assert_uint_eq(board->ran[i], 1);
    free_pool(pool);
}
END_TEST

/* A pause after a failure ends: the supervisor sleeps again once no worker is missing. */
START_TEST(an_initializer_that_failed_costs_no_processor_time) {
    new_board();
    SET(board->failing, 1);
    int value = 8;
    mproc_pool *pool =
        pool_with((mproc_pool_options){.workers = 1, .initializer = prepare, .initarg = &value});
    expect_works(pool);
    nap(0.1); /* longer than the pause */
    double before = cpu_of(supervisor()), second = 1;
    ck_assert_int_eq(mproc_pool_apply(pool, sleep_for, &second, sizeof second, NULL, 0), 0);
    double used = cpu_of(supervisor()) - before;
    ck_assert_msg(used < 0.02 * SLOW, "%.4f s", used);
    free_pool(pool);
}
END_TEST

static int hang_initially(void *arg) {
    (void)arg;
    pass_gate();
    return 0;
}
START_TEST(initializer_that_hangs_does_not_hang_the_program) {
    new_board();
    mproc_pool_options options = {.workers = 2, .initializer = hang_initially};
    mproc_pool *pool = pool_with(options);
    mproc_future *future = begin(pool, square, 3, sizeof(int));
    ck_assert_int_eq(mproc_future_wait(future, 0.05), MPROC_ETIMEDOUT);
    EVENTUALLY(GET(board->started) == 2);
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_terminate(pool), 0));
    ck_assert_int_eq(finish(future, NULL), MPROC_ECANCELED);
    free_pool(pool);
    new_board();
    pool = pool_with(options); /* and a slow one is only slow */
    future = begin(pool, square, 3, sizeof(int));
    ck_assert_int_eq(mproc_future_wait(future, 0.05), MPROC_ETIMEDOUT);
    SET(board->open, 1);
    int result = 0;
    ck_assert_int_eq(finish(future, &result), 0);
    ck_assert_int_eq(result, 9);
    free_pool(pool);
}
END_TEST

/* ---- Workers with a limited life ---------------------------------------------------------------------- */

START_TEST(max_tasks_per_worker_exactly) { /* EXEC-30 */
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .max_tasks_per_worker = 3});
    pid_t pids[9];
    for (int i = 0; i < 9; i++) {
        ck_assert_int_eq(mproc_pool_apply(pool, own_pid, NULL, 0, &pids[i], sizeof pids[i]), 0);
        if (i % 3 != 0) ck_assert_int_eq(pids[i], pids[i - 1]);
        else if (i > 0) ck_assert_int_ne(pids[i], pids[i - 1]);
    }
    EVENTUALLY(counts_of(pool).workers == 1);
    mproc_pool_counts c = counts_of(pool);
    ck_assert_uint_eq(c.done, 9);
    ck_assert_uint_eq(c.crashed, 0);
    ck_assert_msg(c.respawned == 2 || c.respawned == 3, "%zu respawned", c.respawned);
    free_pool(pool);
}
END_TEST

START_TEST(workers_with_a_limited_life_are_replaced) { /* POOL-28 */
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 3, .max_tasks_per_worker = 10});
    int in[100], out[100];
    pid_t pids[400];
    for (int i = 0; i < 100; i++) in[i] = i;
    ck_assert_int_eq(mproc_pool_map(pool, square, in, 100, sizeof in[0], out, sizeof out[0]), 0);
    for (int i = 0; i < 100; i++) ck_assert_int_eq(out[i], i * i);
    ck_assert_int_eq(mproc_pool_map(pool, own_pid, NULL, 400, 0, pids, sizeof pids[0]), 0);
    for (int i = 0, most = 0; i < 400; i++) { /* an item of a map is a task */
        int same = 0;
        for (int k = 0; k < 400; k++) same += pids[k] == pids[i];
        most = same > most ? same : most;
        ck_assert_msg(most <= 10, "worker %d ran %d items", (int)pids[i], most);
    }
    EVENTUALLY(has_workers(3));
    ck_assert_uint_eq(counts_of(pool).crashed, 0);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(close_while_limited_workers_have_a_backlog) { /* POOL-29, EXEC-04, EXEC-31, EXEC-32, EXEC-33 */
    static const int cases[][3] = {{1, 1, 6}, {2, 1, 6}, {1, 2, 6}, {2, 2, 8}, {3, 1, 4}, {3, 2, 50}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        mproc_pool *pool = pool_with(
            (mproc_pool_options){.workers = cases[k][0], .max_tasks_per_worker = (unsigned)cases[k][1]});
        mproc_future *futures[50];
        for (int i = 0; i < cases[k][2]; i++) futures[i] = begin(pool, square, i, sizeof(int));
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        if (k % 2 == 0) TAKES(0, 3, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
        for (int i = 0; i < cases[k][2]; i++) {
            int result = -1;
            ck_assert_int_eq(finish(futures[i], &result), 0);
            ck_assert_int_eq(result, i * i);
        }
        TAKES(0, 3, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
        ck_assert(no_children());
        free_pool(pool);
    }
}
END_TEST

/* ---- Time limit --------------------------------------------------------------------------------------- */

START_TEST(task_timeout_ends_the_task_only) {
    adopt_orphans();
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .task_timeout = 0.2});
    double start = now();
    mproc_future *endless = begin(pool, leave_a_child, DEATHS + 1, 0);
    mproc_future *good[20];
    for (int i = 0; i < 20; i++) good[i] = begin(pool, square, i, sizeof(int));
    ck_assert_int_eq(mproc_future_get(endless, NULL, MPROC_FOREVER), MPROC_ETIMEDOUT);
    double took = now() - start;
    ck_assert_msg(took >= 0.199 && took < 0.25 + 1.0 * SLOW, "ended after %.3f s", took);
    ck_assert(mproc_future_ready(endless));
    ck_assert(!mproc_future_successful(endless));
    ck_assert_int_eq(mproc_future_free(endless), 0);
    for (int i = 0; i < 20; i++) {
        int result = -1;
        ck_assert_int_eq(finish(good[i], &result), 0);
        ck_assert_int_eq(result, i * i);
    }
    EVENTUALLY(process_gone(GET(board->child)));
    EVENTUALLY(counts_of(pool).timed_out == 1 && counts_of(pool).workers == 2);
    ck_assert_uint_eq(counts_of(pool).crashed, 0);
    double times[10] = {0, 0, 0, 9, 0, 0, 0, 0, 0.01, 9};
    start = now();
    ck_assert_int_eq(mproc_pool_map(pool, sleep_for, times, 10, sizeof times[0], NULL, 0), MPROC_ETIMEDOUT);
    ck_assert_msg(now() - start < 0.5 + 2 * SLOW, "map took %.2f s", now() - start);
    EVENTUALLY(counts_of(pool).timed_out == 3);
    ck_assert_uint_eq(counts_of(pool).done, 20 + 8);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    expect_nothing_left(1);
}
END_TEST

static int stop_self(const void *arg, void *result) {
    (void)arg, (void)result;
    raise(SIGSTOP);
    return 0;
}
static int exec_sleep(const void *arg, void *result) {
    (void)arg, (void)result;
    execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    return 0;
}
START_TEST(task_timeout_of_the_stopped_the_deaf_and_the_replaced) {
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .task_timeout = 0.1});
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_pool_apply(pool, stop_self, NULL, 0, NULL, 0), MPROC_ETIMEDOUT));
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_pool_apply(pool, exec_sleep, NULL, 0, NULL, 0), MPROC_ETIMEDOUT));
    expect_works(pool);
    free_pool(pool);
}
END_TEST

/* The limit is for each task, not for the time it waits for a worker, nor for all items of a map. */
START_TEST(task_timeout_counts_from_the_tasks_begin) {
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .task_timeout = 0.5});
    double times[10];
    for (int i = 0; i < 10; i++) times[i] = 0.1;
    ck_assert_int_eq(mproc_pool_map(pool, sleep_for, times, 10, sizeof times[0], NULL, 0), 0);
    ck_assert_uint_eq(counts_of(pool).timed_out, 0);
    free_pool(pool);
}
END_TEST

/* However short a limit is, who watches over it rests; however long, it is none. */
START_TEST(task_timeout_of_any_length) { /* X-59 */
    static const double lengths[] = {1e-300, 1e-9, 0.0001, 0.001, 0.01, 1e8, 1e9, 1e300, (double)INFINITY};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        new_board();
        mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .task_timeout = lengths[i]});
        double before = cpu_of(supervisor());
        nap(0.5);
        double used = cpu_of(supervisor()) - before;
        ck_assert_msg(used < 0.005 * SLOW, "with a limit of %g s the supervisor used %.4f s", lengths[i],
                      used);
        mproc_future *future = begin(pool, gate_square, 6, sizeof(int));
        int result = 0;
        if (lengths[i] < 1) {
            TAKES(0, 0.2, ck_assert_int_eq(finish(future, NULL), MPROC_ETIMEDOUT));
        } else {
            EVENTUALLY(GET(board->started) == 1);
            ck_assert_int_eq(mproc_future_wait(future, 0.05), MPROC_ETIMEDOUT);
            SET(board->open, 1);
            ck_assert_int_eq(finish(future, &result), 0);
            ck_assert_int_eq(result, 36);
        }
        free_pool(pool);
    }
}
END_TEST

/* ---- Backlog ------------------------------------------------------------------------------------------ */

static int submit_call(struct call *call) {
    return mproc_pool_submit(call->pool, count, NULL, 0, MPROC_FOREVER);
}
static int async_call(struct call *call) {
    call->future = mproc_pool_apply_async(call->pool, count, NULL, 0, 0);
    return call->future == NULL ? -errno : 0;
}

START_TEST(a_full_backlog_holds_the_submitter_up) {
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 4});
    ck_assert_int_eq(mproc_pool_submit(pool, gate, NULL, 0, MPROC_FOREVER), 0);
    EVENTUALLY(GET(board->started) == 1);
    int accepted = 0, error;
    while ((error = mproc_pool_submit(pool, count, NULL, 0, 0)) == 0) ck_assert_int_lt(++accepted, 100);
    ck_assert_int_eq(error, MPROC_ETIMEDOUT);
    ck_assert_msg(accepted >= 3 && accepted <= 5, "%d accepted", accepted);
    ck_assert_uint_eq(counts_of(pool).pending, (size_t)accepted);
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_pool_submit(pool, count, NULL, 0, 0.1), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_pool_submit(pool, count, NULL, 0, (double)NAN), MPROC_EINVAL);
    struct call calls[2] = {{.function = submit_call, .pool = pool}, {.function = async_call, .pool = pool}};
    for (int i = 0; i < 2; i++) call_begin(&calls[i]);
    for (int i = 0; i < 2; i++) EVENTUALLY(call_blocks(&calls[i]));
    SET(board->open, 1);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(call_end(&calls[i]), 0);
    ck_assert_int_eq(finish(calls[1].future, NULL), 0);
    EVENTUALLY(GET(board->counter) == accepted + 2);
    EVENTUALLY(is_idle(pool));
    for (int i = 0; i < 3; i++) ck_assert_int_eq(mproc_pool_submit(pool, count, NULL, 0, 0), 0);
    EVENTUALLY(GET(board->counter) == accepted + 5);
    expect_works(pool); /* a map longer than the backlog too */
    free_pool(pool);
}
END_TEST

static size_t resident_kib(pid_t pid) {
    char path[64];
    long pages = 0, all = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    ck_assert_int_eq(sscanf(slurp(path), "%ld %ld", &all, &pages), 2);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}
static size_t family_kib(void) {
    pid_t pids[16];
    size_t sum = resident_kib(getpid()) + resident_kib(supervisor());
    int n = workers_of(pids, 16);
    for (int i = 0; i < n; i++) sum += resident_kib(pids[i]);
    return sum;
}
static void expect_flat(size_t before, size_t most_kib, const char *what) {
    size_t after = family_kib();
    if (SLOW > 1) return; /* sanitizers keep books that grow */
    ck_assert_msg(after <= before + most_kib, "%s: %zu KiB, then %zu KiB", what, before, after);
}

/* How many are submitted: MPROC_TEST_SUBMITS, for make stress. */
static long submits(void) {
    const char *given = getenv("MPROC_TEST_SUBMITS");
    return given != NULL ? atol(given) : 200000;
}
/* Before main: many take longer than the time limit, which Check reads from its environment. */
static void __attribute__((constructor)) allow_time(void) {
    char factor[32];
    snprintf(factor, sizeof factor, "%ld", 1 + submits() / 5000000);
    if (submits() > 5000000) setenv("CK_TIMEOUT_MULTIPLIER", factor, 0);
}

START_TEST(submitting_takes_no_memory) { /* P9, EXEC-18 */
    new_board();
    mproc_pool *pool = pool_of(2);
    char arg[24] = "whatever";
    size_t before = 0;
    long n = submits();
    for (long i = 0; i < n; i++) {
        if (i == 10000) {
            EVENTUALLY(is_idle(pool));
            before = family_kib();
        }
        if (mproc_pool_submit(pool, count, arg, sizeof arg, MPROC_FOREVER) != 0) ck_abort(); /* it is quick */
    }
    EVENTUALLY(GET(board->counter) == (int)n && is_idle(pool));
    expect_flat(before, 1024, "submits");
    ck_assert_uint_eq(counts_of(pool).done, (size_t)n);
    if (n > 200000) printf("%ld submits, %zu KiB then %zu KiB\n", n, before, family_kib());
    free_pool(pool);
}
END_TEST

static int flip(const void *arg, void *result) {
    *(uint32_t *)result = *(const uint32_t *)arg ^ 0xa5a5a5a5u;
    return 0;
}
START_TEST(map_of_a_million_tiny_items) { /* X-58 */
    enum { N = 1000000 };
    uint32_t *in = malloc(N * sizeof *in), *out = calloc(N, sizeof *out);
    NEED(in);
    NEED(out);
    for (uint32_t i = 0; i < N; i++) in[i] = i * 3, out[i] = 1;
    mproc_pool *pool = pool_of(2);
    size_t before = family_kib();
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(mproc_pool_map(pool, flip, in, N, sizeof *in, out, sizeof *out), 0);
        for (uint32_t i = 0; i < N; i++)
            if (out[i] != (in[i] ^ 0xa5a5a5a5u)) ck_abort_msg("item %u", i);
        expect_flat(before, 64 << 10, "map of a million");
    }
    free(in), free(out);
    free_pool(pool);
}
END_TEST

START_TEST(futures_and_maps_take_no_memory) { /* POOL-23 */
    mproc_pool *pool = pool_of(2);
    static char big[100 << 10];
    static int numbers[20000];
    size_t before = 0;
    for (int i = 0; i < 2000; i++) {
        if (i == 500) before = family_kib();
        mproc_future *future = mproc_pool_apply_async(pool, nothing, big, sizeof big, sizeof big);
        NEED(future);
        if (i % 2 == 0) ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_future_free(future), 0);
        if (i % 50 == 0)
            ck_assert_int_eq(mproc_pool_map(pool, nothing, numbers, 20000, sizeof numbers[0], NULL, 0), 0);
        EVENTUALLY(is_idle(pool));
    }
    expect_flat(before, 2048, "futures");
    free_pool(pool);
}
END_TEST

START_TEST(futures_of_the_dead_do_not_clog_the_pool) {
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .backlog = 64});
    size_t before = 0;
    enum { CHILDREN = 120, EACH = 50 };
    for (int i = 0; i < CHILDREN; i++) {
        if (i == CHILDREN / 4) before = family_kib();
        pid_t child = i % 2 == 0 ? mproc_fork() : fork();
        if (child == 0) {
            int arg[64] = {0};
            for (int k = 0; k < EACH; k++) mproc_pool_apply_async(pool, count, arg, sizeof arg, sizeof arg);
            kill(getpid(), i % 3 == 0 ? SIGKILL : SIGTERM);
        }
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
    }
    EVENTUALLY(GET(board->counter) == CHILDREN * EACH); /* what was accepted runs */
    EVENTUALLY(is_idle(pool));
    expect_flat(before, 4096, "futures of the dead"); /* without the supervisor's rounds: 6000 */
    for (int i = 0; i < 200; i++) expect_works(pool);
    free_pool(pool);
}
END_TEST

/* Processes killed while they submit: what they had handed in runs once, the others are not held up. */
START_TEST(submitters_killed_at_random) {
    uint64_t seed = 99;
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .backlog = 16});
    for (int round = 0; round < 100; round++) {
        SET(board->counter, 0);
        pid_t child = mproc_fork();
        if (child == 0) {
            char arg[3000] = {0};
            for (int i = 0;; i++) {
                if (i % 2 == 0) mproc_pool_submit(pool, count, arg, sizeof arg, MPROC_FOREVER);
                else mproc_pool_apply(pool, count, arg, sizeof arg, arg, sizeof arg);
            }
        }
        EVENTUALLY(GET(board->counter) > 0);
        nap(1e-6 * (double)random_below(&seed, 3000));
        kill(child, SIGKILL);
        ck_assert_int_eq(mproc_wait(child, NULL, MPROC_FOREVER), 0);
        int arg = round, result = -1;
        TAKES(0, 1,
              ck_assert_int_eq(mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result), 0));
        ck_assert_int_eq(result, round * round);
    }
    EVENTUALLY(is_idle(pool));
    ck_assert_uint_eq(counts_of(pool).crashed, 0);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, 5), 0);
    free_pool(pool);
}
END_TEST

/* A submitter killed after it has filled the entry at the tail and before it has moved the tail, and a worker
   that has taken the task since: the tail lags behind the head. */
START_TEST(tail_left_behind_by_a_killed_submitter) {
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 4});
    for (int i = 0; i < 20; i++) expect_works(pool);
    for (int round = 0; round < 20; round++) {
        uint64_t tail = GET(pool->tail);
        EVENTUALLY(GET(pool->head) == tail);
        SET(pool->entry[tail & pool->mask], (tail + pool->mask + 1) << MPROC__INDEX_BITS);
        for (int i = 0; i < 10; i++) expect_works(pool);
    }
    free_pool(pool);
}
END_TEST

/* An entry of the ring keeps 40 bits of a position: after as many tasks it goes on. */
START_TEST(positions_outgrow_the_entries_of_the_ring) {
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 1});
    pid_t worker;
    EVENTUALLY(workers_of(&worker, 1) == 1 && process_state(worker) == 'S');
    kill(worker, SIGSTOP);
    EVENTUALLY(process_state(worker) == 'T');
    uint64_t at = ((uint64_t)1 << 40) - 3;
    for (uint64_t i = at; i <= at + pool->mask; i++) SET(pool->entry[i & pool->mask], i << MPROC__INDEX_BITS);
    SET(pool->head, at);
    SET(pool->tail, at);
    kill(worker, SIGCONT);
    for (int i = 0; i < 10; i++) {
        mproc_future *future = begin(pool, nothing, 0, 0);
        ck_assert_int_eq(mproc_future_wait(future, 5), 0);
        ck_assert_int_eq(mproc_future_free(future), 0);
        ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, 5), 0);
    }
    EVENTUALLY(is_idle(pool));
    ck_assert_uint_eq(GET(pool->head), at + 20);
    ck_assert_uint_eq(GET(pool->tail), at + 20);
    free_pool(pool);
}
END_TEST

static int ready_slots(const mproc_pool *pool) {
    int n = 0;
    for (uint32_t i = 0; i < pool->segments * MPROC__SEGMENT; i++)
        n += mproc__state(GET(mproc__slot(pool, i)->word)) == MPROC__READY;
    return n;
}

static bool holds_ready_slots(mproc_pool *pool, pid_t pid) {
    for (uint32_t i = 0; i < pool->segments * MPROC__SEGMENT; i++) {
        uint64_t word = GET(mproc__slot(pool, i)->word);
        if (mproc__state(word) == MPROC__READY && mproc__holder_of(word) == (uint32_t)pid) return true;
    }
    return false;
}

/* Submitters killed while they wait for room leave many more ready tasks than the ring has entries: these are
   accepted, and run soon, not a ring full a second. */
START_TEST(many_submitters_killed_while_they_wait) {
    enum { EACH = 200 };
    pid_t child[EACH];
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 2});
    ck_assert_int_eq(mproc_pool_submit(pool, gate, NULL, 0, MPROC_FOREVER), 0);
    EVENTUALLY(GET(board->started) == 1);
    for (int i = 0; i < EACH; i++)
        if ((child[i] = mproc_fork()) == 0) {
            mproc_pool_submit(pool, mark, &i, sizeof i, MPROC_FOREVER);
            pause();
        }
    EVENTUALLY(ready_slots(pool) == EACH);
    for (int i = 0; i < EACH; i++) kill(child[i], SIGKILL);
    for (int i = 0; i < EACH; i++) ck_assert_int_eq(mproc_wait(child[i], NULL, MPROC_FOREVER), 0);
    for (int i = 0; i < EACH; i++) EVENTUALLY(!holds_ready_slots(pool, child[i])); /* nor who gets its pid */
    SET(board->open, 1);
    TAKES(0, 5, EVENTUALLY(ready_slots(pool) == 0));
    EVENTUALLY(is_idle(pool));
    for (int i = 0; i < EACH; i++) ck_assert_int_eq(board->ran[i], 1);
    free_pool(pool);
}
END_TEST

static int gate_and_die_for_zero(const void *arg, void *result) { /* the first item of a map */
    if (*(const int *)arg != 0) return mark(arg, result);
    pass_gate();
    raise(SIGKILL);
    return 0;
}
static int map_gate_and_die(struct call *call) {
    int in[100];
    for (int i = 0; i < 100; i++) in[i] = i;
    return mproc_pool_map(call->pool, gate_and_die_for_zero, in, 100, sizeof in[0], NULL, 0);
}
/* A worker dies in the middle of a chunk, and the ring is full, of a dead submitter's task too: what is left
   of the chunk finds room all the same. */
START_TEST(a_crash_while_the_ring_is_full) {
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 15}); /* a ring of 16 */
    struct call map = {.function = map_gate_and_die, .pool = pool};
    call_begin(&map);
    EVENTUALLY(GET(board->started) == 1 && call_blocks(&map));
    while (mproc_pool_submit(pool, nothing, NULL, 0, 0) == 0) continue;
    pid_t child = mproc_fork();
    if (child == 0) mproc_pool_submit(pool, nothing, NULL, 0, MPROC_FOREVER);
    EVENTUALLY(ready_slots(pool) == 16);
    kill(child, SIGKILL);
    ck_assert_int_eq(mproc_wait(child, NULL, MPROC_FOREVER), 0);
    nap(1.5); /* the supervisor has found it meanwhile */
    SET(board->open, 1);
    ck_assert_int_eq(call_end(&map), MPROC_ECRASHED);
    for (int i = 1; i < 100; i++) ck_assert_uint_eq(board->ran[i], 1);
    free_pool(pool);
}
END_TEST

/* The first of two items: maps, and dies in the middle of that. */
static int map_and_die(const void *arg, void *result) {
    int in[100] = {0, 1};
    if (*(const int *)arg != 0) return mark(arg, result);
    return mproc_pool_map(GET(board->pool), gate_and_die_for_zero, in, 100, sizeof in[0], NULL, 0);
}
/* A worker dies with two chunks in hand, and the ring has room for the rest of one only; the other's slot is
   one of very many. What is accepted still runs, also after a close. */
START_TEST(a_crash_in_nested_maps_while_the_ring_is_full) {
    enum { HELD = 150000 };
    static mproc_future *held[HELD];
    int items[2] = {0, 5}, error = 0;
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 15}); /* a ring of 16 */
    SET(board->pool, pool);
    for (int i = 0; i < HELD; i++) NEED(held[i] = mproc__slot_claim(pool));
    mproc__job job = mproc__job_of(map_and_die, items, sizeof items[0], 0);
    job.count = 2;
    mproc_future *future = mproc__pool_hand_in(pool, &job, MPROC__NEVER, &error);
    NEED(future);
    EVENTUALLY(GET(board->started) == 1);
    while (mproc_pool_submit(pool, nothing, NULL, 0, 0) == 0) continue;
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    SET(board->open, 1);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_future_get(future, NULL, 0), MPROC_ECRASHED);
    ck_assert_uint_eq(board->ran[5], 1);
    ck_assert_int_eq(mproc_future_free(future), 0);
    for (int i = 0; i < HELD; i++) mproc__slot_free(held[i]);
    free_pool(pool);
}
END_TEST

/* A task that a close overtakes was accepted if a worker has taken it all the same: the rest that this one's
   death leaves of it runs, though the workers were leaving. */
START_TEST(a_crash_in_what_a_close_overtook) {
    int items[2] = {0, 5};
    new_board();
    SET(board->open, 1);
    mproc_pool *pool = pool_of(1);
    EVENTUALLY(is_idle(pool));
    pid_t worker = (pid_t)pool->worker[0].pid;
    kill(worker, SIGSTOP);
    EVENTUALLY(process_state(worker) == 'T');
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    EVENTUALLY(GET(pool->quit));
    mproc__job job = mproc__job_of(gate_and_die_for_zero, items, sizeof items[0], 0);
    job.count = 2;
    mproc_future *future = mproc__slot_claim(pool);
    NEED(future);
    ck_assert_int_eq(mproc__slot_fill(future, &job), 0);
    mproc__tag_set(&future->tag, MPROC__FUTURE);
    SET(future->word, mproc__word(GET(future->word), MPROC__READY, mproc__own_holder()));
    ck_assert(mproc__ready_push(pool, future->index, pool->backlog));
    kill(worker, SIGCONT);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    ck_assert_int_eq(future->items[0].status, MPROC_ECRASHED);
    ck_assert_int_eq(future->items[1].status, 0);
    ck_assert_uint_eq(board->ran[5], 1);
    mproc_pool_counts counts = counts_of(pool);
    ck_assert_uint_eq(counts.done + counts.crashed, 2);
    ck_assert_int_eq(mproc_future_get(future, NULL, 0), MPROC_ECRASHED);
    ck_assert_int_eq(mproc_future_free(future), 0);
    free_pool(pool);
}
END_TEST

/* What a close overtook and its submitter took back is no reason to start workers once more. */
START_TEST(a_close_overtook_what_was_taken_back) {
    int item = 5;
    new_board();
    mproc_pool *pool = pool_of(1);
    EVENTUALLY(is_idle(pool));
    pid_t worker = (pid_t)pool->worker[0].pid;
    kill(worker, SIGSTOP);
    EVENTUALLY(process_state(worker) == 'T');
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    EVENTUALLY(GET(pool->quit));
    mproc__job job = mproc__job_of(square, &item, sizeof item, sizeof item);
    mproc_future *future = mproc__slot_claim(pool);
    NEED(future);
    ck_assert_int_eq(mproc__slot_fill(future, &job), 0);
    ck_assert(mproc__ready_push(pool, future->index, pool->backlog));
    mproc__slot_free(future);
    kill(worker, SIGKILL);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    ck_assert_uint_eq(counts_of(pool).respawned, 0);
    free_pool(pool);
}
END_TEST

/* An item that is done counts, though the rest of its task, whose worker died then, is cancelled. */
static int hold(const void *arg, void *result) {
    (void)arg, (void)result;
    await(&board->code, 1);
    return 0;
}
START_TEST(counts_of_a_task_of_which_the_rest_is_cancelled) {
    int items[3] = {5, 0, 6}, error = 0;
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc__job job = mproc__job_of(gate_and_die_for_zero, items, sizeof items[0], 0);
    job.count = 3;
    mproc_future *future = mproc__pool_hand_in(pool, &job, MPROC__NEVER, &error);
    NEED(future);
    EVENTUALLY(GET(board->started) == 1);
    ck_assert_int_eq(mproc_pool_submit(pool, hold, NULL, 0, MPROC_FOREVER), 0);
    SET(board->open, 1);
    EVENTUALLY(mproc__state(GET(future->word)) == MPROC__READY);
    ck_assert_int_eq(mproc_future_cancel(future), -EALREADY); /* of its items some were done */
    ck_assert_uint_eq(counts_of(pool).done, 1);
    POKE(&board->code, 1);
    EVENTUALLY(is_idle(pool) && counts_of(pool).done == 2);
    ck_assert_uint_eq(counts_of(pool).crashed, 1);
    ck_assert_uint_eq(board->ran[6], 0);
    ck_assert_int_eq(mproc_future_free(future), 0);
    free_pool(pool);
}
END_TEST

/* ---- Submission from everywhere ----------------------------------------------------------------------- */

static int submit_many(struct call *call) {
    for (int i = 0; i < 300; i++) {
        int arg = call->arg + i, result = -1, error = 0;
        if (i % 3 == 0) error = mproc_pool_submit(call->pool, mark, &arg, sizeof arg, MPROC_FOREVER);
        if (i % 3 == 1) error = mproc_pool_apply(call->pool, mark, &arg, sizeof arg, NULL, 0);
        if (i % 3 == 2) {
            mproc_future *future =
                mproc_pool_apply_async(call->pool, square, &arg, sizeof arg, sizeof result);
            if (future == NULL) return -errno;
            error = mproc_future_get(future, &result, MPROC_FOREVER);
            if (result != arg * arg) return 1;
            if (mproc_future_free(future) != 0) return 2;
        }
        if (error != 0) return error;
    }
    return 0;
}
static int submit_process(void *arg) { /* in a process of its own: two threads at once */
    struct call calls[2];
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < 2; i++) {
        calls[i] = *(struct call *)arg;
        calls[i].arg += 300 * i;
        pthread_create(&calls[i].thread, NULL, call_main, &calls[i]);
    }
    for (int i = 0; i < 2; i++) pthread_join(calls[i].thread, NULL);
    return calls[0].error != 0 || calls[1].error != 0;
}

START_TEST(submission_from_many_processes_and_threads) {
    enum { EACH = 3 };
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .backlog = 8});
    mproc_process processes_[EACH];
    struct call calls[2 * EACH];
    memset(processes_, 0, sizeof processes_);
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < 2 * EACH; i++)
        calls[i].pool = pool, calls[i].function = submit_many, calls[i].arg = 600 * i;
    for (int i = 0; i < EACH; i++) {
        processes_[i].target = submit_process, processes_[i].arg = &calls[i];
        ck_assert_int_eq(mproc_process_start(&processes_[i]), 0);
    }
    for (int i = EACH; i < 2 * EACH; i++) call_begin(&calls[i]);
    for (int i = EACH; i < 2 * EACH; i++) ck_assert_int_eq(call_end(&calls[i]), 0);
    for (int i = 0; i < EACH; i++) {
        ck_assert_int_eq(mproc_process_join(&processes_[i], MPROC_FOREVER), 0);
        ck_assert_int_eq(processes_[i].exitcode, 0);
    }
    EVENTUALLY(is_idle(pool));
    for (int i = 0; i < 600 * EACH; i++) ck_assert_uint_eq(GET(board->ran[i]), i % 3 != 2);
    EVENTUALLY(counts_of(pool).done == 3 * EACH * 300);
    free_pool(pool);
}
END_TEST

struct nested {
    mproc_pool *pool;
    int depth;
};
static int factorial(const void *arg, void *result) { /* each level is a task that waits for the next one's */
    struct nested self = *(const struct nested *)arg, next = {self.pool, self.depth - 1};
    int below = 1, error = 0;
    if (self.depth > 1)
        error = mproc_pool_apply(self.pool, factorial, &next, sizeof next, &below, sizeof below);
    *(int *)result = below * self.depth;
    return error;
}
static int nested_async(const void *arg, void *result) {
    mproc_pool *pool = ((const struct nested *)arg)->pool;
    int six = 6;
    mproc_future *future = mproc_pool_apply_async(pool, square, &six, sizeof six, sizeof(int));
    if (future == NULL) return -errno;
    int error = mproc_future_get(future, result, MPROC_FOREVER);
    return error != 0 ? error : mproc_future_free(future);
}
static int nested_map(const void *arg, void *result) {
    int in[50], out[50];
    for (int i = 0; i < 50; i++) in[i] = i;
    int error =
        mproc_pool_map(((const struct nested *)arg)->pool, square, in, 50, sizeof in[0], out, sizeof out[0]);
    *(int *)result = out[49];
    return error;
}
static int nested_submit(const void *arg, void *result) { /* more than the backlog holds */
    int error = 0;
    *(int *)result = 0;
    for (int i = 0; i < 20 && error == 0; i++) {
        error = mproc_pool_submit(((const struct nested *)arg)->pool, count, NULL, 0, MPROC_FOREVER);
        *(int *)result += error == 0;
    }
    return error;
}

START_TEST(a_task_uses_its_own_pool) { /* X-57: no deadlock, with one worker and a short backlog too */
    for (int workers = 1; workers <= 2; workers++) {
        new_board();
        mproc_pool *pool = pool_with((mproc_pool_options){.workers = workers, .backlog = 2});
        struct nested arg = {pool, 5};
        int result = 0;
        mproc_future *future = mproc_pool_apply_async(pool, factorial, &arg, sizeof arg, sizeof result);
        NEED(future);
        ck_assert_int_eq(mproc_future_get(future, &result, 10), 0);
        ck_assert_int_eq(result, 120);
        ck_assert_int_eq(mproc_future_free(future), 0);
        ck_assert_int_eq(mproc_pool_apply(pool, nested_async, &arg, sizeof arg, &result, sizeof result), 0);
        ck_assert_int_eq(result, 36);
        ck_assert_int_eq(mproc_pool_apply(pool, nested_map, &arg, sizeof arg, &result, sizeof result), 0);
        ck_assert_int_eq(result, 49 * 49);
        ck_assert_int_eq(mproc_pool_apply(pool, nested_submit, &arg, sizeof arg, &result, sizeof result), 0);
        ck_assert_int_eq(result, 20);
        EVENTUALLY(GET(board->counter) == 20 && is_idle(pool));
        mproc_future *many[6];
        for (int i = 0; i < 6; i++)
            NEED(many[i] = mproc_pool_apply_async(pool, factorial, &arg, sizeof arg, 4));
        for (int i = 0; i < 6; i++) {
            ck_assert_int_eq(finish(many[i], &result), 0);
            ck_assert_int_eq(result, 120);
        }
        free_pool(pool);
    }
}
END_TEST

START_TEST(use_in_a_forked_child) { /* X-57: works at once */
    mproc_pool *pool = pool_of(2);
    for (int how = 0; how < 4; how++) {
        fflush(NULL);
        pid_t child = how < 2 ? fork() : mproc_fork();
        if (child == 0) {
            struct call call = {.pool = pool, .arg = 100 * how};
            int error = map_call(&call), arg = 3, result = 0;
            if (error == 0) error = mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result);
            if (how % 2 == 0) _exit(error != 0 || result != 9);
            exit(error != 0 || result != 9); /* its exit handlers leave the pool alone */
        }
        int status = -1;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        expect_works(pool);
    }
    ck_assert_uint_eq(counts_of(pool).respawned, 0);
    free_pool(pool);
}
END_TEST

/* The deepest task: every way to wait that could never end says so, and hands nothing in that nobody asked
 * for. */
static int wait_too_deep(mproc_pool *pool) {
    int in[3] = {1, 2, 3}, out[3] = {0}, code = 0;
    if (mproc_pool_apply(pool, square, in, sizeof *in, out, sizeof *out) != -EDEADLK) code = 1;
    if (mproc_pool_map(pool, mark, in, 3, sizeof *in, NULL, 0) != -EDEADLK) code = 2;
    mproc_future *future = mproc_pool_apply_async(pool, mark, &in[0], sizeof *in, 0);
    if (mproc_future_get(future, NULL, MPROC_FOREVER) != -EDEADLK) code = 3;
    if (mproc_future_wait(future, 0.01) != MPROC_ETIMEDOUT) code = 4;
    if (mproc_future_cancel(future) != 0) code = 5;
    if (mproc_future_get(future, NULL, MPROC_FOREVER) != MPROC_ECANCELED) code = 6;
    if (mproc_future_free(future) != 0) code = 7;
    mproc_iter *it = mproc_pool_imap_unordered(pool, square, in, 3, sizeof *in, sizeof *out);
    if (mproc_iter_next(it, out, MPROC_FOREVER) != -EDEADLK || mproc_iter_next(it, out, 0) != MPROC_ETIMEDOUT)
        code = 8;
    if (mproc_iter_free(it) != 0) code = 9;
    int error = 0;
    while (error == 0) error = mproc_pool_submit(pool, count, NULL, 0, MPROC_FOREVER);
    return error == -EDEADLK ? code : 10;
}
static int descend(const void *arg, void *result) {
    struct nested self = *(const struct nested *)arg, next = {self.pool, self.depth - 1};
    if (self.depth > 1) return mproc_pool_apply(self.pool, descend, &next, sizeof next, result, sizeof(int));
    *(int *)result = wait_too_deep(self.pool);
    return 0;
}
START_TEST(tasks_that_wait_for_each_other_too_deep) {
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 64});
    int code = -1, result = 0;
    struct nested arg = {pool, 31}, more = {pool, 40};
    mproc_future *future = mproc_pool_apply_async(pool, descend, &arg, sizeof arg, sizeof code);
    NEED(future);
    ck_assert_int_eq(mproc_future_wait(future, 10), 0);
    ck_assert_int_eq(finish(future, &code), 0);
    ck_assert_int_eq(code, 0);
    EVENTUALLY(is_idle(pool));
    for (int i = 1; i <= 3; i++) ck_assert_uint_eq(GET(board->ran[i]), 0);
    ck_assert_int_ge(GET(board->counter), 1);
    future = mproc_pool_apply_async(pool, factorial, &more, sizeof more, sizeof result);
    NEED(future);
    ck_assert_int_eq(mproc_future_wait(future, 10), 0); /* the task at the bottom failed, and so did all */
    ck_assert_int_eq(finish(future, NULL), MPROC_EFAILED);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

static int wait_for_a_moment(const void *arg, void *result) { /* runs what it waits for, past its timeout */
    mproc_pool *pool = *(mproc_pool *const *)arg;
    double time = 0.2;
    mproc_future *future = mproc_pool_apply_async(pool, sleep_for, &time, sizeof time, 0);
    double start = now();
    *(int *)result = mproc_future_wait(future, 0.01);
    if (now() - start < time) return 1;
    return mproc_future_free(future);
}
START_TEST(a_task_that_waits_with_a_timeout) {
    mproc_pool *pool = pool_of(1);
    int error = -1;
    ck_assert_int_eq(mproc_pool_apply(pool, wait_for_a_moment, &pool, sizeof pool, &error, sizeof error), 0);
    ck_assert_int_eq(error, 0);
    free_pool(pool);
}
END_TEST

static int wait_for_the_boards_future(void *arg) {
    (void)arg;
    return mproc_future_wait(GET(board->future), MPROC_FOREVER);
}
static void *thread_that_waits(void *future) {
    mproc_future_wait(future, MPROC_FOREVER);
    return NULL;
}
static int wait_beside_itself(const void *arg, void *result) { /* by a child, by a thread */
    mproc_pool *pool = *(mproc_pool *const *)arg;
    mproc_process p = {.target = wait_for_the_boards_future};
    pthread_t thread;
    (void)result;
    mproc_future *one = mproc_pool_apply_async(pool, gate, NULL, 0, 0);
    SET(board->future, one);
    if (one == NULL || mproc_process_start(&p) != 0) return 1;
    SET(board->child, p.pid);
    if (pthread_create(&thread, NULL, thread_that_waits, one) != 0) return 2;
    pause();
    return 0;
}

/* Only the worker's own thread runs tasks while it waits: who else did would stand in no record, and what it
   ran would never end when it is killed. */
START_TEST(only_a_workers_own_thread_runs_tasks) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *outer = mproc_pool_apply_async(pool, wait_beside_itself, &pool, sizeof pool, 0);
    NEED(outer);
    EVENTUALLY(GET(board->child) != 0);
    nap(0.1);
    ck_assert_int_eq(GET(board->started), 0);
    pid_t worker = 0;
    ck_assert_int_eq(workers_of(&worker, 1), 1);
    kill(worker, SIGKILL);
    ck_assert_int_eq(mproc_future_wait(outer, 5), 0);
    ck_assert_int_eq(mproc_future_code(outer), -SIGKILL);
    EVENTUALLY(GET(board->started) == 1); /* it waited all the while, and the new worker runs it */
    SET(board->open, 1);
    ck_assert_int_eq(mproc_future_wait(GET(board->future), 5), 0);
    ck_assert_int_eq(finish(outer, NULL), MPROC_ECRASHED);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

static int return_twice(const void *arg, void *result) {
    pid_t child = fork();
    if (child == 0) return *(const int *)arg;
    SET(board->child, child);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) return 100;
    *(int *)result = WIFEXITED(status) ? WEXITSTATUS(status) : 101;
    return 0;
}
static int initialize_twice(void *arg) {
    (void)arg;
    ADD(board->inits, 1);
    return fork() < 0;
}

START_TEST(a_task_that_returns_in_a_child_too) { /* no second worker */
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .initializer = initialize_twice});
    int arg = 7, code = 0;
    pid_t worker = 0, runs = 0;
    mproc_future *future = begin(pool, return_twice, arg, sizeof code);
    ck_assert_int_eq(mproc_future_wait(future, 5), 0);
    ck_assert_int_eq(finish(future, &code), 0);
    ck_assert_int_eq(code, 7);
    ck_assert_int_eq(workers_of(&worker, 1), 1);
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(mproc_pool_apply(pool, own_pid, NULL, 0, &runs, sizeof runs), 0);
        ck_assert_int_eq(runs, worker);
    }
    pid_t child;
    EVENTUALLY(children_of(worker, &child, 1) == 0);
    ck_assert_uint_eq(counts_of(pool).done, 201);
    free_pool(pool);
}
END_TEST

static int process_with_a_pool(void *arg) {
    int in[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, out[10];
    mproc_pool *pool = mproc_pool_new(3);
    if (pool == NULL) return 1;
    if (mproc_pool_map(pool, square, in, 10, sizeof in[0], out, sizeof out[0]) != 0 || out[9] != 81) return 2;
    if (arg != NULL) {
        pass_gate();
        return 0; /* without a free */
    }
    return mproc_pool_free(pool) == 0 ? 0 : 3;
}

START_TEST(a_process_with_a_pool_of_its_own) { /* POOL-32 */
    adopt_orphans();
    for (int way = 0; way < 3; way++) { /* frees it; leaves it; is killed */
        new_board();
        mproc_process p = {.target = process_with_a_pool, .arg = way == 0 ? NULL : &p};
        ck_assert_int_eq(mproc_process_start(&p), 0);
        if (way > 0) EVENTUALLY(GET(board->started) == 1);
        if (way == 1) SET(board->open, 1);
        if (way == 2) ck_assert_int_eq(mproc_process_kill(&p), 0);
        ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
        ck_assert_int_eq(p.exitcode, way == 2 ? -SIGKILL : 0);
        expect_nothing_left(1);
    }
}
END_TEST

static int task_with_a_pool(const void *arg, void *result) {
    mproc_pool *pool = mproc_pool_new(2);
    if (pool == NULL) return -errno;
    int five = 5, error = mproc_pool_apply(pool, square, &five, sizeof five, result, sizeof(int));
    if (*(const int *)arg != 0) raise(SIGKILL);
    return error != 0 ? error : mproc_pool_free(pool);
}
START_TEST(a_task_with_a_pool_of_its_own) {
    adopt_orphans();
    mproc_pool *pool = pool_of(1);
    int arg = 0, result = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, task_with_a_pool, &arg, sizeof arg, &result, sizeof result), 0);
    ck_assert_int_eq(result, 25);
    EVENTUALLY(count_descendants() == 2);
    arg = 1;
    ck_assert_int_eq(mproc_pool_apply(pool, task_with_a_pool, &arg, sizeof arg, &result, sizeof result),
                     MPROC_ECRASHED);
    EVENTUALLY(count_descendants() == 2); /* the inner pool went down with the task */
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    expect_nothing_left(1);
}
END_TEST

static int put_square(const void *arg, void *result) {
    struct order {
        mproc_queue *queue;
        int number;
    } order = *(const struct order *)arg;
    (void)result;
    int n = order.number * order.number;
    return mproc_queue_put(order.queue, &n, sizeof n, MPROC_FOREVER);
}
START_TEST(a_queue_made_after_the_pool) { /* P5: a plain pointer inside the task's argument */
    struct {
        mproc_queue *queue;
        int number;
    } order;
    mproc_pool *pool = pool_of(2);
    order.queue = mproc_queue_new(0);
    NEED(order.queue);
    int sum = 0, n = 0;
    for (order.number = 1; order.number <= 20; order.number++)
        ck_assert_int_eq(mproc_pool_submit(pool, put_square, &order, sizeof order, MPROC_FOREVER), 0);
    for (int i = 0; i < 20; i++, sum += n)
        ck_assert_int_eq(mproc_queue_get(order.queue, &n, sizeof n, 5), (int)sizeof n);
    ck_assert_int_eq(sum, 2870);
    EVENTUALLY(is_idle(pool));
    ck_assert_uint_eq(counts_of(pool).done, 20);
    ck_assert_int_eq(mproc_queue_free(order.queue), 0);
    free_pool(pool);
}
END_TEST

/* ---- Making a pool ------------------------------------------------------------------------------------ */

START_TEST(sizes_of_a_pool) { /* POOL-16, EXEC-05; 0 is as many as processors here */
    errno = 0;
    ck_assert_ptr_null(mproc_pool_new(-1));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_ptr_null(mproc_pool_new(INT32_MIN));
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_pool_new_with(&(mproc_pool_options){.workers = -3}));
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_pool_new_with(NULL));
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_pool_new_with(&(mproc_pool_options){.workers = 1, .task_timeout = (double)NAN}));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert(no_children());
    mproc_pool *pool = pool_of(0);
    ck_assert_uint_eq(counts_of(pool).workers, (size_t)mproc_cpu_count());
    free_pool(pool);
    pool = pool_with((mproc_pool_options){.workers = 3,
                                          .name = "a name that is longer than any buffer one would "
                                                  "think of for a name, and then some more of it"});
    pid_t pids[8];
    ck_assert_int_eq(workers_of(pids, 8), 3); /* all are there when new returns */
    ck_assert_uint_eq(counts_of(pool).workers, 3);
    new_board();
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(a_pool_of_two_hundred) { /* POOL-34 */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur > 1024) files.rlim_cur = 1024;
    setrlimit(RLIMIT_NOFILE, &files);
    static int in[1000], out[1000];
    for (int i = 0; i < 1000; i++) in[i] = i;
    mproc_pool *pool = pool_of(200);
    ck_assert_int_eq(mproc_pool_map(pool, square, in, 1000, sizeof in[0], out, sizeof out[0]), 0);
    long sum = 0;
    for (int i = 0; i < 1000; i++) sum += out[i];
    ck_assert_int_eq(sum, 332833500);
    ck_assert_uint_eq(counts_of(pool).workers, 200);
    free_pool(pool);
}
END_TEST

/* With room for one process more each time: creation fails at its first fork, its second, ... and leaves
   nothing, until there is room for all. As another user, since no limit holds root up. */
START_TEST(no_room_for_the_processes) { /* POOL-33 */
    struct rlimit limit = {0, 256};
    if (getuid() == 0) ck_assert(setgid(65534) == 0 && setuid(65534) == 0);
    prctl(PR_SET_DUMPABLE, 1);                              /* or /proc/self/fd could not be read any more */
    ck_assert_int_eq(mproc_lock_free(mproc_lock_new()), 0); /* opens what stays open */
    int fds = open_fds(), refused = 0;
    mproc_pool *pool = NULL;
    for (limit.rlim_cur = 1; pool == NULL; limit.rlim_cur++) {
        ck_assert_uint_lt((size_t)limit.rlim_cur, 200);
        ck_assert_int_eq(setrlimit(RLIMIT_NPROC, &limit), 0);
        errno = 0;
        pool = mproc_pool_new(5);
        if (pool != NULL) break;
        ck_assert_int_eq(errno, EAGAIN);
        ck_assert(no_children());
        ck_assert_int_eq(open_fds(), fds);
        refused++;
    }
    ck_assert_int_ge(refused, 4);
    expect_works(pool);
    free_pool(pool);
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

START_TEST(no_room_for_a_replacement) { /* EXEC-34 */
    if (getuid() == 0) ck_assert(setgid(65534) == 0 && setuid(65534) == 0);
    prctl(PR_SET_DUMPABLE, 1);
    new_board();
    mproc_pool *pool = pool_of(1);
    struct rlimit limit = {1, 256};
    ck_assert_int_eq(prlimit(supervisor(), RLIMIT_NPROC, &limit, NULL), 0);
    mproc_future *first = begin(pool, gate, 0, 0), *next = begin(pool, nothing, 0, 0);
    EVENTUALLY(GET(board->started) == 1);
    pid_t worker;
    ck_assert_int_eq(workers_of(&worker, 1), 1);
    kill(worker, SIGKILL);
    TAKES(0, 1, ck_assert_int_eq(mproc_future_get(first, NULL, MPROC_FOREVER), MPROC_ECRASHED));
    TAKES(0, 1, ck_assert_int_eq(mproc_future_get(next, NULL, MPROC_FOREVER), MPROC_EBROKEN));
    ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, 1), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_future_free(first), 0);
    ck_assert_int_eq(mproc_future_free(next), 0);
    free_pool(pool);
}
END_TEST

/* The same for a closed pool, that still has tasks: they fail, and who joins it is not kept. */
START_TEST(no_room_for_a_replacement_after_close) { /* EXEC-33 */
    if (getuid() == 0) ck_assert(setgid(65534) == 0 && setuid(65534) == 0);
    prctl(PR_SET_DUMPABLE, 1);
    for (int limited = 0; limited < 2; limited++) { /* the worker is killed; it leaves after its first task */
        new_board();
        mproc_pool *pool =
            pool_with((mproc_pool_options){.workers = 1, .max_tasks_per_worker = (unsigned)limited});
        struct rlimit limit = {1, 256};
        ck_assert_int_eq(prlimit(supervisor(), RLIMIT_NPROC, &limit, NULL), 0);
        mproc_future *first = begin(pool, gate, 0, 0), *rest[3];
        for (int i = 0; i < 3; i++) rest[i] = begin(pool, nothing, 0, 0);
        EVENTUALLY(GET(board->started) == 1);
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        pid_t worker;
        ck_assert_int_eq(workers_of(&worker, 1), 1);
        if (limited) SET(board->open, 1);
        else kill(worker, SIGKILL);
        TAKES(0, 1, ck_assert_int_eq(finish(first, NULL), limited ? 0 : MPROC_ECRASHED));
        for (int i = 0; i < 3; i++) TAKES(0, 1, ck_assert_int_eq(finish(rest[i], NULL), MPROC_EBROKEN));
        int error = 0;
        TAKES(0, 1, error = mproc_pool_join(pool, MPROC_FOREVER));
        ck_assert_msg(error == 0 || error == MPROC_EBROKEN, "%d", error);
        free_pool(pool);
    }
}
END_TEST

START_TEST(nothing_leaks) {        /* fds, processes, threads, signal state: P6, P8, X-03, X-05 */
    mproc_pool *pool = pool_of(2); /* what the library opens once for all is open after this one */
    expect_works(pool);
    free_pool(pool);
    struct sigaction before[65], after;
    sigset_t mask, mask_after;
    memset(before, 0, sizeof before);
    for (int i = 1; i <= 64; i++) sigaction(i, NULL, &before[i]);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    pid_t mine = fork();
    if (mine == 0) _exit(7);
    int fds = open_fds();
    for (int round = 0; round < 10; round++) {
        pool = pool_of(3);
        ck_assert_int_eq(threads(), 1);
        expect_works(pool);
        int how = KILLED;
        ck_assert_int_eq(mproc_pool_apply(pool, die, &how, sizeof how, NULL, 0), MPROC_ECRASHED);
        if (round % 3 == 0) ck_assert_int_eq(mproc_pool_terminate(pool), 0);
        if (round % 3 == 1) ck_assert_int_eq(mproc_pool_close(pool), 0);
        if (round % 3 < 2) ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_pool_free(pool), 0);
    }
    ck_assert_int_eq(open_fds(), fds);
    ck_assert_uint_eq(mproc_active_children(NULL, 0), 0);
    int status = 0;
    ck_assert_int_eq(waitpid(-1, &status, 0), mine); /* nobody took it */
    ck_assert_int_eq(WEXITSTATUS(status), 7);
    ck_assert(no_children());
    for (int i = 1; i <= 64; i++) {
        memset(&after, 0, sizeof after);
        sigaction(i, NULL, &after);
        ck_assert_msg(after.sa_handler == before[i].sa_handler, "signal %d", i);
    }
    sigprocmask(SIG_SETMASK, NULL, &mask_after);
    for (int i = 1; i <= 64; i++) ck_assert_int_eq(sigismember(&mask, i), sigismember(&mask_after, i));
}
END_TEST

/* The program's own handler opens a descriptor in each child, as soon as one of the library's was closed. */
static int opened_in_child;
static void open_in_child(void) { opened_in_child = open("/dev/zero", O_RDONLY | O_CLOEXEC); }
static int opened_still(const void *arg, void *result) {
    (void)arg;
    *(int *)result = fcntl(opened_in_child, F_GETFD) >= 0;
    return 0;
}
START_TEST(descriptors_of_others_stay_open_in_workers) {
    mproc_current_process(); /* the library's handler comes first */
    ck_assert_int_eq(pthread_atfork(NULL, NULL, open_in_child), 0);
    mproc_pool *pool = pool_of(1);
    int open_still = 0;
    ck_assert_int_eq(mproc_pool_apply(pool, opened_still, NULL, 0, &open_still, sizeof open_still), 0);
    ck_assert(open_still);
    free_pool(pool);
}
END_TEST

struct signal_state {
    int blocked[65], ignored[65], handled[65];
};
static int read_signal_state(const void *arg, void *result) {
    struct signal_state *state = result;
    sigset_t mask;
    (void)arg;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    memset(state, 0, sizeof *state);
    for (int i = 1; i <= 64; i++) {
        struct sigaction action;
        if (sigaction(i, NULL, &action) != 0) continue;
        state->blocked[i] = sigismember(&mask, i);
        state->ignored[i] = action.sa_handler == SIG_IGN;
        state->handled[i] = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
    }
    return 0;
}
static void on_signal(int number) { (void)number; }

static int free_in_another_process(void *pool) { return mproc_pool_free((mproc_pool *)pool) != 0; }

START_TEST(pools_that_another_process_frees) { /* P7: no zombies, no descriptors gather in their maker */
    free_pool(pool_of(1));
    int fds = open_fds();
    for (int round = 0; round < 4; round++) {
        mproc_pool *pool = pool_of(2);
        pid_t supervisor = pool->supervisor;
        ck_assert_int_eq(ended(spawn(free_in_another_process, pool)), 0);
        ck_assert_int_eq(mproc_pool_free(pool), MPROC_EINVAL);
        EVENTUALLY(process_gone(supervisor));
    }
    free_pool(pool_of(1));
    ck_assert(no_children());
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

/* The pid of a joined pool's supervisor may be that of the next one: no call on the old pool waits for that.
 */
START_TEST(a_supervisors_pid_given_anew) {
    pid_t was = 0, is = -1;
    for (int round = 0; round < 50 && is != was; round++) {
        mproc_pool *old = pool_of(1);
        was = supervisor();
        ck_assert_int_eq(mproc_pool_close(old), 0);
        ck_assert_int_eq(mproc_pool_join(old, MPROC_FOREVER), 0);
        char text[16];
        int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
        int n = snprintf(text, sizeof text, "%d", (int)was - 1);
        bool chosen = fd >= 0 && write(fd, text, (size_t)n) == n;
        if (fd >= 0) close(fd);
        mproc_pool *fresh = pool_of(1);
        is = chosen ? supervisor() : was; /* only root of a pid namespace may choose */
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(old), 0));
        expect_works(fresh);
        free_pool(fresh);
    }
}
END_TEST

START_TEST(tasks_see_the_signal_state_of_the_program) { /* X-03 */
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGHUP);
    sigprocmask(SIG_BLOCK, &some, NULL);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGALRM, on_signal);
    mproc_pool *pool = pool_of(1);
    struct signal_state here, there;
    read_signal_state(NULL, &here);
    ck_assert_int_eq(mproc_pool_apply(pool, read_signal_state, NULL, 0, &there, sizeof there), 0);
    for (int i = 1; i <= 64; i++)
        ck_assert_msg(here.blocked[i] == there.blocked[i] && here.ignored[i] == there.ignored[i] &&
                          here.handled[i] == there.handled[i],
                      "signal %d: blocked %d %d, ignored %d %d, handled %d %d", i, here.blocked[i],
                      there.blocked[i], here.ignored[i], there.ignored[i], here.handled[i], there.handled[i]);
    free_pool(pool);
}
END_TEST

START_TEST(waiting_costs_no_processor_time) { /* P3, X-59 */
    new_board();
    mproc_pool *pool = pool_of(2);
    pid_t pids[8] = {getpid(), supervisor()};
    ck_assert_int_eq(workers_of(pids + 2, 6), 2);
    mproc_future *future = begin(pool, square, 1, sizeof(int));
    ck_assert_int_eq(finish(future, NULL), 0);
    double before = 0, after = 0;
    for (int i = 0; i < 4; i++) before += cpu_of(pids[i]);
    double second = 1;
    ck_assert_int_eq(mproc_pool_apply(pool, sleep_for, &second, sizeof second, NULL, 0), 0);
    for (int i = 0; i < 4; i++) after += cpu_of(pids[i]);
    ck_assert_msg(after - before < 0.02 * SLOW, "%.4f s", after - before);
    free_pool(pool);
}
END_TEST

static int interrupted_calls(struct call *call) {
    mproc_future *future = call->future;
    double start = now();
    if (mproc_future_wait(future, 0.3) != MPROC_ETIMEDOUT || now() - start < 0.299) return 1;
    start = now();
    if (mproc_future_get(future, NULL, 0.3) != MPROC_ETIMEDOUT || now() - start < 0.299) return 2;
    if (now() - start > 0.4 + 2 * SLOW) return 3;
    while (mproc_pool_submit(call->pool, nothing, NULL, 0, 0) == 0) continue;
    start = now();
    if (mproc_pool_submit(call->pool, nothing, NULL, 0, 0.3) != MPROC_ETIMEDOUT || now() - start < 0.299)
        return 4;
    if (mproc_pool_close(call->pool) != 0) return 5;
    start = now();
    if (mproc_pool_join(call->pool, 0.3) != MPROC_ETIMEDOUT || now() - start < 0.299) return 6;
    SET(board->open, 1);
    int result = 0;
    if (mproc_future_get(future, &result, MPROC_FOREVER) != 0 || result != 121) return 7;
    return mproc_pool_join(call->pool, MPROC_FOREVER) == 0 ? 0 : 8;
}
START_TEST(interrupted_by_signals) { /* X-01: nobody ever sees EINTR, no time is stretched */
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 4});
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* without SA_RESTART */
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    double in[4] = {0.05, 0.05, 0.05, 0.05};
    int mapped = mproc_pool_map(pool, sleep_for, in, 4, sizeof in[0], NULL, 0);
    struct call call = {.pool = pool, .future = begin(pool, gate_square, 11, sizeof(int))};
    int failed = interrupted_calls(&call);
    setitimer(ITIMER_REAL, &never, NULL);
    ck_assert_int_eq(mapped, 0);
    ck_assert_int_eq(failed, 0);
    ck_assert_int_eq(mproc_future_free(call.future), 0);
    free_pool(pool);
}
END_TEST

/* Each way to wait for a pool: a pool at work, and one call that does not return before the gate is opened.
 */
enum way { WAIT, GET_RESULT, NEXT, NEXT_UNORDERED, SUBMIT, JOIN, WAYS };
static struct wait_on {
    mproc_pool *pool;
    mproc_future *future;
    mproc_iter *it;
    enum way way;
    double timeout;
} wait_on;
static void make_it_wait(enum way way) {
    static const int five = 5;
    new_board();
    wait_on.way = way;
    wait_on.future = NULL, wait_on.it = NULL;
    wait_on.pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 4});
    if (way == NEXT)
        wait_on.it = mproc_pool_imap(wait_on.pool, gate_square, &five, 1, sizeof five, sizeof(int));
    else if (way == NEXT_UNORDERED)
        wait_on.it = mproc_pool_imap_unordered(wait_on.pool, gate_square, &five, 1, sizeof five, sizeof(int));
    else wait_on.future = begin(wait_on.pool, gate_square, five, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    if (way == JOIN) ck_assert_int_eq(mproc_pool_close(wait_on.pool), 0);
    while (way == SUBMIT && mproc_pool_submit(wait_on.pool, nothing, NULL, 0, 0) == 0) continue;
}
static int wait_for_it(double timeout) { /* 0: it came */
    int result = 25, error = MPROC_EINVAL;
    switch (wait_on.way) {
    case WAIT: error = mproc_future_wait(wait_on.future, timeout); break;
    case GET_RESULT: error = mproc_future_get(wait_on.future, &result, timeout); break;
    case SUBMIT: error = mproc_pool_submit(wait_on.pool, nothing, NULL, 0, timeout); break;
    case JOIN: error = mproc_pool_join(wait_on.pool, timeout); break;
    default: error = (int)mproc_iter_next(wait_on.it, &result, timeout); break;
    }
    return error == 0 && result != 25 ? 1 : error;
}
static int wait_for_it_call(struct call *call) {
    (void)call;
    return wait_for_it(wait_on.timeout);
}
static void make_an_end(void) {
    SET(board->open, 1);
    ck_assert_int_eq(mproc_future_free(wait_on.future), 0);
    ck_assert_int_eq(mproc_iter_free(wait_on.it), 0);
    free_pool(wait_on.pool);
    munmap(board, sizeof *board);
}

START_TEST(odd_timeouts) { /* X-59 */
    static const double soon[] = {0, -0.0, 1e-300, 1e-9, 0.0004, 0.05, 0.35};
    static const double for_ever[] = {-1, -100, -1e-300, 1e10, 1e300, (double)INFINITY, -(double)INFINITY};
    for (enum way way = WAIT; way < WAYS; way++) {
        make_it_wait(way);
        for (size_t i = 0; i < sizeof soon / sizeof *soon; i++)
            TAKES(soon[i], soon[i] + 0.05, ck_assert_int_eq(wait_for_it(soon[i]), MPROC_ETIMEDOUT));
        TAKES(0, 0.05, ck_assert_int_eq(wait_for_it((double)NAN), MPROC_EINVAL));
        TAKES(0, 0.05, ck_assert_int_eq(wait_for_it(-(double)NAN), MPROC_EINVAL));
        make_an_end();
        for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
            make_it_wait(way);
            wait_on.timeout = for_ever[i];
            struct call call = {.function = wait_for_it_call};
            call_begin(&call);
            EVENTUALLY(call_blocks(&call) || GET(call.done));
            ck_assert(!GET(call.done));
            SET(board->open, 1);
            ck_assert_int_eq(call_end(&call), 0);
            make_an_end();
        }
    }
}
END_TEST

START_TEST(each_way_to_wait_rests_and_outlasts_signals) { /* X-01, X-59 */
    for (enum way way = WAIT; way < WAYS; way++) {
        make_it_wait(way);
        pid_t boss = supervisor();
        double before = cpu_seconds() + cpu_of(boss);
        ck_assert_int_eq(wait_for_it(0.5), MPROC_ETIMEDOUT);
        double used = cpu_seconds() + cpu_of(boss) - before;
        ck_assert_msg(used < 0.02 * SLOW, "way %d: %.4f s", (int)way, used);
        signal_storm(5000);
        TAKES(0.3, 0.4, ck_assert_int_eq(wait_for_it(0.3), MPROC_ETIMEDOUT));
        struct call call = {.function = wait_for_it_call};
        wait_on.timeout = MPROC_FOREVER;
        call_begin(&call);
        EVENTUALLY(call_blocks(&call));
        for (int i = 0; i < 20; i++) { /* the timer's signals go to any thread */
            pthread_kill(call.thread, SIGALRM);
            nap(0.002);
        }
        ck_assert(!GET(call.done));
        SET(board->open, 1);
        ck_assert_int_eq(call_end(&call), 0);
        signal_storm(0);
        make_an_end();
    }
}
END_TEST

/* ---- Shutting down ------------------------------------------------------------------------------------ */

START_TEST(close_runs_what_was_accepted) { /* EXEC-20, EXEC-23 */
    for (int joined = 0; joined < 2; joined++) {
        mproc_pool *pool = pool_of(3);
        mproc_future *futures[50];
        for (int i = 0; i < 50; i++) futures[i] = begin(pool, square, i - 25, sizeof(int));
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        if (joined) TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
        if (joined) ck_assert(no_children());
        for (int i = 0; i < 50; i++) {
            int result = -1;
            ck_assert_int_eq(finish(futures[i], &result), 0);
            ck_assert_int_eq(result, (i - 25) * (i - 25));
        }
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
        ck_assert_uint_eq(counts_of(pool).done, 50);
        ck_assert_uint_eq(counts_of(pool).workers, 0);
        free_pool(pool);
    }
}
END_TEST

/* A submitter that the close overtakes between making its task ready and putting it into the ring takes it
   back: the end of the pool must not have made a cancelled task of it, for that would pass for an accepted
   one. */
START_TEST(close_leaves_a_submission_to_its_submitter) {
    mproc_pool *pool = pool_of(1);
    expect_works(pool);
    mproc__job job = mproc__job_of(nothing, NULL, 0, 0);
    mproc_future *future = mproc__slot_claim(pool);
    NEED(future);
    ck_assert_int_eq(mproc__slot_fill(future, &job), 0);
    uint64_t filling = GET(future->word), ready = mproc__word(filling, MPROC__READY, mproc__own_holder());
    SET(future->word, ready);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, 5), 0);
    ck_assert(mproc__cas64(&future->word, ready, filling));
    mproc__slot_free(future);
    free_pool(pool);
}
END_TEST

/* A close in the middle of submissions: what was accepted runs, what was refused does not. */
static int submit_until_closed(struct call *call) {
    for (int i = call->arg;; i += 4) {
        mproc_future *future = NULL;
        int error = 0;
        if (i % 8 < 4) error = mproc_pool_submit(call->pool, mark, &i, sizeof i, MPROC_FOREVER);
        else {
            future = mproc_pool_apply_async(call->pool, mark, &i, sizeof i, 0);
            if (future == NULL) error = -errno;
        }
        if (error == MPROC_ECLOSED) return 0;
        if (error != 0) return error;
        ADD(board->ran[i], 2); /* accepted: 3 in the end */
        if (future != NULL && (error = mproc_future_get(future, NULL, MPROC_FOREVER)) != 0) return error;
        if (future != NULL && GET(board->ran[i]) != 3) return 1;
        if (future != NULL && (error = mproc_future_free(future)) != 0) return error;
        if (i + 4 >= RAN) return 0;
    }
}
START_TEST(close_races_with_submission) {
    uint64_t seed = 12;
    for (int round = 0; round < 60; round++) {
        new_board();
        mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .backlog = 16});
        struct call calls[4];
        memset(calls, 0, sizeof calls);
        for (int i = 0; i < 4; i++) {
            calls[i].function = submit_until_closed, calls[i].pool = pool, calls[i].arg = i;
            call_begin(&calls[i]);
        }
        nap(1e-6 * (double)random_below(&seed, 4000));
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
        for (int i = 0; i < 4; i++) ck_assert_int_eq(call_end(&calls[i]), 0);
        size_t ran = 0;
        for (int i = 0; i < RAN; i++) {
            ck_assert_msg(board->ran[i] == 0 || board->ran[i] == 3, "task %d: %s", i,
                          board->ran[i] == 1 ? "refused, but ran" : "accepted, but never ran");
            ran += board->ran[i] != 0;
        }
        ck_assert_uint_eq(counts_of(pool).done, ran);
        free_pool(pool);
        munmap(board, sizeof *board);
    }
}
END_TEST

static void expect_refused(mproc_pool *pool, int terminated) { /* POOL-18, POOL-24, EXEC-19 */
    int arg = 2, result = 0;
    int errors[6] = {mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result),
                     mproc_pool_submit(pool, nothing, NULL, 0, MPROC_FOREVER),
                     mproc_pool_map(pool, square, &arg, 1, sizeof arg, &result, sizeof result)};
    errno = 0;
    ck_assert_ptr_null(mproc_pool_apply_async(pool, nothing, NULL, 0, 0));
    errors[3] = -errno;
    ck_assert_ptr_null(mproc_pool_imap(pool, square, &arg, 1, sizeof arg, sizeof result));
    errors[4] = -errno;
    ck_assert_ptr_null(mproc_pool_imap_unordered(pool, square, &arg, 1, sizeof arg, sizeof result));
    errors[5] = -errno;
    for (int i = 0; i < 6; i++)
        ck_assert_msg(errors[i] == MPROC_ECLOSED || (terminated && errors[i] == MPROC_ECANCELED),
                      "call %d: %d", i, errors[i]);
}

START_TEST(no_new_work_after_the_end) {
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *future = begin(pool, gate, 0, 0);
    ck_assert_int_eq(mproc_pool_join(pool, 0), MPROC_EBUSY); /* POOL-38 */
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), MPROC_EBUSY);
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    TAKES(0, 0.2, expect_refused(pool, 0));
    ck_assert_int_eq(mproc_pool_join(pool, 0), MPROC_ETIMEDOUT);
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_pool_join(pool, 0.1), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_pool_join(pool, (double)NAN), MPROC_EINVAL);
    SET(board->open, 1);
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    TAKES(0, 0.2, expect_refused(pool, 0));
    ck_assert_int_eq(mproc_pool_terminate(pool), 0);
    ck_assert_int_eq(finish(future, NULL), 0); /* what is done stays done */
    free_pool(pool);
    pool = pool_of(1);
    ck_assert_int_eq(mproc_pool_terminate(pool), 0);
    TAKES(0, 0.2, expect_refused(pool, 1));
    ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    free_pool(pool);
}
END_TEST

START_TEST(terminate_drops_ten_thousand_tasks) { /* POOL-17 */
    enum { QUEUED = 10000, HELD = 100 };
    adopt_orphans();
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 3, .backlog = 20000});
    double hour = 3600;
    mproc_future *held[HELD];
    for (int i = 0; i < QUEUED; i++) {
        if (i % (QUEUED / HELD) == 0)
            NEED(held[i / (QUEUED / HELD)] = mproc_pool_apply_async(pool, sleep_for, &hour, sizeof hour, 0));
        else ck_assert_int_eq(mproc_pool_submit(pool, sleep_for, &hour, sizeof hour, 0), 0);
    }
    TAKES(0, 1, {
        ck_assert_int_eq(mproc_pool_terminate(pool), 0);
        ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
    });
    expect_nothing_left(0);
    for (int i = 0; i < HELD; i++) {
        ck_assert(mproc_future_ready(held[i]));
        ck_assert(!mproc_future_successful(held[i]));
        TAKES(0, 0.1, ck_assert_int_eq(finish(held[i], NULL), MPROC_ECANCELED));
    }
    free_pool(pool);
}
END_TEST

static int wait_call(struct call *call) { return mproc_future_wait(call->future, MPROC_FOREVER); }
static int apply_call(struct call *call) { return mproc_pool_apply(call->pool, gate, NULL, 0, NULL, 0); }
static int map_gate_call(struct call *call) {
    int numbers[10] = {0};
    return mproc_pool_map(call->pool, gate, numbers, 10, sizeof numbers[0], NULL, 0);
}
static int join_call(struct call *call) {
    int error = MPROC_EBUSY; /* until somebody has closed it */
    while (error == MPROC_EBUSY) {
        error = mproc_pool_join(call->pool, MPROC_FOREVER);
        if (error == MPROC_EBUSY) nap(0.001);
    }
    return error;
}
enum { CALLS = 7 };
static int (*const blocking[CALLS])(struct call *) = {get_call,    wait_call,  apply_call, map_gate_call,
                                                      submit_call, async_call, join_call};

/* A pool whose one worker and whole backlog are taken, threads blocked in every call, and a process too. */
struct siege {
    mproc_pool *pool;
    pid_t supervisor;
    int n; /* calls */
    mproc_future *future;
    struct call calls[CALLS];
    pid_t child;
};
static void lay_siege(struct siege *siege, int n) {
    new_board();
    mproc_pool *pool = siege->pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 4});
    siege->supervisor = supervisor(), siege->n = n;
    siege->future = begin(pool, gate_square, 5, sizeof(int));
    EVENTUALLY(GET(board->started) == 1);
    memset(siege->calls, 0, sizeof siege->calls);
    for (int i = 0; i < siege->n; i++) {
        siege->calls[i].function = blocking[i], siege->calls[i].pool = pool;
        siege->calls[i].future = siege->future;
        if (blocking[i] == submit_call) /* the rest is to find the backlog full */
            while (mproc_pool_submit(pool, nothing, NULL, 0, 0) == 0) continue;
        call_begin(&siege->calls[i]);
        EVENTUALLY(call_blocks(&siege->calls[i]));
    }
    fflush(NULL);
    siege->child = mproc_fork();
    if (siege->child == 0) {
        SET(board->child, getpid());
        SET(board->code, mproc_future_get(siege->future, NULL, MPROC_FOREVER));
        _exit(0);
    }
    EVENTUALLY(GET(board->child) != 0 && process_state(siege->child) == 'S');
}
static void expect_released(struct siege *siege, double since, int wanted) {
    for (int i = 0; i < siege->n; i++) {
        int error = call_end(&siege->calls[i]);
        double took = siege->calls[i].returned - since;
        ck_assert_msg(took < 1 + 2 * SLOW, "call %d took %.2f s", i, took);
        bool fine = error == wanted;
        if (blocking[i] == wait_call)
            fine = fine || error == 0; /* the end has come, that is all it waits for */
        if (blocking[i] == join_call) fine = fine || error == 0;
        if (blocking[i] == submit_call || blocking[i] == async_call)
            fine = fine || (wanted == MPROC_ECANCELED && error == MPROC_ECLOSED);
        ck_assert_msg(fine, "call %d: %s", i, mproc_strerror(error));
    }
    ck_assert_int_eq(mproc_wait(siege->child, NULL, 1 + 2 * SLOW), 0);
    ck_assert_int_eq(GET(board->code), wanted);
    ck_assert_int_eq(mproc_future_get(siege->future, NULL, 0), wanted);
    ck_assert_int_eq(mproc_future_free(siege->future), 0);
}

START_TEST(terminate_releases_everybody) { /* X-55 */
    adopt_orphans();
    struct siege siege;
    lay_siege(&siege, CALLS);
    double start = now();
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_terminate(siege.pool), 0));
    expect_released(&siege, start, MPROC_ECANCELED);
    free_pool(siege.pool);
    expect_nothing_left(0);
}
END_TEST

START_TEST(supervisor_killed) {
    adopt_orphans();
    struct siege siege;
    lay_siege(&siege, CALLS - 1);   /* no join: the pool is open */
    mproc_pool *other = pool_of(1); /* is not harmed */
    kill(siege.supervisor, SIGKILL);
    expect_released(&siege, now(), MPROC_EBROKEN);
    int arg = 1;
    ck_assert_int_eq(mproc_pool_apply(siege.pool, square, &arg, sizeof arg, NULL, 0), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_pool_submit(siege.pool, nothing, NULL, 0, MPROC_FOREVER), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_pool_map(siege.pool, nothing, &arg, 1, sizeof arg, NULL, 0), MPROC_EBROKEN);
    errno = 0;
    ck_assert_ptr_null(mproc_pool_imap(siege.pool, nothing, &arg, 1, sizeof arg, 0));
    ck_assert_int_eq(-errno, MPROC_EBROKEN);
    expect_works(other);
    ck_assert_int_eq(mproc_pool_free(other), 0); /* the orphaned worker is this process's child now */
    expect_nothing_left(1);
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_terminate(siege.pool), 0));
    TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(siege.pool), 0));
}
END_TEST

static int forget_the_supervisor(void *arg) { /* as the kernel does when a process changes its user */
    (void)arg;
    return prctl(PR_SET_PDEATHSIG, 0);
}
static int forget_in_a_task(const void *arg, void *result) {
    (void)arg, (void)result;
    return prctl(PR_SET_PDEATHSIG, 0);
}
START_TEST(supervisor_killed_whom_the_workers_have_forgotten) {
    adopt_orphans();
    for (int k = 0; k < 3; k++) {
        new_board();
        mproc_pool *pool = pool_with(
            (mproc_pool_options){.workers = 2, .initializer = k < 2 ? forget_the_supervisor : NULL});
        mproc_future *running = k == 1 ? begin(pool, gate, 0, 0) : NULL;
        if (k == 1) EVENTUALLY(GET(board->started) == 1);
        if (k == 2) ck_assert_int_eq(mproc_pool_apply(pool, forget_in_a_task, NULL, 0, NULL, 0), 0);
        kill(supervisor(), SIGKILL);
        expect_nothing_left(1);
        if (k == 1) ck_assert_int_eq(finish(running, NULL), MPROC_EBROKEN);
        ck_assert_int_eq(mproc_pool_free(pool), 0);
    }
}
END_TEST

/* In a process that did not make the pool, and looks all the time: a task that the end of the pool cancels is
   running until then, and done from then on. */
static int look_all_the_time(void *future) {
    int error;
    while ((error = mproc_future_wait((mproc_future *)future, 0)) == MPROC_ETIMEDOUT) continue;
    return error == 0 ? 0 : 1;
}
START_TEST(a_task_that_terminate_cancels_is_done_at_once) {
    enum { MANY_TASKS = 200000 };
    new_board();
    mproc_pool *pool = pool_with((mproc_pool_options){.workers = 1, .backlog = MANY_TASKS});
    ck_assert_int_eq(mproc_pool_submit(pool, gate, NULL, 0, 0), 0);
    EVENTUALLY(GET(board->started) == 1);
    for (int i = 1; i < MANY_TASKS; i++)
        ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, MPROC_FOREVER), 0);
    mproc_future *last = begin(pool, nothing, 0, 0);
    pid_t child = mproc_fork();
    if (child == 0) mproc_exit(look_all_the_time(last));
    EVENTUALLY(process_state(child) == 'R');
    int code = -1;
    ck_assert_int_eq(mproc_pool_terminate(pool), 0);
    ck_assert_int_eq(mproc_wait(child, &code, MPROC_FOREVER), 0);
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(finish(last, NULL), MPROC_ECANCELED);
    free_pool(pool);
}
END_TEST

START_TEST(supervisor_killed_while_idle_and_while_busy) {
    adopt_orphans();
    for (int round = 0; round < 20; round++) {
        mproc_pool *pool = pool_of(2);
        mproc_future *done = begin(pool, square, 6, sizeof(int));
        ck_assert_int_eq(mproc_future_wait(done, MPROC_FOREVER), 0);
        for (int i = 0; round % 2 == 1 && i < 500; i++)
            ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, MPROC_FOREVER), 0);
        kill(supervisor(), SIGKILL);
        int error = 0, arg = 1, result = 0;
        double give_up = now() + 1 + 2 * SLOW;
        while (error == 0 && now() < give_up) /* a worker may yet have served a few */
            error = mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result);
        ck_assert_int_eq(error, MPROC_EBROKEN);
        ck_assert_int_eq(finish(done, &result), 0); /* what was done before is still right */
        ck_assert_int_eq(result, 36);
        expect_nothing_left(1);
        if (round % 4 == 0) ck_assert_int_eq(mproc_pool_close(pool), 0);
        if (round % 4 == 1) ck_assert_int_eq(mproc_pool_terminate(pool), 0);
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(pool), 0));
    }
}
END_TEST

START_TEST(free_with_results_pending) { /* X-57, POOL-25 */
    new_board();
    mproc_pool *pool = pool_of(1);
    mproc_future *done = begin(pool, square, 3, sizeof(int));
    ck_assert_int_eq(mproc_future_wait(done, MPROC_FOREVER), 0);
    mproc_future *running = begin(pool, gate, 0, 0), *queued = begin(pool, nothing, 0, 0);
    EVENTUALLY(GET(board->started) == 1);
    TAKES(0, 1, free_pool(pool));
    int error = mproc_future_get(running, NULL, MPROC_FOREVER);
    ck_assert_msg(error == MPROC_ECANCELED || error == MPROC_EINVAL, "running: %d", error);
    error = mproc_future_get(queued, NULL, MPROC_FOREVER);
    ck_assert_msg(error == MPROC_ECANCELED || error == MPROC_EINVAL, "queued: %d", error);
    mproc_future *all[3] = {done, running, queued};
    for (int i = 0; i < 3; i++) {
        error = mproc_future_free(all[i]);
        ck_assert_msg(error == 0 || error == MPROC_EINVAL, "future %d: %d", i, error);
    }
    pool = pool_of(1);
    expect_works(pool);
    free_pool(pool);
}
END_TEST

START_TEST(free_with_a_getter_blocked) {
    new_board();
    mproc_pool *pool = pool_of(1);
    struct call call = {.function = get_call, .pool = pool, .future = begin(pool, gate, 0, 0)};
    call_begin(&call);
    EVENTUALLY(GET(board->started) == 1 && call_blocks(&call));
    int error = 0;
    double give_up = now() + 5;
    while ((error = mproc_pool_free(pool)) == MPROC_EBUSY && now() < give_up) continue;
    ck_assert_int_eq(error, 0);
    error = call_end(&call);
    ck_assert_msg(error == MPROC_ECANCELED || error == MPROC_EINVAL, "%d", error);
    ck_assert(no_children());
}
END_TEST

/* The result goes to memory that is not to be written yet, so that the copying stands still in the middle. */
static char *guarded;
static int copying, go_on;
static void hold_the_copying(int sig) {
    (void)sig;
    POKE(&copying, 1);
    await(&go_on, 1);
    mprotect(guarded, 4096, PROT_READ | PROT_WRITE);
}
static int guarded_get_call(struct call *call) { return mproc_future_get(call->future, guarded, 10); }
START_TEST(free_while_a_result_is_copied) {
    new_board();
    copying = go_on = 0;
    guarded = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction before, hold = {.sa_handler = hold_the_copying};
    ck_assert_int_eq(sigaction(SIGSEGV, &hold, &before), 0);
    mproc_pool *pool = pool_of(1);
    struct call call = {.function = guarded_get_call, .pool = pool};
    call.future = begin(pool, square, 3, sizeof(int));
    call_begin(&call);
    EVENTUALLY(PEEK(&copying) == 1);
    ck_assert_int_eq(mproc_future_free(call.future), MPROC_EBUSY);
    ck_assert_int_eq(mproc_pool_free(pool), MPROC_EBUSY);
    POKE(&go_on, 1);
    ck_assert_int_eq(call_end(&call), 0);
    ck_assert_int_eq(*(int *)(void *)guarded, 9);
    ck_assert_int_eq(sigaction(SIGSEGV, &before, NULL), 0);
    free_pool(pool);
}
END_TEST

/* Who asked has ended, and the pool looks for what the dead have left: the future whose result a thread is
   just copying stays, the one behind it goes. */
static mproc_future **left;
static int ask_twice_and_end(void *arg) {
    int six = 6;
    for (int i = 0; i < 2; i++) left[i] = mproc_pool_apply_async(arg, square, &six, sizeof six, sizeof six);
    for (int i = 0; i < 2; i++) mproc_future_wait(left[i], MPROC_FOREVER);
    await((int *)(void *)&left[2], 1); /* else the supervisor may be faster than the other thread */
    return 0;
}
static bool is_future(mproc_future *future) { return mproc_future_code(future) != MPROC_EINVAL; }
START_TEST(a_future_of_the_dead_while_its_result_is_copied) {
    new_board();
    copying = go_on = 0;
    guarded = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    left = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(left != MAP_FAILED);
    struct sigaction before, hold = {.sa_handler = hold_the_copying};
    ck_assert_int_eq(sigaction(SIGSEGV, &hold, &before), 0);
    mproc_pool *pool = pool_of(1);
    mproc_process asker = {.target = ask_twice_and_end, .arg = pool};
    ck_assert_int_eq(mproc_process_start(&asker), 0);
    EVENTUALLY(GET(left[1]) != NULL);
    struct call call = {.function = guarded_get_call, .pool = pool, .future = left[0]};
    call_begin(&call);
    EVENTUALLY(PEEK(&copying) == 1);
    POKE((int *)(void *)&left[2], 1);
    ck_assert_int_eq(mproc_process_join(&asker, MPROC_FOREVER), 0);
    EVENTUALLY(!is_future(left[1]));
    ck_assert(is_future(left[0]));
    POKE(&go_on, 1);
    ck_assert_int_eq(call_end(&call), 0);
    ck_assert_int_eq(*(int *)(void *)guarded, 36);
    EVENTUALLY(!is_future(left[0]));
    ck_assert_int_eq(sigaction(SIGSEGV, &before, NULL), 0);
    free_pool(pool);
}
END_TEST

/* A map whose first item is not done when the pool is terminated; then it takes the results of the others. */
static int fill_after_the_first(const void *arg, void *result) {
    if (*(const int *)arg == 0) pass_gate();
    memset(result, 7, MIB);
    return 0;
}
static char *large_results;
static int large_map_call(struct call *call) {
    int in[64];
    for (int i = 0; i < 64; i++) in[i] = i;
    return mproc_pool_map(call->pool, fill_after_the_first, in, 64, sizeof in[0], large_results, MIB);
}
static bool map_waits(const mproc_pool *pool) { /* for a task: so it has handed in all of them */
    bool waits = false;
    for (uint32_t i = 0; i < 64; i++) waits = waits || mproc__awaited(mproc__slot(pool, i));
    return waits;
}
START_TEST(free_with_a_map_that_takes_results) {
    new_board();
    large_results = calloc(64, MIB);
    NEED(large_results);
    mproc_pool *pool = pool_of(2);
    struct call call = {.function = large_map_call, .pool = pool};
    call_begin(&call);
    EVENTUALLY(counts_of(pool).done == 63 &&
               map_waits(pool)); /* it may be refused what it is handing in yet */
    int error = mproc_pool_free(pool);
    ck_assert_msg(error == 0 || error == MPROC_EBUSY, "%d", error);
    if (error == 0) ck_assert(GET(call.done) || large_results[63 * MIB] == 7);
    ck_assert_int_eq(call_end(&call), MPROC_ECANCELED);
    for (size_t i = 1; i < 64; i++) ck_assert_int_eq(large_results[i * MIB], 7);
    if (error != 0) ck_assert_int_eq(mproc_pool_free(pool), 0);
    free(large_results);
}
END_TEST

static int short_nap(const void *arg, void *result) {
    (void)arg, (void)result;
    nap(0.01);
    return 0;
}

/* It is told to leave when it is about to sleep, nearly each time where all share a processor but not all the
   program ever had. A sleep ends by itself after 0.1 s. */
START_TEST(an_idle_worker_leaves_at_once) {
    cpu_set_t all, one;
    free_pool(pool_of(1));
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    int late = 0;
    for (int i = 0; i < 11; i++) {
        mproc_pool *pool = pool_of(1);
        ck_assert_int_eq(mproc_pool_submit(pool, short_nap, NULL, 0, MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        double began = now();
        ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
        late += now() - began > 0.09 * SLOW;
        free_pool(pool);
    }
    ck_assert_int_le(late, 5);
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
}
END_TEST

/* A call that has what it waited for looks for callbacks yet, and so at its pool: that is not freed before.
 */
static int free_when_told(void *arg) {
    await(&board->code, 1);
    SET(board->counter, -mproc_pool_free(arg));
    return 0;
}
static void let_it_be(mproc_future *future, void *ctx) { (void)future, (void)ctx; }
START_TEST(free_beside_the_last_look_of_a_call) {
    for (int joins = 0; joins < 2; joins++) {
        new_board();
        mproc_pool *pool = pool_of(1), *other = pool_of(1);
        mproc_process freer = {.target = free_when_told, .arg = pool};
        ck_assert_int_eq(mproc_process_start(&freer), 0);
        mproc_future *late = begin(other, gate, 0, 0);
        ck_assert_int_eq(mproc_future_on_done(late, let_it_be, NULL), 0);
        struct call call = {.function = joins ? join_call : get_call, .pool = pool};
        call.future = begin(pool, square, 3, sizeof(int));
        ck_assert_int_eq(mproc_future_wait(call.future, MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_pool_terminate(pool), 0);
        pthread_mutex_lock(&mproc__self.lock); /* to learn that the pool is over it needs this */
        call_begin(&call);
        EVENTUALLY(call_blocks(&call));
        SET(board->counter, -1);
        POKE(&board->code, 1);
        EVENTUALLY(GET(board->counter) != -1);
        pthread_mutex_unlock(&mproc__self.lock);
        ck_assert_int_eq(GET(board->counter), -MPROC_EBUSY);
        ck_assert_int_eq(call_end(&call), joins ? 0 : 9);
        ck_assert_int_eq(mproc_process_join(&freer, MPROC_FOREVER), 0);
        SET(board->open, 1);
        ck_assert_int_eq(finish(late, NULL), 0);
        free_pool(other);
        free_pool(pool);
    }
}
END_TEST

/* A task waits for another one, which its thread runs and which waits for something else: then a free by
   another thread does not see the first wait, and who waited says that the future is gone. */
static mproc_event *go_ahead;
static int wait_for_the_free(const void *arg, void *result) {
    (void)arg, (void)result;
    mproc_event_wait(go_ahead, MPROC_FOREVER);
    POKE(&board->code, 1);
    await(&board->code, 2);
    return 0;
}
static void *free_meanwhile(void *unused) {
    mproc_event_set(go_ahead);
    await(&board->code, 1);
    SET(board->counter, mproc_future_free(board->future));
    POKE(&board->code, 2);
    return unused;
}
static int get_what_is_freed(const void *arg, void *result) {
    pthread_t thread;
    (void)arg;
    board->future = mproc_pool_apply_async(board->pool, wait_for_the_free, NULL, 0, 4096);
    if (board->future == NULL || pthread_create(&thread, NULL, free_meanwhile, NULL) != 0) return 1;
    *(int *)result = mproc_future_get(board->future, NULL, MPROC_FOREVER);
    return pthread_join(thread, NULL);
}
START_TEST(freed_while_its_waiter_runs_it) {
    new_board();
    NEED(go_ahead = mproc_event_new());
    board->pool = pool_of(1);
    int error = 0;
    ck_assert_int_eq(mproc_pool_apply(board->pool, get_what_is_freed, NULL, 0, &error, sizeof error), 0);
    ck_assert_msg(GET(board->counter) == MPROC_EBUSY ? error == 0 : error == MPROC_EINVAL, "free %d, get %d",
                  GET(board->counter), error);
    free_pool(board->pool);
    ck_assert_int_eq(mproc_event_free(go_ahead), 0);
}
END_TEST

/* The end of a pool finds workers that leave, are replaced, or were killed a moment ago: nobody is made anew,
   nothing is left, and no call minds. */
START_TEST(ended_while_workers_are_replaced) { /* EXEC-24, EXEC-35, EXEC-36 */
    uint64_t seed = make_seed("ended while workers are replaced");
    adopt_orphans();
    for (int round = 0; round < 60; round++) {
        new_board();
        mproc_pool *pool = pool_with((mproc_pool_options){.workers = 2, .max_tasks_per_worker = 1});
        pid_t boss = supervisor(), pids[8];
        mproc_future *future[20];
        for (int i = 0; i < 20; i++) future[i] = begin(pool, i < 10 ? mark : gate, i, 0);
        if (round % 2 == 0) ck_assert_int_eq(mproc_pool_close(pool), 0);
        if (round >= 2)
            nap(1e-6 * (double)random_below(&seed, 5000)); /* else before the workers have begun */
        int n = round % 3 == 0 ? children_of(boss, pids, 8) : 0;
        for (int i = 0; i < n; i++) kill(pids[i], SIGKILL);
        if (round % 4 < 3) {
            TAKES(0, 1, ck_assert_int_eq(mproc_pool_terminate(pool), 0));
            if (round % 4 < 2) TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
            expect_nothing_left(0.5);
            for (int i = 0; i < 20; i++) {
                int error = MPROC_ETIMEDOUT;
                TAKES(0, 0.1, error = finish(future[i], NULL));
                ck_assert_msg(error == 0 || error == MPROC_ECANCELED || error == MPROC_ECRASHED, "%d", error);
                ck_assert_uint_le(board->ran[i], 1);
                if (error == 0) ck_assert_uint_eq(board->ran[i], 1);
                ck_assert(error != 0 || i < 10);
            }
        }
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(pool), 0));
        expect_nothing_left(0.5);
        ck_assert_int_eq(GET(board->ended), 0); /* begun perhaps, and never at its end */
        munmap(board, sizeof *board);
    }
}
END_TEST

START_TEST(ended_while_big_data_moves) { /* X-54 */
    uint64_t seed = make_seed("ended while big data moves");
    struct traffic *in = calloc(1, sizeof *in), *out = malloc(sizeof *out);
    NEED(in);
    NEED(out);
    adopt_orphans();
    for (uint32_t round = 0; round < 12; round++) {
        mproc_pool *pool = pool_of(2);
        pid_t boss = supervisor(), pids[8];
        mproc_future *future[4];
        for (uint32_t i = 0; i < 4; i++) {
            in->number = i;
            NEED(future[i] = mproc_pool_apply_async(pool, carry, in, sizeof *in, sizeof *in));
        }
        nap(1e-6 * (double)random_below(&seed, 10000));
        int n = children_of(boss, pids, 8);
        if (n > 0) kill(pids[random_below(&seed, (size_t)n)], SIGKILL);
        TAKES(0, 2, ck_assert_int_eq(mproc_pool_terminate(pool), 0));
        for (uint32_t i = 0; i < 4; i++) {
            int error = finish(future[i], out);
            ck_assert_msg(error == 0 || error == MPROC_ECANCELED || error == MPROC_ECRASHED, "%d", error);
            in->number = i, in->fill = i * 3;
            if (error == 0) ck_assert(memcmp(in, out, sizeof *in) == 0);
            in->fill = 0;
        }
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(pool), 0));
        expect_nothing_left(0.5);
    }
    free(in), free(out);
}
END_TEST

/* Each sequence of three of close, terminate and join, then free: on an idle pool, and on one at work. */
START_TEST(every_order_of_ending) {
    for (int sequence = 0; sequence < 27; sequence++)
        for (int busy = 0; busy < 2; busy++) {
            new_board();
            mproc_pool *pool = pool_of(1);
            mproc_future *future = busy ? begin(pool, gate, 0, 0) : NULL;
            bool closed = false, terminated = false;
            for (int k = 0, rest = sequence; k < 3; k++, rest /= 3) {
                int error = 0, wanted = 0;
                if (rest % 3 == 0) error = mproc_pool_close(pool), closed = true;
                if (rest % 3 == 1) error = mproc_pool_terminate(pool), terminated = true;
                if (rest % 3 == 2) {
                    error = mproc_pool_join(pool, busy && !terminated ? 0.02 : MPROC_FOREVER);
                    wanted = terminated ? 0 : !closed ? MPROC_EBUSY : busy ? MPROC_ETIMEDOUT : 0;
                }
                ck_assert_msg(error == wanted, "sequence %d, step %d, busy %d: %d", sequence, k, busy, error);
            }
            TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(pool), 0));
            ck_assert(no_children());
            ck_assert_int_eq(mproc_pool_free(pool), MPROC_EINVAL); /* no longer a pool */
            ck_assert_int_eq(mproc_pool_close(pool), MPROC_EINVAL);
            ck_assert_int_eq(mproc_pool_terminate(pool), MPROC_EINVAL);
            ck_assert_int_eq(mproc_pool_join(pool, 0), MPROC_EINVAL);
            if (busy) mproc_future_free(future);
        }
}
END_TEST

START_TEST(a_crash_after_close) { /* EXEC-15 */
    new_board();
    for (int way = 0; way < 2; way++) {
        mproc_pool *pool = pool_of(1);
        int how = KILLED;
        mproc_future *first = begin(pool, gate, 0, 0), *dying = begin(pool, die, how, 0);
        mproc_future *last = begin(pool, square, 8, sizeof(int));
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        SET(board->open, 1);
        if (way == 0) TAKES(0, 2, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
        int result = 0;
        ck_assert_int_eq(finish(first, NULL), 0);
        ck_assert_int_eq(finish(dying, NULL), MPROC_ECRASHED);
        ck_assert_int_eq(finish(last, &result), 0);
        ck_assert_int_eq(result, 64);
        TAKES(0, 2, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
        free_pool(pool);
    }
}
END_TEST

START_TEST(a_stopped_worker_holds_nobody_up) {
    for (int way = 0; way < 3; way++) {
        new_board();
        mproc_pool *pool = pool_of(2);
        mproc_future *future = begin(pool, gate, 0, 0);
        EVENTUALLY(GET(board->started) == 1);
        pid_t pids[8];
        int n = workers_of(pids, 8);
        for (int i = 0; i < n; i++) kill(pids[i], SIGSTOP);
        for (int i = 0; i < n; i++) EVENTUALLY(process_state(pids[i]) == 'T');
        if (way == 0) {
            ck_assert_int_eq(mproc_pool_close(pool), 0);
            TAKES(0.2, 0.3, ck_assert_int_eq(mproc_pool_join(pool, 0.2), MPROC_ETIMEDOUT));
            SET(board->open, 1);
            for (int i = 0; i < n; i++) kill(pids[i], SIGCONT);
            ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
            ck_assert_int_eq(mproc_future_get(future, NULL, 0), 0);
        }
        if (way == 1) {
            TAKES(0, 1, ck_assert_int_eq(mproc_pool_terminate(pool), 0));
            TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0));
            ck_assert_int_eq(mproc_future_get(future, NULL, 0), MPROC_ECANCELED);
        }
        mproc_future_free(future);
        TAKES(0, 1, free_pool(pool));
    }
}
END_TEST

START_TEST(a_stopped_supervisor_holds_nobody_up) {
    for (int way = 0; way < 2; way++) {
        new_board();
        mproc_pool *pool = pool_of(1);
        pid_t boss = supervisor();
        kill(boss, SIGSTOP);
        EVENTUALLY(process_state(boss) == 'T');
        int arg = 4, result = 0;
        mproc_future *future = begin(pool, gate_square, 4, sizeof(int));
        TAKES(0.1, 0.2, ck_assert_int_eq(mproc_future_get(future, NULL, 0.1), MPROC_ETIMEDOUT));
        if (way == 0) {
            SET(board->open, 1);
            ck_assert_int_eq(finish(future, &result), 0); /* the workers do without it */
            ck_assert_int_eq(mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result), 0);
            ck_assert_int_eq(mproc_pool_close(pool), 0);
            int error = 0; /* the library may resume it, or leave that to whom stopped it */
            TAKES(0, 0.2, error = mproc_pool_join(pool, 0.1));
            ck_assert_msg(error == 0 || error == MPROC_ETIMEDOUT, "%d", error);
            kill(boss, SIGCONT);
            ck_assert_int_eq(mproc_pool_join(pool, MPROC_FOREVER), 0);
        } else {
            TAKES(0, 2, ck_assert_int_eq(mproc_pool_terminate(pool), 0));
            ck_assert_int_eq(finish(future, NULL), MPROC_ECANCELED);
        }
        TAKES(0, 2, free_pool(pool));
    }
}
END_TEST

/* ---- Programs: exit, SIGKILL, Ctrl-C ------------------------------------------------------------------ */

static mproc_pool *program_pool; /* of the program */

static void leaves_a_pool(void) { /* never closed, idle */
    printf("begin ");
    program_pool = mproc_pool_new(3);
    MUST(program_pool != NULL);
    int arg = 3, result = 0;
    MUST(mproc_pool_apply(program_pool, square, &arg, sizeof arg, &result, sizeof result) == 0 &&
         result == 9);
    printf("end\n");
}
static void leaves_a_pool_at_work(void) {
    program_pool = mproc_pool_new(2);
    MUST(program_pool != NULL);
    double hour = 3600;
    for (int i = 0; i < 100; i++)
        MUST(mproc_pool_submit(program_pool, sleep_for, &hour, sizeof hour, MPROC_FOREVER) == 0);
    printf("begin end\n");
}
START_TEST(exit_with_a_live_pool) { /* EXIT-05: and stdio is not doubled (P6) */
    adopt_orphans();
    program p;
    launch(&p, leaves_a_pool);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    expect_nothing_left(0.5);
    ck_assert_str_eq(p.text, "begin end\n");
}
END_TEST

/* Tasks at work when main returns: they end or are ended, but the program ends, and nothing is left. */
START_TEST(exit_with_a_pool_at_work) {
    adopt_orphans();
    program p;
    launch(&p, leaves_a_pool_at_work);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    expect_nothing_left(0.5);
    ck_assert_str_eq(p.text, "begin end\n");
}
END_TEST

static int print_apple(const void *arg, void *result) { /* leaves it in the worker's buffer */
    (void)result;
    nap(*(const double *)arg);
    printf("apple\n");
    return 0;
}
static void prints_from_a_task(void) {
    setvbuf(stdout, NULL, _IOFBF, 4096);
    program_pool = mproc_pool_new(1);
    MUST(program_pool != NULL);
    double soon = 0.1;
    MUST(mproc_pool_submit(program_pool, print_apple, &soon, sizeof soon, MPROC_FOREVER) == 0);
}
static void prints_from_a_task_and_joins(void) {
    prints_from_a_task();
    MUST(mproc_pool_close(program_pool) == 0);
    MUST(mproc_pool_join(program_pool, MPROC_FOREVER) == 0);
}
START_TEST(what_a_task_prints_comes_out) { /* EXIT-06 */
    adopt_orphans();
    program p;
    launch(&p, prints_from_a_task_and_joins);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    ck_assert_str_eq(p.text, "apple\n");
    /* Without a join the exit may end it, but neither hangs nor doubles it. */
    launch(&p, prints_from_a_task);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    const char *text = p.text;
    ck_assert_msg(strcmp(text, "apple\n") == 0 || strcmp(text, "") == 0, "%s", text);
    expect_nothing_left(0.5);
}
END_TEST

static void after_the_library(void) { /* registered before its first use, so run after its own handler */
    double start = now();
    int error = mproc_pool_submit(program_pool, nothing, NULL, 0, MPROC_FOREVER);
    int arg = 2, result = 0;
    int second = mproc_pool_apply(program_pool, square, &arg, sizeof arg, &result, sizeof result);
    printf("%s%s", error < 0 && second < 0 ? "refused" : "accepted", now() - start < 0.5 ? "\n" : " late\n");
}
static void before_the_library(void) {
    int arg = 2, result = 0;
    int error = mproc_pool_apply(program_pool, square, &arg, sizeof arg, &result, sizeof result);
    printf("%d %d\n", error, result);
}
static void submits_at_exit(void) {
    MUST(atexit(after_the_library) == 0);
    leaves_a_pool();
    MUST(atexit(before_the_library) == 0);
}
START_TEST(submission_from_an_exit_handler) { /* EXIT-07 */
    adopt_orphans();
    program p;
    launch(&p, submits_at_exit);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    ck_assert_str_eq(p.text, "begin end\n0 4\nrefused\n");
    expect_nothing_left(0.5);
}
END_TEST

static int deaf_gate(const void *arg, void *result) { /* with a child, deaf to all that can be ignored */
    for (int i = 1; i < 32; i++) signal(i, SIG_IGN);
    if (fork() == 0)
        for (;;) pause();
    return gate(arg, result);
}
static void maps_for_ever(void) {
    program_pool = mproc_pool_new(4);
    MUST(program_pool != NULL);
    int numbers[50] = {0};
    mproc_pool_map(program_pool, gate, numbers, 50, sizeof numbers[0], NULL, 0);
}
static void maps_the_deaf(void) {
    program_pool = mproc_pool_new(4);
    MUST(program_pool != NULL);
    int numbers[50] = {0};
    mproc_pool_map(program_pool, deaf_gate, numbers, 50, sizeof numbers[0], NULL, 0);
}
static void idles_with_a_pool(void) {
    program_pool = mproc_pool_new(4);
    MUST(program_pool != NULL);
    ADD(board->started, 4);
    for (;;) pause();
}
START_TEST(program_killed) { /* P7 */
    adopt_orphans();
    void (*const programs[])(void) = {maps_for_ever, maps_the_deaf, idles_with_a_pool};
    for (int i = 0; i < 3; i++) {
        new_board();
        program p;
        launch(&p, programs[i]);
        EVENTUALLY(GET(board->started) == 4);
        ck_assert_int_ge(count_descendants(), 6);
        kill(p.pid, SIGKILL);
        ck_assert_int_eq(program_ends(&p, 3), -SIGKILL);
        expect_nothing_left(1);
        ck_assert_str_eq(p.text, "");
    }
}
END_TEST

/* Killed at random instants from its first moment on: while it makes the pool, submits, frees. */
static void churns_pools(void) {
    for (;;) {
        program_pool = mproc_pool_new(2);
        MUST(program_pool != NULL);
        SET(board->started, 1);
        int in[20] = {0}, out[20];
        MUST(mproc_pool_map(program_pool, square, in, 20, sizeof in[0], out, sizeof out[0]) == 0);
        MUST(mproc_pool_free(program_pool) == 0);
    }
}
START_TEST(program_killed_at_random) {
    uint64_t seed = 5;
    adopt_orphans();
    for (int i = 0; i < 60; i++) {
        new_board();
        program p;
        launch(&p, churns_pools);
        if (i % 2 == 0) EVENTUALLY(GET(board->started) == 1);
        nap(1e-6 * (double)random_below(&seed, 8000));
        kill(p.pid, SIGKILL);
        ck_assert_int_eq(program_ends(&p, 3), -SIGKILL);
        expect_nothing_left(1);
        ck_assert_str_eq(p.text, "");
        munmap(board, sizeof *board);
    }
}
END_TEST

START_TEST(program_and_supervisor_killed_at_once) {
    adopt_orphans();
    for (int i = 0; i < 5; i++) {
        new_board();
        program p;
        launch(&p, maps_for_ever);
        EVENTUALLY(GET(board->started) == 4);
        pid_t boss = supervisor_below(p.pid);
        kill(boss, SIGSTOP); /* it shall not see the program's end */
        kill(p.pid, SIGKILL);
        kill(boss, SIGKILL);
        ck_assert_int_eq(program_ends(&p, 3), -SIGKILL);
        expect_nothing_left(1);
    }
}
END_TEST

START_TEST(control_c) { /* X-07 */
    adopt_orphans();
    void (*const programs[])(void) = {maps_for_ever, maps_the_deaf, idles_with_a_pool};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (int i = 0; i < 6; i++) {
        new_board();
        program p;
        launch(&p, programs[i % 3]);
        EVENTUALLY(GET(board->started) == 4);
        int number = i < 3 ? SIGINT : signals[i - 2];
        kill(-p.pid, number);
        ck_assert_int_eq(program_ends(&p, 4), -number);
        expect_nothing_left(2);
        ck_assert_str_eq(p.text, "");
    }
}
END_TEST

static volatile sig_atomic_t interrupted;
static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}
static void handles_control_c(void) { /* an orderly program: finishes its map, then ends */
    signal(SIGINT, on_interrupt);
    program_pool = mproc_pool_new(2);
    MUST(program_pool != NULL);
    int numbers[4] = {0}, arg = 5, result = 0;
    MUST(mproc_pool_map(program_pool, gate, numbers, 4, sizeof numbers[0], NULL, 0) == 0);
    MUST(interrupted);
    MUST(mproc_pool_apply(program_pool, square, &arg, sizeof arg, &result, sizeof result) == 0 &&
         result == 25);
    MUST(mproc_pool_free(program_pool) == 0);
    printf("orderly\n");
}
START_TEST(control_c_handled_by_the_program) {
    adopt_orphans();
    new_board();
    program p;
    launch(&p, handles_control_c);
    EVENTUALLY(GET(board->started) == 2);
    kill(-p.pid, SIGINT);
    nap(0.05);
    SET(board->open, 1);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    ck_assert_str_eq(p.text, "orderly\n");
    expect_nothing_left(1);
}
END_TEST

/* ---- Misuse ------------------------------------------------------------------------------------------- */

START_TEST(null_and_garbage) { /* X-57, P4 */
    mproc_pool *pool = pool_of(1);
    mproc_future *future = begin(pool, square, 3, sizeof(int));
    mproc_lock *lock = mproc_lock_new();
    int *value = mproc_value_new(int, 5), arg = 3, result = 0;
    NEED(lock);
    NEED(value);
    ck_assert_int_eq(mproc_future_wait(future, MPROC_FOREVER), 0);
    static unsigned char noise[4096];
    memset(noise, 0xa5, sizeof noise);
    void *garbage[] = {NULL, noise + 64, (void *)(uintptr_t)16, (void *)UINTPTR_MAX,
                       lock, value,      (char *)pool + 8,      &arg};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage + 1; i++) {
        /* a future is no pool, a pool is no future */
        bool last = i == sizeof garbage / sizeof *garbage;
        mproc_pool *p = last ? (mproc_pool *)(void *)future : (mproc_pool *)garbage[i];
        mproc_future *f = last ? (mproc_future *)(void *)pool : (mproc_future *)garbage[i];
        mproc_pool_counts counts;
        ck_assert_int_eq(mproc_pool_apply(p, square, &arg, sizeof arg, &result, sizeof result), MPROC_EINVAL);
        errno = 0;
        ck_assert_ptr_null(mproc_pool_apply_async(p, square, &arg, sizeof arg, sizeof result));
        ck_assert_int_eq(errno, EINVAL);
        ck_assert_int_eq(mproc_pool_submit(p, nothing, NULL, 0, 0), MPROC_EINVAL);
        ck_assert_int_eq(mproc_pool_map(p, square, &arg, 1, sizeof arg, &result, sizeof result),
                         MPROC_EINVAL);
        ck_assert_int_eq(mproc_pool_close(p), MPROC_EINVAL);
        ck_assert_int_eq(mproc_pool_join(p, 0), MPROC_EINVAL);
        ck_assert_int_eq(mproc_pool_terminate(p), MPROC_EINVAL);
        ck_assert_int_eq(mproc_pool_stats(p, &counts), MPROC_EINVAL);
        ck_assert_int_eq(mproc_pool_free(p), p == NULL ? 0 : MPROC_EINVAL);
        ck_assert_int_eq(mproc_future_wait(f, 0), MPROC_EINVAL);
        ck_assert_int_eq(mproc_future_get(f, &result, 0), MPROC_EINVAL);
        ck_assert(!mproc_future_ready(f));
        ck_assert(!mproc_future_successful(f));
        ck_assert_int_ne(mproc_future_code(f), 0);
        ck_assert_int_eq(mproc_future_free(f), f == NULL ? 0 : MPROC_EINVAL);
    }
    ck_assert_int_eq(mproc_pool_apply(pool, NULL, &arg, sizeof arg, &result, sizeof result), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_apply(pool, square, NULL, sizeof arg, &result, sizeof result), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_submit(pool, NULL, NULL, 0, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 4, 0), MPROC_EINVAL);
    ck_assert_ptr_null(mproc_pool_apply_async(pool, NULL, NULL, 0, 0));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_ptr_null(mproc_pool_apply_async(pool, square, NULL, sizeof arg, sizeof result));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(mproc_pool_map(pool, NULL, &arg, 1, sizeof arg, &result, sizeof result), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_map(pool, square, NULL, 1, sizeof arg, &result, sizeof result), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pool_map(pool, square, &arg, 1, sizeof arg, NULL, sizeof result), MPROC_EINVAL);
    ck_assert_int_eq(mproc_future_get(future, &result, 0), 0);
    ck_assert_int_eq(result, 9);
    ck_assert_int_eq(*value, 5);
    ck_assert_int_eq(mproc_future_free(future), 0);
    expect_works(pool);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    ck_assert_int_eq(mproc_free(value), 0);
    free_pool(pool);
}
END_TEST

SUITE_MAIN(
    "pool", apply_returns_the_result, arguments_in_shared_memory_are_copied, any_size_of_argument_and_result,
    arguments_and_results_are_aligned, ten_thousand_tasks_of_random_size, sizes_that_cannot_be_are_refused,
    map_keeps_the_order, map_with_structs, map_uses_shared_arrays_where_they_are, map_in_place,
    map_of_nothing, map_without_input_or_output, map_of_what_overflows, map_of_a_hundred_thousand_tiny_items,
    map_waits_for_all_though_some_fail, map_with_items_that_kill_their_worker,
    maps_of_several_threads_and_processes_at_once, get_waits_for_the_result, a_failed_task_tells_its_code,
    failures_cost_no_worker, ten_thousand_futures_held, futures_freed_early, future_free_while_another_waits,
    future_of_a_process_got_in_others, future_of_which_a_waiter_was_killed, stats_tell_what_is_where,
    a_future_of_a_process_that_has_ended, futures_freed_beside_futures_kept,
    a_dying_task_fails_alone_and_tells_how, a_hundred_crashes_in_a_row,
    a_worker_killed_from_outside_costs_one_task, idle_workers_killed, a_worker_killed_between_items,
    workers_killed_while_big_data_moves, workers_killed_while_tasks_change_hands,
    children_of_a_task_go_down_with_its_worker, initializer_runs_once_in_each_worker,
    initializer_that_fails_breaks_the_pool, initializer_that_fails_once_is_tried_again,
    initializer_that_fails_in_the_middle_of_a_map, initializer_that_hangs_does_not_hang_the_program,
    an_initializer_that_failed_costs_no_processor_time, max_tasks_per_worker_exactly,
    workers_with_a_limited_life_are_replaced, close_while_limited_workers_have_a_backlog,
    task_timeout_ends_the_task_only, task_timeout_of_the_stopped_the_deaf_and_the_replaced,
    task_timeout_counts_from_the_tasks_begin, a_full_backlog_holds_the_submitter_up,
    submitting_takes_no_memory, futures_and_maps_take_no_memory, futures_of_the_dead_do_not_clog_the_pool,
    submitters_killed_at_random, tail_left_behind_by_a_killed_submitter,
    positions_outgrow_the_entries_of_the_ring, many_submitters_killed_while_they_wait,
    a_crash_while_the_ring_is_full, a_crash_in_nested_maps_while_the_ring_is_full,
    a_crash_in_what_a_close_overtook, a_close_overtook_what_was_taken_back, a_timeout_tells_nobody_of_the_end,
    counts_of_a_task_of_which_the_rest_is_cancelled, submission_from_many_processes_and_threads,
    a_task_uses_its_own_pool, use_in_a_forked_child, a_process_with_a_pool_of_its_own,
    a_task_with_a_pool_of_its_own, a_queue_made_after_the_pool, sizes_of_a_pool, a_pool_of_two_hundred,
    no_room_for_the_processes, no_room_for_a_replacement, nothing_leaks,
    descriptors_of_others_stay_open_in_workers, pools_that_another_process_frees,
    tasks_see_the_signal_state_of_the_program, waiting_costs_no_processor_time, interrupted_by_signals,
    close_runs_what_was_accepted, close_leaves_a_submission_to_its_submitter, close_races_with_submission,
    no_new_work_after_the_end, terminate_drops_ten_thousand_tasks, terminate_releases_everybody,
    supervisor_killed, supervisor_killed_while_idle_and_while_busy,
    supervisor_killed_whom_the_workers_have_forgotten, a_task_that_terminate_cancels_is_done_at_once,
    free_with_results_pending, free_with_a_getter_blocked, an_idle_worker_leaves_at_once,
    every_order_of_ending, a_crash_after_close, a_stopped_worker_holds_nobody_up,
    a_stopped_supervisor_holds_nobody_up, exit_with_a_live_pool, exit_with_a_pool_at_work,
    what_a_task_prints_comes_out, submission_from_an_exit_handler, program_killed, program_killed_at_random,
    program_and_supervisor_killed_at_once, control_c, control_c_handled_by_the_program, null_and_garbage,
    a_supervisors_pid_given_anew, only_a_workers_own_thread_runs_tasks, a_task_that_returns_in_a_child_too,
    free_while_a_result_is_copied, free_beside_the_last_look_of_a_call, freed_while_its_waiter_runs_it,
    a_future_of_the_dead_while_its_result_is_copied, future_free_while_another_cancels,
    free_with_a_map_that_takes_results, tasks_that_wait_for_each_other_too_deep,
    a_task_that_waits_with_a_timeout, no_room_for_a_replacement_after_close, ended_while_workers_are_replaced,
    ended_while_big_data_moves, odd_timeouts, each_way_to_wait_rests_and_outlasts_signals,
    task_timeout_of_any_length, map_of_a_million_tiny_items)
