/* Queues: order, bounds, sizes, batches, closing, joining, descriptors, queues made late, and killed users.
 */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE \
    ((size_t)1 << 30) /* so that messages whose memory did not come back would exhaust it */
#include "support.h"
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { KIB = 1024, MIB = 1024 * 1024 };
static mproc_queue *queue; /* of the test that runs */
static int *said;          /* what its processes tell each other */

static void begin(size_t maxsize) {
    said = shared_ints();
    queue = mproc_queue_new(maxsize);
    ck_assert_msg(queue != NULL, "no queue: %s", strerror(errno));
}

/* ---- Messages that can be checked -----------------------------------------------------------------------
 */

typedef struct note {
    uint32_t writer, seq;
    uint64_t size; /* of all; what follows the note is a pattern made from it */
} note;

static uint64_t pattern(uint32_t writer, uint32_t seq, size_t i) {
    return (((uint64_t)writer << 32 | seq) + i) * 0x9E3779B97F4A7C15u;
}

static void compose(void *message, uint32_t writer, uint32_t seq, size_t size) {
    note n = {writer, seq, size};
    unsigned char *bytes = message;
    memcpy(bytes, &n, sizeof n);
    for (size_t at = sizeof n; at < size; at += 8) {
        uint64_t word = pattern(writer, seq, at);
        memcpy(bytes + at, &word, size - at < 8 ? size - at : 8);
    }
}

static bool whole(const void *message, size_t size) {
    note n;
    const unsigned char *bytes = message;
    if (size < sizeof n) return false;
    memcpy(&n, bytes, sizeof n);
    if (n.size != size) return false;
    for (size_t at = sizeof n; at < size; at += 8) {
        uint64_t word = pattern(n.writer, n.seq, at);
        if (memcmp(bytes + at, &word, size - at < 8 ? size - at : 8) != 0) return false;
    }
    return true;
}

static uint32_t seq_of(const void *message) {
    note n;
    memcpy(&n, message, sizeof n);
    return n.seq;
}
static uint32_t writer_of(const void *message) {
    note n;
    memcpy(&n, message, sizeof n);
    return n.writer;
}

static void *buffer_of(size_t size) {
    void *buffer = calloc(1, size != 0 ? size : 1);
    MUST(buffer != NULL);
    return buffer;
}

static int put_int(int n, double timeout) { return mproc_queue_put(queue, &n, sizeof n, timeout); }

/* The number got, or the error. */
static int get_int(double timeout) {
    int n = -1;
    ssize_t size = mproc_queue_get(queue, &n, sizeof n, timeout);
    return size == (ssize_t)sizeof n ? n : size < 0 ? (int)size : -9999;
}

static int fill(void) {
    int n = 0;
    while (put_int(n, 0) == 0) n++;
    return n;
}

static bool readable(void) {
    struct pollfd p = {.fd = mproc_queue_fd(queue), .events = POLLIN};
    return p.fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

/* ---- Calls that wait, made by other processes and threads -----------------------------------------------
 */

typedef enum operation { GET, TAKE, GET_MANY, PUT, PUT_MANY, JOIN, OPERATIONS } operation;
static const char *const operation_names[] = {"get", "take", "get_many", "put", "put_many", "join"};

static int call(operation what, double timeout) {
    uint64_t items[4] = {1, 2, 3, 4};
    size_t size;
    switch (what) {
    case GET: return (int)mproc_queue_get(queue, items, sizeof items, timeout);
    case GET_MANY: return (int)mproc_queue_get_many(queue, items, 4, sizeof items[0], timeout);
    case PUT: return mproc_queue_put(queue, items, sizeof items[0], timeout);
    case PUT_MANY: return (int)mproc_queue_put_many(queue, items, 4, sizeof items[0], timeout);
    case JOIN: return mproc_queue_join(queue, timeout);
    default: break;
    }
    void *message = mproc_queue_take(queue, &size, timeout);
    if (message == NULL) return -errno;
    return mproc_free(message) == 0 ? (int)size : -9999;
}

typedef struct actor {
    operation what;
    double timeout;
    int *id;     /* of its thread, once it is about to call */
    int *result; /* of the call */
    int *done;
    int *cpu;  /* microseconds of processor the call took */
    pid_t pid; /* 0: a thread of the test's own process */
    pthread_t thread;
} actor;

static int act(void *arg) {
    actor *a = arg;
    POKE(a->id, (int)syscall(SYS_gettid));
    double before = cpu_seconds();
    int result = call(a->what, a->timeout);
    POKE(a->cpu, (int)((cpu_seconds() - before) * 1e6));
    POKE(a->result, result);
    POKE(a->done, 1);
    return 0;
}

static void *act_thread(void *arg) {
    act(arg);
    return NULL;
}

/* Starts it as number index and waits until it sleeps, which can only be in the call. */
static actor *actor_start(actor *a, int index, operation what, double timeout, bool as_thread) {
    int *places = &said[100 + 4 * index];
    memset(places, 0, 4 * sizeof *places);
    memset(a, 0, sizeof *a);
    a->what = what;
    a->timeout = timeout;
    a->id = places;
    a->result = places + 1;
    a->done = places + 2;
    a->cpu = places + 3;
    if (as_thread) ck_assert_int_eq(pthread_create(&a->thread, NULL, act_thread, a), 0);
    else a->pid = spawn(act, a);
    EVENTUALLY(PEEK(a->id) != 0 && (process_state((pid_t)*a->id) == 'S' || PEEK(a->done) == 1));
    return a;
}

static int actor_result(actor *a) {
    EVENTUALLY(PEEK(a->done) == 1);
    if (a->pid != 0) ck_assert_int_eq(ended(a->pid), 0);
    else ck_assert_int_eq(pthread_join(a->thread, NULL), 0);
    return PEEK(a->result);
}

/* Runs the function in a moment, in a process of its own. */
static pid_t soon(double seconds, int (*work)(void *), void *arg) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        nap(seconds);
        _exit(work(arg));
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

static int put_seven(void *arg) {
    (void)arg;
    return put_int(7, 5) != 0;
}
static int get_one(void *arg) {
    (void)arg;
    return get_int(5) < 0;
}
static int mark_one_done(void *arg) {
    (void)arg;
    return get_int(0) < 0 || mproc_queue_task_done(queue) != 0;
}

/* ---- Order and bounds -----------------------------------------------------------------------------------
 */

START_TEST(que_01_02_07_20_bounded) {
    begin(6);
    ck_assert(mproc_queue_empty(queue) && !mproc_queue_full(queue));
    ck_assert_uint_eq(mproc_queue_qsize(queue), 0);
    for (int i = 0; i < 6; i++) {
        ck_assert(!mproc_queue_full(queue));
        ck_assert_int_eq(put_int(i, i % 2 == 0 ? MPROC_FOREVER : 0), 0);
        ck_assert_uint_eq(mproc_queue_qsize(queue), (unsigned)i + 1);
        ck_assert(!mproc_queue_empty(queue));
    }
    ck_assert(mproc_queue_full(queue));
    TAKES(0, 0.05, ck_assert_int_eq(put_int(6, 0), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(put_int(6, 0.2), MPROC_ETIMEDOUT));
    ck_assert_uint_eq(mproc_queue_qsize(queue), 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(get_int(0), i);
        ck_assert(!mproc_queue_full(queue));
        ck_assert_uint_eq(mproc_queue_qsize(queue), 5 - (unsigned)i);
    }
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(get_int(0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int drain_six(void *arg) {
    (void)arg;
    MUST(mproc_queue_qsize(queue) == 6 && mproc_queue_full(queue) && !mproc_queue_empty(queue));
    for (int i = 0; i < 6; i++) MUST_EQ(get_int(1), i);
    MUST(mproc_queue_qsize(queue) == 0 && !mproc_queue_full(queue) && mproc_queue_empty(queue));
    return 0;
}

START_TEST(que_03_jq_05_drained_by_another_process) {
    begin(6);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(put_int(i, 0), 0);
    ck_assert_int_eq(ended(spawn(drain_six, NULL)), 0);
    ck_assert(mproc_queue_empty(queue) && !mproc_queue_full(queue));
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int put_2_to_5(void *arg) {
    (void)arg;
    for (int i = 2; i <= 5; i++) MUST_EQ(put_int(i, MPROC_FOREVER), 0);
    return 0;
}

START_TEST(que_04_05_08_blocking_timed_and_polling_gets) {
    begin(0);
    pid_t pid = spawn(put_2_to_5, NULL);
    ck_assert_int_eq(get_int(MPROC_FOREVER), 2);
    ck_assert_int_eq(get_int(5), 3);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(get_int(0), 4);
    ck_assert_int_eq(get_int(0), 5);
    TAKES(0, 0.05, ck_assert_int_eq(get_int(0), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(get_int(0.2), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int put_10_to_19(void *arg) {
    (void)arg;
    for (int i = 10; i < 20; i++) MUST_EQ(put_int(i, 1), 0);
    return 0;
}

START_TEST(que_06_child_made_after_the_queue_was_used) {
    begin(0);
    for (int i = 0; i < 10; i++) ck_assert_int_eq(put_int(i, 1), 0);
    ck_assert_int_eq(ended(spawn(put_10_to_19, NULL)), 0);
    for (int i = 0; i < 20; i++) ck_assert_int_eq(get_int(1), i);
    ck_assert_int_eq(get_int(0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(que_09_10_a_refused_message_takes_no_place) {
    begin(1);
    const size_t too_large[] = {SIZE_MAX,         SIZE_MAX - 15, SIZE_MAX - 63,
                                SIZE_MAX / 2 + 1, SIZE_MAX / 2,  MPROC_ARENA_SIZE};
    for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++) {
        int error = mproc_queue_put(queue, &error, too_large[i], 0);
        ck_assert_msg(error < 0 && error != MPROC_ETIMEDOUT, "put of %zu bytes: %d", too_large[i], error);
        ck_assert_uint_eq(mproc_queue_qsize(queue), 0);
    }
    ck_assert(!mproc_queue_full(queue) && !readable());
    ck_assert_int_eq(put_int(5, 0), 0);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 1);
    ck_assert_int_eq(get_int(0), 5);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0); /* nor a place in the count */
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(que_19_21_blocked_calls_end_with_the_opposite_call) {
    actor a;
    begin(1);
    actor_start(&a, 0, GET, -0.25, false); /* negative: for ever */
    ck_assert_int_eq(PEEK(a.done), 0);
    ck_assert_int_eq(put_int(1, 0), 0);
    ck_assert_int_eq(actor_result(&a), sizeof(int));
    ck_assert_int_eq(put_int(2, 0), 0);
    actor_start(&a, 0, PUT, MPROC_FOREVER, false);
    ck_assert_int_eq(PEEK(a.done), 0);
    ck_assert_int_eq(get_int(0), 2);
    ck_assert_int_eq(actor_result(&a), 0);
    ck_assert_int_eq(call(GET, 0), 8);

    pid_t pid = soon(0.3, put_seven, NULL);
    TAKES(0.25, 0.5, ck_assert_int_eq(get_int(-1), 7));
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(put_int(8, 0), 0);
    pid = soon(0.3, get_one, NULL);
    TAKES(0.25, 0.5, ck_assert_int_eq(put_int(9, -1), 0));
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(get_int(0), 9);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int drain_true_false(void *arg) {
    (void)arg;
    MUST(!mproc_queue_empty(queue));
    MUST_EQ(get_int(0), true);
    MUST_EQ(get_int(0), false);
    MUST(mproc_queue_empty(queue));
    return 0;
}

START_TEST(que_23_unbounded_is_truly_empty) {
    begin(0);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(put_int(true, 0), 0);
    ck_assert_int_eq(put_int(false, 0), 0);
    ck_assert(!mproc_queue_empty(queue));
    ck_assert_int_eq(ended(spawn(drain_true_false, NULL)), 0);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* The library in a constructor, before main(), in a process of its own so that the tests do not share it. */
static int constructor_result = -1;
static void __attribute__((constructor)) use_before_main(void) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        queue = mproc_queue_new(0);
        _exit(queue != NULL && put_int(42, 0) == 0 && get_int(3) == 42 ? 0 : 1);
    }
    if (pid > 0 && waitpid(pid, &status, 0) == pid) constructor_result = status;
}

START_TEST(que_14_works_before_main) { ck_assert_int_eq(constructor_result, 0); }
END_TEST

/* ---- Sizes ----------------------------------------------------------------------------------------------
 */

START_TEST(issue_666_messages_of_any_size_fit) {
    const size_t sizes[] = {1, 100 * KIB};
    begin(666);
    char *message = buffer_of(100 * KIB), *got = buffer_of(100 * KIB);
    for (size_t s = 0; s < 2; s++) {
        for (int i = 0; i < 666; i++) {
            memset(message, i, sizes[s]);
            ck_assert_int_eq(mproc_queue_put(queue, message, sizes[s], 0), 0);
        }
        ck_assert_uint_eq(mproc_queue_qsize(queue), 666);
        ck_assert(mproc_queue_full(queue));
        ck_assert_int_eq(mproc_queue_put(queue, message, sizes[s], 0), MPROC_ETIMEDOUT);
        for (int i = 0; i < 666; i++) {
            memset(message, i, sizes[s]);
            ck_assert_int_eq(mproc_queue_get(queue, got, 100 * KIB, 0), (ssize_t)sizes[s]);
            ck_assert_int_eq(memcmp(message, got, sizes[s]), 0);
        }
        ck_assert(mproc_queue_empty(queue));
    }
    free(message);
    free(got);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(messages_of_no_bytes) {
    begin(3);
    size_t size = 77;
    char byte = 'z';
    ck_assert_int_eq(mproc_queue_put(queue, NULL, 0, 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, &byte, 0, 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, "", 0, 0), 0);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 3);
    ck_assert(mproc_queue_full(queue) && readable());
    ck_assert_int_eq(mproc_queue_get(queue, &byte, 1, 0), 0);
    ck_assert_int_eq(byte, 'z');
    ck_assert_int_eq(mproc_queue_get(queue, NULL, 0, 0), 0);
    void *message = mproc_queue_take(queue, &size, 0);
    ck_assert_ptr_nonnull(message);
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(mproc_free(message), 0);
    ck_assert(mproc_queue_empty(queue) && !readable());
    ck_assert_int_eq(mproc_queue_get(queue, NULL, 0, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_queue_put_many(queue, NULL, 3, 0, 0), 3);
    ck_assert_int_eq(mproc_queue_get_many(queue, NULL, 3, 0, 0), 3);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(x41_sizes) {
    const size_t sizes[] = {4095,   4096,   4097,        65535,   65536,   65537,         212991,
                            212992, 212993, MIB - 1 + 0, MIB + 1, 8 * MIB, 256u * MIB - 7};
    begin(0);
    unsigned char *sent = buffer_of(1 * MIB), *got = buffer_of(1 * MIB);
    for (size_t i = 0; i < MIB; i++) sent[i] = (unsigned char)(i * 31 + (i >> 8));
    for (size_t size = 0; size < 600; size++) { /* every way to fit into a frame or not */
        ck_assert_int_eq(mproc_queue_put(queue, sent + size, size, 0), 0);
        ck_assert_int_eq(mproc_queue_put(queue, sent, size, 0), 0);
        memset(got, 0xee, 700);
        ck_assert_int_eq(mproc_queue_get(queue, got, size, 0), (ssize_t)size);
        ck_assert_int_eq(memcmp(got, sent + size, size), 0);
        ck_assert_int_eq(got[size], 0xee);
        size_t taken = 1;
        void *message = mproc_queue_take(queue, &taken, 0);
        ck_assert_ptr_nonnull(message);
        ck_assert_uint_eq(taken, size);
        ck_assert_int_eq(memcmp(message, sent, size), 0);
        ck_assert_int_eq(mproc_free(message), 0);
    }
    free(sent);
    free(got);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t taken;
        sent = buffer_of(sizes[i]);
        compose(sent, 1, (uint32_t)i, sizes[i]);
        ck_assert_int_eq(mproc_queue_put(queue, sent, sizes[i], 0), 0);
        if (sizes[i] <= 8 * MIB) {
            memset(sent, 0, sizes[i]);
            ck_assert_int_eq(mproc_queue_get(queue, sent, sizes[i], 0), (ssize_t)sizes[i]);
            ck_assert(whole(sent, sizes[i]));
            ck_assert_int_eq(mproc_queue_put(queue, sent, sizes[i], 0), 0);
        }
        free(sent);
        void *message = mproc_queue_take(queue, &taken, 0);
        ck_assert_ptr_nonnull(message);
        ck_assert_uint_eq(taken, sizes[i]);
        ck_assert(whole(message, taken));
        ck_assert_int_eq(mproc_free(message), 0);
    }
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(maxsize_100000_holds_or_is_refused) {
    int fds = open_fds();
    said = shared_ints();
    errno = 0;
    queue = mproc_queue_new(100000);
    if (queue == NULL) {
        ck_assert_int_ne(errno, 0);
        ck_assert_int_eq(open_fds(), fds);
        return;
    }
    for (int i = 0; i < 100000; i++) {
        if (put_int(i, 0) != 0) ck_abort_msg("message %d of 100000 does not fit", i);
    }
    ck_assert_int_eq(put_int(0, 0), MPROC_ETIMEDOUT);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 100000);
    for (int i = 0; i < 100000; i++) {
        if (get_int(0) != i) ck_abort_msg("message %d is not what was put", i);
    }
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

START_TEST(maxsize_that_cannot_be_is_refused) {
    const size_t sizes[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 64 + 1, (size_t)1 << 31, (size_t)1 << 26};
    ck_assert_int_eq(mproc_queue_free(mproc_queue_new(1)), 0);
    int fds = open_fds();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        errno = 0;
        queue = mproc_queue_new(sizes[i]);
        ck_assert_ptr_null(queue);
        ck_assert_int_ne(errno, 0);
    }
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

static int get_large(void *arg) {
    const size_t *size = arg;
    unsigned char *buffer = buffer_of(200 * KIB);
    MUST(readable());
    MUST_EQ(mproc_queue_get(queue, buffer, 200 * KIB, 1), (ssize_t)*size);
    MUST(whole(buffer, *size));
    MUST_EQ(seq_of(buffer), 1);
    return 0;
}

START_TEST(emsgsize_leaves_the_message_first) {
    size_t sizes[] = {17, 40, 100, 5000, 100 * KIB};
    unsigned char *buffer = buffer_of(200 * KIB);
    begin(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        compose(buffer, 0, 1, sizes[i]);
        ck_assert_int_eq(mproc_queue_put(queue, buffer, sizes[i], 0), 0);
        compose(buffer, 0, 2, 16);
        ck_assert_int_eq(mproc_queue_put(queue, buffer, 16, 0), 0);
        const double timeouts[] = {0, 5, MPROC_FOREVER};
        for (size_t t = 0; t < 3; t++) {
            buffer[0] = 0xee;
            ck_assert_int_eq(mproc_queue_get(queue, buffer, 16, timeouts[t]), MPROC_EMSGSIZE);
            ck_assert_int_eq(mproc_queue_get(queue, NULL, 0, timeouts[t]), MPROC_EMSGSIZE);
            ck_assert_int_eq(mproc_queue_get(queue, buffer, sizes[i] - 1, timeouts[t]), MPROC_EMSGSIZE);
            ck_assert_int_eq(mproc_queue_get_many(queue, buffer, 4, 16, timeouts[t]), MPROC_EMSGSIZE);
            ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
            ck_assert(!mproc_queue_empty(queue) && readable());
        }
        if (i % 2 == 0) {
            ck_assert_int_eq(mproc_queue_get(queue, buffer, sizes[i], 0), (ssize_t)sizes[i]);
            ck_assert(whole(buffer, sizes[i]) && seq_of(buffer) == 1);
        } else {
            ck_assert_int_eq(ended(spawn(get_large, &sizes[i])), 0);
        }
        ck_assert_uint_eq(mproc_queue_qsize(queue), 1);
        ck_assert(readable());
        ck_assert_int_eq(mproc_queue_get(queue, buffer, 16, 0), 16);
        ck_assert_int_eq(seq_of(buffer), 2);
        ck_assert(mproc_queue_empty(queue) && !readable());
    }
    ck_assert_int_eq(mproc_queue_join(queue, 0), MPROC_ETIMEDOUT);
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++)
        ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0); /* a message left is counted once */
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    free(buffer);
}
END_TEST

/* A put within a bound that began before getters took care, and goes on once they do. */
static void *put_beside_care(void *arg) {
    (void)arg;
    mproc__queue_enter(queue);
    ck_assert_int_eq(mproc__mutex_lock(&queue->put_lock, 0), 0);
    POKE(&said[0], 1);
    while (!MPROC__LOAD(&queue->careful)) sched_yield();
    mproc_queue_qsize(queue);
    mproc__mutex_unlock(&queue->put_lock);
    mproc__queue_leave();
    return NULL;
}
START_TEST(emsgsize_does_not_wait_with_a_put_within_bounds) {
    char small[1];
    double took = 1;
    for (int k = 0; k < 3 && took > 0.03 * SLOW; k++) {
        pthread_t putter;
        begin(3);
        ck_assert_int_eq(put_int(7, 0), 0);
        ck_assert_int_eq(pthread_create(&putter, NULL, put_beside_care, NULL), 0);
        EVENTUALLY(PEEK(&said[0]) == 1);
        double before = now();
        ck_assert_int_eq(mproc_queue_get(queue, small, 1, 0), MPROC_EMSGSIZE);
        took = now() - before;
        ck_assert_int_eq(pthread_join(putter, NULL), 0);
        ck_assert_int_eq(get_int(0), 7);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
    ck_assert_msg(took <= 0.03 * SLOW, "it took %.3f s", took);
}
END_TEST

START_TEST(emsgsize_in_a_full_queue_and_before_the_end) {
    unsigned char buffer[1000];
    actor a;
    begin(2);
    compose(buffer, 0, 1, 500);
    ck_assert_int_eq(mproc_queue_put(queue, buffer, 500, 0), 0);
    compose(buffer, 0, 2, 600);
    ck_assert_int_eq(mproc_queue_put(queue, buffer, 600, 0), 0);
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 499, 0), MPROC_EMSGSIZE);
    ck_assert(mproc_queue_full(queue));
    ck_assert_int_eq(mproc_queue_put(queue, buffer, 10, 0), MPROC_ETIMEDOUT); /* it still has its place */
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 500, 0), 500);
    ck_assert_int_eq(seq_of(buffer), 1);
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 500, 0), MPROC_EMSGSIZE);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 500, 0), MPROC_EMSGSIZE);
    ck_assert_int_eq(actor_result(actor_start(&a, 0, GET, 1, false)), MPROC_EMSGSIZE); /* 32 bytes of room */
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 600, 0), 600);
    ck_assert_int_eq(seq_of(buffer), 2);
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 600, 0), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

enum { RACE_MESSAGES = 4000 };
typedef struct reader {
    size_t capacity;
    unsigned char *seen; /* shared: one byte a message */
} reader;

static int race_for_messages(void *arg) {
    reader *r = arg;
    unsigned char *buffer = buffer_of(r->capacity);
    uint32_t last = 0;
    for (;;) {
        ssize_t size = mproc_queue_get(queue, buffer, r->capacity, MPROC_FOREVER);
        if (size == MPROC_ECLOSED) return 0;
        if (size == MPROC_EMSGSIZE) {
            sched_yield(); /* for somebody with more room */
            continue;
        }
        MUST(size > 0 && whole(buffer, (size_t)size));
        MUST(seq_of(buffer) > last); /* first in, first out, for each reader */
        last = seq_of(buffer);
        MUST_EQ(BUMP(&r->seen[last]), 1);
    }
}

START_TEST(emsgsize_readers_with_little_and_much_room) {
    uint64_t seed = make_seed("readers with little and much room");
    pid_t pids[4];
    unsigned char *buffer = buffer_of(64 * KIB);
    begin(0);
    unsigned char *seen = mproc_shm_new(RACE_MESSAGES + 1);
    reader little = {64, seen}, much = {64 * KIB, seen};
    for (int i = 0; i < 4; i++) pids[i] = spawn(race_for_messages, i < 2 ? &little : &much);
    for (uint32_t i = 1; i <= RACE_MESSAGES; i++) {
        size_t size = 16 + draw(&seed) % (draw(&seed) % 2 == 0 ? 49 : 20000);
        compose(buffer, 0, i, size);
        if (mproc_queue_put(queue, buffer, size, 10 * SLOW) != 0) ck_abort_msg("put %u", i);
    }
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(ended(pids[i]), 0);
    for (uint32_t i = 1; i <= RACE_MESSAGES; i++) ck_assert_int_eq(seen[i], 1);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    free(buffer);
}
END_TEST

/* ---- Batches --------------------------------------------------------------------------------------------
 */

static int take_slowly(void *arg) {
    int n = *(const int *)arg;
    for (int i = 0; i < n; i++) MUST_EQ(get_int(10), i);
    return 0;
}

START_TEST(many_at_once) {
    const size_t sizes[] = {1, 8, 48, 100, 5000};
    enum { N = 200 };
    begin(0);
    unsigned char *items = buffer_of(N * 5000), *got = buffer_of(N * 5000);
    for (size_t i = 0; i < N * 5000; i++) items[i] = (unsigned char)(i * 13 + (i >> 8));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        ck_assert_int_eq(mproc_queue_put_many(queue, items, N, sizes[s], 0), N);
        ck_assert_uint_eq(mproc_queue_qsize(queue), N);
        size_t n = 0;
        while (n < N) {
            ssize_t more = mproc_queue_get_many(queue, got + n * sizes[s], N - n, sizes[s], 0);
            ck_assert_int_gt(more, 0);
            n += (size_t)more;
            ck_assert_uint_eq(mproc_queue_qsize(queue), N - n);
        }
        ck_assert_int_eq(memcmp(items, got, N * sizes[s]), 0);
        ck_assert_int_eq(mproc_queue_get_many(queue, got, N, sizes[s], 0), MPROC_ETIMEDOUT);
    }
    free(items);
    free(got);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(many_in_a_bounded_queue) {
    int items[3000], got[30];
    begin(10);
    for (int i = 0; i < 3000; i++) items[i] = i;
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_queue_put_many(queue, items, 25, sizeof(int), 0.2), 10));
    ck_assert(mproc_queue_full(queue));
    ck_assert_int_eq(mproc_queue_put_many(queue, items, 25, sizeof(int), 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_queue_get_many(queue, got, 7, sizeof(int), 0), 7);
    ck_assert_int_eq(memcmp(items, got, 7 * sizeof(int)), 0);
    ck_assert_int_eq(mproc_queue_put_many(queue, items + 10, 9, sizeof(int), 0), 7);
    ck_assert_int_eq(mproc_queue_get_many(queue, got, 30, sizeof(int), 1), 10); /* not waiting for 30 */
    ck_assert_int_eq(memcmp(items + 7, got, 10 * sizeof(int)), 0);
    ck_assert(mproc_queue_empty(queue));

    int n = 3000;
    pid_t pid = spawn(take_slowly, &n);
    ck_assert_int_eq(mproc_queue_put_many(queue, items, 3000, sizeof(int), MPROC_FOREVER), 3000);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);

    begin(0); /* and more than a pipe holds */
    int large = 200000;
    int *numbers = buffer_of((size_t)large * sizeof(int));
    for (int i = 0; i < large; i++) numbers[i] = i;
    pid = spawn(take_slowly, &large);
    ck_assert_int_eq(mproc_queue_put_many(queue, numbers, (size_t)large, sizeof(int), MPROC_FOREVER), large);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    free(numbers);
}
END_TEST

START_TEST(many_of_mixed_sizes) {
    char got[6][8];
    begin(0);
    ck_assert_int_eq(mproc_queue_put(queue, "abc", 3, 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, "", 0, 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, "12345678", 8, 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, "123456789", 9, 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, "x", 1, 0), 0);
    memset(got, 0xee, sizeof got);
    ck_assert_int_eq(mproc_queue_get_many(queue, got, 6, 8, 0), 3); /* the fourth does not fit */
    ck_assert_int_eq(memcmp(got[0], "abc\0\0\0\0\0", 8), 0);
    ck_assert_int_eq(memcmp(got[1], "\0\0\0\0\0\0\0\0", 8), 0);
    ck_assert_int_eq(memcmp(got[2], "12345678", 8), 0);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
    ck_assert_int_eq(mproc_queue_get_many(queue, got, 6, 8, 0), MPROC_EMSGSIZE);
    char large[9];
    ck_assert_int_eq(mproc_queue_get(queue, large, 9, 0), 9);
    ck_assert_int_eq(memcmp(large, "123456789", 9), 0);
    ck_assert_int_eq(mproc_queue_get_many(queue, got, 6, 8, 0), 1);
    ck_assert_int_eq(got[0][0], 'x');
    ssize_t none = mproc_queue_put_many(queue, large, 0, 8, 0);
    ck_assert(none == 0 || none == MPROC_EINVAL);
    ck_assert_int_lt(mproc_queue_put_many(queue, large, SIZE_MAX, 8, 0), 0);
    ck_assert_int_lt(mproc_queue_put_many(queue, large, SIZE_MAX / 8 + 2, 8, 0), 0);
    ck_assert_int_lt(mproc_queue_put_many(queue, large, 1, SIZE_MAX, 0), 0);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(put_int(1, 0), 0);
    ck_assert_int_lt(mproc_queue_get_many(queue, got, SIZE_MAX / 8 + 2, 8, 0), 0);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 1);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- take -----------------------------------------------------------------------------------------------
 */

static int free_it(void *arg) {
    MUST(whole(arg, 50 * KIB));
    return mproc_free(arg) != 0;
}

START_TEST(a_taken_message_is_shared_memory_of_its_own) {
    size_t size = 0;
    unsigned char *buffer = buffer_of(50 * KIB);
    begin(0);
    errno = 0;
    ck_assert_ptr_null(mproc_queue_take(queue, &size, 0));
    ck_assert_int_eq(errno, ETIMEDOUT);
    errno = 0;
    TAKES(0.1, 0.2, ck_assert_ptr_null(mproc_queue_take(queue, &size, 0.1)));
    ck_assert_int_eq(errno, ETIMEDOUT);
    compose(buffer, 3, 4, 50 * KIB);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_queue_put(queue, buffer, 50 * KIB, 0), 0);
    compose(buffer, 3, 5, 20);
    ck_assert_int_eq(mproc_queue_put(queue, buffer, 20, 0), 0);
    unsigned char *one = mproc_queue_take(queue, &size, 0);
    ck_assert_ptr_nonnull(one);
    ck_assert_uint_eq(size, 50 * KIB);
    unsigned char *two = mproc_queue_take(queue, &size, 0), *three = mproc_queue_take(queue, &size, 0);
    ck_assert_ptr_nonnull(three);
    ck_assert_uint_eq(size, 20);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    ck_assert(whole(one, 50 * KIB) && whole(two, 50 * KIB) && whole(three, 20)); /* outlive their queue */
    ck_assert_int_eq(ended(spawn(free_it, one)), 0);                             /* by any process */
    ck_assert_int_eq(mproc_free(one), MPROC_EINVAL);
    ck_assert_int_eq(mproc_free(two), 0);
    ck_assert_int_eq(mproc_free(three), 0);
    free(buffer);
}
END_TEST

/* ---- Closing --------------------------------------------------------------------------------------------
 */

START_TEST(que_12_13_16_24_26_x51_after_close) {
    uint64_t items[2] = {0, 0};
    size_t size;
    for (size_t maxsize = 0; maxsize < 10; maxsize += 5) {
        begin(maxsize);
        ck_assert_int_eq(put_int(1, 0), 0);
        ck_assert_int_eq(put_int(2, 0), 0);
        ck_assert_int_eq(mproc_queue_close(queue), 0);
        ck_assert_int_eq(mproc_queue_close(queue), 0);
        TAKES(0, 0.01, ck_assert_int_eq(put_int(3, MPROC_FOREVER), MPROC_ECLOSED));
        ck_assert_int_eq(put_int(3, 0), MPROC_ECLOSED);
        ck_assert_int_eq(mproc_queue_put_many(queue, items, 2, 8, 1), MPROC_ECLOSED);
        ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
        ck_assert(!mproc_queue_empty(queue));
        ck_assert_int_eq(get_int(MPROC_FOREVER), 1);
        ck_assert_int_eq(get_int(0), 2);
        TAKES(0, 0.01, ck_assert_int_eq(get_int(MPROC_FOREVER), MPROC_ECLOSED));
        ck_assert_int_eq(get_int(0), MPROC_ECLOSED);
        errno = 0;
        ck_assert_ptr_null(mproc_queue_take(queue, &size, MPROC_FOREVER));
        ck_assert_int_eq(errno, EPIPE);
        ck_assert_int_eq(mproc_queue_get_many(queue, items, 2, 8, MPROC_FOREVER), MPROC_ECLOSED);
        ck_assert(mproc_queue_empty(queue));
        ck_assert_uint_eq(mproc_queue_qsize(queue), 0);
        ck_assert_int_eq(mproc_queue_join(queue, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_queue_task_done(queue), 0);
        ck_assert_int_eq(mproc_queue_task_done(queue), 0);
        ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL);
        ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
}
END_TEST

START_TEST(que_15_x51_close_wakes_blocked_getters) {
    const operation getters[] = {GET, TAKE, GET_MANY};
    actor actors[6];
    begin(0);
    for (int i = 0; i < 6; i++) actor_start(&actors[i], i, getters[i % 3], MPROC_FOREVER, i >= 3);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(PEEK(actors[i].done), 0);
    double closed = now();
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(actor_result(&actors[i]), MPROC_ECLOSED);
    ck_assert_msg(now() - closed < 1 * SLOW, "woken after %.3f s", now() - closed);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* Makes the queue one in which this operation waits. */
static void make_it_wait(operation what, size_t maxsize) {
    begin(maxsize);
    if (what == PUT || what == PUT_MANY) fill();
    if (what == JOIN) ck_assert_int_eq(put_int(1, 0), 0);
}

/* How long close takes to wake the last of six that sleep. */
static double woken_after(operation what, size_t maxsize) {
    actor actors[6];
    make_it_wait(what, maxsize);
    for (int i = 0; i < 6; i++) actor_start(&actors[i], i, what, MPROC_FOREVER, i >= 3);
    double closed = now();
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(actor_result(&actors[i]), MPROC_ECLOSED);
    double took = now() - closed;
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    return took;
}

/* Not only when their sleep's slice ends. Three tries, for the machine may be busy. */
START_TEST(x51_close_wakes_all_at_once) {
    const operation whats[] = {GET, TAKE, GET_MANY, PUT, PUT_MANY};
    for (int i = 0; i < 10; i++) {
        double took = 1;
        for (int k = 0; k < 3 && took > 0.03 * SLOW; k++)
            took = woken_after(whats[i / 2], i % 2 == 0 ? 0 : 3);
        ck_assert_msg(took <= 0.03 * SLOW, "%s: woken after %.3f s", operation_names[whats[i / 2]], took);
    }
}
END_TEST

START_TEST(x51_the_fd_tells_that_a_queue_is_closed) {
    begin(0);
    ck_assert(!readable());
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert(readable());
        ck_assert_int_eq(get_int(i - 1), MPROC_ECLOSED);
        ck_assert(mproc_queue_empty(queue));
    }
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(x51_close_wakes_blocked_putters) {
    for (size_t maxsize = 0; maxsize < 6; maxsize += 3) {
        actor actors[4];
        begin(maxsize);
        int n = fill();
        for (int i = 0; i < 4; i++)
            actor_start(&actors[i], i, i % 2 == 0 ? PUT : PUT_MANY, MPROC_FOREVER, i >= 2);
        for (int i = 0; i < 4; i++) ck_assert_int_eq(PEEK(actors[i].done), 0);
        double closed = now();
        ck_assert_int_eq(mproc_queue_close(queue), 0);
        for (int i = 0; i < 4; i++) ck_assert_int_eq(actor_result(&actors[i]), MPROC_ECLOSED);
        ck_assert_msg(now() - closed < 1 * SLOW, "woken after %.3f s", now() - closed);
        ck_assert_uint_eq(mproc_queue_qsize(queue), (size_t)n);
        for (int i = 0; i < n; i++) ck_assert_int_eq(get_int(0), i);
        ck_assert_int_eq(get_int(1), MPROC_ECLOSED);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
}
END_TEST

/* Close and a put that began before do not wait for each other. Nothing that was put comes after the end. */
static void *hold_put_lock_until_closed(void *arg) {
    mproc__mutex_lock(&queue->put_lock, MPROC__NEVER);
    POKE(&said[0], 1);
    while (!MPROC__LOAD(&queue->closed)) sched_yield();
    for (double end = now() + 0.005; !MPROC__LOAD(&queue->careful) && now() < end;) sched_yield();
    mproc__mutex_unlock(&queue->put_lock);
    return arg;
}
START_TEST(x51_close_beside_a_put_within_bounds) {
    double took = 1;
    for (int k = 0; k < 3 && took > 0.03 * SLOW; k++) {
        pthread_t holder;
        actor a;
        begin(3);
        ck_assert_int_eq(pthread_create(&holder, NULL, hold_put_lock_until_closed, NULL), 0);
        EVENTUALLY(PEEK(&said[0]) == 1);
        actor_start(&a, 0, PUT, MPROC_FOREVER, false);
        double before = now();
        ck_assert_int_eq(mproc_queue_close(queue), 0);
        took = now() - before;
        ck_assert_int_eq(call(GET, 0), 8);
        ck_assert_int_eq(call(GET, 0), MPROC_ECLOSED);
        ck_assert_int_eq(actor_result(&a), 0);
        ck_assert_int_eq(pthread_join(holder, NULL), 0);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
    ck_assert_msg(took <= 0.03 * SLOW, "it took %.3f s", took);
}
END_TEST

START_TEST(close_of_a_queue_with_a_batch_half_put) {
    actor a;
    begin(3);
    actor_start(&a, 0, PUT_MANY, MPROC_FOREVER, false); /* four */
    EVENTUALLY(mproc_queue_full(queue));
    ck_assert_int_eq(PEEK(a.done), 0);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(actor_result(&a), 3);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(call(GET, 0), 8);
    ck_assert_int_eq(call(GET, 0), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(x02_que_27_no_sigpipe) {
    struct sigaction before, after;
    signal(SIGPIPE, SIG_DFL);
    sigaction(SIGPIPE, NULL, &before);
    begin(0);
    actor a;
    fill();
    actor_start(&a, 0, PUT, MPROC_FOREVER, false);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(actor_result(&a), MPROC_ECLOSED);
    ck_assert_int_eq(put_int(1, 0), MPROC_ECLOSED);
    sigaction(SIGPIPE, NULL, &after);
    ck_assert(after.sa_handler == SIG_DFL && after.sa_flags == before.sa_flags);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Waiting --------------------------------------------------------------------------------------------
 */

START_TEST(x59_odd_timeouts) {
    const double at_once[] = {0, -0.0, 1e-300, 1e-9, 0.0004}, for_ever[] = {-100, 1e9, 1e300, INFINITY};
    for (int what = GET; what < OPERATIONS; what++) {
        make_it_wait((operation)what, 3);
        size_t n = mproc_queue_qsize(queue);
        for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
            TAKES(at_once[i], 0.05, ck_assert_int_eq(call((operation)what, at_once[i]), MPROC_ETIMEDOUT));
        }
        TAKES(0, 0.05, ck_assert_int_eq(call((operation)what, NAN), MPROC_EINVAL));
        actor actors[4];
        for (int i = 0; i < 4; i++) actor_start(&actors[i], i, (operation)what, for_ever[i], false);
        nap(0.02); /* time enough for one that would not wait */
        for (int i = 0; i < 4; i++) ck_assert_msg(PEEK(actors[i].done) == 0, "%s", operation_names[what]);
        ck_assert_uint_eq(mproc_queue_qsize(queue), n);
        if (what == JOIN) ck_assert_int_eq(mark_one_done(NULL), 0);
        else ck_assert_int_eq(mproc_queue_close(queue), 0);
        for (int i = 0; i < 4; i++)
            ck_assert_int_eq(actor_result(&actors[i]), what == JOIN ? 0 : MPROC_ECLOSED);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
    begin(0); /* NaN is refused also where nobody would have to wait */
    ck_assert_int_eq(mproc_queue_join(queue, NAN), MPROC_EINVAL);
    ck_assert_int_eq(put_int(1, NAN), MPROC_EINVAL);
    ck_assert(mproc_queue_empty(queue));
    for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
        ck_assert_int_eq(put_int((int)i, for_ever[i]), 0);
        ck_assert_int_eq(get_int(NAN), MPROC_EINVAL);
        ck_assert_int_eq(get_int(for_ever[i]), (int)i);
    }
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int get_large_message(void *arg) {
    (void)arg;
    signal_storm(2000);
    unsigned char *buffer = buffer_of(32 * MIB);
    for (uint32_t i = 0; i < 5; i++) {
        MUST_EQ(mproc_queue_get(queue, buffer, 32 * MIB, 10 * SLOW), 32 * MIB);
        MUST(whole(buffer, 32 * MIB) && seq_of(buffer) == i);
    }
    return 0;
}

START_TEST(x01_signals_neither_end_nor_stretch_a_wait) {
    signal_storm(10000);
    for (int what = GET; what < OPERATIONS; what++) {
        make_it_wait((operation)what, what < PUT ? 0 : 3);
        TAKES(0.2, 0.3, ck_assert_int_eq(call((operation)what, 0.2), MPROC_ETIMEDOUT));
        pid_t pid = soon(0.2, what == JOIN ? mark_one_done : what < PUT ? put_seven : get_one, NULL);
        if (what == PUT_MANY) { /* room for one only: the rest times out */
            TAKES(0.5, 0.6, ck_assert_int_eq(call(PUT_MANY, 0.5), 1));
        } else {
            int result = what == GET || what == TAKE ? (int)sizeof(int) : what == GET_MANY ? 1 : 0;
            TAKES(0.1, 0.4, ck_assert_int_eq(call((operation)what, MPROC_FOREVER), result));
        }
        ck_assert_int_eq(ended(pid), 0);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
    begin(2);
    signal_storm(2000);
    pid_t pid = spawn(get_large_message, NULL);
    unsigned char *buffer = buffer_of(32 * MIB);
    for (uint32_t i = 0; i < 5; i++) {
        compose(buffer, 0, i, 32 * MIB);
        ck_assert_int_eq(mproc_queue_put(queue, buffer, 32 * MIB, 10 * SLOW), 0);
    }
    ck_assert_int_eq(ended(pid), 0);
    signal_storm(0);
    free(buffer);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(x59_waiting_uses_no_processor) {
    mproc_queue *queues[OPERATIONS + 2];
    actor actors[OPERATIONS + 2];
    for (int i = 0; i < OPERATIONS + 2; i++) { /* the last two: puts into a full queue without a bound */
        operation what = i < OPERATIONS ? (operation)i : i == OPERATIONS ? PUT : PUT_MANY;
        int *keep = said;
        make_it_wait(what, i < OPERATIONS ? 3 : 0);
        if (i > 0) said = keep;
        queues[i] = queue;
        actor_start(&actors[i], i, what, 2, false);
    }
    for (int i = 0; i < OPERATIONS + 2; i++) {
        ck_assert_int_eq(actor_result(&actors[i]), MPROC_ETIMEDOUT);
        ck_assert_msg(*actors[i].cpu < 20000 * SLOW, "%s used %d us of processor in 2 s",
                      operation_names[actors[i].what], *actors[i].cpu);
        ck_assert_int_eq(mproc_queue_free(queues[i]), 0);
    }
}
END_TEST

START_TEST(que_28_x44_a_stopped_or_killed_getter_holds_up_nobody) {
    actor a[3];
    begin(0);
    actor_start(&a[0], 0, GET, MPROC_FOREVER, false);
    actor_start(&a[1], 1, GET, MPROC_FOREVER, false);
    kill(a[0].pid, SIGSTOP);
    EVENTUALLY(process_state(a[0].pid) == 'T');
    kill(a[1].pid, SIGKILL);
    ck_assert_int_eq(ended(a[1].pid), -SIGKILL);
    ck_assert_int_eq(put_int(1, 0), 0);
    TAKES(0, 0.5, ck_assert_int_eq(get_int(3), 1)); /* polled: the two others cannot have taken it */
    actor_start(&a[2], 2, GET, 5, false);
    double put = now();
    ck_assert_int_eq(put_int(2, 0), 0);
    ck_assert_int_eq(actor_result(&a[2]), sizeof(int)); /* though the wake-up may have gone to the others */
    ck_assert_msg(now() - put < 1 * SLOW, "got after %.3f s", now() - put);
    kill(a[0].pid, SIGCONT);
    ck_assert_int_eq(put_int(3, 0), 0);
    ck_assert_int_eq(actor_result(&a[0]), sizeof(int));
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int hold_get_lock(void *arg) {
    int fd[2], error;
    (void)arg;
    MUST_EQ(mproc__port_fds(&queue->port, fd), 0);
    mproc__queue_get_lock(queue, fd[0], MPROC__NEVER, &error);
    MUST_EQ(error, 0);
    POKE(&said[0], 1);
    await(&said[1], 1);
    mproc__mutex_unlock(&queue->get_lock);
    return 0;
}

/* A getter whose buffer may be too small needs a lock. Who waits for that all its time loses no message. */
static void hold_getters_up(bool killed) {
    char large[100] = "";
    begin(0);
    ck_assert_int_eq(mproc_queue_put(queue, large, sizeof large, 0), 0);
    ck_assert_int_eq(mproc_queue_get(queue, large, sizeof large, 0), sizeof large);
    pid_t pid = spawn(hold_get_lock, NULL);
    EVENTUALLY(PEEK(&said[0]) == 1);
    ck_assert_int_eq(put_int(1, 0), 0);
    TAKES(0.2, 0.3, ck_assert_int_eq(get_int(0.2), MPROC_ETIMEDOUT));
    TAKES(0, 0.1, ck_assert_int_eq(get_int(0), MPROC_ETIMEDOUT));
    ck_assert_uint_eq(mproc_queue_qsize(queue), 1);
    ck_assert_int_eq(put_int(2, 0), 0);
    if (killed) kill(pid, SIGKILL);
    else POKE(&said[1], 1);
    TAKES(0, 0.5, ck_assert_int_eq(get_int(3), 1));
    ck_assert_int_eq(get_int(0), 2);
    ck_assert_int_eq(ended(pid), killed ? -SIGKILL : 0);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
START_TEST(que_28_a_getter_that_holds_the_lock_costs_others_time_only) { hold_getters_up(false); }
END_TEST
START_TEST(que_28_a_getter_killed_with_the_lock_holds_up_nobody) { hold_getters_up(true); }
END_TEST

START_TEST(a_stopped_or_killed_putter_holds_up_nobody) {
    for (size_t maxsize = 0; maxsize < 4; maxsize += 2) {
        actor a[3];
        begin(maxsize);
        int n = fill();
        for (int i = 0; i < 2; i++) actor_start(&a[i], i, PUT, MPROC_FOREVER, false);
        kill(a[0].pid, SIGSTOP);
        EVENTUALLY(process_state(a[0].pid) == 'T');
        kill(a[1].pid, SIGKILL);
        ck_assert_int_eq(ended(a[1].pid), -SIGKILL);
        ck_assert_uint_eq(mproc_queue_qsize(queue), (size_t)n);
        actor_start(&a[2], 2, PUT, 5, false);
        for (int i = 0; i < n; i++) ck_assert_int_eq(get_int(3), i);
        ck_assert_int_eq(actor_result(&a[2]), 0);
        ck_assert_int_eq(put_int(7, 1), 0);
        kill(a[0].pid, SIGCONT);
        ck_assert_int_eq(call(GET, 1), 8);
        ck_assert_int_eq(actor_result(&a[0]), 0);
        ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
}
END_TEST

START_TEST(x49_a_put_that_timed_out_left_nothing) {
    for (size_t maxsize = 0; maxsize < 4; maxsize += 2) {
        begin(maxsize);
        unsigned char *buffer = buffer_of(1 * MIB);
        uint32_t n = 0;
        size_t size = maxsize == 0 ? 5000 : 1 * MIB;
        do compose(buffer, 0, n, size);
        while (mproc_queue_put(queue, buffer, size, 0) == 0 && ++n < 100000);
        ck_assert(maxsize == 0 ? n >= 100 : n == 2);
        TAKES(0.5, 0.6, ck_assert_int_eq(mproc_queue_put(queue, buffer, size, 0.5), MPROC_ETIMEDOUT));
        ck_assert_uint_eq(mproc_queue_qsize(queue), n);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert_int_eq(mproc_queue_get(queue, buffer, MIB, 0), (ssize_t)size);
            ck_assert(whole(buffer, size) && seq_of(buffer) == i);
        }
        ck_assert_int_eq(mproc_queue_get(queue, buffer, MIB, 0), MPROC_ETIMEDOUT);
        free(buffer);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
}
END_TEST

/* ---- Many users -----------------------------------------------------------------------------------------
 */

enum { CROWD = 4, EACH = 1000 };
static double mood(int i) { return i % 3 == 0 ? MPROC_FOREVER : i % 3 == 1 ? 0 : 0.001; }

static void *put_in_crowd(void *arg) {
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < EACH; i++) {
        int error;
        while ((error = put_int(me * EACH + i, mood(i))) == MPROC_ETIMEDOUT) sched_yield();
        MUST_EQ(error, 0);
    }
    return NULL;
}

static void *get_in_crowd(void *arg) {
    int last[CROWD] = {-1, -1, -1, -1}, *seen = arg;
    for (int i = 0;; i++) {
        int n = get_int(mood(i));
        if (n == MPROC_ECLOSED) return NULL;
        if (n == MPROC_ETIMEDOUT) {
            sched_yield();
            continue;
        }
        MUST(n >= 0 && n < CROWD * EACH);
        MUST(n > last[n / EACH]);
        last[n / EACH] = n;
        MUST_EQ(BUMP(&seen[n]), 1);
    }
}

START_TEST(que_22_many_threads) {
    static int seen[CROWD * EACH];
    pthread_t putters[CROWD], getters[CROWD];
    begin(20);
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(pthread_create(&getters[i], NULL, get_in_crowd, seen), 0);
        ck_assert_int_eq(pthread_create(&putters[i], NULL, put_in_crowd, (void *)(intptr_t)i), 0);
    }
    for (int i = 0; i < CROWD; i++) ck_assert_int_eq(pthread_join(putters[i], NULL), 0);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    for (int i = 0; i < CROWD; i++) ck_assert_int_eq(pthread_join(getters[i], NULL), 0);
    for (int i = 0; i < CROWD * EACH; i++) ck_assert_int_eq(seen[i], 1);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

enum { WRITERS = 8, READERS = 4, LETTERS = 2500, LARGEST = 200 * KIB };
typedef struct crowd {
    uint64_t seed;
    unsigned char *seen; /* shared: WRITERS * LETTERS */
    int id;
} crowd;

static int write_letters(void *arg) {
    crowd *c = arg;
    unsigned char *buffer = buffer_of(LARGEST);
    for (uint32_t i = 0; i < LETTERS;) {
        size_t size = sizeof(note) + draw(&c->seed) % ((size_t)1 << draw(&c->seed) % 18);
        if (draw(&c->seed) % 500 == 0) size = LARGEST;
        if (c->id % 4 == 3 && i + 10 <= LETTERS) { /* ten at once */
            size = sizeof(note) + size % 4000;
            for (uint32_t k = 0; k < 10; k++) compose(buffer + k * size, (uint32_t)c->id, i + k, size);
            MUST_EQ(mproc_queue_put_many(queue, buffer, 10, size, MPROC_FOREVER), 10);
            i += 10;
        } else {
            compose(buffer, (uint32_t)c->id, i, size);
            MUST_EQ(mproc_queue_put(queue, buffer, size, MPROC_FOREVER), 0);
            i++;
        }
    }
    return 0;
}

static void read_letter(crowd *c, int64_t *last, const unsigned char *letter, size_t size) {
    MUST(whole(letter, size));
    uint32_t writer = writer_of(letter), seq = seq_of(letter);
    MUST(writer < WRITERS && seq < LETTERS && seq > last[writer]);
    last[writer] = seq;
    MUST_EQ(BUMP(&c->seen[writer * LETTERS + seq]), 1);
}

static int read_letters(void *arg) {
    crowd *c = arg;
    int64_t last[WRITERS] = {-1, -1, -1, -1, -1, -1, -1, -1};
    unsigned char *buffer = buffer_of((size_t)8 * LARGEST);
    for (;;) {
        ssize_t size;
        if (c->id == 0) { /* each reader in its own way */
            size_t taken = 0;
            unsigned char *letter = mproc_queue_take(queue, &taken, MPROC_FOREVER);
            size = letter != NULL ? (ssize_t)taken : -errno;
            if (letter != NULL) read_letter(c, last, letter, taken);
            MUST_EQ(mproc_free(letter), 0);
        } else if (c->id == 1) {
            size = mproc_queue_get_many(queue, buffer, 8, LARGEST, MPROC_FOREVER);
            for (ssize_t i = 0; i < size; i++) {
                note n;
                memcpy(&n, buffer + i * LARGEST, sizeof n);
                MUST(n.size <= LARGEST);
                read_letter(c, last, buffer + i * LARGEST, (size_t)n.size);
            }
        } else {
            size = mproc_queue_get(queue, buffer, LARGEST, MPROC_FOREVER);
            if (size >= 0) read_letter(c, last, buffer, (size_t)size);
        }
        if (size == MPROC_ECLOSED) return 0;
        MUST(size > 0);
    }
}

START_TEST(x47_many_writers_many_readers) {
    crowd writers[WRITERS], readers[READERS];
    pid_t writing[WRITERS], reading[READERS];
    uint64_t seed = make_seed("many writers, many readers");
    begin(0);
    unsigned char *seen = mproc_shm_new(WRITERS * LETTERS);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (crowd){seed, seen, i};
        reading[i] = spawn(read_letters, &readers[i]);
    }
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (crowd){draw(&seed) | 1, seen, i};
        writing[i] = spawn(write_letters, &writers[i]);
    }
    for (int i = 0; i < WRITERS; i++) ck_assert_int_eq(ended(writing[i]), 0);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    for (int i = 0; i < READERS; i++) ck_assert_int_eq(ended(reading[i]), 0);
    for (int i = 0; i < WRITERS * LETTERS; i++) {
        if (seen[i] != 1) ck_abort_msg("letter %d came %d times", i, seen[i]);
    }
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static bool noise;
static void *make_noise(void *arg) {
    mproc_queue *mine = arg;
    for (int n = 0; PEEK(&noise); n++) {
        MUST_EQ(mproc_queue_put(mine, &n, sizeof n, 5), 0);
        MUST_EQ(mproc_queue_get(mine, &n, sizeof n, 5), sizeof n);
        mproc_queue *other = mproc_queue_new(0);
        MUST(other != NULL);
        MUST_EQ(mproc_queue_put(other, &n, sizeof n, 5), 0);
        MUST_EQ(mproc_queue_free(other), 0);
    }
    return NULL;
}

START_TEST(lock_20_fork_while_threads_are_inside) {
    pthread_t loud[2];
    mproc_queue *mine[2];
    begin(0);
    POKE(&noise, true);
    for (int i = 0; i < 2; i++) {
        mine[i] = mproc_queue_new(0);
        ck_assert_int_eq(pthread_create(&loud[i], NULL, make_noise, mine[i]), 0);
    }
    for (int i = 0; i < 200; i++) {
        pid_t pid = spawn(put_seven, NULL);
        double give_up = now() + 5 * SLOW;
        int status = 0;
        while (waitpid(pid, &status, WNOHANG) == 0) {
            ck_assert_msg(now() < give_up, "child %d hangs", i);
            nap(0.0002);
        }
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(get_int(0), 7);
    }
    POKE(&noise, false);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(loud[i], NULL), 0);
        ck_assert_int_eq(mproc_queue_free(mine[i]), 0);
    }
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Counting tasks -------------------------------------------------------------------------------------
 */

enum { END = -2147483647 }; /* as a task: the worker goes home */

static int work_off(void *arg) {
    (void)arg;
    for (;;) {
        int n = get_int(MPROC_FOREVER);
        if (n > 0) nap(0.02); /* a task that takes a while */
        if (n > 0) __atomic_add_fetch(&said[0], n, __ATOMIC_SEQ_CST);
        MUST_EQ(mproc_queue_task_done(queue), 0);
        if (n == END) return 0;
        MUST(n >= 0);
    }
}

START_TEST(jq_01_02_join_waits_for_every_task) {
    pid_t pids[4];
    begin(0);
    for (int i = 0; i < 4; i++) pids[i] = spawn(work_off, NULL);
    for (int round = 1; round <= 2; round++) {
        double start = now();
        for (int i = 0; i < 40; i++) ck_assert_int_eq(put_int(i, 1), 0);
        ck_assert_int_eq(mproc_queue_join(queue, MPROC_FOREVER), 0);
        ck_assert(now() - start >= 0.2 - 0.001);
        ck_assert_int_eq(PEEK(&said[0]), round * (39 * 40 / 2));
    }
    for (int i = 0; i < 4; i++) ck_assert_int_eq(put_int(END, 1), 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(ended(pids[i]), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(jq_03_04_counts) {
    begin(0);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_queue_join(queue, MPROC_FOREVER), 0));
    ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(put_int(1, 0), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(get_int(0), 1);
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_queue_join(queue, 0.2), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    int items[5] = {0};
    ck_assert_int_eq(mproc_queue_put_many(queue, items, 5, sizeof(int), 0), 5);
    ck_assert_int_eq(mproc_queue_get_many(queue, items, 5, sizeof(int), 0), 5);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(mproc_queue_join(queue, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    }
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL);
    actor a[2]; /* every joiner is woken, thread or process */
    ck_assert_int_eq(put_int(1, 0), 0);
    for (int i = 0; i < 2; i++) actor_start(&a[i], i, JOIN, MPROC_FOREVER, i == 1);
    ck_assert_int_eq(get_int(0), 1);
    ck_assert_int_eq(PEEK(a[0].done) + PEEK(a[1].done), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(actor_result(&a[i]), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(que_16_18_close_does_not_end_join) {
    actor a;
    begin(0);
    ck_assert_int_eq(put_int(1, 0), 0);
    ck_assert_int_eq(put_int(2, 0), 0);
    actor_start(&a, 0, JOIN, MPROC_FOREVER, false);
    ck_assert_int_eq(get_int(0), 1);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(get_int(0), 2);
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    nap(0.05); /* time enough for one that would not wait */
    ck_assert_int_eq(PEEK(a.done), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(actor_result(&a), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int get_and_be_killed(void *arg) {
    (void)arg;
    MUST_EQ(get_int(5), 1);
    raise(SIGKILL);
    return 0;
}

START_TEST(x46_consumer_dies_between_get_and_task_done) {
    begin(0);
    ck_assert_int_eq(put_int(1, 0), 0);
    ck_assert_int_eq(ended(spawn(get_and_be_killed, NULL)), -SIGKILL);
    TAKES(0.5, 0.6, ck_assert_int_eq(mproc_queue_join(queue, 0.5), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_queue_task_done(queue), 0); /* in the dead one's place */
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Descriptors and queues made late -------------------------------------------------------------------
 */

START_TEST(fd_is_readable_when_a_message_waits) {
    begin(0);
    int fd = mproc_queue_fd(queue);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(mproc_queue_fd(queue), fd);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    ck_assert(!readable());
    pid_t pid = soon(0.1, put_seven, NULL);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    TAKES(0.05, 0.3, ck_assert_int_eq(poll(&p, 1, 10000), 1));
    ck_assert_int_eq(ended(pid), 0);
    ck_assert(readable());
    ck_assert_int_eq(put_int(8, 0), 0);
    ck_assert_int_eq(get_int(0), 7);
    ck_assert(readable());
    ck_assert_int_eq(get_int(0), 8);
    ck_assert(!readable());
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(que_25_descriptors_come_back) {
    begin(3);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    int fds = open_fds();
    for (int i = 0; i < 100; i++) {
        queue = mproc_queue_new((size_t)(i % 3));
        ck_assert_ptr_nonnull(queue);
        ck_assert_int_eq(put_int(i, 0), 0);
        ck_assert_int_ge(mproc_queue_fd(queue), 0);
        if (i % 2 == 0) ck_assert_int_eq(get_int(0), i);
        if (i % 5 == 0) ck_assert_int_eq(mproc_queue_close(queue), 0);
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

typedef struct errand {
    mproc_queue *in, *out;
} errand;

/* Forked before the queues that it is told of: takes one message from in, and puts it to out with its own
   number of open descriptors. */
static int run_errands(void *arg) {
    mproc_queue *orders = arg;
    errand e;
    while (mproc_queue_get(orders, &e, sizeof e, MPROC_FOREVER) == (ssize_t)sizeof e) {
        int answer[2] = {0, 0};
        struct pollfd p = {.fd = mproc_queue_fd(e.in), .events = POLLIN};
        if (p.fd < 0) {
            if (e.out != NULL) answer[0] = p.fd;
        } else {
            MUST_EQ(poll(&p, 1, (int)(10000 * SLOW)), 1);
            MUST_EQ(mproc_queue_get(e.in, answer, sizeof answer[0], 0), sizeof answer[0]);
        }
        answer[1] = open_fds();
        MUST_EQ(mproc_queue_put(e.out, answer, sizeof answer, 5), 0);
    }
    return 0;
}

static int errand_answer(mproc_queue *orders, errand e, int n) {
    int answer[2] = {-1, -1};
    ck_assert_int_eq(mproc_queue_put(orders, &e, sizeof e, 5), 0);
    ck_assert_int_eq(mproc_queue_put(e.in, &n, sizeof n, 5), 0);
    ck_assert_int_eq(mproc_queue_get(e.out, answer, sizeof answer, 10 * SLOW), sizeof answer);
    ck_assert_int_eq(answer[0], n);
    return answer[1];
}

START_TEST(p5_queue_made_after_the_worker) {
    begin(0);
    pid_t pid = spawn(run_errands, queue);
    errand e = {mproc_queue_new(0), mproc_queue_new(5)};
    ck_assert(e.in != NULL && e.out != NULL);
    for (int i = 0; i < 100; i++) errand_answer(queue, e, i);
    ck_assert_int_eq(mproc_queue_free(e.in), 0);
    ck_assert_int_eq(mproc_queue_free(e.out), 0);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(p5_a_long_lived_worker_and_many_short_lived_queues) {
    int first = 0, last = 0;
    begin(0);
    pid_t pid = spawn(run_errands, queue);
    for (int i = 0; i < 300; i++) { /* most of them at the address of one before */
        errand e = {mproc_queue_new(0), mproc_queue_new(5)};
        ck_assert(e.in != NULL && e.out != NULL);
        last = errand_answer(queue, e, i);
        if (i == 0) first = last;
        ck_assert_int_eq(mproc_queue_free(e.in), 0);
        ck_assert_int_eq(mproc_queue_free(e.out), 0);
    }
    ck_assert_msg(last <= first + 64, "the worker's descriptors grew from %d to %d", first, last);
    ck_assert_int_eq(mproc_queue_close(queue), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

typedef struct creator {
    mproc_queue *orders, *back;
    bool killed;
} creator;

static int create_and_end(void *arg) {
    creator *c = arg;
    errand e = {mproc_queue_new(0), mproc_queue_new(0)};
    MUST(e.in != NULL && e.out != NULL);
    int n = 17, answer[2];
    MUST_EQ(mproc_queue_put(c->orders, &e, sizeof e, 5), 0);
    MUST_EQ(mproc_queue_put(e.in, &n, sizeof n, 5), 0);
    MUST_EQ(mproc_queue_get(e.out, answer, sizeof answer, 10 * SLOW), sizeof answer);
    MUST_EQ(answer[0], 17);
    n = 18; /* stays in it */
    MUST_EQ(mproc_queue_put(e.in, &n, sizeof n, 5), 0);
    MUST_EQ(mproc_queue_put(c->back, &e, sizeof e, 5), 0);
    if (c->killed) raise(SIGKILL);
    return 0;
}

START_TEST(p5_queue_whose_maker_has_ended) {
    for (int killed = 0; killed < 2; killed++) {
        creator c = {mproc_queue_new(0), mproc_queue_new(0), killed == 1};
        mproc_queue *others = mproc_queue_new(0);
        ck_assert(c.orders != NULL && c.back != NULL && others != NULL);
        pid_t one = spawn(run_errands, c.orders), two = spawn(run_errands, others);
        ck_assert_int_eq(ended(spawn(create_and_end, &c)), killed == 1 ? -SIGKILL : 0);
        errand e;
        ck_assert_int_eq(mproc_queue_get(c.back, &e, sizeof e, 5), sizeof e);
        /* the first worker alone has used it and lives; this process and the second worker never did */
        ck_assert_uint_eq(mproc_queue_qsize(e.in), 1);
        int answer[2];
        ck_assert_int_eq(mproc_queue_put(others, &e, sizeof e, 5), 0);
        ck_assert_int_eq(mproc_queue_get(e.out, answer, sizeof answer, 10 * SLOW), sizeof answer);
        ck_assert_int_eq(answer[0], 18);
        for (int i = 0; i < 20; i++) errand_answer(i % 2 == 0 ? others : c.orders, e, i);
        ck_assert_int_eq(mproc_queue_close(c.orders), 0);
        ck_assert_int_eq(mproc_queue_close(others), 0);
        ck_assert_int_eq(ended(one), 0);
        ck_assert_int_eq(ended(two), 0);
        ck_assert_int_eq(mproc_queue_free(e.in), 0);
        ck_assert_int_eq(mproc_queue_free(e.out), 0);
        ck_assert_int_eq(mproc_queue_free(others), 0);
        ck_assert_int_eq(mproc_queue_free(c.orders), 0);
        ck_assert_int_eq(mproc_queue_free(c.back), 0);
    }
}
END_TEST

#define LATE_USERS 12

typedef struct relay {
    mproc_queue *queue;
    int made, used;
} relay;

static int makes_one_and_stays(void *arg) {
    relay *r = arg;
    r->queue = mproc_queue_new(0);
    MUST(r->queue != NULL);
    POKE(&r->made, 1);
    for (;;) pause();
}

/* Has it under numbers of its own, not under the maker's. */
static int uses_late_and_stays(void *arg) {
    relay *r = arg;
    for (int i = 0; i < 4; i++) MUST(open("/dev/null", O_RDONLY) >= 0);
    int n = PEEK(&r->used);
    MUST_EQ(mproc_queue_put(r->queue, &n, sizeof n, 1), 0);
    BUMP(&r->used);
    for (;;) pause();
}

START_TEST(p5_queue_that_only_its_last_late_user_still_has) {
    begin(0);
    relay *r = mproc_shm_new(sizeof *r);
    pid_t maker = spawn(makes_one_and_stays, r), user[LATE_USERS];
    EVENTUALLY(PEEK(&r->made) == 1);
    for (int i = 0; i < LATE_USERS; i++) {
        user[i] = spawn(uses_late_and_stays, r);
        EVENTUALLY(PEEK(&r->used) == i + 1);
    }
    ck_assert(kill(maker, SIGKILL) == 0 && ended(maker) == -SIGKILL);
    for (int i = 0; i < LATE_USERS - 1; i++)
        ck_assert(kill(user[i], SIGKILL) == 0 && ended(user[i]) == -SIGKILL);
    for (int i = 0, n; i < LATE_USERS; i++) {
        ck_assert_int_eq(mproc_queue_get(r->queue, &n, sizeof n, 10), sizeof n);
        ck_assert_int_eq(n, i);
    }
    ck_assert(kill(user[LATE_USERS - 1], SIGKILL) == 0 && ended(user[LATE_USERS - 1]) == -SIGKILL);
    ck_assert_int_eq(mproc_queue_free(r->queue), 0);
    ck_assert_int_eq(mproc_free(r), 0);
}
END_TEST

static int create_put_and_end(void *arg) {
    mproc_queue *back = arg, *mine = mproc_queue_new(0);
    int n = 5;
    MUST(mine != NULL);
    MUST_EQ(mproc_queue_put(mine, &n, sizeof n, 0), 0);
    MUST_EQ(mproc_queue_put(back, &mine, sizeof mine, 0), 0);
    return 0;
}

START_TEST(p5_queue_that_nobody_alive_has_used) {
    /* its pipe went with its maker: what is promised is an answer in time, and that it can be freed */
    begin(0);
    mproc_queue *orphan = NULL;
    int n = 0;
    ck_assert_int_eq(ended(spawn(create_put_and_end, queue)), 0);
    ck_assert_int_eq(mproc_queue_get(queue, &orphan, sizeof(void *), 1), sizeof(void *));
    TAKES(0, 1, n = (int)mproc_queue_get(orphan, &n, sizeof n, 0.5));
    ck_assert(n == (int)sizeof n || n < 0);
    TAKES(0, 1, mproc_queue_put(orphan, &n, sizeof n, 0.5));
    mproc_queue_qsize(orphan);
    ck_assert_int_eq(mproc_queue_free(orphan), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Users that end -------------------------------------------------------------------------------------
 */

static int put_and_return(void *arg) { return put_int(*(int *)arg, 0); }
static int put_and_leave(void *arg) { _exit(put_int(*(int *)arg, 0)); }
static int put_and_be_killed(void *arg) {
    MUST_EQ(put_int(*(int *)arg, 0), 0);
    raise(SIGKILL);
    return 0;
}
static int put_4_mib(void *arg) {
    (void)arg;
    unsigned char *buffer = buffer_of(4 * MIB);
    compose(buffer, 0, 9, 4 * MIB);
    return mproc_queue_put(queue, buffer, 4 * MIB, 0);
}

START_TEST(x50_put_and_end_at_once) {
    int (*const ways[])(void *) = {put_and_return, put_and_leave, put_and_be_killed};
    begin(0);
    for (int i = 0; i < 60; i++) {
        ck_assert_int_eq(ended(spawn(ways[i % 3], &i)), i % 3 == 2 ? -SIGKILL : 0);
    }
    ck_assert_uint_eq(mproc_queue_qsize(queue), 60);
    for (int i = 0; i < 60; i++) ck_assert_int_eq(get_int(0), i);

    ck_assert_int_eq(ended(spawn(put_4_mib, NULL)), 0); /* ends though nobody reads */
    unsigned char *buffer = buffer_of(4 * MIB);
    ck_assert_int_eq(mproc_queue_get(queue, buffer, 4 * MIB, 0), 4 * MIB);
    ck_assert(whole(buffer, 4 * MIB));
    free(buffer);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int put_five(void *arg) {
    (void)arg;
    for (int i = 0; i < 5; i++) MUST_EQ(put_int(i, MPROC_FOREVER), 0);
    return 0;
}

/* As in Python a child that has more to put than the queue holds ends when somebody drains it, and not
 * before. */
START_TEST(x50_join_of_a_child_that_has_more_to_put) {
    mproc_process p = {.target = put_five};
    begin(2);
    ck_assert_int_eq(mproc_process_start(&p), 0);
    EVENTUALLY(mproc_queue_full(queue));
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_process_join(&p, 0.2), MPROC_ETIMEDOUT));
    ck_assert(mproc_process_is_alive(&p));
    for (int i = 0; i < 3; i++) ck_assert_int_eq(get_int(5), i);
    ck_assert_int_eq(mproc_process_join(&p, 5), 0); /* what is left is in the queue, and safe */
    ck_assert_int_eq(p.exitcode, 0);
    for (int i = 3; i < 5; i++) ck_assert_int_eq(get_int(0), i);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int put_without_end(void *arg) {
    size_t size = *(size_t *)arg;
    unsigned char *buffer = buffer_of(size);
    for (uint32_t i = 1;; i++) {
        compose(buffer, 1, i, size);
        MUST_EQ(mproc_queue_put(queue, buffer, size, MPROC_FOREVER), 0);
        BUMP(&said[0]);
    }
}

static int put_and_get_one(void *arg) {
    (void)arg;
    unsigned char buffer[100];
    compose(buffer, 2, 5, 100);
    MUST_EQ(mproc_queue_put(queue, buffer, 100, 1), 0);
    MUST_EQ(mproc_queue_get(queue, buffer, 100, 1), 100);
    MUST(whole(buffer, 100) && writer_of(buffer) == 2);
    return 0;
}

START_TEST(x43_producer_killed_inside_a_large_message) {
    enum { ROUNDS = 30, SIZE = 8 * MIB };
    size_t size = SIZE;
    uint64_t seed = make_seed("producer killed inside a large message");
    unsigned char *buffer = buffer_of(SIZE);
    begin(4);
    for (int round = 0; round < ROUNDS; round++) {
        POKE(&said[0], 0);
        pid_t pid = spawn(put_without_end, &size);
        nap((double)(draw(&seed) % 20000) * 1e-6);
        kill(pid, SIGKILL);
        ck_assert_int_eq(ended(pid), -SIGKILL);
        int n = 0;
        for (;; n++) {
            ssize_t got = mproc_queue_get(queue, buffer, SIZE, 0);
            if (got == MPROC_ETIMEDOUT) break;
            ck_assert_int_eq(got, SIZE);
            ck_assert(whole(buffer, SIZE) && seq_of(buffer) == (uint32_t)n + 1);
        }
        ck_assert_int_ge(n, PEEK(&said[0]));
        ck_assert_int_le(n, PEEK(&said[0]) + 1);
        ck_assert_uint_eq(mproc_queue_qsize(queue), 0);
        ck_assert_int_eq(ended(spawn(put_and_get_one, NULL)), 0);
    }
    free(buffer);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

static int get_without_end(void *arg) {
    size_t size = *(size_t *)arg;
    unsigned char *buffer = buffer_of(size);
    for (;;) {
        MUST_EQ(mproc_queue_get(queue, buffer, size, MPROC_FOREVER), (ssize_t)size);
        MUST(whole(buffer, size));
        BUMP(&said[1]);
    }
}

START_TEST(x44_consumer_killed_inside_a_large_message) {
    enum { ROUNDS = 30, SIZE = 8 * MIB };
    size_t size = SIZE;
    uint64_t seed = make_seed("consumer killed inside a large message");
    unsigned char *buffer = buffer_of(SIZE);
    begin(4);
    compose(buffer, 1, 1, SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        POKE(&said[1], 0);
        pid_t pid = spawn(get_without_end, &size);
        double until = now() + (double)(draw(&seed) % 20000) * 1e-6;
        int put = 0, got = 0;
        do put += mproc_queue_put(queue, buffer, SIZE, 0.001) == 0;
        while (now() < until);
        kill(pid, SIGKILL);
        ck_assert_int_eq(ended(pid), -SIGKILL);
        for (ssize_t n; (n = mproc_queue_get(queue, buffer, SIZE, 0)) != MPROC_ETIMEDOUT; got++) {
            ck_assert_int_eq(n, SIZE);
            ck_assert(whole(buffer, SIZE));
        }
        int lost = put - got - PEEK(&said[1]);
        ck_assert_msg(lost == 0 || lost == 1, "%d lost", lost); /* the one in its hands */
        ck_assert_uint_eq(mproc_queue_qsize(queue), 0);
    }
    free(buffer);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(x45_places_of_a_dead_producer) {
    size_t size = 1 * MIB;
    unsigned char *buffer = buffer_of(size);
    begin(2);
    pid_t pid = spawn(put_without_end, &size);
    EVENTUALLY(PEEK(&said[0]) == 2 && process_state(pid) == 'S'); /* two are in, it waits with the third */
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
    ck_assert(mproc_queue_full(queue));
    for (uint32_t i = 1; i <= 2; i++) {
        ck_assert_int_eq(mproc_queue_get(queue, buffer, size, 2), MIB);
        ck_assert(whole(buffer, size) && seq_of(buffer) == i);
    }
    ck_assert(mproc_queue_empty(queue) && !mproc_queue_full(queue));
    ck_assert_int_eq(fill(), 2);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    free(buffer);
}
END_TEST

/* The storm: producers and consumers are killed at random times and replaced. A producer notes each message
   for which put returned 0; a consumer marks each one it got. */
enum { LIFE = 60000, LIVES = 600, STORM_PRODUCERS = 3, STORM_CONSUMERS = 3, STORM_LARGEST = 40 * KIB };
typedef struct storm {
    int put[LIVES];                  /* messages put by each producer that ever lived */
    unsigned char seen[LIVES][LIFE]; /* by sequence number, from 1 */
    int got;                         /* messages marked, by all */
} storm;
typedef struct life {
    storm *shared;
    uint64_t seed;
    uint32_t number; /* of this producer among all that ever lived */
} life;

static int storm_producer(void *arg) {
    life *l = arg;
    static unsigned char buffer[STORM_LARGEST];
    for (uint32_t i = 1; i < LIFE - 10; i++) {
        uint64_t kind = draw(&l->seed) % 100;
        size_t most = kind < 70 ? 40 : kind < 97 ? 2000 : STORM_LARGEST - sizeof(note);
        size_t size = sizeof(note) + draw(&l->seed) % most;
        if (kind < 20) { /* a batch */
            size = sizeof(note) + size % 40;
            for (uint32_t k = 0; k < 5; k++) compose(buffer + k * size, l->number, i + k, size);
            MUST_EQ(mproc_queue_put_many(queue, buffer, 5, size, MPROC_FOREVER), 5);
            i += 4;
        } else {
            compose(buffer, l->number, i, size);
            MUST_EQ(mproc_queue_put(queue, buffer, size, MPROC_FOREVER), 0);
        }
        POKE(&l->shared->put[l->number], (int)i);
    }
    for (;;) pause();
}

static int storm_consumer(void *arg) {
    life *l = arg;
    static unsigned char buffer[STORM_LARGEST];
    static uint32_t last[LIVES];
    for (;;) {
        const unsigned char *message = buffer;
        void *taken = NULL;
        ssize_t size;
        if (draw(&l->seed) % 4 == 0) {
            size_t length = 0;
            message = taken = mproc_queue_take(queue, &length, MPROC_FOREVER);
            MUST(taken != NULL);
            size = (ssize_t)length;
        } else {
            size = mproc_queue_get(queue, buffer, sizeof buffer, MPROC_FOREVER);
        }
        MUST(size > 0);
        if (size == 1) return 0; /* the end */
        MUST(whole(message, (size_t)size));
        uint32_t writer = writer_of(message), seq = seq_of(message);
        MUST(writer < LIVES && seq < LIFE && seq > last[writer]);
        last[writer] = seq;
        MUST_EQ(BUMP(&l->shared->seen[writer][seq]), 1);
        BUMP(&l->shared->got);
        MUST_EQ(mproc_free(taken), 0);
    }
}

static void kill_storm(size_t maxsize, int kills) {
    uint64_t seed = make_seed("queue kill storm");
    storm *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert(shared != MAP_FAILED);
    pid_t pids[STORM_PRODUCERS + STORM_CONSUMERS];
    uint32_t lives = 0;
    int consumers_killed = 0, lost = 0, unnoted = 0;
    begin(maxsize);
    for (int k = -STORM_PRODUCERS - STORM_CONSUMERS; k < kills; k++) {
        size_t victim = k < 0 ? (size_t)(k + STORM_PRODUCERS + STORM_CONSUMERS)
                              : draw(&seed) % (STORM_PRODUCERS + STORM_CONSUMERS);
        bool producer = victim < STORM_PRODUCERS;
        if (k >= 0) {
            nap((double)(draw(&seed) % 3000) * 1e-6);
            kill(pids[victim], SIGKILL);
            ck_assert_int_eq(ended(pids[victim]), -SIGKILL);
            consumers_killed += !producer;
            if (maxsize != 0) ck_assert_uint_le(mproc_queue_qsize(queue), maxsize);
        }
        life l = {shared, draw(&seed) | 1, lives};
        if (producer) lives++;
        ck_assert_uint_lt(lives, LIVES);
        pids[victim] = spawn(producer ? storm_producer : storm_consumer, &l);
        if (k >= 0 && k % 10 == 0) { /* the others, and the new one, make progress */
            int before = PEEK(&shared->got);
            EVENTUALLY(PEEK(&shared->got) != before);
        }
    }
    for (int i = 0; i < STORM_PRODUCERS; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < STORM_PRODUCERS; i++) ck_assert_int_eq(ended(pids[i]), -SIGKILL);
    for (int i = 0; i < STORM_CONSUMERS; i++) ck_assert_int_eq(mproc_queue_put(queue, "", 1, 10 * SLOW), 0);
    for (int i = STORM_PRODUCERS; i < STORM_PRODUCERS + STORM_CONSUMERS; i++)
        ck_assert_int_eq(ended(pids[i]), 0);
    for (uint32_t w = 0; w < lives; w++) {
        int extra = 0;
        for (int i = 1; i <= shared->put[w]; i++) lost += shared->seen[w][i] == 0;
        for (int i = shared->put[w] + 1; i < LIFE; i++) extra += shared->seen[w][i];
        ck_assert_int_le(extra, 5); /* it was killed between the put of its last batch and the note of it */
        unnoted += extra;
    }
    printf("maxsize %zu: %d kills, %d messages got, %d lost with a consumer, %d not noted by a producer\n",
           maxsize, kills, shared->got, lost, unnoted);
    ck_assert_int_le(lost, consumers_killed);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 0);
    int room = fill();
    ck_assert(maxsize == 0 ? room >= 100 : room == (int)maxsize);
    for (int i = 0; i < room; i++) ck_assert_int_eq(get_int(0), i);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    munmap(shared, sizeof *shared);
}

START_TEST(p1_kill_storm_bounded) { kill_storm(40, 300); }
END_TEST
START_TEST(p1_kill_storm_unbounded) { kill_storm(0, 300); }
END_TEST

START_TEST(p1_killed_producers_leave_the_count_of_tasks_right) {
    enum { PRODUCERS = 2, KILLS = 200 };
    uint64_t seed = make_seed("task count kill storm");
    size_t sizes[PRODUCERS] = {30, 3000};
    unsigned char buffer[3000];
    pid_t pids[PRODUCERS];
    begin(30);
    for (int i = 0; i < PRODUCERS; i++) pids[i] = spawn(put_without_end, &sizes[i]);
    for (int k = 0; k < KILLS; k++) {
        double until = now() + (double)(draw(&seed) % 3000) * 1e-6;
        do {
            ssize_t size = mproc_queue_get(queue, buffer, sizeof buffer, 1);
            ck_assert_int_gt(size, 0);
            ck_assert(whole(buffer, (size_t)size));
            ck_assert_int_eq(mproc_queue_task_done(queue), 0);
        } while (now() < until);
        size_t victim = draw(&seed) % PRODUCERS;
        kill(pids[victim], SIGKILL);
        ck_assert_int_eq(ended(pids[victim]), -SIGKILL);
        pids[victim] = spawn(put_without_end, &sizes[victim]);
    }
    for (int i = 0; i < PRODUCERS; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < PRODUCERS; i++) ck_assert_int_eq(ended(pids[i]), -SIGKILL);
    while (mproc_queue_get(queue, buffer, sizeof buffer, 0) >= 0)
        ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0.5), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Limits of the system -------------------------------------------------------------------------------
 */

/* As an ordinary user whose pipes are used up: new ones hold next to nothing. */
static int without_pipes(void *arg) {
    (void)arg;
    const size_t maxsizes[] = {1, 5, 0, 666, 5000};
    struct rlimit files = {16384, 16384};
    setrlimit(RLIMIT_NOFILE, &files);
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return 98;
    prctl(PR_SET_DUMPABLE, 1); /* as in a program that was started by that user */
    int ends[2], tiny = 0;
    while (tiny < 4 && pipe2(ends, O_CLOEXEC) == 0) tiny += fcntl(ends[1], F_GETPIPE_SZ) < 65536;
    if (tiny < 4) {
        printf("skipped, pipes are not limited here\n");
        return 0;
    }
    unsigned char *buffer = buffer_of(100 * KIB);
    for (size_t i = 0; i < sizeof maxsizes / sizeof *maxsizes; i++) {
        errno = 0;
        queue = mproc_queue_new(maxsizes[i]);
        if (queue == NULL) {
            printf("maxsize %zu with pipes used up: %s\n", maxsizes[i], strerror(errno));
            MUST(errno == ENOSPC && maxsizes[i] > 5);
            continue;
        }
        int n = 0;
        while (mproc_queue_put(queue, &n, sizeof n, 0) == 0) n++;
        printf("maxsize %zu with pipes used up: holds %d\n", maxsizes[i], n);
        MUST(maxsizes[i] == 0 ? n >= 32 : n == (int)maxsizes[i]);
        MUST(mproc_queue_full(queue) && mproc_queue_qsize(queue) == (size_t)n);
        for (int k = 0; k < n; k++) MUST_EQ(get_int(0), k);
        compose(buffer, 0, 0, 100 * KIB);
        MUST_EQ(mproc_queue_put(queue, buffer, 100 * KIB, 0), 0);
        MUST_EQ(mproc_queue_get(queue, buffer, 100 * KIB, 0), 100 * KIB);
        MUST(whole(buffer, 100 * KIB));
        int items = 1000, *numbers = buffer_of(1000 * sizeof(int));
        for (int k = 0; k < items; k++) numbers[k] = k;
        pid_t pid = fork();
        if (pid == 0) _exit(take_slowly(&items));
        MUST(pid > 0);
        MUST_EQ(mproc_queue_put_many(queue, numbers, (size_t)items, sizeof(int), 10 * SLOW), items);
        MUST_EQ(ended(pid), 0);
        free(numbers);
        MUST_EQ(mproc_queue_free(queue), 0);
    }
    return 0;
}

START_TEST(unprivileged_with_pipes_used_up) { ck_assert_int_eq(ended(spawn(without_pipes, NULL)), 0); }
END_TEST

static int without_descriptors(void *arg) {
    (void)arg;
    MUST(mproc_shm_new(8) != NULL);
    int used = dup(0), refused = 0; /* the lowest free number */
    MUST(used >= 0);
    close(used);
    for (int k = 0; k < 8; k++) {
        struct rlimit files = {(rlim_t)(used + k), 16384};
        MUST_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
        errno = 0;
        queue = mproc_queue_new(0);
        if (queue == NULL) {
            MUST_EQ(errno, EMFILE);
            refused++;
        } else {
            MUST_EQ(put_int(1, 0), 0);
            MUST_EQ(get_int(0), 1);
            MUST_EQ(mproc_queue_free(queue), 0);
        }
        int next = fcntl(0, F_DUPFD, 0);
        if (k > 0) MUST_EQ(next, used); /* nothing was left open */
        if (next >= 0) close(next);
    }
    MUST(refused > 0 && refused < 8);
    return 0;
}

START_TEST(x19_no_descriptors_left) { ck_assert_int_eq(ended(spawn(without_descriptors, NULL)), 0); }
END_TEST

static int small_files_only(void *arg) {
    (void)arg;
    struct rlimit limit = {4096, 4096};
    MUST_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < 2000; i++) { /* more than 4096 bytes through the pipe */
        MUST_EQ(put_int(i, 0), 0);
        MUST_EQ(get_int(0), i);
    }
    MUST_EQ(put_4_mib(NULL), 0);
    return 0;
}

START_TEST(x20_limit_of_file_size_is_no_limit_of_messages) {
    begin(0);
    ck_assert_int_eq(ended(spawn(small_files_only, NULL)), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Memory ---------------------------------------------------------------------------------------------
 */

START_TEST(memory_of_messages_comes_back) {
    enum { SIZE = 16 * MIB, IN_IT = 12, ROUNDS = 3 }; /* 576 MiB in all */
    unsigned char *buffer = buffer_of(SIZE);
    for (int round = 0; round < ROUNDS; round++) {
        begin(0);
        for (int i = 0; i < IN_IT; i++) ck_assert_int_eq(mproc_queue_put(queue, buffer, SIZE, 0), 0);
        if (round % 2 == 0) ck_assert_int_eq(mproc_queue_close(queue), 0);
        ck_assert_int_eq(mproc_queue_free(queue), 0); /* with all of them in it */
    }
    begin(IN_IT);
    for (int i = 0; i < IN_IT * ROUNDS; i++) {
        ck_assert_int_eq(mproc_queue_put(queue, buffer, SIZE, 0), 0);
        if (i % 2 == 0) ck_assert_int_eq(mproc_queue_get(queue, buffer, SIZE, 0), SIZE);
        else ck_assert_int_eq(mproc_free(mproc_queue_take(queue, NULL, 0)), 0);
    }
    int n = 0, error; /* until shared memory is used up, and then once more */
    while ((error = mproc_queue_put(queue, buffer, SIZE, 0)) == 0) n++;
    ck_assert_int_eq(error, MPROC_ETIMEDOUT);
    mproc_queue *more = mproc_queue_new(200);
    while ((error = mproc_queue_put(more, buffer, SIZE, 0)) == 0) n++;
    ck_assert_int_eq(error, MPROC_ENOMEM);
    ck_assert_int_ge(n, 25);
    ck_assert_uint_eq(mproc_queue_qsize(more) + mproc_queue_qsize(queue), (size_t)n);
    ck_assert_int_eq(mproc_queue_get(more, buffer, SIZE, 0), SIZE);
    ck_assert_int_eq(mproc_queue_put(more, buffer, SIZE, 0), 0); /* usable again */
    ck_assert_int_eq(mproc_queue_free(more), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    free(buffer);
}
END_TEST

START_TEST(memory_of_queues_comes_back) {
    int rounds = (int)(20000 / SLOW);
    for (int i = 0; i < rounds; i++) {
        queue = mproc_queue_new(0);
        if (queue == NULL || mproc_queue_free(queue) != 0) ck_abort_msg("round %d: %s", i, strerror(errno));
    }
}
END_TEST

/* ---- Freeing and misuse ---------------------------------------------------------------------------------
 */

/* A message that is too large for its getter is on its way from the pipe to where it is put back. */
static uint32_t looked; /* 1 + how many messages there were */
static void *look_at_size(void *arg) {
    (void)arg;
    size_t n = mproc_queue_qsize(queue);
    MPROC__STORE(&looked, 1 + (uint32_t)n);
    return NULL;
}
START_TEST(a_message_on_its_way_back_counts) {
    int fd[2], error;
    char small[1];
    mproc__frame_buffer frame;
    pthread_t looker;
    begin(0);
    put_int(1, 0);
    ck_assert_int_eq(mproc_queue_get(queue, small, 1, 0), MPROC_EMSGSIZE); /* from now on getters take care */
    ck_assert_int_eq(get_int(0), 1);
    put_int(2, 0);
    ck_assert_int_eq(mproc__port_fds(&queue->port, fd), 0);
    mproc__queue_get_lock(queue, fd[0], 0, &error);
    mproc__message *spare = mproc__queue_spare(queue);
    ck_assert_int_eq(mproc__queue_read_one(queue, fd[0], &frame.head, 1, true), 0);
    ck_assert_int_eq(pthread_create(&looker, NULL, look_at_size, NULL), 0);
    for (double end = now() + 0.02; now() < end && MPROC__LOAD(&looked) == 0;) sched_yield();
    mproc__queue_put_back(queue, fd, &frame.head, spare);
    mproc__mutex_unlock(&queue->get_lock);
    ck_assert_int_eq(pthread_join(looker, NULL), 0);
    ck_assert_uint_eq(looked, 1 + 1);
    ck_assert_int_eq(get_int(0), 2);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* What a call may find that had seen the queue just before it was freed: its memory serves others. */
START_TEST(x38_freed_beside_a_call) {
    union {
        mproc_queue q;
        char bytes[sizeof(mproc_queue)];
    } was;
    int fd[2];
    begin(0);
    ck_assert_int_eq(put_int(1, 0), 0);
    memset(was.bytes, 0xff, sizeof was.bytes);
    ck_assert_int_eq(mproc__port_fds(&was.q.port, fd), MPROC_EINVAL);
    memset(was.bytes, 0, sizeof was.bytes);
    ck_assert_int_eq(mproc__port_fds(&queue->port, fd), 0);
    ck_assert_uint_eq(mproc__queue_frames(&was.q, fd[0]), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(x38_free_while_somebody_waits) {
    for (int what = GET; what < OPERATIONS; what++) {
        for (int as_thread = 0; as_thread < 2; as_thread++) {
            actor a;
            make_it_wait((operation)what, 3);
            actor_start(&a, 0, (operation)what, MPROC_FOREVER, as_thread == 1);
            ck_assert_int_eq(mproc_queue_free(queue), MPROC_EBUSY);
            ck_assert_int_eq(PEEK(a.done), 0);
            if (as_thread == 0) { /* the dead do not count */
                kill(a.pid, SIGKILL);
                ck_assert_int_eq(ended(a.pid), -SIGKILL);
            } else {
                if (what == JOIN) ck_assert_int_eq(mark_one_done(NULL), 0);
                else ck_assert_int_eq(mproc_queue_close(queue), 0);
                actor_result(&a);
            }
            ck_assert_int_eq(mproc_queue_free(queue), 0);
            ck_assert_int_eq(mproc_queue_free(queue), MPROC_EINVAL);
        }
    }
}
END_TEST

static void refused(mproc_queue *no_queue) {
    uint64_t items[2] = {0, 0};
    size_t size = 7;
    ck_assert_int_eq(mproc_queue_put(no_queue, items, 8, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_put(no_queue, items, 8, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_get(no_queue, items, 8, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_get(no_queue, items, 8, MPROC_FOREVER), MPROC_EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_queue_take(no_queue, &size, MPROC_FOREVER));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(mproc_queue_put_many(no_queue, items, 2, 8, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_get_many(no_queue, items, 2, 8, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_uint_eq(mproc_queue_qsize(no_queue), 0);
    mproc_queue_empty(no_queue); /* whatever they say: they come back */
    mproc_queue_full(no_queue);
    ck_assert_int_eq(mproc_queue_close(no_queue), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_task_done(no_queue), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_join(no_queue, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_fd(no_queue), MPROC_EINVAL);
    if (no_queue != NULL) ck_assert_int_eq(mproc_queue_free(no_queue), MPROC_EINVAL);
}

static mproc_queue *as_queue(const void *p, size_t offset) { return (mproc_queue *)((uintptr_t)p + offset); }

START_TEST(x38_what_is_not_a_queue) {
    static const uint64_t constant[64] = {1, 2, 3};
    uint64_t zeros[64] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    refused(NULL); /* before anything was made */
    refused(as_queue(zeros, 64));
    begin(3);
    ck_assert_int_eq(put_int(77, 0), 0);
    void *heap = calloc(1, 512);
    unsigned char *raw = mproc_shm_new(1024);
    mproc_lock *lock = mproc_lock_new();
    ck_assert(heap != NULL && raw != NULL && lock != NULL);
    memset(raw, 0x55, 1024);
    refused(NULL);
    refused(as_queue(zeros, 64));
    refused(as_queue(ones, 64));
    refused(as_queue(constant, 64));
    refused(as_queue(heap, 128));
    refused(as_queue(NULL, 8));
    refused(as_queue(NULL, UINTPTR_MAX - 7));
    refused(as_queue(lock, 0));
    for (size_t offset = 0; offset < 1024; offset += 8) refused(as_queue(raw, offset));
    for (size_t offset = 1; offset < 64; offset++) refused(as_queue(queue, offset));
    free(heap);
    ck_assert_int_eq(mproc_free((void *)queue), MPROC_EINVAL);
    ck_assert_int_eq(get_int(0), 77); /* nothing was harmed */
    ck_assert_int_eq(mproc_queue_free(NULL), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    refused(queue);
}
END_TEST

START_TEST(bad_buffers) {
    char byte;
    begin(0);
    ck_assert_int_eq(mproc_queue_put(queue, NULL, 5, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_put_many(queue, NULL, 2, 5, 0), MPROC_EINVAL);
    ck_assert(mproc_queue_empty(queue));
    ck_assert_int_eq(mproc_queue_put(queue, "hello", 5, 0), 0);
    ck_assert_int_eq(mproc_queue_get(queue, NULL, 5, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_get_many(queue, NULL, 2, 5, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_get(queue, NULL, 0, 0), MPROC_EMSGSIZE);
    ck_assert_int_eq(mproc_queue_get(queue, &byte, 0, 0), MPROC_EMSGSIZE);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 1);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

SUITE_MAIN("queue", que_01_02_07_20_bounded, que_03_jq_05_drained_by_another_process,
           que_04_05_08_blocking_timed_and_polling_gets, que_06_child_made_after_the_queue_was_used,
           que_09_10_a_refused_message_takes_no_place, que_19_21_blocked_calls_end_with_the_opposite_call,
           que_23_unbounded_is_truly_empty, que_14_works_before_main, issue_666_messages_of_any_size_fit,
           messages_of_no_bytes, x41_sizes, maxsize_100000_holds_or_is_refused,
           maxsize_that_cannot_be_is_refused, emsgsize_leaves_the_message_first,
           emsgsize_does_not_wait_with_a_put_within_bounds, emsgsize_in_a_full_queue_and_before_the_end,
           emsgsize_readers_with_little_and_much_room, many_at_once, many_in_a_bounded_queue,
           many_of_mixed_sizes, a_taken_message_is_shared_memory_of_its_own,
           que_12_13_16_24_26_x51_after_close, que_15_x51_close_wakes_blocked_getters,
           x51_close_wakes_blocked_putters, x51_close_wakes_all_at_once,
           x51_the_fd_tells_that_a_queue_is_closed, x51_close_beside_a_put_within_bounds,
           close_of_a_queue_with_a_batch_half_put, x02_que_27_no_sigpipe, x59_odd_timeouts,
           x01_signals_neither_end_nor_stretch_a_wait, x59_waiting_uses_no_processor,
           que_28_x44_a_stopped_or_killed_getter_holds_up_nobody, a_stopped_or_killed_putter_holds_up_nobody,
           x49_a_put_that_timed_out_left_nothing, que_22_many_threads, x47_many_writers_many_readers,
           lock_20_fork_while_threads_are_inside, jq_01_02_join_waits_for_every_task, jq_03_04_counts,
           que_16_18_close_does_not_end_join, x46_consumer_dies_between_get_and_task_done,
           fd_is_readable_when_a_message_waits, que_25_descriptors_come_back, p5_queue_made_after_the_worker,
           p5_a_long_lived_worker_and_many_short_lived_queues, p5_queue_whose_maker_has_ended,
           p5_queue_that_nobody_alive_has_used, x50_put_and_end_at_once,
           x43_producer_killed_inside_a_large_message, x44_consumer_killed_inside_a_large_message,
           x45_places_of_a_dead_producer, p1_kill_storm_bounded, p1_kill_storm_unbounded,
           p1_killed_producers_leave_the_count_of_tasks_right, unprivileged_with_pipes_used_up,
           x19_no_descriptors_left, x20_limit_of_file_size_is_no_limit_of_messages,
           memory_of_messages_comes_back, memory_of_queues_comes_back, a_message_on_its_way_back_counts,
           x38_freed_beside_a_call, x38_free_while_somebody_waits, x38_what_is_not_a_queue, bad_buffers,
           p5_queue_that_only_its_last_late_user_still_has,
           que_28_a_getter_that_holds_the_lock_costs_others_time_only,
           que_28_a_getter_killed_with_the_lock_holds_up_nobody, x50_join_of_a_child_that_has_more_to_put)
