/* mproc_dump: what somebody sees whose program hangs. */
#include "support_fault.h"

static char text[1 << 16];

static void dump(void) {
    memset(text, 0, sizeof text);
    FILE *out = fmemopen(text, sizeof text - 1, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(mproc_dump(out), 0);
    fclose(out);
}

/* Is there a line that begins with the object's kind and address and goes on with rest? */
static bool shows(const char *kind, const void *object, const char *rest) {
    char line[256];
    snprintf(line, sizeof line, "%-10s %p%s\n", kind, object, rest);
    return strstr(text, line) != NULL;
}
#define SHOWS(kind, object, rest) \
    ck_assert_msg(shows(kind, object, rest), "no %s%s in:\n%s", kind, rest, text)

START_TEST(objects_and_what_they_hold) {
    ck_assert_int_eq(mproc_dump(NULL), MPROC_EINVAL);
    dump();
    ck_assert_str_eq(text, ""); /* nothing is made by looking */
    mproc_lock *lock = mproc_lock_new();
    mproc_semaphore *semaphore = mproc_semaphore_new(3);
    mproc_event *event = mproc_event_new();
    mproc_barrier *barrier = mproc_barrier_new(5);
    mproc_queue *queue = mproc_queue_new(0);
    mproc_ring *ring = mproc_ring_new(4, 8);
    mproc_rlock *rlock = mproc_rlock_new();
    int *array = mproc_array_new(int, 10), item = 1;
    mproc_conn *ends[2];
    ck_assert_int_eq(mproc_pipe_new(ends, false), 0);
    ck_assert_int_eq(mproc_queue_put(queue, "x", 1, 0), 0);
    ck_assert_int_eq(mproc_ring_put(ring, &item, 0), 0);
    ck_assert_int_eq(mproc_event_set(event), 0);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(mproc_lock_acquire(mproc_lock_of(array), 0), 0);
    dump();
    char held[64], held_array[64], maker[64];
    snprintf(held, sizeof held, ", held by thread %d", (int)getpid());
    snprintf(held_array, sizeof held_array, " 10 items of 4 bytes, held by thread %d", (int)getpid());
    snprintf(maker, sizeof maker, " of process %d and what it forked", (int)getpid());
    SHOWS("lock", (void *)lock, held);
    SHOWS("rlock", (void *)rlock, "");
    SHOWS("semaphore", (void *)semaphore, " 3 permits");
    SHOWS("event", (void *)event, " set");
    SHOWS("barrier", (void *)barrier, " 0 of 5 parties");
    SHOWS("queue", (void *)queue, " 1 messages");
    SHOWS("ring", (void *)ring, " 1 of 8 items");
    SHOWS("array", (void *)mproc_lock_of(array), held_array);
    ck_assert_ptr_nonnull(strstr(text, maker));
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    ck_assert_int_eq(mproc_event_clear(event), 0);
    dump();
    ck_assert(!shows("lock", (void *)lock, ""));
    SHOWS("event", (void *)event, " clear");
}
END_TEST

static int waits_for_lock(void *lock) { return mproc_lock_acquire((mproc_lock *)lock, 20) == 0 ? 0 : 1; }

START_TEST(who_waits_for_what) {
    mproc_lock *lock = mproc_lock_new();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    mproc_process p = {.target = waits_for_lock, .arg = lock};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    char line[128];
    snprintf(line, sizeof line, "process %d thread %d waits for lock %p\n", (int)p.pid, (int)p.pid,
             (void *)lock);
    double give_up = now() + 10 * SLOW;
    for (dump(); strstr(text, line) == NULL && now() < give_up; dump()) nap(0.001);
    ck_assert_msg(strstr(text, line) != NULL, "no %s in:\n%s", line, text);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(p.exitcode, 0);
    dump();
    ck_assert_ptr_null(strstr(text, line));
}
END_TEST

/* BARR-15, LOCK-08: what others do shows as well. */
static mproc_lock *held_lock;
static mproc_rlock *held_rlock;
static int holds_and_waits(void *barrier) {
    if (mproc_lock_acquire(held_lock, 10) != 0 || mproc_rlock_acquire(held_rlock, 10) != 0) return 1;
    int place = mproc_barrier_wait(barrier, 20);
    return mproc_lock_release(held_lock) != 0 || mproc_rlock_release(held_rlock) != 0 || place != 0;
}

START_TEST(what_another_process_holds_and_waits_for) {
    held_lock = mproc_lock_new();
    held_rlock = mproc_rlock_new();
    mproc_barrier *barrier = mproc_barrier_new(2);
    mproc_process p = {.target = holds_and_waits, .arg = barrier};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    double give_up = now() + 10 * SLOW;
    for (dump(); !shows("barrier", (void *)barrier, " 1 of 2 parties") && now() < give_up; dump()) nap(0.001);
    SHOWS("barrier", (void *)barrier, " 1 of 2 parties");
    char held[64];
    snprintf(held, sizeof held, ", held by thread %d", (int)p.pid);
    SHOWS("lock", (void *)held_lock, held);
    SHOWS("rlock", (void *)held_rlock, held);
    ck_assert_int_eq(mproc_barrier_wait(barrier, 10), 1);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(p.exitcode, 0);
    dump();
    SHOWS("barrier", (void *)barrier, " 0 of 2 parties");
    SHOWS("lock", (void *)held_lock, "");
    SHOWS("rlock", (void *)held_rlock, "");
}
END_TEST

static int joins_one_that_waits(void *lock) {
    mproc_process p = {.target = waits_for_lock, .arg = lock};
    return mproc_process_start(&p) == 0 && mproc_process_join(&p, 20) == 0 ? p.exitcode : 1;
}

START_TEST(who_joins_whom) {
    mproc_lock *lock = mproc_lock_new();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    mproc_process p = {.target = joins_one_that_waits, .arg = lock};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    char line[128], *at;
    int joined = 0;
    snprintf(line, sizeof line, "process %d thread %d waits for the end of process ", (int)p.pid, (int)p.pid);
    double give_up = now() + 10 * SLOW;
    for (dump(); strstr(text, line) == NULL && now() < give_up; dump()) nap(0.001);
    at = strstr(text, line);
    ck_assert_msg(at != NULL, "no %s in:\n%s", line, text);
    ck_assert_int_eq(sscanf(at + strlen(line), "%d\n", &joined), 1);
    ck_assert_int_eq(kill(joined, 0), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(p.exitcode, 0);
    dump();
    ck_assert_ptr_null(strstr(text, "waits for"));
}
END_TEST

static int hangs(const void *arg, void *result) {
    (void)result;
    mproc_event *event = *(mproc_event *const *)arg;
    return mproc_event_wait(event, 20) == 0 ? 0 : 1;
}

START_TEST(a_pool_at_work) {
    mproc_event *event = mproc_event_new();
    mproc_pool *pool = mproc_pool_new_with(&(mproc_pool_options){.workers = 1, .name = "oven"});
    mproc_future *future = mproc_pool_apply_async(pool, hangs, &event, sizeof event, 0);
    double give_up = now() + 10 * SLOW;
    for (dump(); strstr(text, "waits for event") == NULL && now() < give_up; dump()) nap(0.001);
    ck_assert_msg(strstr(text, "waits for event") != NULL, "%s", text);
    dump(); /* once more: the pool's line comes before that of the worker */
    ck_assert_msg(strstr(text, " oven, supervisor ") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "1 workers, 0 tasks wait\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, " runs a task\n") != NULL, "%s", text);
    ck_assert_int_eq(mproc_event_set(event), 0);
    ck_assert_int_eq(mproc_future_get(future, NULL, 10), 0);
    mproc_pool_free(pool);
}
END_TEST

/* A stream whose reader is slow: each time it frees what it reads of, and the memory serves for other things.
 */
static mproc_condition *condition;
static mproc_pool *pool_of_two;

static void use_freed_memory(size_t n) {
    for (int i = 0; i < 8; i++) {
        void *bytes = mproc_shm_new(n);
        MUST(bytes != NULL);
        memset(bytes, 0x55, n);
    }
}

static ssize_t frees_what_it_reads(void *cookie, const char *bytes, size_t n) {
    (void)cookie;
    if (condition != NULL && memmem(bytes, n, "with lock", 9) != NULL) {
        MUST_EQ(mproc_condition_free(condition), 0);
        condition = NULL;
        use_freed_memory(48);
    }
    if (pool_of_two != NULL && memmem(bytes, n, ", 2 workers", 11) != NULL) {
        MUST_EQ(mproc_pool_free(pool_of_two), 0);
        pool_of_two = NULL;
        use_freed_memory(400000);
    }
    return (ssize_t)n;
}

START_TEST(objects_freed_while_it_prints) {
    condition = mproc_condition_new(NULL);
    pool_of_two = mproc_pool_new(2);
    ck_assert(condition != NULL && pool_of_two != NULL);
    FILE *out = fopencookie(NULL, "w", (cookie_io_functions_t){.write = frees_what_it_reads});
    ck_assert_ptr_nonnull(out);
    setvbuf(out, NULL, _IONBF, 0);
    ck_assert_int_eq(mproc_dump(out), 0);
    fclose(out);
    ck_assert(condition == NULL && pool_of_two == NULL);
}
END_TEST

/* Another thread begins to free one between the count of the objects and the list of them. */
static mproc_lock *begins_to_end;
static void end_it(const char *call) {
    if (begins_to_end == NULL || strstr(call, "sizeof *list") == NULL) return;
    MUST(mproc__tag_end(&begins_to_end->tag));
    begins_to_end = NULL;
}

START_TEST(objects_freed_while_it_lists) {
    mproc_lock *lock = mproc_lock_new(), *stays = mproc_lock_new();
    ck_assert(lock != NULL && stays != NULL);
    begins_to_end = lock;
    fault_before = end_it;
    dump();
    ck_assert_ptr_null(begins_to_end);
    ck_assert(!shows("lock", (void *)lock, ""));
    SHOWS("lock", (void *)stays, "");
}
END_TEST

static mproc_queue **made; /* by another process */
static int makes_a_queue(void *arg) {
    (void)arg;
    mproc_queue *queue = mproc_queue_new(0);
    MUST(queue != NULL && mproc_queue_put(queue, "one", 3, 0) == 0 && mproc_queue_put(queue, "", 0, 0) == 0);
    MPROC__STORE(made, queue);
    for (;;) pause();
}

static void frees_the_queue(const char *call) { /* and the memory is used anew */
    if (strncmp(call, "readlink(", 9) != 0 || !mproc__tag_end(&(*made)->tag)) return;
    memset(&(*made)->put_lock, 0x55, sizeof **made - offsetof(mproc_queue, put_lock));
}

/* A queue that this process has not used, by a thread that a debugger stopped inside a call of its own. */
START_TEST(anothers_queue_amid_a_call) {
    made = mproc_value_new(mproc_queue *, NULL);
    pid_t maker = spawn(makes_a_queue, NULL);
    EVENTUALLY(MPROC__LOAD(made) != NULL);
    int fds = open_fds();
    pthread_mutex_lock(&mproc__self.lock);
    dump();
    pthread_mutex_unlock(&mproc__self.lock);
    SHOWS("queue", (void *)*made, " 2 messages");
    fault_before = frees_the_queue;
    dump();
    ck_assert_int_eq(open_fds(), fds);
    ck_assert(!mproc__tag_is(*made, MPROC__QUEUE) && strstr(text, "queue ") == NULL);
    kill(maker, SIGKILL);
    ck_assert_int_eq(ended(maker), -SIGKILL);
}
END_TEST

static int sends_and_waits(void *pair) {
    mproc_conn **ends = (mproc_conn **)pair;
    char go;
    mproc_conn_close(ends[1]);
    return mproc_conn_send(ends[0], "x", 1, 10) == 0 && mproc_conn_recv(ends[0], &go, 1, 20) == 1 ? 0 : 1;
}

/* Of a pipe those are named who have it yet, and of one that nobody has nothing is said: of a thousand of
   those nobody would find the one that matters. */
START_TEST(pipes_that_somebody_has) {
    mproc_conn *ends[2];
    ck_assert_int_eq(mproc_pipe_new(ends, true), 0);
    mproc_process p = {.target = sends_and_waits, .arg = ends};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    char byte, used[64], held[64];
    ck_assert_int_eq(mproc_conn_recv(ends[1], &byte, 1, 10), 1);
    snprintf(used, sizeof used, ", used by process %d", (int)p.pid);
    snprintf(held, sizeof held, ", used by process %d", (int)getpid());
    dump();
    SHOWS("pipe end", (void *)ends[0], used);
    ck_assert_ptr_nonnull(strstr(text, held));
    ck_assert_int_eq(mproc_conn_send(ends[1], "x", 1, 10), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(p.exitcode, 0);
    dump();
    ck_assert_ptr_null(strstr(text, used));
    ck_assert_ptr_nonnull(strstr(text, held));
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    dump();
    ck_assert_ptr_null(strstr(text, "pipe end"));
}
END_TEST

SUITE_MAIN("dump", anothers_queue_amid_a_call, objects_freed_while_it_lists, objects_freed_while_it_prints,
           objects_and_what_they_hold, who_waits_for_what, pipes_that_somebody_has, who_joins_whom,
           a_pool_at_work, what_another_process_holds_and_waits_for)
