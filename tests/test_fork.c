/* Fork helpers, plain fork(2) beside the library, and fork while other threads are busy. */
#define MPROC_IMPLEMENTATION
#include "support.h"
#include <pthread.h>

/* ---- Helpers ------------------------------------------------------------------------------------------- */

static int returns(void *arg) { return *(int *)arg; }

static int returns_zero(void *arg) {
    (void)arg;
    return 0;
}

static int sleeps(void *arg) {
    (void)arg;
    nap(10);
    return 0;
}

static int waits_for(void *flag) {
    double give_up = now() + 10 * SLOW;
    while (PEEK((int *)flag) == 0 && now() < give_up) nap(0.001);
    return PEEK((int *)flag) ? 0 : 99;
}

static void start(mproc_process *p, int (*target)(void *), void *arg) {
    *p = (mproc_process){.target = target, .arg = arg};
    ck_assert_int_eq(mproc_process_start(p), 0);
}

static int finish(mproc_process *p) {
    ck_assert_int_eq(mproc_process_join(p, 10 * SLOW), 0);
    int code = p->exitcode;
    ck_assert_int_eq(mproc_process_close(p), 0);
    return code;
}

static size_t active(void) { return mproc_active_children(NULL, 0); }

static pid_t fork_waiting_for(int *flag) {
    pid_t pid = mproc_fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) mproc_exit(waits_for(flag));
    return pid;
}

/* The library may keep a few things of its own from its first use on: they are no leak. */
static void first_use(void) {
    mproc_process p;
    start(&p, returns_zero, NULL);
    ck_assert_int_eq(finish(&p), 0);
}

/* ---- mproc_fork, mproc_wait, mproc_exit -----------------------------------------------------------------
 */

START_TEST(fork_returns_twice_and_wait_gets_the_code) {
    const int codes[][2] = {{0, 0}, {1, 1}, {255, 255}, {300, 44}, {-1, 255}};
    int *seen = shared_ints();
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        int code = -1;
        pid_t me = getpid(), pid = mproc_fork();
        if (pid == 0) {
            seen[0] = getpid();
            seen[1] = mproc_parent_pid() == me;
            seen[2] = mproc_parent_is_alive();
            seen[3] = mproc_current_process()->pid == getpid();
            mproc_exit(codes[i][0]);
        }
        ck_assert_int_gt(pid, 0);
        ck_assert_int_eq(mproc_wait(pid, &code, MPROC_FOREVER), 0);
        ck_assert_int_eq(code, codes[i][1]);
        ck_assert_int_eq(seen[0], pid);
        ck_assert(seen[1]);
        ck_assert(seen[2]);
        ck_assert(seen[3]);
    }
    ck_assert(no_children());
}
END_TEST

START_TEST(wait_tells_the_signal_and_needs_no_room_for_the_code) {
    int *never = shared_ints(), code = 0;
    pid_t pid = fork_waiting_for(never);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(mproc_wait(pid, &code, 10), 0);
    ck_assert_int_eq(code, -SIGKILL);
    pid = fork_waiting_for(never);
    ck_assert_int_eq(kill(pid, SIGTERM), 0);
    ck_assert_int_eq(mproc_wait(pid, NULL, 10), 0);
    ck_assert(no_children());
}
END_TEST

START_TEST(wait_keeps_its_timeout) {
    int *go = shared_ints(), code = 77;
    pid_t pid = fork_waiting_for(go);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_wait(pid, &code, 0), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_wait(pid, &code, 0.2), MPROC_ETIMEDOUT));
    ck_assert_int_eq(mproc_wait(pid, &code, (double)NAN), -EINVAL);
    POKE(go, 1);
    ck_assert_int_eq(mproc_wait(pid, &code, 1e300), 0);
    ck_assert_int_eq(code, 0);
}
END_TEST

START_TEST(wait_is_for_children_of_mproc_fork_only) {
    int *go = shared_ints(), code = 77, status = 0;
    const pid_t nobody[] = {0, -1, 1, -2147483647 - 1, 2147483647, getpid(), getppid()};
    pid_t mine = fork_waiting_for(go), plain = fork();
    if (plain == 0) _exit(7);
    mproc_process p;
    start(&p, waits_for, go);
    for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++) {
        TAKES(0, 0.05, ck_assert_int_eq(mproc_wait(nobody[i], &code, MPROC_FOREVER), -ECHILD));
        ck_assert_int_eq(mproc_wait(nobody[i], NULL, 0), -ECHILD);
    }
    ck_assert_int_eq(mproc_wait(plain, &code, MPROC_FOREVER), -ECHILD);
    ck_assert_int_eq(mproc_wait(p.pid, &code, MPROC_FOREVER), -ECHILD);
    ck_assert_int_eq(waitpid(plain, &status, 0), plain);
    ck_assert_int_eq(WEXITSTATUS(status), 7);
    POKE(go, 1);
    ck_assert_int_eq(finish(&p), 0);
    ck_assert_int_eq(mproc_wait(mine, &code, 10), 0);
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(mproc_wait(mine, &code, MPROC_FOREVER), -ECHILD);
}
END_TEST

START_TEST(wait_of_anothers_child_is_refused) {
    int *never = shared_ints(), code = 0;
    pid_t mine = fork_waiting_for(never), sibling = mproc_fork();
    if (sibling == 0)
        mproc_exit(mproc_wait(mine, NULL, MPROC_FOREVER) == -ECHILD && mproc_reap() == 0 ? 3 : 4);
    ck_assert_int_eq(mproc_wait(sibling, &code, 10), 0);
    ck_assert_int_eq(code, 3);
    kill(mine, SIGKILL);
    ck_assert_int_eq(mproc_wait(mine, &code, 10), 0);
    ck_assert_int_eq(code, -SIGKILL);
}
END_TEST

START_TEST(forked_children_are_not_active_children) {
    int *go = shared_ints();
    pid_t pid = fork_waiting_for(go);
    ck_assert_uint_eq(active(), 0);
    POKE(go, 1);
    EVENTUALLY(process_state(pid) == 'Z');
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(process_state(pid), 'Z'); /* still the caller's to collect */
    ck_assert_int_eq(mproc_wait(pid, NULL, 0), 0);
}
END_TEST

START_TEST(reap_collects_ended_children_of_mproc_fork) {
    int *go = shared_ints(), code = 0;
    ck_assert_int_eq(mproc_reap(), 0);
    pid_t pids[5], late = fork_waiting_for(&go[1]);
    for (int i = 0; i < 5; i++) pids[i] = fork_waiting_for(go);
    ck_assert_int_eq(mproc_reap(), 0);
    POKE(go, 1);
    for (int i = 0; i < 5; i++) EVENTUALLY(process_state(pids[i]) == 'Z');
    ck_assert_int_eq(mproc_reap(), 5);
    ck_assert_int_eq(mproc_reap(), 0);
    for (int i = 0; i < 5; i++) ck_assert_int_eq(mproc_wait(pids[i], &code, MPROC_FOREVER), -ECHILD);
    POKE(&go[1], 1);
    ck_assert_int_eq(mproc_wait(late, &code, 10), 0);
    ck_assert(no_children());
}
END_TEST

/* */
static int nothing(const void *arg, void *result) {
    (void)arg;
    (void)result;
    return 0;
}

static void nothing_in_loop(size_t i, void *ctx) {
    (void)i;
    (void)ctx;
}

START_TEST(children_of_the_application_are_left_to_it) {
    int status = 0, six = 6;
    pid_t plain = fork();
    if (plain == 0) _exit(7);
    EVENTUALLY(process_state(plain) == 'Z');
    mproc_process p;
    start(&p, returns, &six);
    EVENTUALLY(process_state(p.pid) == 'Z');
    ck_assert_int_eq(mproc_reap(), 0);
    ck_assert_int_eq(process_state(p.pid), 'Z'); /* a process is not reap's either */
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(mproc_process_join(&p, 0), 0);
    ck_assert_int_eq(p.exitcode, 6);
    mproc_process *list[1] = {&p};
    ck_assert_int_eq(mproc_process_wait_any(list, 1, 0), 0);
    mproc_pool *pool = mproc_pool_new(1);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(mproc_pool_apply(pool, nothing, NULL, 0, NULL, 0), 0);
    ck_assert_int_eq(mproc_pool_free(pool), 0);
    if (mproc_fork_detached() == 0) mproc_exit(0);
    ck_assert_int_eq(mproc_parallel_for(4, 2, nothing_in_loop, NULL), 0);
    ck_assert_int_eq(waitpid(plain, &status, WNOHANG), plain);
    ck_assert_int_eq(WEXITSTATUS(status), 7);
}
END_TEST

START_TEST(forks_leave_no_fds) {
    first_use();
    int fds = open_fds();
    for (int i = 0; i < 200; i++) {
        int code = -1;
        pid_t pid = mproc_fork();
        if (pid == 0) mproc_exit(i & 127);
        ck_assert_int_gt(pid, 0);
        if (i % 2) {
            ck_assert_int_eq(mproc_wait(pid, &code, 10), 0);
            ck_assert_int_eq(code, i & 127);
        } else EVENTUALLY(mproc_reap() == 1);
        ck_assert_int_eq(open_fds(), fds);
    }
    ck_assert(no_children());
}
END_TEST

START_TEST(forked_child_uses_what_the_family_shares) {
    int *hits = mproc_value_new(int, 0);
    mproc_queue *queue = mproc_queue_new(0);
    pid_t pids[4];
    for (int i = 0; i < 4; i++) {
        pids[i] = i % 2 ? fork() : mproc_fork();
        if (pids[i] > 0) continue;
        MPROC_WITH (mproc_lock_of(hits)) *hits += 1;
        mproc_queue_put(queue, &i, sizeof i, 5);
        if (i % 2) _exit(0);
        mproc_exit(0);
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;
        if (i % 2) ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        else ck_assert_int_eq(mproc_wait(pids[i], &status, 10), 0);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_int_eq(*hits, 4);
    ck_assert_uint_eq(mproc_queue_qsize(queue), 4);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    ck_assert_int_eq(mproc_free(hits), 0);
}
END_TEST

/* ---- mproc_fork_detached ------------------------------------------------------------------------------- */

START_TEST(detached_child_has_the_pid_told_and_is_nobodys_to_wait_for) {
    first_use();
    int *seen = shared_ints(), fds = open_fds();
    pid_t me = getpid(), pid = mproc_fork_detached();
    if (pid == 0) {
        seen[1] = getppid();
        POKE(&seen[0], getpid());
        waits_for(&seen[2]);
        POKE(&seen[3], 1);
        mproc_exit(0);
    }
    ck_assert_int_gt(pid, 0);
    EVENTUALLY(PEEK(&seen[0]) != 0);
    ck_assert_int_eq(PEEK(&seen[0]), pid);
    ck_assert_int_ne(seen[1], me);
    ck_assert(no_children());
    ck_assert_int_eq(open_fds(), fds);
    ck_assert_uint_eq(active(), 0);
    ck_assert_int_eq(mproc_wait(pid, NULL, MPROC_FOREVER), -ECHILD);
    ck_assert_int_eq(mproc_reap(), 0);
    POKE(&seen[2], 1);
    EVENTUALLY(PEEK(&seen[3]) == 1);
    EVENTUALLY(process_gone(pid));
}
END_TEST

START_TEST(detached_children_leave_nothing) {
    first_use();
    int *ended = shared_ints(), fds = open_fds();
    for (int i = 0; i < 50; i++) {
        pid_t pid = mproc_fork_detached();
        if (pid == 0) {
            BUMP(ended);
            mproc_exit(0);
        }
        ck_assert_int_gt(pid, 0);
        ck_assert(no_children());
    }
    EVENTUALLY(PEEK(ended) == 50);
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

/* With SIGCHLD ignored or taken the intermediate process is collected by others; the pid comes all the same.
 */
static void takes_all(int signal_number) {
    int saved = errno;
    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    errno = saved;
}

START_TEST(detached_child_under_any_handling_of_sigchld) {
    void (*const handlers[])(int) = {SIG_IGN, takes_all};
    for (int h = 0; h < 2; h++) {
        signal(SIGCHLD, handlers[h]);
        for (int i = 0; i < 20; i++) {
            int *seen = shared_ints();
            pid_t pid = mproc_fork_detached();
            if (pid == 0) {
                POKE(seen, getpid());
                mproc_exit(0);
            }
            ck_assert_int_gt(pid, 0);
            EVENTUALLY(PEEK(seen) == pid);
            munmap(seen, 4096);
        }
    }
}
END_TEST

static int detaches_and_sleeps(void *arg) {
    int *seen = arg;
    if (mproc_fork_detached() == 0) {
        seen[3] = mproc_parent_is_alive();
        POKE(&seen[0], getpid());
        waits_for(&seen[1]);
        seen[4] = mproc_parent_is_alive();
        POKE(&seen[2], 1);
        mproc_exit(0);
    }
    return sleeps(NULL);
}

START_TEST(detached_child_outlives_a_killed_parent) {
    int *seen = shared_ints();
    mproc_process p;
    start(&p, detaches_and_sleeps, seen);
    EVENTUALLY(PEEK(&seen[0]) != 0);
    ck_assert_int_eq(mproc_process_kill(&p), 0);
    ck_assert_int_eq(finish(&p), -SIGKILL);
    ck_assert(!process_gone(PEEK(&seen[0])));
    POKE(&seen[1], 1);
    EVENTUALLY(PEEK(&seen[2]) == 1);
    ck_assert_int_eq(seen[3], 1);
    ck_assert_int_eq(seen[4], 0);
}
END_TEST

/* ---- Plain fork(2) beside the library ------------------------------------------------------------------ */

typedef struct scene {
    mproc_process child, daemon;
    mproc_queue *queue;
    mproc_pool *pool;
} scene;

/* What a plain child of a busy program sees: its parent's children are not its own. */
static int looks_around(scene *s) {
    int seven = 7;
    OR_RETURN(active() == 0);
    OR_RETURN(mproc_process_join(&s->child, MPROC_FOREVER) == -ECHILD);
    OR_RETURN(mproc_process_kill(&s->child) == -ECHILD);
    OR_RETURN(mproc_process_terminate(&s->daemon) == -ECHILD);
    OR_RETURN(!mproc_process_is_alive(&s->child));
    OR_RETURN(mproc_process_close(&s->child) < 0);
    OR_RETURN(mproc_reap() == 0);
    OR_RETURN(mproc_parent_pid() == 0 || mproc_parent_pid() == getppid());
    mproc_process p = {.target = returns, .arg = &seven};
    mproc_process stays = {.target = sleeps};
    OR_RETURN(mproc_process_start(&stays) == 0);
    OR_RETURN(active() == 1);
    OR_RETURN(mproc_process_kill(&stays) == 0);
    OR_RETURN(mproc_process_join(&stays, 10) == 0 && stays.exitcode == -SIGKILL);
    OR_RETURN(mproc_process_start(&p) == 0);
    OR_RETURN(mproc_process_join(&p, 10) == 0 && p.exitcode == 7);
    OR_RETURN(mproc_queue_put(s->queue, &seven, sizeof seven, 5) == 0);
    return 0;
}

static int forks_plainly(void *arg) {
    int *go = arg, got = 0, status = 0;
    scene s = {.child = {.target = waits_for, .arg = go}, .daemon = {.target = sleeps, .daemon = true}};
    s.queue = mproc_queue_new(0);
    s.pool = mproc_pool_new(1);
    OR_RETURN(s.queue != NULL && s.pool != NULL);
    OR_RETURN(mproc_process_start(&s.child) == 0 && mproc_process_start(&s.daemon) == 0);
    for (int by_exit = 0; by_exit <= 1; by_exit++) {
        double begin = now();
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            int code = looks_around(&s);
            if (by_exit) exit(code);
            _exit(code);
        }
        OR_RETURN(waitpid(pid, &status, 0) == pid && status == 0);
        OR_RETURN(now() - begin < 3 * SLOW);
        OR_RETURN(mproc_queue_get(s.queue, &got, sizeof got, 10) == sizeof got && got == 7);
        OR_RETURN(mproc_process_is_alive(&s.child) && mproc_process_is_alive(&s.daemon));
        OR_RETURN(active() == 2);
        OR_RETURN(mproc_pool_apply(s.pool, nothing, NULL, 0, NULL, 0) == 0);
    }
    POKE(go, 1);
    OR_RETURN(mproc_process_join(&s.child, 10) == 0 && s.child.exitcode == 0);
    return 0;
}

/* */
START_TEST(plain_fork_does_not_touch_the_parents_children) {
    program p;
    program_start(&p, forks_plainly, shared_ints());
    ck_assert_msg(program_ends(&p, 20) == 0, "%s", p.text);
}
END_TEST

/* A daemon's plain child that calls exit() must not think itself the daemon. */
static int daemon_forks_plainly(void *arg) {
    int *seen = arg, status = 0;
    pid_t pid = fork();
    if (pid == 0) exit(5);
    waitpid(pid, &status, 0);
    POKE(seen, 1 + status);
    return sleeps(NULL);
}

START_TEST(plain_child_of_a_daemon_may_exit) {
    int *seen = shared_ints();
    mproc_process p = {.target = daemon_forks_plainly, .arg = seen, .daemon = true};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    EVENTUALLY(PEEK(seen) != 0);
    ck_assert_int_eq(WEXITSTATUS(PEEK(seen) - 1), 5);
    ck_assert(mproc_process_is_alive(&p));
    ck_assert_int_eq(mproc_process_kill(&p), 0);
    ck_assert_int_eq(finish(&p), -SIGKILL);
}
END_TEST

/* ---- fork while threads are busy ----------------------------------------------------------------------- */

typedef struct traffic {
    mproc_queue *queue;
    FILE *null;
    int stop;
} traffic;

static void *is_busy(void *arg) {
    traffic *t = arg;
    char got[64];
    for (unsigned i = 0; PEEK(&t->stop) == 0; i++) {
#ifndef __SANITIZE_ADDRESS__ /* its allocator's locks do not survive a fork */
        char *memory = malloc(64 + i % 5000);
        if (memory != NULL) memory[0] = 1;
        free(memory);
#endif
        fprintf(t->null, "round %u\n", i);
        mproc_queue_put(t->queue, &i, sizeof i, 0);
        mproc_queue_get(t->queue, got, sizeof got, 0);
    }
    return NULL;
}

static int does_the_same(void *arg) {
    traffic *t = arg;
    char *memory = malloc(1000);
    OR_RETURN(memory != NULL);
    free(memory);
    OR_RETURN(fprintf(t->null, "child %d\n", (int)getpid()) > 0);
    int error = mproc_queue_put(t->queue, memory == NULL ? "n" : "y", 1, 1);
    OR_RETURN(error == 0 || error == MPROC_ETIMEDOUT);
    return 0;
}

/* */
START_TEST(children_start_while_threads_hold_locks) {
    enum { ROUNDS = 125, AT_ONCE = 4 };
    traffic t = {mproc_queue_new(16), fopen("/dev/null", "w"), 0};
    pthread_t thread[8];
    ck_assert_ptr_nonnull(t.queue);
    ck_assert_ptr_nonnull(t.null);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(pthread_create(&thread[i], NULL, is_busy, &t), 0);
    for (int round = 0; round < (int)(ROUNDS / SLOW); round++) {
        mproc_process p[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) start(&p[i], does_the_same, &t);
        for (int i = 0; i < AT_ONCE; i++) ck_assert_int_eq(finish(&p[i]), 0);
    }
    POKE(&t.stop, 1);
    for (int i = 0; i < 8; i++) pthread_join(thread[i], NULL);
    fclose(t.null);
}
END_TEST

static void *starts_daemons_and_forks(void *arg) {
    int *failures = arg;
    for (int i = 0; i < 20; i++) {
        int code = 0;
        mproc_process p = {.target = sleeps, .daemon = true};
        if (mproc_process_start(&p) != 0) BUMP(failures);
        pid_t pid = mproc_fork();
        if (pid == 0) mproc_exit(5);
        if (mproc_wait(pid, &code, 10 * SLOW) != 0 || code != 5) BUMP(failures);
        if (mproc_process_kill(&p) != 0) BUMP(failures);
        if (mproc_process_join(&p, 10 * SLOW) != 0 || p.exitcode != -SIGKILL) BUMP(failures);
        if (mproc_process_close(&p) != 0) BUMP(failures);
    }
    return NULL;
}

/* */
START_TEST(eight_threads_fork_at_once) {
    first_use();
    int failures = 0, fds = open_fds();
    pthread_t thread[8];
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, starts_daemons_and_forks, &failures), 0);
    for (int i = 0; i < 8; i++) pthread_join(thread[i], NULL);
    ck_assert_int_eq(failures, 0);
    ck_assert(no_children());
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

/* ---- Close-on-exec ------------------------------------------------------------------------------------- */

static const char *checker_argument = "only-stdio-is-open";

/* The checker that the next test executes: the first descriptor it finds besides 0, 1, 2. */
static int find_inherited_fd(void) {
    int found = 0;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        int fd = atoi(e->d_name);
        if (fd > 2 && fd != dirfd(dir)) found = fd;
    }
    if (dir != NULL) closedir(dir);
    return found;
}

static void *makes_and_frees(void *arg) {
    int *stop = arg;
    char folder[64], path[80];
    snprintf(path, sizeof path, "%s/file", make_folder(folder));
    while (PEEK(stop) == 0) {
        mproc_queue *queue = mproc_queue_new(4);
        mproc_pool *pool = mproc_pool_new(1);
        mproc_file *file = mproc_file_open(path);
        mproc_conn *ends[2];
        mproc_pipe_new(ends, true);
        if (mproc_fork_detached() == 0) _exit(0);
        mproc_parallel_for(2, 2, nothing_in_loop, NULL);
        mproc_process p = {.target = returns_zero};
        mproc_process_start(&p);
        mproc_queue_put(queue, "x", 1, 0);
        mproc_file_append(file, "x", 1);
        mproc_pool_apply(pool, nothing, NULL, 0, NULL, 0);
        mproc_file_lock(file, 1);
        mproc_process_join(&p, 10);
        mproc_process_close(&p);
        for (int i = 0; i < 2; i++) mproc_conn_close(ends[i]);
        mproc_file_close(file);
        mproc_pool_free(pool);
        mproc_queue_free(queue);
    }
    remove_folder(folder);
    return NULL;
}

/* */
START_TEST(library_fds_are_closed_by_exec) {
    int stop = 0, rounds = 0;
    pthread_t thread;
    for (int fd = 3; fd < 256; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC); /* what Check has open */
    ck_assert_int_eq(pthread_create(&thread, NULL, makes_and_frees, &stop), 0);
    for (double end = now() + 1.0 * SLOW; now() < end; rounds++) {
        int status = 0;
        pid_t pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "checker", checker_argument, (char *)NULL);
            _exit(255);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(status == 0, "descriptor %d came through exec", WEXITSTATUS(status));
    }
    POKE(&stop, 1);
    pthread_join(thread, NULL);
    ck_assert_int_gt(rounds, 3);
}
END_TEST

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], checker_argument) == 0) return find_inherited_fd();
    const TTest *const tests[] = {
        fork_returns_twice_and_wait_gets_the_code,
        wait_tells_the_signal_and_needs_no_room_for_the_code,
        wait_keeps_its_timeout,
        wait_is_for_children_of_mproc_fork_only,
        wait_of_anothers_child_is_refused,
        forked_children_are_not_active_children,
        reap_collects_ended_children_of_mproc_fork,
        children_of_the_application_are_left_to_it,
        forks_leave_no_fds,
        forked_child_uses_what_the_family_shares,
        detached_child_has_the_pid_told_and_is_nobodys_to_wait_for,
        detached_children_leave_nothing,
        detached_child_under_any_handling_of_sigchld,
        detached_child_outlives_a_killed_parent,
        plain_fork_does_not_touch_the_parents_children,
        plain_child_of_a_daemon_may_exit,
        children_start_while_threads_hold_locks,
        eight_threads_fork_at_once,
        library_fds_are_closed_by_exec,
    };
    return run_suite("fork", tests, sizeof tests / sizeof *tests, argc, argv);
}
