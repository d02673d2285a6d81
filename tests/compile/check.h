/* A stand-in for the part of Check (libcheck.github.io) that the tests use, for where there is no Check to
   link with: other C libraries, other processors. `-I tests/compile` makes <check.h> find it.

   Each test runs in a forked child that leads a process group of its own; the group is killed when the test
   has ended or its time is up. A failed assertion prints itself, ends its process, and fails the test also
   when that process was a child of the test's: a flag in shared memory tells.

   CHECK_SKIP names a file with lines "SUITE:TEST REASON..." of tests not to run here; TEST may be "*". */
#ifndef STAND_IN_CHECK_H
#define STAND_IN_CHECK_H

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef const void *check_pointer_;

typedef struct TTest {
    const char *name;
    void (*body)(void);
} TTest;

enum { CHECK_MOST = 512, CK_ENV = 0 };
typedef struct Suite {
    const char *name;
    double timeout;
    void (*setup)(void);
    const TTest *test[CHECK_MOST];
    int tests, failed, skipped;
} Suite;
typedef Suite TCase;   /* a suite has one test case here */
typedef Suite SRunner; /* and a runner one suite */

#define START_TEST(test)                                     \
    static void test##_body_(void);                          \
    static const TTest test##_test_ = {#test, test##_body_}; \
    static const TTest *const test = &test##_test_;          \
    static void test##_body_(void)
#define END_TEST

static int *check_failed_; /* shared by all processes of a test */

__attribute__((noreturn, format(printf, 3, 4), unused)) static void check_fail_(const char *file, int line,
                                                                                const char *format, ...) {
    char text[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "%s:%d: %s\n", file, line, text);
    __atomic_store_n(check_failed_, 1, __ATOMIC_SEQ_CST);
    _exit(1);
}

#define ck_abort_msg(...)             check_fail_(__FILE__, __LINE__, __VA_ARGS__)
#define ck_abort()                    ck_abort_msg("aborted")
#define ck_assert_msg(condition, ...) ((condition) ? (void)0 : ck_abort_msg(__VA_ARGS__))
#define ck_assert(condition)          ck_assert_msg(condition, "not so: %s", #condition)
#define CHECK_COMPARE_(type, format, a, op, b)                                                   \
    do {                                                                                         \
        type a_ = (a), b_ = (b);                                                                 \
        ck_assert_msg(a_ op b_, "not so: %s %s %s: %" format ", %" format, #a, #op, #b, a_, b_); \
    } while (0)
#define ck_assert_int_eq(a, b)   CHECK_COMPARE_(intmax_t, PRIdMAX, a, ==, b)
#define ck_assert_int_ne(a, b)   CHECK_COMPARE_(intmax_t, PRIdMAX, a, !=, b)
#define ck_assert_int_lt(a, b)   CHECK_COMPARE_(intmax_t, PRIdMAX, a, <, b)
#define ck_assert_int_le(a, b)   CHECK_COMPARE_(intmax_t, PRIdMAX, a, <=, b)
#define ck_assert_int_gt(a, b)   CHECK_COMPARE_(intmax_t, PRIdMAX, a, >, b)
#define ck_assert_int_ge(a, b)   CHECK_COMPARE_(intmax_t, PRIdMAX, a, >=, b)
#define ck_assert_uint_eq(a, b)  CHECK_COMPARE_(uintmax_t, PRIuMAX, a, ==, b)
#define ck_assert_uint_ne(a, b)  CHECK_COMPARE_(uintmax_t, PRIuMAX, a, !=, b)
#define ck_assert_uint_lt(a, b)  CHECK_COMPARE_(uintmax_t, PRIuMAX, a, <, b)
#define ck_assert_uint_le(a, b)  CHECK_COMPARE_(uintmax_t, PRIuMAX, a, <=, b)
#define ck_assert_uint_gt(a, b)  CHECK_COMPARE_(uintmax_t, PRIuMAX, a, >, b)
#define ck_assert_uint_ge(a, b)  CHECK_COMPARE_(uintmax_t, PRIuMAX, a, >=, b)
#define ck_assert_ptr_eq(a, b)   CHECK_COMPARE_(check_pointer_, "p", a, ==, b)
#define ck_assert_ptr_ne(a, b)   CHECK_COMPARE_(check_pointer_, "p", a, !=, b)
#define ck_assert_ptr_null(a)    ck_assert_ptr_eq(a, NULL)
#define ck_assert_ptr_nonnull(a) ck_assert_ptr_ne(a, NULL)
#define ck_assert_str_eq(a, b)                                                                         \
    do {                                                                                               \
        const char *a_ = (a), *b_ = (b);                                                               \
        ck_assert_msg(a_ != NULL && b_ != NULL && strcmp(a_, b_) == 0, "%s is \"%s\", not \"%s\"", #a, \
                      a_ != NULL ? a_ : "(null)", b_ != NULL ? b_ : "(null)");                         \
    } while (0)
#define ck_assert_mem_eq(a, b, size) ck_assert_msg(memcmp((a), (b), (size)) == 0, "%s and %s differ", #a, #b)

static inline Suite *suite_create(const char *name) {
    static Suite suite;
    suite.name = name;
    suite.timeout = 4;
    return &suite;
}
static inline TCase *tcase_create(const char *name) { return suite_create(name); }
static inline SRunner *srunner_create(Suite *suite) { return suite; }
static inline void suite_add_tcase(Suite *suite, TCase *tcase) { (void)suite, (void)tcase; }
static inline void tcase_set_timeout(TCase *tcase, double seconds) { tcase->timeout = seconds; }
static inline void tcase_add_checked_fixture(TCase *tcase, void (*setup)(void), void (*teardown)(void)) {
    (void)teardown;
    tcase->setup = setup;
}
static inline void tcase_add_test(TCase *tcase, const TTest *test) {
    if (tcase->tests == CHECK_MOST) abort();
    tcase->test[tcase->tests++] = test;
}
static inline int srunner_ntests_failed(SRunner *runner) { return runner->failed; }
static inline void srunner_free(SRunner *runner) { (void)runner; }

/* Why this test is not to run here, NULL if it is. */
static inline const char *check_skipped_(const Suite *suite, const TTest *test) {
    static char line[512];
    char of_suite[64], name[128];
    const char *path = getenv("CHECK_SKIP"), *reason = NULL;
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    while (file != NULL && reason == NULL && fgets(line, sizeof line, file) != NULL) {
        int length = 0;
        if (sscanf(line, "%63[^:]:%127s %n", of_suite, name, &length) < 2 ||
            strcmp(of_suite, suite->name) != 0)
            continue;
        if (strcmp(name, "*") == 0 || strcmp(name, test->name) == 0) reason = line + length;
    }
    if (file != NULL) fclose(file);
    if (reason != NULL) line[strcspn(line, "\n")] = 0;
    return reason;
}

static inline double check_now_(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Waits for the test's own process; false when its time is up. */
static inline bool check_wait_(pid_t pid, double timeout, int *status) {
    const struct timespec moment = {0, 1000000};
    double end = check_now_() + timeout;
    while (waitpid(pid, status, WNOHANG) != pid) {
        if (check_now_() > end) return false;
        nanosleep(&moment, NULL);
    }
    return true;
}

/* Whoever ends the program ends the test that runs, with all its processes. */
static volatile pid_t check_running_;
static inline void check_ended_(int number) {
    (void)number;
    if (check_running_ > 0) kill(-check_running_, SIGKILL);
    _exit(124);
}

/* NULL: passed. Otherwise what became of the test's process. */
static inline const char *check_run_(const Suite *suite, const TTest *test) {
    static char text[64];
    int status = 0;
    *check_failed_ = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return "fork failed";
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL);
        setpgid(0, 0);
        if (suite->setup != NULL) suite->setup();
        test->body();
        exit(0);
    }
    check_running_ = pid;
    bool in_time = check_wait_(pid, suite->timeout, &status);
    check_running_ = 0;
    kill(-pid, SIGKILL);
    if (!in_time) kill(pid, SIGKILL);
    if (!in_time) waitpid(pid, &status, 0);
    snprintf(text, sizeof text, "status 0x%x", (unsigned)status);
    if (!in_time) return "not in time";
    return status != 0 ? text : *check_failed_ ? "an assertion failed" : NULL;
}

/* Prints what fails, and last the line that Check prints. */
static inline void srunner_run_all(SRunner *runner, int mode) {
    (void)mode;
    check_failed_ = (int *)mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (check_failed_ == MAP_FAILED) abort();
    const char *only = getenv("CHECK_ONLY"); /* one test's name */
    signal(SIGTERM, check_ended_);
    for (int i = 0; i < runner->tests; i++) {
        const TTest *test = runner->test[i];
        const char *reason = check_skipped_(runner, test);
        if (reason != NULL) printf("skip %s:%s: %s\n", runner->name, test->name, reason);
        if (reason != NULL || (only != NULL && strcmp(only, test->name) != 0)) {
            runner->skipped++;
            continue;
        }
        const char *trouble = check_run_(runner, test);
        if (trouble != NULL) printf("FAIL %s:%s: %s\n", runner->name, test->name, trouble);
        runner->failed += trouble != NULL;
    }
    int run = runner->tests - runner->skipped;
    printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n", run > 0 ? 100 * (run - runner->failed) / run : 100,
           run, runner->failed);
    fflush(stdout);
}

#endif
