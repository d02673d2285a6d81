/* README.md has a table, "What happens when a process is killed". Here is one test for each of its rows, in
   its order: a process is killed at the row's moment, and the test proves who notices, what they see, and
   what is lost and what is not. The comment "Row:" above a test is the row's first two columns; tests/docs.sh
   checks that each row has its test and each test its row.

   The moments are the usual ones: before a call, asleep in it, after it, and at random in a loop of calls
   where the row says "whole or not at all". Every instruction of every call is the business of tests/kill. */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE ((size_t)256 << 20)
#include "support_pool.h"

/* ---- Victims ------------------------------------------------------------------------------------------ */

enum { READY, GO, DONE, FIRST, SECOND, RESULT, RESULTS = RESULT + 16 }; /* places in said */
static int *said;     /* what the processes of a test tell each other */
static uint64_t seed; /* of the random moments */

#define LONG  (10 * SLOW) /* a timeout that is not to end */
#define AGAIN 12          /* rounds of a test that kills at random moments */

static void start(void) {
    said = shared_ints();
    adopt_orphans();
    new_board();
}
static void start_random(void) {
    start();
    seed = make_seed("test_killed");
}
static void begin_round(void) { memset(said, 0, 4096); }

/* In a victim: it is where the test wants it. */
static void announce(void) { BUMP(&said[READY]); }
static int wait_for_death(void) {
    announce();
    while (pause() != 0) continue;
    return 0;
}

static void kill_child(pid_t pid) {
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(ended(pid), -SIGKILL);
}
/* The code of a child that was told, or got what it waited for: at once, not when its own time is up. */
static int ends_soon(pid_t pid) {
    int code = 0;
    TAKES(0, 1, code = ended(pid));
    return code;
}
static double random_moment(void) { return now() + 1e-6 * (double)random_below(&seed, 1500); }
static void kill_at_random(pid_t pid) {
    for (double moment = random_moment(); now() < moment;) nap(0.00005);
    kill_child(pid);
}

/* True once a process stays asleep: it is inside the blocking call before which it announced itself. */
static bool stays_asleep(pid_t pid) {
    for (int look = 0; look < 5; look++, nap(0.001))
        if (process_state(pid) != 'S') return false;
    return true;
}
static pid_t spawn_ready(int (*work)(void *arg), void *arg) {
    int before = PEEK(&said[READY]);
    pid_t pid = spawn(work, arg);
    EVENTUALLY(PEEK(&said[READY]) > before);
    return pid;
}
static pid_t spawn_blocked(int (*work)(void *arg), void *arg) {
    pid_t pid = spawn_ready(work, arg);
    EVENTUALLY(stays_asleep(pid));
    return pid;
}

/* A child that kills a process as soon as its parent, the test, stays asleep: in the call that is to notice.
 */
static int kills_when_parent_sleeps(void *victim) {
    double give_up = now() + LONG;
    while (!stays_asleep(getppid())) MUST(now() < give_up);
    return kill(*(pid_t *)victim, SIGKILL) != 0;
}

static bool all_are(const void *data, size_t size, char value) {
    const char *bytes = data;
    return size == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Numbered messages, the number in all bytes, so that a torn one shows. */
enum { LARGEST = 30000, EVEN = 64 };
static size_t size_of(int number) {
    return number % 16 == 15 ? LARGEST : sizeof number + (size_t)number % 40;
}
static const char *message(int number, size_t size) {
    static char buffer[LARGEST];
    memset(buffer, number, size);
    memcpy(buffer, &number, sizeof number);
    return buffer;
}
/* The number of a whole message, -1 if it is none. */
static int number_of(const char *data, ssize_t size) {
    int number = -1;
    if (size < (ssize_t)sizeof number) return -1;
    memcpy(&number, data, sizeof number);
    if (size != EVEN && (size_t)size != size_of(number)) return -1;
    return all_are(data + sizeof number, (size_t)size - sizeof number, (char)number) ? number : -1;
}
static void batch_of(char *items, int first, int n) {
    for (int i = 0; i < n; i++) memcpy(items + i * EVEN, message(first + i, EVEN), EVEN);
}

/* ---- Processes ---------------------------------------------------------------------------------------- */

static int works_for_ever(void *arg) {
    (void)arg;
    for (announce(); PEEK(&said[GO]) == 0; nap(0.0005)) BUMP(&said[DONE]);
    return 0;
}
static int says_seven(void *arg) {
    (void)arg;
    return 7;
}

/* Row: `mproc_process` | the child */
START_TEST(process_child) {
    start();
    for (int polls = 0; polls <= 1; polls++) {
        begin_round();
        mproc_process victim = {.target = works_for_ever}, sibling = {.target = says_seven};
        ck_assert_int_eq(mproc_process_start(&victim), 0);
        EVENTUALLY(PEEK(&said[DONE]) > 0);
        struct pollfd end = {.fd = mproc_process_fd(&victim), .events = POLLIN};
        ck_assert_int_eq(poll(&end, 1, 0), 0);
        ck_assert(mproc_process_is_alive(&victim));
        pid_t killer = spawn(kills_when_parent_sleeps, &victim.pid);
        if (polls) ck_assert_int_eq(poll(&end, 1, (int)(LONG * 1000)), 1);
        else ck_assert_int_eq(mproc_process_join(&victim, LONG), 0);
        ck_assert_int_eq(mproc_process_join(&victim, LONG), 0);
        ck_assert_int_eq(victim.exitcode, -SIGKILL);
        ck_assert(!mproc_process_is_alive(&victim));
        ck_assert_int_gt(PEEK(&said[DONE]), 0); /* what it had done is not lost */
        ck_assert_int_eq(ended(killer), 0);
        ck_assert_int_eq(mproc_process_start(&sibling), 0);
        ck_assert_int_eq(mproc_process_join(&sibling, LONG), 0);
        ck_assert_int_eq(sibling.exitcode, 7);
    }
}
END_TEST

enum { DAEMON = FIRST, DAEMONS_CHILD, WORKER, TASKS_CHILD, OTHER, PARENT_ALIVE, WORK }; /* places in said */

static int stays(void *place) {
    POKE((int *)place, getpid());
    return wait_for_death();
}
static void start_staying(int place) {
    mproc_process p = {.target = stays, .arg = &said[place]};
    MUST_EQ(mproc_process_start(&p), 0);
}
static int daemon_with_a_child(void *arg) {
    (void)arg;
    start_staying(DAEMONS_CHILD);
    return stays(&said[DAEMON]);
}
static int task_with_a_child(const void *arg, void *result) {
    (void)arg, (void)result;
    start_staying(TASKS_CHILD);
    return stays(&said[WORKER]);
}
static int goes_on(void *arg) {
    (void)arg;
    POKE(&said[OTHER], getpid());
    for (; PEEK(&said[GO]) == 0; nap(0.001)) {
        POKE(&said[PARENT_ALIVE], mproc_parent_is_alive());
        BUMP(&said[WORK]);
    }
    POKE(&said[DONE], 1);
    return 0;
}
static int has_children_of_all_kinds(void *arg) {
    mproc_process daemon = {.target = daemon_with_a_child, .daemon = true}, other = {.target = goes_on};
    (void)arg;
    MUST_EQ(mproc_process_start(&daemon), 0);
    MUST_EQ(mproc_process_start(&other), 0);
    MUST(mproc_pool_apply_async(mproc_pool_new(1), task_with_a_child, NULL, 0, 0) != NULL);
    return wait_for_death();
}

/* Row: `mproc_process` | its parent */
START_TEST(process_parent) {
    start();
    program p;
    program_start(&p, has_children_of_all_kinds, NULL);
    EVENTUALLY(PEEK(&said[READY]) == 5 && PEEK(&said[PARENT_ALIVE]) == 1);
    ck_assert_int_eq(kill(p.pid, SIGKILL), 0);
    for (int place = DAEMON; place <= TASKS_CHILD; place++) EVENTUALLY(process_gone(PEEK(&said[place])));
    EVENTUALLY(PEEK(&said[PARENT_ALIVE]) == 0);
    int work = PEEK(&said[WORK]);
    EVENTUALLY(PEEK(&said[WORK]) > work);
    ck_assert_int_eq(count_descendants(), 1);
    POKE(&said[GO], 1);
    ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
    ck_assert_int_eq(PEEK(&said[DONE]), 1);
    ck_assert_str_eq(p.text, "");
}
END_TEST

static int forks_detached_for_ever(void *arg) {
    for (;;) {
        pid_t pid = mproc_fork_detached();
        MUST(pid >= 0);
        if (pid == 0) {
            BUMP(&said[FIRST]);
            await(&said[GO], 1);
            BUMP(&said[SECOND]);
            _exit(0);
        }
        if (arg == NULL) return wait_for_death();
        await(&said[FIRST], BUMP(&said[DONE]));
        announce();
    }
}

/* Row: `mproc_fork_detached` | the caller */
START_TEST(fork_detached_caller) {
    start_random();
    for (int again = 0; again < AGAIN; again++) {
        begin_round();
        pid_t victim = spawn_ready(forks_detached_for_ever, again == 0 ? NULL : said);
        EVENTUALLY(PEEK(&said[FIRST]) > 0);
        if (again == 0) kill_child(victim);
        else kill_at_random(victim);
        ck_assert_int_eq(PEEK(&said[SECOND]), 0);
        POKE(&said[GO], 1);
        expect_nothing_left(LONG);
        ck_assert_int_gt(PEEK(&said[FIRST]), 0);
        ck_assert_int_eq(PEEK(&said[SECOND]),
                         PEEK(&said[FIRST])); /* all that came to be went on to their end */
        while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    }
}
END_TEST

/* ---- Locks -------------------------------------------------------------------------------------------- */

static mproc_lock *lock;
static mproc_rlock *rlock;

static int dies_between_two_writes(void) {
    POKE(&said[FIRST], 1);
    wait_for_death();
    POKE(&said[SECOND], 1);
    return 0;
}
static int holds_lock(void *arg) {
    (void)arg;
    MUST_EQ(mproc_lock_acquire(lock, LONG), 0);
    return dies_between_two_writes();
}
static int is_in_with(void *arg) {
    (void)arg;
    MPROC_WITH (lock) dies_between_two_writes();
    return 0;
}
static int acquires_lock(void *arg) {
    (void)arg;
    announce();
    POKE(&said[RESULT], mproc_lock_acquire(lock, LONG));
    POKE(&said[RESULT + 1], mproc_lock_owner_died(lock));
    return mproc_lock_release(lock);
}
static void expect_lock_as_new(mproc_lock *l) {
    ck_assert_int_eq(mproc_lock_acquire(l, 0), 0);
    ck_assert(!mproc_lock_owner_died(l));
    ck_assert_int_eq(mproc_lock_release(l), 0);
}

/* Row: `mproc_lock`, `MPROC_WITH` | the holder */
START_TEST(lock_holder) {
    start();
    NEED(lock = mproc_lock_new());
    for (int way = 0; way < 6;
         way++) { /* held with or without MPROC_WITH; a waiter, or the next one by either */
        begin_round();
        pid_t victim = spawn_ready(way % 2 ? is_in_with : holds_lock, NULL);
        pid_t waiter = way / 2 == 0 ? spawn_blocked(acquires_lock, NULL) : 0;
        bool told = false;
        kill_child(victim);
        if (way / 2 == 0) {
            ck_assert_int_eq(ends_soon(waiter), 0);
            ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_EOWNERDEAD);
            ck_assert_int_eq(PEEK(&said[RESULT + 1]), true);
        } else if (way / 2 == 1) {
            ck_assert_int_eq(mproc_lock_acquire(lock, 0), MPROC_EOWNERDEAD);
            ck_assert(mproc_lock_owner_died(lock));
            ck_assert_int_eq(mproc_lock_release(lock), 0); /* so it was held */
        } else {
            MPROC_WITH (lock) told = mproc_lock_owner_died(lock);
            ck_assert(told);
        }
        ck_assert_int_eq(PEEK(&said[FIRST]), 1); /* half written, as the dead one left it */
        ck_assert_int_eq(PEEK(&said[SECOND]), 0);
        expect_lock_as_new(lock);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

/* Row: `mproc_lock`, `MPROC_WITH` | a waiter */
START_TEST(lock_waiter) {
    start();
    NEED(lock = mproc_lock_new());
    for (int first = 0; first <= 1; first++) { /* before or behind the one that lives */
        begin_round();
        ck_assert_int_eq(mproc_lock_acquire(lock, 0), 0);
        pid_t one = spawn_blocked(acquires_lock, NULL), two = spawn_blocked(acquires_lock, NULL);
        kill_child(first ? one : two);
        ck_assert(!mproc_lock_owner_died(lock));
        ck_assert_int_eq(mproc_lock_release(lock), 0);
        ck_assert_int_eq(ends_soon(first ? two : one), 0);
        ck_assert_int_eq(PEEK(&said[RESULT]), 0);
        ck_assert_int_eq(PEEK(&said[RESULT + 1]), false);
        expect_lock_as_new(lock);
    }
    ck_assert_int_eq(mproc_lock_free(lock), 0);
}
END_TEST

static int holds_rlock(void *depth) {
    for (int i = 0; i < *(int *)depth; i++) MUST_EQ(mproc_rlock_acquire(rlock, 0), 0);
    POKE(&said[FIRST], 1);
    return wait_for_death();
}
static int acquires_rlock(void *arg) {
    (void)arg;
    announce();
    POKE(&said[RESULT], mproc_rlock_acquire(rlock, LONG));
    return mproc_rlock_release(rlock);
}
static int tries_rlock(void *arg) {
    (void)arg;
    return mproc_rlock_acquire(rlock, 0) == 0 && mproc_rlock_release(rlock) == 0;
}

/* Row: `mproc_rlock` | the holder */
START_TEST(rlock_holder) {
    start();
    NEED(rlock = mproc_rlock_new());
    for (int depth = 1; depth <= 3; depth += 2)
        for (int waits = 0; waits <= 1; waits++) {
            begin_round();
            pid_t victim = spawn_ready(holds_rlock, &depth);
            pid_t waiter = waits ? spawn_blocked(acquires_rlock, NULL) : 0;
            kill_child(victim);
            if (waits) {
                ck_assert_int_eq(ends_soon(waiter), 0);
                ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_EOWNERDEAD);
            } else {
                ck_assert_int_eq(mproc_rlock_acquire(rlock, 0), MPROC_EOWNERDEAD);
                ck_assert_int_eq(ended(spawn(tries_rlock, NULL)), 0); /* held */
                ck_assert_int_eq(mproc_rlock_release(rlock), 0);      /* once */
                ck_assert_int_eq(mproc_rlock_release(rlock), MPROC_EPERM);
            }
            ck_assert_int_eq(PEEK(&said[FIRST]), 1);
            ck_assert_int_eq(ended(spawn(tries_rlock, NULL)), 1);
        }
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}
END_TEST

/* ---- Semaphore and event ------------------------------------------------------------------------------ */

static mproc_semaphore *semaphore;
static mproc_event *event;

static int acquires_two(void *arg) {
    (void)arg;
    MUST_EQ(mproc_semaphore_acquire(semaphore, 0), 0);
    MUST_EQ(mproc_semaphore_acquire(semaphore, 0), 0);
    return wait_for_death();
}

/* Row: `mproc_semaphore` | one that had acquired */
START_TEST(semaphore_one_that_had_acquired) {
    start();
    for (int bounded = 0; bounded <= 1; bounded++) {
        NEED(semaphore = bounded ? mproc_semaphore_new_bounded(3) : mproc_semaphore_new(3));
        kill_child(spawn_ready(acquires_two, NULL));
        ck_assert_int_eq(mproc_semaphore_value(semaphore), 1); /* its two are gone, the third is not */
        ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0), 0);
        ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0.15), MPROC_ETIMEDOUT);
        for (int i = 0; i < 3; i++) ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
        ck_assert_int_eq(mproc_semaphore_value(semaphore), 3);
        ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
    }
}
END_TEST

static int acquires_semaphore(void *place) {
    announce();
    int error = mproc_semaphore_acquire(semaphore, LONG);
    POKE((int *)place, 1);
    return error != 0;
}
/* Lets it run on this processor only, and only when nothing else wants to: woken, it does not get to its next
   instruction at once. */
static void hold_back(pid_t pid) {
    cpu_set_t here;
    struct sched_param none = {0};
    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    ck_assert_int_eq(sched_setaffinity(0, sizeof here, &here), 0);
    ck_assert_int_eq(sched_setaffinity(pid, sizeof here, &here), 0);
    ck_assert_int_eq(syscall(SYS_sched_setscheduler, pid, SCHED_IDLE, &none), 0); /* musl refuses its own */
}

static bool killed_before_it_ran(pid_t pid) {
    kill(pid, SIGKILL);
    return ended(pid) == -SIGKILL && PEEK(&said[FIRST]) == 0;
}

/* Kills the victim. Had it the permit? Perhaps without having come to saying so: then nobody else has got it.
 */
static bool took_it_along(pid_t victim) {
    if (!killed_before_it_ran(victim)) return true;
    for (double soon = now() + 1 * SLOW; now() < soon && PEEK(&said[SECOND]) == 0;) nap(0.001);
    return PEEK(&said[SECOND]) == 0 && mproc_semaphore_value(semaphore) == 0;
}

/* Row: `mproc_semaphore` | a waiter */
START_TEST(semaphore_waiter) {
    start();
    NEED(semaphore = mproc_semaphore_new(0));
    for (int woken = 0; woken <= 1; woken++) { /* killed in its sleep, or woken and not yet awake */
        begin_round();
        pid_t victim = spawn_blocked(acquires_semaphore, &said[FIRST]);
        pid_t other = spawn_blocked(acquires_semaphore, &said[SECOND]);
        if (woken) hold_back(victim);
        else kill_child(victim);
        ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
        if (woken && took_it_along(victim)) { /* too late: it had the permit, so that one is lost */
            ck_assert_int_eq(mproc_semaphore_release(semaphore), 0);
            woken--;
        }
        ck_assert_int_eq(ends_soon(other), 0);
        ck_assert_int_eq(PEEK(&said[SECOND]), 1);
        ck_assert_int_eq(mproc_semaphore_value(semaphore), 0);
    }
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
}
END_TEST

static int waits_for_event(void *arg) {
    (void)arg;
    announce();
    return mproc_event_wait(event, LONG) != 0;
}
static int sets_for_ever(void *arg) {
    (void)arg;
    for (announce();;) MUST_EQ(mproc_event_set(event), 0);
}
static int sets_and_clears_for_ever(void *arg) {
    (void)arg;
    for (announce();;) {
        MUST_EQ(mproc_event_set(event), 0);
        MUST_EQ(mproc_event_clear(event), 0);
        mproc_event_wait(event, 0.0001);
    }
}
static void expect_event_works(void) {
    ck_assert_int_eq(mproc_event_clear(event), 0);
    ck_assert(!mproc_event_is_set(event));
    ck_assert_int_eq(mproc_event_wait(event, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_event_set(event), 0);
    ck_assert(mproc_event_is_set(event));
    ck_assert_int_eq(mproc_event_wait(event, 0), 0);
    ck_assert_int_eq(mproc_event_clear(event), 0);
}

/* Row: `mproc_event` | anyone */
START_TEST(event_anyone) {
    start_random();
    NEED(event = mproc_event_new());
    for (int again = 0; again < AGAIN; again++) {
        pid_t victim = spawn_blocked(waits_for_event, NULL), waiter = spawn_blocked(waits_for_event, NULL);
        kill_child(victim);
        pid_t setter = spawn(sets_for_ever, NULL);
        while (!mproc_event_is_set(event)) continue;
        kill_child(setter); /* perhaps before it has woken anybody */
        ck_assert(mproc_event_is_set(event));
        ck_assert_int_eq(ends_soon(waiter), 0);
        kill_at_random(spawn_ready(sets_and_clears_for_ever, NULL));
        bool set = mproc_event_is_set(event);
        ck_assert_int_eq(mproc_event_wait(event, 0), set ? 0 : MPROC_ETIMEDOUT);
        ck_assert(mproc_event_is_set(event) == set);
        expect_event_works();
    }
    ck_assert_int_eq(mproc_event_free(event), 0);
}
END_TEST

/* ---- Condition and barrier ---------------------------------------------------------------------------- */

static mproc_condition *condition;
static mproc_barrier *barrier;

static int holds_condition(void *notifies) {
    MUST_EQ(mproc_condition_acquire(condition, LONG), 0);
    POKE(&said[FIRST], 1);
    if (notifies != NULL) MUST_EQ(mproc_condition_notify(condition, 1), 0);
    return wait_for_death();
}
static int acquires_condition(void *arg) {
    (void)arg;
    announce();
    POKE(&said[RESULT], mproc_condition_acquire(condition, LONG));
    return mproc_condition_release(condition);
}
static int waits_for_condition(void *arg) {
    (void)arg;
    MUST_EQ(mproc_condition_acquire(condition, LONG), 0);
    announce();
    int error = mproc_condition_wait(condition, 2 * LONG);
    POKE(&said[RESULT], error);
    if (error == 0) BUMP(&said[DONE]);
    return mproc_condition_release(condition); /* so it is held */
}
static void expect_condition_as_new(void) {
    begin_round();
    pid_t waiter = spawn_blocked(waits_for_condition, NULL);
    ck_assert_int_eq(mproc_condition_acquire(condition, 0), 0);
    ck_assert_int_eq(mproc_condition_notify(condition, 1), 0);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    ck_assert_int_eq(ends_soon(waiter), 0);
    ck_assert_int_eq(PEEK(&said[RESULT]), 0);
}

/* Row: `mproc_condition` | the holder of the lock */
START_TEST(condition_holder) {
    start();
    NEED(condition = mproc_condition_new(NULL));
    for (int way = 0; way < 4;
         way++) { /* the next one: in a wait, notified or not; acquiring, late or early */
        begin_round();
        pid_t next = way < 2 ? spawn_blocked(waits_for_condition, NULL) : 0;
        pid_t victim = spawn_ready(holds_condition, way == 0 ? said : NULL);
        if (way == 2) next = spawn_blocked(acquires_condition, NULL);
        kill_child(victim);
        if (way == 3) POKE(&said[RESULT], mproc_condition_acquire(condition, 0));
        ck_assert_int_eq(way == 3 ? mproc_condition_release(condition) : ends_soon(next), 0);
        ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_EOWNERDEAD);
        ck_assert_int_eq(PEEK(&said[FIRST]), 1);
        expect_condition_as_new();
    }
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

static void notify_one(void) {
    ck_assert_int_eq(mproc_condition_acquire(condition, 0), 0); /* no trace of the dead one */
    ck_assert_int_eq(mproc_condition_notify(condition, 1), 0);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
}

/* Row: `mproc_condition` | a waiter */
START_TEST(condition_waiter) {
    start();
    NEED(condition = mproc_condition_new(NULL));
    for (int notified = 0; notified <= 1; notified++) { /* before its death, when it does not run any more */
        begin_round();
        pid_t victim = spawn_blocked(waits_for_condition, NULL);
        pid_t one = spawn_blocked(waits_for_condition, NULL), two = spawn_blocked(waits_for_condition, NULL);
        if (notified) {
            kill(victim, SIGSTOP);
            EVENTUALLY(process_state(victim) == 'T');
            notify_one(); /* first come, first served */
        }
        kill_child(victim);
        if (!notified) notify_one();
        TAKES(0, 1, EVENTUALLY(PEEK(&said[DONE]) == 1));
        EVENTUALLY(process_gone(one) || process_gone(two));
        EVENTUALLY(stays_asleep(process_gone(one) ? two : one));
        ck_assert_int_eq(PEEK(&said[DONE]), 1); /* one notification is one */
        notify_one();
        ck_assert_int_eq(ends_soon(one), 0);
        ck_assert_int_eq(ends_soon(two), 0);
        ck_assert_int_eq(PEEK(&said[RESULT]), 0);
        ck_assert_int_eq(PEEK(&said[DONE]), 2);
    }
    ck_assert_int_eq(mproc_condition_free(condition), 0);
}
END_TEST

struct party {
    double timeout;
    int *result;
};
static int waits_at_barrier(void *arg) {
    struct party *party = arg;
    announce();
    POKE(party->result, mproc_barrier_wait(barrier, party->timeout));
    return 0;
}
static int never_comes(void *arg) {
    (void)arg;
    return wait_for_death();
}
/* All parties pass, numbered 0 to parties - 1. */
static void expect_barrier_as_new(int parties) {
    pid_t pid[8];
    int places = 0;
    for (int i = 0; i < parties; i++)
        pid[i] = spawn(waits_at_barrier, &(struct party){LONG, &said[RESULTS + i]});
    for (int i = 0; i < parties; i++) ck_assert_int_eq(ended(pid[i]), 0);
    for (int i = 0; i < parties; i++) {
        ck_assert_int_ge(PEEK(&said[RESULTS + i]), 0);
        places |= 1 << PEEK(&said[RESULTS + i]);
    }
    ck_assert_int_eq(places, (1 << parties) - 1);
}

/* Row: `mproc_barrier` | a party that waits */
START_TEST(barrier_party_that_waits) {
    start();
    NEED(barrier = mproc_barrier_new(4));
    expect_barrier_as_new(4);
    pid_t pid[3];
    for (int i = 0; i < 3; i++)
        pid[i] = spawn_blocked(waits_at_barrier, &(struct party){MPROC_FOREVER, &said[RESULT + i]});
    kill_child(pid[1]);
    ck_assert_int_eq(ends_soon(pid[0]) + ends_soon(pid[2]), 0);
    ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_EBROKEN);
    ck_assert_int_eq(PEEK(&said[RESULT + 2]), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_barrier_wait(barrier, LONG),
                     MPROC_EBROKEN); /* this pass is lost for the fourth too */
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    expect_barrier_as_new(4);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

/* Row: `mproc_barrier` | a party that has not come yet */
START_TEST(barrier_party_not_come_yet) {
    start();
    NEED(barrier = mproc_barrier_new(4));
    pid_t pid[3], victim = spawn_ready(never_comes, NULL);
    for (int i = 1; i < 3; i++)
        pid[i] = spawn_blocked(waits_at_barrier, &(struct party){2 * LONG, &said[RESULT + i]});
    double start = now();
    pid[0] = spawn(waits_at_barrier, &(struct party){0.3, &said[RESULT]});
    kill_child(victim);
    ck_assert_int_eq(ends_soon(pid[0]), 0);
    ck_assert(now() - start >= 0.3 - 0.001);
    ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_ETIMEDOUT);
    ck_assert_int_eq(ends_soon(pid[1]) + ends_soon(pid[2]), 0);
    ck_assert_int_eq(PEEK(&said[RESULT + 1]), MPROC_EBROKEN);
    ck_assert_int_eq(PEEK(&said[RESULT + 2]), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_barrier_wait(barrier, 0), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_barrier_reset(barrier), 0);
    expect_barrier_as_new(4);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
}
END_TEST

/* ---- Shared memory ------------------------------------------------------------------------------------ */

static int holds_lock_of(void *shared) {
    int *place = shared;
    MUST_EQ(mproc_lock_acquire(mproc_lock_of(shared), LONG), 0);
    POKE(&place[0], 1);
    wait_for_death();
    POKE(&place[1], 1);
    return 0;
}

/* Row: values, arrays, `mproc_shm_new` | the holder of the lock */
START_TEST(shared_holder) {
    struct two {
        int a, b;
    } * value;
    start();
    NEED(value = mproc_value_new(struct two, {0, 0}));
    int *shared[3] = {&value->a, mproc_array_new(int, 2), mproc_shm_new(2 * sizeof(int))};
    for (int i = 0; i < 3; i++) {
        NEED(shared[i]);
        kill_child(spawn_ready(holds_lock_of, shared[i]));
        ck_assert_int_eq(mproc_lock_acquire(mproc_lock_of(shared[i]), 0), MPROC_EOWNERDEAD);
        ck_assert(mproc_lock_owner_died(mproc_lock_of(shared[i])));
        ck_assert_int_eq(shared[i][0], 1);
        ck_assert_int_eq(shared[i][1], 0);
        ck_assert_int_eq(mproc_lock_release(mproc_lock_of(shared[i])), 0);
        expect_lock_as_new(mproc_lock_of(shared[i]));
        ck_assert_int_eq(mproc_free(shared[i]), 0);
    }
}
END_TEST

static int used_blocks(void) {
    int n = 0;
    mproc__block *b = mproc__block_at(mproc__shared->first);
    for (; (char *)b < mproc__shared->top; b = mproc__after(b)) n += mproc__used(b);
    return n;
}
static size_t random_size(uint64_t *state) {
    return 1 + random_below(state, draw(state) % 64 ? 400 : 100000);
}
static int makes_and_frees_for_ever(void *arg) {
    uint64_t mine = *(uint64_t *)arg;
    for (announce();;) {
        size_t size = random_size(&mine);
        char *block = size % 2 ? mproc_shm_new(size) : mproc_array_new(char, size);
        MUST(block != NULL);
        block[0] = block[size - 1] = 1;
        MUST_EQ(mproc_free(block), 0);
    }
}
enum { KEPT = 40 };
static void expect_filled(char *const *block, char with) {
    for (int i = 0; i < KEPT; i++) ck_assert(all_are(block[i], mproc_array_len(block[i]), with));
}
static void make_blocks(char **block, char fill) {
    for (int i = 0; i < KEPT; i++) NEED(block[i] = mproc_shm_new(random_size(&seed)));
    expect_filled(block, 0);
    for (int i = 0; i < KEPT; i++) memset(block[i], fill, mproc_array_len(block[i]));
}

/* Row: values, arrays, `mproc_shm_new` | one inside `_new` or `mproc_free` */
START_TEST(shared_inside_new_or_free) {
    static char *kept[KEPT], *more[KEPT];
    start_random();
    make_blocks(kept, 0x11);
    for (int again = 0; again < 4 * AGAIN; again++) {
        int used = used_blocks();
        uint64_t its_seed = draw(&seed) | 1;
        kill_at_random(spawn_ready(makes_and_frees_for_ever, &its_seed));
        make_blocks(more, 0x22);
        for (int i = 0; i < KEPT; i += 2) ck_assert_int_eq(mproc_free(more[i]), 0);
        for (int i = 0; i < KEPT; i += 2) NEED(more[i] = mproc_shm_new(300));
        expect_filled(kept, 0x11); /* nothing of others was given away again */
        for (int i = 0; i < KEPT; i++) ck_assert_int_eq(mproc_free(more[i]), 0);
        ck_assert_int_ge(used_blocks(), used);
        ck_assert_int_le(used_blocks(), used + 1);
    }
    for (int i = 0; i < KEPT; i++) ck_assert_int_eq(mproc_free(kept[i]), 0);
}
END_TEST

/* ---- Pipe --------------------------------------------------------------------------------------------- */

static mproc_conn *ends[2];

static int sends_for_ever(void *arg) {
    (void)arg;
    for (int i = 0;; i++) {
        MUST_EQ(mproc_conn_send(ends[1], message(i, size_of(i)), size_of(i), LONG), 0);
        POKE(&said[DONE], i + 1);
    }
}
/* The number of the next message, whole, or an error. */
static int receive(mproc_conn *conn, double timeout) {
    static char buffer[LARGEST];
    ssize_t size = mproc_conn_recv(conn, buffer, sizeof buffer, timeout);
    if (size < 0) return (int)size;
    int number = number_of(buffer, size);
    ck_assert_msg(number >= 0, "torn");
    return number;
}

/* Row: `mproc_conn` | a sender */
START_TEST(conn_sender) {
    start_random();
    for (int again = 0; again < AGAIN; again++) {
        begin_round();
        int got = 0, number;
        ck_assert_int_eq(mproc_pipe_new(ends, false), 0);
        pid_t victim = spawn(sends_for_ever, NULL);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        EVENTUALLY(PEEK(&said[DONE]) > 0);
        for (double moment = random_moment(); now() < moment;)
            if ((number = receive(ends[0], 0)) >= 0) ck_assert_int_eq(number, got++);
        kill_child(victim); /* at work: it did not have to wait for room */
        for (; (number = receive(ends[0], LONG)) >= 0; got++) ck_assert_int_eq(number, got);
        ck_assert_int_eq(number, MPROC_ECLOSED); /* the end, and no other error before */
        ck_assert_int_ge(got, PEEK(&said[DONE]));
        ck_assert_int_le(got, PEEK(&said[DONE]) + 1);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    }
}
END_TEST

static int receives_for_ever(void *arg) {
    (void)arg;
    for (int i = 0;; i++) {
        int number = receive(ends[0], LONG);
        MUST_EQ(number, i);
        POKE(&said[DONE], i + 1);
    }
}
static void send_some(int from, int to) {
    for (int i = from; i < to; i++)
        ck_assert_int_eq(mproc_conn_send(ends[1], message(i, size_of(i)), size_of(i), LONG), 0);
}

/* Row: `mproc_conn` | a receiver */
START_TEST(conn_receiver) {
    start_random();
    for (int again = 0; again < AGAIN; again++) {
        begin_round();
        int some = 1 + (int)random_below(&seed, 100), rest = some + 20, number;
        ck_assert_int_eq(mproc_pipe_new(ends, false), 0);
        pid_t victim = spawn(receives_for_ever, NULL);
        send_some(0, some);
        if (again == 0) EVENTUALLY(PEEK(&said[DONE]) == some && stays_asleep(victim));
        if (again % 3 == 1) EVENTUALLY(PEEK(&said[DONE]) > 0);
        if (again % 3 == 0) kill_child(victim);
        else kill_at_random(victim);
        send_some(some, rest); /* notices nothing: this process can receive, so somebody can */
        number = receive(ends[0], LONG);
        ck_assert_int_ge(number, PEEK(&said[DONE]));
        ck_assert_int_le(number, PEEK(&said[DONE]) + (again != 0));
        while (++number < rest) ck_assert_int_eq(receive(ends[0], LONG), number);
        ck_assert_int_eq(receive(ends[0], 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    }
}
END_TEST

static int uses_an_end(void *conn) {
    for (int i = 0; i < 3; i++) MUST_EQ(mproc_conn_send(conn, message(i, size_of(i)), size_of(i), LONG), 0);
    return wait_for_death();
}

/* Row: `mproc_conn` | the last process that has the other end */
START_TEST(conn_last_process) {
    start();
    for (int way = 0; way < 4; way++) { /* one-way or duplex; told later, or asleep while it happens */
        begin_round();
        bool duplex = way % 2;
        ck_assert_int_eq(mproc_pipe_new(ends, duplex), 0);
        pid_t one = spawn_ready(uses_an_end, ends[1]), last = spawn_ready(uses_an_end, ends[1]);
        pid_t bystander = way >= 2 ? spawn_ready(never_comes, NULL) : 0; /* inherits the end, never uses it */
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        if (duplex) ck_assert_int_eq(mproc_conn_send(ends[0], "lost", 4, 0), 0);
        kill_child(one); /* not the last one */
        for (int i = 0; i < 6; i++) ck_assert_int_eq(receive(ends[0], LONG), i % 3);
        ck_assert_int_eq(mproc_conn_poll(ends[0], 0.15), 0);
        if (duplex) ck_assert_int_eq(mproc_conn_send(ends[0], "lost", 4, 0), 0);
        pid_t killer = way >= 2 ? spawn(kills_when_parent_sleeps, &last) : 0;
        if (way < 2) kill_child(last);
        TAKES(0, 1 + LONG * (way >= 2), ck_assert_int_eq(receive(ends[0], 2 * LONG), MPROC_ECLOSED));
        ck_assert_int_eq(mproc_conn_poll(ends[0], 0), MPROC_ECLOSED);
        int error = mproc_conn_send(ends[0], "x", 1, 0);
        while (way == 3 && error == 0)
            error = mproc_conn_send(ends[0], "x", 1, LONG); /* until it must wait */
        ck_assert_int_eq(error, duplex ? MPROC_ECLOSED : MPROC_EPERM);
        if (way >= 2) ck_assert_int_eq(ended(killer), 0);
        if (way >= 2) ck_assert_int_eq(ended(last), -SIGKILL);
        if (way >= 2) kill_child(bystander);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    }
}
END_TEST

/* ---- Queue -------------------------------------------------------------------------------------------- */

enum { BATCH = 8 };
static mproc_queue *queue;

static int puts_for_ever(void *many) {
    static char items[BATCH * EVEN];
    int step = many != NULL ? BATCH : 1;
    for (int i = 0;; i += step) {
        batch_of(items, i, step);
        if (many != NULL) MUST_EQ(mproc_queue_put_many(queue, items, BATCH, EVEN, LONG), BATCH);
        else MUST_EQ(mproc_queue_put(queue, message(i, size_of(i)), size_of(i), LONG), 0);
        POKE(&said[DONE], i + step);
    }
}
static int get(double timeout) {
    static char buffer[LARGEST];
    ssize_t size = mproc_queue_get(queue, buffer, sizeof buffer, timeout);
    if (size < 0) return (int)size;
    int number = number_of(buffer, size);
    MUST(number >= 0);
    return number;
}
static void expect_queue_works(void) {
    ck_assert_int_eq(mproc_queue_put(queue, message(3, size_of(3)), size_of(3), 0), 0);
    ck_assert_int_eq(mproc_queue_put(queue, message(15, LARGEST), LARGEST, 0), 0);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
    ck_assert_int_eq(get(0), 3);
    ck_assert_int_eq(get(0), 15);
    ck_assert_int_eq(get(0), MPROC_ETIMEDOUT);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_queue_task_done(queue), 0);
}

/* Row: `mproc_queue` | one that puts */
START_TEST(queue_one_that_puts) {
    start_random();
    for (int again = 0; again < 2 * AGAIN; again++) {
        begin_round();
        int step = again % 2 ? BATCH : 1, got = 0, number;
        bool blocked = again % 8 < 2; /* killed while it waits for room */
        queue = mproc_queue_new(again % 4 < 2 ? 5 : 0);
        NEED(queue);
        pid_t victim = spawn(puts_for_ever, step > 1 ? said : NULL);
        if (blocked) EVENTUALLY(mproc_queue_full(queue) && stays_asleep(victim));
        else EVENTUALLY(mproc_queue_qsize(queue) > 0);
        for (double moment = random_moment(); !blocked && now() < moment;)
            if ((number = get(0)) >= 0) ck_assert_int_eq(number, got++);
        kill_child(victim);
        int before = got;
        size_t left = mproc_queue_qsize(queue);
        for (; (number = get(0)) >= 0; got++) ck_assert_int_eq(number, got);
        ck_assert_int_eq(number, MPROC_ETIMEDOUT);
        ck_assert_uint_eq(left, (size_t)(got - before));
        ck_assert_int_ge(got, PEEK(&said[DONE]));
        ck_assert_int_le(got, PEEK(&said[DONE]) + step);
        for (int i = 0; i < got; i++) ck_assert_int_eq(mproc_queue_task_done(queue), 0);
        expect_queue_works();
        ck_assert_int_eq(mproc_queue_join(queue, 0), 0); /* what the dead one did not put does not count */
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
}
END_TEST

static int gets_for_ever(void *many) {
    static char items[BATCH * EVEN];
    for (int i = 0;;) {
        if (many != NULL) {
            ssize_t n = mproc_queue_get_many(queue, items, BATCH, EVEN, LONG);
            MUST(n > 0);
            for (ssize_t k = 0; k < n; k++) MUST_EQ(number_of(items + k * EVEN, EVEN), i++);
        } else MUST_EQ(get(LONG), i++);
        POKE(&said[DONE], i);
    }
}
static void put_some(int from, int to, bool even) {
    for (int i = from; i < to; i++) {
        size_t size = even ? EVEN : size_of(i);
        ck_assert_int_eq(mproc_queue_put(queue, message(i, size), size, 0), 0);
    }
}

/* Row: `mproc_queue` | one that gets */
START_TEST(queue_one_that_gets) {
    start_random();
    for (int again = 0; again < 2 * AGAIN; again++) {
        begin_round();
        bool many = again % 2;
        int some = 0, rest, number;
        bool blocked = again % 8 < 2; /* killed while it waits for a message */
        NEED(queue = mproc_queue_new(300));
        pid_t victim = spawn(gets_for_ever, many ? said : NULL);
        for (double moment = random_moment(); PEEK(&said[DONE]) == 0 || now() < moment;)
            if (mproc_queue_qsize(queue) < 200) put_some(some, some + 1, many), some++;
        if (blocked) EVENTUALLY(PEEK(&said[DONE]) == some && stays_asleep(victim));
        kill_child(victim);
        rest = some + 20;
        put_some(some, rest, many);
        size_t left = mproc_queue_qsize(queue);
        ck_assert_int_ge(number = get(LONG), PEEK(&said[DONE]));
        ck_assert_int_le(number, PEEK(&said[DONE]) + (blocked ? 0 : many ? BATCH : 1));
        ck_assert_uint_eq(left, (size_t)(rest - number));
        while (++number < rest) ck_assert_int_eq(get(LONG), number);
        ck_assert_int_eq(get(0), MPROC_ETIMEDOUT);
        expect_queue_works();
        ck_assert_int_eq(mproc_queue_free(queue), 0);
    }
}
END_TEST

static int gets_one(void *arg) {
    (void)arg;
    MUST_EQ(get(LONG), 0);
    return wait_for_death();
}

/* Row: `mproc_queue` | one between get and `mproc_queue_task_done` */
START_TEST(queue_between_get_and_task_done) {
    start();
    NEED(queue = mproc_queue_new(0));
    put_some(0, 2, false);
    kill_child(spawn_ready(gets_one, NULL));
    ck_assert_int_eq(get(0), 1);
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    TAKES(0.2, 0.2, ck_assert_int_eq(mproc_queue_join(queue, 0.2), MPROC_ETIMEDOUT)); /* the dead one's */
    ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_task_done(queue), MPROC_EINVAL); /* that was all */
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Ring --------------------------------------------------------------------------------------------- */

enum { MANY_ITEMS = 64, ROOM = 300 }; /* no multiple of it */
static mproc_ring *ring;

static int puts_into_ring_for_ever(void *step) {
    static char items[MANY_ITEMS * EVEN];
    for (int i = 0, n = *(int *)step;; i += n) {
        while (mproc_ring_size(ring) + (size_t)n > ROOM) continue; /* none is to wait with a part */
        batch_of(items, i, n);
        if (n > 1) MUST_EQ(mproc_ring_put_many(ring, items, (size_t)n, LONG), n);
        else MUST_EQ(mproc_ring_put(ring, items, LONG), 0);
        POKE(&said[DONE], i + n);
    }
}
/* Never waits, so that it is killed at work: takes back what it has put. */
static int puts_and_takes_back(void *arg) {
    static char items[MANY_ITEMS * EVEN];
    (void)arg;
    batch_of(items, 0, MANY_ITEMS);
    for (announce();;) {
        MUST_EQ(mproc_ring_put_many(ring, items, MANY_ITEMS, LONG), MANY_ITEMS);
        MUST_EQ(mproc_ring_get_many(ring, items, MANY_ITEMS, LONG), MANY_ITEMS);
    }
}
static int puts_more_than_fits(void *step) {
    static char items[3 * ROOM * EVEN];
    (void)step;
    batch_of(items, 0, 3 * ROOM);
    announce();
    return mproc_ring_put_many(ring, items, 3 * ROOM, LONG) < 0;
}
static int get_from_ring(double timeout) {
    static char item[EVEN];
    int error = mproc_ring_get(ring, item, timeout);
    if (error != 0) return error;
    int number = number_of(item, EVEN);
    MUST(number >= 0);
    return number;
}
/* Takes all that is there; the numbers go on from this one. How many. */
static int drain_ring(int from) {
    static char items[ROOM * EVEN];
    ssize_t n = mproc_ring_get_many(ring, items, ROOM, 0);
    for (ssize_t i = 0; i < n; i++) ck_assert_int_eq(number_of(items + i * EVEN, EVEN), from + (int)i);
    return n > 0 ? (int)n : 0;
}
/* As many as it has room for, and no more. */
static void expect_ring_works(void) {
    ck_assert_uint_eq(mproc_ring_size(ring), 0);
    for (int i = 0; i < ROOM; i++) ck_assert_int_eq(mproc_ring_put(ring, message(i, EVEN), 0), 0);
    ck_assert_int_eq(mproc_ring_put(ring, message(0, EVEN), 0), MPROC_ETIMEDOUT);
    for (int i = 0; i < ROOM; i++) ck_assert_int_eq(get_from_ring(0), i);
    ck_assert_int_eq(get_from_ring(0), MPROC_ETIMEDOUT);
}

static void expect_all_or_none(int n) {
    size_t left = mproc_ring_size(ring);
    ck_assert_msg(left == 0 || left == (size_t)n, "%zu", left);
    ck_assert_int_eq(drain_ring(0), (int)left);
    expect_ring_works();
}

/* Row: `mproc_ring` | one that puts */
START_TEST(ring_one_that_puts) {
    start_random();
    NEED(ring = mproc_ring_new(EVEN, ROOM));
    for (int again = 0; again < 2 * AGAIN; again++) {
        begin_round();
        bool waits = again % 8 == 0; /* killed while it waits for room, with a part of its items in it */
        int step = again % 2 ? MANY_ITEMS : 1, got = 0, number;
        pid_t victim = spawn(waits ? puts_more_than_fits : puts_into_ring_for_ever, &step);
        if (waits) EVENTUALLY(mproc_ring_size(ring) == ROOM && stays_asleep(victim));
        else EVENTUALLY(PEEK(&said[DONE]) > 0);
        for (double moment = random_moment(); !waits && now() < moment;) got += drain_ring(got);
        kill_child(victim);
        for (; (number = get_from_ring(0)) >= 0; got++) ck_assert_int_eq(number, got);
        ck_assert_int_eq(number, MPROC_ETIMEDOUT);
        if (waits) ck_assert_int_eq(got, ROOM);
        else ck_assert_msg(got == PEEK(&said[DONE]) || got == PEEK(&said[DONE]) + step, "%d", got);
        expect_ring_works();
    }
    for (int again = 0; again < 2 * AGAIN; again++) {
        kill_at_random(spawn_ready(puts_and_takes_back, NULL));
        expect_all_or_none(MANY_ITEMS);
    }
    ck_assert_int_eq(mproc_ring_free(ring), 0);
}
END_TEST

static int gets_from_ring_for_ever(void *step) {
    static char items[MANY_ITEMS * EVEN];
    for (int i = 0;; POKE(&said[DONE], i)) {
        if (*(int *)step == 1) {
            MUST_EQ(get_from_ring(LONG), i++);
            continue;
        }
        ssize_t n = mproc_ring_get_many(ring, items, MANY_ITEMS, LONG);
        MUST(n > 0);
        for (ssize_t k = 0; k < n; k++) MUST_EQ(number_of(items + k * EVEN, EVEN), i++);
    }
}

/* Row: `mproc_ring` | one that gets */
START_TEST(ring_one_that_gets) {
    start_random();
    NEED(ring = mproc_ring_new(EVEN, ROOM));
    for (int again = 0; again < 2 * AGAIN; again++) {
        begin_round();
        int step = again % 2 ? MANY_ITEMS : 1, put = 0, number;
        bool waits = again % 8 < 2; /* killed while it waits for an item */
        pid_t victim = spawn(gets_from_ring_for_ever, &step);
        for (double moment = random_moment(); PEEK(&said[DONE]) == 0 || now() < moment;)
            if (mproc_ring_put(ring, message(put, EVEN), 0) == 0) put++;
        if (waits) EVENTUALLY(PEEK(&said[DONE]) == put && stays_asleep(victim));
        kill_child(victim);
        if (mproc_ring_size(ring) < ROOM) ck_assert_int_eq(mproc_ring_put(ring, message(put++, EVEN), 0), 0);
        ck_assert_int_ge(number = get_from_ring(0), PEEK(&said[DONE]));
        ck_assert_int_le(number, PEEK(&said[DONE]) + (waits ? 0 : step));
        while (++number < put) ck_assert_int_eq(get_from_ring(0), number);
        expect_ring_works();
    }
    ck_assert_int_eq(mproc_ring_free(ring), 0);
}
END_TEST

/* ---- Pool --------------------------------------------------------------------------------------------- */

static mproc_pool *pool;

static int shows_its_worker(const void *arg, void *result) {
    (void)arg, (void)result;
    SET(board->child, getpid());
    pass_gate();
    return 0;
}
static int squares_or_dies(const void *arg, void *result) {
    mark(arg, NULL);
    if (*(const int *)arg == 7) raise(SIGKILL);
    return square(arg, result);
}

static pid_t begin_and_show(mproc_future **future) { /* the worker of a task that stays at the gate */
    SET(board->child, 0);
    *future = begin(pool, shows_its_worker, 0, 0);
    EVENTUALLY(GET(board->child) != 0);
    return GET(board->child);
}
static void expect_workers(int workers, size_t respawned) {
    EVENTUALLY(counts_of(pool).respawned >= respawned && counts_of(pool).workers == (size_t)workers);
    EVENTUALLY(has_workers(workers));
    ck_assert_uint_eq(counts_of(pool).respawned, respawned);
}

/* Row: `mproc_pool` | a worker with a task */
START_TEST(pool_worker_with_a_task) {
    int in[400], out[400] = {0};
    mproc_future *future;
    start();
    pool = pool_of(2);
    for (int signal = SIGTERM; signal != 0; signal = signal == SIGTERM ? SIGKILL : 0) { /* both in turn */
        kill(begin_and_show(&future), signal);
        TAKES(0, 1, ck_assert_int_eq(mproc_future_get(future, NULL, LONG), MPROC_ECRASHED));
        ck_assert_int_eq(mproc_future_code(future), -signal);
        ck_assert_int_eq(mproc_future_free(future), 0);
    }
    expect_workers(2, 2);
    for (int i = 0; i < 400; i++) in[i] = i;
    ck_assert_int_eq(mproc_pool_map(pool, squares_or_dies, in, 400, sizeof(int), out, sizeof(int)),
                     MPROC_ECRASHED);
    for (int i = 0; i < 400; i++) {
        ck_assert_uint_eq(board->ran[i], 1); /* none twice: nothing is tried again unasked */
        if (i != 7) ck_assert_int_eq(out[i], i * i);
    }
    expect_workers(2, 3);
    ck_assert_uint_eq(counts_of(pool).crashed, 3);
    expect_works(pool);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

/* Row: `mproc_pool` | a worker without a task */
START_TEST(pool_worker_without_a_task) {
    start();
    pool = pool_of(2);
    expect_works(pool);
    EVENTUALLY(is_idle(pool));
    for (size_t round = 1; round <= 5; round++) {
        pid_t pids[2];
        ck_assert_int_eq(workers_of(pids, 2), 2);
        for (int i = 0; i < 2; i++) kill(pids[i], SIGKILL);
        expect_works(pool); /* at once */
        expect_workers(2, 2 * round);
    }
    mproc_pool_counts counts = counts_of(pool);
    ck_assert_uint_eq(counts.crashed + counts.failed, 0);
    ck_assert_uint_eq(counts.done, 6 * 9); /* what expect_works hands in */
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

static int waits_for_a_task(void *arg) {
    (void)arg;
    announce();
    POKE(&said[RESULT], mproc_pool_apply(pool, gate, NULL, 0, NULL, 0));
    return 0;
}

/* Row: `mproc_pool` | the supervisor */
START_TEST(pool_supervisor) {
    start();
    pool = pool_of(2);
    int arg = 1, result = 0;
    pid_t boss = supervisor();
    mproc_future *done = begin(pool, square, 6, sizeof(int));
    ck_assert_int_eq(mproc_future_wait(done, LONG), 0);
    mproc_future *running = begin(pool, gate, 0, 0);
    pid_t other = spawn_blocked(waits_for_a_task, NULL), killer;
    EVENTUALLY(GET(board->started) == 2);
    mproc_future *queued = begin(pool, nothing, 0, 0);
    killer = spawn(kills_when_parent_sleeps, &boss);
    ck_assert_int_eq(mproc_future_get(running, NULL, LONG), MPROC_EBROKEN);
    TAKES(0, 1, ck_assert_int_eq(mproc_future_get(queued, NULL, LONG), MPROC_EBROKEN));
    ck_assert_int_eq(ends_soon(other), 0);
    ck_assert_int_eq(PEEK(&said[RESULT]), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_pool_apply(pool, square, &arg, sizeof arg, &result, sizeof result), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_pool_submit(pool, nothing, NULL, 0, LONG), MPROC_EBROKEN);
    ck_assert_int_eq(mproc_future_get(done, &result, LONG), 0); /* what had finished is not lost */
    ck_assert_int_eq(result, 36);
    ck_assert_int_eq(ended(killer), 0);
    expect_nothing_left(1);
    ck_assert_int_eq(GET(board->ended), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

/* A task that runs, five more with futures and five without; and it waits for the first. */
static int hands_in_tasks(void *arg) {
    (void)arg;
    mproc_future *first = mproc_pool_apply_async(pool, gate, NULL, 0, 0);
    MUST(first != NULL);
    SET(board->future, first);
    for (int i = 0; i < 10; i++) {
        if (i % 2) MUST_EQ(mproc_pool_submit(pool, mark, &i, sizeof i, LONG), 0);
        else MUST(mproc_pool_apply_async(pool, mark, &i, sizeof i, 0) != NULL);
    }
    announce();
    return mproc_future_wait(first, MPROC_FOREVER);
}

/* Row: `mproc_pool` | a process that handed in tasks */
START_TEST(pool_process_that_handed_in) {
    start();
    pool = pool_with((mproc_pool_options){.workers = 1, .backlog = 12});
    for (int round = 1; round <= 3; round++) { /* more tasks in all than it has room for */
        SET(board->open, 0);
        pid_t victim = spawn_blocked(hands_in_tasks, NULL);
        EVENTUALLY(GET(board->started) == round);
        mproc_future *mine = begin(pool, square, 5, sizeof(int));
        int result = 0;
        kill_child(victim);
        ck_assert(!mproc_future_ready(mine));
        SET(board->open, 1);
        ck_assert_int_eq(finish(mine, &result), 0);
        ck_assert_int_eq(result, 25);
        EVENTUALLY(is_idle(pool));
        for (int i = 0; i < 10; i++) ck_assert_int_eq(board->ran[i], round);
        EVENTUALLY(mproc_future_wait(GET(board->future), 0) == MPROC_EINVAL); /* went with the process */
    }
    mproc_pool_counts counts = counts_of(pool);
    ck_assert_uint_eq(counts.done, 3 * 12);
    ck_assert_uint_eq(counts.crashed + counts.failed + counts.respawned, 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}
END_TEST

static mproc_pool **shown_pool; /* in shared memory */

static int makes_a_pool(void *arg) {
    (void)arg;
    *shown_pool = mproc_pool_new(2);
    MUST(*shown_pool != NULL);
    return wait_for_death();
}

/* Row: `mproc_pool` | the process that made the pool */
START_TEST(pool_process_that_made_it) {
    start();
    NEED(shown_pool = mproc_shm_new(sizeof *shown_pool));
    for (int again = 0; again < 3; again++) {
        int result = 0;
        SET(board->started, 0);
        pid_t maker = spawn_ready(makes_a_pool, NULL), boss = supervisor_below(maker), workers[2];
        pool = *shown_pool;
        ck_assert_int_eq(children_of(boss, workers, 2), 2);
        mproc_future *done = begin(pool, square, 6, sizeof(int));
        ck_assert_int_eq(mproc_future_wait(done, LONG), 0);
        mproc_future *future[3] = {begin(pool, gate, 0, 0), begin(pool, gate, 0, 0),
                                   begin(pool, nothing, 0, 0)};
        EVENTUALLY(GET(board->started) == 2);
        pid_t killer = spawn(kills_when_parent_sleeps, &maker);
        for (int i = 0; i < 3; i++) ck_assert_int_eq(finish(future[i], NULL), MPROC_ECANCELED);
        ck_assert_int_eq(finish(done, &result), 0);
        ck_assert_int_eq(result, 36);
        ck_assert_int_eq(ended(maker), -SIGKILL);
        ck_assert_int_eq(ended(killer), 0);
        expect_nothing_left(1);
        ck_assert(process_gone(boss) && process_gone(workers[0]) && process_gone(workers[1]));
        ck_assert_int_eq(GET(board->ended), 0);
        ck_assert_int_eq(mproc_pool_free(pool), 0);
    }
}
END_TEST

/* ---- parallel_for ------------------------------------------------------------------------------------- */

static void waits_at_five(size_t i, void *result) {
    ADD(board->ran[i], 1);
    if (i == 5) {
        SET(board->child, getpid());
        wait_for_death();
    }
    ((int *)result)[i] = (int)(i * i);
}
static int kills_who_shows(void *arg) {
    (void)arg;
    double give_up = now() + LONG;
    for (; GET(board->child) == 0; nap(0.0005)) MUST(now() < give_up);
    return kill(GET(board->child), SIGKILL) != 0;
}

/* Row: `mproc_parallel_for` | a process of the loop */
START_TEST(parallel_for_process_of_the_loop) {
    start();
    int *result = mproc_array_new(int, 40);
    NEED(result);
    for (int workers = 1; workers <= 3; workers++) {
        memset(result, 0, 40 * sizeof *result);
        SET(board->child, 0);
        pid_t killer = spawn(kills_who_shows, NULL);
        ck_assert_int_eq(mproc_parallel_for(40, workers, waits_at_five, result), MPROC_ECRASHED);
        ck_assert_int_eq(ended(killer), 0);
        for (int i = 0; i < 40; i++) {
            ck_assert_int_eq(board->ran[i], workers); /* once in each round */
            ck_assert_int_eq(result[i], i == 5 ? 0 : i * i);
        }
    }
    expect_nothing_left(0);
    ck_assert_int_eq(mproc_free(result), 0);
}
END_TEST

static void passes_gate(size_t i, void *ctx) {
    (void)i, (void)ctx;
    pass_gate();
}
static int loops(void *arg) {
    (void)arg;
    return mproc_parallel_for(10, 3, passes_gate, NULL);
}

/* Row: `mproc_parallel_for` | the caller */
START_TEST(parallel_for_caller) {
    start();
    for (int again = 0; again < 3; again++) {
        SET(board->started, 0);
        pid_t victim = spawn(loops, NULL);
        EVENTUALLY(GET(board->started) == 3);
        ck_assert_int_eq(count_descendants(), 4);
        kill_child(victim);
        expect_nothing_left(1);
        ck_assert_int_eq(GET(board->started), 3);
        ck_assert_int_eq(GET(board->ended), 0);
    }
}
END_TEST

/* ---- Files -------------------------------------------------------------------------------------------- */

static char folder[64], path[96];
static mproc_file *file;

static void start_file(void) {
    start_random();
    make_folder(folder);
    snprintf(path, sizeof path, "%s/file", folder);
    NEED(file = mproc_file_open(path));
}
static void finish_file(void) {
    ck_assert_int_eq(count_entries(folder), 3); /* ".", ".." and the file: nothing was left beside it */
    ck_assert_int_eq(mproc_file_close(file), 0);
    remove_folder(folder);
}

/* It has a child, which inherits the handle and lives on. */
static int locks_file(void *shared) {
    if (shared != NULL) MUST_EQ(mproc_file_lock_shared(file, LONG), 0);
    else MUST_EQ(mproc_file_lock(file, LONG), 0);
    pid_t child = fork();
    if (child == 0) return never_comes(NULL);
    await(&said[READY], 1);
    POKE(&said[FIRST], child);
    return wait_for_death();
}
static int waits_for_file(void *arg) {
    (void)arg;
    announce();
    POKE(&said[RESULT], mproc_file_lock(file, MPROC_FOREVER));
    return mproc_file_unlock(file);
}

/* Row: `mproc_file_lock` | the holder */
START_TEST(file_lock_holder) {
    start_file();
    ck_assert_int_eq(mproc_file_append(file, "text", 4), 0);
    for (int shared = 0; shared <= 1; shared++) {
        begin_round();
        pid_t victim = spawn(locks_file, shared ? said : NULL);
        EVENTUALLY(PEEK(&said[READY]) == 2);
        pid_t waiter = spawn_blocked(waits_for_file, NULL);
        POKE(&said[RESULT], 1);
        ck_assert_int_eq(mproc_file_lock(file, 0), MPROC_ETIMEDOUT);
        kill_child(victim);
        ck_assert_int_eq(ends_soon(waiter), 0);
        ck_assert_int_eq(PEEK(&said[RESULT]), 0);
        ck_assert_int_eq(mproc_file_lock(file, 0), 0);
        ck_assert_int_eq(mproc_file_unlock(file), 0);
        kill_child(PEEK(&said[FIRST]));
    }
    ck_assert_str_eq(slurp(path), "text");
    finish_file();
}
END_TEST

enum { SHORT_RECORD = 100, LONG_RECORD = 3 << 20 };

static int appends_for_ever(void *arg) {
    size_t size = *(size_t *)arg;
    char *record = malloc(size);
    MUST(record != NULL);
    for (int i = 0;; i++) {
        memset(record, 'a' + i % 26, size);
        MUST_EQ(mproc_file_append(file, record, size), 0);
        POKE(&said[DONE], i + 1);
    }
}
static size_t file_size(void) {
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (size_t)st.st_size;
}
/* How many records of that size, each whole, the file holds. */
static int count_records(size_t size) {
    char *record = malloc(size);
    int fd = open(path, O_RDONLY | O_CLOEXEC), n = 0;
    for (ssize_t got; (got = read(fd, record, size)) != 0; n++) {
        ck_assert_int_eq(got, (ssize_t)size);
        ck_assert(all_are(record, size, (char)('a' + n % 26)));
    }
    close(fd);
    free(record);
    return n;
}
/* Kills the process that appends, a long one when the file has grown by a part of a record. */
static void kill_appender(pid_t victim, size_t size) {
    if (size == LONG_RECORD) EVENTUALLY(file_size() > 0);
    for (double stop = now() + 0.01; size == LONG_RECORD && now() < stop && file_size() % size == 0;)
        continue;
    if (size == LONG_RECORD) kill_child(victim);
    else kill_at_random(victim);
}

/* Row: `mproc_file_append` | the writer */
START_TEST(file_append_writer) {
    int parts_seen = 0;
    start_file();
    for (int again = 0; again < AGAIN || parts_seen == 0; again++) {
        size_t size = again % 2 ? SHORT_RECORD : LONG_RECORD;
        begin_round();
        ck_assert_int_eq(truncate(path, 0), 0);
        kill_appender(spawn(appends_for_ever, &size), size);
        bool part = file_size() % size != 0;
        ck_assert(size == LONG_RECORD || !part);
        parts_seen += part; /* by this reader without a lock */
        ck_assert_int_eq(again % 4 < 2 ? mproc_file_lock(file, 0) : mproc_file_lock_shared(file, 0), 0);
        int n = count_records(size);
        ck_assert_msg(n == PEEK(&said[DONE]) || n == PEEK(&said[DONE]) + 1, "%d", n);
        ck_assert_int_eq(mproc_file_unlock(file), 0);
    }
    finish_file();
}
END_TEST

static int to_next(char **data, size_t *size, void *ctx) { /* a file of one letter becomes one of the next */
    char letter = *size > 0 ? (*data)[0] : 'z';
    size_t wanted = *(size_t *)ctx;
    char *larger = realloc(*data, wanted);
    if (larger == NULL) return 1;
    memset(larger, letter == 'z' ? 'a' : letter + 1, wanted);
    *data = larger;
    *size = wanted;
    return 0;
}
static int updates_for_ever(void *ctx) {
    for (announce();;) MUST_EQ(mproc_file_update(file, to_next, ctx), 0);
}
static int dies_in_edit(char **data, size_t *size, void *ctx) {
    to_next(data, size, ctx);
    raise(SIGKILL);
    return 0;
}
static int updates_and_dies(void *ctx) { return mproc_file_update(file, dies_in_edit, ctx); }

static bool temporary_file_is_there(void) {
    char name[128];
    snprintf(name, sizeof name, "%s/.file.mproc-new", folder);
    return access(name, F_OK) == 0;
}
static char one_letter(size_t size) { /* that the file consists of */
    const char *text = slurp(path);
    ck_assert_uint_eq(strlen(text), size);
    ck_assert(all_are(text, size, text[0]));
    return text[0];
}

/* Row: `mproc_file_update` | the updater */
START_TEST(file_update_updater) {
    size_t size = 60000;
    int left_behind = 0;
    start_file();
    ck_assert_int_eq(mproc_file_update(file, to_next, &size), 0);
    ck_assert_int_eq(ended(spawn(updates_and_dies, &size)), -SIGKILL);
    ck_assert_int_eq(one_letter(size), 'a'); /* its change is lost */
    for (int again = 0; again < AGAIN || left_behind == 0; again++) {
        pid_t victim = spawn_ready(updates_for_ever, &size);
        for (int look = 0; look < 100; look++) one_letter(size); /* before its death too */
        if (again % 2) EVENTUALLY(temporary_file_is_there());
        kill_at_random(victim);
        char letter = one_letter(size);
        left_behind += temporary_file_is_there();
        ck_assert_int_eq(mproc_file_update(file, to_next, &size), 0);
        ck_assert_int_eq(one_letter(size), letter == 'z' ? 'a' : letter + 1);
        ck_assert_int_eq(count_entries(folder), 3);
    }
    finish_file();
}
END_TEST

SUITE_MAIN("killed", process_child, process_parent, fork_detached_caller, lock_holder, lock_waiter,
           rlock_holder, semaphore_one_that_had_acquired, semaphore_waiter, event_anyone, condition_holder,
           condition_waiter, barrier_party_that_waits, barrier_party_not_come_yet, shared_holder,
           shared_inside_new_or_free, conn_sender, conn_receiver, conn_last_process, queue_one_that_puts,
           queue_one_that_gets, queue_between_get_and_task_done, ring_one_that_puts, ring_one_that_gets,
           pool_worker_with_a_task, pool_worker_without_a_task, pool_supervisor, pool_process_that_handed_in,
           pool_process_that_made_it, parallel_for_process_of_the_loop, parallel_for_caller, file_lock_holder,
           file_append_writer, file_update_updater)
