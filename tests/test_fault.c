/* Every public call while the system fails it: the first system call or allocation it makes fails, then the
   second, and so on until none failed any more. Whatever fails, the call returns an error or succeeds, the
   object works afterwards, and no descriptor, child, memory or file is left behind. */
#define MPROC_ARENA_SIZE arena_bytes
static unsigned long arena_bytes = 256ul << 20; /* taken at the first use */
#include "support_fault.h"
#include <ctype.h>

typedef struct scenario {
    const char *name;           /* the public function, and what is special about this call of it */
    void (*begin)(void);        /* makes what the call needs, while nothing fails */
    intmax_t (*call)(void);     /* below 0: its error */
    void (*done)(intmax_t was); /* does it all still work? Frees it */
} scenario;

static const scenario *running;
static int running_nth, running_whose;

/* As ck_assert, and tells which call had failed. */
#define HOLDS(condition)                                                                            \
    ck_assert_msg((condition), "%s, with the failure of %s call %d, %s; not so: %s", running->name, \
                  running_whose == FAULT_MINE ? "its own" : "a child's", running_nth, fault->text,  \
                  #condition)

static void hangs(int signal_number) {
    (void)signal_number;
    dprintf(2, "%s hangs, with the failure of %s call %d, %s\n", running->name,
            running_whose == FAULT_MINE ? "its own" : "a child's", running_nth, fault->text);
    kill(0, SIGKILL);
}

/* ---- What must not leak ---- */

typedef struct counts {
    int fds, ports;
    long blocks;
    size_t arena;
} counts;

/* Bytes of the arena in use. A pipe that all have closed goes when others are made: now, that is. */
static size_t arena_used(void) {
    mproc__arena *a = mproc__shared;
    size_t used = 0;
    for (uint32_t i = 0; i < a->ports_used; i++) {
        mproc__pair *pair = a->pair[i];
        if (pair != NULL) pair->forks = a->forks; /* nobody forks just now */
    }
    mproc__pairs_tidy(a->ports_used);
    for (char *p = a->first; p < a->top; p += mproc__size_of(mproc__block_at(p)))
        if (mproc__used(mproc__block_at(p))) used += mproc__size_of(mproc__block_at(p));
    return used;
}

static counts count(void) {
    counts c = {open_fds(), 0, 0, arena_used()};
    for (uint32_t i = 0; i < MPROC__PORTS / 32; i++) c.ports += __builtin_popcount(mproc__shared->port[i]);
    c.blocks = fault_blocks;
    return c;
}

/* ---- The sweep ---- */

/* Runs it with the nth call failing, 0: none; whether one did. */
static bool run(const scenario *s, int nth, int way, int whose, bool lasts) {
    running = s;
    running_nth = nth;
    running_whose = whose;
    alarm((unsigned)(20 * SLOW));
    counts before = count();
    if (s->begin != NULL) s->begin();
    fault_arm(nth, way, whose, lasts);
    intmax_t was = s->call();
    bool failed = fault_disarm() > 0;
    HOLDS(was > -4096 && was != -EINTR);
    if (!failed) ck_assert_msg(was >= 0, "%s: %s", s->name, strerror((int)-was));
    s->done(was);
    counts after = count();
    if (nth == 0) return false; /* what is kept for good is there now */
    HOLDS(after.fds == before.fds);
    HOLDS(after.ports == before.ports);
    HOLDS(after.blocks == before.blocks);
    HOLDS(after.arena == before.arena);
    HOLDS(no_children());
    alarm(0);
    return failed;
}

/* Only a search through /proc makes so many calls: one for each descriptor of each process, all alike. */
static int next(int nth) { return nth < 200 ? nth + 1 : nth + nth / 10; }

static void sweep(const scenario *s) {
    signal(SIGALRM, hangs);
    run(s, 0, 0, FAULT_MINE, false);
    for (int way = 0; way < FAULT_WAYS; way++) {
        for (int lasts = 0; lasts < 2; lasts++) {
            for (int nth = 1; run(s, nth, way, FAULT_MINE, lasts); nth = next(nth)) HOLDS(nth < 1000000);
            for (int nth = 1; nth < 40 && run(s, nth, way, FAULT_CHILDREN, lasts); nth++) continue;
        }
    }
}

#define SWEEP(table)                                                                         \
    do {                                                                                     \
        fault_disarm();                                                                      \
        ck_assert_ptr_nonnull(mproc_current_process()); /* the library is set up */          \
        for (size_t i_ = 0; i_ < sizeof(table) / sizeof *(table); i_++) sweep(&(table)[i_]); \
    } while (0)

static intmax_t made(const void *object) { return object != NULL ? 0 : -errno; }
static intmax_t not_in_time(intmax_t was) { return was == MPROC_ETIMEDOUT ? 0 : was; }

/* Another process does its work and stays, asleep, until it is killed. */
static int *said; /* shared: 0 that it has done its work, from 1 on what it says */
static pid_t other_pid;
static void other(void (*work)(void)) {
    POKE(&said[0], 0);
    other_pid = fork();
    if (other_pid == 0) {
        work();
        POKE(&said[0], 1);
        for (;;) pause();
    }
    EVENTUALLY(PEEK(&said[0]) == 1);
}
static void other_ends(void) {
    if (other_pid == 0) return;
    kill(other_pid, SIGKILL);
    HOLDS(ended(other_pid) == -SIGKILL);
    other_pid = 0;
}

/* ---- Processes ---- */

static mproc_process child, second;

static int seven(void *arg) {
    (void)arg;
    return 7;
}
static int sleeper(void *arg) {
    (void)arg;
    for (;;) pause();
    return 0;
}
static void start(mproc_process *p, int (*target)(void *)) {
    memset(p, 0, sizeof *p);
    p->target = target;
    HOLDS(mproc_process_start(p) == 0);
}
static void begin_child(void) { start(&child, sleeper); }
static void begin_seven(void) { start(&child, seven); }
static void begin_joined(void) {
    begin_seven();
    HOLDS(mproc_process_join(&child, MPROC_FOREVER) == 0);
}
static void begin_two(void) {
    start(&child, sleeper);
    start(&second, seven);
}

static void done_seven(intmax_t was) {
    if (child.mproc__id == 0) begin_seven(); /* what could not be started can be */
    (void)was;
    HOLDS(mproc_process_join(&child, MPROC_FOREVER) == 0);
    HOLDS(child.exitcode == 7);
    HOLDS(mproc_process_close(&child) == 0);
}
static void done_child(intmax_t was) {
    (void)was;
    int error = mproc_process_kill(&child);
    HOLDS(error == 0 || error == -ESRCH);
    HOLDS(mproc_process_join(&child, MPROC_FOREVER) == 0);
    HOLDS(child.exitcode == -SIGKILL || child.exitcode == -SIGTERM);
    HOLDS(!mproc_process_is_alive(&child));
    HOLDS(mproc_process_close(&child) == 0);
}
static void done_two(intmax_t was) {
    HOLDS(was < 0 || was == 1);
    HOLDS(mproc_process_join(&second, MPROC_FOREVER) == 0 && second.exitcode == 7);
    HOLDS(mproc_process_close(&second) == 0);
    done_child(was);
}
static void done_closed(intmax_t was) {
    HOLDS(was == 0);
    HOLDS(mproc_process_join(&child, 0) == MPROC_ECLOSED);
}
static void done_nothing(intmax_t was) { (void)was; }
static void done_true(intmax_t was) { HOLDS(was > 0); }

static intmax_t call_start(void) {
    memset(&child, 0, sizeof child);
    child.target = seven;
    return mproc_process_start(&child);
}
static intmax_t call_start_daemon(void) {
    memset(&child, 0, sizeof child);
    child.target = seven;
    child.daemon = true;
    return mproc_process_start(&child);
}
static intmax_t call_join(void) { return mproc_process_join(&child, MPROC_FOREVER); }
static intmax_t call_daemon_joined(void) { /* in its child, too, calls fail before it is joined */
    intmax_t was = call_start_daemon();
    return was != 0 ? was : call_join();
}
static intmax_t call_join_late(void) { return not_in_time(mproc_process_join(&child, 0.003)); }
static intmax_t call_is_alive(void) { return mproc_process_is_alive(&child) ? 1 : -1; }
static void done_alive(intmax_t was) {
    HOLDS(was == 1);
    done_child(was);
}
static intmax_t call_terminate(void) { return mproc_process_terminate(&child); }
static intmax_t call_kill(void) { return mproc_process_kill(&child); }
static intmax_t call_close(void) { return mproc_process_close(&child); }
static intmax_t call_fd(void) { return mproc_process_fd(&child); }
static intmax_t call_wait_any(void) {
    mproc_process *const both[] = {&child, &second};
    return mproc_process_wait_any(both, 2, MPROC_FOREVER);
}
static intmax_t call_current(void) { return mproc_current_process() != NULL; }
static intmax_t call_active(void) { return (intmax_t)mproc_active_children(NULL, 0); }
static intmax_t call_cpus(void) { return mproc_cpu_count(); }
static intmax_t start_and_join(int (*target)(void *)) {
    memset(&child, 0, sizeof child);
    child.target = target;
    int error = mproc_process_start(&child);
    return error != 0 ? error : mproc_process_join(&child, MPROC_FOREVER);
}
static int asks_for_parent(void *arg) {
    (void)arg;
    return mproc_parent_is_alive() && mproc_parent_pid() == getppid() ? 7 : 1;
}
static intmax_t call_parent(void) { return start_and_join(asks_for_parent); }

static const scenario processes[] = {
    {"mproc_process_start", NULL, call_start, done_seven},
    {"mproc_process_start of a daemon", NULL, call_start_daemon, done_seven},
    {"mproc_process_join", begin_seven, call_join, done_seven},
    {"mproc_process_join of a daemon", NULL, call_daemon_joined, done_seven},
    {"mproc_process_join in time", begin_child, call_join_late, done_child},
    {"mproc_process_is_alive", begin_child, call_is_alive, done_alive},
    {"mproc_process_terminate", begin_child, call_terminate, done_child},
    {"mproc_process_kill", begin_child, call_kill, done_child},
    {"mproc_process_close", begin_joined, call_close, done_closed},
    {"mproc_process_fd", begin_child, call_fd, done_child},
    {"mproc_process_wait_any", begin_two, call_wait_any, done_two},
    {"mproc_current_process", NULL, call_current, done_true},
    {"mproc_active_children", begin_child, call_active, done_alive},
    {"mproc_cpu_count", NULL, call_cpus, done_true},
    {"mproc_parent_pid, mproc_parent_is_alive", NULL, call_parent, done_seven},
};

START_TEST(fault_processes) { SWEEP(processes); }
END_TEST

/* ---- Fork helpers ---- */

static pid_t forked;
static int exitcode;

static intmax_t call_fork(void) {
    forked = mproc_fork();
    if (forked == 0) mproc_exit(7);
    return forked;
}
static void begin_forked(void) {
    exitcode = 0;
    HOLDS(call_fork() > 0);
}
static void begin_forked_ended(void) {
    begin_forked();
    EVENTUALLY(process_state(forked) == 'Z');
}
static void done_forked(intmax_t was) {
    if (was < 0) HOLDS(call_fork() > 0);
    HOLDS(mproc_wait(forked, &exitcode, MPROC_FOREVER) == 0);
    HOLDS(exitcode == 7);
}
static intmax_t call_detached(void) {
    pid_t pid = mproc_fork_detached();
    if (pid == 0) mproc_exit(7);
    return pid;
}
static void done_detached(intmax_t was) {
    HOLDS(was != 0);
    if (was > 0) EVENTUALLY(process_gone((pid_t)was));
}
static intmax_t call_wait(void) { return mproc_wait(forked, &exitcode, MPROC_FOREVER); }
static void done_waited(intmax_t was) {
    if (was < 0) HOLDS(mproc_wait(forked, &exitcode, MPROC_FOREVER) == 0);
    HOLDS(exitcode == 7);
}
static intmax_t call_reap(void) { return mproc_reap(); }
static void done_reaped(intmax_t was) { HOLDS(was + mproc_reap() == 1); }

/* A process that ends while a daemon of its runs: that one goes too. */
static int leaves_a_daemon(void *arg) {
    static mproc_process daemon;
    (void)arg;
    memset(&daemon, 0, sizeof daemon);
    daemon.daemon = true;
    daemon.target = sleeper;
    if (mproc_process_start(&daemon) == 0) POKE(&said[1], daemon.pid);
    mproc_exit(7);
}
static void begin_exit(void) { POKE(&said[1], 0); }
static intmax_t call_exit(void) { return start_and_join(leaves_a_daemon); }
static void done_exit(intmax_t was) {
    done_seven(was);
    if (said[1] != 0) EVENTUALLY(process_gone(said[1]));
}

static const scenario forks[] = {
    {"mproc_fork", NULL, call_fork, done_forked},
    {"mproc_fork_detached", NULL, call_detached, done_detached},
    {"mproc_wait", begin_forked, call_wait, done_waited},
    {"mproc_reap", begin_forked_ended, call_reap, done_reaped},
};
static void nothing_last(void *ctx) { (void)ctx; }
static intmax_t call_at_exit(void) { return mproc_at_exit(nothing_last, &said, 0); }
static void done_at_exit(intmax_t was) {
    HOLDS(mproc_at_exit_cancel(nothing_last, &said) == (was == 0 ? 0 : -ENOENT));
}

static const scenario exits[] = {
    {"mproc_exit", begin_exit, call_exit, done_exit},
    {"mproc_at_exit, mproc_at_exit_cancel", NULL, call_at_exit, done_at_exit},
};

START_TEST(fault_fork_helpers) {
    said = shared_ints();
    SWEEP(forks);
}
END_TEST

START_TEST(fault_exit) {
    said = shared_ints();
    SWEEP(exits);
}
END_TEST

/* ---- Locks and the rest of synchronisation ---- */

static mproc_lock *lock;
static mproc_rlock *rlock;
static mproc_semaphore *semaphore;
static mproc_event *event;
static mproc_condition *condition;
static mproc_barrier *barrier;

static intmax_t call_dump(void) {
    FILE *out = tmpfile();
    if (out == NULL) return -errno;
    int error = mproc_dump(out);
    fclose(out);
    return error;
}

static void begin_sync(void) {
    lock = mproc_lock_new();
    rlock = mproc_rlock_new();
    semaphore = mproc_semaphore_new(1);
    event = mproc_event_new();
    condition = mproc_condition_new(NULL);
    barrier = mproc_barrier_new(2);
    HOLDS(lock && rlock && semaphore && event && condition && barrier);
}
static void hold_all(void) {
    MUST_EQ(mproc_lock_acquire(lock, 0), 0);
    MUST_EQ(mproc_rlock_acquire(rlock, 0), 0);
    MUST_EQ(mproc_semaphore_acquire(semaphore, 0), 0);
}
static void begin_held(void) {
    begin_sync();
    other(hold_all);
}
static void begin_mine(void) { /* the calling process holds them */
    begin_sync();
    hold_all();
    HOLDS(mproc_condition_acquire(condition, 0) == 0);
}
static void begin_dead(void) { /* their holder died */
    begin_held();
    other_ends();
}

/* Whoever holds them ends or lets go; then all can be had and freed. */
static void done_sync(intmax_t was) {
    (void)was;
    other_ends();
    mproc_condition_release(condition);
    mproc_lock_release(lock);
    mproc_rlock_release(rlock);
    if (mproc_semaphore_value(semaphore) == 0) HOLDS(mproc_semaphore_release(semaphore) == 0);
    int error = mproc_lock_acquire(lock, 1), again = mproc_rlock_acquire(rlock, 1);
    HOLDS(error == 0 || error == MPROC_EOWNERDEAD);
    HOLDS(again == 0 || again == MPROC_EOWNERDEAD);
    HOLDS(mproc_lock_release(lock) == 0 && mproc_rlock_release(rlock) == 0);
    HOLDS(mproc_semaphore_acquire(semaphore, 0) == 0);
    HOLDS(mproc_event_set(event) == 0 && mproc_event_wait(event, 0) == 0);
    HOLDS(mproc_condition_acquire(condition, 1) == 0);
    HOLDS(mproc_condition_wait(condition, 0) == MPROC_ETIMEDOUT);
    HOLDS(mproc_condition_release(condition) == 0);
    HOLDS(mproc_barrier_reset(barrier) == 0 && mproc_barrier_wait(barrier, 0) == MPROC_ETIMEDOUT);
    HOLDS(mproc_lock_free(lock) == 0 && mproc_rlock_free(rlock) == 0);
    HOLDS(mproc_semaphore_free(semaphore) == 0 && mproc_event_free(event) == 0);
    HOLDS(mproc_condition_free(condition) == 0 && mproc_barrier_free(barrier) == 0);
}

/* Calls of one line: NEW makes an object, which `end` uses and frees if there is one. */
#define CALL(name, expression) \
    static intmax_t call_##name(void) { return (expression); }
#define NEW(name, variable, expression, end)                                    \
    static intmax_t call_##name(void) { return made(variable = (expression)); } \
    static void done_##name(intmax_t was) {                                     \
        if (was == 0) HOLDS(end);                                               \
    }

NEW(lock_new, lock, mproc_lock_new(),
    mproc_lock_acquire(lock, 0) == 0 && mproc_lock_release(lock) == 0 && mproc_lock_free(lock) == 0)
NEW(rlock_new, rlock, mproc_rlock_new(),
    mproc_rlock_acquire(rlock, 0) == 0 && mproc_rlock_release(rlock) == 0 && mproc_rlock_free(rlock) == 0)
NEW(semaphore_new, semaphore, mproc_semaphore_new(3),
    mproc_semaphore_value(semaphore) == 3 && mproc_semaphore_free(semaphore) == 0)
NEW(bounded_new, semaphore, mproc_semaphore_new_bounded(1),
    mproc_semaphore_release(semaphore) == -ERANGE && mproc_semaphore_free(semaphore) == 0)
NEW(event_new, event, mproc_event_new(), !mproc_event_is_set(event) && mproc_event_free(event) == 0)
NEW(condition_new, condition, mproc_condition_new(NULL),
    mproc_condition_acquire(condition, 0) == 0 && mproc_condition_release(condition) == 0 &&
        mproc_condition_free(condition) == 0)
NEW(barrier_new, barrier, mproc_barrier_new(1),
    mproc_barrier_wait(barrier, 0) == 0 && mproc_barrier_free(barrier) == 0)

static bool never(void *ctx) {
    (void)ctx;
    return false;
}
static intmax_t owner_dead(intmax_t was) { return was == MPROC_EOWNERDEAD ? 0 : was; }
static intmax_t call_with(void) {
    intmax_t was = -1;
    MPROC_WITH (lock) was = 0;
    return was;
}
static void done_must(intmax_t was) { /* a call that has no excuse */
    HOLDS(was == 0);
    done_sync(was);
}
/* Frees the rest, whatever became of the one that was freed under failure. */
static intmax_t call_frees(void) {
    int error = mproc_semaphore_free(semaphore);
    if (error == 0) error = mproc_event_free(event);
    if (error == 0) error = mproc_condition_free(condition);
    return error != 0 ? error : mproc_barrier_free(barrier);
}
static intmax_t call_lock_frees(void) {
    int error = mproc_lock_free(lock);
    return error != 0 ? error : mproc_rlock_free(rlock);
}
static void done_frees(intmax_t was) {
    HOLDS(was == 0);
    HOLDS(mproc_lock_free(lock) == 0 && mproc_rlock_free(rlock) == 0);
}
static void done_lock_frees(intmax_t was) { HOLDS(was == 0 && call_frees() == 0); }

CALL(acquire, mproc_lock_acquire(lock, 0))
CALL(acquire_held, not_in_time(mproc_lock_acquire(lock, 0.003)))
CALL(acquire_mine, not_in_time(mproc_lock_acquire(lock, 0.003))) /* sleeps: nobody else can release it */
CALL(acquire_dead, owner_dead(mproc_lock_acquire(lock, 1)))
CALL(owner_died, mproc_lock_acquire(lock, 1) == MPROC_EOWNERDEAD && mproc_lock_owner_died(lock) ? 0 : -1)
CALL(release, mproc_lock_release(lock))
CALL(racquire, mproc_rlock_acquire(rlock, 0))
CALL(racquire_held, not_in_time(mproc_rlock_acquire(rlock, 0.003)))
CALL(rrelease, mproc_rlock_release(rlock))
CALL(semaphore_acquire, not_in_time(mproc_semaphore_acquire(semaphore, 0.003)))
CALL(semaphore_release, mproc_semaphore_release(semaphore))
CALL(semaphore_value, mproc_semaphore_value(semaphore))
CALL(event_set, mproc_event_set(event))
CALL(event_clear, mproc_event_clear(event))
CALL(event_is_set, mproc_event_is_set(event))
CALL(event_wait, not_in_time(mproc_event_wait(event, 0.003)))
CALL(condition_acquire, mproc_condition_acquire(condition, 0))
CALL(condition_release, mproc_condition_release(condition))
CALL(condition_wait, not_in_time(mproc_condition_wait(condition, 0.003)))
CALL(condition_wait_for, not_in_time(mproc_condition_wait_for(condition, never, NULL, 0.003)))
CALL(condition_notify, mproc_condition_notify(condition, 1))
CALL(condition_notify_all, mproc_condition_notify_all(condition))
CALL(barrier_wait, not_in_time(mproc_barrier_wait(barrier, 0.003)))
CALL(barrier_reset, mproc_barrier_reset(barrier))
CALL(barrier_abort, mproc_barrier_abort(barrier))

static const scenario synchronisation[] = {
    {"mproc_dump", begin_held, call_dump, done_sync},
    {"mproc_lock_new", NULL, call_lock_new, done_lock_new},
    {"mproc_lock_acquire", begin_sync, call_acquire, done_must},
    {"mproc_lock_acquire of a held one", begin_held, call_acquire_held, done_must},
    {"mproc_lock_acquire of one's own", begin_mine, call_acquire_mine, done_must},
    {"mproc_lock_acquire after its holder died", begin_dead, call_acquire_dead, done_must},
    {"mproc_lock_owner_died", begin_dead, call_owner_died, done_must},
    {"mproc_lock_release", begin_mine, call_release, done_must},
    {"mproc_lock_free, mproc_rlock_free", begin_sync, call_lock_frees, done_lock_frees},
    {"MPROC_WITH", begin_sync, call_with, done_must},
    {"mproc_rlock_new", NULL, call_rlock_new, done_rlock_new},
    {"mproc_rlock_acquire", begin_sync, call_racquire, done_must},
    {"mproc_rlock_acquire of a held one", begin_held, call_racquire_held, done_must},
    {"mproc_rlock_release", begin_mine, call_rrelease, done_must},
    {"mproc_semaphore_new", NULL, call_semaphore_new, done_semaphore_new},
    {"mproc_semaphore_new_bounded", NULL, call_bounded_new, done_bounded_new},
    {"mproc_semaphore_acquire", begin_sync, call_semaphore_acquire, done_must},
    {"mproc_semaphore_acquire at 0", begin_mine, call_semaphore_acquire, done_must},
    {"mproc_semaphore_release", begin_mine, call_semaphore_release, done_must},
    {"mproc_semaphore_value", begin_mine, call_semaphore_value, done_must},
    {"mproc_event_new", NULL, call_event_new, done_event_new},
    {"mproc_event_set", begin_sync, call_event_set, done_must},
    {"mproc_event_clear", begin_sync, call_event_clear, done_must},
    {"mproc_event_is_set", begin_sync, call_event_is_set, done_must},
    {"mproc_event_wait", begin_sync, call_event_wait, done_must},
    {"mproc_condition_new", NULL, call_condition_new, done_condition_new},
    {"mproc_condition_acquire", begin_sync, call_condition_acquire, done_must},
    {"mproc_condition_release", begin_mine, call_condition_release, done_must},
    {"mproc_condition_wait", begin_mine, call_condition_wait, done_sync},
    {"mproc_condition_wait_for", begin_mine, call_condition_wait_for, done_sync},
    {"mproc_condition_notify", begin_mine, call_condition_notify, done_must},
    {"mproc_condition_notify_all", begin_mine, call_condition_notify_all, done_must},
    {"mproc_barrier_new", NULL, call_barrier_new, done_barrier_new},
    {"mproc_barrier_wait", begin_sync, call_barrier_wait, done_must},
    {"mproc_barrier_reset", begin_sync, call_barrier_reset, done_must},
    {"mproc_barrier_abort", begin_sync, call_barrier_abort, done_must},
    {"mproc_semaphore_free, mproc_event_free, mproc_condition_free, mproc_barrier_free", begin_sync,
     call_frees, done_frees},
};

START_TEST(fault_synchronisation) {
    said = shared_ints();
    SWEEP(synchronisation);
}
END_TEST

/* ---- Shared memory ---- */

static int *value;
static double *array;
static const double three[3] = {1, 2, 3};

static void begin_value(void) {
    value = mproc_value_new(int, 5);
    HOLDS(value != NULL);
}
static void done_value(intmax_t was) { HOLDS(was == 0 && *value == 5 && mproc_free(value) == 0); }
static void done_free(intmax_t was) { HOLDS(was == 0); }
NEW(value_new, value, mproc_value_new(int, 5), *value == 5 && mproc_free(value) == 0)
NEW(array_new, array, mproc_array_new(double, 1000), array[999] < 0.5 && mproc_free(array) == 0)
NEW(large_new, array, mproc_array_new(double, 9 << 20), array[5 << 20] < 0.5 && mproc_free(array) == 0)
NEW(array_from, array, mproc_array_from(double, three, 3), array[2] > 2.5 && mproc_free(array) == 0)
NEW(shm_new, value, mproc_shm_new(64), value[15] == 0 && mproc_free(value) == 0)
CALL(free, mproc_free(value))
CALL(len, mproc_array_len(value) == 1 ? 0 : -1)
CALL(lock_of, mproc_lock_of(value) != NULL ? 0 : -1)

static const scenario memory[] = {
    {"mproc_value_new", NULL, call_value_new, done_value_new},
    {"mproc_array_new", NULL, call_array_new, done_array_new},
    {"mproc_array_new of many pages", NULL, call_large_new, done_large_new},
    {"mproc_array_from", NULL, call_array_from, done_array_from},
    {"mproc_shm_new", NULL, call_shm_new, done_shm_new},
    {"mproc_array_len", begin_value, call_len, done_value},
    {"mproc_lock_of", begin_value, call_lock_of, done_value},
    {"mproc_free", begin_value, call_free, done_free},
};

START_TEST(fault_memory) { SWEEP(memory); }
END_TEST

/* ---- Queues and pipes ---- */

enum { SMALL = 20, LARGE = 3000, ROOM = 4000 };
static mproc_queue *queue;
static mproc_conn *ends[2];
static size_t waiting; /* messages that must be in the queue or pipe */
static char message[ROOM], items[8][SMALL];
static void *taken;

static bool sound(const char *bytes, intmax_t size) {
    for (intmax_t i = 0; i < size; i++)
        if (bytes[i] != (size == SMALL ? 's' : 'L')) return false;
    return size == SMALL || size == LARGE;
}
static int put_one(size_t size) {
    memset(message, size == SMALL ? 's' : 'L', size);
    int error = mproc_queue_put(queue, message, size, 0);
    if (error == 0) waiting++;
    return error;
}
static void fill_queue(size_t maxsize) {
    waiting = 0;
    queue = mproc_queue_new(maxsize);
    HOLDS(queue != NULL);
    HOLDS(put_one(SMALL) == 0 && put_one(LARGE) == 0 && put_one(SMALL) == 0);
}
static void begin_queue(void) { fill_queue(0); }
static void begin_bounded(void) { fill_queue(4); }
static void begin_full(void) { fill_queue(3); }
static void begin_empty(void) {
    begin_queue();
    while (mproc_queue_get(queue, message, ROOM, 0) >= 0) HOLDS(mproc_queue_task_done(queue) == 0);
    waiting = 0;
}
static void begin_large(void) { /* a large message is first */
    begin_queue();
    HOLDS(mproc_queue_get(queue, message, ROOM, 0) == SMALL);
    waiting--;
}
static void begin_put_back(void) { /* and was put back */
    begin_large();
    HOLDS(mproc_queue_get(queue, message, SMALL, 0) == MPROC_EMSGSIZE);
}
static void begin_small_back(void) { /* a small one was */
    begin_queue();
    HOLDS(mproc_queue_get(queue, message, 1, 0) == MPROC_EMSGSIZE);
}

/* The queue, which holds what it must. */
static void done_queue(intmax_t was) {
    (void)was;
    size_t n = 0;
    HOLDS(mproc_queue_qsize(queue) == waiting);
    for (ssize_t got; (got = mproc_queue_get(queue, message, ROOM, 0)) >= 0; n++) HOLDS(sound(message, got));
    HOLDS(n == waiting);
    HOLDS(mproc_queue_empty(queue));
    int error = put_one(LARGE);
    HOLDS(error == 0 || error == MPROC_ECLOSED);
    HOLDS(error != 0 || mproc_queue_get(queue, message, ROOM, 0) == LARGE);
    HOLDS(mproc_queue_free(queue) == 0);
}
static void done_must_queue(intmax_t was) {
    HOLDS(was >= 0);
    done_queue(was);
}
static void done_taken(intmax_t was) {
    if (was >= 0) HOLDS(mproc_free(taken) == 0);
    done_queue(was);
}
static void done_queue_new(intmax_t was) {
    waiting = 0;
    if (was == 0) done_queue(was);
}
static void done_queue_free(intmax_t was) {
    if (was != 0) HOLDS(mproc_queue_free(queue) == 0);
}

static intmax_t got(intmax_t size) { /* of a get: what was got is whole, and gone from the queue */
    if (size >= 0) waiting--;
    return size < 0 || sound(message, size) ? size : -4096;
}
static intmax_t too_large(intmax_t was) { return was == MPROC_EMSGSIZE ? 0 : was; }
static intmax_t call_queue_take(void) {
    size_t size = 0;
    taken = mproc_queue_take(queue, &size, 0);
    if (taken == NULL) return -errno;
    waiting--;
    return sound(taken, (intmax_t)size) ? 0 : -4096;
}
static intmax_t call_queue_put_many(void) {
    memset(items, 's', sizeof items);
    ssize_t n = mproc_queue_put_many(queue, items, 8, SMALL, 0);
    if (n > 0) waiting += (size_t)n;
    return n;
}
static intmax_t call_queue_put_many_large(void) {
    static char large[3][LARGE];
    memset(large, 'L', sizeof large);
    ssize_t n = mproc_queue_put_many(queue, large, 3, LARGE, 0);
    if (n > 0) waiting += (size_t)n;
    return n;
}
static intmax_t call_queue_get_many(void) {
    static char room[8][ROOM];
    ssize_t n = mproc_queue_get_many(queue, room, 8, ROOM, 0);
    if (n > 0) waiting -= (size_t)n;
    return n;
}

CALL(long_queue_new, made(queue = mproc_queue_new(1000)))
CALL(queue_new, made(queue = mproc_queue_new(0)))
CALL(bounded_queue_new, made(queue = mproc_queue_new(100)))
CALL(queue_put, put_one(SMALL))
CALL(queue_put_large, put_one(LARGE))
CALL(queue_put_full, not_in_time(mproc_queue_put(queue, message, SMALL, 0.003)))
CALL(queue_get, got(mproc_queue_get(queue, message, ROOM, 0)))
CALL(queue_get_small, too_large(mproc_queue_get(queue, message, 1, 0)))
CALL(queue_get_empty, not_in_time(mproc_queue_get(queue, message, ROOM, 0.003)))
CALL(queue_qsize, mproc_queue_qsize(queue) == waiting ? 0 : -1)
CALL(queue_empty, !mproc_queue_empty(queue) ? 0 : -1)
CALL(queue_full, mproc_queue_full(queue) ? 0 : -1)
CALL(queue_close, mproc_queue_close(queue))
CALL(queue_task_done,
     mproc_queue_get(queue, message, ROOM, 0) < 0 ? -1 : (waiting--, mproc_queue_task_done(queue)))
CALL(queue_join, mproc_queue_join(queue, 1))
CALL(queue_join_late, not_in_time(mproc_queue_join(queue, 0.003)))
CALL(queue_fd, mproc_queue_fd(queue))
CALL(queue_free, mproc_queue_free(queue))

static const scenario queues[] = {
    {"mproc_queue_new", NULL, call_queue_new, done_queue_new},
    {"mproc_queue_new with a bound", NULL, call_bounded_queue_new, done_queue_new},
    {"mproc_queue_new with a large bound", NULL, call_long_queue_new, done_queue_new},
    {"mproc_queue_put", begin_queue, call_queue_put, done_queue},
    {"mproc_queue_put of a large one", begin_queue, call_queue_put_large, done_queue},
    {"mproc_queue_put with a bound", begin_bounded, call_queue_put, done_queue},
    {"mproc_queue_put when full", begin_full, call_queue_put_full, done_queue},
    {"mproc_queue_get", begin_queue, call_queue_get, done_queue},
    {"mproc_queue_get of a large one", begin_large, call_queue_get, done_queue},
    {"mproc_queue_get with too little room", begin_queue, call_queue_get_small, done_queue},
    {"mproc_queue_get with too little room for a large one", begin_large, call_queue_get_small, done_queue},
    {"mproc_queue_get of one put back", begin_put_back, call_queue_get, done_queue},
    {"mproc_queue_get of a small one put back", begin_small_back, call_queue_get, done_queue},
    {"mproc_queue_get of nothing", begin_empty, call_queue_get_empty, done_queue},
    {"mproc_queue_take", begin_queue, call_queue_take, done_taken},
    {"mproc_queue_take of a large one", begin_large, call_queue_take, done_taken},
    {"mproc_queue_qsize", begin_put_back, call_queue_qsize, done_must_queue},
    {"mproc_queue_empty", begin_queue, call_queue_empty, done_must_queue},
    {"mproc_queue_full", begin_full, call_queue_full, done_must_queue},
    {"mproc_queue_put_many", begin_queue, call_queue_put_many, done_queue},
    {"mproc_queue_put_many of large ones", begin_queue, call_queue_put_many_large, done_queue},
    {"mproc_queue_get_many", begin_queue, call_queue_get_many, done_queue},
    {"mproc_queue_close", begin_queue, call_queue_close, done_must_queue},
    {"mproc_queue_close of an empty one", begin_empty, call_queue_close, done_must_queue},
    {"mproc_queue_task_done", begin_queue, call_queue_task_done, done_queue},
    {"mproc_queue_join", begin_empty, call_queue_join, done_must_queue},
    {"mproc_queue_join of a full one", begin_full, call_queue_join_late, done_must_queue},
    {"mproc_queue_fd", begin_queue, call_queue_fd, done_must_queue},
    {"mproc_queue_free", begin_put_back, call_queue_free, done_queue_free},
};

START_TEST(fault_queues) {
    said = shared_ints();
    SWEEP(queues);
}
END_TEST

static int send_one(size_t size) {
    memset(message, size == SMALL ? 's' : 'L', size);
    int error = mproc_conn_send(ends[1], message, size, 0);
    if (error == 0) waiting++;
    return error;
}
static void begin_pipe(void) {
    waiting = 0;
    HOLDS(mproc_pipe_new(ends, true) == 0);
    HOLDS(send_one(SMALL) == 0 && send_one(LARGE) == 0);
}
static void begin_pipe_large(void) {
    begin_pipe();
    HOLDS(mproc_conn_recv(ends[0], message, ROOM, 0) == SMALL);
    waiting--;
}
static void begin_pipe_empty(void) {
    begin_pipe_large();
    HOLDS(mproc_conn_recv(ends[0], message, ROOM, 0) == LARGE);
    waiting--;
}
static void done_pipe(intmax_t was) {
    (void)was;
    for (; waiting > 0; waiting--) {
        HOLDS(mproc_conn_poll(ends[0], 0) == 1);
        HOLDS(sound(message, mproc_conn_recv(ends[0], message, ROOM, 0)));
    }
    HOLDS(mproc_conn_recv(ends[0], message, ROOM, 0) == MPROC_ETIMEDOUT);
    HOLDS(send_one(LARGE) == 0 && mproc_conn_recv(ends[0], message, ROOM, 0) == LARGE);
    HOLDS(mproc_conn_close(ends[0]) == 0 && mproc_conn_close(ends[1]) == 0);
    other_ends();
}
static void done_pipe_new(intmax_t was) {
    waiting = 0;
    if (was == 0) done_pipe(was);
}
/* Without a stdin a pipe's descriptors must not take its place. */
static int kept_stdin;
static void begin_without_stdin(void) {
    kept_stdin = fcntl(0, F_DUPFD_CLOEXEC, 10);
    HOLDS(kept_stdin >= 0 && close(0) == 0);
}
static void done_without_stdin(intmax_t was) {
    HOLDS(fcntl(0, F_GETFD) < 0);
    HOLDS(dup2(kept_stdin, 0) == 0 && close(kept_stdin) == 0);
    done_pipe_new(was);
}
static void done_one_way(intmax_t was) {
    if (was != 0) return;
    waiting = 0;
    HOLDS(mproc_conn_recv(ends[1], message, ROOM, 0) == MPROC_EPERM);
    done_pipe(was);
}
static void done_conn_close(intmax_t was) {
    HOLDS(was == 0);
    HOLDS(mproc_conn_send(ends[1], "x", 1, 0) == MPROC_ECLOSED);
    HOLDS(mproc_conn_close(ends[0]) == 0);
}

CALL(pipe_new, mproc_pipe_new(ends, true))
CALL(one_way, mproc_pipe_new(ends, false))
CALL(send, send_one(SMALL))
CALL(send_large, send_one(LARGE))
CALL(recv, got(mproc_conn_recv(ends[0], message, ROOM, 0)))
CALL(recv_small, too_large(mproc_conn_recv(ends[0], message, 1, 0)))
CALL(recv_empty, not_in_time(mproc_conn_recv(ends[0], message, ROOM, 0.003)))
CALL(conn_poll, mproc_conn_poll(ends[0], 0.003))
CALL(conn_fd, mproc_conn_fd(ends[0]))
CALL(conn_close, mproc_conn_close(ends[1]))

static const scenario pipes[] = {
    {"mproc_pipe_new", NULL, call_pipe_new, done_pipe_new},
    {"mproc_pipe_new, one-way", NULL, call_one_way, done_one_way},
    {"mproc_pipe_new without a stdin", begin_without_stdin, call_pipe_new, done_without_stdin},
    {"mproc_conn_send", begin_pipe, call_send, done_pipe},
    {"mproc_conn_send of a large one", begin_pipe, call_send_large, done_pipe},
    {"mproc_conn_recv", begin_pipe, call_recv, done_pipe},
    {"mproc_conn_recv of a large one", begin_pipe_large, call_recv, done_pipe},
    {"mproc_conn_recv with too little room", begin_pipe, call_recv_small, done_pipe},
    {"mproc_conn_recv of nothing", begin_pipe_empty, call_recv_empty, done_pipe},
    {"mproc_conn_poll", begin_pipe, call_conn_poll, done_pipe},
    {"mproc_conn_poll of an empty one", begin_pipe_empty, call_conn_poll, done_pipe},
    {"mproc_conn_fd", begin_pipe, call_conn_fd, done_pipe},
    {"mproc_conn_close", begin_pipe, call_conn_close, done_conn_close},
};

START_TEST(fault_pipes) {
    said = shared_ints();
    SWEEP(pipes);
}
END_TEST

/* Objects made by another process after this one was there: their descriptors come out of /proc. */
static struct late {
    mproc_queue *queue;
    mproc_conn *ends[2];
} * late;
static void make_late(void) {
    begin_queue();
    late->queue = queue;
    MUST_EQ(mproc_pipe_new(late->ends, true), 0);
    MUST_EQ(mproc_conn_send(late->ends[1], message, 1, 0), 0);
}
static void begin_late(void) {
    other(make_late);
    queue = late->queue;
    waiting = 3;
}
static void done_late(intmax_t was) {
    done_queue(was);
    HOLDS(mproc_conn_recv(late->ends[0], message, ROOM, 0) == 1);
    HOLDS(mproc_conn_close(late->ends[0]) == 0 && mproc_conn_close(late->ends[1]) == 0);
    other_ends();
}
static void done_late_conn(intmax_t was) {
    if (was < 0) HOLDS(mproc_conn_recv(late->ends[0], message, ROOM, 0) == 1);
    done_queue(was);
    HOLDS(mproc_conn_close(late->ends[0]) == 0 && mproc_conn_close(late->ends[1]) == 0);
    other_ends();
}
static void inherit_late(void) { /* the maker is killed soon, who inherited it stays */
    make_late();
    pid_t pid = fork();
    if (pid == 0)
        for (;;) pause();
    POKE(&said[2], pid);
}
static void begin_orphaned(void) {
    other(inherit_late);
    other_ends();
    queue = late->queue;
    waiting = 3;
}
static void done_orphaned(intmax_t was) {
    done_late(was);
    kill(said[2], SIGKILL);
    EVENTUALLY(process_gone(said[2]));
}
CALL(late_recv, mproc_conn_recv(late->ends[0], message, ROOM, 0))

static const scenario late_ones[] = {
    {"mproc_queue_put to a late one", begin_late, call_queue_put, done_late},
    {"mproc_queue_put to a late one whose maker has died", begin_orphaned, call_queue_put, done_orphaned},
    {"mproc_queue_get from a late one", begin_late, call_queue_get, done_late},
    {"mproc_conn_recv from a late one", begin_late, call_late_recv, done_late_conn},
};

/* Each by itself: they look through /proc at each call, which takes long beside many processes. */
static void sweep_late(size_t which) {
    said = shared_ints();
    fault_disarm();
    ck_assert_ptr_nonnull(mproc_current_process());
    late = mproc_shm_new(sizeof *late);
    sweep(&late_ones[which]);
}
START_TEST(fault_late_put) { sweep_late(0); }
END_TEST
START_TEST(fault_late_orphan) { sweep_late(1); }
END_TEST
START_TEST(fault_late_get) { sweep_late(2); }
END_TEST
START_TEST(fault_late_recv) { sweep_late(3); }
END_TEST

/* ---- A getter that was stopped just before its read ---- */

static int reads_before; /* of the getter's, until the putter puts */

/* Who puts back may wait for memory, but not while it keeps others from getting. */
static void memory_without_lock(const char *text) {
    if (strncmp(text, "arena(", 6) == 0) ck_assert_uint_eq(mproc__mutex_holder(&queue->get_lock), 0);
}

/* The first message larger than the getter's buffer, and a small one, come just before it reads. Another
   putter was killed when it had noted the size and put nothing. */
static void put_before_read(const char *text) {
    if (strncmp(text, "read(fd, frames", 15) != 0 || reads_before-- > 0) return;
    fault_before = NULL;
    queue->largest = 100;
    pid_t pid = fork();
    if (pid == 0) {
        bool put = mproc_queue_put(queue, message, 100, 0) == 0 && mproc_queue_put(queue, "last", 5, 0) == 0;
        _exit(put ? 0 : 1);
    }
    ck_assert_int_eq(ended(pid), 0);
    fault_before = memory_without_lock;
}
static bool untouched(const char *bytes, size_t size) {
    while (size > 0 && bytes[size - 1] == '#') size--;
    return size == 0;
}
static void both_are_there(void) {
    char got[ROOM];
    fault_before = NULL;
    ck_assert_uint_eq(mproc_queue_qsize(queue), 2);
    ck_assert_int_eq(mproc_queue_get(queue, got, sizeof got, 0), 100);
    ck_assert_int_eq(mproc_queue_get(queue, got, sizeof got, 0), 5);
    ck_assert_str_eq(got, "last");
}

START_TEST(queue_a_late_getter_puts_back_what_does_not_fit) {
    char box[ROOM];
    memset(box, '#', sizeof box);
    queue = mproc_queue_new(0);
    reads_before = 0;
    fault_before = put_before_read;
    ck_assert_int_eq(mproc_queue_get(queue, box, 16, 0), MPROC_EMSGSIZE);
    ck_assert(untouched(box, sizeof box));
    both_are_there();
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

START_TEST(queue_a_late_getter_of_many_puts_back_what_does_not_fit) {
    char box[20 * 16];
    memset(box, '#', sizeof box);
    queue = mproc_queue_new(0);
    ck_assert_int_eq(
        mproc_queue_put_many(queue, "some small item some small item some small item ", 3, 16, 0), 3);
    reads_before = 1;
    fault_before = put_before_read;
    ck_assert_int_eq(mproc_queue_get_many(queue, box, 20, 16, 0), 3);
    ck_assert(memcmp(box + 32, "some small item ", 16) == 0 && untouched(box + 48, sizeof box - 48));
    both_are_there();
    for (int i = 0; i < 5; i++) ck_assert_int_eq(mproc_queue_task_done(queue), 0);
    ck_assert_int_eq(mproc_queue_join(queue, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
}
END_TEST

/* ---- Rings ---- */

static mproc_ring *ring;
static int number, numbers[4];

static void begin_ring(void) {
    waiting = 2;
    ring = mproc_ring_new(sizeof number, 4);
    HOLDS(ring != NULL && mproc_ring_put_many(ring, numbers, 2, 0) == 2);
}
static void done_ring(intmax_t was) {
    (void)was;
    for (; waiting > 0; waiting--) HOLDS(mproc_ring_get(ring, &number, 0) == 0);
    HOLDS(mproc_ring_size(ring) == 0);
    int error = mproc_ring_put(ring, &number, 0);
    HOLDS(error == 0 || error == MPROC_ECLOSED);
    HOLDS(mproc_ring_free(ring) == 0);
}
static void done_ring_new(intmax_t was) {
    waiting = 0;
    if (was == 0) done_ring(was);
}
static intmax_t changes(intmax_t was, size_t by) {
    if (was >= 0) waiting += by;
    return was;
}
static intmax_t call_ring_put_full(void) {
    ssize_t n = mproc_ring_put_many(ring, numbers, 4, 0.003);
    return changes(n, n > 0 ? (size_t)n : 0);
}
CALL(ring_new, made(ring = mproc_ring_new(sizeof number, 4)))
CALL(ring_put, changes(mproc_ring_put(ring, &number, 0), 1))
CALL(ring_get, changes(mproc_ring_get(ring, &number, 0), (size_t)-1))
CALL(ring_get_many, changes(mproc_ring_get_many(ring, numbers, 4, 0), (size_t)-2))
CALL(ring_size, mproc_ring_size(ring) == 2 ? 0 : -1)
CALL(ring_close, mproc_ring_close(ring))
CALL(ring_free, mproc_ring_free(ring))

static const scenario rings[] = {
    {"mproc_ring_new", NULL, call_ring_new, done_ring_new},
    {"mproc_ring_put", begin_ring, call_ring_put, done_ring},
    {"mproc_ring_get", begin_ring, call_ring_get, done_ring},
    {"mproc_ring_put_many", begin_ring, call_ring_put_full, done_ring},
    {"mproc_ring_get_many", begin_ring, call_ring_get_many, done_ring},
    {"mproc_ring_size", begin_ring, call_ring_size, done_ring},
    {"mproc_ring_close", begin_ring, call_ring_close, done_ring},
    {"mproc_ring_free", begin_ring, call_ring_free, done_free},
};

START_TEST(fault_rings) { SWEEP(rings); }
END_TEST

/* ---- Pools ---- */

static mproc_pool *pool;
static mproc_future *future;
static mproc_iter *iter;
static int in[20], out[20], called;

static int twice(const void *arg, void *result) {
    *(int *)result = 2 * *(const int *)arg;
    return 0;
}
static int quiet(const void *arg, void *result) {
    (void)arg, (void)result;
    return 0;
}
static int dies(const void *arg, void *result) {
    (void)arg, (void)result;
    _exit(3);
}
static int waits(const void *arg, void *result) {
    (void)arg, (void)result;
    for (;;) pause();
    return 0;
}
static void note(mproc_future *f, void *ctx) {
    (void)f, (void)ctx;
    called++;
}

static void begin_pool(void) {
    for (int i = 0; i < 20; i++) in[i] = i, out[i] = -1;
    called = 0;
    iter = NULL;
    future = NULL;
    pool = mproc_pool_new(2);
    HOLDS(pool != NULL);
}
static void begin_future(void) {
    begin_pool();
    future = mproc_pool_apply_async(pool, twice, &in[4], sizeof(int), sizeof(int));
    HOLDS(future != NULL);
}
static void begin_future_done(void) {
    begin_future();
    HOLDS(mproc_future_wait(future, MPROC_FOREVER) == 0);
}
static void begin_future_waits(void) {
    begin_pool();
    future = mproc_pool_apply_async(pool, waits, NULL, 0, 0);
    HOLDS(future != NULL);
}
static void begin_iter(void) {
    begin_pool();
    iter = mproc_pool_imap(pool, twice, in, 20, sizeof(int), sizeof(int));
    HOLDS(iter != NULL);
}
static void begin_closed(void) {
    begin_pool();
    HOLDS(mproc_pool_close(pool) == 0);
}

/* It runs tasks still. */
static void pool_works(void) {
    int result = 0;
    HOLDS(mproc_pool_apply(pool, twice, &in[4], sizeof(int), &result, sizeof(int)) == 0);
    HOLDS(result == 8);
    HOLDS(mproc_pool_map(pool, twice, in, 20, sizeof(int), out, sizeof(int)) == 0);
    for (int i = 0; i < 20; i++) HOLDS(out[i] == 2 * i);
}
static void done_pool(intmax_t was) {
    (void)was;
    HOLDS(mproc_iter_free(iter) == 0);
    HOLDS(mproc_future_free(future) == 0);
    pool_works();
    HOLDS(mproc_pool_free(pool) == 0);
}
static void done_pool_must(intmax_t was) {
    HOLDS(was >= 0);
    done_pool(was);
}
static void done_pool_new(intmax_t was) {
    future = NULL;
    iter = NULL;
    if (was == 0) done_pool(was);
}
static void done_future(intmax_t was) {
    if (was == 0) HOLDS(mproc_future_get(future, out, MPROC_FOREVER) == 0 && out[0] == 8);
    done_pool(was);
}
static void done_doubled(intmax_t was) {
    for (int i = 0; was == 0 && i < 20; i++) HOLDS(out[i] == 2 * i);
    done_pool(was);
}
static void done_ended(intmax_t was) { /* the pool takes no more; it may or may not have ended */
    HOLDS(mproc_pool_apply(pool, twice, in, sizeof(int), out, sizeof(int)) < 0);
    HOLDS(was < 0 || mproc_pool_join(pool, MPROC_FOREVER) == 0);
    HOLDS(mproc_future_free(future) == 0);
    HOLDS(mproc_pool_free(pool) == 0);
}
static void done_pool_free(intmax_t was) {
    if (was != 0) HOLDS(mproc_pool_free(pool) == 0);
}

static intmax_t call_pool_new(void) {
    for (int i = 0; i < 20; i++) in[i] = i;
    return made(pool = mproc_pool_new(2));
}
static intmax_t call_pool_new_with(void) {
    mproc_pool_options options;
    memset(&options, 0, sizeof options);
    options.workers = 3;
    options.task_timeout = 60;
    return made(pool = mproc_pool_new_with(&options));
}
static intmax_t call_apply_dies(void) {
    int error = mproc_pool_apply(pool, dies, NULL, 0, NULL, 0);
    return error == MPROC_ECRASHED ? 0 : error;
}
static intmax_t call_apply_large(void) {
    static char argument[5000];
    return mproc_pool_apply(pool, quiet, argument, sizeof argument, NULL, 0);
}
static intmax_t iterate(void) {
    size_t n = 0;
    ssize_t was;
    int result;
    if (iter == NULL) return -errno;
    while ((was = mproc_iter_next(iter, &result, MPROC_FOREVER)) >= 0 || was == MPROC_ENOMEM) {
        if (was < 0 && fault->lasts) return was; /* for as long as it lasts */
        if (was < 0) continue;
        if (result != 2 * was) return -4096;
        n++;
    }
    return was != MPROC_ECLOSED ? was : n == 20 ? 0 : -4096;
}
static intmax_t call_imap(void) {
    iter = mproc_pool_imap(pool, twice, in, 20, sizeof(int), sizeof(int));
    return iterate();
}
static intmax_t call_unordered(void) {
    iter = mproc_pool_imap_unordered(pool, twice, in, 20, sizeof(int), sizeof(int));
    return iterate();
}
static intmax_t call_iter_free(void) {
    int error = mproc_iter_free(iter);
    if (error == 0) iter = NULL;
    return error;
}
static intmax_t call_future_free(void) {
    int error = mproc_future_free(future);
    if (error == 0) future = NULL;
    return error;
}
static intmax_t call_cancel(void) { return mproc_future_cancel(future); }
static void done_canceled(intmax_t was) {
    if (was >= 0 || mproc_future_get(future, NULL, 0) != MPROC_ECANCELED)
        HOLDS(mproc_future_cancel(future) == 0);
    HOLDS(mproc_future_get(future, NULL, MPROC_FOREVER) == MPROC_ECANCELED);
    done_pool(was);
}
static void done_called(intmax_t was) {
    HOLDS(called == (was == 0));
    done_pool(was);
}
static intmax_t call_stats(void) {
    mproc_pool_counts counted;
    return mproc_pool_stats(pool, &counted);
}
static intmax_t call_pool_fd(void) { return mproc_pool_fd(pool); }

CALL(apply, mproc_pool_apply(pool, quiet, in, sizeof(int), NULL, 0))
CALL(apply_async, made(future = mproc_pool_apply_async(pool, twice, &in[4], sizeof(int), sizeof(int))))
CALL(submit, mproc_pool_submit(pool, quiet, NULL, 0, 1))
CALL(map, mproc_pool_map(pool, twice, in, 20, sizeof(int), out, sizeof(int)))
CALL(iter_next, mproc_iter_next(iter, out, MPROC_FOREVER))
CALL(iter_index, (intmax_t)mproc_iter_index(iter))
CALL(iter_code, mproc_iter_code(iter))
CALL(future_wait, mproc_future_wait(future, MPROC_FOREVER))
CALL(future_late, not_in_time(mproc_future_wait(future, 0.003)))
CALL(future_ready, mproc_future_ready(future) ? 0 : -1)
CALL(future_successful, mproc_future_successful(future) ? 0 : -1)
CALL(future_get, mproc_future_get(future, out, MPROC_FOREVER))
CALL(future_code, mproc_future_code(future))
CALL(on_done, mproc_future_on_done(future, note, NULL))
CALL(pool_close, mproc_pool_close(pool))
CALL(pool_join, mproc_pool_join(pool, MPROC_FOREVER))
CALL(pool_terminate, mproc_pool_terminate(pool))
CALL(pool_free, mproc_pool_free(pool))

static const scenario pools[] = {
    {"mproc_pool_new", NULL, call_pool_new, done_pool_new},
    {"mproc_pool_new_with", NULL, call_pool_new_with, done_pool_new},
    {"mproc_pool_stats", begin_future, call_stats, done_pool_must},
    {"mproc_pool_fd", begin_future_done, call_pool_fd, done_pool},
    {"mproc_pool_close", begin_pool, call_pool_close, done_ended},
    {"mproc_pool_join", begin_closed, call_pool_join, done_ended},
    {"mproc_pool_terminate", begin_future_waits, call_pool_terminate, done_ended},
    {"mproc_pool_free", begin_pool, call_pool_free, done_pool_free},
};
static const scenario tasks[] = {
    {"mproc_pool_apply", begin_pool, call_apply, done_pool},
    {"mproc_pool_apply of a large argument", begin_pool, call_apply_large, done_pool},
    {"mproc_pool_apply of a task that dies", begin_pool, call_apply_dies, done_pool},
    {"mproc_pool_apply_async", begin_pool, call_apply_async, done_future},
    {"mproc_pool_submit", begin_pool, call_submit, done_pool},
    {"mproc_pool_map", begin_pool, call_map, done_doubled},
    {"mproc_pool_imap", begin_pool, call_imap, done_pool},
    {"mproc_pool_imap_unordered", begin_pool, call_unordered, done_pool},
    {"mproc_iter_next", begin_iter, call_iter_next, done_pool},
    {"mproc_iter_index", begin_iter, call_iter_index, done_pool_must},
    {"mproc_iter_code", begin_iter, call_iter_code, done_pool_must},
    {"mproc_iter_free", begin_iter, call_iter_free, done_pool_must},
};
static const scenario futures[] = {
    {"mproc_future_wait", begin_future, call_future_wait, done_pool},
    {"mproc_future_wait in time", begin_future_waits, call_future_late, done_canceled},
    {"mproc_future_ready", begin_future_done, call_future_ready, done_pool_must},
    {"mproc_future_successful", begin_future_done, call_future_successful, done_pool_must},
    {"mproc_future_get", begin_future, call_future_get, done_future},
    {"mproc_future_code", begin_future_done, call_future_code, done_pool_must},
    {"mproc_future_cancel", begin_future_waits, call_cancel, done_canceled},
    {"mproc_future_on_done", begin_future_done, call_on_done, done_called},
    {"mproc_future_free", begin_future, call_future_free, done_pool_must},
};

START_TEST(fault_pools) { SWEEP(pools); }
END_TEST

/* The sweep may pass by a call of which there is one among those of several processes: their order varies. */
START_TEST(fault_supervisor_waits) {
    const scenario terminate = {"mproc_pool_terminate", begin_future_waits, call_pool_terminate, done_ended};
    ck_assert_ptr_nonnull(mproc_current_process());
    run(&terminate, 0, 0, FAULT_MINE, false);
    fault_only("WEXITED | WNOWAIT");
    ck_assert(run(&terminate, 1, 0, FAULT_CHILDREN, false));
    fault_only(NULL);
}
END_TEST
START_TEST(fault_tasks) { SWEEP(tasks); }
END_TEST
START_TEST(fault_futures) { SWEEP(futures); }
END_TEST

static int *marks;
static void mark(size_t i, void *ctx) {
    (void)ctx;
    BUMP(&marks[i]);
}
static void begin_loop(void) { memset(marks, 0, 20 * sizeof *marks); }
static void done_loop(intmax_t was) {
    HOLDS(was == 0 || was == MPROC_EAGAIN || was == MPROC_ENOMEM || was == -EMFILE || was == -ENFILE);
    for (int i = 0; i < 20; i++) HOLDS(marks[i] == (was == 0));
    begin_loop();
    HOLDS(mproc_parallel_for(20, 2, mark, NULL) == 0 && marks[19] == 1);
}
static intmax_t call_progress(void) {
    static FILE *sink;
    if (sink == NULL) sink = fopen("/dev/null", "we");
    mproc_progress(sink, "sweep", 1, 2);
    return 0;
}
CALL(loop, mproc_parallel_for(20, 3, mark, NULL))
CALL(strerror, mproc_strerror(MPROC_ECRASHED) != NULL ? 0 : -1)

static const scenario loops[] = {
    {"mproc_parallel_for", begin_loop, call_loop, done_loop},
    {"mproc_progress", NULL, call_progress, done_nothing},
    {"mproc_strerror", NULL, call_strerror, done_free},
};

START_TEST(fault_parallel_for) {
    marks = shared_ints();
    SWEEP(loops);
}
END_TEST

/* ---- Files ---- */

static char folder[64], path[96];
static mproc_file *file;
static char long_text[9000];

static void begin_folder(void) {
    make_folder(folder);
    snprintf(path, sizeof path, "%s/f", folder);
}
static void write_base(void) {
    FILE *f = fopen(path, "we");
    HOLDS(f != NULL && fputs("base\n", f) >= 0 && fclose(f) == 0);
}
static void begin_file(void) {
    begin_folder();
    write_base();
    file = mproc_file_open(path);
    HOLDS(file != NULL);
}
static void begin_locked(void) {
    begin_file();
    HOLDS(mproc_file_lock(file, 0) == 0);
}
static void lock_it(void) {
    mproc_file *f = mproc_file_open(path);
    MUST(f != NULL && mproc_file_lock(f, 0) == 0);
}
static void begin_locked_by_other(void) {
    begin_file();
    other(lock_it);
}
static void append_long(void) { /* and stays in the middle of it: the file has grown, the mark stands */
    mproc_file *f = mproc_file_open(path);
    size_t done;
    MUST(f != NULL && mproc_file_lock(f, 0) == 0);
    MUST(mproc__file_mark(f) == 1 && mproc__write_all(f->fd, "torn", 4, &done, false) == 0);
}
static void begin_torn(void) {
    begin_file();
    other(append_long);
    other_ends();
}

/* Base and what was added, if it was; the handle works, and nothing else stands in the folder. */
static void done_file_with(const char *added) {
    const char *is = slurp(path);
    HOLDS(strncmp(is, "base\n", 5) == 0 && strcmp(is + 5, added) == 0);
    mproc_file_unlock(file);
    HOLDS(mproc_file_append(file, "more\n", 5) == 0);
    is = slurp(path);
    HOLDS(strlen(is) == 10 + strlen(added) && strcmp(is + strlen(is) - 5, "more\n") == 0);
    HOLDS(mproc_file_close(file) == 0);
    HOLDS(count_entries(folder) == 3);
    remove_folder(folder);
}
static void done_file(intmax_t was) {
    (void)was;
    other_ends();
    done_file_with("");
}
static void done_recovered(intmax_t was) {
    if (was != 0) HOLDS(mproc_file_lock(file, 1) == 0);
    done_file(was);
}
/* Who may not undo it reads it as it is. */
static void done_recovered_shared(intmax_t was) {
    HOLDS(was != 0 || strcmp(slurp(path), "base\n") == 0 || strstr(fault->text, "Permission") != NULL);
    if (was == 0) HOLDS(mproc_file_unlock(file) == 0);
    done_recovered(-1);
}
static void done_file_must(intmax_t was) {
    HOLDS(was == 0);
    done_file(was);
}
static void done_append(intmax_t was) { done_file_with(was == 0 ? "some\n" : ""); }
static void done_append_long(intmax_t was) { done_file_with(was == 0 ? long_text : ""); }
static void done_torn(intmax_t was) {
    if (was == 0) done_file_with("some\n");
    else {
        HOLDS(mproc_file_append(file, "some\n", 5) == 0); /* now at the latest the torn one goes */
        done_file_with("some\n");
    }
}
static int replace(char **data, size_t *size, void *ctx) {
    (void)ctx;
    char *bigger = realloc(*data, *size + 5);
    if (bigger == NULL) return -ENOMEM;
    memcpy(bigger + *size, "some\n", 5);
    *data = bigger;
    *size += 5;
    return 0;
}
static int refuse(char **data, size_t *size, void *ctx) {
    (void)data, (void)size, (void)ctx;
    return 5;
}
static void done_refused(intmax_t was) {
    HOLDS(was == 5 || was < 0);
    done_file(was);
}
static void done_file_close(intmax_t was) {
    HOLDS(was == 0);
    remove_folder(folder);
}
static void done_open_new(intmax_t was) {
    if (was != 0) file = mproc_file_open(path);
    HOLDS(file != NULL && mproc_file_append(file, "base\n", 5) == 0);
    done_file(was);
}
/* In a child, which must open the file anew. */
static int appends(void *arg) {
    (void)arg;
    int error = mproc_file_append(file, "some\n", 5);
    return error == 0 ? 7 : error == -EINTR ? 2 : 1;
}
static intmax_t call_child_appends(void) {
    intmax_t error = start_and_join(appends);
    if (error != 0) return error;
    HOLDS(child.exitcode == 7 || child.exitcode == 1);
    return child.exitcode == 7 ? 0 : -EIO;
}
static void done_child_appends(intmax_t was) {
    HOLDS(mproc_process_close(&child) == 0);
    done_append(was);
}

CALL(open, made(file = mproc_file_open(path)))
CALL(file_lock, mproc_file_lock(file, 1))
CALL(file_lock_late, not_in_time(mproc_file_lock(file, 0.003)))
CALL(file_lock_shared, mproc_file_lock_shared(file, 1))
CALL(file_unlock, mproc_file_unlock(file))
CALL(append, mproc_file_append(file, "some\n", 5))
CALL(append_long, mproc_file_append(file, long_text, sizeof long_text - 1))
CALL(update, mproc_file_update(file, replace, NULL))
CALL(refused, mproc_file_update(file, refuse, NULL))
CALL(file_close, mproc_file_close(file))

static const scenario files[] = {
    {"mproc_file_open", begin_folder, call_open, done_open_new},
    {"mproc_file_lock", begin_file, call_file_lock, done_file},
    {"mproc_file_lock of a held one", begin_locked_by_other, call_file_lock_late, done_file},
    {"mproc_file_lock after a torn append", begin_torn, call_file_lock, done_recovered},
    {"mproc_file_lock_shared", begin_file, call_file_lock_shared, done_file},
    {"mproc_file_lock_shared after a torn append", begin_torn, call_file_lock_shared, done_recovered_shared},
    {"mproc_file_unlock", begin_locked, call_file_unlock, done_file_must},
    {"mproc_file_append", begin_file, call_append, done_append},
    {"mproc_file_append of many pages", begin_file, call_append_long, done_append_long},
    {"mproc_file_append after a torn one", begin_torn, call_append, done_torn},
    {"mproc_file_append in a child", begin_file, call_child_appends, done_child_appends},
    {"mproc_file_update", begin_file, call_update, done_append},
    {"mproc_file_update after a torn append", begin_torn, call_update, done_torn},
    {"mproc_file_update that refuses", begin_file, call_refused, done_refused},
    {"mproc_file_close", begin_locked, call_file_close, done_file_close},
};

START_TEST(fault_files) {
    said = shared_ints();
    memset(long_text, 'x', sizeof long_text - 1);
    SWEEP(files);
}
END_TEST

/* ---- The first use of the library, which sets it up ---- */

static intmax_t first_lock(void) { return made(lock = mproc_lock_new()); }
static intmax_t first_value(void) { return made(value = mproc_value_new(int, 5)); }
static intmax_t first_process(void) {
    intmax_t was = call_start();
    return was != 0 ? was : mproc_process_join(&child, MPROC_FOREVER);
}
static intmax_t first_fork(void) {
    forked = mproc_fork();
    if (forked == 0) mproc_exit(7);
    return forked < 0 ? forked : mproc_wait(forked, &exitcode, MPROC_FOREVER);
}
static intmax_t first_file(void) {
    return made(file = mproc_file_open("/dev/null/not")) == -ENOTDIR ? 0 : -errno;
}

static const scenario first[] = {
    {"mproc_lock_new", NULL, first_lock, NULL},         {"mproc_value_new", NULL, first_value, NULL},
    {"mproc_queue_new", NULL, call_queue_new, NULL},    {"mproc_pipe_new", NULL, call_pipe_new, NULL},
    {"mproc_process_start", NULL, first_process, NULL}, {"mproc_fork", NULL, first_fork, NULL},
    {"mproc_pool_new", NULL, call_pool_new, NULL},      {"mproc_parallel_for", NULL, call_loop, NULL},
    {"mproc_file_open", NULL, first_file, NULL},        {"mproc_current_process", NULL, call_current, NULL},
};

/* In a process that never used the library: 0 nothing failed, 1 something did and all is well. */
static int uses_first(void *arg) {
    alarm((unsigned)(20 * SLOW));
    int fds = open_fds();
    intmax_t was = running->call();
    bool failed = fault_disarm() > 0;
    (void)arg;
    MUST(was > -4096 && was != -EINTR);
    MUST(failed || was >= 0);
    if (was < 0) MUST_EQ(open_fds(), fds);
    MUST(running->call() >= 0); /* it can be had now */
    MUST(no_children() || pool != NULL);
    exit(failed);
}

START_TEST(fault_first_use) {
    marks = shared_ints();
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        for (int way = 0; way < FAULT_WAYS; way++) {
            int code = 1;
            running = &first[i];
            for (running_nth = 1; code == 1; running_nth++) {
                pid_t pid = fork();
                if (pid == 0) {
                    fault_arm(running_nth, way, FAULT_MINE, false);
                    uses_first(NULL);
                }
                code = ended(pid);
                HOLDS((code == 0 || code == 1) && running_nth < 500);
            }
        }
    }
}
END_TEST

/* ---- A fork by another thread, in the middle of the first use ---- */

static int hooks, forks_at; /* the hook's calls so far; the one that forks */

static int zero(void *arg) {
    (void)arg;
    return 0;
}

/* In the child: a first use, or a second, and a fork of its own with whatever handlers there are. */
static void *forks_and_uses(void *arg) {
    int *code = arg;
    pid_t pid = fork();
    if (pid != 0) {
        *code = ended(pid);
        return NULL;
    }
    alarm((unsigned)(5 * SLOW));
    mproc_process p = {.target = zero};
    _exit(mproc_lock_new() == NULL || mproc_process_start(&p) != 0 || mproc_process_join(&p, 5) != 0);
}

static void fork_there(const char *text) {
    pthread_t thread;
    int code = -1;
    (void)text;
    if (++hooks != forks_at) return;
    fault_before = NULL;
    MUST(pthread_create(&thread, NULL, forks_and_uses, &code) == 0);
    MUST(pthread_join(thread, NULL) == 0);
    MUST_EQ(code, 0);
}

START_TEST(fault_fork_during_first_use) {
    marks = shared_ints();
    for (int code = 1; code == 1;) {
        forks_at++;
        pid_t pid = fork();
        if (pid == 0) {
            fault_before = fork_there;
            MUST(mproc_lock_new() != NULL);
            mproc_process p = {.target = zero};
            bool forked_there = fault_before == NULL;
            fault_before = NULL;
            MUST(mproc_process_start(&p) == 0 && mproc_process_join(&p, MPROC_FOREVER) == 0);
            _exit(forked_there);
        }
        code = ended(pid);
        ck_assert_msg(code == 0 || code == 1, "fork at call %d: %d", forks_at, code);
    }
    ck_assert_int_gt(forks_at, 8);
}
END_TEST

/* ---- Is that all of them? ---- */

static bool swept(const char *name) {
    const struct {
        const scenario *table;
        size_t n;
    } all[] = {
#define ALL(table) {table, sizeof(table) / sizeof *(table)}
        ALL(processes), ALL(forks),   ALL(exits), ALL(synchronisation), ALL(memory),
        ALL(queues),    ALL(pipes),   ALL(rings), ALL(late_ones),       ALL(pools),
        ALL(tasks),     ALL(futures), ALL(loops), ALL(files),
    };
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        for (size_t k = 0; k < all[i].n; k++) {
            const char *at = strstr(all[i].table[k].name, name);
            if (at != NULL && !isalnum((unsigned char)at[length]) && at[length] != '_') return true;
        }
    }
    return false;
}

/* Every function that the header's declarations name is in one of the tables. */
START_TEST(fault_every_public_call) {
    FILE *header = fopen("mproc.h", "r");
    char line[512], name[64];
    int names = 0;
    ck_assert_msg(header != NULL, "mproc.h is not here: run the tests from the repository's root");
    while (fgets(line, sizeof line, header) != NULL && strncmp(line, "#endif /* MPROC_H */", 20) != 0) {
        bool declares = strncmp(line, "MPROC_DEF ", 10) == 0 || strncmp(line, "mproc_", 6) == 0;
        const char *open_bracket = declares ? strchr(line, '(') : NULL, *at = open_bracket;
        while (at != NULL && at > line && (isalnum((unsigned char)at[-1]) || at[-1] == '_')) at--;
        if (at == NULL || strncmp(at, "mproc_", 6) != 0 || strncmp(at, "mproc__", 7) == 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)(open_bracket - at), at);
        ck_assert_msg(swept(name), "%s is in no table", name);
        names++;
    }
    fclose(header);
    ck_assert_int_gt(names, 100);
}
END_TEST

/* A rule that made nothing fail tests nothing: has the call gone, or changed its text? */
static int unused_rules(void) {
    int unused = 0, failures = 0;
    for (size_t i = 0; i < FAULT_RULES; i++) {
        failures += fault->used[i];
        if (fault->used[i] > 0) continue;
        printf("FAIL no call failed by the rule for %s...%s\n", fault_rules[i].call, fault_rules[i].with);
        unused++;
    }
    printf("%d calls were made to fail\n", failures);
    return unused;
}

int main(int argc, char **argv) {
    const TTest *const tests[] = {fault_processes,
                                  fault_fork_helpers,
                                  fault_exit,
                                  fault_synchronisation,
                                  fault_memory,
                                  fault_queues,
                                  fault_pipes,
                                  fault_late_put,
                                  fault_late_orphan,
                                  fault_late_get,
                                  fault_late_recv,
                                  queue_a_late_getter_puts_back_what_does_not_fit,
                                  queue_a_late_getter_of_many_puts_back_what_does_not_fit,
                                  fault_rings,
                                  fault_pools,
                                  fault_supervisor_waits,
                                  fault_tasks,
                                  fault_futures,
                                  fault_parallel_for,
                                  fault_files,
                                  fault_first_use,
                                  fault_fork_during_first_use,
                                  fault_every_public_call};
    fault_start();
    int failed = run_suite("fault", tests, sizeof tests / sizeof *tests, argc, argv);
    if (argc == 1) failed += unused_rules();
    return failed != 0;
}
