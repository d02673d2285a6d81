/* How programs, children and daemons end, and what they leave behind: nothing. Most tests run a whole program
   and read its text to the end, which comes when the last process that holds its stdout has gone. */
#define MPROC_IMPLEMENTATION
#define MPROC_EXIT_GRACE 0.5
#include "support.h"
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* A promise of one second, with room for a loaded machine. */
#define WITHIN_A_SECOND (2.0 * SLOW)

/* ---- Targets and helpers ------------------------------------------------------------------------------- */

static void say(const char *words) { dprintf(1, "%s\n", words); }

static int returns_zero(void *arg) {
    (void)arg;
    return 0;
}

/* Longer than any test lasts: whoever waits for it has failed. */
static int sleeps(void *arg) {
    (void)arg;
    nap(25 * SLOW);
    return 0;
}

static bool start_one(int (*target)(void *), void *arg, bool daemon) {
    mproc_process p = {.target = target, .arg = arg, .daemon = daemon};
    return mproc_process_start(&p) == 0;
}

/* ---- Standard streams ---------------------------------------------------------------------------------- */

/* PROC-41 */
static int prints_123(void *arg) {
    (void)arg;
    printf("123\n");
    return 0;
}

static int starts_and_joins(void *arg) {
    mproc_process p = {.target = prints_123, .arg = arg};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, 10) == 0);
    return p.exitcode;
}

START_TEST(target_runs_once_and_nothing_else_of_main) {
    program p;
    program_start(&p, starts_and_joins, NULL);
    ck_assert_int_eq(program_ends(&p, 10), 0);
    ck_assert_str_eq(p.text, "123\n");
}
END_TEST

/* */
static int leaves_by_libc(void *arg) {
    (void)arg;
    exit(0);
}

static int prints_x_in_worker(const void *arg, void *result) {
    (void)arg;
    (void)result;
    printf("x");
    return 0;
}

static int prints_once(void *arg) {
    (void)arg;
    setvbuf(stdout, NULL, _IOFBF, 4096);
    printf("once");
    mproc_process a = {.target = returns_zero}, b = {.target = leaves_by_libc}, c = {.target = sleeps};
    OR_RETURN(mproc_process_start(&a) == 0);
    OR_RETURN(mproc_process_start(&b) == 0);
    OR_RETURN(mproc_process_start(&c) == 0);
    OR_RETURN(mproc_process_kill(&c) == 0);
    OR_RETURN(mproc_process_join(&a, 10) == 0 && mproc_process_join(&b, 10) == 0);
    OR_RETURN(mproc_process_join(&c, 10) == 0);
    printf(", fork");
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(0);
    OR_RETURN(mproc_wait(pid, NULL, 10) == 0);
    printf(", detached");
    pid = mproc_fork_detached();
    if (pid == 0) mproc_exit(0);
    OR_RETURN(pid > 0);
    printf(", pool ");
    mproc_pool *pool = mproc_pool_new(2);
    OR_RETURN(pool != NULL);
    OR_RETURN(mproc_pool_apply(pool, prints_x_in_worker, NULL, 0, NULL, 0) == 0);
    OR_RETURN(mproc_pool_close(pool) == 0 && mproc_pool_join(pool, 10) == 0);
    return mproc_pool_free(pool);
}

START_TEST(buffered_text_is_printed_once) {
    program p;
    program_start(&p, prints_once, NULL);
    ck_assert_msg(program_ends(&p, 10) == 0, "%s", p.text);
    ck_assert_str_eq(p.text, "once, fork, detached, pool x");
}
END_TEST

/* PROC-39 */
START_TEST(text_for_a_file_is_written_once) {
    char folder[64], path[80];
    snprintf(path, sizeof path, "%s/file", make_folder(folder));
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs("foo", file);
    mproc_process p = {.target = returns_zero};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    ck_assert_int_eq(mproc_process_join(&p, 10), 0);
    fclose(file);
    ck_assert_str_eq(slurp(path), "foo");
    remove_folder(folder);
}
END_TEST

/* ---- atexit handlers and destructors ------------------------------------------------------------------- */

static bool tell_of_destructor;
static void at_exit(void) { dprintf(1, "handler in %d\n", (int)getpid()); }

__attribute__((destructor)) static void destroyed(void) {
    if (tell_of_destructor) dprintf(1, "destructor in %d\n", (int)getpid());
}

static int leaves_by_library(void *arg) { mproc_exit(*(int *)arg); }

static int nothing_in_worker(const void *arg, void *result) {
    (void)arg;
    (void)result;
    return 0;
}

static int has_handlers(void *arg) {
    int code = 7;
    tell_of_destructor = true;
    atexit(at_exit);
    say("start");
    mproc_process a = {.target = returns_zero}, b = {.target = leaves_by_library, .arg = &code};
    OR_RETURN(mproc_process_start(&a) == 0 && mproc_process_start(&b) == 0);
    OR_RETURN(mproc_process_join(&a, 10) == 0 && a.exitcode == 0);
    OR_RETURN(mproc_process_join(&b, 10) == 0 && b.exitcode == 7);
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(7);
    OR_RETURN(mproc_wait(pid, &code, 10) == 0 && code == 7);
    if (mproc_fork_detached() == 0) mproc_exit(0);
    mproc_pool *pool = mproc_pool_new(1);
    OR_RETURN(pool != NULL);
    OR_RETURN(mproc_pool_apply(pool, nothing_in_worker, NULL, 0, NULL, 0) == 0);
    OR_RETURN(mproc_pool_close(pool) == 0 && mproc_pool_join(pool, 10) == 0);
    OR_RETURN(mproc_pool_free(pool) == 0);
    if (arg != NULL) mproc_exit(5); /* in the main program: exit(3) */
    return 5;
}

/* */
START_TEST(handlers_and_destructors_run_in_the_main_program_only) {
    char by_library[] = "by mproc_exit", expected[128];
    char *const how[] = {NULL, by_library};
    for (int i = 0; i < 2; i++) {
        program p;
        program_start(&p, has_handlers, how[i]);
        ck_assert_msg(program_ends(&p, 10) == 5, "%s", p.text);
        snprintf(expected, sizeof expected, "start\nhandler in %d\ndestructor in %d\n", (int)p.pid,
                 (int)p.pid);
        ck_assert_str_eq(p.text, expected);
    }
}
END_TEST

/* a child that calls exit(3) itself runs inherited handlers; the library's own must hold still */
static int *sibling_done;

static int waits_then_is_done(void *arg) {
    (void)arg;
    nap(0.3);
    POKE(sibling_done, 1);
    return 0;
}

static int starts_one_that_calls_exit(void *arg) {
    (void)arg;
    mproc_process slow = {.target = waits_then_is_done}, daemon = {.target = sleeps, .daemon = true};
    mproc_process leaver = {.target = leaves_by_libc};
    sibling_done = shared_ints();
    OR_RETURN(mproc_process_start(&slow) == 0 && mproc_process_start(&daemon) == 0);
    OR_RETURN(mproc_process_start(&leaver) == 0);
    double begin = now();
    OR_RETURN(mproc_process_join(&leaver, 10) == 0 && leaver.exitcode == 0);
    OR_RETURN(PEEK(sibling_done) == 0 || now() - begin > 0.25);
    OR_RETURN(mproc_process_is_alive(&daemon));
    OR_RETURN(mproc_process_join(&slow, 10) == 0 && slow.exitcode == 0);
    return 0;
}

START_TEST(child_calling_exit_leaves_its_siblings_alone) {
    program p;
    program_start(&p, starts_one_that_calls_exit, NULL);
    ck_assert_msg(program_ends(&p, 10) == 0, "%s", p.text);
}
END_TEST

/* ---- Non-daemon children at exit ----------------------------------------------------------------------- */

static int naps_and_says(void *arg) {
    nap(0.4);
    printf("%s\n", (char *)arg);
    return 0;
}

static char child_done[] = "child done", grandchild_done[] = "grandchild done";

/* EXIT-08 */
static int leaves_main_with_a_child(void *arg) {
    OR_RETURN(start_one(naps_and_says, child_done, false));
    printf("main end\n");
    if (arg != NULL) mproc_exit(3);
    return 3;
}

START_TEST(main_waits_for_its_non_daemon_child) {
    for (int by_library = 0; by_library <= 1; by_library++) {
        program p;
        program_start(&p, leaves_main_with_a_child, by_library ? child_done : NULL);
        TAKES(0.39, 1, ck_assert_int_eq(program_ends(&p, 10), 3));
        ck_assert_str_eq(p.text, "main end\nchild done\n"); /* flushed before main waits */
    }
}
END_TEST

static int leaves_a_grandchild_running(void *arg) {
    OR_RETURN(start_one(naps_and_says, grandchild_done, false));
    OR_RETURN(start_one(sleeps, NULL, true));
    if (arg != NULL) mproc_exit(4);
    return 4;
}

static int joins_one_with_a_grandchild(void *arg) {
    mproc_process p = {.target = leaves_a_grandchild_running, .arg = arg};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, 10) == 0);
    printf("joined\n");
    return p.exitcode;
}

START_TEST(child_joins_its_children_and_ends_its_daemons) {
    for (int by_library = 0; by_library <= 1; by_library++) {
        program p;
        program_start(&p, joins_one_with_a_grandchild, by_library ? child_done : NULL);
        ck_assert_int_eq(program_ends(&p, 10), 4);
        ck_assert_str_eq(p.text, "grandchild done\njoined\n");
    }
}
END_TEST

static int forked_child_with_a_grandchild(void *arg) {
    int code = 0;
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(leaves_a_grandchild_running(arg));
    OR_RETURN(mproc_wait(pid, &code, 10) == 0);
    printf("joined\n");
    return code;
}

START_TEST(mproc_exit_of_a_forked_child_joins_its_children) {
    program p;
    program_start(&p, forked_child_with_a_grandchild, NULL);
    ck_assert_int_eq(program_ends(&p, 10), 4);
    ck_assert_str_eq(p.text, "grandchild done\njoined\n");
}
END_TEST

/* Children of mproc_fork are the caller's: main neither waits for them nor ends them. */
static int leaves_forked_children(void *ready) {
    for (int i = 0; i < 2; i++)
        if ((i == 0 ? mproc_fork() : mproc_fork_detached()) == 0) {
            double give_up = now() + 10 * SLOW;
            while (PEEK((int *)ready) == 0 && now() < give_up) nap(0.001);
            say("still here");
            mproc_exit(0);
        }
    say("main end");
    return 0;
}

START_TEST(forked_children_outlive_the_main_program) {
    int status = 0, *ready = shared_ints();
    program p;
    program_start(&p, leaves_forked_children, ready);
    program_says(&p, "main end\n");
    TAKES(0, 1, ck_assert_int_eq(waitpid(p.pid, &status, 0), p.pid));
    ck_assert_int_eq(status, 0);
    ck_assert(!program_gone(&p, 0.1));
    POKE(ready, 1);
    ck_assert(program_gone(&p, WITHIN_A_SECOND));
    ck_assert_str_eq(p.text, "main end\nstill here\nstill here\n");
}
END_TEST

/* ---- Daemons ------------------------------------------------------------------------------------------- */

/* How a daemon may try to stay. */
enum habit { SLEEPING, IGNORING, BLOCKING, STOPPED, SPINNING, HABITS, CLOSING, EXECUTING };

typedef struct daemon_case {
    enum habit habit;
    bool from_thread; /* started by a thread that has ended since */
    bool returns;     /* main returns once the daemon is up; else it waits to be killed */
    int *up;          /* set by the daemon; shared */
} daemon_case;

static int stays(void *arg) {
    daemon_case *c = arg;
    sigset_t all;
    sigfillset(&all);
    if (c->habit == IGNORING)
        for (int i = 1; i < 32; i++) signal(i, SIG_IGN);
    if (c->habit == BLOCKING) sigprocmask(SIG_SETMASK, &all, NULL);
    say("daemon up");
    if (c->up != NULL) BUMP(c->up); /* main may end us from here on */
    for (int fd = 3; c->habit == CLOSING && fd < 1024; fd++) close(fd);
    if (c->habit == EXECUTING) execlp("sleep", "sleep", "20", (char *)NULL);
    if (c->habit == STOPPED) raise(SIGSTOP);
    double give_up = now() + 20 * SLOW;
    while (c->habit == SPINNING && now() < give_up) continue;
    nap(20 * SLOW);
    return 0;
}

typedef struct thread_job {
    int (*target)(void *);
    void *arg;
    mproc_process process;
    int error;
    pid_t thread;
} thread_job;

static void *starts_daemon_in_thread(void *arg) {
    thread_job *job = arg;
    job->thread = (pid_t)syscall(SYS_gettid);
    job->process = (mproc_process){.target = job->target, .arg = job->arg, .daemon = true};
    job->error = mproc_process_start(&job->process);
    return NULL;
}

/* Starts a daemon from a thread and sees the thread go, from the kernel too. */
static bool start_from_thread(thread_job *job, int (*target)(void *), void *arg) {
    pthread_t thread;
    char path[64];
    *job = (thread_job){.target = target, .arg = arg, .error = 1};
    if (pthread_create(&thread, NULL, starts_daemon_in_thread, job) != 0) return false;
    pthread_join(thread, NULL);
    snprintf(path, sizeof path, "/proc/self/task/%d", (int)job->thread);
    while (access(path, F_OK) == 0) nap(0.001);
    return job->error == 0;
}

static int has_a_daemon(void *arg) {
    daemon_case *c = arg;
    thread_job job = {.error = 0};
    if (c->from_thread) {
        OR_RETURN(start_from_thread(&job, stays, c));
    } else {
        job.process = (mproc_process){.target = stays, .arg = c, .daemon = true};
        OR_RETURN(mproc_process_start(&job.process) == 0);
    }
    while (PEEK(c->up) == 0) nap(0.001);
    while (c->habit == STOPPED && process_state(job.process.pid) != 'T') nap(0.001);
    if (c->habit == CLOSING || c->habit == EXECUTING) nap(0.1); /* has it? more than likely */
    say("main ready");
    if (!c->returns) nap(20 * SLOW);
    return 0;
}

static const char *const habit_names[] = {"sleeping", "ignoring",   "blocking", "stopped",
                                          "spinning", "fd closing", "executing"};

/* EXIT-09, X-21, X-22: returning from main ends daemons: SIGTERM, a grace, SIGKILL */
START_TEST(daemons_end_when_main_returns) {
    for (int thread = 0; thread <= 1; thread++)
        for (int habit = SLEEPING; habit < HABITS; habit++) {
            daemon_case c = {(enum habit)habit, thread, true, shared_ints()};
            program p;
            double begin = now();
            program_start(&p, has_a_daemon, &c);
            program_says(&p, "daemon up");
            int code = program_ends(&p, 8);
            double took = now() - begin;
            ck_assert_msg(code == 0, "%s daemon: main ended with %d: %s", habit_names[habit], code, p.text);
            ck_assert_msg(took < MPROC_EXIT_GRACE + WITHIN_A_SECOND, "%s daemon: took %g s",
                          habit_names[habit], took);
        }
}
END_TEST

/* X-16, P7: however the parent ends. All cases run; the failure lists the daemons that were left. */
START_TEST(daemons_end_when_main_dies) {
    const int ends[] = {SIGKILL, SIGTERM};
    char left[1024] = "";
    for (size_t e = 0; e < sizeof ends / sizeof *ends; e++)
        for (int thread = 0; thread <= 1; thread++)
            for (int habit = SLEEPING; habit < HABITS; habit++) {
                daemon_case c = {(enum habit)habit, thread, false, shared_ints()};
                program p;
                program_start(&p, has_a_daemon, &c);
                program_says(&p, "daemon up");
                program_says(&p, "main ready");
                kill(p.pid, ends[e]);
                if (program_gone(&p, WITHIN_A_SECOND)) {
                    ck_assert_int_eq(program_ends(&p, 5), -ends[e]);
                    continue;
                }
                size_t n = strlen(left);
                snprintf(left + n, sizeof left - n, "%s%s (signal %d); ", habit_names[habit],
                         thread ? " of an ended thread" : "", ends[e]);
            }
    ck_assert_msg(left[0] == 0, "a second after main died there are daemons: %s", left);
}
END_TEST

/* What such a daemon inherited from the library is gone, by closefrom() or by exec. */
START_TEST(daemons_that_close_all_fds_or_execute_end_when_main_dies) {
    bool gone[2];
    for (int i = 0; i < 2; i++) {
        daemon_case c = {i == 0 ? CLOSING : EXECUTING, false, false, shared_ints()};
        program p;
        program_start(&p, has_a_daemon, &c);
        program_says(&p, "daemon up");
        program_says(&p, "main ready");
        kill(p.pid, SIGKILL);
        gone[i] = program_gone(&p, WITHIN_A_SECOND);
    }
    ck_assert_msg(gone[0] && gone[1], "left: %s%s", gone[0] ? "" : "the one that closed all, ",
                  gone[1] ? "" : "the one that executed a program");
}
END_TEST

static int leaves_without_handlers(void *arg) {
    daemon_case c = {SLEEPING, false, false, NULL};
    mproc_process p = {.target = stays, .arg = &c, .daemon = true};
    (void)arg;
    OR_RETURN(mproc_process_start(&p) == 0);
    _exit(6);
}

START_TEST(daemons_end_when_main_calls_underscore_exit) {
    program p;
    program_start(&p, leaves_without_handlers, NULL);
    ck_assert(program_gone(&p, WITHIN_A_SECOND));
    ck_assert_int_eq(program_ends(&p, 5), 6);
}
END_TEST

/* the kill may come while the daemon is still setting itself up */
static int is_killed_after_start(void *arg) {
    daemon_case c = {BLOCKING, false, false, NULL};
    mproc_process p = {.target = stays, .arg = &c, .daemon = true};
    mproc_process_start(&p);
    for (volatile int spin = *(int *)arg; spin > 0; spin--) continue;
    kill(getpid(), SIGKILL);
    return 99;
}

START_TEST(daemon_ends_when_main_is_killed_right_after_start) {
    for (int i = 0; i < 60; i++) {
        program p;
        int spin = i * 4000;
        program_start(&p, is_killed_after_start, &spin);
        ck_assert_msg(program_gone(&p, WITHIN_A_SECOND), "round %d: a daemon was left", i);
        ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
    }
}
END_TEST

/* the orphan's new parent is not process 1 */
START_TEST(daemon_ends_under_a_subreaper) {
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (int thread = 0; thread <= 1; thread++) {
        daemon_case c = {SLEEPING, thread, false, shared_ints()};
        program p;
        program_start(&p, has_a_daemon, &c);
        program_says(&p, "daemon up");
        program_says(&p, "main ready");
        kill(p.pid, SIGKILL);
        ck_assert(program_gone(&p, WITHIN_A_SECOND));
        ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
    }
}
END_TEST

/* the parent is process 1, so a daemon whose parent is 1 is no orphan */
static int runs_as_process_1(int *pid) {
    daemon_case c = {SLEEPING, false, false, NULL};
    mproc_process p = {.target = stays, .arg = &c, .daemon = true};
    OR_RETURN(getpid() == 1);
    OR_RETURN(mproc_process_start(&p) == 0);
    nap(0.3);
    OR_RETURN(mproc_process_is_alive(&p));
    say("main ready");
    while (PEEK(pid) == 0) nap(0.001);
    nap(20 * SLOW);
    return 99;
}

/* Leaves by _exit: what exit() runs here may need processes, which this one cannot have any more. */
static int makes_process_1(void *arg) {
    if (unshare(CLONE_NEWPID) != 0) {
        say("no daemon up, no main ready: pid namespaces are not ours to make");
        return 98;
    }
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) _exit(runs_as_process_1(arg));
    POKE((int *)arg, pid);
    if (waitpid(pid, &status, 0) != pid) _exit(97);
    _exit(WIFSIGNALED(status) ? WTERMSIG(status) : 96);
}

START_TEST(daemon_of_process_1_lives_and_ends_with_it) {
    int *pid = shared_ints();
    program p;
    program_start(&p, makes_process_1, pid);
    program_says(&p, "daemon up");
    program_says(&p, "main ready");
    if (PEEK(pid) > 0) kill(PEEK(pid), SIGKILL);
    ck_assert(program_gone(&p, WITHIN_A_SECOND));
    if (PEEK(pid) == 0) printf("skipped: %s", p.text);
    ck_assert_int_eq(program_ends(&p, 5), PEEK(pid) == 0 ? 98 : SIGKILL);
}
END_TEST

/* The child of a process that has unshared its pid namespace has getppid() == 0 and is no orphan. */
static int starts_into_a_namespace(void *arg) {
    mproc_process p = {.target = stays, .arg = arg, .daemon = true};
    OR_RETURN(unshare(CLONE_NEWPID) == 0);
    OR_RETURN(mproc_process_start(&p) == 0);
    nap(0.3);
    OR_RETURN(mproc_process_is_alive(&p));
    say("main ready");
    nap(20 * SLOW);
    return 99;
}

START_TEST(daemon_in_a_new_pid_namespace_lives_and_ends_with_its_parent) {
    daemon_case c = {SLEEPING, false, false, NULL};
    program p;
    if (geteuid() != 0) {
        printf("skipped: needs root\n");
        return;
    }
    program_start(&p, starts_into_a_namespace, &c);
    program_says(&p, "daemon up");
    program_says(&p, "main ready");
    kill(p.pid, SIGKILL);
    ck_assert(program_gone(&p, WITHIN_A_SECOND));
    ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
}
END_TEST

/* */
static int keeps_a_daemon_of_an_ended_thread(void *arg) {
    thread_job job;
    OR_RETURN(start_from_thread(&job, stays, arg));
    OR_RETURN(mproc_process_join(&job.process, 1) == MPROC_ETIMEDOUT);
    OR_RETURN(mproc_process_is_alive(&job.process));
    OR_RETURN(mproc_process_terminate(&job.process) == 0);
    OR_RETURN(mproc_process_join(&job.process, 5) == 0 && job.process.exitcode == -SIGTERM);
    return 0;
}

START_TEST(daemon_outlives_the_thread_that_started_it) {
    daemon_case c = {SLEEPING, true, false, NULL};
    program p;
    program_start(&p, keeps_a_daemon_of_an_ended_thread, &c);
    ck_assert_msg(program_ends(&p, 10) == 0, "%s", p.text);
}
END_TEST

/* A daemon sees SIGTERM first and may use the grace. */
static volatile sig_atomic_t told;
static void is_told(int signal_number) {
    (void)signal_number;
    told = 1;
}

static int cleans_up(void *up) {
    signal(SIGTERM, is_told);
    say("daemon up");
    POKE((int *)up, 1);
    double give_up = now() + 20 * SLOW;
    while (!told && now() < give_up) nap(0.001);
    say("daemon cleans up");
    return 0;
}

static int lets_a_daemon_clean_up(void *up) {
    OR_RETURN(start_one(cleans_up, up, true));
    while (PEEK((int *)up) == 0) nap(0.001);
    return 0;
}

START_TEST(daemon_may_clean_up_within_the_grace) {
    program p;
    program_start(&p, lets_a_daemon_clean_up, shared_ints());
    TAKES(0, MPROC_EXIT_GRACE, ck_assert_int_eq(program_ends(&p, 10), 0));
    ck_assert_str_eq(p.text, "daemon up\ndaemon cleans up\n");
}
END_TEST

static int starts_ten_stubborn_daemons(void *arg) {
    daemon_case c = {IGNORING, false, false, NULL};
    (void)arg;
    for (int i = 0; i < 10; i++) OR_RETURN(start_one(stays, &c, true));
    return 0;
}

START_TEST(many_daemons_share_one_grace) {
    program p;
    program_start(&p, starts_ten_stubborn_daemons, NULL);
    TAKES(0, MPROC_EXIT_GRACE, ck_assert_int_eq(program_ends(&p, 10), 0));
}
END_TEST

/* ---- What daemons start -------------------------------------------------------------------------------- */

typedef struct tree {
    int levels;      /* of daemons' descendants still to start */
    bool daemons;    /* as what a daemon starts its own */
    int *born, *top; /* how many are up; pid of the first daemon */
} tree;

static int grows(void *arg) {
    tree next = *(tree *)arg;
    if (next.levels-- > 0) OR_RETURN(start_one(grows, &next, next.daemons));
    BUMP(next.born);
    nap(20 * SLOW);
    return 0;
}

static int grows_from_main(void *arg) {
    tree t = *(tree *)arg;
    mproc_process p = {.target = grows, .arg = &t, .daemon = true};
    OR_RETURN(mproc_process_start(&p) == 0);
    POKE(t.top, p.pid);
    nap(20 * SLOW);
    return 99;
}

/* */
START_TEST(what_a_daemon_starts_goes_down_with_it) {
    for (int daemons = 0; daemons <= 1; daemons++)
        for (int victim = 0; victim <= 2; victim++) {
            int *page = shared_ints();
            tree t = {2, daemons, page, page + 1};
            program p;
            program_start(&p, grows_from_main, &t);
            EVENTUALLY(PEEK(t.born) == 3 && PEEK(t.top) != 0);
            if (victim == 0) kill(p.pid, SIGKILL);
            if (victim == 1) kill(PEEK(t.top), SIGKILL);
            if (victim == 2) kill(PEEK(t.top), SIGTERM);
            if (victim != 0) { /* the program goes on without its daemon: only they must go */
                double give_up = now() + WITHIN_A_SECOND;
                while (group_members(getpgrp()) > 2 && now() < give_up) nap(0.01);
                ck_assert_msg(group_members(getpgrp()) == 2,
                              "signal %s to the daemon: its children were left",
                              victim == 1 ? "KILL" : "TERM");
                kill(p.pid, SIGKILL);
            }
            ck_assert_msg(program_gone(&p, WITHIN_A_SECOND), "processes left, victim %d", victim);
            ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
            munmap(page, 4096);
        }
}
END_TEST

static int daemon_with_pool(void *arg) {
    mproc_pool *pool = mproc_pool_new(2);
    OR_RETURN(pool != NULL);
    OR_RETURN(mproc_pool_apply(pool, nothing_in_worker, NULL, 0, NULL, 0) == 0);
    BUMP((int *)arg);
    nap(20 * SLOW);
    return 0;
}

static int starts_daemon_with_pool(void *arg) {
    OR_RETURN(start_one(daemon_with_pool, arg, true));
    nap(20 * SLOW);
    return 99;
}

START_TEST(pool_of_a_daemon_goes_down_with_the_program) {
    int *up = shared_ints();
    program p;
    program_start(&p, starts_daemon_with_pool, up);
    EVENTUALLY(PEEK(up) == 1);
    kill(p.pid, SIGKILL);
    ck_assert(program_gone(&p, WITHIN_A_SECOND));
    ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
}
END_TEST

static int starts_child_in_task(const void *arg, void *result) {
    int *child = *(int *const *)arg;
    (void)result;
    mproc_process p = {.target = sleeps};
    OR_RETURN(mproc_process_start(&p) == 0);
    POKE(child, p.pid);
    nap(20 * SLOW);
    return 0;
}

static int runs_a_task_with_a_child(void *arg) {
    int *child = arg;
    mproc_pool *pool = mproc_pool_new(1);
    OR_RETURN(pool != NULL);
    mproc_future *future = mproc_pool_apply_async(pool, starts_child_in_task, &child, sizeof child, 0);
    OR_RETURN(future != NULL);
    while (PEEK(child) == 0) nap(0.001);
    OR_RETURN(!process_gone(PEEK(child)));
    OR_RETURN(mproc_pool_terminate(pool) == 0);
    OR_RETURN(mproc_future_get(future, NULL, 5) == MPROC_ECANCELED);
    OR_RETURN(mproc_future_free(future) == 0);
    double give_up = now() + WITHIN_A_SECOND;
    while (!process_gone(PEEK(child)) && now() < give_up) nap(0.001);
    OR_RETURN(process_gone(PEEK(child)));
    OR_RETURN(mproc_pool_free(pool) == 0);
    return 0;
}

START_TEST(what_a_task_starts_goes_down_with_its_worker) {
    program p;
    program_start(&p, runs_a_task_with_a_child, shared_ints());
    ck_assert_msg(program_ends(&p, 10) == 0, "%s", p.text);
}
END_TEST

/* Whoever else the program has forked and holds what it has inherited, the daemons see their parent's end. */
enum other { PLAIN_FORK, FORK, DETACHED, NON_DAEMON, PLAIN_FORK_IN_CHILD, OTHERS };

typedef struct company {
    enum other other;
    int *daemon; /* its pid */
    int *stop;   /* ends the others */
} company;

static int stays_until_told(void *arg) {
    double give_up = now() + 20 * SLOW;
    while (PEEK(((company *)arg)->stop) == 0 && now() < give_up) nap(0.001);
    return 0;
}

static int forks_and_stays(void *arg) {
    if (fork() == 0) _exit(stays_until_told(arg));
    return stays_until_told(arg);
}

static int has_a_daemon_and_others(void *arg) {
    company *c = arg;
    mproc_process before = {.target = sleeps, .daemon = true};
    OR_RETURN(mproc_process_start(&before) == 0);
    pid_t pid = c->other == PLAIN_FORK ? fork() : c->other == FORK ? mproc_fork() : 1;
    if (c->other == DETACHED) pid = mproc_fork_detached();
    if (pid == 0) _exit(stays_until_told(c));
    if (c->other == NON_DAEMON) OR_RETURN(start_one(stays_until_told, c, false));
    if (c->other == PLAIN_FORK_IN_CHILD) OR_RETURN(start_one(forks_and_stays, c, false));
    POKE(c->daemon, before.pid);
    nap(20 * SLOW);
    return 99;
}

START_TEST(daemon_ends_though_other_children_live_on) {
    for (int other = PLAIN_FORK; other < OTHERS; other++) {
        int *page = shared_ints();
        company c = {(enum other)other, page, page + 1};
        program p;
        program_start(&p, has_a_daemon_and_others, &c);
        EVENTUALLY(PEEK(c.daemon) != 0);
        ck_assert(!process_gone(PEEK(c.daemon)));
        kill(p.pid, SIGKILL);
        double give_up = now() + WITHIN_A_SECOND;
        while (!process_gone(PEEK(c.daemon)) && now() < give_up) nap(0.001);
        ck_assert_msg(process_gone(PEEK(c.daemon)), "the daemon was left, case %d", other);
        POKE(c.stop, 1);
        ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
    }
}
END_TEST

/* a non-daemon child lives on */
static int outlives_main(void *arg) {
    (void)arg;
    say("child up");
    double give_up = now() + 10 * SLOW;
    while (mproc_parent_is_alive() && now() < give_up) nap(0.001);
    nap(0.2);
    say("child done");
    return 0;
}

static int has_a_non_daemon(void *arg) {
    (void)arg;
    OR_RETURN(start_one(outlives_main, NULL, false));
    nap(20 * SLOW);
    return 99;
}

START_TEST(non_daemon_outlives_a_killed_main) {
    program p;
    program_start(&p, has_a_non_daemon, NULL);
    program_says(&p, "child up\n");
    kill(p.pid, SIGKILL);
    ck_assert_int_eq(program_ends(&p, 10), -SIGKILL);
    ck_assert_str_eq(p.text, "child up\nchild done\n");
}
END_TEST

/* ---- Pools at exit ------------------------------------------------------------------------------------- */

static mproc_pool *global_pool;

static int idles(void *arg) {
    (void)arg;
    global_pool = mproc_pool_new(4);
    OR_RETURN(global_pool != NULL);
    OR_RETURN(mproc_pool_apply(global_pool, nothing_in_worker, NULL, 0, NULL, 0) == 0);
    return 0;
}

/* EXIT-05 */
START_TEST(main_ends_with_a_live_pool) {
    program p;
    program_start(&p, idles, NULL);
    TAKES(0, 2, ck_assert_int_eq(program_ends(&p, 5), 0));
    ck_assert_str_eq(p.text, "");
}
END_TEST

/* EXIT-06, EXIT-10, EXIT-11 */
static int says_apple(const void *arg, void *result) {
    (void)result;
    nap(*(const double *)arg);
    printf("apple\n");
    return 0;
}

static int leaves_a_task_running(void *arg) {
    double seconds = 0.3;
    global_pool = mproc_pool_new(1);
    OR_RETURN(global_pool != NULL);
    OR_RETURN(mproc_pool_apply_async(global_pool, says_apple, &seconds, sizeof seconds, 0) != NULL);
    if (arg != NULL) OR_RETURN(mproc_pool_close(global_pool) == 0);
    return 0;
}

START_TEST(main_ends_with_a_task_running) {
    char closed[] = "closed";
    char *const how[] = {NULL, closed};
    for (int i = 0; i < 2; i++) {
        program p;
        program_start(&p, leaves_a_task_running, how[i]);
        ck_assert_int_eq(program_ends(&p, 5), 0);
        ck_assert(strcmp(p.text, "apple\n") == 0 || p.length == 0);
    }
}
END_TEST

/* EXIT-07: registered first, so it runs after the library's own handler */
static void submits_late(void) {
    double begin = now();
    int error = mproc_pool_apply(global_pool, nothing_in_worker, NULL, 0, NULL, 0);
    dprintf(1, "%s\n", error < 0 && now() - begin < 0.1 + WITHIN_A_SECOND ? "refused" : "not refused");
}

static int submits_at_exit(void *arg) {
    atexit(submits_late);
    return idles(arg);
}

START_TEST(task_after_the_shutdown_is_refused) {
    program p;
    program_start(&p, submits_at_exit, NULL);
    ck_assert_int_eq(program_ends(&p, 5), 0);
    ck_assert_str_eq(p.text, "refused\n");
}
END_TEST

static int naps_in_worker(const void *arg, void *result) {
    (void)result;
    if (*(const int *)arg == 0) say("ready");
    nap(20 * SLOW);
    return 0;
}

static int maps_for_long(void *arg) {
    int in[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    (void)arg;
    setpgid(0, 0);
    mproc_pool *pool = mproc_pool_new(4);
    OR_RETURN(pool != NULL);
    return mproc_pool_map(pool, naps_in_worker, in, 8, sizeof in[0], NULL, 0);
}

/* */
START_TEST(ctrl_c_to_the_group_ends_all) {
    program p;
    program_start(&p, maps_for_long, NULL);
    program_says(&p, "ready\n");
    ck_assert_int_eq(kill(-p.pid, SIGINT), 0);
    TAKES(0, 1, ck_assert_int_eq(program_ends(&p, 4), -SIGINT));
    size_t lines = 0;
    for (size_t i = 0; i < p.length; i++) lines += p.text[i] == '\n';
    ck_assert_uint_le(lines, 2);
}
END_TEST

START_TEST(killed_main_leaves_no_worker) {
    program p;
    program_start(&p, maps_for_long, NULL);
    program_says(&p, "ready\n");
    kill(p.pid, SIGKILL);
    ck_assert(program_gone(&p, WITHIN_A_SECOND));
    ck_assert_int_eq(program_ends(&p, 5), -SIGKILL);
}
END_TEST

/* ---- Threads and streams ------------------------------------------------------------------------------- */

static void *reads_a_letter(void *arg) {
    (void)arg;
    if (getchar() == 'x') printf("read\n");
    return NULL;
}

/* A thread that waits for input holds the lock of stdin, which a flush of everything would wait for. */
static int starts_while_a_thread_reads(void *arg) {
    int ends[2];
    (void)arg;
    pthread_t thread;
    OR_RETURN(pipe(ends) == 0 && dup2(ends[0], 0) == 0);
    OR_RETURN(pthread_create(&thread, NULL, reads_a_letter, NULL) == 0);
    nap(0.1); /* for it to get there: no call tells */
    mproc_process p = {.target = naps_and_says, .arg = child_done};
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, 5) == 0 && p.exitcode == 0);
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(0);
    OR_RETURN(mproc_wait(pid, NULL, 5) == 0);
    OR_RETURN(write(ends[1], "x", 1) == 1);
    pthread_join(thread, NULL);
    return 0;
}

START_TEST(start_beside_a_thread_that_waits_for_input) {
    program p;
    program_start(&p, starts_while_a_thread_reads, NULL);
    ck_assert_msg(program_ends(&p, 8) == 0, "%s", p.text);
    ck_assert_str_eq(p.text, "child done\nread\n");
}
END_TEST

/* ---- Threads and exit ---------------------------------------------------------------------------------- */

static void *calls_exit(void *arg) {
    (void)arg;
    exit(9);
}

static int exits_from_a_thread(void *arg) {
    (void)arg;
    pthread_t thread;
    OR_RETURN(start_one(naps_and_says, child_done, false));
    OR_RETURN(start_one(sleeps, NULL, true));
    OR_RETURN(pthread_create(&thread, NULL, calls_exit, NULL) == 0);
    nap(20 * SLOW);
    return 99;
}

START_TEST(exit_from_another_thread_joins_and_ends_too) {
    program p;
    program_start(&p, exits_from_a_thread, NULL);
    ck_assert_int_eq(program_ends(&p, 10), 9);
    ck_assert_str_eq(p.text, "child done\n");
}
END_TEST

static void *joins_for_ever(void *arg) {
    mproc_process_join(arg, MPROC_FOREVER);
    return NULL;
}

static int exits_while_a_thread_joins(void *arg) {
    (void)arg;
    static mproc_process child, daemon;
    pthread_t thread[2];
    child = (mproc_process){.target = naps_and_says, .arg = child_done};
    daemon = (mproc_process){.target = sleeps, .daemon = true};
    OR_RETURN(mproc_process_start(&child) == 0 && mproc_process_start(&daemon) == 0);
    OR_RETURN(pthread_create(&thread[0], NULL, joins_for_ever, &child) == 0);
    OR_RETURN(pthread_create(&thread[1], NULL, joins_for_ever, &daemon) == 0);
    return 2;
}

START_TEST(exit_while_threads_join_does_not_hang) {
    program p;
    program_start(&p, exits_while_a_thread_joins, NULL);
    ck_assert_int_eq(program_ends(&p, 10), 2);
    ck_assert_str_eq(p.text, "child done\n");
}
END_TEST

/* ---- mproc_at_exit ------------------------------------------------------------------------------------- */

static void say_it(void *words) { say((const char *)words); }
static char say_a[] = "a", say_b[] = "b", say_c[] = "c", say_d[] = "d", say_e[] = "e", say_late[] = "late";

static void say_it_and_ask_for_more(void *words) {
    say((const char *)words);
    mproc_at_exit(say_it, say_late, 0);
}

/* EXIT-02, EXIT-03 */
static int gives_last_calls(void *arg) {
    OR_RETURN(mproc_at_exit(NULL, NULL, 0) == -EINVAL);
    OR_RETURN(mproc_at_exit(say_it, say_e, -1) == 0);
    OR_RETURN(mproc_at_exit(say_it, say_c, 0) == 0);
    OR_RETURN(mproc_at_exit(say_it, say_d, 0) == 0);
    OR_RETURN(mproc_at_exit(say_it, say_b, 10) == 0);
    OR_RETURN(mproc_at_exit(say_it, say_b, 0) == 0);
    OR_RETURN(mproc_at_exit(say_it_and_ask_for_more, say_a, 100) == 0);
    OR_RETURN(mproc_at_exit_cancel(say_it, say_c) == 0);
    OR_RETURN(mproc_at_exit_cancel(say_it, say_c) == -ENOENT);
    OR_RETURN(mproc_at_exit_cancel(say_it, say_a) == -ENOENT);
    OR_RETURN(start_one(naps_and_says, child_done, false));
    if (arg != NULL) mproc_exit(3);
    return 3;
}

START_TEST(last_calls_go_by_priority_and_around_the_join) {
    for (int way = 0; way < 2; way++) {
        program p;
        program_start(&p, gives_last_calls, way == 0 ? NULL : &p);
        ck_assert_int_eq(program_ends(&p, 10), 3);
        ck_assert_str_eq(p.text, "a\nb\nlate\nb\nd\nchild done\ne\n");
    }
}
END_TEST

/* EXIT-01: those given in a child are made at its end, however it ends but by a signal, and those only. */
static int gives_one(void *arg) {
    const char *way = (const char *)arg;
    OR_RETURN(mproc_at_exit(say_it, arg, 0) == 0);
    if (way == say_b) mproc_exit(0);
    if (way == say_c) exit(0);
    if (way == say_d) kill(getpid(), SIGKILL);
    return 0;
}

static int gives_one_in_a_worker(const void *arg, void *result) {
    (void)arg;
    (void)result;
    return mproc_at_exit(say_it, say_late, 0);
}

static int starts_who_give(void *arg) {
    (void)arg;
    char *const ways[] = {say_a, say_b, say_c, say_d};
    OR_RETURN(mproc_at_exit(say_it, say_e, 0) == 0);
    for (int i = 0; i < 4; i++) {
        mproc_process p = {.target = gives_one, .arg = ways[i]};
        OR_RETURN(mproc_process_start(&p) == 0 && mproc_process_join(&p, 10) == 0);
    }
    mproc_pool *pool = mproc_pool_new(1);
    OR_RETURN(pool != NULL);
    OR_RETURN(mproc_pool_apply(pool, gives_one_in_a_worker, NULL, 0, NULL, 0) == 0);
    OR_RETURN(mproc_pool_close(pool) == 0 && mproc_pool_join(pool, 10) == 0);
    return mproc_pool_free(pool);
}

START_TEST(last_calls_of_a_child_are_its_own) {
    program p;
    program_start(&p, starts_who_give, NULL);
    ck_assert_msg(program_ends(&p, 10) == 0, "%s", p.text);
    ck_assert_str_eq(p.text, "a\nb\nc\nlate\ne\n");
}
END_TEST

/* EXIT-04 */
static unsigned last_calls_made;
static void count_it(void *ctx) {
    (void)ctx;
    __atomic_add_fetch(&last_calls_made, 1, __ATOMIC_RELAXED);
}

static void *gives_and_takes_back(void *arg) {
    for (int i = 0; i < 2000; i++) {
        if (mproc_at_exit(count_it, arg, i % 3) != 0) abort();
        if (i % 2 == 0 && mproc_at_exit_cancel(count_it, arg) != 0) abort();
    }
    return NULL;
}

static void tell_the_count(void *ctx) {
    (void)ctx;
    dprintf(1, "%u", last_calls_made);
}

static int gives_from_threads(void *arg) {
    (void)arg;
    pthread_t thread[4];
    int keys[4];
    OR_RETURN(mproc_at_exit(tell_the_count, NULL, -1) == 0);
    for (int i = 0; i < 4; i++)
        OR_RETURN(pthread_create(&thread[i], NULL, gives_and_takes_back, &keys[i]) == 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    return 0;
}

START_TEST(last_calls_from_several_threads) {
    program p;
    program_start(&p, gives_from_threads, NULL);
    ck_assert_int_eq(program_ends(&p, 20), 0);
    ck_assert_str_eq(p.text, "4000");
}
END_TEST

/* The end waits for starts that were under way when it came: not for others, which other threads might begin
   for ever, nor for those of mproc_fork, whose children are none of its business. */
static void await_forks(void) {
    pthread_mutex_lock(&mproc__self.lock);
    mproc__await_forks();
    pthread_mutex_unlock(&mproc__self.lock);
}
START_TEST(exit_waits_for_no_fork_that_is_not_its_own) {
    ck_assert_int_eq(mproc__init(), 0);
    mproc__child *forked = mproc__child_new(MPROC__FORKED, false);
    mproc__child *later = mproc__child_new(MPROC__PROCESS, true);
    later->id++; /* as if begun by now */
    later->next = forked;
    mproc__self.children = later;
    TAKES(0, 0.5, for (int i = 0; i < 4; i++) await_forks());
    later->id--;
    TAKES(0.9, 2, await_forks());
    mproc__self.children = NULL;
    free(forked);
    free(later);
}
END_TEST

/* A loop in one of the last calls goes on without those that die in it, as anywhere. */
static int *items_run;
static void dies_at_the_first(size_t i, void *ctx) {
    (void)ctx;
    __atomic_add_fetch(items_run, 1, __ATOMIC_SEQ_CST);
    if (i == 0) raise(SIGKILL);
}

static void runs_a_loop(void *ctx) {
    (void)ctx;
    int error = mproc_parallel_for(10, 1, dies_at_the_first, NULL);
    dprintf(1, "%s %d\n", error == MPROC_ECRASHED ? "crashed" : mproc_strerror(error), *items_run);
}

static int asks_for_loops(void *arg) {
    (void)arg;
    items_run = mproc_shm_new(sizeof *items_run);
    OR_RETURN(mproc_at_exit(runs_a_loop, NULL, 0) == 0);
    OR_RETURN(mproc_at_exit(runs_a_loop, NULL, -1) == 0);
    return 0;
}

START_TEST(last_calls_may_use_a_loop) {
    program p;
    program_start(&p, asks_for_loops, NULL);
    ck_assert_int_eq(program_ends(&p, 20), 0);
    ck_assert_str_eq(p.text, "crashed 10\ncrashed 20\n");
}
END_TEST

SUITE_MAIN("exit", exit_waits_for_no_fork_that_is_not_its_own, last_calls_may_use_a_loop,
           last_calls_go_by_priority_and_around_the_join, last_calls_of_a_child_are_its_own,
           last_calls_from_several_threads, daemons_that_close_all_fds_or_execute_end_when_main_dies,
           start_beside_a_thread_that_waits_for_input, target_runs_once_and_nothing_else_of_main,
           buffered_text_is_printed_once, text_for_a_file_is_written_once,
           handlers_and_destructors_run_in_the_main_program_only,
           child_calling_exit_leaves_its_siblings_alone, main_waits_for_its_non_daemon_child,
           child_joins_its_children_and_ends_its_daemons, mproc_exit_of_a_forked_child_joins_its_children,
           forked_children_outlive_the_main_program, daemons_end_when_main_returns,
           daemons_end_when_main_dies, daemons_end_when_main_calls_underscore_exit,
           daemon_ends_when_main_is_killed_right_after_start, daemon_ends_under_a_subreaper,
           daemon_of_process_1_lives_and_ends_with_it,
           daemon_in_a_new_pid_namespace_lives_and_ends_with_its_parent,
           daemon_outlives_the_thread_that_started_it, daemon_may_clean_up_within_the_grace,
           many_daemons_share_one_grace, what_a_daemon_starts_goes_down_with_it,
           pool_of_a_daemon_goes_down_with_the_program, what_a_task_starts_goes_down_with_its_worker,
           daemon_ends_though_other_children_live_on, non_daemon_outlives_a_killed_main,
           main_ends_with_a_live_pool, main_ends_with_a_task_running, task_after_the_shutdown_is_refused,
           ctrl_c_to_the_group_ends_all, killed_main_leaves_no_worker,
           exit_from_another_thread_joins_and_ends_too, exit_while_threads_join_does_not_hang)
