/* Recursive lock, semaphore, event, condition, barrier: what they have in common (how they wait, survive
   killed waiters, are freed, refuse misuse), what each promises for itself, and objects made late. */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE arena_bytes
static unsigned long arena_bytes = 64ul << 20; /* small, so that leaks show; taken at the first use */
#include "support.h"
#include <sys/ptrace.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>

enum { WAITING, DONE, RESULT, GO, HELD, PROGRESS, PHASE, STATE, INSIDE, LEFT, PLACES = 64 };
static int *said; /* what the processes of a test tell each other; 1024 numbers */

/* As TAKES, in a child. */
#define MUST_TAKE(least, most, statement)                                                                   \
    do {                                                                                                    \
        double begin_ = now();                                                                              \
        statement;                                                                                          \
        double took_ = now() - begin_;                                                                      \
        if (took_ < (least)-0.001 || took_ > (most) + 2.0 * SLOW) {                                         \
            fprintf(stderr, "%s:%d: %s took %.4f s, not %g to %g\n", __FILE__, __LINE__, #statement, took_, \
                    (double)(least), (double)(most));                                                       \
            _exit(98);                                                                                      \
        }                                                                                                   \
    } while (0)

/* Work done by a thread of this process. */
typedef struct job {
    int (*work)(void *arg);
    void *arg;
    int code;
    pthread_t thread;
} job;

static void *job_thread(void *arg) {
    job *j = arg;
    j->code = j->work(j->arg);
    return NULL;
}
static void start_thread(job *j, int (*work)(void *arg), void *arg) {
    j->work = work;
    j->arg = arg;
    j->code = -1;
    MUST_EQ(pthread_create(&j->thread, NULL, job_thread, j), 0);
}
static int end_thread(job *j) {
    MUST_EQ(pthread_join(j->thread, NULL), 0);
    return j->code;
}
static int in_thread(int (*work)(void *arg), void *arg) {
    job j;
    start_thread(&j, work, arg);
    return end_thread(&j);
}

static void kill_and_collect(pid_t pid) {
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
}

/* ---- What all five have in common: a table, so that each promise is checked for each of them ------------
 */

typedef struct kind {
    const char *name;
    void *(*make)(void);
    void (*block)(void *);       /* the maker lets nobody else through */
    int (*wait)(void *, double); /* 0: it came through */
    int (*wake)(void *);         /* the maker lets one through */
    void (*unblock)(void *);     /* undoes block when nobody was let through */
    int (*release)(void *);      /* free */
} kind;

static void nothing(void *object) { (void)object; }

static void *rlock_make(void) { return mproc_rlock_new(); }
static void rlock_block(void *l) { MUST_EQ(mproc_rlock_acquire(l, 5), 0); }
static int rlock_wait(void *l, double timeout) {
    int error = mproc_rlock_acquire(l, timeout);
    return error != 0 ? error : mproc_rlock_release(l);
}
static int rlock_wake(void *l) { return mproc_rlock_release(l); }
static void rlock_unblock(void *l) { MUST_EQ(mproc_rlock_release(l), 0); }
static int rlock_free(void *l) { return mproc_rlock_free(l); }

static void *semaphore_make(void) { return mproc_semaphore_new(0); }
static int semaphore_wait(void *s, double timeout) { return mproc_semaphore_acquire(s, timeout); }
static int semaphore_wake(void *s) { return mproc_semaphore_release(s); }
static int semaphore_free(void *s) { return mproc_semaphore_free(s); }

static void *event_make(void) { return mproc_event_new(); }
static int event_wait(void *e, double timeout) { return mproc_event_wait(e, timeout); }
static int event_wake(void *e) {
    int error = mproc_event_set(e);
    return error != 0 ? error : mproc_event_clear(e);
}
static int event_free(void *e) { return mproc_event_free(e); }

static void *condition_make(void) { return mproc_condition_new(NULL); }
static int condition_wait(void *c, double timeout) {
    int error = mproc_condition_acquire(c, MPROC_FOREVER);
    if (error != 0) return error;
    error = mproc_condition_wait(c, timeout);
    int other = mproc_condition_release(c); /* the lock is held again whatever came of the wait */
    return other != 0 ? other : error;
}
static int condition_wake(void *c) {
    int error = mproc_condition_acquire(c, MPROC_FOREVER);
    if (error != 0) return error;
    error = mproc_condition_notify(c, 1);
    int other = mproc_condition_release(c);
    return other != 0 ? other : error;
}
static int condition_free(void *c) { return mproc_condition_free(c); }

static void *barrier_make(void) { return mproc_barrier_new(2); }
static int barrier_wait(void *b, double timeout) {
    int place = mproc_barrier_wait(b, timeout);
    if (place == MPROC_ETIMEDOUT) mproc_barrier_reset(b); /* that broke it */
    return place > 0 ? 0 : place;
}
static int barrier_wake(void *b) { return barrier_wait(b, 5); }
static int barrier_free(void *b) { return mproc_barrier_free(b); }

static const kind kinds[] = {
    {"rlock", rlock_make, rlock_block, rlock_wait, rlock_wake, rlock_unblock, rlock_free},
    {"semaphore", semaphore_make, nothing, semaphore_wait, semaphore_wake, nothing, semaphore_free},
    {"event", event_make, nothing, event_wait, event_wake, nothing, event_free},
    {"condition", condition_make, nothing, condition_wait, condition_wake, nothing, condition_free},
    {"barrier", barrier_make, nothing, barrier_wait, barrier_wake, nothing, barrier_free},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const kind *what; /* of the test that runs */
static void *object;

static void begin(void) { said = shared_ints(); }

static void make(size_t i) {
    what = &kinds[i];
    object = what->make();
    ck_assert_msg(object != NULL, "no %s: %s", what->name, strerror(errno));
    POKE(&said[WAITING], 0);
    POKE(&said[DONE], 0);
}
static void unmake(void) { ck_assert_int_eq(what->release(object), 0); }

static int waiter(void *arg) {
    const double *timeout = arg;
    BUMP(&said[WAITING]);
    int result = what->wait(object, timeout != NULL ? *timeout : MPROC_FOREVER);
    POKE(&said[RESULT], result);
    BUMP(&said[DONE]);
    return result == 0 ? 0 : 97;
}

/* Who has said it will wait, and sleeps, can only sleep in the call. */
static pid_t blocked(int (*work)(void *arg), const void *arg) {
    int before = PEEK(&said[WAITING]);
    pid_t pid = spawn(work, (void *)(uintptr_t)arg);
    EVENTUALLY(PEEK(&said[WAITING]) == before + 1 && process_state(pid) == 'S');
    return pid;
}

static int wait_for_ever_however_said(size_t i) {
    const double for_ever[] = {-1, -100, -1e-300, 1e9, 1e100, 1e300, INFINITY, -INFINITY};
    size_t n = sizeof for_ever / sizeof *for_ever;
    if (i >= n) return 0;
    what->block(object);
    int done = PEEK(&said[DONE]);
    pid_t pid = blocked(waiter, &for_ever[i]);
    nap(0.01); /* time enough for one that would not wait */
    ck_assert_int_eq(PEEK(&said[DONE]), done);
    TAKES(0, 0.3, ck_assert_int_eq(what->wake(object), 0); ck_assert_int_eq(ended(pid), 0));
    return 1;
}

static int time_out(void *arg) {
    const double in_time[] = {0, -0.0, 1e-300, 1e-9, 0.0004, 0.05, 0.35};
    size_t n = arg != NULL ? 6 : 7; /* without the long one */
    for (size_t i = 0; i < n; i++)
        MUST_TAKE(in_time[i], in_time[i] + 0.05, MUST_EQ(what->wait(object, in_time[i]), MPROC_ETIMEDOUT));
    return 0;
}

static int refuse_nan(void *arg) {
    (void)arg;
    MUST_TAKE(0, 0.05, MUST_EQ(what->wait(object, NAN), MPROC_EINVAL));
    MUST_TAKE(0, 0.05, MUST_EQ(what->wait(object, -NAN), MPROC_EINVAL));
    return 0;
}

START_TEST(sem_04_10_evnt_01_cond_06_lock_11_13_x59_timeouts) {
    begin();
    for (size_t i = 0; i < KINDS; i++) {
        make(i);
        ck_assert_int_eq(ended(spawn(refuse_nan, NULL)), 0); /* blocked or not */
        what->block(object);
        ck_assert_int_eq(ended(spawn(refuse_nan, NULL)), 0);
        ck_assert_int_eq(ended(spawn(time_out, NULL)), 0);
        ck_assert_int_eq(in_thread(time_out, said), 0);
        what->unblock(object);
        for (size_t k = 0; wait_for_ever_however_said(k); k++) continue;
        unmake();
    }
}
END_TEST

/* Waits under a timer that interrupts it a hundred times a second. */
static int wait_in_a_storm(void *arg) {
    signal_storm(10000);
    MUST_TAKE(0.5, 0.6, MUST_EQ(what->wait(object, 0.5), MPROC_ETIMEDOUT));
    int code = waiter(arg);
    signal_storm(0);
    return code;
}

START_TEST(x01_cond_09_signals_neither_end_nor_stretch_a_wait) {
    begin();
    for (size_t i = 0; i < KINDS; i++) {
        make(i);
        what->block(object);
        pid_t pid = spawn(wait_in_a_storm, NULL);
        EVENTUALLY(PEEK(&said[WAITING]) == 1);
        nap(0.1); /* ten interruptions */
        ck_assert_int_eq(PEEK(&said[DONE]), 0);
        TAKES(0, 0.3, ck_assert_int_eq(what->wake(object), 0); ck_assert_int_eq(ended(pid), 0));
        unmake();
    }
}
END_TEST

static int wait_and_count_cpu(void *arg) {
    (void)arg;
    double before = cpu_seconds();
    MUST_EQ(what->wait(object, 1), MPROC_ETIMEDOUT);
    double used = cpu_seconds() - before;
    if (used >= 0.02 * SLOW) fprintf(stderr, "%s: a wait of 1 s used %.1f ms\n", what->name, used * 1e3);
    return used >= 0.02 * SLOW;
}

START_TEST(x59_waiting_uses_no_processor) {
    pid_t pid[KINDS];
    begin();
    for (size_t i = 0; i < KINDS; i++) { /* all at once: the objects stay */
        make(i);
        what->block(object);
        pid[i] = spawn(wait_and_count_cpu, NULL);
    }
    for (size_t i = 0; i < KINDS; i++) ck_assert_int_eq(ended(pid[i]), 0);
}
END_TEST

enum { CROWD = 200 };
static int wait_in_a_crowd(void *arg) {
    (void)arg;
    job parties[CROWD];
    for (int i = 0; i < CROWD; i++) start_thread(&parties[i], waiter, NULL);
    EVENTUALLY(mproc__arrived(MPROC__LOAD(&((mproc_barrier *)object)->word)) == CROWD);
    double before = cpu_seconds();
    nap(1);
    double used = cpu_seconds() - before;
    MUST_EQ(mproc_barrier_reset(object), 0);
    for (int i = 0; i < CROWD; i++) end_thread(&parties[i]);
    if (used >= 0.2 * SLOW) fprintf(stderr, "%d waits of 1 s used %.1f ms\n", CROWD, used * 1e3);
    return used >= 0.2 * SLOW;
}

/* Though each party looks now and then whether the others live. */
START_TEST(x59_nor_do_many_parties_of_a_barrier) {
    begin();
    what = &kinds[KINDS - 1];
    object = mproc_barrier_new(CROWD + 1);
    ck_assert_int_eq(ended(spawn(wait_in_a_crowd, NULL)), 0);
    unmake();
}
END_TEST

START_TEST(x34_x35_x36_killed_waiters_hold_up_nobody) {
    begin();
    for (size_t i = 0; i < KINDS; i++) {
        for (int round = 0; round < 12; round++) {
            bool stopped = round % 3 == 2; /* a stopped one lives: it keeps its place, and holds up nobody */
            make(i);
            what->block(object);
            pid_t dead = blocked(waiter, NULL);
            if (what->wait == barrier_wait) { /* a party of its own: it is the barrier's tests' matter */
                kill_and_collect(dead);
                ck_assert_int_eq(mproc_barrier_reset(object), 0);
                dead = 0;
            } else {
                kill(dead, stopped ? SIGSTOP : SIGKILL);
                if (!stopped) ck_assert_int_eq(ended(dead), -SIGKILL);
                else EVENTUALLY(process_state(dead) == 'T');
            }
            pid_t live = blocked(waiter, NULL);
            if (stopped && what->wait != event_wait && what->wait != barrier_wait)
                TAKES(0, 0.1, ck_assert_int_eq(what->wake(object), 0)); /* perhaps the stopped one's */
            if (!stopped || what->wait != rlock_wait) TAKES(0, 0.1, ck_assert_int_eq(what->wake(object), 0));
            TAKES(0, 0.5, ck_assert_int_eq(ended(live), 0));
            if (dead != 0 && stopped) kill_and_collect(dead);
            unmake();
        }
    }
}
END_TEST

/* As if the dead one's number were a living process's now: its traces name this process's parent. */
static void number_comes_again(pid_t dead) {
    mproc__waiter *in_list = what->wait == condition_wait ? ((mproc_condition *)object)->first : NULL;
    uint64_t living = (uint64_t)getppid() << 32 | (uint32_t)getppid();
    for (uint32_t i = 0; i < mproc__shared->seats_used; i++) {
        mproc__seat *seat = &mproc__shared->seat[i];
        if (seat->who >> 32 == (uint64_t)dead) seat->who = living;
    }
    for (; in_list != NULL; in_list = in_list->next)
        if (in_list->who >> 32 == (uint64_t)dead) in_list->who = living;
}

START_TEST(x38_free_while_somebody_waits) {
    begin();
    for (size_t i = 0; i < KINDS; i++) {
        make(i);
        ck_assert_int_eq(what->release(NULL), 0);
        what->block(object);
        pid_t pid = blocked(waiter, NULL);
        ck_assert_int_eq(what->release(object), MPROC_EBUSY);
        kill(pid, SIGSTOP);
        EVENTUALLY(process_state(pid) == 'T');
        ck_assert_int_eq(what->release(object), MPROC_EBUSY);
        kill(pid, SIGCONT);
        ck_assert_int_eq(what->wake(object), 0); /* refused to free, it goes on working */
        ck_assert_int_eq(ended(pid), 0);
        unmake();
        ck_assert_int_eq(what->release(object), MPROC_EINVAL);

        for (int again = 0; again < 2; again++) { /* the dead do not count */
            make(i);
            what->block(object);
            pid_t dead = blocked(waiter, NULL);
            kill_and_collect(dead);
            if (again) number_comes_again(dead);
            what->unblock(object);
            unmake();
            ck_assert_int_eq(what->release(object), MPROC_EINVAL);
        }
    }
}
END_TEST

static bool yes(void *ctx) {
    (void)ctx;
    return true;
}

/* Every function of all five with what is none of them, or one of the others. */
static void refused(void *no, const kind *but) {
    int (*const calls[])(void *) = {rlock_free, semaphore_free, event_free, condition_free, barrier_free};
    for (size_t i = 0; i < KINDS; i++)
        if (no != NULL && but != &kinds[i]) ck_assert_int_eq(calls[i](no), MPROC_EINVAL);
    if (but != &kinds[0]) {
        ck_assert_int_eq(mproc_rlock_acquire(no, 0), MPROC_EINVAL);
        ck_assert_int_eq(mproc_rlock_acquire(no, MPROC_FOREVER), MPROC_EINVAL);
        ck_assert_int_eq(mproc_rlock_release(no), MPROC_EINVAL);
    }
    if (but != &kinds[1]) {
        ck_assert_int_eq(mproc_semaphore_acquire(no, MPROC_FOREVER), MPROC_EINVAL);
        ck_assert_int_eq(mproc_semaphore_release(no), MPROC_EINVAL);
        ck_assert_int_eq(mproc_semaphore_value(no), MPROC_EINVAL);
    }
    if (but != &kinds[2]) {
        ck_assert_int_eq(mproc_event_set(no), MPROC_EINVAL);
        ck_assert_int_eq(mproc_event_clear(no), MPROC_EINVAL);
        ck_assert(!mproc_event_is_set(no));
        ck_assert_int_eq(mproc_event_wait(no, MPROC_FOREVER), MPROC_EINVAL);
    }
    if (but != &kinds[3]) {
        ck_assert_int_eq(mproc_condition_acquire(no, MPROC_FOREVER), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_release(no), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_wait(no, MPROC_FOREVER), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_wait_for(no, yes, NULL, MPROC_FOREVER), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_notify(no, 1), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_notify_all(no), MPROC_EINVAL);
    }
    if (but != &kinds[4]) {
        ck_assert_int_eq(mproc_barrier_wait(no, MPROC_FOREVER), MPROC_EINVAL);
        ck_assert_int_eq(mproc_barrier_abort(no), MPROC_EINVAL);
        ck_assert_int_eq(mproc_barrier_reset(no), MPROC_EINVAL);
    }
}

static mproc_event *spun_on;
static void make_spun(void) { spun_on = mproc_event_new(); }
static int wait_for_spun(void) { return mproc_event_wait(spun_on, 1); }
static int free_spun(void) { return mproc_event_free(spun_on); }
static void set_spun(void) { mproc_event_set(spun_on); }
START_TEST(x38_free_while_somebody_spins) {
    free_beside_spinners(make_spun, wait_for_spun, free_spun, set_spun);
}
END_TEST

START_TEST(x38_what_is_not_such_an_object) {
    uint64_t zeros[64] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    refused(NULL, NULL); /* before anything was made */
    refused(zeros, NULL);
    begin();
    int *value = mproc_value_new(int, 1);
    unsigned char *raw = mproc_shm_new(4096);
    mproc_lock *lock = mproc_lock_new();
    ck_assert(value != NULL && raw != NULL && lock != NULL);
    memset(raw, 0x55, 4096);
    refused(NULL, NULL);
    refused(zeros + 8, NULL);
    refused(ones + 8, NULL);
    refused((void *)(UINTPTR_MAX - 7), NULL);
    refused(value, NULL);
    refused(lock, NULL);
    for (size_t offset = 0; offset < 4096; offset += 8) refused(raw + offset, NULL);
    for (size_t i = 0; i < KINDS; i++) {
        make(i);
        refused(object, what);
        for (size_t offset = 1; offset < 64; offset++) refused((char *)object + offset, NULL);
        ck_assert_int_eq(mproc_free(object), MPROC_EINVAL);
        ck_assert_int_eq(mproc_lock_free(object), MPROC_EINVAL);
        ck_assert_int_eq(mproc_lock_acquire(object, 0), MPROC_EINVAL);
        unmake();
        refused(object, NULL);
    }
    errno = 0;
    ck_assert_ptr_null(mproc_condition_new((mproc_lock *)(void *)value));
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    errno = 0;
    ck_assert_ptr_null(mproc_condition_new(lock)); /* freed */
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(mproc_free(value), 0);
    ck_assert_int_eq(mproc_free(raw), 0);
}
END_TEST

START_TEST(x38_objects_come_back_when_freed) {
    enum { MOST = 500000 };
    arena_bytes = 4ul << 20;
    begin();
    void **all = calloc(MOST, sizeof *all);
    ck_assert_ptr_nonnull(all);
    make(0);
    unmake();
    int fds = open_fds();
    for (size_t i = 0; i < KINDS; i++) {
        int rounds = (int)(100000 / SLOW), made = 0, again = 0;
        for (int k = 0; k < rounds; k++) {
            void *one = kinds[i].make();
            if (one == NULL || kinds[i].release(one) != 0)
                ck_abort_msg("%s, round %d: %s", kinds[i].name, k, strerror(errno));
        }
        errno = 0;
        while (made < MOST && (all[made] = kinds[i].make()) != NULL) made++;
        ck_assert_int_eq(errno, ENOMEM);
        ck_assert_int_ge(made, 2000);
        what = &kinds[i]; /* what exists still works where memory is used up */
        object = all[made / 2];
        if (what->wait != condition_wait) { /* whose waiters take some */
            what->block(object);
            ck_assert_int_eq(ended(spawn(refuse_nan, NULL)), 0);
            what->unblock(object);
        }
        for (int k = 0; k < made; k++)
            if (kinds[i].release(all[k]) != 0) ck_abort_msg("%s %d is not freed", kinds[i].name, k);
        while (again < MOST && (all[again] = kinds[i].make()) != NULL) again++;
        ck_assert_int_eq(again, made);
        for (int k = 0; k < again; k++) ck_assert_int_eq(kinds[i].release(all[k]), 0);
    }
    ck_assert_int_eq(open_fds(), fds);
    free(all);
}
END_TEST

/* Waiting takes memory nowhere for good: not when notified, timed out, or killed. */
START_TEST(memory_of_waiters_comes_back) {
    arena_bytes = 2ul << 20;
    begin();
    make(3);
    int rounds = (int)(60000 / SLOW);
    ck_assert_int_eq(mproc_condition_acquire(object, 0), 0);
    for (int i = 0; i < rounds; i++)
        if (mproc_condition_wait(object, 0) != MPROC_ETIMEDOUT) ck_abort_msg("round %d", i);
    ck_assert_int_eq(mproc_condition_release(object), 0);
    for (int i = 0; i < 100; i++) {
        pid_t pid = blocked(waiter, NULL);
        if (i % 2 == 0) kill_and_collect(pid);
        ck_assert_int_eq(condition_wake(object), 0);
        if (i % 2 != 0) ck_assert_int_eq(ended(pid), 0);
    }
    unmake();
}
END_TEST

/* ---- Recursive lock --------------------------------------------------------------------------------------
 */

static mproc_rlock *rlock;

static void begin_rlock(void) {
    begin();
    rlock = mproc_rlock_new();
    ck_assert_ptr_nonnull(rlock);
}

static int poll_rlock(void *arg) {
    (void)arg;
    int error = 0;
    MUST_TAKE(0, 0.05, error = mproc_rlock_acquire(rlock, 0));
    if (error == 0) MUST_EQ(mproc_rlock_release(rlock), 0);
    return -error;
}
static int release_rlock(void *arg) {
    (void)arg;
    return -mproc_rlock_release(rlock);
}
static bool others_see_it_held(void) {
    int process = ended(spawn(poll_rlock, NULL)), thread = in_thread(poll_rlock, NULL);
    ck_assert_int_eq(process, thread);
    ck_assert(process == 0 || process == ETIMEDOUT);
    return process == ETIMEDOUT;
}

START_TEST(lock_05_06_18_19_depth_is_exact) {
    begin_rlock();
    ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
    ck_assert(!others_see_it_held());
    for (int depth = 1; depth <= 5; depth++) {
        for (int i = 0; i < depth; i++)
            TAKES(0, 0.05, ck_assert_int_eq(mproc_rlock_acquire(rlock, i % 2 ? 0 : MPROC_FOREVER), 0));
        for (int i = 0; i < depth; i++) {
            ck_assert(others_see_it_held());
            ck_assert_int_eq(mproc_rlock_release(rlock), 0);
        }
        ck_assert(!others_see_it_held());
        ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
    }
    int depth = 0; /* up and down, never below one until the end */
    uint64_t seed = make_seed("rlock depth");
    for (int i = 0; i < 20000; i++) {
        bool up = depth < 2 || draw(&seed) % 2 == 0;
        if (!up) ck_assert_int_eq(mproc_rlock_release(rlock), 0);
        else ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), 0);
        depth += up ? 1 : -1;
    }
    ck_assert(others_see_it_held());
    for (; depth > 0; depth--) ck_assert_int_eq(mproc_rlock_release(rlock), 0);
    ck_assert(!others_see_it_held());
    ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}
END_TEST

static int hold_rlock(void *arg) {
    const int *depth = arg;
    for (int i = 0; i < *depth; i++) {
        int error = mproc_rlock_acquire(rlock, MPROC_FOREVER);
        MUST(error == 0);
    }
    BUMP(&said[HELD]);
    await(&said[GO], 1);
    for (int i = 0; i < *depth; i++) MUST_EQ(mproc_rlock_release(rlock), 0);
    return 0;
}

START_TEST(lock_17_x39_only_the_holder_releases) {
    int depth = 2;
    begin_rlock();
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), 0);
    ck_assert_int_eq(ended(spawn(release_rlock, NULL)), EPERM);
    ck_assert_int_eq(in_thread(release_rlock, NULL), EPERM);
    ck_assert(others_see_it_held());
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_rlock_release(rlock), 0); /* still this one's */
    ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);

    pid_t pid = spawn(hold_rlock, &depth);
    EVENTUALLY(PEEK(&said[HELD]) == 1);
    ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
    ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_rlock_free(rlock), MPROC_EBUSY);
    POKE(&said[GO], 1);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}
END_TEST

START_TEST(lock_10_rlock_waiters_get_it_in_turn) {
    enum { EACH = 4 };
    pid_t pids[EACH];
    job threads_[EACH];
    begin();
    make(0);
    rlock_block(object);
    rlock_block(object);
    for (int i = 0; i < EACH; i++) pids[i] = blocked(waiter, NULL);
    for (int i = 0; i < EACH; i++) start_thread(&threads_[i], waiter, NULL);
    EVENTUALLY(PEEK(&said[WAITING]) == 2 * EACH);
    ck_assert_int_eq(mproc_rlock_release(object), 0);
    nap(0.05); /* time enough for one that would take the first release for the last */
    ck_assert_int_eq(PEEK(&said[DONE]), 0);
    ck_assert_int_eq(mproc_rlock_release(object), 0);
    TAKES(0, 2, EVENTUALLY(PEEK(&said[DONE]) == 2 * EACH));
    for (int i = 0; i < EACH; i++) {
        ck_assert_int_eq(ended(pids[i]), 0);
        ck_assert_int_eq(end_thread(&threads_[i]), 0);
    }
    unmake();
}
END_TEST

/* Ends holding the lock at the depth told: when killed, or by itself. */
static int end_with_rlock(void *arg) {
    const int *how = arg;
    for (int i = 0; i < how[0]; i++) {
        int error = mproc_rlock_acquire(rlock, MPROC_FOREVER);
        MUST(error == 0 || (i == 0 && error == MPROC_EOWNERDEAD));
    }
    BUMP(&said[HELD]);
    if (how[2]) await(&said[GO], 1);
    if (how[1]) raise(SIGKILL);
    return 7;
}

START_TEST(x32_dead_holder_of_an_rlock_is_told) {
    begin_rlock();
    for (int killed = 0; killed < 2; killed++) {
        for (int depth = 1; depth <= 3; depth++) {
            int how[3] = {depth, killed, 0};
            ck_assert_int_eq(ended(spawn(end_with_rlock, how)), killed ? -SIGKILL : 7);
            TAKES(0, 0.1, ck_assert_int_eq(mproc_rlock_acquire(rlock, 3), MPROC_EOWNERDEAD));
            ck_assert(others_see_it_held());
            ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), 0); /* recursive as ever, and told once */
            ck_assert_int_eq(mproc_rlock_release(rlock), 0);
            ck_assert(others_see_it_held());
            ck_assert_int_eq(mproc_rlock_release(rlock), 0); /* its depth was one */
            ck_assert(!others_see_it_held());
            ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
        }
    }
    int how[3] = {3, 1, 0};
    for (int i = 0; i < 3; i++) ck_assert_int_eq(ended(spawn(end_with_rlock, how)), -SIGKILL); /* in a row */
    ck_assert_int_eq(mproc_rlock_free(rlock), 0); /* the dead are not held against it */
}
END_TEST

static int told_of_death(void *arg) {
    (void)arg;
    BUMP(&said[WAITING]);
    int error = mproc_rlock_acquire(rlock, MPROC_FOREVER);
    MUST_EQ(mproc_rlock_release(rlock), 0);
    MUST_EQ(mproc_rlock_release(rlock), MPROC_EPERM);
    return -error;
}

START_TEST(x32_waiters_for_a_dead_holders_rlock_are_told) {
    begin_rlock();
    for (int way = 0; way < 3; way++) { /* killed by others, by itself, plain end */
        int how[3] = {3, way == 1, 1};
        pid_t holder = spawn(end_with_rlock, how);
        EVENTUALLY(PEEK(&said[HELD]) == way + 1);
        pid_t pid = blocked(told_of_death, NULL);
        if (way == 0) kill(holder, SIGKILL);
        else POKE(&said[GO], 1);
        TAKES(0, 0.5, ck_assert_int_eq(ended(pid), EOWNERDEAD));
        ck_assert_int_eq(ended(holder), way == 2 ? 7 : -SIGKILL);
        ck_assert(!others_see_it_held());
        POKE(&said[GO], 0);
    }
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}
END_TEST

static int wait_beside_parent(void *arg) {
    MUST_EQ(mproc_rlock_acquire(rlock, 0), MPROC_ETIMEDOUT);
    MUST_EQ(mproc_rlock_release(rlock), MPROC_EPERM);
    return told_of_death(arg);
}

START_TEST(a_forked_child_does_not_hold_its_parents_rlock) {
    begin_rlock();
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), 0);
    pid_t one = blocked(wait_beside_parent, NULL), two = blocked(wait_beside_parent, NULL);
    kill_and_collect(one);
    ck_assert_int_eq(ended(spawn(poll_rlock, NULL)), ETIMEDOUT);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_rlock_release(rlock), 0);
    ck_assert_int_eq(ended(two), 0);
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}
END_TEST

static int snatch_rlock(void *arg) {
    (void)arg;
    while (PEEK(&said[GO]) == 0) {
        if (mproc_rlock_acquire(rlock, 0) == 0) return 96;
        BUMP(&said[PROGRESS]);
    }
    return 0;
}

START_TEST(lock_21_free_of_a_held_rlock_does_not_let_go_of_it) {
    begin_rlock();
    for (int depth = 1; depth <= 2; depth++) {
        POKE(&said[GO], 0);
        POKE(&said[PROGRESS], 0);
        ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), 0);
        pid_t pid = spawn(snatch_rlock, NULL);
        EVENTUALLY(PEEK(&said[PROGRESS]) > 10);
        double until = now() + (depth == 1 ? 1.5 : 0.2);
        while (now() < until) ck_assert_int_eq(mproc_rlock_free(rlock), MPROC_EBUSY);
        POKE(&said[GO], 1);
        ck_assert_int_eq(ended(pid), 0);
        ck_assert(others_see_it_held());
    }
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_rlock_release(rlock), 0);
    ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
    ck_assert_int_eq(mproc_rlock_free(rlock), MPROC_EINVAL);
}
END_TEST

static int compete(void *arg) {
    int *mine = arg;
    BUMP(&said[WAITING]);
    await(&said[GO], 1);
    while (PEEK(&said[GO]) == 1) {
        for (int i = 0; i < 3; i++) MUST_EQ(mproc_rlock_acquire(rlock, MPROC_FOREVER), 0);
        int inside = BUMP(&said[INSIDE]);
        ++*mine;
        __atomic_sub_fetch(&said[INSIDE], 1, __ATOMIC_SEQ_CST);
        MUST_EQ(inside, 1);
        for (int i = 0; i < 3; i++) MUST_EQ(mproc_rlock_release(rlock), 0);
    }
    return 0;
}

START_TEST(x40_nobody_starves_at_an_rlock) {
    enum { N = 8 };
    pid_t pids[N];
    long sum = 0;
    begin_rlock();
    for (int i = 0; i < N; i++) pids[i] = spawn(compete, &said[PLACES + i]);
    EVENTUALLY(PEEK(&said[WAITING]) == N);
    POKE(&said[GO], 1);
    nap(1);
    POKE(&said[GO], 2);
    for (int i = 0; i < N; i++) ck_assert_int_eq(ended(pids[i]), 0);
    for (int i = 0; i < N; i++) sum += said[PLACES + i];
    for (int i = 0; i < N; i++) {
        ck_assert_int_gt(said[PLACES + i], 0);
        ck_assert_int_ge((long)said[PLACES + i] * 100, sum / N);
    }
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}
END_TEST

/* ---- Semaphore -------------------------------------------------------------------------------------------
 */

static mproc_semaphore *semaphore;

static void begin_semaphore(unsigned value, bool bounded) {
    begin();
    semaphore = bounded ? mproc_semaphore_new_bounded(value) : mproc_semaphore_new(value);
    ck_assert_ptr_nonnull(semaphore);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), value);
}

START_TEST(sem_01_02_06_10_11_counts_down_and_up) {
    begin_semaphore(2, false);
    for (int value = 1; value >= 0; value--) {
        TAKES(0, 0.05, ck_assert_int_eq(mproc_semaphore_acquire(semaphore, value % 2 ? 5 : 0), 0));
        ck_assert_int_eq(mproc_semaphore_value(semaphore), value);
    }
    TAKES(0, 0.05, ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), MPROC_ETIMEDOUT));
    TAKES(0.5, 0.6, ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0.5), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_semaphore_value(semaphore), 0);
    for (int value = 1; value <= 4; value++) { /* above what it began with */
        ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
        ck_assert_int_eq(mproc_semaphore_value(semaphore), value);
    }
    for (int i = 0; i < 4; i++)
        TAKES(0, 0.05, ck_assert_int_eq(mproc_semaphore_acquire(semaphore, MPROC_FOREVER), 0));
    ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);

    semaphore = mproc_semaphore_new(1); /* released before it was ever acquired */
    ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), 2);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0); /* permits out, or over, do not matter */
}
END_TEST

START_TEST(sem_03_a_bounded_one_goes_no_higher) {
    begin_semaphore(2, true);
    ck_assert_int_eq(mproc_semaphore_release(semaphore), -ERANGE);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), 2);
    ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), 0);
    ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(mproc_semaphore_release(semaphore), -ERANGE);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), 2);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);

    begin_semaphore(0, true); /* of no use, but right */
    ck_assert_int_eq(mproc_semaphore_release(semaphore), -ERANGE);
    ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
}
END_TEST

START_TEST(sem_05_values_that_cannot_be) {
    const unsigned too_many[] = {(unsigned)INT32_MAX + 1, (unsigned)-1, (unsigned)-2};
    begin();
    for (size_t i = 0; i < sizeof too_many / sizeof *too_many; i++) {
        errno = 0;
        ck_assert_ptr_null(mproc_semaphore_new(too_many[i]));
        ck_assert_int_eq(errno, EINVAL);
        errno = 0;
        ck_assert_ptr_null(mproc_semaphore_new_bounded(too_many[i]));
        ck_assert_int_eq(errno, EINVAL);
    }
    begin_semaphore(INT32_MAX, false);
    ck_assert_int_eq(mproc_semaphore_release(semaphore), -ERANGE); /* not round to below zero */
    ck_assert_int_eq(mproc_semaphore_value(semaphore), INT32_MAX);
    ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), 0);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), INT32_MAX - 1);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
}
END_TEST

static int acquire_twice(void *arg) {
    (void)arg;
    for (int i = 0; i < 2; i++) {
        BUMP(&said[WAITING]);
        MUST_EQ(mproc_semaphore_acquire(semaphore, MPROC_FOREVER), 0);
        BUMP(&said[DONE]);
    }
    return 0;
}

static void exactly(int passed) {
    EVENTUALLY(PEEK(&said[DONE]) == passed);
    nap(0.05); /* time enough for one too many */
    ck_assert_int_eq(PEEK(&said[DONE]), passed);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), 0);
}

START_TEST(sem_07_08_as_many_pass_as_there_are_permits) {
    enum { EACH = 5 };
    pid_t pids[EACH];
    job threads_[EACH];
    begin_semaphore(7, false);
    ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), 0);
    for (int i = 0; i < EACH; i++) pids[i] = spawn(acquire_twice, NULL);
    for (int i = 0; i < EACH; i++) start_thread(&threads_[i], acquire_twice, NULL);
    exactly(6);
    for (int i = 0; i < 7; i++) ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
    exactly(13);
    for (int i = 0; i < 6; i++) ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
    exactly(19);
    ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
    exactly(20);
    for (int i = 0; i < EACH; i++) {
        ck_assert_int_eq(ended(pids[i]), 0);
        ck_assert_int_eq(end_thread(&threads_[i]), 0);
    }
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
}
END_TEST

static int poll_once(void *arg) {
    (void)arg;
    BUMP(&said[WAITING]);
    await(&said[GO], 1);
    return mproc_semaphore_acquire(semaphore, 0) == 0;
}

START_TEST(sem_09_racing_polls) {
    for (int round = 0; round < 10; round++) {
        pid_t pids[10];
        int passed = 0;
        begin_semaphore(3, round % 2 == 0);
        for (int i = 0; i < 10; i++) pids[i] = spawn(poll_once, NULL);
        EVENTUALLY(PEEK(&said[WAITING]) == 10);
        POKE(&said[GO], 1);
        for (int i = 0; i < 10; i++) passed += ended(pids[i]);
        ck_assert_int_eq(passed, 3);
        ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
    }
}
END_TEST

START_TEST(sem_12_two_thousand_at_once) {
    enum { N = 2000 };
    static mproc_semaphore *all[N];
    begin();
    int fds = open_fds();
    for (int i = 0; i < N; i++) ck_assert_ptr_nonnull(all[i] = mproc_semaphore_new((unsigned)i % 3));
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(mproc_semaphore_acquire(all[i], 0), i % 3 == 0 ? MPROC_ETIMEDOUT : 0);
    ck_assert_int_eq(open_fds(), fds);
    for (int i = 0; i < N; i++) ck_assert_int_eq(mproc_semaphore_free(all[i]), 0);
}
END_TEST

START_TEST(sem_13_many_blocked_acquirers) {
    enum { N = 30 };
    pid_t pids[N];
    begin();
    make(1);
    for (int i = 0; i < N; i++) pids[i] = blocked(waiter, NULL);
    for (int i = 0; i < N; i++) ck_assert_int_eq(mproc_semaphore_release(object), 0);
    TAKES(0, 1, for (int i = 0; i < N; i++) ck_assert_int_eq(ended(pids[i]), 0));
    ck_assert_int_eq(mproc_semaphore_value(object), 0);
    unmake();
}
END_TEST

static int acquire_and_release(void *arg) {
    (void)arg;
    for (;;) {
        int error = mproc_semaphore_acquire(semaphore, 0.01);
        MUST(error == 0 || error == MPROC_ETIMEDOUT);
        if (error == 0) MUST_EQ(mproc_semaphore_release(semaphore), 0);
        BUMP(&said[PROGRESS]);
    }
    return 0;
}

START_TEST(x33_killed_inside_a_semaphore) {
    enum { PERMITS = 3, WORKERS = 4 };
    int kills = (int)(500 / SLOW), lost = 0;
    uint64_t seed = make_seed("semaphore kills");
    pid_t pids[WORKERS];
    begin_semaphore(PERMITS, true);
    for (int i = 0; i < WORKERS; i++) pids[i] = spawn(acquire_and_release, NULL);
    for (int k = 0; k < kills; k++) {
        size_t victim = draw(&seed) % WORKERS;
        nap((double)(draw(&seed) % 500) * 1e-6);
        kill_and_collect(pids[victim]);
        ck_assert_int_le(mproc_semaphore_value(semaphore), PERMITS);
        pids[victim] = spawn(acquire_and_release, NULL);
        if (k % 20 != 19) continue;
        int before = PEEK(&said[PROGRESS]);
        EVENTUALLY(PEEK(&said[PROGRESS]) != before);
        for (int i = 0; i < WORKERS; i++) kill_and_collect(pids[i]);
        lost += PERMITS - mproc_semaphore_value(semaphore);
        while (mproc_semaphore_acquire(semaphore, 0) == 0) continue;
        TAKES(0.02, 0.05, ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0.02), MPROC_ETIMEDOUT));
        for (int i = 0; i < PERMITS; i++) ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
        ck_assert_int_eq(mproc_semaphore_release(semaphore), -ERANGE);
        for (int i = 0; i < WORKERS; i++) pids[i] = spawn(acquire_and_release, NULL);
    }
    for (int i = 0; i < WORKERS; i++) kill_and_collect(pids[i]);
    printf("%d kills, %d permits went with them\n", kills, lost);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
}
END_TEST

/* A stopped waiter was woken and cannot take its permit: others must get what is released. */
START_TEST(sem_a_stopped_waiter_keeps_nothing_back) {
    begin();
    make(1);
    pid_t stopped = blocked(waiter, NULL);
    kill(stopped, SIGSTOP);
    EVENTUALLY(process_state(stopped) == 'T');
    pid_t live = blocked(waiter, NULL);
    ck_assert_int_eq(mproc_semaphore_release(object), 0);
    TAKES(0, 0.3, ck_assert_int_eq(ended(live), 0));
    kill(stopped, SIGCONT);
    ck_assert_int_eq(mproc_semaphore_release(object), 0);
    ck_assert_int_eq(ended(stopped), 0);
    unmake();
}
END_TEST

/* ---- From signal handlers --------------------------------------------------------------------------------
 */

enum { SIGNALS = 10000 };
static mproc_event *event;

static void release_in_handler(int number) {
    (void)number;
    int saved = errno;
    if (mproc_semaphore_release(semaphore) != 0) _exit(95);
    BUMP(&said[PROGRESS]);
    errno = saved;
}

static void set_in_handler(int number) {
    (void)number;
    int saved = errno;
    if (mproc_event_set(event) != 0) _exit(95);
    BUMP(&said[PROGRESS]);
    errno = saved;
}

static void on_signal(void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    ck_assert_int_eq(sigaction(SIGRTMIN, &action, NULL), 0);
}

/* Signals that are counted by the kernel, so that each is delivered; GO says how many may be sent up to now.
 */
static int send_signals(void *arg) {
    const union sigval none = {0};
    const pid_t *to = arg;
    for (int i = 0; i < SIGNALS; i++) {
        while (PEEK(&said[GO]) <= i) sched_yield();
        while (sigqueue(*to, SIGRTMIN, none) != 0) {
            MUST(errno == EAGAIN); /* as many as may be are on their way */
            nap(0.0001);
        }
    }
    return 0;
}

START_TEST(x06_release_from_a_signal_handler) {
    pid_t self = getpid();
    begin_semaphore(0, false);
    on_signal(release_in_handler);
    POKE(&said[GO], SIGNALS); /* the main flow is inside acquire or release whenever a signal comes */
    pid_t pid = spawn(send_signals, &self);
    int taken = 0, given = 0;
    while (PEEK(&said[PROGRESS]) < SIGNALS) {
        if (mproc_semaphore_acquire(semaphore, 0) == 0) taken++;
        if (mproc_semaphore_release(semaphore) == 0) given++;
        if (mproc_semaphore_acquire(semaphore, 0.001) == 0) taken++;
    }
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), SIGNALS + given - taken);
    while (mproc_semaphore_acquire(semaphore, 0) == 0) taken++;
    ck_assert_int_eq(taken, SIGNALS + given);

    POKE(&said[PROGRESS], 0); /* and it is the only one that can wake the main flow */
    pid = spawn(send_signals, &self);
    for (int i = 0; i < SIGNALS; i++) ck_assert_int_eq(mproc_semaphore_acquire(semaphore, MPROC_FOREVER), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_semaphore_value(semaphore), 0);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
}
END_TEST

START_TEST(x06_set_from_a_signal_handler) {
    pid_t self = getpid();
    begin();
    event = mproc_event_new();
    ck_assert_ptr_nonnull(event);
    on_signal(set_in_handler);
    POKE(&said[GO], SIGNALS);
    pid_t pid = spawn(send_signals, &self); /* the main flow is inside set, clear or wait */
    while (PEEK(&said[PROGRESS]) < SIGNALS) {
        ck_assert_int_eq(mproc_event_set(event), 0);
        ck_assert_int_eq(mproc_event_clear(event), 0);
        int error = mproc_event_wait(event, 0.001);
        ck_assert(error == 0 || error == MPROC_ETIMEDOUT);
        mproc_event_is_set(event);
    }
    ck_assert_int_eq(ended(pid), 0);

    POKE(&said[PROGRESS], 0);
    POKE(&said[GO], 0);
    ck_assert_int_eq(mproc_event_clear(event), 0);
    pid = spawn(send_signals, &self);
    for (int i = 0; i < SIGNALS; i++) { /* the handler alone wakes the main flow */
        BUMP(&said[GO]);
        ck_assert_int_eq(mproc_event_wait(event, MPROC_FOREVER), 0);
        ck_assert(mproc_event_is_set(event));
        ck_assert_int_eq(mproc_event_clear(event), 0);
    }
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_event_wait(event, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_event_free(event), 0);
}
END_TEST

/* ---- Event -----------------------------------------------------------------------------------------------
 */

START_TEST(evnt_01_02_04_set_and_clear) {
    begin();
    event = mproc_event_new();
    ck_assert_ptr_nonnull(event);
    ck_assert(!mproc_event_is_set(event));
    TAKES(0, 0.05, ck_assert_int_eq(mproc_event_wait(event, 0), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_event_wait(event, 0.2), MPROC_ETIMEDOUT));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            ck_assert_int_eq(mproc_event_set(event), 0);
            ck_assert(mproc_event_is_set(event));
        }
        const double any[] = {0, 0.5, 1e300, MPROC_FOREVER};
        for (size_t i = 0; i < sizeof any / sizeof *any; i++)
            TAKES(0, 0.05, ck_assert_int_eq(mproc_event_wait(event, any[i]), 0));
        for (int i = 0; i < 2; i++) {
            ck_assert_int_eq(mproc_event_clear(event), 0);
            ck_assert(!mproc_event_is_set(event));
        }
        ck_assert_int_eq(mproc_event_wait(event, 0), MPROC_ETIMEDOUT);
    }
    ck_assert_int_eq(mproc_event_free(event), 0);
}
END_TEST

static int set_later(void *arg) {
    const double *delay = arg;
    nap(*delay);
    return mproc_event_set(event);
}

START_TEST(evnt_03_set_by_another_process) {
    begin();
    event = mproc_event_new();
    double delay = 0.2;
    double before = now();
    pid_t pid = spawn(set_later, &delay);
    ck_assert_int_eq(mproc_event_wait(event, MPROC_FOREVER), 0);
    ck_assert_msg(now() - before >= 0.199 && now() - before < 0.6 + 2 * SLOW, "%.3f s", now() - before);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_event_free(event), 0);
}
END_TEST

static int wait_and_clear(void *arg) {
    (void)arg;
    MUST(mproc_event_is_set(event));
    MUST_EQ(mproc_event_wait(event, 0), 0);
    return mproc_event_clear(event);
}

START_TEST(evnt_09_cleared_by_another_process) {
    begin();
    event = mproc_event_new();
    ck_assert_int_eq(mproc_event_set(event), 0);
    ck_assert_int_eq(ended(spawn(wait_and_clear, NULL)), 0);
    ck_assert(!mproc_event_is_set(event));
    ck_assert_int_eq(mproc_event_wait(event, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_event_free(event), 0);
}
END_TEST

static int wait_thrice(void *arg) {
    (void)arg;
    for (int i = 1; i <= 3; i++) {
        BUMP(&said[WAITING]);
        MUST_EQ(mproc_event_wait(event, MPROC_FOREVER), 0);
        if (i == 1) MUST_TAKE(0, 0.05, MUST_EQ(mproc_event_wait(event, MPROC_FOREVER), 0)); /* still set */
        BUMP(&said[DONE]);
        await(&said[PHASE], i);
    }
    return 0;
}

START_TEST(evnt_05_09_all_waiters_each_time) {
    enum { EACH = 3 };
    pid_t pids[EACH];
    job threads_[EACH];
    begin();
    event = mproc_event_new();
    for (int i = 0; i < EACH; i++) pids[i] = spawn(wait_thrice, NULL);
    for (int i = 0; i < EACH; i++) start_thread(&threads_[i], wait_thrice, NULL);
    for (int round = 1; round <= 3; round++) {
        EVENTUALLY(PEEK(&said[WAITING]) == 2 * EACH * round);
        nap(0.02); /* time enough to begin the wait, or not to wait at all */
        ck_assert_int_eq(PEEK(&said[DONE]), 2 * EACH * (round - 1));
        ck_assert_int_eq(mproc_event_set(event), 0);
        TAKES(0, 0.3, EVENTUALLY(PEEK(&said[DONE]) == 2 * EACH * round));
        ck_assert_int_eq(mproc_event_clear(event), 0);
        POKE(&said[PHASE], round);
    }
    for (int i = 0; i < EACH; i++) {
        ck_assert_int_eq(ended(pids[i]), 0);
        ck_assert_int_eq(end_thread(&threads_[i]), 0);
    }
    ck_assert_int_eq(mproc_event_free(event), 0);
}
END_TEST

START_TEST(evnt_06_set_then_clear_wakes_all_who_waited) {
    enum { N = 5 };
    begin();
    for (int round = 0; round < 20; round++) {
        pid_t pids[N];
        make(2);
        for (int i = 0; i < N; i++) pids[i] = blocked(waiter, NULL);
        if (round % 2) kill(pids[0], SIGSTOP); /* however late it comes to run */
        if (round % 2) EVENTUALLY(process_state(pids[0]) == 'T');
        ck_assert_int_eq(event_wake(object), 0);
        ck_assert(!mproc_event_is_set(object));
        for (int i = 1; i < N; i++) ck_assert_int_eq(ended(pids[i]), 0);
        kill(pids[0], SIGCONT);
        ck_assert_int_eq(ended(pids[0]), 0);
        ck_assert_int_eq(mproc_event_wait(object, 0), MPROC_ETIMEDOUT);
        unmake();
    }
}
END_TEST

START_TEST(evnt_07_waits_end_independently) {
    static const double timeouts[] = {0.1, 0.5, 0.3, 0.4, 0.2};
    pid_t pids[5];
    double begun = now();
    begin();
    make(2);
    for (int i = 0; i < 5; i++) pids[i] = spawn(waiter, (void *)(uintptr_t)&timeouts[i]);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(ended(pids[i]), 97);
        ck_assert_msg(now() - begun >= timeouts[i] - 0.001, "%g s came early", timeouts[i]);
    }
    ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_ETIMEDOUT);
    unmake();
}
END_TEST

/* Setter and waiter in lockstep: a lost wake-up would show as a wait of a whole slice, a lost set as a hang.
 */
static int answer_events(void *arg) {
    mproc_event *const *e = arg;
    for (int i = 0; i < 20000; i++) {
        MUST_EQ(mproc_event_wait(e[0], MPROC_FOREVER), 0);
        MUST_EQ(mproc_event_clear(e[0]), 0);
        MUST_EQ(mproc_event_set(e[1]), 0);
    }
    return 0;
}

START_TEST(evnt_ping_pong_loses_no_wake_up) {
    mproc_event *e[2];
    begin();
    for (int i = 0; i < 2; i++) ck_assert_ptr_nonnull(e[i] = mproc_event_new());
    double worst = 0;
    int slow = 0;
    pid_t pid = spawn(answer_events, e);
    for (int i = 0; i < 20000; i++) {
        double before = now();
        ck_assert_int_eq(mproc_event_set(e[0]), 0);
        ck_assert_int_eq(mproc_event_wait(e[1], MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_event_clear(e[1]), 0);
        double took = now() - before;
        if (took > worst) worst = took;
        slow += took > 0.095;
    }
    ck_assert_int_eq(ended(pid), 0);
    printf("20000 round trips, the longest %.1f ms\n", worst * 1e3);
    ck_assert_int_le(slow, 5); /* a loaded machine may explain a few */
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_event_free(e[i]), 0);
}
END_TEST

/* ---- Condition -------------------------------------------------------------------------------------------
 */

static mproc_condition *condition;

static void begin_condition(void) {
    begin();
    condition = mproc_condition_new(NULL);
    ck_assert_ptr_nonnull(condition);
}

/* Counts itself under the lock before it waits: who holds the lock and sees the count knows that all of them
   wait. */
static int sleeper(void *arg) {
    const double *timeout = arg;
    MUST_EQ(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    BUMP(&said[WAITING]);
    int error = mproc_condition_wait(condition, timeout != NULL ? *timeout : MPROC_FOREVER);
    if (PEEK(&said[PHASE]) != 0) BUMP(&said[STATE]);
    BUMP(&said[DONE]);
    MUST_EQ(mproc_condition_release(condition), 0);
    return -error;
}

/* Waits until n sleep there; returns with the lock held. */
static void acquire_when_asleep(int n) {
    for (double give_up = now() + 10 * SLOW;;) {
        ck_assert_int_eq(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
        if (PEEK(&said[WAITING]) == n) return;
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        ck_assert(now() < give_up);
        nap(0.001);
    }
}

static void notify(unsigned n) {
    ck_assert_int_eq(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    TAKES(0, 0.1, ck_assert_int_eq(mproc_condition_notify(condition, n), 0));
    ck_assert_int_eq(mproc_condition_release(condition), 0);
}
static void notify_all(void) {
    ck_assert_int_eq(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    TAKES(0, 0.1, ck_assert_int_eq(mproc_condition_notify_all(condition), 0));
    ck_assert_int_eq(mproc_condition_release(condition), 0);
}

static void woken(int n) {
    TAKES(0, 1, EVENTUALLY(PEEK(&said[DONE]) >= n));
    nap(0.05); /* time enough for one too many */
    ck_assert_int_eq(PEEK(&said[DONE]), n);
}

START_TEST(cond_01_02_notify_wakes_one) {
    job thread;
    begin_condition();
    pid_t pid = spawn(sleeper, NULL);
    start_thread(&thread, sleeper, NULL);
    acquire_when_asleep(2);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    woken(0);
    notify(1);
    woken(1);
    notify(1);
    woken(2);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(end_thread(&thread), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0); /* nobody is left in it */
}
END_TEST

static void six_sleepers(pid_t pids[3], job threads_[3], const double *timeout) {
    POKE(&said[WAITING], 0);
    POKE(&said[DONE], 0);
    for (int i = 0; i < 3; i++) pids[i] = spawn(sleeper, (void *)(uintptr_t)timeout);
    for (int i = 0; i < 3; i++) start_thread(&threads_[i], sleeper, (void *)(uintptr_t)timeout);
    if (timeout != NULL) return;
    acquire_when_asleep(6);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    woken(0);
}
static void six_ended(const pid_t pids[3], job threads_[3], int code) {
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(ended(pids[i]), code);
        ck_assert_int_eq(end_thread(&threads_[i]), code);
    }
}

START_TEST(cond_03_04_05_notify_all_and_n) {
    static const double soon = 0.1;
    double short_wait = 0.2;
    pid_t pids[3];
    job threads_[3];
    begin_condition();
    six_sleepers(pids, threads_, &soon); /* all time out, and leave it usable */
    six_ended(pids, threads_, ETIMEDOUT);
    six_sleepers(pids, threads_, NULL);
    notify_all();
    woken(6);
    six_ended(pids, threads_, 0);
    six_sleepers(pids, threads_, NULL);
    notify(0);
    woken(0);
    notify(2);
    woken(2);
    notify(4);
    woken(6);
    six_ended(pids, threads_, 0);
    notify(3); /* of nobody: not remembered */
    notify_all();
    ck_assert_int_eq(sleeper(&short_wait), ETIMEDOUT);
    six_sleepers(pids, threads_, NULL);
    notify(1000); /* more than there are */
    six_ended(pids, threads_, 0);
    notify((unsigned)-1);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

static int poll_condition(void *arg) {
    (void)arg;
    int error = mproc_condition_acquire(condition, 0);
    if (error == 0) MUST_EQ(mproc_condition_release(condition), 0);
    return -error;
}

START_TEST(cond_06_timed_out_holds_the_lock_again) {
    begin_condition();
    ck_assert_int_eq(mproc_condition_acquire(condition, 0), 0);
    for (int i = 0; i < 3; i++) {
        TAKES(0, 0.05, ck_assert_int_eq(mproc_condition_wait(condition, 0), MPROC_ETIMEDOUT));
        TAKES(0.1, 0.2, ck_assert_int_eq(mproc_condition_wait(condition, 0.1), MPROC_ETIMEDOUT));
        ck_assert_int_eq(ended(spawn(poll_condition, NULL)), ETIMEDOUT);
        ck_assert_int_eq(mproc_condition_wait(condition, NAN), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_wait_for(condition, yes, NULL, NAN), MPROC_EINVAL);
        ck_assert_int_eq(mproc_condition_wait_for(condition, NULL, NULL, 0), MPROC_EINVAL);
        ck_assert_int_eq(ended(spawn(poll_condition, NULL)), ETIMEDOUT);
    }
    ck_assert_int_eq(mproc_condition_acquire(condition, 0), MPROC_ETIMEDOUT); /* a plain lock: not twice */
    ck_assert_int_eq(mproc_condition_free(condition), MPROC_EBUSY);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    ck_assert_int_eq(mproc_condition_release(condition), MPROC_EPERM);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

static bool state_is(void *ctx) {
    const int *wanted = ctx;
    BUMP(&said[PROGRESS]);
    return PEEK(&said[STATE]) == *wanted;
}

static int wait_for_state(void *arg) {
    double timeout = *(const double *)arg;
    int wanted = 4;
    MUST_EQ(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    BUMP(&said[WAITING]);
    double before = now();
    int error = mproc_condition_wait_for(condition, state_is, &wanted, timeout);
    if (error == MPROC_ETIMEDOUT) MUST(now() - before >= timeout - 0.001);
    if (error == MPROC_ETIMEDOUT) MUST(now() - before < timeout + 0.3 + 2 * SLOW);
    if (error == 0) MUST_EQ(PEEK(&said[STATE]), wanted);
    MUST_EQ(mproc_condition_release(condition), 0);
    return -error;
}

START_TEST(cond_07_wait_for_goes_on_until_it_is_so) {
    double for_ever = MPROC_FOREVER;
    begin_condition();
    pid_t pid = spawn(wait_for_state, &for_ever);
    for (int state = 1; state <= 4; state++) {
        acquire_when_asleep(1);
        POKE(&said[STATE], state);
        ck_assert_int_eq(mproc_condition_notify(condition, 1), 0);
        int looked = PEEK(&said[PROGRESS]);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        EVENTUALLY(PEEK(&said[PROGRESS]) > looked);
    }
    ck_assert_int_eq(ended(pid), 0);
    /* true from the beginning: no wait at all, not even with no time */
    ck_assert_int_eq(mproc_condition_acquire(condition, 0), 0);
    ck_assert_int_eq(mproc_condition_wait_for(condition, yes, NULL, 0), 0);
    int never = 99;
    TAKES(0, 0.05,
          ck_assert_int_eq(mproc_condition_wait_for(condition, state_is, &never, 0), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

static int wait_for_state_in_a_storm(void *arg) {
    signal_storm(10000);
    int code = wait_for_state(arg);
    signal_storm(0);
    return code;
}

START_TEST(x01_cond_08_wait_for_beside_signals) {
    double timeout = 0.5, for_ever = MPROC_FOREVER;
    begin_condition();
    ck_assert_int_eq(ended(spawn(wait_for_state_in_a_storm, &timeout)), ETIMEDOUT);
    pid_t pid = spawn(wait_for_state_in_a_storm, &for_ever);
    acquire_when_asleep(2);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    nap(0.1); /* ten interruptions */
    ck_assert(!process_gone(pid));
    ck_assert_int_eq(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    POKE(&said[STATE], 4);
    ck_assert_int_eq(mproc_condition_notify(condition, 1), 0);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    TAKES(0, 0.3, ck_assert_int_eq(ended(pid), 0));
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

START_TEST(cond_08_wait_for_counts_all_its_time) {
    double timeout = 0.3;
    begin_condition();
    pid_t pid = spawn(wait_for_state, &timeout);
    acquire_when_asleep(1);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    for (int i = 0; i < 50 && !process_gone(pid); i++) { /* not so yet, again and again */
        nap(0.02);
        notify(1);
    }
    ck_assert_int_eq(ended(pid), ETIMEDOUT);
    ck_assert_int_gt(PEEK(&said[PROGRESS]), 3);
    /* what is so when the time is up counts, though nobody notified */
    pid = spawn(wait_for_state, &timeout);
    acquire_when_asleep(2);
    POKE(&said[STATE], 4);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

/* All calls that need the lock, by one who does not hold it. */
static int refused_without_lock(void *arg) {
    (void)arg;
    MUST_EQ(mproc_condition_wait(condition, 0), MPROC_EPERM);
    MUST_EQ(mproc_condition_wait(condition, MPROC_FOREVER), MPROC_EPERM);
    MUST_EQ(mproc_condition_wait_for(condition, yes, NULL, MPROC_FOREVER), MPROC_EPERM);
    MUST_EQ(mproc_condition_notify(condition, 1), MPROC_EPERM);
    MUST_EQ(mproc_condition_notify_all(condition), MPROC_EPERM);
    MUST_EQ(mproc_condition_release(condition), MPROC_EPERM);
    return 0;
}

START_TEST(cond_10_x39_not_without_the_lock) {
    begin_condition();
    ck_assert_int_eq(refused_without_lock(NULL), 0);
    pid_t pid = spawn(sleeper, NULL);
    acquire_when_asleep(1);
    ck_assert_int_eq(ended(spawn(refused_without_lock, NULL)), 0); /* held, but not by them */
    ck_assert_int_eq(in_thread(refused_without_lock, NULL), 0);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    ck_assert_int_eq(refused_without_lock(NULL), 0);
    woken(0);
    notify(1);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

START_TEST(cond_11_the_notified_wake_after_the_release) {
    pid_t pids[3];
    job threads_[3];
    begin_condition();
    six_sleepers(pids, threads_, NULL);
    ck_assert_int_eq(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_condition_notify_all(condition), 0);
    nap(0.05);
    ck_assert_int_eq(PEEK(&said[DONE]), 0);
    POKE(&said[PHASE], 1); /* each sees what was set before the release */
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    woken(6);
    ck_assert_int_eq(PEEK(&said[STATE]), 6);
    six_ended(pids, threads_, 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

START_TEST(cond_13_a_given_lock_is_shared) {
    begin();
    int *value = mproc_value_new(int, 0);
    mproc_lock *locks[2] = {mproc_lock_new(), mproc_lock_of(value)};
    for (int i = 0; i < 2; i++) {
        condition = mproc_condition_new(locks[i]);
        mproc_condition *second = mproc_condition_new(locks[i]);
        ck_assert(condition != NULL && second != NULL);
        ck_assert_int_eq(mproc_lock_acquire(locks[i], 0), 0);
        ck_assert_int_eq(ended(spawn(poll_condition, NULL)), ETIMEDOUT);
        ck_assert_int_eq(mproc_condition_acquire(condition, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_condition_notify_all(condition), 0);
        ck_assert_int_eq(mproc_condition_wait(condition, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_condition_wait(second, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_condition_release(second), 0);
        ck_assert_int_eq(mproc_condition_acquire(condition, 0), 0);
        ck_assert_int_eq(mproc_lock_acquire(locks[i], 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_lock_release(locks[i]), 0);
        /* two conditions over one lock: a notification goes to its own waiters only */
        POKE(&said[WAITING], 0);
        POKE(&said[DONE], 0);
        pid_t pid = spawn(sleeper, NULL);
        acquire_when_asleep(1);
        ck_assert_int_eq(mproc_condition_notify_all(second), 0);
        ck_assert_int_eq(mproc_lock_release(locks[i]), 0);
        woken(0);
        notify(1);
        ck_assert_int_eq(ended(pid), 0);
        ck_assert_int_eq(mproc_condition_free(second), 0);
        ck_assert_int_eq(mproc_condition_free(condition), 0);
        ck_assert_int_eq(mproc_lock_acquire(locks[i], 0), 0); /* outlives its conditions */
        ck_assert_int_eq(mproc_lock_release(locks[i]), 0);
    }
    ck_assert_int_eq(mproc_lock_free(locks[0]), 0);
    ck_assert_int_eq(mproc_free(value), 0);
}
END_TEST

static int acquire_and_leave(void *arg) {
    (void)arg;
    MUST_EQ(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    return mproc_condition_release(condition);
}

START_TEST(cond_14_a_child_that_only_acquires_and_releases) {
    begin_condition();
    ck_assert_int_eq(ended(spawn(acquire_and_leave, NULL)), 0);
    notify_all();
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

START_TEST(x34_killed_waiters_and_notify) {
    begin_condition();
    for (int round = 0; round < 10; round++) {
        POKE(&said[WAITING], 0);
        POKE(&said[DONE], 0);
        pid_t dead = spawn(sleeper, NULL);
        acquire_when_asleep(1);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        kill_and_collect(dead);
        if (round % 2 == 0) notify_all();
        if (round % 3 == 0) notify(1);
        pid_t live = spawn(sleeper, NULL);
        acquire_when_asleep(2);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        notify(1); /* the dead one may still stand first */
        TAKES(0, 0.1, ck_assert_int_eq(ended(live), 0));
    }
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

/* A dead waiter's number comes again, for a process that has its seat now and waits for something else. */
static int waits_for_event(void *elsewhere) { return mproc_event_wait(elsewhere, 10); }
START_TEST(x34_killed_waiter_whose_number_comes_again) {
    begin();
    condition = mproc_condition_new(NULL);
    mproc_event *elsewhere = mproc_event_new();
    pid_t dead = spawn(sleeper, NULL);
    acquire_when_asleep(1);
    mproc__waiter *entry = condition->first;
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    pid_t live = spawn(sleeper, NULL);
    acquire_when_asleep(2);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    kill_and_collect(dead);
    pid_t again = spawn(waits_for_event, elsewhere);
    EVENTUALLY(mproc__awaited(elsewhere));
    ck_assert_int_eq((pid_t)(entry->seat->who >> 32), again);
    entry->who = entry->seat->who;
    ck_assert_int_eq(mproc_condition_acquire(condition, 5), 0);
    ck_assert_int_eq(mproc_condition_notify(condition, 1), 0);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    TAKES(0, 0.5, ck_assert_int_eq(ended(live), 0));
    ck_assert_int_eq(mproc_event_set(elsewhere), 0);
    ck_assert_int_eq(ended(again), 0);
    ck_assert_int_eq(mproc_event_free(elsewhere), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

START_TEST(x37_a_notification_does_not_die_with_its_waiter) {
    begin_condition();
    for (int round = 0; round < 10; round++) {
        POKE(&said[WAITING], 0);
        POKE(&said[DONE], 0);
        pid_t first = spawn(sleeper, NULL);
        acquire_when_asleep(1);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        pid_t second = spawn(sleeper, NULL);
        acquire_when_asleep(2);
        ck_assert_int_eq(mproc_condition_notify(condition, 1), 0); /* for the first, which waits longer */
        kill_and_collect(first);                                   /* and cannot have taken it: no lock */
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        TAKES(0, 0.5, ck_assert_int_eq(ended(second), 0)); /* nobody calls notify again */
        ck_assert_int_eq(PEEK(&said[DONE]), 1);
    }
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

static int notify_and_end(void *arg) {
    const int *killed = arg;
    MUST_EQ(mproc_condition_acquire(condition, MPROC_FOREVER), 0);
    POKE(&said[STATE], 4);
    MUST_EQ(mproc_condition_notify_all(condition), 0);
    if (*killed) raise(SIGKILL);
    return 7;
}

START_TEST(x32_owner_death_is_told_by_wait) {
    double for_ever = MPROC_FOREVER;
    begin_condition();
    for (int way = 0; way < 4; way++) {
        int killed = way % 2;
        POKE(&said[STATE], 0);
        POKE(&said[WAITING], 0);
        pid_t pid = way < 2 ? spawn(sleeper, NULL) : spawn(wait_for_state, &for_ever);
        acquire_when_asleep(1);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        ck_assert_int_eq(ended(spawn(notify_and_end, &killed)), killed ? -SIGKILL : 7);
        ck_assert_int_eq(ended(pid), EOWNERDEAD); /* and it has released the lock, which it held */
        ck_assert_int_eq(mproc_condition_acquire(condition, 0), 0);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
    }
    int killed = 1;
    ck_assert_int_eq(ended(spawn(notify_and_end, &killed)), -SIGKILL);
    ck_assert_int_eq(mproc_condition_acquire(condition, 1), MPROC_EOWNERDEAD);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    for (int way = 0; way < 2; way++) { /* who is refused does not swallow what the next one must be told */
        ck_assert_int_eq(ended(spawn(notify_and_end, &killed)), -SIGKILL);
        ck_assert_int_eq(mproc_condition_notify(condition, 1), -EPERM);
        ck_assert_int_eq(mproc_condition_wait(condition, 0), -EPERM);
        ck_assert_int_eq(mproc_condition_acquire(condition, way), MPROC_EOWNERDEAD);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
        ck_assert_int_eq(mproc_condition_acquire(condition, way), 0);
        ck_assert_int_eq(mproc_condition_release(condition), 0);
    }
    ck_assert_int_eq(ended(spawn(notify_and_end, &killed)), -SIGKILL);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

/* Forks a child that makes the call on the object, and leaves it after k of its instructions, or at its end:
   then said[LEFT] is 1. */
static pid_t step_into(int (*call)(void *), void *it, int k) {
    int status = 0;
    POKE(&said[LEFT], 0);
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        int error = call(it);
        POKE(&said[LEFT], 1);
        _exit(-error);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < k && PEEK(&said[LEFT]) == 0; i++) {
        ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
        waitpid(pid, &status, 0);
    }
    return pid;
}

/* A child leaves after k instructions of mproc_condition_free until the notified waiters, which it may have
   seen, are gone; false if it was through by then. */
static bool free_while_they_leave(int k) {
    enum { N = 4 };
    job waiters[N];
    void *others[N];
    int status = 0;
    condition = mproc_condition_new(NULL);
    POKE(&said[WAITING], 0);
    for (int i = 0; i < N; i++) start_thread(&waiters[i], sleeper, NULL);
    acquire_when_asleep(N);
    ck_assert_int_eq(mproc_condition_notify_all(condition), 0);
    pid_t pid = step_into(condition_free, condition, k);
    bool within = PEEK(&said[LEFT]) == 0;
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    for (int i = 0; i < N; i++) ck_assert_int_eq(end_thread(&waiters[i]), 0);
    for (int i = 0; i < N; i++) { /* their entries' memory is used for something else */
        others[i] = mproc__alloc(sizeof(mproc__waiter), false);
        memset(others[i], 0x55, sizeof(mproc__waiter));
    }
    ptrace(PTRACE_CONT, pid, NULL, NULL);
    waitpid(pid, &status, 0);
    if (WIFSTOPPED(status)) kill(pid, SIGKILL);
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EBUSY),
                  "after %d instructions it ended with %#x", k, (unsigned)status);
    ck_assert_int_eq(mproc_condition_free(condition), WEXITSTATUS(status) == 0 ? MPROC_EINVAL : 0);
    for (int i = 0; i < N; i++) mproc__dealloc(others[i]);
    return within;
}

START_TEST(x38_free_while_notified_waiters_leave) {
    begin();
    int k = 1;
    ck_assert_int_eq(mproc_condition_free(mproc_condition_new(NULL)), 0); /* the linker is through */
    while (free_while_they_leave(k)) k += SLOW > 1 ? 9 : 1;
    ck_assert_int_gt(k, 20);
}
END_TEST

static bool looks_long(void *ctx) {
    (void)ctx;
    POKE(&said[INSIDE], 1);
    await(&said[PHASE], 1);
    return true;
}
static int waits_for_looks_long(void *lock) {
    MUST_EQ(mproc_lock_acquire(lock, 0), 0);
    MUST_EQ(mproc_condition_wait_for(condition, looks_long, NULL, MPROC_FOREVER), 0);
    return -mproc_lock_release(lock);
}

START_TEST(x38_free_of_a_condition_and_its_lock) {
    begin();
    mproc_lock *lock = mproc_lock_new();
    condition = mproc_condition_new(lock);
    pid_t pid = spawn(waits_for_looks_long, lock); /* in wait_for, asleep or not, it is in use */
    await(&said[INSIDE], 1);
    ck_assert_int_eq(mproc_condition_free(condition), MPROC_EBUSY);
    POKE(&said[PHASE], 1);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0); /* by the lock's holder, who keeps that */
    ck_assert_int_eq(mproc_lock_release(lock), 0);

    int killed = 1;
    for (int dead = 0; dead < 2;
         dead++) { /* free tells nobody that a holder died: the next holder must know */
        condition = mproc_condition_new(lock);
        POKE(&said[WAITING], 0);
        if (dead) {
            pid = spawn(sleeper, NULL);
            acquire_when_asleep(1);
            ck_assert_int_eq(mproc_condition_release(condition), 0);
            kill_and_collect(pid);
        }
        ck_assert_int_eq(ended(spawn(notify_and_end, &killed)), -SIGKILL);
        ck_assert_int_eq(mproc_condition_free(condition), 0);
        ck_assert_int_eq(mproc_lock_acquire(lock, dead), MPROC_EOWNERDEAD);
        ck_assert_int_eq(mproc_lock_release(lock), 0);
        ck_assert_int_eq(mproc_lock_acquire(lock, dead), 0);
        ck_assert_int_eq(mproc_lock_release(lock), 0);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

/* A bounded buffer with two conditions over one lock, as everybody builds it. */
static mproc_condition *not_full, *not_empty;
enum { ROOM = 3, ITEMS = 2000 };

static bool has_room(void *ctx) {
    (void)ctx;
    return said[INSIDE] < ROOM;
}
static bool has_items(void *ctx) {
    (void)ctx;
    return said[INSIDE] > 0;
}
static int produce(void *arg) {
    (void)arg;
    for (int i = 0; i < ITEMS; i++) {
        MUST_EQ(mproc_condition_acquire(not_full, MPROC_FOREVER), 0);
        MUST_EQ(mproc_condition_wait_for(not_full, has_room, NULL, MPROC_FOREVER), 0);
        MUST(said[INSIDE] >= 0 && said[INSIDE] < ROOM);
        said[INSIDE]++;
        MUST_EQ(mproc_condition_notify(not_empty, 1), 0);
        MUST_EQ(mproc_condition_release(not_full), 0);
    }
    return 0;
}
static int consume(void *arg) {
    (void)arg;
    for (int i = 0; i < ITEMS; i++) {
        MUST_EQ(mproc_condition_acquire(not_empty, MPROC_FOREVER), 0);
        MUST_EQ(mproc_condition_wait_for(not_empty, has_items, NULL, MPROC_FOREVER), 0);
        MUST(said[INSIDE] > 0 && said[INSIDE] <= ROOM);
        said[INSIDE]--;
        said[LEFT]++;
        MUST_EQ(mproc_condition_notify(not_full, 1), 0);
        MUST_EQ(mproc_condition_release(not_empty), 0);
    }
    return 0;
}

START_TEST(cond_bounded_buffer) {
    enum { N = 3 };
    pid_t pids[2 * N];
    begin();
    mproc_lock *lock = mproc_lock_new();
    not_full = mproc_condition_new(lock);
    not_empty = mproc_condition_new(lock);
    ck_assert(not_full != NULL && not_empty != NULL);
    for (int i = 0; i < 2 * N; i++) pids[i] = spawn(i % 2 ? produce : consume, NULL);
    for (int i = 0; i < 2 * N; i++) ck_assert_int_eq(ended(pids[i]), 0);
    ck_assert_int_eq(said[INSIDE], 0);
    ck_assert_int_eq(said[LEFT], N * ITEMS);
    ck_assert_int_eq(mproc_condition_free(not_full), 0);
    ck_assert_int_eq(mproc_condition_free(not_empty), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

/* ---- Barrier ---------------------------------------------------------------------------------------------
 */

static mproc_barrier *barrier;
static mproc_queue *passed;

static void begin_barrier(unsigned parties) {
    begin();
    barrier = mproc_barrier_new(parties);
    ck_assert_msg(barrier != NULL, "no barrier: %s", strerror(errno));
}

/* What the callers of one round got. */
enum { OUT_OF_TIME = 100, BROKEN = 101 };
static int party(void *arg) {
    const double *timeout = arg;
    BUMP(&said[WAITING]);
    int place = mproc_barrier_wait(barrier, timeout != NULL ? *timeout : MPROC_FOREVER);
    BUMP(&said[DONE]);
    if (place == MPROC_ETIMEDOUT) return OUT_OF_TIME;
    return place == MPROC_EBROKEN ? BROKEN : place;
}

/* n of them pass once, and get all the numbers. */
static void pass(int n) {
    pid_t pids[16];
    job threads_[16];
    int seen[16] = {0};
    for (int i = 0; i < n / 2; i++) start_thread(&threads_[i], party, NULL);
    for (int i = n / 2; i < n; i++) pids[i] = spawn(party, NULL);
    for (int i = 0; i < n; i++) {
        int place = i < n / 2 ? end_thread(&threads_[i]) : ended(pids[i]);
        ck_assert_msg(place >= 0 && place < n, "place %d of %d", place, n);
        seen[place]++;
    }
    for (int i = 0; i < n; i++) ck_assert_int_eq(seen[i], 1);
}

START_TEST(barr_03_11_everybody_gets_a_number_of_its_own) {
    for (int n = 1; n <= 9; n++) {
        begin_barrier((unsigned)n);
        for (int i = 0; i < 5; i++) pass(n);
        ck_assert_int_eq(mproc_barrier_free(barrier), 0);
    }
    begin_barrier(1);
    for (int i = 0; i < 1000; i++) {
        ck_assert_int_eq(mproc_barrier_wait(barrier, i % 2 == 0 ? MPROC_FOREVER : 0), 0);
    }
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

enum { PARTIES = 5 };
static int lockstep(void *arg) {
    const int *rounds = arg;
    for (int i = 0; i < *rounds; i++) { /* nobody begins a phase before all have left the one before */
        MUST_EQ(PEEK(&said[LEFT]) / PARTIES, i);
        BUMP(&said[INSIDE]);
        MUST(mproc_barrier_wait(barrier, MPROC_FOREVER) >= 0);
        MUST_EQ(PEEK(&said[INSIDE]), PARTIES * (i + 1));
        MUST(mproc_barrier_wait(barrier, MPROC_FOREVER) >= 0);
        BUMP(&said[LEFT]);
        MUST(mproc_barrier_wait(barrier, MPROC_FOREVER) >= 0);
        MUST_EQ(PEEK(&said[LEFT]), PARTIES * (i + 1));
        MUST(mproc_barrier_wait(barrier, MPROC_FOREVER) >= 0);
    }
    return 0;
}

START_TEST(barr_01_02_lockstep) {
    int rounds = 100;
    pid_t pids[PARTIES];
    begin_barrier(PARTIES);
    for (int i = 0; i < PARTIES; i++) pids[i] = spawn(lockstep, &rounds);
    for (int i = 0; i < PARTIES; i++) ck_assert_int_eq(ended(pids[i]), 0);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0); /* nobody waits */
    begin_barrier(PARTIES);
    job threads_[PARTIES];
    for (int i = 0; i < PARTIES; i++) start_thread(&threads_[i], lockstep, &rounds);
    for (int i = 0; i < PARTIES; i++) ck_assert_int_eq(end_thread(&threads_[i]), 0);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

static int pass_and_tell(void *arg) {
    const int *passes = arg;
    for (int i = 0; i < *passes; i++) {
        int place = mproc_barrier_wait(barrier, MPROC_FOREVER);
        MUST(place >= 0 && place < PARTIES);
        int message[2] = {i, place};
        MUST_EQ(mproc_queue_put(passed, message, sizeof message, MPROC_FOREVER), 0);
    }
    return 0;
}

START_TEST(barr_12_a_thousand_passes) {
    int passes = (int)(1000 / SLOW);
    pid_t pids[PARTIES];
    begin_barrier(PARTIES);
    passed = mproc_queue_new(0);
    ck_assert_ptr_nonnull(passed);
    for (int i = 0; i < PARTIES; i++) pids[i] = spawn(pass_and_tell, &passes);
    for (int i = 0, places = 0; i < passes * PARTIES; i++) {
        int message[2];
        ck_assert_int_eq(mproc_queue_get(passed, message, sizeof message, 10), sizeof message);
        ck_assert_int_eq(message[0], i / PARTIES); /* grouped by pass */
        places |= 1 << message[1];
        if (i % PARTIES != PARTIES - 1) continue;
        ck_assert_int_eq(places, (1 << PARTIES) - 1);
        places = 0;
    }
    for (int i = 0; i < PARTIES; i++) ck_assert_int_eq(ended(pids[i]), 0);
    ck_assert_int_eq(mproc_queue_free(passed), 0);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

static void blocked_parties(pid_t *pids, int n) {
    for (int i = 0; i < n; i++) pids[i] = blocked(party, NULL);
}
static void all_broken(const pid_t *pids, int n) {
    for (int i = 0; i < n; i++) ck_assert_int_eq(ended(pids[i]), BROKEN);
}

START_TEST(barr_06_07_08_14_abort_and_reset) {
    pid_t pids[4];
    begin_barrier(5);
    blocked_parties(pids, 4);
    TAKES(0, 0.1, ck_assert_int_eq(mproc_barrier_abort(barrier), 0));
    TAKES(0, 0.3, all_broken(pids, 4));
    for (int i = 0; i < 2; i++) /* and so it stays */
        TAKES(0, 0.05, ck_assert_int_eq(mproc_barrier_wait(barrier, MPROC_FOREVER), MPROC_EBROKEN));
    ck_assert_int_eq(mproc_barrier_abort(barrier), 0);
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    pass(5);
    blocked_parties(pids, 4);
    TAKES(0, 0.1, ck_assert_int_eq(mproc_barrier_reset(barrier), 0));
    TAKES(0, 0.3, all_broken(pids, 4));
    pass(5);                                                                        /* at once as new */
    for (int i = 0; i < 40; i++) ck_assert_int_eq(mproc_barrier_reset(barrier), 0); /* harmless */
    pass(5);
    ck_assert_int_eq(mproc_barrier_abort(barrier), 0); /* with nobody waiting */
    ck_assert_int_eq(mproc_barrier_wait(barrier, 0), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    pass(5);
    blocked_parties(pids, 4);
    ck_assert_int_eq(mproc_barrier_free(barrier), MPROC_EBUSY);
    ck_assert_int_eq(mproc_barrier_abort(barrier), 0);
    all_broken(pids, 4);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

static int reset_barrier(void *arg) {
    (void)arg;
    return mproc_barrier_reset(barrier);
}

START_TEST(barr_14_reset_from_a_child) {
    pid_t pids[4];
    begin_barrier(5);
    ck_assert_int_eq(ended(spawn(reset_barrier, NULL)), 0);
    pass(5);
    blocked_parties(pids, 4);
    ck_assert_int_eq(ended(spawn(reset_barrier, NULL)), 0);
    all_broken(pids, 4);
    pass(5);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

/* Who was let through is not told otherwise by what comes after, however late it wakes. */
START_TEST(barr_passed_is_passed) {
    begin_barrier(2);
    for (int way = 0; way < 3; way++) {
        pid_t pid = blocked(party, NULL);
        kill(pid, SIGSTOP);
        EVENTUALLY(process_state(pid) == 'T');
        ck_assert_int_eq(mproc_barrier_wait(barrier, 5), 1);
        if (way == 0) ck_assert_int_eq(mproc_barrier_abort(barrier), 0);
        if (way == 1) ck_assert_int_eq(mproc_barrier_wait(barrier, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
        kill(pid, SIGCONT);
        ck_assert_int_eq(ended(pid), 0);
    }
    for (int way = 0; way < 2; way++) { /* nor is who was broken off told that it passed */
        pid_t pid = blocked(party, NULL);
        kill(pid, SIGSTOP);
        EVENTUALLY(process_state(pid) == 'T');
        if (way == 0) ck_assert_int_eq(mproc_barrier_abort(barrier), 0);
        ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
        for (int i = 0; i < 3; i++) pass(2);
        kill(pid, SIGCONT);
        ck_assert_int_eq(ended(pid), BROKEN);
    }
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

/* However often it is reset before a party that it broke off looks: that one did not pass. */
START_TEST(barr_many_resets_are_no_pass) {
    begin_barrier(2);
    for (int way = 0; way < 4; way++) {
        pid_t pid = blocked(party, NULL);
        if (way % 2 == 0) kill(pid, SIGSTOP);
        if (way % 2 == 0) EVENTUALLY(process_state(pid) == 'T');
        for (int i = 0; i < 100; i++) {
            if (way / 2 == 1) ck_assert_int_eq(mproc_barrier_abort(barrier), 0);
            ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
        }
        kill(pid, SIGCONT);
        ck_assert_int_eq(ended(pid), BROKEN);
    }
    pass(2);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

static int aborts(void *b) { return mproc_barrier_abort(b); }
static int resets(void *b) { return mproc_barrier_reset(b); }

/* A child leaves after k instructions of a call that breaks or resets the barrier; once that shows, another
   process frees it, and the memory is used for something else. False if the child was through by then. */
static bool freed_once_it_shows(int (*call)(void *), int k) {
    char *other = NULL;
    barrier = mproc_barrier_new(2);
    if (call == resets) mproc_barrier_abort(barrier);
    uint64_t word = MPROC__LOAD(&barrier->word);
    pid_t pid = step_into(call, barrier, k);
    bool within = PEEK(&said[LEFT]) == 0, shows = MPROC__LOAD(&barrier->word) != word;
    if (shows) {
        ck_assert_int_eq(mproc_barrier_free(barrier), 0);
        other = mproc__alloc(sizeof *barrier, false);
        ck_assert_ptr_eq(other, barrier);
        memset(other, 0x55, sizeof *barrier);
    }
    ptrace(PTRACE_CONT, pid, NULL, NULL);
    ck_assert_int_eq(ended(pid), 0);
    for (size_t i = 0; shows && i < sizeof *barrier; i++)
        ck_assert_msg(other[i] == 0x55, "byte %zu has changed after %d instructions", i, k);
    if (shows) mproc__dealloc(other);
    else ck_assert_int_eq(mproc_barrier_free(barrier), 0);
    return within;
}

START_TEST(barr_whoever_is_let_go_may_free_it) {
    int (*const calls[])(void *) = {aborts, resets};
    begin();
    for (size_t i = 0; i < 2; i++) {
        int k = 1;
        begin_barrier(1);
        ck_assert_int_eq(calls[i](barrier), 0); /* the linker is through */
        ck_assert_int_eq(mproc_barrier_free(barrier), 0);
        while (freed_once_it_shows(calls[i], k)) k++;
        ck_assert_int_gt(k, 20);
    }
}
END_TEST

START_TEST(barr_09_one_late_party_breaks_it_for_all) {
    double half = 0.5;
    pid_t pids[4];
    begin_barrier(5);
    double begun = now();
    for (int i = 0; i < 4; i++) pids[i] = spawn(party, &half);
    int out_of_time = 0, broken = 0;
    TAKES(
        0, 0.8, for (int i = 0; i < 4; i++) {
            int code = ended(pids[i]);
            out_of_time += code == OUT_OF_TIME;
            broken += code == BROKEN;
        });
    ck_assert(now() - begun > 0.49);
    ck_assert_int_ge(out_of_time, 1);
    ck_assert_int_eq(out_of_time + broken, 4);
    ck_assert_int_eq(mproc_barrier_wait(barrier, MPROC_FOREVER), MPROC_EBROKEN); /* the late one */
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_barrier_wait(barrier, 0), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_barrier_wait(barrier, 0), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    ck_assert_int_eq(mproc_barrier_wait(barrier, NAN), MPROC_EINVAL); /* breaks nothing */
    pid_t blocked_one = blocked(party, NULL);
    ck_assert_int_eq(mproc_barrier_wait(barrier, NAN), MPROC_EINVAL);
    nap(0.05);
    EVENTUALLY(process_state(blocked_one) == 'S'); /* it looks now and then, and waits on */
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    ck_assert_int_eq(ended(blocked_one), BROKEN);
    pass(5);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

START_TEST(barr_13_parties_that_cannot_be) {
    const unsigned odd[] = {0, 32768, 65536, 1u << 31, (unsigned)-1};
    begin();
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        errno = 0;
        ck_assert_ptr_null(mproc_barrier_new(odd[i]));
        ck_assert_int_eq(errno, EINVAL);
    }
    begin_barrier(32767);
    ck_assert_int_eq(mproc_barrier_wait(barrier, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

START_TEST(x36_killed_waiter_of_a_barrier) {
    begin_barrier(3);
    for (int round = 0; round < 6; round++) {
        double three = 3;
        pid_t dead = blocked(party, NULL), live = blocked(party, round % 2 ? NULL : &three);
        kill_and_collect(dead);
        double killed = now();
        if (round < 2) { /* the other one is told, sooner or later: in its time if it has a limit */
            int code = ended(live);
            ck_assert(code == BROKEN || code == OUT_OF_TIME);
            ck_assert_msg(now() - killed < 3.3 + 2 * SLOW, "after %.2f s", now() - killed);
            ck_assert_int_eq(mproc_barrier_wait(barrier, MPROC_FOREVER), MPROC_EBROKEN);
        } else { /* abort and reset work all the same */
            if (round < 4) TAKES(0, 0.1, ck_assert_int_eq(mproc_barrier_abort(barrier), 0));
            else TAKES(0, 0.1, ck_assert_int_eq(mproc_barrier_reset(barrier), 0));
            TAKES(0, 0.3, ck_assert_int_eq(ended(live), BROKEN));
        }
        ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
        pass(3); /* the dead one is not counted in the next generation */
        pass(3);
    }
    kill_and_collect(blocked(party, NULL));
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

/* What a process notes in its seat while it arrives at a barrier, or 0. */
static uintptr_t noted_at_a_barrier(pid_t pid) {
    for (uint32_t i = 0; i < mproc__shared->seats_used; i++) {
        const mproc__seat *seat = &mproc__shared->seat[i];
        if (MPROC__LOAD(&seat->who) >> 32 == (uint64_t)pid) return MPROC__LOAD(&seat->getting);
    }
    return 0;
}

/* Nobody living has waited, so nobody has noticed: the last one to come does. */
START_TEST(x36_killed_waiter_and_the_last_party) {
    for (int parties = 2; parties <= 3; parties++) {
        begin_barrier((unsigned)parties);
        kill_and_collect(blocked(party, NULL));
        pid_t live = parties == 3 ? blocked(party, NULL) : 0;
        TAKES(0, 0.1, ck_assert_int_eq(mproc_barrier_wait(barrier, 5), MPROC_EBROKEN));
        if (live != 0) TAKES(0, 0.1, ck_assert_int_eq(ended(live), BROKEN));
        ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
        pass(parties);
        ck_assert_int_eq(mproc_barrier_free(barrier), 0);
    }
}
END_TEST

/* More processes than parties: one that is about to arrive does not stand for the dead one. */
START_TEST(x36_killed_waiter_and_two_last_parties) {
    begin_barrier(2);
    pass(2);
    kill_and_collect(blocked(party, NULL));
    pid_t pid = step_into(party, NULL, 1);
    while (noted_at_a_barrier(pid) == 0 && PEEK(&said[LEFT]) == 0) {
        ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
        waitpid(pid, NULL, 0);
    }
    ck_assert_int_eq(PEEK(&said[LEFT]), 0);
    ck_assert_int_eq(mproc_barrier_wait(barrier, 5), MPROC_EBROKEN);
    ptrace(PTRACE_CONT, pid, NULL, NULL);
    ck_assert_int_eq(ended(pid), -BROKEN & 0xff);
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    pass(2);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

START_TEST(barr_a_stopped_party_is_no_dead_one) {
    begin_barrier(3);
    pid_t one = blocked(party, NULL), two = blocked(party, NULL);
    kill(one, SIGSTOP);
    EVENTUALLY(process_state(one) == 'T');
    nap(0.4);
    EVENTUALLY(process_state(two) == 'S'); /* it looks now and then, and waits on */
    ck_assert_int_eq(mproc_barrier_wait(barrier, 5), 2);
    ck_assert_int_eq(ended(two), 1);
    kill(one, SIGCONT);
    ck_assert_int_eq(ended(one), 0);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

/* ---- Objects made late (P5) ------------------------------------------------------------------------------
 */

/* A worker forked before anything else uses what others make, by plain pointer. */
typedef enum late { LOCK, RLOCK, SEMAPHORE, EVENT, CONDITION, BARRIER, VALUE, ARRAY, POOL, END } late;
typedef struct errands {
    uint32_t turn, done; /* one more each time */
    late kind;
    void *object;
    int result;
} errands;
static errands *errand;

static int square(const void *arg, void *result) {
    int n = *(const int *)arg;
    *(int *)result = n * n;
    return 0;
}

/* In the worker: each call waits for what the test does with the same object. */
static int use(late which, void *o) {
    int n = 12, square_of_n = 0, error;
    switch (which) {
    case LOCK:
        error = mproc_lock_acquire(o, MPROC_FOREVER);
        return error != 0 ? error : mproc_lock_release(o);
    case RLOCK:
        error = mproc_rlock_acquire(o, MPROC_FOREVER);
        if (error == 0) error = mproc_rlock_acquire(o, 0);
        if (error == 0) error = mproc_rlock_release(o);
        return error != 0 ? error : mproc_rlock_release(o);
    case SEMAPHORE: return mproc_semaphore_acquire(o, MPROC_FOREVER);
    case EVENT: return mproc_event_wait(o, MPROC_FOREVER);
    case CONDITION: return condition_wait(o, MPROC_FOREVER);
    case BARRIER: return mproc_barrier_wait(o, MPROC_FOREVER) >= 0 ? 0 : -1;
    case VALUE:
    case ARRAY:
        MPROC_WITH (mproc_lock_of(o)) {
            for (size_t i = 0; i < mproc_array_len(o); i++) ((int *)o)[i] += 1;
        }
        return 0;
    case POOL:
        error = mproc_pool_apply(o, square, &n, sizeof n, &square_of_n, sizeof square_of_n);
        return error != 0 ? error : square_of_n == 144 ? 0 : -1;
    default: return -1;
    }
}

static int run_errands(void *arg) {
    (void)arg;
    for (uint32_t turn = 1;; turn++) {
        while (PEEK(&errand->turn) < turn) nap(0.0005);
        if (errand->kind == END) return 0;
        POKE(&said[WAITING], 1);
        errand->result = use(errand->kind, errand->object);
        POKE(&errand->done, turn);
    }
}

static pid_t begin_late(void) {
    begin();
    errand = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(errand != MAP_FAILED);
    mproc_event_free(mproc_event_new()); /* the family's memory exists from here on */
    return spawn(run_errands, NULL);
}
static void send_errand(late which, void *o) {
    errand->kind = which;
    errand->object = o;
    POKE(&said[WAITING], 0);
    BUMP(&errand->turn);
}
static void errand_waits(pid_t worker) {
    EVENTUALLY(PEEK(&said[WAITING]) == 1 && process_state(worker) == 'S');
    ck_assert_uint_ne(PEEK(&errand->done), errand->turn);
}
static void errand_done(void) {
    EVENTUALLY(PEEK(&errand->done) == errand->turn);
    ck_assert_int_eq(errand->result, 0);
}
static void end_late(pid_t worker) {
    send_errand(END, NULL);
    ck_assert_int_eq(ended(worker), 0);
}

/* The maker: a process forked after the worker, which ends as soon as it has made the object. */
static int create_and_end(void *arg) {
    static const int ten[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    void *o = NULL;
    int killed = ((const int *)arg)[1];
    switch (((const int *)arg)[0]) {
    case LOCK: o = mproc_lock_new(); break;
    case RLOCK: o = mproc_rlock_new(); break;
    case SEMAPHORE: o = mproc_semaphore_new(0); break;
    case EVENT: o = mproc_event_new(); break;
    case CONDITION: o = mproc_condition_new(NULL); break;
    case BARRIER: o = mproc_barrier_new(2); break;
    case VALUE: o = mproc_value_new(int, 41); break;
    case ARRAY: o = mproc_array_from(int, ten, 10); break;
    default: break;
    }
    MUST(o != NULL);
    errand->object = o;
    if (killed) raise(SIGKILL);
    return 7;
}

static void *made_by_one_who_ended(late which) {
    static int killed;
    int how[2] = {(int)which, killed = !killed};
    ck_assert_int_eq(ended(spawn(create_and_end, how)), how[1] ? -SIGKILL : 7);
    return errand->object;
}

START_TEST(p5_late_lock) {
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_lock *lock = made_by_one_who_ended(LOCK);
        ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
        send_errand(LOCK, lock);
        errand_waits(worker);
        ck_assert_int_eq(mproc_lock_release(lock), 0);
        errand_done();
        ck_assert_int_eq(mproc_lock_free(lock), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_rlock) {
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_rlock *lock = made_by_one_who_ended(RLOCK);
        for (int k = 0; k < 2; k++) ck_assert_int_eq(mproc_rlock_acquire(lock, 0), 0);
        send_errand(RLOCK, lock);
        for (int k = 0; k < 2; k++) {
            errand_waits(worker);
            ck_assert_int_eq(mproc_rlock_release(lock), 0);
        }
        errand_done();
        ck_assert_int_eq(mproc_rlock_free(lock), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_semaphore) {
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_semaphore *s = made_by_one_who_ended(SEMAPHORE);
        send_errand(SEMAPHORE, s);
        errand_waits(worker);
        ck_assert_int_eq(mproc_semaphore_release(s), 0);
        errand_done();
        ck_assert_int_eq(mproc_semaphore_value(s), 0);
        ck_assert_int_eq(mproc_semaphore_free(s), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_event) {
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_event *e = made_by_one_who_ended(EVENT);
        send_errand(EVENT, e);
        errand_waits(worker);
        ck_assert_int_eq(mproc_event_set(e), 0);
        errand_done();
        ck_assert_int_eq(mproc_event_free(e), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_condition) {
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_condition *c = made_by_one_who_ended(CONDITION);
        send_errand(CONDITION, c);
        errand_waits(worker);
        ck_assert_int_eq(condition_wake(c), 0);
        errand_done();
        ck_assert_int_eq(mproc_condition_free(c), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_barrier) {
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_barrier *b = made_by_one_who_ended(BARRIER);
        send_errand(BARRIER, b);
        errand_waits(worker);
        ck_assert_int_eq(mproc_barrier_wait(b, 5), 1);
        errand_done();
        ck_assert_int_eq(mproc_barrier_free(b), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_value_and_array) {
    pid_t worker = begin_late();
    for (int i = 0; i < 4; i++) {
        int *shared = made_by_one_who_ended(i % 2 ? VALUE : ARRAY);
        ck_assert_uint_eq(mproc_array_len(shared), i % 2 ? 1 : 10);
        ck_assert_int_eq(mproc_lock_acquire(mproc_lock_of(shared), 0), 0);
        send_errand(i % 2 ? VALUE : ARRAY, shared);
        errand_waits(worker);
        ck_assert_int_eq(shared[0], i % 2 ? 41 : 1);
        ck_assert_int_eq(mproc_lock_release(mproc_lock_of(shared)), 0);
        errand_done();
        ck_assert_int_eq(shared[0], i % 2 ? 42 : 2);
        if (i % 2 == 0) ck_assert_int_eq(shared[9], 11);
        ck_assert_int_eq(mproc_free(shared), 0);
    }
    end_late(worker);
}
END_TEST

START_TEST(p5_late_pool) { /* which ends with its maker, so that stays */
    pid_t worker = begin_late();
    for (int i = 0; i < 2; i++) {
        mproc_pool *pool = mproc_pool_new(2);
        ck_assert_ptr_nonnull(pool);
        for (int k = 0; k < 20; k++) {
            send_errand(POOL, pool);
            errand_done();
        }
        ck_assert_int_eq(mproc_pool_free(pool), 0);
    }
    end_late(worker);
}
END_TEST

/* A free that meets the lock of a dead holder leaves it to the next one to be told, though others wait
 * already. */
static mproc_lock *killed_lock;
static uint32_t told_about_it;
static int dies_with_killed_lock(void *arg) {
    (void)arg;
    mproc_lock_acquire(killed_lock, MPROC_FOREVER);
    for (;;) pause();
    return 0;
}
static void *is_told(void *arg) {
    (void)arg;
    int error = mproc_lock_acquire(killed_lock, MPROC_FOREVER);
    if (error == MPROC_EOWNERDEAD) MPROC__ADD(&told_about_it, 1);
    if (error == 0 || error == MPROC_EOWNERDEAD) mproc_lock_release(killed_lock);
    return NULL;
}
START_TEST(free_of_a_condition_beside_those_that_wait_for_its_lock) {
    for (int round = 0; round < 300; round++) {
        mproc_process p = {.target = dies_with_killed_lock};
        pthread_t waiter[2];
        int error;
        killed_lock = mproc_lock_new();
        mproc_condition *c = mproc_condition_new(killed_lock);
        MPROC__STORE(&told_about_it, 0);
        ck_assert_int_eq(mproc_process_start(&p), 0);
        EVENTUALLY(mproc__mutex_holder(&killed_lock->mutex) != 0);
        for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_create(&waiter[i], NULL, is_told, NULL), 0);
        EVENTUALLY(mproc__awaited(killed_lock));
        mproc_process_kill(&p);
        while ((error = mproc_condition_free(c)) == MPROC_EBUSY) continue;
        ck_assert_int_eq(error, 0);
        for (int i = 0; i < 2; i++) pthread_join(waiter[i], NULL);
        ck_assert_uint_eq(told_about_it, 1);
        ck_assert_int_eq(mproc_lock_free(killed_lock), 0);
        ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
    }
}
END_TEST

SUITE_MAIN("sync", sem_04_10_evnt_01_cond_06_lock_11_13_x59_timeouts,
           x01_cond_09_signals_neither_end_nor_stretch_a_wait, x59_waiting_uses_no_processor,
           x59_nor_do_many_parties_of_a_barrier, x34_x35_x36_killed_waiters_hold_up_nobody,
           x38_free_while_somebody_waits, x38_free_while_somebody_spins, x38_what_is_not_such_an_object,
           x38_objects_come_back_when_freed, memory_of_waiters_comes_back, lock_05_06_18_19_depth_is_exact,
           lock_17_x39_only_the_holder_releases, lock_10_rlock_waiters_get_it_in_turn,
           x32_dead_holder_of_an_rlock_is_told, x32_waiters_for_a_dead_holders_rlock_are_told,
           a_forked_child_does_not_hold_its_parents_rlock, lock_21_free_of_a_held_rlock_does_not_let_go_of_it,
           x40_nobody_starves_at_an_rlock, sem_01_02_06_10_11_counts_down_and_up,
           sem_03_a_bounded_one_goes_no_higher, sem_05_values_that_cannot_be,
           sem_07_08_as_many_pass_as_there_are_permits, sem_09_racing_polls, sem_12_two_thousand_at_once,
           sem_13_many_blocked_acquirers, x33_killed_inside_a_semaphore,
           sem_a_stopped_waiter_keeps_nothing_back, x06_release_from_a_signal_handler,
           x06_set_from_a_signal_handler, evnt_01_02_04_set_and_clear, evnt_03_set_by_another_process,
           evnt_09_cleared_by_another_process, evnt_05_09_all_waiters_each_time,
           evnt_06_set_then_clear_wakes_all_who_waited, evnt_07_waits_end_independently,
           evnt_ping_pong_loses_no_wake_up, cond_01_02_notify_wakes_one, cond_03_04_05_notify_all_and_n,
           cond_06_timed_out_holds_the_lock_again, cond_07_wait_for_goes_on_until_it_is_so,
           cond_08_wait_for_counts_all_its_time, x01_cond_08_wait_for_beside_signals,
           cond_10_x39_not_without_the_lock, cond_11_the_notified_wake_after_the_release,
           cond_13_a_given_lock_is_shared, cond_14_a_child_that_only_acquires_and_releases,
           x34_killed_waiters_and_notify, x34_killed_waiter_whose_number_comes_again,
           x37_a_notification_does_not_die_with_its_waiter, x32_owner_death_is_told_by_wait,
           x38_free_while_notified_waiters_leave, x38_free_of_a_condition_and_its_lock, cond_bounded_buffer,
           barr_03_11_everybody_gets_a_number_of_its_own, barr_01_02_lockstep, barr_12_a_thousand_passes,
           barr_06_07_08_14_abort_and_reset, barr_14_reset_from_a_child, barr_passed_is_passed,
           barr_many_resets_are_no_pass, barr_whoever_is_let_go_may_free_it,
           barr_09_one_late_party_breaks_it_for_all, barr_13_parties_that_cannot_be,
           x36_killed_waiter_of_a_barrier, x36_killed_waiter_and_the_last_party,
           x36_killed_waiter_and_two_last_parties, barr_a_stopped_party_is_no_dead_one, p5_late_lock,
           p5_late_rlock, p5_late_semaphore, p5_late_event, p5_late_condition, p5_late_barrier,
           p5_late_value_and_array, p5_late_pool, free_of_a_condition_beside_those_that_wait_for_its_lock)
