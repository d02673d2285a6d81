/* What the tests share: clocks, deadlines, counters of what must not leak, and the main() of a Check program.

   A test never sleeps to synchronise. It waits for an event, a pipe, or polls a condition with EVENTUALLY. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "../mproc.h"
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Under sanitizers and valgrind everything is slower: deadlines grow, promises of speed are not checked. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 4.0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SLOW 4.0
#endif
#endif
#ifndef SLOW
#define SLOW 1.0
#endif

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void nap(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&t, &t) != 0) continue;
}

/* Polls condition until it holds; fails the test when it does not within ten seconds. */
#define EVENTUALLY(condition)                                         \
    do {                                                              \
        double give_up_ = now() + 10 * SLOW;                          \
        while (!(condition)) {                                        \
            ck_assert_msg(now() < give_up_, "never: %s", #condition); \
            nap(0.001);                                               \
        }                                                             \
    } while (0)

/* Runs statement and checks how long it took: never more than 1 ms early, and not late by more than a
   loaded machine explains. */
#define TAKES(least, most, statement)                                                                  \
    do {                                                                                               \
        double begin_ = now();                                                                         \
        statement;                                                                                     \
        double took_ = now() - begin_;                                                                 \
        ck_assert_msg(took_ >= (least)-0.001, "%s took %.4f s, less than %g", #statement, took_,       \
                      (double)(least));                                                                \
        ck_assert_msg(took_ <= (most) + 2.0 * SLOW, "%s took %.4f s, more than %g", #statement, took_, \
                      (double)(most));                                                                 \
    } while (0)

static inline int count_entries(const char *folder) {
    int n = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL) return -1;
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n;
}
static inline int open_fds(void) { return count_entries("/proc/self/fd"); }
static inline int threads(void) { return count_entries("/proc/self/task") - 2; }

/* The state letter of a process in /proc ('R', 'S', 'T', 'Z' ...), 0 when there is none. Of one whose first
   thread has ended alone, with a thread of a sanitizer's left, say, 'R': it is no zombie yet. */
static inline char process_state(pid_t pid) {
    char path[64], text[512], state = 0;
    int left = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *end = strrchr(text, ')');
    if (end == NULL) return 0;
    sscanf(end, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d", &state, &left);
    return state == 'Z' && left > 1 ? 'R' : state;
}
/* Gone, or only waiting for a parent (perhaps a lazy init) to collect it. */
static inline bool process_gone(pid_t pid) { return process_state(pid) == 0 || process_state(pid) == 'Z'; }

static inline bool no_children(void) { return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD; }

/* How many processes of the process group are left (zombies not counted); tests that need it setpgid first.
 */
static inline int group_members(pid_t group) {
    int n = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        pid_t pid = (pid_t)atoi(e->d_name);
        if (pid > 0 && getpgid(pid) == group && !process_gone(pid)) n++;
    }
    if (dir != NULL) closedir(dir);
    return n;
}

/* A file's whole content in a static buffer, "" when there is none. */
static inline const char *slurp(const char *path) {
    static char text[1 << 16];
    text[0] = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return text;
    ssize_t n = 0, got;
    while ((got = read(fd, text + n, sizeof text - 1 - (size_t)n)) > 0) n += got;
    close(fd);
    text[n] = 0;
    return text;
}

/* A fresh folder for a test's files, below $TMPDIR or /tmp; the test removes it with remove_folder. */
static inline char *make_folder(char path[64]) {
    const char *base = getenv("TMPDIR");
    snprintf(path, 64, "%.40s/mproc-test-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    return path;
}
static inline void remove_folder(const char *path) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    ck_assert_int_eq(system(command), 0);
}

/* ---- Programs inside a test -----------------------------------------------------------------------------
 */

/* Plain shared memory, so that the test of one part does not lean on another part. */
static inline int *shared_ints(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_msg(page != MAP_FAILED, "mmap failed");
    return (int *)page;
}
#define PEEK(place)        __atomic_load_n((place), __ATOMIC_SEQ_CST)
#define POKE(place, value) __atomic_store_n((place), (value), __ATOMIC_SEQ_CST)
#define BUMP(place)        __atomic_add_fetch((place), 1, __ATOMIC_SEQ_CST)

/* What a process that is not Check's own uses instead of an assertion: it leaves with a code that says so. */
#define OR_RETURN(condition)                                                   \
    do {                                                                       \
        if (!(condition)) {                                                    \
            dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            return 99;                                                         \
        }                                                                      \
    } while (0)

/* A whole program inside a test: a forked process that runs entry as a main() and leaves by exit(). The test
   must not have used the library before, then the program is the main one of a family of its own. Its stdout
   and stderr go to one pipe, which all its descendants hold: the end of the text tells that all are gone. */
typedef struct program {
    pid_t pid;
    int out;         /* the pipe to read */
    bool ended;      /* the end of the text was seen */
    size_t length;   /* of text */
    char text[8192]; /* all it said up to now */
} program;

static inline void program_start(program *p, int (*entry)(void *arg), void *arg) {
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    memset(p, 0, sizeof *p);
    p->out = ends[0];
    p->pid = fork();
    ck_assert_int_ge(p->pid, 0);
    if (p->pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        exit(entry(arg));
    }
    close(ends[1]);
}

/* Reads once; false at the end of the text or after the deadline. */
static inline bool program_read(program *p, double deadline) {
    struct pollfd text = {.fd = p->out, .events = POLLIN};
    double left = deadline - now();
    if (p->ended || left <= 0) return false;
    int ready = poll(&text, 1, (int)(left * 1000) + 1);
    if (ready <= 0) return ready < 0 && errno == EINTR;
    ssize_t n = read(p->out, p->text + p->length, sizeof p->text - 1 - p->length);
    p->ended = n <= 0;
    if (n > 0) p->length += (size_t)n;
    return n > 0;
}

/* Waits until it has said words. */
static inline void program_says(program *p, const char *words) {
    double deadline = now() + 10 * SLOW;
    while (strstr(p->text, words) == NULL && program_read(p, deadline)) continue;
    ck_assert_msg(strstr(p->text, words) != NULL, "never said '%s', but: %s", words, p->text);
}

/* Is it, with all its descendants that hold its stdout, gone within so many seconds? */
static inline bool program_gone(program *p, double seconds) {
    double deadline = now() + seconds;
    while (program_read(p, deadline)) continue;
    return p->ended;
}

/* Waits for its end and that of its descendants; exit code or minus the signal. */
static inline int program_ends(program *p, double seconds) {
    int status = 0;
    double deadline = now() + seconds * SLOW;
    bool gone = program_gone(p, seconds * SLOW);
    pid_t pid = waitpid(p->pid, &status, WNOHANG);
    for (; pid == 0 && now() < deadline; pid = waitpid(p->pid, &status, WNOHANG)) nap(0.001);
    if (pid == 0) kill(p->pid, SIGKILL);
    ck_assert_msg(pid != 0, "the program has not ended within %g s; it said: %s", seconds, p->text);
    ck_assert_msg(gone, "processes of the program were left after %g s; it said: %s", seconds, p->text);
    close(p->out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- Children inside a test -----------------------------------------------------------------------------
 */

/* What children and threads assert with: Check's macros write to one file shared by all processes of a test,
   which a killed child would garble. Ends the process; its parent looks at the exit code. */
#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: child %d: not so: %s\n", __FILE__, __LINE__, (int)getpid(), #condition); \
            _exit(99);                                                                                       \
        }                                                                                                    \
    } while (0)
#define MUST_EQ(actual, expected)                                                                       \
    do {                                                                                                \
        intmax_t actual_ = (actual), expected_ = (expected);                                            \
        if (actual_ != expected_) {                                                                     \
            fprintf(stderr, "%s:%d: child %d: %s == %jd, not %jd\n", __FILE__, __LINE__, (int)getpid(), \
                    #actual, actual_, expected_);                                                       \
            _exit(99);                                                                                  \
        }                                                                                               \
    } while (0)

/* A child by plain fork(2), which the test collects with ended(). */
static inline pid_t spawn(int (*work)(void *arg), void *arg) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int code = work(arg);
        fflush(NULL);
        _exit(code);
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

/* Waits for a child: its exit code, or minus the signal that ended it. */
static inline int ended(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) return -1000 - errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Waits until *place has reached value; for children, and for threads beside the test's own. */
static inline void await(const int *place, int value) {
    double give_up = now() + 20 * SLOW;
    while (PEEK(place) < value) {
        MUST(now() < give_up);
        nap(0.0005);
    }
}

/* Processor seconds this process has used. */
static inline double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Interrupts this process with SIGALRM every so many microseconds, system calls not restarted; 0 ends it. */
static inline void storm_handler_(int signal_number) { (void)signal_number; }
static inline void signal_storm(long microseconds) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = storm_handler_;
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &every, NULL);
}

/* Random numbers that can be had again: MPROC_TEST_SEED=... repeats a run, whose seed is printed. */
static inline uint64_t make_seed(const char *what) {
    const char *given = getenv("MPROC_TEST_SEED");
    unsigned long long number =
        given != NULL ? strtoull(given, NULL, 0) : (unsigned long long)time(NULL) << 20 ^ (unsigned)getpid();
    uint64_t seed = number;
    if (seed == 0) seed = 1;
    printf("%s: MPROC_TEST_SEED=%llu\n", what, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}
static inline uint64_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545F4914F6CDD1Du >> 16;
}

/* ---- Who spins before a sleep ---- */

/* A thread that is about to wait, and spins for a moment first. */
typedef struct spinner {
    int (*wait)(void);
    uint32_t begun;
    int result;
} spinner;

static inline void *spin_in_wait(void *arg) {
    spinner *s = arg;
    mproc__spinning_helps = true;
    mproc__spin_luck = 8;
    mproc__seat_get();
    MPROC__STORE(&s->begun, 1);
    s->result = s->wait();
    return NULL;
}

/* Frees objects, each while another thread spins, waiting for it: only one that had not begun may not notice.
   One that was interrupted between its look at the object and its note that it waits is not to be known of:
   rare. */
static inline void free_beside_spinners(void (*make)(void), int (*wait)(void), int (*free_it)(void),
                                        void (*let_go)(void)) {
    int busy = 0, between = 0;
    for (int round = 0; round < 100; round++) {
        make();
        spinner s = {wait, 0, 0};
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, spin_in_wait, &s), 0);
        while (MPROC__LOAD(&s.begun) == 0) mproc__relax(); /* a yield would let it spin to the end */
        for (int i = 0; i < 10 * round; i++) mproc__relax();
        int error = free_it();
        if (error != 0) let_go();
        pthread_join(thread, NULL);
        if (error == 0 && s.result == MPROC_ETIMEDOUT) between++;
        else ck_assert_int_eq(s.result, error == 0 ? MPROC_EINVAL : 0);
        if (error == 0) continue;
        busy++;
        ck_assert_int_eq(error, MPROC_EBUSY);
        ck_assert_int_eq(free_it(), 0);
    }
    ck_assert_int_gt(busy, 0);
    if (SLOW < 2) ck_assert_int_le(between, 8); /* 20 and more, were the note only made after spinning */
}

/* ---- The main() of a Check program ----------------------------------------------------------------------
 */

/* Check leaves its own handlers for these in every test; what a test starts would inherit them. */
static inline void default_signals(void) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
}

/* Every test runs in a process and a process group of its own (Check's fork mode) with a time limit whose
   end kills that whole group; the exit code says whether a test failed. Names of tests as arguments: only
   those. */
static inline bool is_chosen(const TTest *test, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(test->name, argv[i]) == 0) return true;
    return argc <= 1;
}
static inline int run_suite(const char *suite_name, const TTest *const *tests, size_t n, int argc,
                            char **argv) {
    Suite *suite = suite_create(suite_name);
    TCase *tc = tcase_create(suite_name);
    tcase_add_checked_fixture(tc, default_signals, NULL);
    tcase_set_timeout(tc, 30 * SLOW);
    for (size_t i = 0; i < n; i++)
        if (is_chosen(tests[i], argc, argv)) tcase_add_test(tc, tests[i]);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#define SUITE_MAIN(suite_name, ...)                                                    \
    int main(int argc, char **argv) {                                                  \
        const TTest *const tests[] = {__VA_ARGS__};                                    \
        return run_suite(suite_name, tests, sizeof tests / sizeof *tests, argc, argv); \
    }

#endif
