/* The main operations where the system is short of something or forbids something: each works or returns an
   error that fits, nothing hangs, nothing is left behind. Every environment is a program of its own, which
   spoils its surroundings first and then runs all operations. What needs root or a namespace of its own is
   skipped, with a word why, where that cannot be had. */
#define MPROC_IMPLEMENTATION
#include "support.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SKIPPED    77
#define STRANGER   54321 /* a user that owns nothing and runs nothing */
#define MOST_FDS   400   /* descriptors that are looked at */
#define MOST_FAULT 8

static char folder[64], path[96];
static bool must_hurt = true; /* an environment with allowed errors must bring one about */

/* ---- Operations: 0 or a negative error; each frees what it made ---- */

static intmax_t worse(intmax_t error, intmax_t next) { return error != 0 ? error : next; }

static int seven(void *arg) {
    (void)arg;
    return 7;
}
static intmax_t op_process(void) {
    mproc_process p = {.target = seven};
    intmax_t error = mproc_process_start(&p);
    if (error != 0) return error;
    error = mproc_process_join(&p, 10);
    if (error == 0 && p.exitcode != 7) error = -4096;
    return worse(error, mproc_process_close(&p));
}
static int sleeps(void *arg) {
    (void)arg;
    for (;;) pause();
    return 0;
}
static intmax_t op_daemon(void) {
    mproc_process p = {.target = sleeps, .daemon = true}, *all[] = {&p};
    intmax_t error = mproc_process_start(&p);
    if (error != 0) return error;
    error = mproc_process_terminate(&p);
    error = worse(error, mproc_process_wait_any(all, 1, 10));
    error = worse(error, mproc_process_join(&p, 10));
    if (error == 0 && p.exitcode != -SIGTERM) error = -4096;
    return worse(error, mproc_process_close(&p));
}
static intmax_t op_fork(void) {
    int code = 0;
    pid_t pid = mproc_fork();
    if (pid == 0) mproc_exit(7);
    if (pid < 0) return pid;
    intmax_t error = mproc_wait(pid, &code, 10);
    return error == 0 && code != 7 ? -4096 : error;
}
static intmax_t op_detached(void) {
    pid_t pid = mproc_fork_detached();
    if (pid == 0) mproc_exit(7);
    for (double end = now() + 10; pid > 0 && kill(pid, 0) == 0 && mproc__alive(pid, pid) && now() < end;)
        nap(0.001);
    return pid < 0 ? pid : 0;
}
static intmax_t op_lock(void) {
    mproc_lock *lock = mproc_lock_new();
    if (lock == NULL) return -errno;
    intmax_t error = mproc_lock_acquire(lock, 10);
    error = worse(error, mproc_lock_acquire(lock, 0.001) == MPROC_ETIMEDOUT ? 0 : -4096);
    error = worse(error, mproc_lock_release(lock));
    return worse(error, mproc_lock_free(lock));
}
static intmax_t op_event(void) {
    mproc_event *event = mproc_event_new();
    if (event == NULL) return -errno;
    intmax_t error = mproc_event_wait(event, 0.001) == MPROC_ETIMEDOUT ? 0 : -4096;
    error = worse(error, mproc_event_set(event));
    error = worse(error, mproc_event_wait(event, 10));
    return worse(error, mproc_event_free(event));
}
static intmax_t op_value(void) {
    double *many = mproc_array_new(double, 10000);
    int *value = mproc_value_new(int, 5);
    intmax_t error = many != NULL && value != NULL ? 0 : -errno;
    if (error == 0 && (*value != 5 || many[9999] > 0)) error = -4096;
    error = worse(error, mproc_free(many));
    return worse(error, mproc_free(value));
}

/* Puts and gets messages of a size, n at a time. */
static intmax_t through_queue(size_t maxsize, size_t size, int n) {
    static char out[100000], in[100000];
    mproc_queue *queue = mproc_queue_new(maxsize);
    if (queue == NULL) return -errno;
    intmax_t error = 0;
    int put = 0;
    memset(out, 'q', size);
    for (; error == 0 && put < n; put += error == 0) error = mproc_queue_put(queue, out, size, 0);
    for (; put > 0; put--) {
        intmax_t got = mproc_queue_get(queue, in, sizeof in, 0);
        if (got != (intmax_t)size || memcmp(in, out, size) != 0) error = -4096;
    }
    return worse(error, mproc_queue_free(queue));
}
static intmax_t op_queue_small(void) { return through_queue(0, 50, 100); }
static intmax_t op_queue_large(void) { return through_queue(0, 100000, 3); }
static intmax_t op_queue_bounded(void) { return through_queue(20, 1000, 20); }
static intmax_t op_queue_long(void) { return through_queue(2000, 4, 2000); }

/* A process that is there already gets from a queue that is made afterwards. */
static mproc_queue **late;
static int gets_late(void *arg) {
    char text[8];
    (void)arg;
    for (double end = now() + 10; PEEK(late) == NULL && now() < end;) nap(0.0005);
    if (PEEK(late) == NULL) return 3;
    ssize_t got = mproc_queue_get(PEEK(late), text, sizeof text, 5);
    return got == 4 ? 7 : got == -EBADF ? 1 : got == -EMFILE ? 2 : 4;
}
static intmax_t op_queue_late(void) {
    late = mproc_shm_new(sizeof(mproc_queue *));
    if (late == NULL) return -errno;
    mproc_process p = {.target = gets_late};
    intmax_t error = mproc_process_start(&p);
    mproc_queue *queue = error == 0 ? mproc_queue_new(0) : NULL;
    if (error == 0 && queue == NULL) error = -errno;
    error = worse(error, mproc_queue_put(queue, "late", 4, 0) == 0 || queue == NULL ? 0 : -4096);
    POKE(late, queue);
    if (p.pid != 0 && queue == NULL) mproc_process_kill(&p);
    if (p.pid != 0) {
        error = worse(error, mproc_process_join(&p, 20));
        if (error == 0)
            error = p.exitcode == 7 ? 0 : p.exitcode == 1 ? -EBADF : p.exitcode == 2 ? -EMFILE : -4096;
        mproc_process_close(&p);
    }
    mproc_queue_free(queue);
    return worse(error, mproc_free(late));
}
static int answers(void *arg) {
    char text[16];
    mproc_conn *conn = arg;
    ssize_t got = mproc_conn_recv(conn, text, sizeof text, 10);
    return got > 0 && mproc_conn_send(conn, text, (size_t)got, 10) == 0 ? 7 : 1;
}
static intmax_t op_pipe(void) {
    mproc_conn *ends[2];
    char text[16] = "";
    intmax_t error = mproc_pipe_new(ends, true);
    if (error != 0) return error;
    mproc_process p = {.target = answers, .arg = ends[1]};
    error = mproc_process_start(&p);
    if (error == 0) {
        error = mproc_conn_send(ends[0], "hello", 5, 10);
        intmax_t got = mproc_conn_recv(ends[0], text, sizeof text, 10);
        if (error == 0 && (got != 5 || memcmp(text, "hello", 5) != 0)) error = got < 0 ? got : -4096;
        error = worse(error, mproc_process_join(&p, 10));
        mproc_process_close(&p);
    }
    error = worse(error, mproc_conn_close(ends[0]));
    return worse(error, mproc_conn_close(ends[1]));
}
static intmax_t op_ring(void) {
    int in[3] = {1, 2, 3}, out[3] = {0};
    mproc_ring *ring = mproc_ring_new(sizeof(int), 8);
    if (ring == NULL) return -errno;
    intmax_t error = mproc_ring_put_many(ring, in, 3, 10) == 3 ? 0 : -4096;
    if (error == 0 && (mproc_ring_get_many(ring, out, 3, 10) != 3 || out[2] != 3)) error = -4096;
    return worse(error, mproc_ring_free(ring));
}
static int twice(const void *arg, void *result) {
    *(int *)result = 2 * *(const int *)arg;
    return 0;
}
static intmax_t op_pool(void) {
    int in[50], out[50], result = 0;
    for (int i = 0; i < 50; i++) in[i] = i;
    mproc_pool *pool = mproc_pool_new(2);
    if (pool == NULL) return -errno;
    intmax_t error = mproc_pool_apply(pool, twice, &in[4], sizeof(int), &result, sizeof(int));
    if (error == 0 && result != 8) error = -4096;
    error = worse(error, mproc_pool_map(pool, twice, in, 50, sizeof(int), out, sizeof(int)));
    if (error == 0 && out[49] != 98) error = -4096;
    return worse(error, mproc_pool_free(pool));
}
static void add(size_t i, void *ctx) { __atomic_add_fetch((int *)ctx, (int)i, __ATOMIC_SEQ_CST); }
static intmax_t op_parallel_for(void) {
    int *sum = mproc_value_new(int, 0);
    if (sum == NULL) return -errno;
    intmax_t error = mproc_parallel_for(100, 3, add, sum);
    if (error == 0 && *sum != 4950) error = -4096;
    return worse(error, mproc_free(sum));
}
static intmax_t op_cpu_count(void) { return mproc_cpu_count() >= 1 ? 0 : -4096; }

/* Whatever fails, the file is what it was before or after, and nothing stays beside it. */
static char page[6000];
static int grow(char **data, size_t *size, void *ctx) {
    (void)ctx;
    char *more = realloc(*data, *size + sizeof page);
    if (more == NULL) return -ENOMEM;
    memset(more + *size, 'u', sizeof page);
    *data = more;
    *size += sizeof page;
    return 0;
}
static intmax_t file_size(void) {
    struct stat st;
    return stat(path, &st) == 0 ? (intmax_t)st.st_size : -1;
}
static intmax_t op_file(void) {
    mproc_file *file = mproc_file_open(path);
    if (file == NULL) return -errno;
    memset(page, 'a', sizeof page);
    intmax_t size = file_size(), first = mproc_file_append(file, page, sizeof page);
    if (file_size() != size + (first == 0 ? (intmax_t)sizeof page : 0)) first = -4096;
    size = file_size();
    intmax_t error = mproc_file_update(file, grow, NULL);
    if (file_size() != size + (error == 0 ? (intmax_t)sizeof page : 0)) error = -4096;
    mproc_file_close(file);
    return count_entries(folder) <= 4 ? worse(first, error)
                                      : -4096; /* ".", "..", it, and what fills the disk */
}

static const struct operation {
    const char *name;
    intmax_t (*run)(void);
} operations[] = {
    {"process", op_process},
    {"daemon", op_daemon},
    {"fork", op_fork},
    {"fork detached", op_detached},
    {"lock", op_lock},
    {"event", op_event},
    {"value", op_value},
    {"queue of small messages", op_queue_small},
    {"queue of large messages", op_queue_large},
    {"bounded queue", op_queue_bounded},
    {"long queue", op_queue_long},
    {"late queue", op_queue_late},
    {"pipe", op_pipe},
    {"ring", op_ring},
    {"pool", op_pool},
    {"parallel for", op_parallel_for},
    {"cpu count", op_cpu_count},
    {"file", op_file},
};

/* ---- What must not be left behind; counted without /proc ---- */

static int fds_open(void) {
    int n = 0;
    for (int fd = 0; fd < MOST_FDS; fd++) n += fcntl(fd, F_GETFD) >= 0;
    return n;
}
static size_t arena_used(void) {
    mproc__arena *a = mproc__shared;
    size_t used = 0;
    for (uint32_t i = 0; a != NULL && i < a->ports_used; i++) {
        mproc__pair *pair = a->pair[i];
        if (pair != NULL) pair->forks = a->forks; /* nobody forks just now */
    }
    if (a != NULL) mproc__pairs_tidy(a->ports_used);
    for (char *p = a != NULL ? a->first : NULL; a != NULL && p < a->top;
         p += mproc__size_of(mproc__block_at(p)))
        if (mproc__used(mproc__block_at(p))) used += mproc__size_of(mproc__block_at(p));
    return used;
}

/* ---- Environments ---- */

typedef struct environment {
    int (*spoil)(int how);  /* 0, or why it cannot be had: SKIPPED; what it prints tells */
    int how;                /* passed to spoil */
    int errors[MOST_FAULT]; /* that an operation may give, 0 at the end; none: all must work */
} environment;

static int skip(const char *why) {
    printf("skipped: %s (%s)\n", why, strerror(errno));
    return SKIPPED;
}

static bool allowed(const environment *e, intmax_t error) {
    for (int i = 0; i < MOST_FAULT && e->errors[i] != 0; i++)
        if (error == -e->errors[i]) return true;
    return error == 0;
}

/* All operations, twice: what the first round found unusable may not break the second. */
static int run_operations(const environment *e) {
    int hurt = 0, bad = 0;
    for (size_t i = 0; i < 2 * sizeof operations / sizeof *operations; i++) {
        const struct operation *op = &operations[i % (sizeof operations / sizeof *operations)];
        int fds = fds_open();
        size_t used = arena_used();
        bool counted = mproc__shared != NULL;
        double begun = now();
        intmax_t error = op->run();
        bool fits = allowed(e, error), slow = now() - begun > 8 * SLOW;
        bool leak = fds_open() != fds || (counted && arena_used() != used) || !no_children();
        if (!fits || leak || slow)
            printf("%s: %s%s%s\n", op->name, error == -4096 ? "wrong result" : mproc_strerror((int)error),
                   leak ? ", leaks" : "", slow ? ", slow" : "");
        hurt += error != 0;
        bad += !fits || leak || slow;
    }
    bool in_vain = e->errors[0] != 0 && hurt == 0 && must_hurt;
    if (in_vain) printf("nothing failed: was the environment spoilt?\n");
    return bad > 0 || in_vain;
}

static int live_in(void *arg) {
    const environment *e = arg;
    int code = e->spoil(e->how);
    if (code == 0) code = run_operations(e);
    fflush(NULL);
    if (SLOW > 1) _exit(code); /* the sanitizers' own work at exit needs what is missing here */
    return code;
}

static void check_environment(int (*spoil)(int how), int how, ...) {
    environment e = {.spoil = spoil, .how = how};
    va_list errors;
    va_start(errors, how);
    for (int i = 0; (e.errors[i] = va_arg(errors, int)) != 0;) i++;
    va_end(errors);
    make_folder(folder);
    snprintf(path, sizeof path, "%s/f", folder);
    ck_assert_int_eq(chmod(folder, 0777), 0);
    program p;
    program_start(&p, live_in, &e);
    int code = program_ends(&p, 25);
    remove_folder(folder);
    printf("%s", code == SKIPPED ? p.text : "");
    ck_assert_msg(code == 0 || code == SKIPPED, "how %d: exit code %d: %s", how, code, p.text);
}

/* An ordinary user from here on. The pages of the program must stay readable to itself. */
static int become_stranger(void) {
    if (getuid() != 0) return 0;
    if (setgid(STRANGER) != 0 || setuid(STRANGER) != 0) return skip("cannot become another user");
    prctl(PR_SET_DUMPABLE, 1); /* or its /proc/PID/fd would belong to root */
    return 0;
}

#ifdef __GLIBC__
#define RESOURCE __rlimit_resource_t
#else
#define RESOURCE int
#endif
static int limit(int what, rlim_t most) {
    struct rlimit r = {most, most};
    return setrlimit((RESOURCE)what, &r) == 0 ? 0 : skip("cannot set a limit");
}

static int no_trouble(int how) {
    (void)how;
    return 0;
}
static int ordinary_user(int how) {
    (void)how;
    return become_stranger();
}
static int few_descriptors(int how) { /* so many more */
    int lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
    close(lowest);
    return limit(RLIMIT_NOFILE, (rlim_t)(lowest + how));
}
static int few_processes(int how) {
    errno = EPERM;
    if (getuid() != 0) return skip("only root can become a user without processes");
    int code = become_stranger();
    return code != 0 ? code : limit(RLIMIT_NPROC, (rlim_t)how);
}
static int little_memory(int how) {
    errno = ENOMEM;
    if (SLOW > 1) return skip("sanitizers need more address space");
    return limit(RLIMIT_AS, (rlim_t)how << 20);
}
static int small_files(int how) { return limit(RLIMIT_FSIZE, (rlim_t)how); }

/* Takes all the pages that an ordinary user's pipes may have, and keeps them as long as the program lives. */
static void hog_pages(const int told[2], const int life[2]) {
    int fd[2], none = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct pollfd end = {.fd = life[0], .events = 0};
    dup2(none, 1); /* or the test would wait for us */
    dup2(none, 2);
    close(life[1]);
    while (pipe2(fd, O_CLOEXEC) == 0 && fcntl(fd[1], F_SETPIPE_SZ, 1 << 20) > 0) continue;
    while (pipe2(fd, O_CLOEXEC) == 0 && fcntl(fd[1], F_GETPIPE_SZ) > 2 * 4096) continue;
    MUST(write(told[1], "", 1) == 1);
    poll(&end, 1, -1);
    _exit(0);
}
static int no_pipe_pages(int how) {
    char byte;
    int code = become_stranger(), told[2], life[2];
    (void)how;
    if (code != 0) return code;
    if (geteuid() == 0) return skip("root has no such limit");
    if (pipe2(told, O_CLOEXEC) != 0 || pipe2(life, O_CLOEXEC) != 0) return skip("no pipe");
    pid_t between = fork(); /* it is not to be a child of the program */
    if (between == 0 && fork() == 0) hog_pages(told, life);
    if (between == 0) _exit(0);
    ended(between);
    return read(told[0], &byte, 1) == 1 ? 0 : skip("the pages could not be taken");
}

static int own_mounts(void) {
    if (unshare(CLONE_NEWNS) != 0) return skip("no mount namespace of its own");
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0) return skip("cannot make mounts private");
    return 0;
}
static int no_proc(int how) {
    (void)how;
    int code = own_mounts();
    if (code != 0) return code;
    return mount("none", "/proc", "tmpfs", 0, NULL) == 0 ? 0 : skip("cannot cover /proc");
}
static int full_disk(int how) {
    char filler[96], options[32];
    int code = own_mounts();
    if (code != 0) return code;
    snprintf(options, sizeof options, "size=%d", how);
    if (mount("none", folder, "tmpfs", 0, options) != 0) return skip("cannot mount a tmpfs");
    snprintf(filler, sizeof filler, "%s/filler", folder);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, filler, sizeof filler) > 0) continue;
    close(fd);
    return 0;
}

/* Refuses the system calls that sandboxes refuse, with this error. */
static int sandbox(int error) {
    const int refused[] = {434 /* pidfd_open */,  424 /* pidfd_send_signal */, SYS_process_vm_readv,
                           SYS_process_vm_writev, 449 /* futex_waitv */,       436 /* close_range */};
    struct sock_filter filter[2 * sizeof refused / sizeof *refused + 2];
    unsigned n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)refused[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog rules = {.len = (unsigned short)n, .filter = filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &rules) != 0) return skip("no seccomp");
    return 0;
}

START_TEST(environment_ordinary) {
    check_environment(no_trouble, 0, 0);
    check_environment(ordinary_user, 0, 0);
}
END_TEST

START_TEST(environment_few_descriptors) {
    for (int more = 0; more < 12; more++) {
        must_hurt = more < 3; /* with four more, everything works here */
        check_environment(few_descriptors, more, EMFILE, EBADF, 0);
    }
    check_environment(few_descriptors, 40, 0);
}
END_TEST

/* A child that could get no pidfd is missed neither for long nor for good. */
START_TEST(environment_wait_any_without_pidfd) {
    double least = 10;
    ck_assert_int_eq(op_process(), 0);
    struct rlimit before;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    int lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
    close(lowest);
    struct rlimit none = {(rlim_t)lowest, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (int i = 0; i < 5; i++) { /* one of them is quick on a loaded machine, too */
        mproc_process p = {.target = seven}, *all[] = {&p};
        ck_assert_int_eq(mproc_process_start(&p), 0);
        double begun = now();
        ck_assert_int_eq(mproc_process_wait_any(all, 1, 10), 0);
        if (now() - begun < least) least = now() - begun;
        ck_assert_int_eq(mproc_process_join(&p, 0), 0);
        ck_assert_int_eq(mproc_process_close(&p), 0);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_msg(least < 0.5, "the quickest took %g s", least);
}
END_TEST

START_TEST(environment_few_processes) {
    for (int most = 1; most < 4; most++) check_environment(few_processes, most, EAGAIN, 0);
    check_environment(few_processes, 40, 0);
}
END_TEST

START_TEST(environment_little_memory) {
    check_environment(little_memory, 64, 0);
    must_hurt = false; /* where libraries are small, all of it works */
    for (int megabytes = 4; megabytes < 16; megabytes += 2)
        check_environment(little_memory, megabytes, ENOMEM, EAGAIN, 0);
}
END_TEST

START_TEST(environment_small_files) {
    check_environment(small_files, 0, EFBIG, 0);
    check_environment(small_files, 4096, EFBIG, 0);
    check_environment(small_files, 8192, EFBIG, 0);
}
END_TEST

START_TEST(environment_no_pipe_pages) {
    check_environment(no_pipe_pages, 0, ENOSPC, MPROC_ETIMEDOUT * -1, 0);
}
END_TEST

START_TEST(environment_no_proc) { check_environment(no_proc, 0, EBADF, 0); }
END_TEST

START_TEST(environment_full_disk) {
    check_environment(full_disk, 8192, ENOSPC, 0);
    check_environment(full_disk, 65536, ENOSPC, 0);
}
END_TEST

/* What a sandbox or an old kernel without pidfds must not change: a dead process that nobody has collected is
   dead, and a child's descriptor is readable at its end, though a child of the child lives on. */
static int leaves_a_sleeper(void *arg) {
    mproc_process p = {.target = sleeps};
    if (mproc_process_start(&p) != 0) return 1;
    POKE((int *)arg, (int)p.pid);
    _exit(7);
}
static int ends_show_without_pidfds(void *arg) {
    siginfo_t info;
    mproc_process p = {.target = leaves_a_sleeper, .arg = arg};
    if (sandbox(ENOSYS) != 0) return SKIPPED;
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    MUST_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    MUST(!mproc__alive(pid, pid));
    MUST_EQ(waitpid(pid, NULL, 0), pid);
    MUST_EQ(mproc_process_start(&p), 0);
    struct pollfd end = {.fd = mproc_process_fd(&p), .events = POLLIN};
    MUST_EQ(poll(&end, 1, 10000), 1);
    MUST((end.revents & POLLIN) != 0);
    MUST_EQ(mproc_process_join(&p, 0.5), 0);
    MUST_EQ(p.exitcode, 7);
    return 0;
}
START_TEST(environment_ends_show_without_pidfds) {
    int *sleeper = shared_ints();
    int code = ended(spawn(ends_show_without_pidfds, sleeper));
    if (PEEK(sleeper) > 0) kill(PEEK(sleeper), SIGKILL);
    ck_assert_msg(code == 0 || code == SKIPPED, "exit code %d", code);
}
END_TEST

START_TEST(environment_sandbox) {
    check_environment(sandbox, ENOSYS, 0);
    check_environment(sandbox, EPERM, 0);
}
END_TEST

SUITE_MAIN("environment", environment_ordinary, environment_few_descriptors,
           environment_wait_any_without_pidfd, environment_few_processes, environment_little_memory,
           environment_small_files, environment_no_pipe_pages, environment_no_proc, environment_full_disk,
           environment_ends_show_without_pidfds, environment_sandbox)
