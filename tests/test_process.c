/* Processes: identity, start, join, exit status, misuse. Numbers name the items of the conformance list. */
#define MPROC_IMPLEMENTATION
#include "support.h"
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* ---- Targets and helpers ------------------------------------------------------------------------------- */

static int returns(void *arg) { return *(int *)arg; }

static int returns_zero(void *arg) {
    (void)arg;
    return 0;
}

/* Long enough for every test, short enough not to hold up a failed one for good. */
static int sleeps(void *arg) {
    (void)arg;
    nap(10);
    return 0;
}

static int naps(void *seconds) {
    nap(*(double *)seconds);
    return 0;
}

/* Bounded wait of a child for a flag in shared memory. */
static int waits_for(void *flag) {
    double give_up = now() + 10 * SLOW;
    while (PEEK((int *)flag) == 0 && now() < give_up) nap(0.001);
    return PEEK((int *)flag) ? 0 : 99;
}

static void start(mproc_process *p, int (*target)(void *), void *arg) {
    *p = (mproc_process){.target = target, .arg = arg};
    ck_assert_int_eq(mproc_process_start(p), 0);
}

/* Joins and closes; the exit code. */
static int finish(mproc_process *p) {
    ck_assert_int_eq(mproc_process_join(p, 10 * SLOW), 0);
    int code = p->exitcode;
    ck_assert_int_eq(mproc_process_close(p), 0);
    return code;
}

static void kill_and_finish(mproc_process *p) {
    ck_assert_int_eq(mproc_process_kill(p), 0);
    ck_assert_int_eq(finish(p), -SIGKILL);
}

static bool is_active(pid_t pid) {
    pid_t pids[64];
    size_t n = mproc_active_children(pids, 64);
    for (size_t i = 0; i < n && i < 64; i++)
        if (pids[i] == pid) return true;
    return false;
}

static size_t active(void) { return mproc_active_children(NULL, 0); }

/* The library may keep a few things of its own from its first use on: they are no leak. */
static void first_use(void) {
    mproc_process p;
    start(&p, returns_zero, NULL);
    ck_assert_int_eq(finish(&p), 0);
}

/* What a child sees of itself. */
typedef struct report {
    pid_t pid, parent, thread; /* getpid, mproc_parent_pid, gettid */
    pid_t library_pid;         /* of mproc_current_process */
    bool daemon, parent_alive; /* of the library */
    int threads, fds;          /* counted */
    char name[64];             /* of the library */
} report;

static int reports(void *arg) {
    report *r = arg;
    const mproc_process *me = mproc_current_process();
    r->pid = getpid();
    r->parent = mproc_parent_pid();
    r->thread = (pid_t)syscall(SYS_gettid);
    r->library_pid = me->pid;
    r->daemon = me->daemon;
    r->parent_alive = mproc_parent_is_alive();
    r->threads = threads();
    r->fds = open_fds();
    snprintf(r->name, sizeof r->name, "%s", me->name);
    return 0;
}

static report *shared_report(void) { return (report *)(void *)shared_ints(); }

/* ---- Identity ------------------------------------------------------------------------------------------ */

/* PROC-01 */
START_TEST(main_program_is_the_main_process) {
    const mproc_process *me = mproc_current_process();
    ck_assert_ptr_nonnull(me);
    ck_assert_str_eq(me->name, "MainProcess");
    ck_assert_int_eq(me->pid, getpid());
    ck_assert(!me->daemon);
    ck_assert_int_eq(me->exitcode, MPROC_NO_EXITCODE);
    ck_assert_int_eq(mproc_parent_pid(), 0);
    ck_assert(!mproc_parent_is_alive());
    ck_assert_uint_eq(active(), 0);
}
END_TEST

/* PROC-02, X-31 */
START_TEST(not_started_is_not_alive_and_refuses_calls) {
    mproc_process p = {.target = returns_zero};
    ck_assert(!mproc_process_is_alive(&p));
    ck_assert_int_eq(p.pid, 0);
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(mproc_process_join(&p, 0), -EINVAL);
    ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), -EINVAL);
    ck_assert_int_eq(mproc_process_terminate(&p), -EINVAL);
    ck_assert_int_eq(mproc_process_kill(&p), -EINVAL);
    ck_assert_int_eq(mproc_process_fd(&p), -EINVAL);
    mproc_process *one[1] = {&p};
    ck_assert_int_eq(mproc_process_wait_any(one, 1, 0), -EINVAL);
    ck_assert_int_eq(mproc_process_close(&p), 0);
}
END_TEST

/* PROC-03, PROC-05, PROC-19 */
START_TEST(alive_and_active_from_start_to_join) {
    int *go = shared_ints();
    ck_assert_uint_eq(active(), 0);
    mproc_process p;
    start(&p, waits_for, go);
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_gt(p.pid, 0);
    ck_assert_int_eq(p.exitcode, MPROC_NO_EXITCODE);
    ck_assert_uint_eq(active(), 1);
    ck_assert(is_active(p.pid));
    POKE(go, 1);
    ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
    ck_assert_int_eq(p.exitcode, 0);
    ck_assert(!mproc_process_is_alive(&p));
    ck_assert_uint_eq(active(), 0);
    ck_assert(no_children());
}
END_TEST

/* PROC-04, PROC-08, PROC-10, PROC-45 */
START_TEST(child_sees_its_name_pid_parent_and_one_thread) {
    report *r = shared_report();
    mproc_process p = {.target = reports, .arg = r, .name = "reporter"};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    pid_t pid = p.pid;
    ck_assert_int_eq(finish(&p), 0);
    ck_assert_int_eq(r->pid, pid);
    ck_assert_int_eq(r->library_pid, pid);
    ck_assert_int_eq(r->thread, pid);
    ck_assert_int_eq(r->parent, getpid());
    ck_assert(r->parent_alive);
    ck_assert_int_eq(r->threads, 1);
    ck_assert_str_eq(r->name, "reporter");
    ck_assert(!r->daemon);
}
END_TEST

/* PROC-04 over a queue */
typedef struct named_args {
    mproc_queue *queue;
    char text[16];
} named_args;

static int sends_args(void *arg) {
    named_args *a = arg;
    pid_t pid = getpid();
    OR_RETURN(mproc_queue_put(a->queue, a->text, sizeof a->text, 5) == 0);
    OR_RETURN(mproc_queue_put(a->queue, mproc_current_process()->name, 5, 5) == 0);
    OR_RETURN(mproc_queue_put(a->queue, &pid, sizeof pid, 5) == 0);
    return 0;
}

START_TEST(child_receives_its_arguments_and_answers_over_a_queue) {
    named_args a = {mproc_queue_new(0), "fifteen letters"};
    char got[16] = "";
    pid_t pid = 0;
    mproc_process p = {.target = sends_args, .arg = &a, .name = "Luigi"};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    ck_assert_int_eq(mproc_queue_get(a.queue, got, sizeof got, 10), 16);
    ck_assert_str_eq(got, "fifteen letters");
    ck_assert_int_eq(mproc_queue_get(a.queue, got, sizeof got, 10), 5);
    ck_assert_int_eq(memcmp(got, "Luigi", 5), 0);
    ck_assert_int_eq(mproc_queue_get(a.queue, &pid, sizeof pid, 10), sizeof pid);
    ck_assert_int_eq(pid, p.pid);
    ck_assert_int_eq(finish(&p), 0);
}
END_TEST

/* PROC-06 */
typedef struct buffer {
    unsigned char *bytes;
    size_t size;
    int *go; /* set once the parent has spoilt its own copy */
} buffer;

static int checks_bytes(void *arg) {
    buffer *b = arg;
    OR_RETURN(waits_for(b->go) == 0);
    for (size_t i = 0; i < b->size; i++)
        if (b->bytes[i] != (unsigned char)(i * 7 + 1)) return 1;
    return 0;
}

START_TEST(arguments_of_any_size_are_seen_as_they_were_at_start) {
    const size_t sizes[] = {0, 1, 4096, 1 << 20};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        buffer b = {malloc(sizes[s] + 1), sizes[s], shared_ints()};
        for (size_t i = 0; i < b.size; i++) b.bytes[i] = (unsigned char)(i * 7 + 1);
        mproc_process p;
        start(&p, checks_bytes, &b);
        memset(b.bytes, 0, b.size);
        POKE(b.go, 1);
        ck_assert_int_eq(finish(&p), 0);
        free(b.bytes);
    }
}
END_TEST

/* PROC-07 */
START_TEST(daemon_flag_is_false_unless_set_and_seen_in_the_child) {
    report *r = shared_report();
    for (int daemon = 0; daemon <= 1; daemon++) {
        mproc_process p = {.target = reports, .arg = r, .daemon = daemon};
        ck_assert_int_eq(mproc_process_start(&p), 0);
        ck_assert_int_eq(p.daemon, daemon);
        ck_assert_int_eq(finish(&p), 0);
        ck_assert_int_eq(r->daemon, daemon);
    }
}
END_TEST

START_TEST(default_names_count_up) {
    report *r = shared_report();
    int last = 0;
    for (int i = 0; i < 3; i++) {
        int number = 0;
        mproc_process p;
        start(&p, reports, r);
        ck_assert_ptr_nonnull(p.name);
        ck_assert_int_eq(sscanf(p.name, "Process-%d", &number), 1);
        ck_assert_int_gt(number, last);
        if (i == 0) ck_assert_int_eq(number, 1);
        ck_assert_int_eq(mproc_process_join(&p, 10), 0);
        ck_assert_str_eq(r->name, p.name);
        ck_assert_int_eq(mproc_process_close(&p), 0);
        last = number;
    }
}
END_TEST

START_TEST(name_may_lie_in_memory_that_changes_after_start) {
    report *r = shared_report();
    int *go = shared_ints();
    char name[16] = "before";
    mproc_process first = {.target = waits_for, .arg = go, .name = name};
    ck_assert_int_eq(mproc_process_start(&first), 0);
    mproc_process second = {.target = reports, .arg = r, .name = name};
    ck_assert_int_eq(mproc_process_start(&second), 0);
    memcpy(name, "later", 6);
    POKE(go, 1);
    ck_assert_int_eq(finish(&first), 0);
    ck_assert_int_eq(finish(&second), 0);
    ck_assert_str_eq(r->name, "before");
}
END_TEST

/* Process by embedding */
typedef struct adder {
    mproc_process process;
    int a, b;
    int *sum;
} adder;

static int add(mproc_process *self) {
    adder *me = (adder *)(void *)self;
    OR_RETURN(self->pid == 0 || self->pid == getpid());
    POKE(me->sum, me->a + me->b);
    return me->a;
}

START_TEST(run_gets_the_embedding_struct) {
    adder x = {{.run = add, .name = "adder"}, 3, 4, shared_ints()};
    ck_assert_int_eq(mproc_process_start(&x.process), 0);
    ck_assert_int_eq(finish(&x.process), 3);
    ck_assert_int_eq(PEEK(x.sum), 7);
}
END_TEST

/* ---- Parent and family --------------------------------------------------------------------------------- */

/* PROC-09 */
static int watches_its_parent(void *arg) {
    int *seen = arg;
    double give_up = now() + 10 * SLOW;
    POKE(&seen[0], mproc_parent_is_alive() ? 1 : -1);
    while (mproc_parent_is_alive() && now() < give_up) nap(0.001);
    POKE(&seen[1], mproc_parent_is_alive() ? -1 : 1);
    return 0;
}

static int starts_a_watcher(void *arg) {
    mproc_process p;
    OR_RETURN((p = (mproc_process){.target = watches_its_parent, .arg = arg}, mproc_process_start(&p)) == 0);
    return mproc_process_join(&p, 10);
}

START_TEST(grandchild_notices_the_death_of_its_parent) {
    int *seen = shared_ints();
    mproc_process p;
    start(&p, starts_a_watcher, seen);
    EVENTUALLY(PEEK(&seen[0]) != 0);
    ck_assert_int_eq(PEEK(&seen[0]), 1);
    ck_assert_int_eq(PEEK(&seen[1]), 0);
    ck_assert_int_eq(mproc_process_terminate(&p), 0);
    TAKES(0, 1, EVENTUALLY(PEEK(&seen[1]) != 0));
    ck_assert_int_eq(PEEK(&seen[1]), 1);
    ck_assert_int_eq(finish(&p), -SIGTERM);
}
END_TEST

/* */
static int starts_two_and_waits(void *arg) {
    mproc_process watcher = {.target = watches_its_parent, .arg = arg}, sibling = {.target = sleeps};
    OR_RETURN(mproc_process_start(&watcher) == 0);
    OR_RETURN(mproc_process_start(&sibling) == 0);
    POKE((int *)arg + 2, sibling.pid);
    return mproc_process_join(&sibling, MPROC_FOREVER);
}

START_TEST(sibling_does_not_hide_the_death_of_the_parent) {
    int *seen = shared_ints();
    mproc_process p;
    start(&p, starts_two_and_waits, seen);
    EVENTUALLY(PEEK(&seen[0]) == 1 && PEEK(&seen[2]) != 0);
    ck_assert_int_eq(mproc_process_kill(&p), 0);
    TAKES(0, 1, EVENTUALLY(PEEK(&seen[1]) == 1));
    ck_assert_int_eq(finish(&p), -SIGKILL);
    kill(PEEK(&seen[2]), SIGKILL);
}
END_TEST

/* PROC-20 */
typedef struct branch {
    mproc_queue *queue;
    char id[4];
} branch;

static int branches(void *arg) {
    branch *me = arg;
    size_t depth = strlen(me->id);
    OR_RETURN(mproc_queue_put(me->queue, me->id, depth + 1, 5) == 0);
    for (int i = 0; depth < 2 && i < 2; i++) {
        branch next = *me;
        next.id[depth] = (char)('0' + i);
        mproc_process p = {.target = branches, .arg = &next};
        OR_RETURN(mproc_process_start(&p) == 0);
        OR_RETURN(mproc_process_join(&p, 10) == 0 && p.exitcode == 0);
    }
    return 0;
}

START_TEST(children_start_children_in_depth_first_order) {
    static const char *const expected[] = {"", "0", "00", "01", "1", "10", "11"};
    branch root = {mproc_queue_new(0), ""};
    mproc_process p;
    start(&p, branches, &root);
    ck_assert_int_eq(finish(&p), 0);
    ck_assert_uint_eq(mproc_queue_qsize(root.queue), 7);
    for (size_t i = 0; i < 7; i++) {
        char id[4] = "?";
        ck_assert_int_gt(mproc_queue_get(root.queue, id, sizeof id, 0), 0);
        ck_assert_str_eq(id, expected[i]);
    }
}
END_TEST

/* PROC-42 */
typedef struct generation {
    int left; /* generations after this one */
    int *fds; /* what each counted, by left */
} generation;

static int next_generation(void *arg) {
    generation *me = arg;
    OR_RETURN(active() == 0);
    me->fds[me->left] = open_fds();
    if (me->left == 0) return 0;
    generation next = {me->left - 1, me->fds};
    mproc_process p = {.target = next_generation, .arg = &next};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, 10) == 0);
    return p.exitcode;
}

START_TEST(nothing_grows_with_the_generations) {
    generation first = {5, shared_ints()};
    mproc_process p;
    start(&p, next_generation, &first);
    ck_assert_int_eq(finish(&p), 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(first.fds[i], first.fds[4]);
}
END_TEST

/* PROC-44 */
static int puts_two(void *arg) {
    int two = 2;
    return mproc_queue_put(arg, &two, sizeof two, 5);
}

static int puts_one_and_passes_on(void *arg) {
    int one = 1;
    mproc_process p = {.target = puts_two, .arg = arg};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_queue_put(arg, &one, sizeof one, 5) == 0);
    OR_RETURN(mproc_process_join(&p, 10) == 0);
    return p.exitcode;
}

START_TEST(child_passes_a_queue_on_to_a_grandchild) {
    mproc_queue *queue = mproc_queue_new(0);
    int a = 0, b = 0;
    mproc_process p;
    start(&p, puts_one_and_passes_on, queue);
    ck_assert_int_eq(mproc_queue_get(queue, &a, sizeof a, 10), sizeof a);
    ck_assert_int_eq(mproc_queue_get(queue, &b, sizeof b, 10), sizeof b);
    ck_assert_int_eq(a + b, 3);
    ck_assert_int_eq(a * b, 2);
    ck_assert_int_eq(finish(&p), 0);
}
END_TEST

/* PROC-38 */
static int has_queue_and_daemon_of_its_own(void *arg) {
    (void)arg;
    int got = 0;
    close(0);
    mproc_queue *queue = mproc_queue_new(0);
    OR_RETURN(queue != NULL);
    mproc_process p = {.target = puts_two, .arg = queue, .daemon = true};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_queue_get(queue, &got, sizeof got, 10) == sizeof got && got == 2);
    OR_RETURN(mproc_process_join(&p, 10) == 0 && p.exitcode == 0);
    OR_RETURN(mproc_queue_free(queue) == 0);
    return 0;
}

START_TEST(child_makes_its_own_queue_and_daemon) {
    mproc_process p;
    start(&p, has_queue_and_daemon_of_its_own, NULL);
    ck_assert_int_eq(finish(&p), 0);
}
END_TEST

/* PROC-33 */
typedef struct server {
    mproc_queue *requests, *answers;
} server;

static int serves(void *arg) {
    server *s = arg;
    char text[32];
    for (;;) {
        ssize_t n = mproc_queue_get(s->requests, text, sizeof text, 10);
        OR_RETURN(n >= 0);
        if (n == 0) return 0;
        for (ssize_t i = 0; i < n; i++)
            if (text[i] >= 'a' && text[i] <= 'z') text[i] = (char)(text[i] - 'a' + 'A');
        OR_RETURN(mproc_queue_put(s->answers, text, (size_t)n, 5) == 0);
    }
}

START_TEST(long_lived_child_serves_requests_until_told_to_quit) {
    static const char *const ask[] = {"hello", "world"}, *const answer[] = {"HELLO", "WORLD"};
    server s = {mproc_queue_new(0), mproc_queue_new(0)};
    mproc_process p;
    start(&p, serves, &s);
    for (int i = 0; i < 2; i++) {
        char text[32] = "";
        ck_assert_int_eq(mproc_queue_put(s.requests, ask[i], 6, 5), 0);
        ck_assert_int_eq(mproc_queue_get(s.answers, text, sizeof text, 10), 6);
        ck_assert_str_eq(text, answer[i]);
    }
    ck_assert_int_eq(mproc_queue_put(s.requests, NULL, 0, 5), 0);
    ck_assert_int_eq(mproc_process_join(&p, 5), 0);
    ck_assert_int_eq(p.exitcode, 0);
}
END_TEST

/* ---- Join ---------------------------------------------------------------------------------------------- */

/* PROC-11 */
START_TEST(join_with_timeout_zero_polls) {
    mproc_process p;
    start(&p, sleeps, NULL);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_process_join(&p, 0), MPROC_ETIMEDOUT));
    TAKES(0, 0.05, ck_assert_int_eq(mproc_process_join(&p, -0.0), MPROC_ETIMEDOUT));
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_eq(p.exitcode, MPROC_NO_EXITCODE);
    kill_and_finish(&p);
}
END_TEST

/* As a call on a pool that is over waits for its supervisor: whoever frees must see the outer wait. */
START_TEST(join_within_another_wait_keeps_what_that_says) {
    mproc_process p;
    mproc_event *event = mproc_event_new();
    start(&p, sleeps, NULL);
    mproc__waits_on(event);
    ck_assert_int_eq(mproc_process_join(&p, 0.01), MPROC_ETIMEDOUT);
    ck_assert(mproc__own_seat->waiting == (uintptr_t)event);
    mproc__waits_on(NULL);
    ck_assert_int_eq(mproc_process_join(&p, 0.01), MPROC_ETIMEDOUT);
    ck_assert(mproc__own_seat->waiting == 0);
    ck_assert_int_eq(mproc_event_free(event), 0);
    kill_and_finish(&p);
}
END_TEST

/* PROC-12 */
START_TEST(negative_timeout_joins_for_ever) {
    double seconds = 0.3;
    const double timeouts[] = {MPROC_FOREVER, -1e300, 1e300, 1e18};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        mproc_process p;
        double begin = now();
        start(&p, naps, &seconds);
        ck_assert_int_eq(mproc_process_join(&p, timeouts[i]), 0);
        ck_assert(now() - begin >= seconds - 0.001);
        ck_assert_int_eq(p.exitcode, 0);
        ck_assert_int_eq(mproc_process_close(&p), 0);
    }
}
END_TEST

START_TEST(join_keeps_its_timeout) {
    mproc_process p;
    start(&p, sleeps, NULL);
    const double timeouts[] = {1e-9, 0.0004, 0.01, 0.25};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++)
        TAKES(timeouts[i], timeouts[i] + 0.1,
              ck_assert_int_eq(mproc_process_join(&p, timeouts[i]), MPROC_ETIMEDOUT));
    kill_and_finish(&p);
}
END_TEST

static int naps_half_a_second_from(void *arg) {
    int *go = arg;
    OR_RETURN(waits_for(go) == 0);
    nap(0.5);
    return 5;
}

/* the three ways to wait for a process, while it lives. */
static int wait_in_this_way(int way, mproc_process *p, pid_t forked, double timeout) {
    if (way == 0) return mproc_process_join(p, timeout);
    if (way == 1) return mproc_process_wait_any(&p, 1, timeout);
    return mproc_wait(forked, NULL, timeout);
}
START_TEST(odd_timeouts_of_every_way_to_wait) {
    static const double soon[] = {0, -0.0, 1e-300, 1e-9, 0.0004, 0.05, 0.35};
    static const double for_ever[] = {-1e-300, 1e10, (double)INFINITY};
    int *go = shared_ints();
    for (int way = 0; way < 3; way++) {
        for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
            mproc_process p;
            POKE(go, 0);
            start(&p, naps_half_a_second_from, go);
            pid_t forked = mproc_fork();
            if (forked == 0) mproc_exit(naps_half_a_second_from(go));
            for (size_t k = 0; i == 0 && k < sizeof soon / sizeof *soon; k++)
                TAKES(soon[k], soon[k] + 0.05,
                      ck_assert_int_eq(wait_in_this_way(way, &p, forked, soon[k]), MPROC_ETIMEDOUT));
            TAKES(0, 0.05, ck_assert_int_eq(wait_in_this_way(way, &p, forked, (double)NAN), MPROC_EINVAL));
            TAKES(0, 0.05, ck_assert_int_eq(wait_in_this_way(way, &p, forked, -(double)NAN), MPROC_EINVAL));
            double before = cpu_seconds();
            POKE(go, 1);
            TAKES(0.4, 0.7, ck_assert_int_eq(wait_in_this_way(way, &p, forked, for_ever[i]), 0));
            ck_assert(cpu_seconds() - before < 0.02 * SLOW);
            ck_assert_int_eq(finish(&p), 5);
            if (way != 2) ck_assert_int_eq(mproc_wait(forked, NULL, 10), 0);
        }
    }
    ck_assert(no_children());
}
END_TEST

START_TEST(waiting_costs_no_cpu) {
    mproc_process p;
    start(&p, sleeps, NULL);
    double before = cpu_seconds();
    ck_assert_int_eq(mproc_process_join(&p, 1), MPROC_ETIMEDOUT);
    ck_assert(cpu_seconds() - before < 0.01 * SLOW);
    kill_and_finish(&p);
}
END_TEST

/* PROC-17 */
START_TEST(join_again_is_0_at_once) {
    int seven = 7;
    mproc_process p;
    start(&p, returns, &seven);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
        ck_assert_int_eq(p.exitcode, 7);
    }
    TAKES(0, 0.01, ck_assert_int_eq(mproc_process_join(&p, 0), 0));
    ck_assert_int_eq(p.exitcode, 7);
    ck_assert(!mproc_process_is_alive(&p));
}
END_TEST

START_TEST(is_alive_collects_the_exit_code) {
    int nine = 9;
    mproc_process p;
    start(&p, returns, &nine);
    EVENTUALLY(!mproc_process_is_alive(&p));
    ck_assert_int_eq(p.exitcode, 9);
    ck_assert(no_children());
    ck_assert_int_eq(finish(&p), 9);
}
END_TEST

/* PROC-37, X-01 */
START_TEST(interrupted_join_goes_on) {
    int *go = shared_ints(), code = 0;
    mproc_process p, *list[1] = {&p};
    start(&p, naps_half_a_second_from, go);
    pid_t raw = mproc_fork();
    if (raw == 0) {
        waits_for(go);
        nap(0.5);
        mproc_exit(6);
    }
    signal_storm(10000);
    TAKES(0.3, 0.4, ck_assert_int_eq(mproc_process_join(&p, 0.3), MPROC_ETIMEDOUT));
    TAKES(0.3, 0.4, ck_assert_int_eq(mproc_process_wait_any(list, 1, 0.3), MPROC_ETIMEDOUT));
    TAKES(0.3, 0.4, ck_assert_int_eq(mproc_wait(raw, NULL, 0.3), MPROC_ETIMEDOUT));
    POKE(go, 1);
    TAKES(0.4, 0.7, ck_assert_int_eq(mproc_process_wait_any(list, 1, MPROC_FOREVER), 0));
    ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
    ck_assert_int_eq(p.exitcode, 5);
    ck_assert_int_eq(mproc_wait(raw, &code, MPROC_FOREVER), 0);
    ck_assert_int_eq(code, 6);
    mproc_process q;
    start(&q, naps_half_a_second_from, go);
    TAKES(0.4, 0.7, ck_assert_int_eq(mproc_process_join(&q, MPROC_FOREVER), 0));
    ck_assert_int_eq(q.exitcode, 5);
}
END_TEST

/* */
static int leaves_a_grandchild(void *arg) {
    pid_t pid = fork();
    if (pid == 0) {
        nap(5);
        _exit(0);
    }
    POKE((int *)arg, pid);
    _exit(4);
}

START_TEST(grandchild_with_inherited_fds_does_not_delay_join) {
    int *grandchild = shared_ints();
    mproc_process p;
    start(&p, leaves_a_grandchild, grandchild);
    TAKES(0, 0.5, ck_assert_int_eq(mproc_process_join(&p, 4), 0));
    ck_assert_int_eq(p.exitcode, 4);
    kill(PEEK(grandchild), SIGKILL);
}
END_TEST

/* */
static int execs_sleep(void *arg) {
    (void)arg;
    execlp("sleep", "sleep", "0.8", (char *)NULL);
    return 99;
}

START_TEST(child_that_execs_is_timed_right) {
    mproc_process p;
    start(&p, execs_sleep, NULL);
    TAKES(0.3, 0.4, ck_assert_int_eq(mproc_process_join(&p, 0.3), MPROC_ETIMEDOUT));
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_eq(finish(&p), 0);
}
END_TEST

/* ---- Signals to children ------------------------------------------------------------------------------- */

/* PROC-13, PROC-14, PROC-16 */
START_TEST(death_by_signal_is_minus_the_signal) {
    mproc_process p;
    start(&p, sleeps, NULL);
    ck_assert_int_eq(mproc_process_terminate(&p), 0);
    TAKES(0, 1, ck_assert_int_eq(finish(&p), -SIGTERM));
    start(&p, sleeps, NULL);
    ck_assert_int_eq(mproc_process_kill(&p), 0);
    TAKES(0, 1, ck_assert_int_eq(finish(&p), -SIGKILL));
    start(&p, sleeps, NULL);
    ck_assert_int_eq(kill(p.pid, SIGINT), 0);
    TAKES(0, 1, ck_assert_int_eq(finish(&p), -SIGINT));
}
END_TEST

/* PROC-15 */
static void leaves_with_1(int signal_number) {
    (void)signal_number;
    _exit(1);
}

static int handles(void *arg) {
    int *ready = arg;
    signal(SIGINT, leaves_with_1);
    signal(SIGTERM, leaves_with_1);
    BUMP(ready);
    nap(10);
    return 0;
}

START_TEST(child_that_handles_the_signal_chooses_its_code) {
    int *ready = shared_ints();
    mproc_process p, q;
    start(&p, handles, ready);
    start(&q, handles, ready);
    EVENTUALLY(PEEK(ready) == 2);
    ck_assert_int_eq(kill(p.pid, SIGINT), 0);
    ck_assert_int_eq(mproc_process_terminate(&q), 0);
    ck_assert_int_eq(finish(&p), 1);
    ck_assert_int_eq(finish(&q), 1);
}
END_TEST

/* */
static int ignores_sigterm(void *ready) {
    signal(SIGTERM, SIG_IGN);
    POKE((int *)ready, 1);
    nap(10);
    return 0;
}

START_TEST(child_that_ignores_sigterm_needs_kill) {
    int *ready = shared_ints();
    mproc_process p;
    start(&p, ignores_sigterm, ready);
    EVENTUALLY(PEEK(ready) == 1);
    ck_assert_int_eq(mproc_process_terminate(&p), 0);
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_process_join(&p, 0.2), MPROC_ETIMEDOUT));
    kill_and_finish(&p);
}
END_TEST

/* */
START_TEST(stopped_child_is_alive_until_killed) {
    mproc_process p;
    start(&p, sleeps, NULL);
    ck_assert_int_eq(kill(p.pid, SIGSTOP), 0);
    EVENTUALLY(process_state(p.pid) == 'T');
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_eq(mproc_process_terminate(&p), 0);
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_process_join(&p, 0.2), MPROC_ETIMEDOUT));
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_uint_eq(active(), 1);
    kill_and_finish(&p);
}
END_TEST

typedef struct stop_job {
    pid_t pid;
    int *go; /* ends the child */
} stop_job;

static void *stops_and_continues(void *arg) {
    stop_job *job = arg;
    for (int i = 0; i < 20; i++) {
        kill(job->pid, SIGSTOP);
        for (int k = 0; k < 1000 && process_state(job->pid) != 'T'; k++) nap(0.001);
        kill(job->pid, SIGCONT);
    }
    POKE(job->go, 1);
    return NULL;
}

START_TEST(stop_and_continue_are_not_an_end) {
    int *go = shared_ints();
    mproc_process p;
    start(&p, waits_for, go);
    stop_job job = {p.pid, go};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, stops_and_continues, &job), 0);
    ck_assert_int_eq(mproc_process_join(&p, MPROC_FOREVER), 0);
    ck_assert_int_eq(p.exitcode, 0);
    ck_assert_int_eq(PEEK(go), 1);
    pthread_join(thread, NULL);
}
END_TEST

/* PROC-26 */
START_TEST(hundred_terminated_right_after_start) {
    static mproc_process p[100];
    double begin = now();
    for (int i = 0; i < 100; i++) {
        start(&p[i], sleeps, NULL);
        ck_assert_int_eq(mproc_process_terminate(&p[i]), 0);
    }
    for (int i = 0; i < 100; i++) ck_assert_int_eq(finish(&p[i]), -SIGTERM);
    ck_assert(now() - begin < 8 * SLOW);
    ck_assert(no_children());
}
END_TEST

/* */
START_TEST(no_signal_after_join) {
    mproc_process p;
    start(&p, returns_zero, NULL);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(mproc_process_terminate(&p), -ESRCH);
    ck_assert_int_eq(mproc_process_kill(&p), -ESRCH);
    ck_assert_int_eq(p.exitcode, 0);
}
END_TEST

typedef struct recycling { /* shared with what is forked */
    int (*entry)(struct recycling *r);
    pid_t pid; /* the stranger's, once it runs */
    int seen;
} recycling;

static recycling *recycling_of(int (*entry)(recycling *r)) {
    recycling *r = (recycling *)(void *)shared_ints();
    r->entry = entry;
    return r;
}

/* The next process gets this pid; only root of a pid namespace may ask for that. */
static bool choose_next_pid(pid_t pid) {
    char text[16];
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    int n = snprintf(text, sizeof text, "%d", (int)pid - 1);
    bool done = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (fd >= 0) close(fd);
    return done;
}

static int recycles_a_pid(recycling *r) {
    (void)r;
    mproc_process old = {.target = returns_zero}, fresh = {.target = sleeps};
    OR_RETURN(mproc_process_start(&old) == 0);
    OR_RETURN(mproc_process_join(&old, 10) == 0);
    if (!choose_next_pid(old.pid)) return printf("no ns_last_pid\n") < 0;
    OR_RETURN(mproc_process_start(&fresh) == 0);
    OR_RETURN(fresh.pid == old.pid);
    OR_RETURN(mproc_process_kill(&old) == -ESRCH);
    OR_RETURN(mproc_process_terminate(&old) == -ESRCH);
    OR_RETURN(!mproc_process_is_alive(&old));
    OR_RETURN(mproc_process_join(&old, 0) == 0 && old.exitcode == 0);
    OR_RETURN(mproc_process_close(&old) == 0);
    OR_RETURN(mproc_process_is_alive(&fresh));
    OR_RETURN(mproc_process_join(&fresh, 0.05) == MPROC_ETIMEDOUT);
    OR_RETURN(mproc_process_kill(&fresh) == 0);
    OR_RETURN(mproc_process_join(&fresh, 10) == 0 && fresh.exitcode == -SIGKILL);
    return 0;
}

/* Gives the number to a process that is no child of ours, and waits until it runs. */
static bool give_number_to_a_stranger(recycling *r, pid_t pid) {
    pid_t between = fork();
    if (between == 0) {
        pid_t stranger = choose_next_pid(pid) ? fork() : -1;
        if (stranger != 0) POKE(&r->pid, stranger);
        pause();
        _exit(0);
    }
    double give_up = now() + 10 * SLOW;
    while (PEEK(&r->pid) == 0 && now() < give_up) nap(0.001);
    return PEEK(&r->pid) == pid;
}

/* A child without a pidfd, for there was no descriptor left, of which the kernel drops the status. */
static int signals_a_recycled_pid(recycling *r) {
    struct rlimit limit, none = {0, 0};
    mproc_process old = {.target = returns_zero}, first = {.target = returns_zero};
    OR_RETURN(mproc_process_start(&first) == 0 && mproc_process_join(&first, 10) == 0);
    OR_RETURN(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none.rlim_max = limit.rlim_max;
    signal(SIGCHLD, SIG_IGN);
    OR_RETURN(setrlimit(RLIMIT_NOFILE, &none) == 0);
    OR_RETURN(mproc_process_start(&old) == 0);
    OR_RETURN(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    OR_RETURN(mproc_process_fd(&old) < 0);
    while (kill(old.pid, 0) == 0) nap(0.001);
    if (!give_number_to_a_stranger(r, old.pid)) return printf("no ns_last_pid\n") < 0;
    OR_RETURN(mproc_process_kill(&old) == -ESRCH);
    OR_RETURN(mproc_process_terminate(&old) == -ESRCH);
    return 0;
}

static int recycles_a_pid_in_a_namespace(void *arg) {
    recycling *r = arg;
    if (unshare(CLONE_NEWPID) != 0) return printf("pid namespaces are not ours to make\n") < 0;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        int code = r->entry(r);
        fflush(stdout);
        _exit(code);
    }
    _exit(waitpid(pid, &status, 0) != pid || status != 0); /* exit() may need processes: none can be had */
}

static void passes_in_a_namespace(int (*entry)(recycling *)) {
    program p;
    program_start(&p, recycles_a_pid_in_a_namespace, recycling_of(entry));
    ck_assert_msg(program_ends(&p, 15) == 0, "%s", p.text);
    if (p.length > 0) printf("skipped: %s", p.text);
}

START_TEST(recycled_pid_gets_no_signal) { passes_in_a_namespace(recycles_a_pid); }
END_TEST

START_TEST(recycled_pid_gets_no_signal_where_no_pidfd_tells) {
    passes_in_a_namespace(signals_a_recycled_pid);
}
END_TEST

static int watches_until_told(void *arg) {
    recycling *r = arg;
    r->seen = mproc_parent_is_alive() ? 1 : -1;
    while (PEEK(&r->pid) == 0) nap(0.001);
    POKE(&r->seen, r->seen == 1 && !mproc_parent_is_alive() ? 2 : -2);
    return 0;
}

static int starts_and_waits_for_its_end(void *arg) {
    mproc_process p = {.target = watches_until_told, .arg = arg};
    OR_RETURN(mproc_process_start(&p) == 0);
    return mproc_process_join(&p, MPROC_FOREVER);
}

static int recycles_a_parents_pid(recycling *r) {
    mproc_process parent = {.target = starts_and_waits_for_its_end, .arg = r};
    OR_RETURN(mproc_process_start(&parent) == 0);
    while (PEEK(&r->seen) == 0) nap(0.001);
    OR_RETURN(mproc_process_kill(&parent) == 0 && mproc_process_join(&parent, 10) == 0);
    if (!give_number_to_a_stranger(r, parent.pid)) return printf("no ns_last_pid\n") < 0;
    while (PEEK(&r->seen) == 1) nap(0.001);
    OR_RETURN(PEEK(&r->seen) == 2);
    return 0;
}

START_TEST(recycled_pid_is_not_the_parent) { passes_in_a_namespace(recycles_a_parents_pid); }
END_TEST

/* ---- Exit codes ---------------------------------------------------------------------------------------- */

enum how { RETURNED, LIBRARY, LIBC, KERNEL };

typedef struct leaving {
    enum how how;
    int code;
} leaving;

static int leaves(void *arg) {
    leaving *l = arg;
    if (l->how == LIBRARY) mproc_exit(l->code);
    if (l->how == LIBC) exit(l->code);
    if (l->how == KERNEL) _exit(l->code);
    return l->code;
}

/* PROC-35, PROC-36, X-23 */
START_TEST(exit_code_by_return_and_by_every_exit) {
    const int codes[][2] = {{0, 0}, {1, 1}, {8, 8}, {255, 255}, {259, 3}, {300, 44}, {-1, 255}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        for (int how = RETURNED; how <= KERNEL; how++) {
            leaving l = {(enum how)how, codes[i][0]};
            mproc_process p;
            start(&p, leaves, &l);
            ck_assert_int_eq(finish(&p), codes[i][1]);
        }
}
END_TEST

/* */
static int raises(void *arg) {
    int number = *(int *)arg;
    struct rlimit core = {65536, 65536};
    setrlimit(RLIMIT_CORE, &core);
    signal(number, SIG_DFL);
    if (number == SIGABRT) abort();
    raise(number);
    return 99;
}

START_TEST(exit_code_of_deaths_ignores_the_core_flag) {
    int numbers[] = {SIGABRT, SIGSEGV, SIGQUIT, SIGKILL, SIGPIPE, SIGRTMIN};
    char folder[64];
    ck_assert_int_eq(chdir(make_folder(folder)), 0);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        mproc_process p;
        start(&p, raises, &numbers[i]);
        ck_assert_int_eq(finish(&p), -numbers[i]);
    }
    ck_assert_int_eq(chdir("/"), 0);
    remove_folder(folder);
}
END_TEST

/* PROC-34 */
typedef struct writer {
    FILE *before; /* opened by the parent */
    const char *path;
} writer;

static int writes_and_fails(void *arg) {
    writer *w = arg;
    FILE *own = fopen(w->path, "a");
    OR_RETURN(own != NULL);
    fprintf(own, "own stream\n");
    fprintf(w->before, "parent's stream\n");
    return 1;
}

START_TEST(text_of_a_failing_child_is_flushed) {
    char folder[64], before[80], own[80];
    make_folder(folder);
    snprintf(before, sizeof before, "%s/before", folder);
    snprintf(own, sizeof own, "%s/own", folder);
    writer w = {fopen(before, "a"), own};
    mproc_process p;
    start(&p, writes_and_fails, &w);
    ck_assert_int_eq(finish(&p), 1);
    ck_assert_str_eq(slurp(before), "parent's stream\n");
    ck_assert_str_eq(slurp(own), "own stream\n");
    fclose(w.before);
    remove_folder(folder);
}
END_TEST

/* PROC-29: the manual says a child ends when its function returns */
static void *naps_in_thread(void *arg) {
    (void)arg;
    nap(5);
    return NULL;
}

static int leaves_a_thread_behind(void *arg) {
    (void)arg;
    pthread_t thread;
    OR_RETURN(pthread_create(&thread, NULL, naps_in_thread, NULL) == 0);
    return 2;
}

START_TEST(thread_of_a_child_does_not_delay_its_end) {
    mproc_process p;
    start(&p, leaves_a_thread_behind, NULL);
    TAKES(0, 1, ck_assert_int_eq(finish(&p), 2));
}
END_TEST

/* PROC-30 */
static int hands_text_back(char **data, size_t *size, void *ctx) {
    (void)data;
    (void)size;
    (void)ctx;
    return 0;
}

static int has_no_stdio(const void *arg, void *result) {
    (void)arg;
    (void)result;
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) != -1) return 1;
    return 0;
}

static int works_without_stdio(void *folder) {
    int two = 2, got = 0;
    char path[80], text[2];
    mproc_conn *ends[2];
    snprintf(path, sizeof path, "%s/file", (const char *)folder);
    for (int fd = 0; fd <= 2; fd++) close(fd);
    mproc_queue *queue = mproc_queue_new(0);
    mproc_file *file = mproc_file_open(path);
    if (queue == NULL || file == NULL || mproc_pipe_new(ends, true) != 0) return 1;
    if (mproc_file_lock(file, 5) != 0 || mproc_file_append(file, "x", 1) != 0) return 8;
    if (mproc_file_update(file, hands_text_back, NULL) != 0) return 9;
    if (mproc_conn_fd(ends[0]) <= 2 || mproc_conn_fd(ends[1]) <= 2) return 10;
    mproc_pool *pool = mproc_pool_new(1);
    if (pool == NULL || mproc_pool_fd(pool) <= 2) return 11;
    if (mproc_pool_apply(pool, has_no_stdio, NULL, 0, NULL, 0) != 0) return 12;
    mproc_process p = {.target = puts_two, .arg = queue}, q = {.target = returns, .arg = &two};
    if (mproc_process_start(&p) != 0 || mproc_process_start(&q) != 0) return 2;
    if (mproc_process_fd(&p) <= 2 || mproc_process_fd(&q) <= 2 || mproc_queue_fd(queue) <= 2) return 3;
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) != -1) return 4;
    printf("to nowhere");
    fflush(stdout);
    if (mproc_conn_send(ends[0], "y", 1, 5) != 0 || mproc_conn_recv(ends[1], text, 2, 5) != 1) return 13;
    if (mproc_file_close(file) != 0 || strcmp(slurp(path), "x") != 0) return 14;
    if (mproc_pool_free(pool) != 0) return 15;
    if (mproc_queue_get(queue, &got, sizeof got, 10) != sizeof got || got != 2) return 5;
    if (mproc_process_join(&p, 10) != 0 || p.exitcode != 0) return 6;
    if (mproc_process_join(&q, 10) != 0 || q.exitcode != 2) return 7;
    return 0;
}

START_TEST(works_with_closed_stdio_and_stays_off_its_numbers) {
    char folder[64];
    program p;
    program_start(&p, works_without_stdio, make_folder(folder));
    ck_assert_int_eq(program_ends(&p, 15), 0);
    remove_folder(folder);
}
END_TEST

static int prints(void *text) {
    printf("%s", (const char *)text);
    return 0;
}

static int works_with_a_broken_stdout(void *text) {
    int ends[2];
    if (pipe(ends) != 0) return 1;
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    signal(SIGPIPE, SIG_IGN);
    if (text != NULL) printf("%s", (const char *)text);
    mproc_process p = {.target = text != NULL ? prints : returns_zero, .arg = text};
    if (mproc_process_start(&p) != 0) return 2;
    if (mproc_process_join(&p, 10) != 0) return 3;
    return p.exitcode;
}

START_TEST(works_with_stdout_to_a_broken_pipe) {
    char text[] = "nobody reads this";
    program p;
    program_start(&p, works_with_a_broken_stdout, NULL);
    ck_assert_int_eq(program_ends(&p, 15), 0);
    program_start(&p, works_with_a_broken_stdout, text);
    ck_assert_int_eq(program_ends(&p, 15), 0);
}
END_TEST

/* PROC-31 */
static int closes_its_stdio(void *arg) {
    fclose(stdout);
    fclose(stderr);
    return *(int *)arg;
}

START_TEST(child_may_close_its_stdio) {
    for (int code = 0; code <= 3; code += 3) {
        mproc_process p;
        start(&p, closes_its_stdio, &code);
        ck_assert_int_eq(finish(&p), code);
    }
}
END_TEST

/* ---- Sentinel and wait_any ----------------------------------------------------------------------------- */

/* PROC-21 */
START_TEST(fd_becomes_readable_at_the_end_and_stays_so) {
    int *go = shared_ints();
    mproc_process p;
    start(&p, waits_for, go);
    struct pollfd fd = {.fd = mproc_process_fd(&p), .events = POLLIN};
    ck_assert_int_ge(fd.fd, 3);
    ck_assert_int_eq(mproc_process_fd(&p), fd.fd);
    ck_assert_int_ne(fcntl(fd.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(poll(&fd, 1, 0), 0);
    POKE(go, 1);
    ck_assert_int_eq(poll(&fd, 1, 10000), 1);
    ck_assert_int_ne(fd.revents & POLLIN, 0);
    ck_assert_int_eq(mproc_process_join(&p, 0), 0);
    ck_assert_int_eq(p.exitcode, 0);
    ck_assert_int_eq(mproc_process_fd(&p), fd.fd);
    ck_assert_int_eq(poll(&fd, 1, 0), 1);
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert_int_eq(fcntl(fd.fd, F_GETFD), -1);
    ck_assert_int_eq(mproc_process_fd(&p), MPROC_ECLOSED);
}
END_TEST

/* Its status may be collected on the way, by who asks for all children: the end is told all the same. */
START_TEST(sentinel_of_one_that_was_collected) {
    int *go = shared_ints(), fds = open_fds();
    mproc_process p;
    start(&p, waits_for, go);
    POKE(go, 1);
    EVENTUALLY(mproc_active_children(NULL, 0) == 0);
    struct pollfd fd = {.fd = mproc_process_fd(&p), .events = POLLIN};
    ck_assert_int_gt(fd.fd, 2);
    ck_assert_int_eq(poll(&fd, 1, 0), 1);
    ck_assert_int_eq(fd.revents & POLLIN, POLLIN);
    ck_assert_int_eq(mproc_process_join(&p, 0), 0);
    ck_assert_int_eq(p.exitcode, 0);
    ck_assert_int_eq(mproc_process_fd(&p), fd.fd);
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

START_TEST(wait_any_gives_the_lowest_that_ended_and_joins_none) {
    int *go = shared_ints(), three = 3;
    mproc_process p[4], *list[4] = {&p[0], &p[1], &p[2], &p[3]};
    for (int i = 0; i < 4; i++) start(&p[i], waits_for, &go[i]);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_process_wait_any(list, 4, 0), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_process_wait_any(list, 4, 0.2), MPROC_ETIMEDOUT));
    POKE(&go[2], 1);
    ck_assert_int_eq(mproc_process_wait_any(list, 4, MPROC_FOREVER), 2);
    ck_assert_int_eq(mproc_process_wait_any(list, 4, 0), 2);
    ck_assert_int_eq(p[2].exitcode, MPROC_NO_EXITCODE);
    ck_assert_int_eq(mproc_process_join(&p[2], 0), 0);
    ck_assert_int_eq(p[2].exitcode, 0);
    ck_assert_int_eq(mproc_process_wait_any(list, 4, 0), 2);
    POKE(&go[1], 1);
    EVENTUALLY(process_state(p[1].pid) == 'Z');
    ck_assert_int_eq(mproc_process_wait_any(list, 4, 0), 1);
    mproc_process *running[2] = {&p[0], &p[3]};
    ck_assert_int_eq(mproc_process_wait_any(running, 2, 0), MPROC_ETIMEDOUT);
    mproc_process *same[3] = {&p[0], &p[1], &p[1]};
    ck_assert_int_eq(mproc_process_wait_any(same, 3, 0), 1);
    POKE(&go[0], 1);
    POKE(&go[3], 1);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(finish(&p[i]), 0);
    start(&p[0], returns, &three);
    ck_assert_int_eq(mproc_process_wait_any(list, 1, MPROC_FOREVER), 0);
    ck_assert_int_eq(finish(&p[0]), 3);
    ck_assert(no_children());
}
END_TEST

START_TEST(wait_any_serves_many) {
    enum { N = 40 };
    static mproc_process p[N];
    mproc_process *left[N];
    static double seconds[N];
    bool seen[N] = {false};
    for (int i = 0; i < N; i++) {
        seconds[i] = (double)((i * 7) % N) / 400;
        start(&p[i], naps, &seconds[i]);
        left[i] = &p[i];
    }
    for (size_t n = N; n > 0; n--) {
        int i = mproc_process_wait_any(left, n, 10 * SLOW);
        ck_assert_int_ge(i, 0);
        ck_assert_int_lt(i, (int)n);
        ptrdiff_t which = left[i] - p;
        ck_assert(!seen[which]);
        seen[which] = true;
        ck_assert_int_eq(mproc_process_join(left[i], 0), 0);
        ck_assert_int_eq(left[i]->exitcode, 0);
        left[i] = left[n - 1];
    }
}
END_TEST

/* More children than the process may have descriptors: poll(2) refuses so many at once. */
static int waits_for_more_than_descriptors(void *arg) {
    enum { N = 40 };
    static mproc_process p[N];
    mproc_process *list[N];
    struct rlimit limit;
    OR_RETURN(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const struct rlimit few = {N / 2, limit.rlim_max};
    OR_RETURN(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (int i = 0; i < N; i++) {
        p[i] = (mproc_process){.target = i == N - 1 ? waits_for : sleeps, .arg = arg, .daemon = false};
        OR_RETURN(mproc_process_start(&p[i]) == 0);
        list[i] = &p[i];
    }
    double before = cpu_seconds(), begin = now();
    OR_RETURN(mproc_process_wait_any(list, N, 1) == MPROC_ETIMEDOUT);
    OR_RETURN(now() - begin >= 0.999 && now() - begin < 1.1 + 2 * SLOW);
    OR_RETURN(cpu_seconds() - before < 0.2 * SLOW);
    POKE((int *)arg, 1);
    OR_RETURN(mproc_process_wait_any(list, N, 10) == N - 1);
    for (int i = 0; i < N; i++) OR_RETURN(i == N - 1 || mproc_process_kill(&p[i]) == 0);
    OR_RETURN(setrlimit(RLIMIT_NOFILE, &limit) == 0); /* a sanitizer needs some at the end */
    return 0;
}

START_TEST(wait_any_rests_where_descriptors_are_fewer) {
    program p;
    program_start(&p, waits_for_more_than_descriptors, shared_ints());
    ck_assert_msg(program_ends(&p, 20) == 0, "%s", p.text);
}
END_TEST

/* Another thread joins what this one waits for among others: nothing of it is left. */
static void *joins_it(void *p) { return (void *)(intptr_t)mproc_process_join(p, MPROC_FOREVER); }

START_TEST(wait_any_leaves_nothing_of_what_others_join) {
    int *go = shared_ints(), fds = open_fds();
    for (int round = 0; round < 30; round++) {
        pthread_t thread;
        void *error;
        POKE(go, 0);
        mproc_process p, *list[2] = {&p, &p};
        start(&p, waits_for, go);
        ck_assert_int_eq(pthread_create(&thread, NULL, joins_it, &p), 0);
        ck_assert_int_eq(mproc_process_wait_any(list, 2, 0), MPROC_ETIMEDOUT);
        POKE(go, 1);
        int i = mproc_process_wait_any(list, 2, MPROC_FOREVER); /* it may end between its two looks */
        ck_assert(i == 0 || i == 1);
        ck_assert_int_eq(pthread_join(thread, &error), 0);
        ck_assert(error == NULL);
        ck_assert_int_eq(p.exitcode, 0);
    }
    ck_assert_int_eq(open_fds(), fds);
    ck_assert(mproc__self.children == NULL);
}
END_TEST

START_TEST(wait_any_refuses_what_is_no_child_of_mine) {
    mproc_process p, closed, fresh = {.target = returns_zero};
    start(&p, sleeps, NULL);
    start(&closed, returns_zero, NULL);
    ck_assert_int_eq(finish(&closed), 0);
    mproc_process *with_null[2] = {&p, NULL}, *with_fresh[2] = {&p, &fresh}, *with_closed[2] = {&p, &closed};
    mproc_process *good[1] = {&p};
    ck_assert_int_eq(mproc_process_wait_any(NULL, 1, 0), -EINVAL);
    ck_assert_int_eq(mproc_process_wait_any(with_null, 2, 0), -EINVAL);
    ck_assert_int_eq(mproc_process_wait_any(with_fresh, 2, 0), -EINVAL);
    ck_assert_int_eq(mproc_process_wait_any(with_closed, 2, 0), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_process_wait_any(good, 1, (double)NAN), -EINVAL);
    ck_assert_int_lt(mproc_process_wait_any(good, 0, 0), 0);
    ck_assert_int_lt(mproc_process_wait_any(NULL, 0, MPROC_FOREVER), 0);
    kill_and_finish(&p);
}
END_TEST

/* ---- Close, leaks -------------------------------------------------------------------------------------- */

/* PROC-22, PROC-23 */
START_TEST(close_is_refused_while_running_and_final_afterwards) {
    int *go = shared_ints();
    mproc_process p, *list[1] = {&p};
    start(&p, waits_for, go);
    ck_assert_int_eq(mproc_process_close(&p), -EBUSY);
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_eq(mproc_process_join(&p, 0), MPROC_ETIMEDOUT);
    POKE(go, 1);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert_int_eq(mproc_process_join(&p, 0), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_process_terminate(&p), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_process_kill(&p), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_process_fd(&p), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_process_wait_any(list, 1, 0), MPROC_ECLOSED);
    ck_assert_int_lt(mproc_process_start(&p), 0);
    ck_assert(!mproc_process_is_alive(&p));
}
END_TEST

START_TEST(close_collects_an_ended_child_that_nobody_joined) {
    mproc_process p;
    start(&p, returns_zero, NULL);
    EVENTUALLY(process_state(p.pid) == 'Z');
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert(no_children());
    ck_assert_uint_eq(active(), 0);
}
END_TEST

/* PROC-24, PROC-46 */
START_TEST(two_hundred_rounds_leave_nothing) {
    first_use();
    int fds = open_fds(), tasks = threads(), shm = count_entries("/dev/shm");
    for (int i = 0; i < 200; i++) {
        mproc_process p;
        start(&p, i % 2 ? returns_zero : sleeps, NULL);
        if (i % 2 == 0) ck_assert_int_eq(mproc_process_kill(&p), 0);
        ck_assert_int_eq(finish(&p), i % 2 ? 0 : -SIGKILL);
        ck_assert_int_eq(open_fds(), fds);
    }
    ck_assert(no_children());
    ck_assert_int_eq(threads(), tasks);
    ck_assert_int_lt(count_entries("/dev/shm"), shm + 100); /* others may make names there meanwhile */
}
END_TEST

static void start_in_a_scope_that_ends(int *go) {
    mproc_process p;
    start(&p, waits_for, go);
}

/* the struct has left its scope, the library's own record collects the child */
START_TEST(forgotten_children_are_collected_by_active_children) {
    first_use();
    int *go = shared_ints(), fds = open_fds();
    for (int i = 0; i < 50; i++) start_in_a_scope_that_ends(go);
    ck_assert_uint_eq(active(), 50);
    POKE(go, 1);
    EVENTUALLY(active() == 0);
    ck_assert(no_children());
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

/* by later starts as well, whatever else is forked between them */
START_TEST(forgotten_children_are_collected_by_later_starts) {
    int *go = shared_ints(), zombies = 0;
    pid_t pids[200];
    POKE(go, 1);
    for (int i = 0; i < 200; i++) {
        mproc_process p;
        start(&p, waits_for, go);
        pids[i] = p.pid;
        EVENTUALLY(process_state(p.pid) == 'Z' || kill(p.pid, 0) != 0);
        pid_t forked = mproc_fork();
        if (forked == 0) mproc_exit(0);
        ck_assert_int_eq(mproc_wait(forked, NULL, 10), 0);
    }
    for (int i = 0; i < 200; i++) zombies += kill(pids[i], 0) == 0;
    ck_assert_int_le(zombies, 64);
}
END_TEST

/* */
START_TEST(no_zombie_by_any_way_to_end) {
    mproc_process p;
    start(&p, returns_zero, NULL);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert(no_children());
    start(&p, sleeps, NULL);
    ck_assert_int_eq(mproc_process_terminate(&p), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert(no_children());
    start(&p, sleeps, NULL);
    ck_assert_int_eq(mproc_process_kill(&p), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert(no_children());
    mproc_pool *pool = mproc_pool_new(2);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    ck_assert(no_children());
}
END_TEST

START_TEST(active_children_respects_the_capacity) {
    int *go = shared_ints();
    mproc_process p[3];
    pid_t pids[4] = {-7, -7, -7, -7};
    for (int i = 0; i < 3; i++) start(&p[i], waits_for, go);
    ck_assert_uint_eq(mproc_active_children(pids, 2), 3);
    ck_assert_int_gt(pids[0], 0);
    ck_assert_int_gt(pids[1], 0);
    ck_assert_int_eq(pids[2], -7);
    ck_assert_uint_eq(mproc_active_children(pids, 0), 3);
    ck_assert_uint_eq(mproc_active_children(NULL, 0), 3);
    ck_assert_uint_eq(mproc_active_children(NULL, 8), 3);
    ck_assert_uint_eq(mproc_active_children(pids, 4), 3);
    ck_assert_int_eq(pids[3], -7);
    for (int i = 0; i < 3; i++) {
        int found = 0;
        for (int k = 0; k < 3; k++) found += pids[k] == p[i].pid;
        ck_assert_int_eq(found, 1);
    }
    POKE(go, 1);
    for (int i = 0; i < 3; i++) ck_assert_int_eq(finish(&p[i]), 0);
}
END_TEST

/* PROC-25 */
START_TEST(hundred_children_all_end_with_0) {
    static mproc_process p[100];
    for (int i = 0; i < 100; i++) start(&p[i], returns_zero, NULL);
    for (int i = 0; i < 100; i++) ck_assert_int_eq(finish(&p[i]), 0);
    ck_assert(no_children());
}
END_TEST

/* PROC-28, PROC-43 */
typedef struct census {
    int *fds, *pidfds; /* counted by each */
    int *counted, *go; /* how many have; all may end */
    int index;
} census;

static int count_pidfds(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char path[300], link[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        if (readlink(path, link, sizeof link - 1) > 0 && strstr(link, "pidfd") != NULL) n++;
    }
    if (dir != NULL) closedir(dir);
    return n;
}

static int counts_fds(void *arg) {
    census *c = arg;
    c->fds[c->index] = open_fds();
    c->pidfds[c->index] = count_pidfds();
    BUMP(c->counted);
    return waits_for(c->go);
}

START_TEST(children_do_not_inherit_fds_of_their_siblings) {
    int *page = shared_ints();
    mproc_process p[5];
    for (int i = 0; i < 5; i++) {
        census c = {page, page + 8, page + 16, page + 17, i};
        start(&p[i], counts_fds, &c);
        EVENTUALLY(PEEK(page + 16) == i + 1);
    }
    POKE(page + 17, 1);
    for (int i = 0; i < 5; i++) ck_assert_int_eq(finish(&p[i]), 0);
    for (int i = 1; i < 5; i++) {
        ck_assert_int_eq(page[i], page[0]);
        ck_assert_int_eq(page[8 + i], page[8]);
    }
}
END_TEST

/* ---- Failures of the system ---------------------------------------------------------------------------- */

/* */
static int start_without_room_for_processes(void *arg) {
    (void)arg;
    int zero = 0;
    mproc_process once = {.target = returns_zero}, p = {.target = returns, .arg = &zero};
    OR_RETURN(mproc_process_start(&once) == 0 && mproc_process_join(&once, 10) == 0);
    if (getuid() == 0) {
        OR_RETURN(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0);
        OR_RETURN(setresuid(65534, 65534, 65534) == 0);
        prctl(PR_SET_DUMPABLE, 1); /* else our own /proc/self/fd is closed to us now */
    }
    struct rlimit limit, none;
    OR_RETURN(getrlimit(RLIMIT_NPROC, &limit) == 0);
    none = limit;
    none.rlim_cur = 0;
    int fds = open_fds(), tasks = threads();
    OR_RETURN(fds > 0);
    OR_RETURN(setrlimit(RLIMIT_NPROC, &none) == 0);
    for (int i = 0; i < 5; i++) OR_RETURN(mproc_process_start(&p) == -EAGAIN);
    OR_RETURN(mproc_fork() == -EAGAIN);
    OR_RETURN(mproc_fork_detached() == -EAGAIN);
    errno = 0;
    OR_RETURN(mproc_pool_new(2) == NULL && errno == EAGAIN);
    OR_RETURN(open_fds() == fds && threads() == tasks && active() == 0);
    limit.rlim_cur = limit.rlim_max;
    OR_RETURN(setrlimit(RLIMIT_NPROC, &limit) == 0);
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, 10) == 0 && p.exitcode == 0);
    OR_RETURN(no_children());
    return 0;
}

START_TEST(refused_fork_leaves_nothing_and_may_be_tried_again) {
    program p;
    program_start(&p, start_without_room_for_processes, NULL);
    ck_assert_msg(program_ends(&p, 15) == 0, "%s", p.text);
    ck_assert_str_eq(p.text, "");
}
END_TEST

/* */
static int with_few_fds(void *arg) {
    char *folder = arg, path[80];
    snprintf(path, sizeof path, "%s/file", folder);
    mproc_process once = {.target = returns_zero};
    OR_RETURN(mproc_process_start(&once) == 0 && mproc_process_join(&once, 10) == 0);
    OR_RETURN(mproc_process_close(&once) == 0);
    struct rlimit limit, few;
    OR_RETURN(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (rlim_t k = 0; k < 40; k++) {
        int fds = open_fds();
        few = (struct rlimit){k, limit.rlim_max};
        mproc_process p = {.target = returns_zero};
        OR_RETURN(setrlimit(RLIMIT_NOFILE, &few) == 0);
        int started = mproc_process_start(&p);
        OR_RETURN(started == 0 || started == -EMFILE);
        if (started == 0) OR_RETURN(mproc_process_join(&p, 10) == 0 && p.exitcode == 0);
        OR_RETURN(mproc_process_close(&p) == 0);
        errno = 0;
        mproc_queue *queue = mproc_queue_new(4);
        OR_RETURN(queue != NULL || errno == EMFILE);
        OR_RETURN(mproc_queue_free(queue) == 0);
        errno = 0;
        mproc_pool *pool = mproc_pool_new(2);
        OR_RETURN(pool != NULL || errno == EMFILE);
        OR_RETURN(mproc_pool_free(pool) == 0);
        errno = 0;
        mproc_file *file = mproc_file_open(path);
        OR_RETURN(file != NULL || errno == EMFILE);
        OR_RETURN(mproc_file_close(file) == 0);
        OR_RETURN(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        OR_RETURN(open_fds() == fds);
        OR_RETURN(active() == 0 && no_children());
    }
    return 0;
}

START_TEST(too_few_fds_are_an_error_that_leaves_nothing) {
    char folder[64];
    program p;
    program_start(&p, with_few_fds, make_folder(folder));
    ck_assert_msg(program_ends(&p, 25) == 0, "%s", p.text);
    remove_folder(folder);
}
END_TEST

/* Old kernels and container policies refuse pidfd_open, with one of these. */
static bool refuse_pidfds(int error) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof code / sizeof *code, .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0 &&
           syscall(SYS_pidfd_open, getpid(), 0) == -1 && errno == error;
}

static int without_pidfds(void *arg) {
    int *go = shared_ints(), seven = 7;
    if (!refuse_pidfds(*(int *)arg)) return printf("no seccomp filter\n") < 0;
    mproc_process p = {.target = returns, .arg = &seven};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, MPROC_FOREVER) == 0 && p.exitcode == 7);
    OR_RETURN(mproc_process_kill(&p) == -ESRCH);
    OR_RETURN(mproc_process_close(&p) == 0);
    mproc_process q = {.target = waits_for, .arg = go}, r = {.target = sleeps, .daemon = true};
    OR_RETURN(mproc_process_start(&q) == 0 && mproc_process_start(&r) == 0);
    double begin = now();
    OR_RETURN(mproc_process_join(&q, 0.2) == MPROC_ETIMEDOUT);
    OR_RETURN(now() - begin >= 0.199 && now() - begin < 0.3 + 2 * SLOW);
    OR_RETURN(mproc_process_is_alive(&q) && active() == 2);
    mproc_process *list[2] = {&q, &r};
    OR_RETURN(mproc_process_wait_any(list, 2, 0.1) == MPROC_ETIMEDOUT);
    struct pollfd fd = {.fd = mproc_process_fd(&q), .events = POLLIN};
    OR_RETURN(fd.fd >= 0 && poll(&fd, 1, 0) == 0);
    OR_RETURN(mproc_process_terminate(&r) == 0);
    OR_RETURN(mproc_process_wait_any(list, 2, 5) == 1);
    OR_RETURN(mproc_process_join(&r, 5) == 0 && r.exitcode == -SIGTERM);
    POKE(go, 1);
    OR_RETURN(poll(&fd, 1, 5000) == 1);
    OR_RETURN(mproc_process_join(&q, 5) == 0 && q.exitcode == 0);
    OR_RETURN(no_children());
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(3);
    int code = 0;
    OR_RETURN(mproc_wait(pid, &code, 5) == 0 && code == 3);
    mproc_process last = {.target = sleeps, .daemon = true};
    return mproc_process_start(&last);
}

START_TEST(works_where_pidfds_are_refused) {
    int errors[] = {ENOSYS, EPERM};
    for (int i = 0; i < 2; i++) {
        program p;
        program_start(&p, without_pidfds, &errors[i]);
        ck_assert_msg(program_ends(&p, 15) == 0, "%s", p.text);
        if (p.length > 0) printf("skipped: %s", p.text);
    }
}
END_TEST

/* ---- Signals and statuses of the application ----------------------------------------------------------- */

/* */
typedef struct signal_state {
    struct sigaction actions[65];
    sigset_t mask;
} signal_state;

static void record_signals(signal_state *s) {
    memset(s, 0, sizeof *s);
    sigemptyset(&s->mask);
    for (int i = 1; i <= 64; i++) sigaction(i, NULL, &s->actions[i]);
    pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
}

/* SA_RESTORER: libc adds it to whatever is set, also to what was there before. */
#define LIBC_FLAG 0x04000000

/* The first signal that differs; 0 when all are the same. */
static int different_signal(const signal_state *a) {
    static signal_state b;
    record_signals(&b);
    for (int i = 1; i <= 64; i++)
        if (a->actions[i].sa_handler != b.actions[i].sa_handler ||
            ((a->actions[i].sa_flags ^ b.actions[i].sa_flags) & ~LIBC_FLAG) != 0 ||
            sigismember(&a->mask, i) != sigismember(&b.mask, i))
            return i;
    return 0;
}

static signal_state signals_before;

static int compares_signals(void *arg) {
    (void)arg;
    return different_signal(&signals_before);
}

static int compares_signals_in_worker(const void *arg, void *result) {
    (void)arg;
    *(int *)result = different_signal(&signals_before);
    return 0;
}

START_TEST(signal_state_of_the_caller_is_left_alone) {
    struct sigaction action = {.sa_handler = leaves_with_1, .sa_flags = SA_RESTART};
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGWINCH);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    record_signals(&signals_before);

    char folder[64], path[80];
    snprintf(path, sizeof path, "%s/file", make_folder(folder));
    mproc_process p = {.target = compares_signals}, d = {.target = compares_signals, .daemon = true};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    ck_assert_int_eq(mproc_process_start(&d), 0);
    ck_assert_int_eq(different_signal(&signals_before), 0);
    ck_assert_int_eq(finish(&p), 0);
    ck_assert_int_eq(finish(&d), 0);
    ck_assert_int_eq(different_signal(&signals_before), 0);

    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(different_signal(&signals_before));
    int code = -1, result = -1;
    ck_assert_int_eq(mproc_wait(pid, &code, 10), 0);
    ck_assert_int_eq(code, 0);
    pid = mproc_fork_detached();
    if (pid == 0) mproc_exit(0);
    mproc_reap();

    mproc_pool *pool = mproc_pool_new(1);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(mproc_pool_apply(pool, compares_signals_in_worker, NULL, 0, &result, sizeof result), 0);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    mproc_queue *queue = mproc_queue_new(2);
    ck_assert_int_eq(mproc_queue_put(queue, "x", 1, 0), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    mproc_lock *lock = mproc_lock_new();
    ck_assert_int_eq(mproc_lock_acquire(lock, 1), 0);
    ck_assert_int_eq(mproc_lock_release(lock), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    mproc_file *file = mproc_file_open(path);
    ck_assert_int_eq(mproc_file_lock(file, 1), 0);
    ck_assert_int_eq(mproc_file_append(file, "x", 1), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_update(file, hands_text_back, NULL), 0);
    ck_assert_int_eq(mproc_file_close(file), 0);
    ck_assert_int_eq(different_signal(&signals_before), 0);
    remove_folder(folder);
}
END_TEST

/* X-03, what is left: no object touches it, nor does a loop or a child; not even where all signals are
 * blocked. */
#define LEFT_ALONE(statement)                                                                         \
    do {                                                                                              \
        statement;                                                                                    \
        int signal_ = different_signal(&signals_before);                                              \
        ck_assert_msg(signal_ == 0, "all blocked: %d; signal %d after %s", all, signal_, #statement); \
    } while (0)

static void compares_signals_in_loop(size_t i, void *seen) {
    (void)i;
    int different = different_signal(&signals_before);
    if (different != 0) POKE((int *)seen, different);
}

static int dies_in_worker(const void *arg, void *result) {
    (void)arg;
    (void)result;
    return raise(SIGKILL);
}

static void use_synchronisation(void) {
    mproc_rlock *rlock = mproc_rlock_new();
    mproc_semaphore *semaphore = mproc_semaphore_new(0);
    mproc_event *event = mproc_event_new();
    mproc_condition *condition = mproc_condition_new(NULL);
    mproc_barrier *barrier = mproc_barrier_new(2);
    ck_assert_int_eq(mproc_rlock_acquire(rlock, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_rlock_release(rlock), 0);
    ck_assert_int_eq(mproc_semaphore_acquire(semaphore, 0.01), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_event_wait(event, 0.01), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_condition_acquire(condition, 1), 0);
    ck_assert_int_eq(mproc_condition_wait(condition, 0.01), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_condition_notify_all(condition), 0);
    ck_assert_int_eq(mproc_condition_release(condition), 0);
    ck_assert_int_eq(mproc_barrier_wait(barrier, 0.01), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_barrier_free(barrier), 0);
    ck_assert_int_eq(mproc_condition_free(condition), 0);
    ck_assert_int_eq(mproc_event_free(event), 0);
    ck_assert_int_eq(mproc_semaphore_free(semaphore), 0);
    ck_assert_int_eq(mproc_rlock_free(rlock), 0);
}

static void use_a_pipe_and_a_ring(void) {
    int item = 1;
    mproc_conn *ends[2];
    mproc_ring *ring = mproc_ring_new(sizeof item, 2);
    ck_assert_int_eq(mproc_pipe_new(ends, false), 0);
    ck_assert_int_eq(mproc_conn_send(ends[1], &item, sizeof item, 1), 0);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    ck_assert_int_eq(mproc_conn_send(ends[1], &item, sizeof item, 1), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(mproc_ring_put(ring, &item, 1), 0);
    ck_assert_int_eq(mproc_ring_get(ring, &item, 1), 0);
    ck_assert_int_eq(mproc_ring_get(ring, &item, 0.01), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_ring_free(ring), 0);
}

static void use_a_pool(void) {
    int in[4] = {0}, out[4] = {1, 1, 1, 1};
    mproc_pool *pool = mproc_pool_new(2);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(mproc_pool_apply(pool, dies_in_worker, NULL, 0, NULL, 0), MPROC_ECRASHED);
    ck_assert_int_eq(mproc_pool_map(pool, compares_signals_in_worker, in, 4, sizeof *in, out, sizeof *out),
                     0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(out[i], 0); /* one of them in the dead worker's place */
    ck_assert_int_eq(mproc_pool_close(pool), 0);
    ck_assert_int_eq(mproc_pool_join(pool, 10 * SLOW), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    pool = mproc_pool_new(1);
    ck_assert_int_eq(mproc_pool_terminate(pool), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
}

static void use_detached_child(int *seen) {
    POKE(seen, 0);
    pid_t pid = mproc_fork_detached();
    if (pid == 0) {
        POKE(seen, 1 + different_signal(&signals_before));
        mproc_exit(0);
    }
    ck_assert_int_gt(pid, 0);
    EVENTUALLY(PEEK(seen) != 0);
    ck_assert_int_eq(PEEK(seen), 1);
}

static void use_processes(void) {
    mproc_process p, *list[1] = {&p};
    start(&p, compares_signals, NULL);
    ck_assert_int_eq(mproc_process_wait_any(list, 1, 10 * SLOW), 0);
    ck_assert_int_eq(finish(&p), 0);
    start(&p, sleeps, NULL);
    ck_assert_int_eq(mproc_process_join(&p, 0.01), MPROC_ETIMEDOUT);
    kill_and_finish(&p);
}

START_TEST(signal_state_is_left_alone_by_all_objects_and_loops) {
    for (int all = 0; all <= 1; all++) {
        int *seen = shared_ints();
        sigset_t mask;
        sigfillset(&mask);
        signal(SIGUSR1, leaves_with_1);
        signal(SIGPIPE, SIG_DFL);
        if (all) pthread_sigmask(SIG_BLOCK, &mask, NULL);
        record_signals(&signals_before);
        LEFT_ALONE(use_synchronisation());
        LEFT_ALONE(use_a_pipe_and_a_ring());
        LEFT_ALONE(use_processes());
        LEFT_ALONE(use_detached_child(&seen[1]));
        LEFT_ALONE(use_a_pool());
        LEFT_ALONE(ck_assert_int_eq(mproc_parallel_for(8, 2, compares_signals_in_loop, seen), 0));
        ck_assert_int_eq(PEEK(seen), 0);
        ck_assert(no_children());
    }
}
END_TEST

/* nor do signals hurt those calls that wait for the processes they make. */
static void counts_in_loop(size_t i, void *count) {
    (void)i;
    BUMP((int *)count);
}

START_TEST(signals_do_not_hurt_what_starts_processes) {
    int *count = shared_ints(), rounds = (int)(40 / SLOW), code, five = 5;
    first_use();
    signal_storm((long)(5000 * SLOW));
    for (int i = 0; i < rounds; i++) {
        mproc_process p;
        start(&p, returns, &five);
        ck_assert_int_eq(finish(&p), 5);
        pid_t pid = mproc_fork();
        if (pid == 0) mproc_exit(6);
        ck_assert_int_eq(mproc_wait(pid, &code, MPROC_FOREVER), 0);
        ck_assert_int_eq(code, 6);
        pid = mproc_fork_detached();
        if (pid == 0) mproc_exit(BUMP(&count[1]) < 0);
        ck_assert_int_gt(pid, 0);
        mproc_pool *pool = mproc_pool_new(1);
        ck_assert_ptr_nonnull(pool);
        ck_assert_int_eq(mproc_pool_apply(pool, has_no_stdio, NULL, 0, NULL, 0), MPROC_EFAILED);
        ck_assert_int_eq(mproc_pool_free(pool), 0);
        ck_assert_int_eq(mproc_parallel_for(10, 2, counts_in_loop, count), 0);
        ck_assert_int_eq(PEEK(count), 10 * (i + 1));
        ck_assert(no_children());
    }
    signal_storm(0);
    EVENTUALLY(PEEK(&count[1]) == rounds);
}
END_TEST

static void expect_unknown_status(mproc_process *p, double seconds) {
    TAKES(0, seconds, ck_assert_int_eq(mproc_process_join(p, MPROC_FOREVER), -ECHILD));
    TAKES(0, 0.05, ck_assert_int_eq(mproc_process_join(p, 0), -ECHILD));
    ck_assert(!mproc_process_is_alive(p));
    ck_assert_int_eq(p->exitcode, MPROC_NO_EXITCODE);
    ck_assert_int_lt(mproc_process_kill(p), 0);
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(mproc_process_close(p), 0);
    ck_assert_int_eq(mproc_process_close(p), 0);
}

/* X-04 a, b */
START_TEST(join_where_the_kernel_drops_the_status) {
    for (int flag = 0; flag <= 1; flag++) {
        struct sigaction action = {.sa_handler = flag ? SIG_DFL : SIG_IGN,
                                   .sa_flags = flag ? SA_NOCLDWAIT : 0};
        ck_assert_int_eq(sigaction(SIGCHLD, &action, NULL), 0);
        int *go = shared_ints();
        double seconds = 0.2;
        mproc_process p, q, r, *list[1] = {&q};
        start(&p, naps, &seconds);
        TAKES(0, 0.05, ck_assert_int_eq(mproc_process_join(&p, 0), MPROC_ETIMEDOUT));
        ck_assert(mproc_process_is_alive(&p));
        ck_assert_uint_eq(active(), 1);
        expect_unknown_status(&p, 0.5);
        start(&q, waits_for, go);
        ck_assert_int_eq(mproc_process_wait_any(list, 1, 0), MPROC_ETIMEDOUT);
        POKE(go, 1);
        ck_assert_int_eq(mproc_process_wait_any(list, 1, 5), 0);
        expect_unknown_status(&q, 0.5);
        start(&r, returns_zero, NULL);
        EVENTUALLY(!mproc_process_is_alive(&r));
        expect_unknown_status(&r, 0.5);
        start(&r, returns_zero, NULL);
        EVENTUALLY(active() == 0);
        expect_unknown_status(&r, 0.5);
        pid_t pid = mproc_fork();
        if (pid == 0) mproc_exit(0);
        ck_assert_int_eq(mproc_wait(pid, NULL, 5), -ECHILD);
    }
}
END_TEST

/* taken by the application's own waitpid */
START_TEST(join_where_somebody_else_took_the_status) {
    mproc_process p;
    int status = 0, two = 2;
    start(&p, returns, &two);
    ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
    ck_assert_int_eq(WEXITSTATUS(status), 2);
    expect_unknown_status(&p, 0.05);
    start(&p, returns, &two);
    ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
    ck_assert(!mproc_process_is_alive(&p));
    expect_unknown_status(&p, 0.05);
    start(&p, returns, &two);
    ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid);
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(mproc_process_close(&p), 0);
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(mproc_wait(pid, NULL, MPROC_FOREVER), -ECHILD);
    ck_assert_int_eq(mproc_reap(), 0);
}
END_TEST

/* X-04 c */
static void takes_all(int signal_number) {
    int saved = errno;
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    errno = saved;
}

START_TEST(join_beside_a_handler_that_takes_all) {
    struct sigaction action = {.sa_handler = takes_all};
    ck_assert_int_eq(sigaction(SIGCHLD, &action, NULL), 0);
    for (int i = 0; i < 50; i++) {
        mproc_process p;
        int seven = 7;
        start(&p, returns, &seven);
        int error = mproc_process_join(&p, 10 * SLOW);
        ck_assert(error == 0 || error == -ECHILD);
        ck_assert_int_eq(p.exitcode, error == 0 ? 7 : MPROC_NO_EXITCODE);
        ck_assert(!mproc_process_is_alive(&p));
        ck_assert_int_eq(mproc_process_close(&p), 0);
    }
    ck_assert_uint_eq(active(), 0);
}
END_TEST

/* pools and loops, whose children these are, are no worse for it */
static void counts_and_dies_at_three(size_t i, void *count) {
    BUMP((int *)count);
    if (i == 3) raise(SIGKILL);
}

START_TEST(pools_and_loops_where_somebody_else_takes_statuses) {
    void (*const handlers[])(int) = {SIG_IGN, SIG_DFL, takes_all};
    for (int way = 0; way < 3; way++) {
        struct sigaction action = {.sa_handler = handlers[way], .sa_flags = way == 1 ? SA_NOCLDWAIT : 0};
        ck_assert_int_eq(sigaction(SIGCHLD, &action, NULL), 0);
        int *count = shared_ints();
        mproc_pool *pool = mproc_pool_new(2);
        ck_assert_ptr_nonnull(pool);
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(mproc_pool_apply(pool, has_no_stdio, NULL, 0, NULL, 0), MPROC_EFAILED);
            ck_assert_int_eq(mproc_pool_apply(pool, dies_in_worker, NULL, 0, NULL, 0), MPROC_ECRASHED);
        }
        ck_assert_int_eq(mproc_pool_close(pool), 0);
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_join(pool, 10 * SLOW), 0));
        ck_assert_int_eq(mproc_pool_free(pool), 0);
        ck_assert_ptr_nonnull(pool = mproc_pool_new(1));
        TAKES(0, 1, ck_assert_int_eq(mproc_pool_free(pool), 0));
        TAKES(0, 1, ck_assert_int_eq(mproc_parallel_for(50, 3, counts_in_loop, count), 0));
        ck_assert_int_eq(PEEK(count), 50);
        TAKES(0, 1,
              ck_assert_int_eq(mproc_parallel_for(50, 3, counts_and_dies_at_three, count), MPROC_ECRASHED));
        ck_assert_int_eq(PEEK(count), 100);
        ck_assert(no_children());
        ck_assert_uint_eq(active(), 0);
    }
}
END_TEST

/* ---- Misuse -------------------------------------------------------------------------------------------- */

START_TEST(null_nan_and_no_function_are_refused) {
    mproc_process nothing = {0};
    ck_assert_int_eq(mproc_process_start(NULL), -EINVAL);
    ck_assert_int_eq(mproc_process_start(&nothing), -EINVAL);
    ck_assert_int_eq(mproc_process_join(NULL, 0), -EINVAL);
    ck_assert_int_eq(mproc_process_terminate(NULL), -EINVAL);
    ck_assert_int_eq(mproc_process_kill(NULL), -EINVAL);
    ck_assert_int_le(mproc_process_close(NULL), 0);
    ck_assert_int_eq(mproc_process_fd(NULL), -EINVAL);
    ck_assert(!mproc_process_is_alive(NULL));
    ck_assert(no_children());
    mproc_process p;
    start(&p, sleeps, NULL);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_process_join(&p, (double)NAN), -EINVAL));
    ck_assert(mproc_process_is_alive(&p));
    kill_and_finish(&p);
}
END_TEST

/* */
START_TEST(double_start_is_refused) {
    int *go = shared_ints();
    mproc_process p;
    start(&p, waits_for, go);
    pid_t pid = p.pid;
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_process_start(&p), -EALREADY);
    ck_assert_int_eq(p.pid, pid);
    ck_assert_uint_eq(active(), 1);
    POKE(go, 1);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(mproc_process_start(&p), -EALREADY);
    ck_assert_int_eq(p.exitcode, 0);
    ck_assert(no_children());
}
END_TEST

/* */
static int meddles(void *arg) {
    mproc_process *other = arg;
    double begin = now();
    OR_RETURN(mproc_process_join(other, MPROC_FOREVER) == -ECHILD);
    OR_RETURN(mproc_process_join(other, 0) == -ECHILD);
    OR_RETURN(mproc_process_terminate(other) == -ECHILD);
    OR_RETURN(mproc_process_kill(other) == -ECHILD);
    OR_RETURN(mproc_process_fd(other) == -ECHILD);
    OR_RETURN(mproc_process_wait_any(&other, 1, 0) == -ECHILD);
    OR_RETURN(!mproc_process_is_alive(other));
    OR_RETURN(mproc_process_close(other) < 0);
    OR_RETURN(now() - begin < 1 * SLOW);
    OR_RETURN(active() == 0);
    return 0;
}

START_TEST(only_the_parent_may_join_and_signal) {
    mproc_process p, sibling;
    start(&p, sleeps, NULL);
    start(&sibling, meddles, &p);
    ck_assert_int_eq(finish(&sibling), 0);
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_eq(p.exitcode, MPROC_NO_EXITCODE);
    kill_and_finish(&p);
}
END_TEST

/* A handle is for the library to check, not to trust. */
START_TEST(scribbled_pid_sends_no_signal_elsewhere) {
    mproc_process p;
    start(&p, sleeps, NULL);
    pid_t pid = p.pid;
    p.pid = -1;
    ck_assert_int_eq(mproc_process_kill(&p), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    ck_assert_int_eq(p.exitcode, -SIGKILL);
    ck_assert(process_gone(pid));
}
END_TEST

/* ---- Threads ------------------------------------------------------------------------------------------- */

enum { JOINERS = 8 };

typedef struct joiner {
    mproc_process *process;
    int error, code;
    bool alive;
} joiner;

static void *joins(void *arg) {
    joiner *j = arg;
    j->error = mproc_process_join(j->process, 10 * SLOW);
    j->code = j->process->exitcode;
    j->alive = mproc_process_is_alive(j->process);
    return NULL;
}

/* */
START_TEST(threads_join_the_same_child) {
    for (int round = 0; round < 50; round++) {
        int *go = shared_ints();
        mproc_process p;
        start(&p, waits_for, go);
        joiner j[JOINERS];
        pthread_t thread[JOINERS];
        for (int i = 0; i < JOINERS; i++) {
            j[i] = (joiner){&p, 1, 1, true};
            ck_assert_int_eq(pthread_create(&thread[i], NULL, joins, &j[i]), 0);
        }
        POKE(go, 1);
        for (int i = 0; i < JOINERS; i++) {
            pthread_join(thread[i], NULL);
            ck_assert_int_eq(j[i].error, 0);
            ck_assert_int_eq(j[i].code, 0);
            ck_assert(!j[i].alive);
        }
        ck_assert_int_eq(mproc_process_close(&p), 0);
        munmap(go, 4096);
    }
    ck_assert(no_children());
}
END_TEST

static void *starts_and_joins_many(void *arg) {
    int *failures = arg;
    for (int round = 0; round < 25; round++) {
        int codes[4] = {round, round + 50, round + 100, round + 150};
        mproc_process p[4];
        for (int i = 0; i < 4; i++) {
            p[i] = (mproc_process){.target = returns, .arg = &codes[i]};
            if (mproc_process_start(&p[i]) != 0) BUMP(failures);
        }
        for (int i = 0; i < 4; i++) {
            if (mproc_process_join(&p[i], 10 * SLOW) != 0) BUMP(failures);
            if (p[i].exitcode != codes[i]) BUMP(failures);
            if (mproc_process_is_alive(&p[i])) BUMP(failures);
            if (mproc_process_close(&p[i]) != 0) BUMP(failures);
        }
    }
    return NULL;
}

/* */
START_TEST(eight_threads_start_and_join_their_own) {
    first_use();
    int failures = 0, fds = open_fds();
    pthread_t thread[8];
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, starts_and_joins_many, &failures), 0);
    for (int i = 0; i < 8; i++) pthread_join(thread[i], NULL);
    ck_assert_int_eq(failures, 0);
    ck_assert(no_children());
    ck_assert_int_eq(open_fds(), fds);
    ck_assert_uint_eq(active(), 0);
}
END_TEST

static void *asks_in_a_loop(void *arg) {
    int *stop = arg;
    pid_t pids[8];
    while (PEEK(stop) == 0) mproc_active_children(pids, 8);
    return NULL;
}

/* active_children collects what another thread is just joining */
START_TEST(join_beside_active_children_gets_the_exit_code) {
    int stop = 0, seven = 7;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, asks_in_a_loop, &stop), 0);
    for (int i = 0; i < 100; i++) {
        mproc_process p;
        start(&p, returns, &seven);
        ck_assert_int_eq(finish(&p), 7);
    }
    POKE(&stop, 1);
    pthread_join(thread, NULL);
}
END_TEST

/* ---- Processors ---------------------------------------------------------------------------------------- */

/* PROC-18 */
START_TEST(cpu_count_honours_the_affinity) {
    cpu_set_t all, one;
    int before = mproc_cpu_count();
    ck_assert_int_ge(before, 1);
    ck_assert_int_le(before, (int)sysconf(_SC_NPROCESSORS_CONF));
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    ck_assert_int_le(before, CPU_COUNT(&all));
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
            break;
        }
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_int_eq(mproc_cpu_count(), 1);
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
    ck_assert_int_eq(mproc_cpu_count(), before);
}
END_TEST

static bool write_text(const char *folder, const char *file, const char *text) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) close(fd);
    return done;
}

typedef struct quota {
    char folder[96]; /* of the cgroup, "" none could be made */
    bool v2;         /* cpu.max, else cpu.cfs_quota_us */
} quota;

/* A cgroup of this test's own, below the root of whichever hierarchy has the cpu controller. */
static bool make_cgroup(quota *q) {
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"};
    for (size_t i = 0; i < 3; i++) {
        char knob[128];
        q->v2 = i == 0;
        snprintf(q->folder, sizeof q->folder, "%s/mproc-test-%d", roots[i], (int)getpid());
        if (mkdir(q->folder, 0755) != 0) continue;
        if (q->v2) write_text(roots[i], "cgroup.subtree_control", "+cpu");
        snprintf(knob, sizeof knob, "%s/%s", q->folder, q->v2 ? "cpu.max" : "cpu.cfs_quota_us");
        if (access(knob, W_OK) == 0) return true;
        rmdir(q->folder);
    }
    return false;
}

static bool set_quota(const quota *q, int percent) {
    char text[32];
    snprintf(text, sizeof text, q->v2 ? "%d 100000" : "%d", percent * 1000);
    return write_text(q->folder, q->v2 ? "cpu.max" : "cpu.cfs_quota_us", text) &&
           (q->v2 || write_text(q->folder, "cpu.cfs_period_us", "100000"));
}

static int counts_cpus_in_cgroup(void *arg) {
    const quota *q = arg;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (!write_text(q->folder, "cgroup.procs", pid)) return 98;
    return mproc_cpu_count();
}

START_TEST(cpu_count_honours_the_cgroup_quota) {
    quota q;
    if (!make_cgroup(&q)) {
        printf("skipped: no cgroup with a cpu controller can be made here (%s)\n", strerror(errno));
        return;
    }
    const int percents[][2] = {{50, 1}, {100, 1}, {101, 2}, {150, 2}, {6400, 64}};
    int cpus = mproc_cpu_count(), wrong = 0;
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        int expected = percents[i][1] < cpus ? percents[i][1] : cpus;
        mproc_process p;
        if (!set_quota(&q, percents[i][0])) continue;
        start(&p, counts_cpus_in_cgroup, &q);
        int counted = finish(&p);
        if (counted == 98) printf("skipped: cannot enter the cgroup\n");
        else if (counted != expected)
            wrong = printf("%d%%: counted %d, not %d\n", percents[i][0], counted, expected);
    }
    EVENTUALLY(rmdir(q.folder) == 0);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

SUITE_MAIN(
    "process", main_program_is_the_main_process, not_started_is_not_alive_and_refuses_calls,
    alive_and_active_from_start_to_join, child_sees_its_name_pid_parent_and_one_thread,
    child_receives_its_arguments_and_answers_over_a_queue,
    arguments_of_any_size_are_seen_as_they_were_at_start,
    daemon_flag_is_false_unless_set_and_seen_in_the_child, default_names_count_up,
    name_may_lie_in_memory_that_changes_after_start, run_gets_the_embedding_struct,
    grandchild_notices_the_death_of_its_parent, sibling_does_not_hide_the_death_of_the_parent,
    children_start_children_in_depth_first_order, nothing_grows_with_the_generations,
    child_passes_a_queue_on_to_a_grandchild, child_makes_its_own_queue_and_daemon,
    long_lived_child_serves_requests_until_told_to_quit, join_with_timeout_zero_polls,
    join_within_another_wait_keeps_what_that_says, negative_timeout_joins_for_ever, join_keeps_its_timeout,
    waiting_costs_no_cpu, join_again_is_0_at_once, is_alive_collects_the_exit_code, interrupted_join_goes_on,
    grandchild_with_inherited_fds_does_not_delay_join, child_that_execs_is_timed_right,
    death_by_signal_is_minus_the_signal, child_that_handles_the_signal_chooses_its_code,
    child_that_ignores_sigterm_needs_kill, stopped_child_is_alive_until_killed,
    stop_and_continue_are_not_an_end, hundred_terminated_right_after_start, no_signal_after_join,
    recycled_pid_gets_no_signal, recycled_pid_gets_no_signal_where_no_pidfd_tells,
    recycled_pid_is_not_the_parent, exit_code_by_return_and_by_every_exit,
    exit_code_of_deaths_ignores_the_core_flag, text_of_a_failing_child_is_flushed,
    thread_of_a_child_does_not_delay_its_end, works_with_closed_stdio_and_stays_off_its_numbers,
    works_with_stdout_to_a_broken_pipe, child_may_close_its_stdio,
    fd_becomes_readable_at_the_end_and_stays_so, wait_any_gives_the_lowest_that_ended_and_joins_none,
    wait_any_serves_many, wait_any_rests_where_descriptors_are_fewer, sentinel_of_one_that_was_collected,
    wait_any_leaves_nothing_of_what_others_join, wait_any_refuses_what_is_no_child_of_mine,
    close_is_refused_while_running_and_final_afterwards, close_collects_an_ended_child_that_nobody_joined,
    two_hundred_rounds_leave_nothing, forgotten_children_are_collected_by_active_children,
    forgotten_children_are_collected_by_later_starts, no_zombie_by_any_way_to_end,
    active_children_respects_the_capacity, hundred_children_all_end_with_0,
    children_do_not_inherit_fds_of_their_siblings, refused_fork_leaves_nothing_and_may_be_tried_again,
    too_few_fds_are_an_error_that_leaves_nothing, works_where_pidfds_are_refused,
    signal_state_of_the_caller_is_left_alone, signal_state_is_left_alone_by_all_objects_and_loops,
    signals_do_not_hurt_what_starts_processes, pools_and_loops_where_somebody_else_takes_statuses,
    join_where_the_kernel_drops_the_status, join_where_somebody_else_took_the_status,
    join_beside_a_handler_that_takes_all, null_nan_and_no_function_are_refused, double_start_is_refused,
    only_the_parent_may_join_and_signal, scribbled_pid_sends_no_signal_elsewhere, threads_join_the_same_child,
    eight_threads_start_and_join_their_own, join_beside_active_children_gets_the_exit_code,
    cpu_count_honours_the_affinity, cpu_count_honours_the_cgroup_quota, odd_timeouts_of_every_way_to_wait)
