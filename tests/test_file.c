/* Files: locks, appends and updates by many processes, on full disks, beside killed users. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
/* Calls in the header's midst, at which a test lets something happen. */
static int open_here(const char *name, int flags, ...);
static int rename_here(const char *from, const char *to);
static int close_here(int fd);
#define open   open_here
#define rename rename_here
#define close  close_here
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#undef open
#undef rename
#undef close
#include "support.h"
#include <grp.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char folder[64], path[128]; /* of the test that runs: a folder of its own, and a file in it */
static mproc_file *file;
static int *said; /* what its processes tell each other */

static void begin(void) {
    said = shared_ints();
    make_folder(folder);
    snprintf(path, sizeof path, "%s/file", folder);
    file = mproc_file_open(path);
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
}

static void finish(void) {
    ck_assert_int_eq(mproc_file_close(file), 0);
    remove_folder(folder);
}

static const char *fork_at; /* when the header opens or has renamed a file whose name ends so; once */
static int close_slowly = -1;
static void (*meanwhile)(void); /* what is waited for while that is closed */

static void fork_here(const char *name) {
    if (fork_at == NULL || strlen(name) < strlen(fork_at)) return;
    if (strcmp(name + strlen(name) - strlen(fork_at), fork_at) != 0) return;
    fork_at = NULL;
    pid_t pid = fork();
    while (pid == 0) pause();
    POKE(&said[8], (int)pid);
}
static int open_here(const char *name, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int fd = open(name, flags, (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0);
    va_end(more);
    fork_here(name);
    return fd;
}
static int rename_here(const char *from, const char *to) {
    int result = rename(from, to);
    fork_here(to);
    return result;
}
static int close_here(int fd) {
    int result = close(fd);
    if (fd != close_slowly) return result;
    close_slowly = -1;
    meanwhile();
    return result;
}

static int files_in_folder(void) { return count_entries(folder) - 2; }

static void write_file(const char *name, const char *text) {
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    MUST(fd >= 0);
    MUST_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static off_t size_of(const char *name) {
    struct stat s;
    return stat(name, &s) == 0 ? s.st_size : -1;
}

/* All of a file in malloc'ed memory with a zero behind it. */
static char *read_all(const char *name, size_t *size) {
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0);
    struct stat s;
    MUST_EQ(fstat(fd, &s), 0);
    char *text = malloc((size_t)s.st_size + 1);
    MUST(text != NULL);
    *size = 0;
    for (ssize_t n; *size < (size_t)s.st_size; *size += (size_t)n) {
        n = read(fd, text + *size, (size_t)s.st_size - *size);
        MUST(n > 0);
    }
    text[*size] = 0;
    close(fd);
    return text;
}

/* ---- What other processes do, each with a handle of its own ---------------------------------------------
 */

static int poll_lock(void *arg) {
    (void)arg;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    double start = now();
    int error = mproc_file_lock(mine, 0);
    MUST(now() - start < 0.05 + SLOW);
    if (error == 0) MUST_EQ(mproc_file_unlock(mine), 0);
    MUST_EQ(mproc_file_close(mine), 0);
    return -error;
}

static int poll_shared(void *arg) {
    (void)arg;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    int error = mproc_file_lock_shared(mine, 0);
    if (error == 0) MUST_EQ(mproc_file_unlock(mine), 0);
    MUST_EQ(mproc_file_close(mine), 0);
    return -error;
}

static int edit_nothing(char **data, size_t *size, void *ctx) {
    (void)data;
    (void)size;
    (void)ctx;
    return 0;
}

static int others_lock(void) { return ended(spawn(poll_lock, NULL)); }
static int others_shared(void) { return ended(spawn(poll_shared, NULL)); }

enum { HELD, GO, DONE }; /* places in said */

static int hold_till_told(void *arg) {
    const bool *shared = arg;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    MUST_EQ(*shared ? mproc_file_lock_shared(mine, 5) : mproc_file_lock(mine, 5), 0);
    BUMP(&said[HELD]);
    await(&said[GO], 1);
    MUST_EQ(mproc_file_unlock(mine), 0);
    MUST_EQ(mproc_file_close(mine), 0);
    return 0;
}

static pid_t holder(bool shared) {
    POKE(&said[GO], 0);
    int before = PEEK(&said[HELD]);
    pid_t pid = spawn(hold_till_told, &shared);
    EVENTUALLY(PEEK(&said[HELD]) == before + 1);
    return pid;
}

static void let_go(pid_t pid) {
    POKE(&said[GO], 1);
    ck_assert_int_eq(ended(pid), 0);
}

/* ---- Locks ----------------------------------------------------------------------------------------------
 */

START_TEST(flck_01_taken_and_dropped) {
    begin();
    ck_assert_int_eq(mproc_file_unlock(file), MPROC_EPERM);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    ck_assert_int_eq(others_shared(), ETIMEDOUT);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_unlock(file), MPROC_EPERM);
    ck_assert_int_eq(mproc_file_lock_shared(file, 0), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    ck_assert_int_eq(others_shared(), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_lock(file, MPROC_FOREVER), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(others_lock(), 0);
    finish();
}
END_TEST

START_TEST(flck_02_03_x60_exclusive_shared_timed) {
    begin();
    pid_t pid = holder(false);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_file_lock(file, 0), MPROC_ETIMEDOUT));
    TAKES(0, 0.05, ck_assert_int_eq(mproc_file_lock_shared(file, 0), MPROC_ETIMEDOUT));
    struct sigaction before, after;
    sigaction(SIGALRM, NULL, &before);
    TAKES(0.5, 0.6, ck_assert_int_eq(mproc_file_lock(file, 0.5), MPROC_ETIMEDOUT));
    TAKES(0.2, 0.3, ck_assert_int_eq(mproc_file_lock_shared(file, 0.2), MPROC_ETIMEDOUT));
    sigaction(SIGALRM, NULL, &after);
    ck_assert(before.sa_handler == after.sa_handler && alarm(0) == 0);
    let_go(pid);
    pid_t one = holder(true), two = holder(true);
    ck_assert_int_eq(mproc_file_lock_shared(file, 0), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_lock(file, 0), MPROC_ETIMEDOUT);
    let_go(one);
    let_go(two);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc_file_close(file), 0); /* unlocks as well */
    file = mproc_file_open(path);
    ck_assert_int_eq(others_lock(), 0);
    finish();
}
END_TEST

START_TEST(x59_odd_timeouts) {
    const double at_once[] = {0, -0.0, 1e-300, 1e-9, 0.0004}, for_ever[] = {-1, -100, 1e9, 1e300, INFINITY};
    begin();
    ck_assert_int_eq(mproc_file_lock(file, NAN), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_lock_shared(file, NAN), MPROC_EINVAL);
    pid_t pid = holder(false);
    for (size_t i = 0; i < sizeof at_once / sizeof *at_once; i++) {
        TAKES(at_once[i], 0.05, ck_assert_int_eq(mproc_file_lock(file, at_once[i]), MPROC_ETIMEDOUT));
        TAKES(at_once[i], 0.05, ck_assert_int_eq(mproc_file_lock_shared(file, at_once[i]), MPROC_ETIMEDOUT));
    }
    ck_assert_int_eq(mproc_file_lock(file, NAN), MPROC_EINVAL);
    let_go(pid);
    for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
        ck_assert_int_eq(mproc_file_lock(file, for_ever[i]), 0);
        ck_assert_int_eq(mproc_file_unlock(file), 0);
        ck_assert_int_eq(mproc_file_lock_shared(file, for_ever[i]), 0);
        ck_assert_int_eq(mproc_file_unlock(file), 0);
    }
    finish();
}
END_TEST

static int let_go_in_a_moment(void *arg) {
    nap(*(double *)arg);
    POKE(&said[GO], 1);
    return 0;
}

START_TEST(flck_04_x01_signals_neither_end_nor_stretch_a_wait) {
    begin();
    pid_t pid = holder(false);
    signal_storm(10000);
    TAKES(0.5, 0.6, ck_assert_int_eq(mproc_file_lock(file, 0.5), MPROC_ETIMEDOUT));
    TAKES(0.3, 0.4, ck_assert_int_eq(mproc_file_lock_shared(file, 0.3), MPROC_ETIMEDOUT));
    double moment = 0.4;
    pid_t other = spawn(let_go_in_a_moment, &moment);
    TAKES(0.3, 0.6, ck_assert_int_eq(mproc_file_lock(file, MPROC_FOREVER), 0));
    ck_assert_int_eq(ended(other), 0);
    ck_assert_int_eq(ended(pid), 0);
    signal_storm(0);
    finish();
}
END_TEST

START_TEST(x59_waiting_uses_no_processor) {
    begin();
    pid_t pid = holder(false);
    double before = cpu_seconds();
    TAKES(2, 2.1, ck_assert_int_eq(mproc_file_lock(file, 2), MPROC_ETIMEDOUT));
    ck_assert_msg(cpu_seconds() - before < 0.02 * SLOW, "%.1f ms", (cpu_seconds() - before) * 1e3);
    let_go(pid);
    finish();
}
END_TEST

static int wait_for_lock(void *arg) {
    (void)arg;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    POKE(&said[DONE], 1);
    MUST_EQ(mproc_file_lock(mine, MPROC_FOREVER), 0);
    POKE(&said[DONE], 2);
    return 0;
}

START_TEST(x60_killed_holder) {
    begin();
    pid_t pid = holder(false);
    pid_t waiter = spawn(wait_for_lock, NULL);
    EVENTUALLY(PEEK(&said[DONE]) == 1 && process_state(waiter) == 'S');
    kill(pid, SIGKILL);
    double killed = now();
    EVENTUALLY(PEEK(&said[DONE]) == 2);
    ck_assert_msg(now() - killed < 0.5 * SLOW, "after %.3f s", now() - killed);
    ck_assert_int_eq(ended(pid), -SIGKILL);
    ck_assert_int_eq(ended(waiter), 0);
    TAKES(0, 0.5, ck_assert_int_eq(mproc_file_lock(file, 3), 0)); /* the waiter ended holding it */
    finish();
}
END_TEST

static int linger(void *arg) {
    (void)arg;
    for (;;) pause();
    return 0;
}

static int hold_start_child_and_be_killed(void *arg) {
    int how = *(int *)arg;
    mproc_process child = {.target = linger};
    MUST_EQ(mproc_file_lock(file, 1), 0);
    if (how == 0) {
        MUST_EQ(mproc_process_start(&child), 0);
    } else {
        pid_t pid = how == 1 ? mproc_fork() : fork();
        MUST(pid >= 0);
        if (pid == 0) linger(NULL);
        child.pid = pid;
    }
    POKE(&said[HELD], (int)child.pid);
    raise(SIGKILL);
    return 0;
}

START_TEST(x60_killed_holder_whose_child_lives) {
    begin();
    for (int how = 0; how < 3; how++) { /* the child by start, by mproc_fork, by fork */
        POKE(&said[HELD], 0);
        ck_assert_int_eq(ended(spawn(hold_start_child_and_be_killed, &how)), -SIGKILL);
        pid_t child = PEEK(&said[HELD]);
        ck_assert_int_gt(child, 0);
        ck_assert(!process_gone(child));
        int error = mproc_file_lock(file, 2);
        kill(child, SIGKILL);
        ck_assert_msg(error == 0, "a child of way %d keeps its dead parent's lock: %d", how, error);
        ck_assert_int_eq(mproc_file_unlock(file), 0);
    }
    finish();
}
END_TEST

static int fork_amid_and_be_killed(void *arg) {
    mproc_file *mine = file;
    int how = *(int *)arg;
    if (how == 0) fork_at = "/file"; /* opened, and nobody knows of it yet */
    if (how <= 1) MUST((mine = mproc_file_open(path)) != NULL);
    if (how == 2) MUST_EQ(mproc_file_lock(mine, 1), 0); /* opens it anew: the handle is inherited */
    if (how == 1) fork_at = ".mproc-new";
    if (how == 2) fork_at = "/file"; /* renamed */
    MUST_EQ(mproc_file_update(mine, edit_nothing, NULL), 0);
    if (how != 2) MUST_EQ(mproc_file_lock(mine, 1), 0);
    raise(SIGKILL);
    return 0;
}

/* As another thread of the holder might do, at the worst moment. */
START_TEST(x60_killed_holder_whose_child_was_forked_amid_a_call) {
    begin();
    for (int how = 0; how < 3; how++) {
        ck_assert_int_eq(ended(spawn(fork_amid_and_be_killed, &how)), -SIGKILL);
        pid_t child = PEEK(&said[8]);
        ck_assert_int_gt(child, 0);
        int error = mproc_file_lock(file, 2);
        kill(child, SIGKILL);
        ck_assert_msg(error == 0, "a child of way %d keeps its dead parent's lock: %d", how, error);
        ck_assert_int_eq(mproc_file_unlock(file), 0);
        POKE(&said[8], 0);
    }
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}
END_TEST

static int descriptor_is_open(void *fd) { return fcntl(*(int *)fd, F_GETFD) >= 0; }
static void *fork_when_told(void *arg) {
    await(&said[GO], 1);
    int mine = open("/dev/null", O_RDONLY | O_CLOEXEC); /* gets the number that was closed a moment ago */
    MUST_EQ(ended(spawn(descriptor_is_open, &mine)), 1);
    close(mine);
    POKE(&said[DONE], 1);
    return arg;
}
static void wait_for_the_fork(void) {
    POKE(&said[GO], 1);
    for (int i = 0; i < 200 && PEEK(&said[DONE]) == 0; i++) nap(0.001); /* the lock may keep it waiting */
}

START_TEST(update_closes_no_descriptor_of_a_child) {
    pthread_t thread;
    begin();
    ck_assert_int_eq(pthread_create(&thread, NULL, fork_when_told, NULL), 0);
    close_slowly = file->fd;
    meanwhile = wait_for_the_fork;
    ck_assert_int_eq(mproc_file_update(file, edit_nothing, NULL), 0);
    ck_assert_int_eq(close_slowly, -1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    finish();
}
END_TEST

static int use_inherited(void *arg) {
    (void)arg;
    MUST_EQ(mproc_file_unlock(file), MPROC_EPERM); /* it is the parent's lock */
    MUST_EQ(mproc_file_lock(file, 0), MPROC_ETIMEDOUT);
    MUST_EQ(mproc_file_lock(file, 0.1), MPROC_ETIMEDOUT);
    MUST_EQ(mproc_file_lock_shared(file, 0), MPROC_ETIMEDOUT);
    MUST_EQ(mproc_file_unlock(file), MPROC_EPERM);
    POKE(&said[DONE], 1);
    await(&said[GO], 1); /* the parent has unlocked */
    MUST_EQ(mproc_file_lock(file, 5), 0);
    POKE(&said[DONE], 2);
    await(&said[GO], 2);
    MUST_EQ(mproc_file_append(file, "child\n", 6), 0);
    MUST_EQ(mproc_file_unlock(file), 0);
    MUST_EQ(mproc_file_close(file), 0);
    return 0;
}

static int close_inherited(void *arg) {
    (void)arg;
    return mproc_file_close(file) != 0;
}

START_TEST(x60_inherited_handle_is_a_lock_of_the_childs_own) {
    begin();
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(ended(spawn(close_inherited, NULL)), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    pid_t pid = spawn(use_inherited, NULL);
    EVENTUALLY(PEEK(&said[DONE]) == 1);
    ck_assert_int_eq(others_lock(), ETIMEDOUT); /* neither unlock nor close in a child has freed it */
    ck_assert_int_eq(mproc_file_append(file, "parent\n", 7), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    POKE(&said[GO], 1);
    EVENTUALLY(PEEK(&said[DONE]) == 2);
    ck_assert_int_eq(mproc_file_lock(file, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_file_unlock(file), MPROC_EPERM);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    POKE(&said[GO], 2);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_str_eq(slurp(path), "parent\nchild\n");
    finish();
}
END_TEST

/* libc's _Fork calls no handlers: such a child has the parent's own descriptor. */
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
#define HAS_BARE_FORK
#endif
#endif
START_TEST(close_in_a_child_of_a_bare_fork_keeps_the_lock) {
#ifdef HAS_BARE_FORK
    begin();
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    pid_t pid = _Fork();
    if (pid == 0) _exit(close_inherited(NULL));
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    finish();
#endif
}
END_TEST

START_TEST(x60_second_handle_and_upgrade) {
    begin();
    mproc_file *second = mproc_file_open(path);
    ck_assert_ptr_nonnull(second);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc_file_lock(second, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_file_lock_shared(second, 0.1), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_file_unlock(second), MPROC_EPERM);
    ck_assert_int_eq(mproc_file_lock(file, 0), -EDEADLK); /* this one holds it itself */
    ck_assert_int_eq(mproc_file_lock(file, MPROC_FOREVER), -EDEADLK);
    ck_assert_int_eq(mproc_file_lock_shared(file, 1), -EDEADLK);
    ck_assert_int_eq(others_shared(), ETIMEDOUT); /* and has not given it up by that */
    ck_assert_int_eq(mproc_file_close(second), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_lock_shared(file, 0), 0);
    ck_assert_int_eq(mproc_file_lock(file, 0), -EDEADLK);
    ck_assert_int_eq(others_lock(), ETIMEDOUT); /* still shared */
    ck_assert_int_eq(others_shared(), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(others_lock(), 0);
    finish();
}
END_TEST

static int lock_and_exec(void *arg) {
    (void)arg;
    mproc_file *mine = mproc_file_open(path);
    MUST_EQ(mproc_file_lock(mine, 1), 0);
    POKE(&said[HELD], 1);
    execlp("sleep", "sleep", "60", (char *)NULL);
    return 99;
}

static int lock_start_program_and_end(void *arg) {
    (void)arg;
    MUST_EQ(mproc_file_lock(file, 1), 0);
    int ready[2];
    MUST_EQ(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("sleep", "sleep", "60", (char *)NULL);
        _exit(99);
    }
    close(ready[1]);
    MUST_EQ(read(ready[0], &pid, 1), 0); /* the exec has closed it */
    POKE(&said[HELD], (int)pid);
    return 0;
}

START_TEST(x60_another_program_does_not_keep_the_lock) {
    begin();
    pid_t pid = spawn(lock_and_exec, NULL);
    EVENTUALLY(PEEK(&said[HELD]) == 1);
    ck_assert_int_eq(mproc_file_lock(file, 3), 0);
    ck_assert(!process_gone(pid));
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    kill(pid, SIGKILL);
    ended(pid);
    ck_assert_int_eq(ended(spawn(lock_start_program_and_end, NULL)), 0);
    ck_assert_int_eq(mproc_file_lock(file, 1), 0);
    kill(PEEK(&said[HELD]), SIGKILL);
    finish();
}
END_TEST

/* ---- Threads and one handle -----------------------------------------------------------------------------
 */

static void *lock_and_end(void *arg) {
    MUST_EQ(mproc_file_lock(file, 5), 0);
    POKE(&said[HELD], (int)mproc__gettid());
    return arg;
}

START_TEST(x60_holder_thread_that_ended) {
    pthread_t thread;
    begin();
    for (int how = 0; how < 4; how++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, lock_and_end, NULL), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        EVENTUALLY(!mproc__alive(getpid(), PEEK(&said[HELD]))); /* for the kernel, too, a moment later */
        ck_assert_int_eq(others_lock(), ETIMEDOUT);
        ck_assert_int_eq(mproc_file_unlock(file), MPROC_EPERM);
        if (how == 0) ck_assert_int_eq(mproc_file_lock(file, 0), 0);
        if (how == 1) ck_assert_int_eq(mproc_file_lock_shared(file, 5), 0);
        if (how <= 1) ck_assert_int_eq(mproc_file_unlock(file), 0);
        if (how == 2) ck_assert_int_eq(mproc_file_append(file, "text", 4), 0);
        if (how == 3) ck_assert_int_eq(mproc_file_close(file), 0);
        ck_assert_int_eq(others_lock(), 0);
    }
    file = mproc_file_open(path);
    ck_assert_str_eq(slurp(path), "text");
    finish();
}
END_TEST

static void *hold_in_a_thread(void *arg) {
    POKE(&said[HELD], 1);
    MUST_EQ(mproc_file_lock(file, MPROC_FOREVER), 0);
    POKE(&said[HELD], 2);
    await(&said[GO], 1);
    MUST_EQ(mproc_file_unlock(file), 0);
    return arg;
}
static int edit_close(char **data, size_t *size, void *ctx) {
    (void)data;
    (void)size;
    *(int *)ctx = mproc_file_close(file);
    return 0;
}

START_TEST(close_of_a_handle_in_use) {
    pthread_t thread;
    int error = 0;
    begin();
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_in_a_thread, NULL), 0);
    EVENTUALLY(PEEK(&said[HELD]) == 1 && mproc_file_close(file) == MPROC_EBUSY); /* the other one waits */
    ck_assert_int_eq(ended(spawn(close_inherited, NULL)), 0); /* whose threads are not there */
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    EVENTUALLY(PEEK(&said[HELD]) == 2);
    ck_assert_int_eq(mproc_file_close(file), MPROC_EBUSY); /* it holds the lock */
    POKE(&said[GO], 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(mproc_file_update(file, edit_close, &error), 0);
    ck_assert_int_eq(error, MPROC_EBUSY);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc_file_update(file, edit_close, &error), 0);
    ck_assert_int_eq(error, MPROC_EBUSY);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    finish();
}
END_TEST

/* Two threads at one handle: one closes it, the other closes it or appends. */
enum { CLOSES = 3000 };
static pthread_barrier_t meet;
static int closed_by_other;
static void *use_while_it_is_closed(void *arg) {
    for (int i = 0; i < CLOSES; i++) {
        pthread_barrier_wait(&meet);
        int error = i % 2 == 0 ? mproc_file_close(file) : mproc_file_append(file, "x", 1);
        MUST(error == 0 || error == MPROC_EINVAL);
        closed_by_other = i % 2 == 0 && error == 0;
        pthread_barrier_wait(&meet);
    }
    return arg;
}

START_TEST(close_beside_another_thread) {
    pthread_t thread;
    begin();
    ck_assert_int_eq(pthread_barrier_init(&meet, NULL, 2), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, use_while_it_is_closed, NULL), 0);
    for (int i = 0; i < CLOSES; i++) {
        pthread_barrier_wait(&meet);
        for (volatile int n = i % 50 * 10; n > 0;) n--;
        int error = mproc_file_close(file);
        pthread_barrier_wait(&meet);
        if (i % 2 == 0) ck_assert_int_eq(error, closed_by_other ? MPROC_EINVAL : 0);
        else ck_assert(error == 0 || error == MPROC_EBUSY);
        if (error == MPROC_EBUSY) ck_assert_int_eq(mproc_file_close(file), 0);
        ck_assert_ptr_nonnull(file = mproc_file_open(path));
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    finish();
}
END_TEST

/* ---- Opening --------------------------------------------------------------------------------------------
 */

START_TEST(open_makes_regular_files_only) {
    char name[192];
    struct stat s;
    begin();
    ck_assert_int_eq(stat(path, &s), 0);
    mode_t mask = umask(027);
    snprintf(name, sizeof name, "%s/new", folder);
    mproc_file *other = mproc_file_open(name);
    umask(mask);
    ck_assert_ptr_nonnull(other);
    ck_assert_int_eq(stat(name, &s), 0);
    ck_assert_uint_eq(s.st_mode & 07777, 0640);
    ck_assert_int_eq(mproc_file_close(other), 0);

    errno = 0;
    ck_assert_ptr_null(mproc_file_open(NULL));
    ck_assert_int_eq(errno, EINVAL);
    errno = 0;
    ck_assert_ptr_null(mproc_file_open(""));
    ck_assert_int_ne(errno, 0);
    errno = 0;
    ck_assert_ptr_null(mproc_file_open(folder));
    ck_assert_int_ne(errno, 0);
    snprintf(name, sizeof name, "%s/none/file", folder);
    errno = 0;
    ck_assert_ptr_null(mproc_file_open(name));
    ck_assert_int_eq(errno, ENOENT);
    snprintf(name, sizeof name, "%s/fifo", folder);
    ck_assert_int_eq(mkfifo(name, 0600), 0);
    errno = 0;
    TAKES(0, 0.1, ck_assert_ptr_null(mproc_file_open(name))); /* nor waits for its other end */
    ck_assert_int_ne(errno, 0);
    ck_assert_ptr_null(mproc_file_open("/dev/null"));
    int reader = open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct pollfd end = {.fd = reader, .events = POLLIN};
    ck_assert_ptr_null(mproc_file_open(name));
    ck_assert_int_eq(poll(&end, 1, 0), 0); /* who reads has not seen a writer come and go */
    close(reader);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_ptr_null(mproc_file_open(address.sun_path));
    close(fd);
    finish();
}
END_TEST

static int open_far_below(void *arg) {
    char name[256] = "";
    (void)arg;
    memset(name, 'n', 250);
    MUST_EQ(chdir(folder), 0);
    for (int i = 0; i < 20; i++) MUST(mkdir(name, 0755) == 0 && chdir(name) == 0);
    errno = 0;
    MUST(mproc_file_open("file") == NULL); /* its absolute path has no room */
    MUST_EQ(errno, ENAMETOOLONG);
    return 0;
}

START_TEST(names_as_long_as_they_may_be) {
    char name[64 + 256], block[10000];
    begin();
    int n = snprintf(name, sizeof name, "%s/", folder);
    memset(name + n, 'n', 255);
    name[n + 255] = 0;
    memset(block, 'b', sizeof block);
    mproc_file *other = mproc_file_open(name);
    ck_assert_ptr_nonnull(other);
    ck_assert_int_eq(mproc_file_append(other, "0\n", 2), 0);
    ck_assert_int_eq(mproc_file_append(other, block, sizeof block), 0);
    ck_assert_int_eq(mproc_file_update(other, edit_nothing, NULL), 0);
    ck_assert_int_eq(size_of(name), 2 + (off_t)sizeof block);
    ck_assert_int_eq(files_in_folder(), 2);
    ck_assert_int_eq(mproc_file_close(other), 0);
    ck_assert_int_eq(ended(spawn(open_far_below, NULL)), 0);
    finish();
}
END_TEST

static int use_handle_of_a_lost_file(void *arg) {
    (void)arg;
    char name[192];
    MUST_EQ(unlink(path), 0);
    MUST_EQ(rmdir(folder), 0);
    MUST(mproc_file_lock(file, 0) < 0); /* cannot be opened again, and that is all */
    int before = open_fds(), mine[64];
    for (int i = 0; i < 64; i++) mine[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    MUST(mproc_file_lock(file, 0) < 0);
    MUST(mproc_file_append(file, "x", 1) < 0);
    MUST_EQ(mproc_file_unlock(file), MPROC_EPERM);
    MUST_EQ(mproc_file_close(file), 0);
    snprintf(name, sizeof name, "%s", folder);
    for (int i = 0; i < 64; i++) MUST_EQ(fcntl(mine[i], F_GETFD), FD_CLOEXEC); /* not closed by the library */
    for (int i = 0; i < 64; i++) close(mine[i]);
    MUST(open_fds() <= before);
    MUST_EQ(mkdir(name, 0700), 0);
    return 0;
}

START_TEST(inherited_handle_of_a_lost_file) {
    begin();
    ck_assert_int_eq(ended(spawn(use_handle_of_a_lost_file, NULL)), 0);
    finish();
}
END_TEST

START_TEST(descriptors_come_back_and_are_not_inherited) {
    begin();
    ck_assert_int_eq(mproc_file_close(NULL), 0);
    int fds = open_fds();
    for (int i = 0; i < 100; i++) {
        mproc_file *other = mproc_file_open(path);
        ck_assert_ptr_nonnull(other);
        if (i % 2 == 0) ck_assert_int_eq(mproc_file_lock(other, 0), 0);
        if (i % 3 == 0) ck_assert_int_eq(mproc_file_append(other, "x", 1), 0);
        if (i % 5 == 0) ck_assert_int_eq(mproc_file_update(other, edit_nothing, NULL), 0);
        ck_assert_int_eq(mproc_file_close(other), 0);
        ck_assert_ptr_null(mproc_file_open(folder));
    }
    ck_assert_int_eq(open_fds(), fds);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    for (int fd = 3; fd < 100; fd++) { /* whatever is open on something in the folder */
        char link[64], target[256];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof target - 1);
        if (n <= 0) continue;
        target[n] = 0;
        if (strncmp(target, folder, strlen(folder)) == 0)
            ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    }
    finish();
}
END_TEST

START_TEST(misuse) {
    char byte = 'x';
    begin();
    ck_assert_int_eq(mproc_file_lock(NULL, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_lock_shared(NULL, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_unlock(NULL), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_append(NULL, "x", 1), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_update(NULL, edit_nothing, NULL), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_close(NULL), 0);
    ck_assert_int_eq(mproc_file_append(file, NULL, 5), MPROC_EINVAL);
    ck_assert_int_eq(mproc_file_update(file, NULL, NULL), MPROC_EINVAL);
    ck_assert_int_lt(mproc_file_append(file, &byte, SIZE_MAX), 0);
    ck_assert_int_lt(mproc_file_append(file, &byte, SIZE_MAX / 2 + 1), 0);
    ck_assert_int_eq(mproc_file_append(file, NULL, 0), 0);
    ck_assert_int_eq(mproc_file_append(file, &byte, 0), 0);
    ck_assert_int_eq(size_of(path), 0);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0); /* a failed call has not kept the lock */
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}
END_TEST

/* As the system refuses a number that is no descriptor. */
START_TEST(flck_05_what_is_not_a_handle) {
    static unsigned char noise[512];
    uint64_t zeros[64] = {0};
    begin();
    memset(noise, 0xa5, sizeof noise);
    mproc_lock *lock = mproc_lock_new();
    mproc_file *closed = mproc_file_open(path);
    ck_assert(lock != NULL && closed != NULL);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc_file_close(closed), 0);
    void *handles[] = {noise + 64,         zeros, lock, closed, (char *)file + 8, (void *)(uintptr_t)3,
                       (void *)UINTPTR_MAX};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) {
        mproc_file *f = handles[i];
        TAKES(0, 0.05, ck_assert_int_eq(mproc_file_lock(f, MPROC_FOREVER), MPROC_EINVAL));
        TAKES(0, 0.05, ck_assert_int_eq(mproc_file_lock_shared(f, MPROC_FOREVER), MPROC_EINVAL));
        ck_assert_int_eq(mproc_file_unlock(f), MPROC_EINVAL);
        ck_assert_int_eq(mproc_file_append(f, "x", 1), MPROC_EINVAL);
        ck_assert_int_eq(mproc_file_update(f, edit_nothing, NULL), MPROC_EINVAL);
        ck_assert_int_eq(mproc_file_close(f), MPROC_EINVAL);
    }
    ck_assert_int_eq(others_lock(), ETIMEDOUT); /* nothing was harmed */
    ck_assert_int_eq(size_of(path), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_lock_free(lock), 0);
    finish();
}
END_TEST

static int as_ordinary_user(void *arg) {
    (void)arg;
    char name[192];
    if (setgid(65534) != 0 || setuid(65534) != 0) return 98;
    snprintf(name, sizeof name, "%s/read-only", folder);
    errno = 0;
    mproc_file *fixed = mproc_file_open(name); /* refused, or good for locks and no more */
    if (fixed == NULL) MUST_EQ(errno, EACCES);
    else MUST_EQ(mproc_file_append(fixed, "x", 1), -EACCES);
    MUST(strcmp(slurp(name), "fixed\n") == 0);
    mproc_file *mine = mproc_file_open(path); /* writable, in a folder that is not */
    MUST(mine != NULL);
    MUST_EQ(mproc_file_append(mine, "two\n", 4), 0);
    int error = mproc_file_update(mine, edit_nothing, NULL);
    MUST(error == 0 || error == -EACCES || error == -EPERM);
    MUST(strcmp(slurp(path), "one\ntwo\n") == 0);
    for (int i = 0; i < 300; i++)
        MUST_EQ(mproc_file_append(mine, "a line that goes on for a while\n", 32), 0);
    char block[10000];
    memset(block, '\n', sizeof block);
    MUST_EQ(mproc_file_append(mine, block, sizeof block), 0);
    MUST_EQ(size_of(path), 8 + 300 * 32 + (off_t)sizeof block);
    snprintf(name, sizeof name, "%s/new", folder);
    errno = 0;
    MUST(mproc_file_open(name) == NULL);
    MUST_EQ(errno, EACCES);
    MUST_EQ(mproc_file_lock(mine, 0), 0);
    return 0;
}

START_TEST(without_the_right_to_write) {
    if (geteuid() != 0) {
        printf("skipped, it takes privileges to give some up\n");
        return;
    }
    char name[192];
    begin();
    snprintf(name, sizeof name, "%s/read-only", folder);
    write_file(name, "fixed\n");
    ck_assert_int_eq(chmod(name, 0444), 0);
    ck_assert_int_eq(mproc_file_append(file, "one\n", 4), 0);
    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_int_eq(chmod(folder, 0755), 0);
    ck_assert_int_eq(ended(spawn(as_ordinary_user, NULL)), 0);
    ck_assert_int_eq(files_in_folder(), 2);
    finish();
}
END_TEST

/* ---- Append ---------------------------------------------------------------------------------------------
 */

/* Line i of a writer: its length follows from both, so that a torn one shows. */
static size_t line_of(char *line, int writer, int i) {
    int n = sprintf(line, "%d %d ", writer, i), length = 20 + (writer * 37 + i * 61) % 1500;
    if (i % 100 == 99) length = 70000;
    memset(line + n, 'a' + (writer + i) % 26, (size_t)(length - n));
    line[length] = '\n';
    return (size_t)length + 1;
}

enum { WRITERS = 8, LINES = 300 };
static int append_lines(void *arg) {
    int writer = *(int *)arg;
    static char line[70002];
    mproc_file *mine = writer % 2 == 0 ? mproc_file_open(path) : file; /* own, and inherited handles */
    MUST(mine != NULL);
    for (int i = 0; i < LINES; i++) MUST_EQ(mproc_file_append(mine, line, line_of(line, writer, i)), 0);
    return 0;
}

static void *append_lines_thread(void *arg) {
    int writer = *(int *)arg;
    char *line = malloc(70002);
    MUST(line != NULL);
    for (int i = 0; i < LINES; i++) MUST_EQ(mproc_file_append(file, line, line_of(line, writer, i)), 0);
    free(line);
    return NULL;
}

static void check_lines(int writers) {
    static char line[70002];
    int next[WRITERS] = {0}, count = 0;
    size_t size, length;
    char *text = read_all(path, &size);
    for (char *at = text; at < text + size; at += length, count++) {
        char *space;
        long writer = strtol(at, &space, 10), i = strtol(space, NULL, 10);
        ck_assert_msg(writer >= 0 && writer < writers && i == next[writer], "line %d is of writer %ld, %ld",
                      count, writer, i);
        next[writer]++;
        length = line_of(line, (int)writer, (int)i);
        ck_assert(length <= (size_t)(text + size - at) && memcmp(at, line, length) == 0);
    }
    ck_assert_int_eq(count, writers * LINES);
    free(text);
}

START_TEST(append_of_whole_lines_by_processes) {
    int ids[WRITERS];
    pid_t pids[WRITERS];
    begin();
    for (int i = 0; i < WRITERS; i++) {
        ids[i] = i;
        pids[i] = spawn(append_lines, &ids[i]);
    }
    for (int i = 0; i < WRITERS; i++) ck_assert_int_eq(ended(pids[i]), 0);
    check_lines(WRITERS);
    finish();
}
END_TEST

START_TEST(append_of_whole_lines_by_threads_with_one_handle) {
    int ids[4];
    pthread_t threads_[4];
    begin();
    for (int i = 0; i < 4; i++) {
        ids[i] = i;
        ck_assert_int_eq(pthread_create(&threads_[i], NULL, append_lines_thread, &ids[i]), 0);
    }
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_join(threads_[i], NULL), 0);
    check_lines(4);
    finish();
}
END_TEST

START_TEST(append_and_locks_of_the_handle) {
    begin();
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc_file_append(file, "one\n", 4), 0);
    ck_assert_int_eq(mproc_file_append(file, "two\n", 4), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT); /* append has left the lock with its holder */
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_lock_shared(file, 0), 0);
    ck_assert_int_eq(mproc_file_append(file, "three\n", 6), MPROC_EPERM);
    ck_assert_int_lt(mproc_file_update(file, edit_nothing, NULL), 0);
    ck_assert_int_eq(others_shared(), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(mproc_file_append(file, "four\n", 5), 0);
    ck_assert_int_eq(others_lock(), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\nfour\n");
    finish();
}
END_TEST

START_TEST(append_follows_the_path_and_minds_other_names) {
    char moved[192], block[10000];
    begin();
    snprintf(moved, sizeof moved, "%s/moved", folder);
    memset(block, 'b', sizeof block);
    ck_assert_int_eq(mproc_file_append(file, "one\n", 4), 0);
    ck_assert_int_eq(rename(path, moved), 0); /* away, and not over another */
    write_file(path, "new\n");
    ck_assert_int_eq(mproc_file_append(file, "two\n", 4), 0);
    ck_assert_str_eq(slurp(moved), "one\n");
    ck_assert_str_eq(slurp(path), "new\ntwo\n");
    ck_assert_int_eq(unlink(moved), 0);
    ck_assert_int_eq(link(path, moved), 0); /* two names look as after a killed append */
    ck_assert_int_eq(mproc_file_append(file, block, sizeof block), 0);
    ck_assert_int_eq(mproc_file_append(file, "end\n", 4), 0);
    ck_assert_int_eq(size_of(moved), 12 + (off_t)sizeof block);
    ck_assert_int_eq(files_in_folder(), 2);
    finish();
}
END_TEST

/* Stays in the midst of a long append: the file has grown, the mark may stand. */
static int tear(void *marked) {
    size_t done;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL && mproc_file_lock(mine, 5) == 0);
    MUST_EQ(mproc__file_mark(mine), *(int *)marked);
    MUST_EQ(mproc__write_all(mine->fd, "torn\n", 5, &done, false), 0);
    return 0;
}

START_TEST(append_behind_a_torn_one) {
    char sub[128], name[192];
    int marked = 1;
    begin();
    ck_assert_int_eq(mproc_file_append(file, "one\n", 4), 0);
    ck_assert_int_eq(ended(spawn(tear, &marked)), 0);
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    ck_assert_int_eq(mproc__file_mark(file), 1); /* of the dead one's mark nothing is left */
    ck_assert_int_eq(write(file->fd, "torn\n", 5), 5);
    ck_assert_int_eq(mproc_file_append(file, "two\n", 4),
                     0); /* nor of one that could not be removed in time */
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\n");

    snprintf(sub, sizeof sub, "%s/sub", folder);
    snprintf(name, sizeof name, "%s/other", sub);
    ck_assert(mkdir(sub, 0755) == 0 && link(path, name) == 0);
    mproc_file *other = mproc_file_open(name);
    marked = 0; /* who comes by the other name would not see it */
    ck_assert_int_eq(ended(spawn(tear, &marked)), 0);
    ck_assert_int_eq(mproc_file_append(other, "three\n", 6), 0);
    ck_assert_int_eq(mproc_file_append(file, "four\n", 5), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\ntorn\nthree\nfour\n");
    ck_assert_int_eq(mproc_file_close(other), 0);
    ck_assert_int_eq(files_in_folder(), 2);
    finish();
}
END_TEST

/* Another program, whose off_t is wider, may have made it larger than ours can tell: then it is left alone.
 */
START_TEST(append_behind_a_torn_one_far_back) {
    char command[512];
    begin();
    ck_assert_int_eq(mproc_file_append(file, "one\n", 4), 0);
    snprintf(command, sizeof command,
             "cd %s && truncate -s 5000000000 file && ln file .file.mproc-mark && ln -s %s .file.mproc-note",
             folder, "4500000000");
    ck_assert_int_eq(system(command), 0);
    int error = mproc_file_append(file, "two\n", 4);
    ck_assert_int_eq(error, sizeof(off_t) > 4 ? 0 : -EOVERFLOW);
    ck_assert_int_eq(mproc_file_lock(file, 0), error);
    snprintf(command, sizeof command, "test $(stat -c %%s %s/file) = %s", folder,
             error == 0 ? "4500000004" : "5000000000");
    ck_assert_int_eq(system(command), 0);
    finish();
}
END_TEST

static int append_five(void *arg) {
    (void)arg;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    POKE(&said[DONE], 1);
    MUST_EQ(mproc_file_append(mine, "five\n", 5), 0);
    return 0;
}

START_TEST(append_waits_for_the_lock) {
    begin();
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    pid_t pid = spawn(append_five, NULL);
    EVENTUALLY(PEEK(&said[DONE]) == 1 && process_state(pid) == 'S');
    nap(0.02); /* time enough for one that would not wait */
    ck_assert_int_eq(size_of(path), 0);
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_str_eq(slurp(path), "five\n");
    finish();
}
END_TEST

/* ---- Update ---------------------------------------------------------------------------------------------
 */

static int edit_counter(char **data, size_t *size, void *ctx) {
    char text[32];
    (void)ctx;
    MUST((*data)[*size] == 0); /* so it can be read as a string, also when it is empty */
    long n = strtol(*data, NULL, 10);
    int length = sprintf(text, "%ld\n", n + 1), old = 0;
    while ((size_t)old < *size && (*data)[old++] != '\n') continue;
    char *grown = realloc(*data, *size + (size_t)length + 1);
    if (grown == NULL) return -ENOMEM;
    memmove(grown + length, grown + old, *size - (size_t)old); /* the lines behind stay */
    memcpy(grown, text, (size_t)length);
    *data = grown;
    *size += (size_t)(length - old);
    return 0;
}

static int edit_refuse(char **data, size_t *size, void *ctx) {
    if (*size > 0) memset(*data, '!', *size);
    *size = *size > 1 ? 1 : 0;
    return *(int *)ctx;
}

static int edit_append_text(char **data, size_t *size, void *ctx) {
    const char *text = ctx;
    char *grown = realloc(*data, *size + strlen(text) + 1);
    if (grown == NULL) return -ENOMEM;
    memcpy(grown + *size, text, strlen(text));
    *size += strlen(text);
    *data = grown;
    return 0;
}

static int edit_truncate(char **data, size_t *size, void *ctx) {
    if (ctx != NULL) {
        free(*data);
        *data = NULL;
    }
    *size = 0;
    return 0;
}

START_TEST(update_changes_the_whole_file) {
    begin();
    ck_assert_int_eq(mproc_file_update(file, edit_append_text, (void *)(uintptr_t) "one\n"), 0);
    ck_assert_str_eq(slurp(path), "one\n");
    ck_assert_int_eq(mproc_file_append(file, "two\n", 4), 0);
    ck_assert_int_eq(mproc_file_update(file, edit_append_text, (void *)(uintptr_t) "three\n"), 0);
    ck_assert_int_eq(mproc_file_append(file, "four\n", 5), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\nthree\nfour\n");
    const int codes[] = {1, -1, -EINVAL, 12345};
    for (size_t i = 0; i < 4; i++) {
        int code = codes[i];
        ck_assert_int_eq(mproc_file_update(file, edit_refuse, &code), code);
        ck_assert_str_eq(slurp(path), "one\ntwo\nthree\nfour\n");
        ck_assert_int_eq(others_lock(), 0);
    }
    ck_assert_int_eq(mproc_file_update(file, edit_nothing, NULL), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\nthree\nfour\n");
    ck_assert_int_eq(mproc_file_update(file, edit_truncate, NULL), 0);
    ck_assert_int_eq(size_of(path), 0);
    ck_assert_int_eq(mproc_file_update(file, edit_counter, NULL), 0);
    ck_assert_int_eq(mproc_file_update(file, edit_truncate, file), 0);
    ck_assert_int_eq(size_of(path), 0);
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}
END_TEST

/* Not cut to what 32 bits can count. */
START_TEST(update_of_what_no_memory_holds) {
#if SIZE_MAX < UINT64_MAX
    begin();
    ck_assert_int_eq(mproc_file_append(file, "hello\n", 6), 0);
    char command[200];
    snprintf(command, sizeof command, "truncate -s 4294967306 %s", path); /* 10 beyond 4 GiB */
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(mproc_file_update(file, edit_nothing, NULL), MPROC_ENOMEM);
    snprintf(command, sizeof command, "test $(stat -c %%s %s) = 4294967306", path);
    ck_assert_int_eq(system(command), 0);
    finish();
#endif
}
END_TEST

START_TEST(update_keeps_link_mode_and_owner) {
    char link[192], sub[128], target[256] = "";
    struct stat s;
    begin();
    snprintf(sub, sizeof sub, "%s/sub", folder);
    ck_assert_int_eq(mkdir(sub, 0755), 0);
    snprintf(link, sizeof link, "%s/link", sub);
    ck_assert_int_eq(symlink("../file", link), 0);
    write_file(path, "one\n");
    ck_assert_int_eq(chmod(path, 0640), 0);
    if (geteuid() == 0) ck_assert_int_eq(chown(path, 65534, 65533), 0);
    mproc_file *by_link = mproc_file_open(link);
    ck_assert_ptr_nonnull(by_link);
    ck_assert_int_eq(mproc_file_update(by_link, edit_append_text, (void *)(uintptr_t) "two\n"), 0);
    ck_assert_int_eq(readlink(link, target, sizeof target - 1), 7);
    ck_assert_str_eq(target, "../file");
    ck_assert_int_eq(lstat(path, &s), 0);
    ck_assert(S_ISREG(s.st_mode));
    ck_assert_uint_eq(s.st_mode & 07777, 0640);
    if (geteuid() == 0) ck_assert(s.st_uid == 65534 && s.st_gid == 65533);
    ck_assert_str_eq(slurp(path), "one\ntwo\n");
    ck_assert_int_eq(mproc_file_append(by_link, "three\n", 6), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\nthree\n");
    ck_assert_int_eq(mproc_file_lock(by_link, 0), 0); /* one lock, by whatever name it is reached */
    ck_assert_int_eq(mproc_file_lock(file, 0), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_file_close(by_link), 0);
    ck_assert_int_eq(count_entries(sub) - 2, 1);
    ck_assert_int_eq(files_in_folder(), 2);
    finish();
}
END_TEST

/* By a user who may not keep the owner: one of the group, a stranger, and root of a namespace of his own. */
enum { MEMBER, STRANGER, NAMESPACE };
static bool writes(const char *name, const char *text) {
    int fd = open(name, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) close(fd);
    return done;
}
static int update_as_another(void *arg) {
    int who = *(int *)arg;
    const gid_t group = 3000;
    if (setgroups(who == MEMBER, &group) != 0 || setgid(2000) != 0 || setuid(2000) != 0) return 77;
    prctl(PR_SET_DUMPABLE, 1); /* else the maps would be root's */
    if (who == NAMESPACE &&
        (unshare(CLONE_NEWUSER) != 0 || !writes("/proc/self/setgroups", "deny") ||
         !writes("/proc/self/uid_map", "0 2000 1") || !writes("/proc/self/gid_map", "0 2000 1")))
        return 77;
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    MUST_EQ(mproc_file_update(mine, edit_append_text, (void *)(uintptr_t) "more"), 0);
    return 0;
}

START_TEST(update_gives_no_rights_away) {
    struct stat s;
    begin();
    for (int who = MEMBER; who <= NAMESPACE; who++) {
        write_file(path, "text");
        int code = chown(path, 1500, 3000) == 0 && chmod(path, 06774) == 0 && chmod(folder, 0777) == 0
                       ? ended(spawn(update_as_another, &who))
                       : 77;
        if (code == 77) printf("skipped, not the rights to become user %d\n", who);
        if (code == 77) continue;
        ck_assert_int_eq(code, 0);
        ck_assert_int_eq(stat(path, &s), 0);
        ck_assert_str_eq(slurp(path), "textmore");
        ck_assert_uint_eq(s.st_uid, 2000);
        ck_assert_uint_eq(s.st_gid, who == MEMBER ? 3000 : 2000);
        ck_assert_uint_eq(s.st_mode & 07777, who == MEMBER ? 0774 : 0744);
        ck_assert_int_eq(unlink(path), 0);
    }
    finish();
}
END_TEST

START_TEST(update_of_a_relative_path_after_chdir) {
    begin();
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(chdir(folder), 0);
    mproc_file *relative = mproc_file_open("relative");
    ck_assert_ptr_nonnull(relative);
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(mproc_file_append(relative, "one\n", 4), 0);
    ck_assert_int_eq(mproc_file_update(relative, edit_append_text, (void *)(uintptr_t) "two\n"), 0);
    ck_assert_int_eq(mproc_file_append(relative, "three\n", 6), 0);
    ck_assert_int_eq(mproc_file_close(relative), 0);
    ck_assert_int_eq(fchdir(here), 0);
    close(here);
    char name[192];
    snprintf(name, sizeof name, "%s/relative", folder);
    ck_assert_str_eq(slurp(name), "one\ntwo\nthree\n");
    ck_assert_int_eq(files_in_folder(), 2);
    ck_assert_int_ne(access("/relative", F_OK), 0);
    finish();
}
END_TEST

static int edit_with_the_handle(char **data, size_t *size, void *ctx) {
    MUST_EQ(mproc_file_unlock(file), MPROC_EPERM);
    MUST_EQ(mproc_file_append(file, "lost", 4), -EDEADLK);
    MUST_EQ(mproc_file_update(file, edit_nothing, NULL), -EDEADLK);
    MUST_EQ(mproc_file_lock(file, 0), -EDEADLK);
    MUST_EQ(others_lock(), ETIMEDOUT);
    return edit_append_text(data, size, ctx);
}

START_TEST(update_keeps_its_handle_from_edit) {
    begin();
    for (int held = 0; held < 2; held++) {
        if (held) ck_assert_int_eq(mproc_file_lock(file, 0), 0);
        ck_assert_int_eq(mproc_file_update(file, edit_with_the_handle, (void *)(uintptr_t) "one\n"), 0);
        ck_assert_int_eq(others_lock(), held ? ETIMEDOUT : 0);
        ck_assert_int_eq(mproc_file_append(file, "two\n", 4), 0);
    }
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_str_eq(slurp(path), "one\ntwo\none\ntwo\n");
    finish();
}
END_TEST

START_TEST(update_leaves_the_lock_with_its_holder) {
    begin();
    mproc_file *before = mproc_file_open(path); /* opened on the file that will be replaced */
    ck_assert_int_eq(mproc_file_lock(file, 0), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(mproc_file_update(file, edit_counter, NULL), 0);
        ck_assert_int_eq(others_lock(), ETIMEDOUT);
        ck_assert_int_eq(others_shared(), ETIMEDOUT);
        ck_assert_int_eq(mproc_file_lock(before, 0), MPROC_ETIMEDOUT);
        ck_assert_int_eq(mproc_file_append(file, "line\n", 5), 0);
    }
    ck_assert_int_eq(mproc_file_unlock(file), 0);
    ck_assert_int_eq(others_lock(), 0);
    ck_assert_int_eq(mproc_file_lock(before, 0), 0);
    ck_assert_int_eq(others_lock(), ETIMEDOUT);
    ck_assert_int_eq(mproc_file_append(before, "last\n", 5), 0);
    ck_assert_int_eq(mproc_file_close(before), 0);
    ck_assert_str_eq(slurp(path), "3\nline\nline\nline\nlast\n");
    finish();
}
END_TEST

enum { UPDATES = 150, ADDED = 300 };
static int count_up(void *arg) {
    (void)arg;
    for (int i = 0; i < UPDATES; i++) MUST_EQ(mproc_file_update(file, edit_counter, NULL), 0);
    return 0;
}

static int add_lines(void *arg) {
    char line[32];
    for (int i = 0; i < ADDED; i++) {
        int n = sprintf(line, "%d:%d\n", *(int *)arg, i);
        MUST_EQ(mproc_file_append(file, line, (size_t)n), 0);
    }
    return 0;
}

START_TEST(append_and_update_exclude_each_other) {
    enum { ADDERS = 2, COUNTERS = 2 };
    int ids[ADDERS], next[ADDERS] = {0};
    pid_t pids[ADDERS + COUNTERS];
    begin();
    ck_assert_int_eq(mproc_file_append(file, "0\n", 2), 0);
    for (int i = 0; i < ADDERS; i++) {
        ids[i] = i;
        pids[i] = spawn(add_lines, &ids[i]);
    }
    for (int i = 0; i < COUNTERS; i++) pids[ADDERS + i] = spawn(count_up, NULL);
    for (int i = 0; i < ADDERS + COUNTERS; i++) ck_assert_int_eq(ended(pids[i]), 0);
    size_t size;
    char *text = read_all(path, &size), *at = text;
    ck_assert_int_eq(strtol(at, &at, 10), COUNTERS * UPDATES);
    for (int n = 0; n < ADDERS * ADDED; n++) {
        ck_assert_int_eq(*at++, '\n');
        long who = strtol(at, &at, 10);
        ck_assert(who >= 0 && who < ADDERS && *at++ == ':');
        ck_assert_int_eq(strtol(at, &at, 10), next[who]);
        next[who]++;
    }
    ck_assert_str_eq(at, "\n");
    free(text);
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}
END_TEST

/* While one thread opens the file anew, for another process has replaced it, the others wait for the handle.
 */
static void *count_up_thread(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)&arg;
    for (int i = 0; i < UPDATES; i++) {
        MUST_EQ(mproc_file_update(file, edit_counter, NULL), 0);
        for (volatile uint64_t n = draw(&seed) % 10000; n > 0;) n--; /* it comes back at any instant */
    }
    return arg;
}
static int count_up_in_two_threads(void *arg) {
    pthread_t threads_[2];
    for (int i = 0; i < 2; i++) MUST_EQ(pthread_create(&threads_[i], NULL, count_up_thread, arg), 0);
    for (int i = 0; i < 2; i++) MUST_EQ(pthread_join(threads_[i], NULL), 0);
    return 0;
}
START_TEST(update_by_threads_with_one_handle_and_by_other_processes) {
    pid_t pids[2];
    size_t size;
    begin();
    for (int i = 0; i < 2; i++) pids[i] = spawn(count_up_in_two_threads, NULL);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(ended(pids[i]), 0);
    char *text = read_all(path, &size);
    ck_assert_int_eq(atoi(text), 4 * UPDATES);
    free(text);
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}
END_TEST

/* A file that is whole when all its lines say the same number. */
enum { COPIES = 20000 };
static bool same_lines(const char *text, size_t size, long *number) {
    char first[16];
    if (size == 0 || size % COPIES != 0 || size / COPIES >= sizeof first) return false;
    size_t length = size / COPIES;
    memcpy(first, text, length);
    first[length] = 0;
    *number = strtol(first, NULL, 10);
    for (size_t i = 0; i < COPIES; i++) {
        if (memcmp(text + i * length, first, length) != 0) return false;
    }
    return first[length - 1] == '\n';
}

static int edit_all_lines(char **data, size_t *size, void *ctx) {
    char line[16];
    long number = 0;
    if (*size != 0 && !same_lines(*data, *size, &number)) return 77;
    int length = snprintf(line, sizeof line, "%07d\n", (int)(number + 1) % 10000000);
    char *grown = realloc(*data, (size_t)length * COPIES);
    if (grown == NULL) return -ENOMEM;
    for (size_t i = 0; i < COPIES; i++) memcpy(grown + i * (size_t)length, line, (size_t)length);
    *data = grown;
    *size = (size_t)length * COPIES;
    *(long *)ctx = number + 1;
    return 0;
}

static int update_without_end(void *arg) {
    (void)arg;
    long number = 0;
    for (;;) {
        MUST_EQ(mproc_file_update(file, edit_all_lines, &number), 0);
        POKE(&said[5], (int)number); /* the last one known to be in the file */
        BUMP(&said[6]);
    }
}

static int read_without_end(void *arg) {
    (void)arg;
    long last = 0, number = 0;
    while (PEEK(&said[GO]) == 0) {
        int known = PEEK(&said[5]);
        size_t size;
        char *text = read_all(path, &size);
        MUST(same_lines(text, size, &number));
        MUST(number >= last && number >= known - 1);
        last = number;
        free(text);
        BUMP(&said[7]);
    }
    return 0;
}

START_TEST(update_is_seen_whole_also_when_killed) {
    enum { UPDATERS = 2, READERS = 2, KILLS = 200 };
    uint64_t seed = make_seed("updaters killed");
    pid_t updaters[UPDATERS], readers[READERS];
    long number = 0;
    begin();
    ck_assert_int_eq(mproc_file_update(file, edit_all_lines, &number), 0);
    for (int i = 0; i < READERS; i++) readers[i] = spawn(read_without_end, NULL);
    for (int i = 0; i < UPDATERS; i++) updaters[i] = spawn(update_without_end, NULL);
    for (int k = 0; k < KILLS; k++) {
        nap((double)(draw(&seed) % 10000) * 1e-6);
        size_t victim = draw(&seed) % UPDATERS;
        kill(updaters[victim], SIGKILL);
        ck_assert_int_eq(ended(updaters[victim]), -SIGKILL);
        updaters[victim] = spawn(update_without_end, NULL);
        if (k % 10 != 0) continue;
        int updates = PEEK(&said[6]), reads = PEEK(&said[7]);
        EVENTUALLY(PEEK(&said[6]) != updates && PEEK(&said[7]) != reads);
    }
    for (int i = 0; i < UPDATERS; i++) kill(updaters[i], SIGKILL);
    for (int i = 0; i < UPDATERS; i++) ck_assert_int_eq(ended(updaters[i]), -SIGKILL);
    POKE(&said[GO], 1);
    for (int i = 0; i < READERS; i++) ck_assert_int_eq(ended(readers[i]), 0);
    int done = PEEK(&said[6]);
    ck_assert_int_eq(mproc_file_update(file, edit_all_lines, &number), 0);
    ck_assert_int_ge(number, done + 2);                    /* no update that returned 0 was lost */
    ck_assert_int_le(number, done + 2 + KILLS + UPDATERS); /* nor one made twice */
    ck_assert_int_eq(files_in_folder(), 1);                /* the dead ones' temporary files are gone */
    printf("%d updates, %d of them by processes killed before they could say so\n", (int)number,
           (int)number - done - 2);
    finish();
}
END_TEST

static int be_killed_while_editing(char **data, size_t *size, void *ctx) {
    (void)data;
    (void)size;
    (void)ctx;
    raise(SIGKILL);
    return 0;
}

static int update_and_be_killed(void *arg) {
    (void)arg;
    return mproc_file_update(file, be_killed_while_editing, NULL);
}

START_TEST(killed_while_editing) {
    begin();
    ck_assert_int_eq(mproc_file_append(file, "1\n", 2), 0);
    ck_assert_int_eq(ended(spawn(update_and_be_killed, NULL)), -SIGKILL);
    ck_assert_str_eq(slurp(path), "1\n");
    TAKES(0, 0.5, ck_assert_int_eq(mproc_file_update(file, edit_counter, NULL), 0));
    ck_assert_str_eq(slurp(path), "2\n");
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}
END_TEST

static int append_without_end(void *arg) {
    static char line[70002];
    (void)arg;
    for (size_t length = line_of(line, 1, 99);;) MUST_EQ(mproc_file_append(file, line, length), 0);
}

/* A kill inside append may leave the line in the file or not, but not a part of it for those who lock. */
static void kill_appenders(bool readers) {
    enum { KILLS = 150 };
    static char line[70002];
    uint64_t seed = make_seed("appenders killed");
    size_t length = line_of(line, 1, 99), size;
    begin();
    pid_t pid = spawn(append_without_end, NULL);
    for (int k = 0; k < KILLS; k++) {
        nap((double)(draw(&seed) % 3000) * 1e-6);
        kill(pid, SIGKILL);
        ck_assert_int_eq(ended(pid), -SIGKILL);
        if (readers) {
            ck_assert_int_eq(mproc_file_lock_shared(file, 1), 0);
            ck_assert_uint_eq((size_t)size_of(path) % length, 0);
            ck_assert_int_eq(mproc_file_unlock(file), 0);
        }
        pid = spawn(append_without_end, NULL);
    }
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
    ck_assert_int_eq(mproc_file_append(file, line, length), 0);
    char *text = read_all(path, &size);
    ck_assert_uint_eq(size % length, 0);
    for (size_t at = 0; at < size; at += length) ck_assert_int_eq(memcmp(text + at, line, length), 0);
    free(text);
    ck_assert_int_eq(files_in_folder(), 1);
    finish();
}

START_TEST(p1_killed_appenders_and_the_next_one) { kill_appenders(false); }
END_TEST
START_TEST(p1_killed_appenders_and_readers_that_lock) { kill_appenders(true); }
END_TEST

/* ---- Full disks -----------------------------------------------------------------------------------------
 */

static int with_a_tiny_disk(void *arg) {
    (void)arg;
    char block[60000];
    memset(block, 'b', sizeof block);
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=64k") != 0) {
        printf("skipped, no small disk without privileges: %s\n", strerror(errno));
        return 0;
    }
    mproc_file *mine = mproc_file_open(path);
    MUST(mine != NULL);
    MUST_EQ(mproc_file_append(mine, block, 30000), 0);
    for (int i = 0; i < 3; i++) {
        MUST_EQ(mproc_file_append(mine, block, 60000), -ENOSPC);
        MUST_EQ(size_of(path), 30000);
    }
    MUST_EQ(mproc_file_append(mine, "c", 1), 0); /* what fits still does */
    MUST_EQ(size_of(path), 30001);
    MUST_EQ(poll_lock(NULL), 0);
    /* the new file would have to stand beside the old one */
    block[40000] = 0;
    MUST_EQ(mproc_file_update(mine, edit_append_text, block), -ENOSPC);
    MUST_EQ(size_of(path), 30001);
    MUST_EQ(files_in_folder(), 1);
    MUST_EQ(mproc_file_update(mine, edit_truncate, NULL), 0);
    MUST_EQ(mproc_file_append(mine, block, 50000), 0);
    size_t size;
    char *text = read_all(path, &size);
    block[40000] = 0;
    MUST(size == 50000 && memcmp(text, block, size) == 0);
    free(text);
    MUST_EQ(mproc_file_close(mine), 0);
    return 0;
}

START_TEST(x20_no_space_left) {
    begin();
    ck_assert_int_eq(ended(spawn(with_a_tiny_disk, NULL)), 0);
    finish();
}
END_TEST

static int with_a_small_file_limit(void *arg) {
    (void)arg;
    char block[5000];
    struct sigaction action;
    sigset_t before, after;
    struct rlimit limit = {4096, 4096};
    memset(block, 'b', sizeof block);
    signal(SIGXFSZ, SIG_DFL);
    memset(&before, 0, sizeof before); /* of which the kernel writes a part */
    memset(&after, 0, sizeof after);
    sigprocmask(SIG_SETMASK, NULL, &before);
    MUST_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    MUST_EQ(mproc_file_append(file, block, 5000), -EFBIG);
    MUST_EQ(size_of(path), 0);
    MUST_EQ(mproc_file_append(file, block, 4000), 0);
    MUST_EQ(mproc_file_append(file, block, 200), -EFBIG);
    MUST_EQ(size_of(path), 4000);
    MUST_EQ(mproc_file_append(file, block, 96), 0);
    block[1000] = 0;
    MUST_EQ(mproc_file_update(file, edit_append_text, block), -EFBIG);
    MUST_EQ(size_of(path), 4096);
    MUST_EQ(files_in_folder(), 1);
    MUST_EQ(sigaction(SIGXFSZ, NULL, &action), 0);
    MUST(action.sa_handler == SIG_DFL);
    sigprocmask(SIG_SETMASK, NULL, &after);
    MUST(memcmp(&before, &after, sizeof before) == 0);
    MUST_EQ(sigpending(&after), 0);
    MUST_EQ(sigismember(&after, SIGXFSZ), 0);
    MUST_EQ(mproc_file_lock(file, 0), 0); /* nothing kept the lock */
    return 0;
}

START_TEST(x20_limit_of_file_size) {
    begin();
    ck_assert_int_eq(ended(spawn(with_a_small_file_limit, NULL)), 0);
    finish();
}
END_TEST

/* A call whose thread ended within it does not hold up close. */
static int ends_its_thread(char **data, size_t *size, void *ctx) {
    (void)size, (void)ctx;
    free(*data); /* which nobody else will */
    pthread_exit(NULL);
}
static void *ends_in_update(void *f) {
    mproc_file_update(f, ends_its_thread, NULL);
    return NULL;
}
START_TEST(close_after_a_thread_ended_in_edit) {
    pthread_t thread;
    begin();
    mproc_file *f = file;
    ck_assert_int_eq(pthread_create(&thread, NULL, ends_in_update, f), 0);
    pthread_join(thread, NULL);
    int error;
    EVENTUALLY((error = mproc_file_lock(f, 0)) == 0);
    ck_assert_int_eq(mproc_file_append(f, "x", 1), 0);
    ck_assert_int_eq(mproc_file_unlock(f), 0);
    finish();
}
END_TEST

SUITE_MAIN("file", flck_01_taken_and_dropped, flck_02_03_x60_exclusive_shared_timed, x59_odd_timeouts,
           flck_04_x01_signals_neither_end_nor_stretch_a_wait, x59_waiting_uses_no_processor,
           x60_killed_holder, x60_killed_holder_whose_child_lives,
           x60_killed_holder_whose_child_was_forked_amid_a_call, update_closes_no_descriptor_of_a_child,
           x60_inherited_handle_is_a_lock_of_the_childs_own, close_in_a_child_of_a_bare_fork_keeps_the_lock,
           x60_second_handle_and_upgrade, x60_another_program_does_not_keep_the_lock,
           x60_holder_thread_that_ended, close_of_a_handle_in_use, close_beside_another_thread,
           open_makes_regular_files_only, names_as_long_as_they_may_be, inherited_handle_of_a_lost_file,
           descriptors_come_back_and_are_not_inherited, misuse, without_the_right_to_write,
           append_of_whole_lines_by_processes, append_of_whole_lines_by_threads_with_one_handle,
           append_and_locks_of_the_handle, append_follows_the_path_and_minds_other_names,
           append_behind_a_torn_one, append_behind_a_torn_one_far_back, append_waits_for_the_lock,
           update_changes_the_whole_file, update_keeps_link_mode_and_owner, update_of_what_no_memory_holds,
           update_gives_no_rights_away, update_of_a_relative_path_after_chdir,
           update_keeps_its_handle_from_edit, update_leaves_the_lock_with_its_holder,
           append_and_update_exclude_each_other, update_by_threads_with_one_handle_and_by_other_processes,
           update_is_seen_whole_also_when_killed, killed_while_editing, p1_killed_appenders_and_the_next_one,
           p1_killed_appenders_and_readers_that_lock, x20_no_space_left, x20_limit_of_file_size,
           close_after_a_thread_ended_in_edit, flck_05_what_is_not_a_handle)
