/* Locks: who may take and release them, how they wait, what MPROC_WITH does, and what becomes of a lock
   whose holder dies. */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE ((size_t)16 << 20) /* small, so that leaks show */
#include "support.h"
#include <math.h>
#include <pthread.h>

enum {
    HELD,
    GO,
    WAITING,
    DONE,
    RESULT,
    DIED,
    PROGRESS,
    REPAIRED,
    FIRST,
    SECOND,
    COUNTS
};                       /* places in said */
static mproc_lock *lock; /* of the test that runs */
static int *said;        /* what its processes tell each other */

static void begin(void) {
    lock = mproc_lock_new();
    ck_assert_ptr_nonnull(lock);
    said = shared_ints();
}

/* ---- What the processes and threads of a test do --------------------------------------------------------
 */

static int hold_till_told(void *arg) {
    (void)arg;
    MUST_EQ(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
    POKE(&said[HELD], 1);
    await(&said[GO], 1);
    MUST_EQ(mproc_lock_release(lock), 0);
    return 0;
}

static int take_and_give(void *arg) {
    const double *timeout = arg;
    BUMP(&said[WAITING]);
    int error = mproc_lock_acquire(lock, timeout != NULL ? *timeout : MPROC_FOREVER);
    POKE(&said[RESULT], error);
    BUMP(&said[DONE]);
    if (error == 0 || error == MPROC_EOWNERDEAD) MUST_EQ(mproc_lock_release(lock), 0);
    return 0;
}

static void *take_and_give_thread(void *arg) {
    take_and_give(arg);
    return NULL;
}

/* A waiter that has said so and sleeps can only sleep in acquire. */
static pid_t blocked_waiter(void) {
    int before = PEEK(&said[WAITING]);
    pid_t pid = spawn(take_and_give, NULL);
    EVENTUALLY(PEEK(&said[WAITING]) == before + 1 && process_state(pid) == 'S');
    return pid;
}

static pid_t holder(void) {
    pid_t pid = spawn(hold_till_told, NULL);
    EVENTUALLY(PEEK(&said[HELD]) == 1);
    return pid;
}

static void let_go(pid_t pid) {
    POKE(&said[GO], 1);
    ck_assert_int_eq(ended(pid), 0);
    POKE(&said[GO], 0);
    POKE(&said[HELD], 0);
}

static int poll_lock(void *arg) {
    (void)arg;
    double begin_ = now();
    int error = mproc_lock_acquire(lock, 0);
    MUST(now() - begin_ < 0.05 + SLOW);
    return -error;
}

static int release_lock(void *arg) {
    (void)arg;
    return -mproc_lock_release(lock);
}

static void *release_in_thread(void *arg) {
    *(int *)arg = mproc_lock_release(lock);
    return NULL;
}

static void *poll_in_thread(void *arg) {
    *(int *)arg = mproc_lock_acquire(lock, 0);
    return NULL;
}

static int in_thread(void *(*work)(void *)) {
    int result = 1;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, work, &result), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    return result;
}

/* ---- Taking and releasing -------------------------------------------------------------------------------
 */

START_TEST(lock_01_not_twice_even_by_its_holder) {
    begin();
    ck_assert_int_eq(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_lock_acquire(lock, 0.2), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_release(lock), MPROC_EPERM);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_14_holder_that_waits_for_ever_is_told) {
    const double for_ever[] = {MPROC_FOREVER, -100, 1e300, INFINITY, -INFINITY};
    begin();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
        TAKES(0, 0.1, ck_assert_int_eq(mproc_lock_acquire(lock, for_ever[i]), -EDEADLK));
    }
    ck_assert_int_eq(ended(spawn(poll_lock, NULL)), ETIMEDOUT);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(ended(spawn(poll_lock, NULL)), 0);
    ck_assert_int_eq(mproc_lock_acquire(lock, 1), MPROC_EOWNERDEAD); /* poll_lock ended holding it */
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_02_release_of_a_free_lock) {
    begin();
    ck_assert_int_eq(mproc_lock_release(lock), MPROC_EPERM);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_release(lock), MPROC_EPERM);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_04_and_09_others_see_the_holder) {
    begin();
    pid_t pid = holder();
    TAKES(0, 0.05, ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_ETIMEDOUT));
    ck_assert_int_eq(ended(spawn(poll_lock, NULL)), ETIMEDOUT);
    ck_assert_int_eq(in_thread(poll_in_thread), MPROC_ETIMEDOUT);
    let_go(pid);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(in_thread(poll_in_thread), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_15_x39_only_the_holder_releases) {
    begin();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(ended(spawn(release_lock, NULL)), EPERM);
    ck_assert_int_eq(in_thread(release_in_thread), MPROC_EPERM);
    ck_assert_int_eq(ended(spawn(poll_lock, NULL)), ETIMEDOUT); /* nothing has changed */
    ck_assert_int_eq(mproc_lock_release(lock), 0);

    pid_t pid = holder();
    ck_assert_int_eq(mproc_lock_release(lock), MPROC_EPERM);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_ETIMEDOUT);
    let_go(pid);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_10_all_waiters_get_it) {
    enum { EACH = 5 };
    pid_t pids[EACH];
    pthread_t waiting[EACH];
    begin();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    for (int i = 0; i < EACH; i++) pids[i] = blocked_waiter();
    for (int i = 0; i < EACH; i++)
        ck_assert_int_eq(pthread_create(&waiting[i], NULL, take_and_give_thread, NULL), 0);
    EVENTUALLY(PEEK(&said[WAITING]) == 2 * EACH);
    nap(0.05); /* time enough for one that would not wait */
    ck_assert_int_eq(PEEK(&said[DONE]), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    TAKES(0, 2, EVENTUALLY(PEEK(&said[DONE]) == 2 * EACH));
    for (int i = 0; i < EACH; i++) {
        ck_assert_int_eq(ended(pids[i]), 0);
        ck_assert_int_eq(pthread_join(waiting[i], NULL), 0);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_11_12_16_timeouts) {
    begin();
    TAKES(0, 0.05, ck_assert_int_eq(mproc_lock_acquire(lock, 5), 0));
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    pid_t pid = holder();
    TAKES(0.5, 0.8, ck_assert_int_eq(mproc_lock_acquire(lock, 0.5), MPROC_ETIMEDOUT));
    let_go(pid);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0); /* the failed wait left nothing behind */
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(lock_13_x59_odd_timeouts) {
    const double for_ever[] = {-100, -1e-300, 1e9, 1e100, 1e300, INFINITY, -INFINITY};
    const double at_once[] = {0, -0.0, 1e-300, 1e-9, 0.0004};
    begin();
    for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) { /* of a free lock, of a held one */
        ck_assert_int_eq(mproc_lock_acquire(lock, for_ever[i]), 0);
        pid_t pid = spawn(take_and_give, (void *)(uintptr_t)&for_ever[i]);
        EVENTUALLY(PEEK(&said[WAITING]) == (int)i + 1 && process_state(pid) == 'S');
        nap(0.01); /* time enough for one that would not wait */
        ck_assert_int_eq(PEEK(&said[DONE]), (int)i);
        ck_assert_int_eq(mproc_lock_release(lock), 0);
        ck_assert_int_eq(ended(pid), 0);
        ck_assert_int_eq(PEEK(&said[RESULT]), 0);
    }
    ck_assert_int_eq(mproc_lock_acquire(lock, NAN), MPROC_EINVAL);
    ck_assert_int_eq(mproc_lock_acquire(lock, -NAN), MPROC_EINVAL);
    pid_t pid = holder();
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        TAKES(at_once[i], 0.05, ck_assert_int_eq(mproc_lock_acquire(lock, at_once[i]), MPROC_ETIMEDOUT));
    }
    TAKES(0, 0.05, ck_assert_int_eq(mproc_lock_acquire(lock, NAN), MPROC_EINVAL));
    let_go(pid);
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        ck_assert_int_eq(mproc_lock_acquire(lock, at_once[i]), 0);
        ck_assert_int_eq(mproc_lock_release(lock), 0);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(x01_signals_neither_end_nor_stretch_a_wait) {
    begin();
    pid_t pid = holder();
    signal_storm(10000);
    TAKES(0.5, 0.6, ck_assert_int_eq(mproc_lock_acquire(lock, 0.5), MPROC_ETIMEDOUT));
    pid_t late = fork(); /* lets the holder go in half a second */
    if (late == 0) {
        nap(0.5);
        POKE(&said[GO], 1);
        _exit(0);
    }
    TAKES(0.4, 0.7, ck_assert_int_eq(mproc_lock_acquire(lock, MPROC_FOREVER), 0));
    signal_storm(0);
    ck_assert_int_eq(ended(late), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

static int wait_and_count_cpu(void *arg) {
    (void)arg;
    double before = cpu_seconds();
    MUST_EQ(mproc_lock_acquire(lock, 2), MPROC_ETIMEDOUT);
    double used = cpu_seconds() - before;
    if (used >= 0.02 * SLOW) fprintf(stderr, "a wait of 2 s used %.1f ms of processor\n", used * 1e3);
    return used >= 0.02 * SLOW;
}

START_TEST(x59_waiting_uses_no_processor) {
    begin();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    pid_t a = spawn(wait_and_count_cpu, NULL), b = spawn(wait_and_count_cpu, NULL);
    ck_assert_int_eq(ended(a), 0);
    ck_assert_int_eq(ended(b), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
}
END_TEST

static int compete(void *arg) {
    int *mine = arg;
    MUST_EQ(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
    MUST_EQ(mproc_lock_release(lock), 0);
    BUMP(&said[WAITING]);
    await(&said[GO], 1);
    while (PEEK(&said[GO]) == 1) {
        MUST_EQ(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
        ++*mine;
        MUST_EQ(mproc_lock_release(lock), 0);
    }
    return 0;
}

START_TEST(x40_nobody_starves) {
    enum { N = 8 };
    pid_t pids[N];
    long sum = 0;
    begin();
    for (int i = 0; i < N; i++) pids[i] = spawn(compete, &said[COUNTS + i]);
    EVENTUALLY(PEEK(&said[WAITING]) == N);
    POKE(&said[GO], 1);
    nap(2);
    POKE(&said[GO], 2);
    for (int i = 0; i < N; i++) ck_assert_int_eq(ended(pids[i]), 0);
    for (int i = 0; i < N; i++) sum += said[COUNTS + i];
    for (int i = 0; i < N; i++) {
        ck_assert_int_gt(said[COUNTS + i], 0);
        ck_assert_int_ge((long)said[COUNTS + i] * 100, sum / N);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

/* ---- MPROC_WITH -----------------------------------------------------------------------------------------
 */

static bool lock_is_free(void) {
    if (mproc_lock_acquire(lock, 0) != 0) return false;
    return mproc_lock_release(lock) == 0;
}

static int leave_by_return(void) {
    MPROC_WITH (lock) {
        if (!lock_is_free()) return 5;
    }
    return 6;
}

static int leave_by_goto(void) {
    for (int i = 0;; i++) {
        MPROC_WITH (lock) {
            if (i == 2) goto out;
        }
    }
out:
    return lock_is_free();
}

#define WITH_BOTH(a, b) \
    MPROC_WITH (a)      \
        MPROC_WITH (b) /* on one line */

START_TEST(lock_07_with_leaves_by_every_way) {
    int rounds = 0;
    begin();
    mproc_lock *other = mproc_lock_new();
    MPROC_WITH (lock) {
        rounds++;
        ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(ended(spawn(poll_lock, NULL)), ETIMEDOUT);
    }
    ck_assert_int_eq(rounds, 1);
    ck_assert(lock_is_free());
    MPROC_WITH (lock) break;
    ck_assert(lock_is_free());
    MPROC_WITH (lock) continue;
    ck_assert(lock_is_free());
    for (int i = 0; i < 3; i++)
        MPROC_WITH (lock) rounds++;
    ck_assert_int_eq(rounds, 4);
    ck_assert_int_eq(leave_by_return(), 5);
    ck_assert(lock_is_free());
    ck_assert_int_eq(leave_by_goto(), 1);
    MPROC_WITH (lock) {
        MPROC_WITH (other) { rounds++; }
        ck_assert_int_eq(mproc_lock_acquire(other, 0), 0);
        ck_assert_int_eq(mproc_lock_release(other), 0);
        ck_assert(!lock_is_free());
    }
    ck_assert(lock_is_free());
    if (rounds == 5)
        MPROC_WITH (lock) rounds++;
    else rounds = 100; /* belongs to the outer if */
    ck_assert_int_eq(rounds, 6);
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wshadow"
    WITH_BOTH(lock, other) rounds++; /* no variable of one hides the other's */
#pragma GCC diagnostic pop
    ck_assert_int_eq(rounds, 7);
    ck_assert(lock_is_free());
    ck_assert_int_eq(mproc_lock_free(other), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(with_skips_what_it_cannot_hold) {
    int rounds = 0;
    begin();
    errno = 0;
    MPROC_WITH (NULL) rounds++;
    ck_assert_int_eq(errno, EINVAL);
    MPROC_WITH (lock) {
        errno = 0;
        MPROC_WITH (lock) rounds++; /* would wait for itself */
        ck_assert_int_eq(errno, EDEADLK);
        ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_ETIMEDOUT); /* still held by the outer one */
    }
    ck_assert(lock_is_free());
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    errno = 0;
    MPROC_WITH (lock) rounds++; /* freed */
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(rounds, 0);
}
END_TEST

/* ---- Death of the holder --------------------------------------------------------------------------------
 */

static int hold_and_be_killed(void *arg) {
    (void)arg;
    int error = mproc_lock_acquire(lock, MPROC_FOREVER);
    MUST(error == 0 || error == MPROC_EOWNERDEAD);
    POKE(&said[HELD], 1);
    raise(SIGKILL);
    return 0;
}

static int hold_and_exit(void *arg) {
    (void)arg;
    MUST_EQ(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
    POKE(&said[HELD], 1);
    return 7;
}

static int hold_and_exit_when_told(void *arg) {
    (void)arg;
    MUST_EQ(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
    POKE(&said[HELD], 1);
    await(&said[GO], 1);
    return 7;
}

static int hold_and_exec(void *arg) {
    (void)arg;
    MUST_EQ(mproc_lock_acquire(lock, MPROC_FOREVER), 0);
    POKE(&said[HELD], 1);
    execlp("sleep", "sleep", "60", (char *)NULL);
    return 99;
}

static void *hold_and_end_thread(void *arg) {
    *(int *)arg = mproc_lock_acquire(lock, MPROC_FOREVER);
    return NULL;
}

static void told_and_normal_again(double timeout) {
    double begin_ = now();
    ck_assert_int_eq(mproc_lock_acquire(lock, timeout), MPROC_EOWNERDEAD);
    ck_assert_msg(now() - begin_ < 0.5 * SLOW, "told after %.3f s", now() - begin_);
    ck_assert(mproc_lock_owner_died(lock));
    ck_assert_int_eq(ended(spawn(poll_lock, NULL)), ETIMEDOUT); /* it is held */
    ck_assert(mproc_lock_owner_died(lock));
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert(!mproc_lock_owner_died(lock));
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert(!mproc_lock_owner_died(lock));
    ck_assert_int_eq(mproc_lock_release(lock), 0);
}

START_TEST(x32_lock_22_dead_holder_is_told) {
    begin();
    ck_assert_int_eq(ended(spawn(hold_and_be_killed, NULL)), -SIGKILL);
    told_and_normal_again(3);
    ck_assert_int_eq(ended(spawn(hold_and_exit, NULL)), 7);
    told_and_normal_again(MPROC_FOREVER);
    ck_assert_int_eq(ended(spawn(hold_and_be_killed, NULL)), -SIGKILL);
    told_and_normal_again(0);
    ck_assert_int_eq(in_thread(hold_and_end_thread), 0);
    told_and_normal_again(3);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(x32_holder_that_became_another_program_is_told) {
    begin();
    pid_t pid = spawn(hold_and_exec, NULL);
    EVENTUALLY(PEEK(&said[HELD]) == 1);
    ck_assert_int_eq(mproc_lock_acquire(lock, 5), MPROC_EOWNERDEAD);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert(!process_gone(pid));
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(x32_blocked_waiters_are_told) {
    begin();
    for (int way = 0; way < 3; way++) { /* killed with a process waiting, with a thread waiting; plain exit */
        POKE(&said[WAITING], 0);
        POKE(&said[DONE], 0);
        POKE(&said[RESULT], 1);
        pid_t pid = spawn(hold_and_exit_when_told, NULL), waiter = 0;
        EVENTUALLY(PEEK(&said[HELD]) == 1);
        pthread_t thread;
        if (way == 1) {
            ck_assert_int_eq(pthread_create(&thread, NULL, take_and_give_thread, NULL), 0);
            EVENTUALLY(PEEK(&said[WAITING]) == 1);
            nap(0.01);
        } else {
            waiter = blocked_waiter();
        }
        double killed = now();
        if (way == 2) POKE(&said[GO], 1);
        else kill(pid, SIGKILL);
        EVENTUALLY(PEEK(&said[DONE]) == 1);
        ck_assert_msg(now() - killed < 0.5 * SLOW, "told after %.3f s", now() - killed);
        ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_EOWNERDEAD);
        ck_assert_int_eq(ended(pid), way == 2 ? 7 : -SIGKILL);
        if (way == 1) ck_assert_int_eq(pthread_join(thread, NULL), 0);
        else ck_assert_int_eq(ended(waiter), 0);
        ck_assert(lock_is_free());
        POKE(&said[HELD], 0);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

START_TEST(dead_holders_in_a_row) {
    begin();
    for (int i = 0; i < 5; i++) ck_assert_int_eq(ended(spawn(hold_and_be_killed, NULL)), -SIGKILL);
    told_and_normal_again(1);
    ck_assert_int_eq(ended(spawn(hold_and_be_killed, NULL)), -SIGKILL);
    int seen = 0;
    MPROC_WITH (lock) seen = mproc_lock_owner_died(lock) ? 1 : 2;
    ck_assert_int_eq(seen, 1);
    MPROC_WITH (lock) seen = mproc_lock_owner_died(lock) ? 1 : 2;
    ck_assert_int_eq(seen, 2);
    ck_assert(!mproc_lock_owner_died(lock)); /* asked by one who does not hold it */
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

static int wait_beside(void *arg) {
    (void)arg;
    if (mproc_lock_acquire(lock, 0) != MPROC_ETIMEDOUT || mproc_lock_release(lock) != MPROC_EPERM) return 98;
    return take_and_give(NULL);
}

START_TEST(a_forked_child_does_not_hold_its_parents_lock) {
    begin();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = spawn(wait_beside, NULL); /* waits for ever, and not for itself */
        EVENTUALLY(PEEK(&said[WAITING]) == i + 1 && process_state(pids[i]) == 'S');
    }
    kill(pids[0], SIGKILL); /* the death of a child is no death of the holder */
    ck_assert_int_eq(ended(pids[0]), -SIGKILL);
    ck_assert_int_eq(ended(spawn(poll_lock, NULL)), ETIMEDOUT);
    ck_assert_int_eq(PEEK(&said[DONE]), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(ended(pids[1]), 0);
    ck_assert_int_eq(PEEK(&said[RESULT]), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

/* The kernel itself hands on no more than 2048 locks of one dead thread; 2000 are promised. */
enum { MANY = 2000 };
static mproc_lock *many[MANY];
static int hold_many_and_be_killed(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i++) MUST_EQ(mproc_lock_acquire(many[i], 0), 0);
    raise(SIGKILL);
    return 0;
}

START_TEST(p2_one_dead_holder_of_many_locks) {
    for (int i = 0; i < MANY; i++) ck_assert_ptr_nonnull(many[i] = mproc_lock_new());
    ck_assert_int_eq(ended(spawn(hold_many_and_be_killed, NULL)), -SIGKILL);
    int told = 0;
    while (told < MANY && mproc_lock_acquire(many[told], 2) == MPROC_EOWNERDEAD &&
           mproc_lock_release(many[told]) == 0)
        told++;
    ck_assert_int_eq(told, MANY);
    for (int i = 0; i < MANY; i++) ck_assert_int_eq(mproc_lock_free(many[i]), 0);
}
END_TEST

static int change_under_lock(void *arg) {
    (void)arg;
    volatile int *first = &said[FIRST], *second = &said[SECOND];
    for (;;) {
        int error = mproc_lock_acquire(lock, MPROC_FOREVER);
        if (error == MPROC_EOWNERDEAD) {
            MUST(mproc_lock_owner_died(lock));
            *second = *first;
            BUMP(&said[REPAIRED]);
        } else {
            MUST_EQ(error, 0);
        }
        MUST_EQ(*first, *second); /* half-done work is always announced */
        ++*first;
        for (volatile int i = 0; i < 100; i++) continue;
        ++*second;
        BUMP(&said[PROGRESS]);
        MUST_EQ(mproc_lock_release(lock), 0);
    }
    return 0;
}

START_TEST(x37_kill_storm) {
    enum { WORKERS = 4, KILLS = 400 };
    uint64_t seed = make_seed("lock kill storm");
    pid_t pids[WORKERS];
    begin();
    for (int i = 0; i < WORKERS; i++) pids[i] = spawn(change_under_lock, NULL);
    for (int k = 0; k < KILLS; k++) {
        nap((double)(draw(&seed) % 2000) * 1e-6);
        size_t victim = draw(&seed) % WORKERS;
        kill(pids[victim], SIGKILL);
        ck_assert_int_eq(ended(pids[victim]), -SIGKILL);
        int before = PEEK(&said[PROGRESS]);
        EVENTUALLY(PEEK(&said[PROGRESS]) != before);
        pids[victim] = spawn(change_under_lock, NULL);
    }
    for (int i = 0; i < WORKERS; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < WORKERS; i++) ck_assert_int_eq(ended(pids[i]), -SIGKILL);
    ck_assert_int_gt(PEEK(&said[REPAIRED]), 0);
    int error = mproc_lock_acquire(lock, 1);
    ck_assert(error == 0 || error == MPROC_EOWNERDEAD);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

/* ---- Freeing and misuse ---------------------------------------------------------------------------------
 */

static void *free_in_thread(void *arg) {
    *(int *)arg = mproc_lock_free(lock);
    return NULL;
}

START_TEST(lock_21_x38_free_while_in_use) {
    begin();
    ck_assert_int_eq(mproc_lock_free(NULL), 0);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    ck_assert_int_eq(mproc_lock_free(lock), MPROC_EBUSY); /* held by the caller */
    ck_assert_int_eq(in_thread(free_in_thread), MPROC_EBUSY);
    ck_assert_int_eq(mproc_lock_release(lock), 0);

    pid_t pid = holder();
    ck_assert_int_eq(mproc_lock_free(lock), MPROC_EBUSY); /* held by another process */
    pid_t waiter = blocked_waiter();
    kill(waiter, SIGSTOP); /* so that it waits on while nobody holds the lock */
    EVENTUALLY(process_state(waiter) == 'T');
    let_go(pid);
    ck_assert_int_eq(mproc_lock_free(lock), MPROC_EBUSY); /* awaited */
    kill(waiter, SIGCONT);
    ck_assert_int_eq(ended(waiter), 0);
    ck_assert_int_eq(PEEK(&said[RESULT]), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), MPROC_EINVAL);
}
END_TEST

START_TEST(x38_the_dead_do_not_keep_a_lock_from_being_freed) {
    begin();
    ck_assert_int_eq(ended(spawn(hold_and_be_killed, NULL)), -SIGKILL);
    ck_assert_int_eq(mproc_lock_free(lock), 0);

    lock = mproc_lock_new();
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
    pid_t waiter = blocked_waiter();
    kill(waiter, SIGKILL);
    ck_assert_int_eq(ended(waiter), -SIGKILL);
    ck_assert_int_eq(mproc_lock_free(lock), MPROC_EBUSY);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);

    lock = mproc_lock_new();
    ck_assert_int_eq(in_thread(hold_and_end_thread), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

static void refused(mproc_lock *no_lock) {
    int rounds = 0;
    ck_assert_int_eq(mproc_lock_acquire(no_lock, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_lock_acquire(no_lock, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_lock_release(no_lock), MPROC_EINVAL);
    ck_assert(!mproc_lock_owner_died(no_lock));
    if (no_lock != NULL) ck_assert_int_eq(mproc_lock_free(no_lock), MPROC_EINVAL);
    errno = 0;
    MPROC_WITH (no_lock) rounds++;
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(rounds, 0);
}

static mproc_lock *as_lock(const void *p, size_t offset) { return (mproc_lock *)((uintptr_t)p + offset); }

START_TEST(x38_what_is_not_a_lock) {
    static const uint64_t constant[64] = {1, 2, 3};
    uint64_t zeros[64] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    refused(NULL); /* before anything was made */
    refused(as_lock(zeros, 0));
    begin();
    void *heap = calloc(1, 512);
    int *value = mproc_value_new(int, 1);
    mproc_queue *queue = mproc_queue_new(4);
    unsigned char *raw = mproc_shm_new(4096);
    ck_assert(heap != NULL && value != NULL && queue != NULL && raw != NULL);
    memset(raw, 0x55, 4096);
    refused(NULL);
    refused(as_lock(zeros, 64));
    refused(as_lock(ones, 64));
    refused(as_lock(constant, 64));
    refused(as_lock(heap, 128));
    refused(as_lock(NULL, 8));
    refused(as_lock(NULL, UINTPTR_MAX - 7));
    refused(as_lock(value, 0));
    refused(as_lock(queue, 0));
    for (size_t offset = 0; offset < 4096; offset += 8) refused(as_lock(raw, offset));
    for (size_t offset = 1; offset < 64; offset++) refused(as_lock(lock, offset));
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    refused(lock);
    free(heap);
    ck_assert_int_eq(mproc_free(value), 0);
    ck_assert_int_eq(mproc_free(raw), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(locks_come_back_when_freed) {
    int rounds = (int)(400000 / SLOW), made = 0, again = 0;
    begin();
    int fds = open_fds();
    for (int i = 0; i < rounds; i++) {
        mproc_lock *one = mproc_lock_new();
        if (one == NULL || mproc_lock_free(one) != 0) ck_abort_msg("round %d: %s", i, strerror(errno));
    }
    size_t most = MPROC_ARENA_SIZE / 32;
    mproc_lock **all = calloc(most, sizeof *all);
    ck_assert_ptr_nonnull(all);
    errno = 0;
    while ((all[made] = mproc_lock_new()) != NULL) made++;
    ck_assert_int_eq(errno, ENOMEM);
    ck_assert_int_gt(made, 10000);
    ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0); /* what exists still works */
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    for (int i = 0; i < made; i++) {
        if (mproc_lock_free(all[i]) != 0) ck_abort_msg("lock %d is not freed", i);
    }
    while ((all[again] = mproc_lock_new()) != NULL) again++;
    ck_assert_int_eq(again, made);
    free(all);
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

SUITE_MAIN("lock", lock_01_not_twice_even_by_its_holder, lock_14_holder_that_waits_for_ever_is_told,
           lock_02_release_of_a_free_lock, lock_04_and_09_others_see_the_holder,
           lock_15_x39_only_the_holder_releases, lock_10_all_waiters_get_it, lock_11_12_16_timeouts,
           lock_13_x59_odd_timeouts, x01_signals_neither_end_nor_stretch_a_wait,
           x59_waiting_uses_no_processor, x40_nobody_starves, lock_07_with_leaves_by_every_way,
           with_skips_what_it_cannot_hold, x32_lock_22_dead_holder_is_told,
           x32_holder_that_became_another_program_is_told, x32_blocked_waiters_are_told,
           dead_holders_in_a_row, a_forked_child_does_not_hold_its_parents_lock,
           p2_one_dead_holder_of_many_locks, x37_kill_storm, lock_21_x38_free_while_in_use,
           x38_the_dead_do_not_keep_a_lock_from_being_freed, x38_what_is_not_a_lock,
           locks_come_back_when_freed)
