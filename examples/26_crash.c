/* A task that crashes takes its worker along, and nothing else: its future tells which signal it was, every
   other task gets its result, and a new worker takes the dead one's place. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define TASKS 10
#define BAD   4 /* this one crashes */

static volatile int *nowhere; /* memory that nobody may touch */

static int square(const void *arg, void *result) {
    int n = *(const int *)arg;
    if (n == BAD) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would catch it */
        *nowhere = n;             /* the bug */
    }
    *(int *)result = n * n;
    return 0;
}

static bool futures(mproc_pool *pool) {
    mproc_future *future[TASKS];
    bool held = true;
    for (int i = 0; i < TASKS; i++)
        if (!(future[i] = mproc_pool_apply_async(pool, square, &i, sizeof i, sizeof(int)))) return false;
    for (int i = 0; i < TASKS; i++) {
        int result = -1, error = mproc_future_get(future[i], &result, 30.0);
        int code = mproc_future_code(future[i]);
        if (error == 0) printf("task %d: %d\n", i, result);
        else printf("task %d: %s (%s)\n", i, mproc_strerror(error), strsignal(-code));
        if (i == BAD ? error != MPROC_ECRASHED || code != -SIGSEGV : error != 0 || result != i * i)
            held = false;
        mproc_future_free(future[i]);
    }
    return held;
}

/* map tells of the first item that failed; the others ran all the same. */
static bool map(mproc_pool *pool) {
    int in[TASKS], out[TASKS], right = 0;
    for (int i = 0; i < TASKS; i++) in[i] = i, out[i] = -1;
    int error = mproc_pool_map(pool, square, in, TASKS, sizeof in[0], out, sizeof out[0]);
    for (int i = 0; i < TASKS; i++) right += out[i] == i * i;
    printf("map:    %s, %d of %d items are right\n", mproc_strerror(error), right, TASKS);
    return error == MPROC_ECRASHED && right == TASKS - 1;
}

static int meet(const void *arg, void *result) {
    (void)result;
    return mproc_barrier_wait(*(mproc_barrier *const *)arg, 30.0) >= 0 ? 0 : 1;
}

/* Two tasks that wait for each other need two workers. */
static bool both_are_back(mproc_pool *pool) {
    mproc_barrier *barrier = mproc_barrier_new(2);
    mproc_barrier *in[2] = {barrier, barrier};
    int error = barrier ? mproc_pool_map(pool, meet, in, 2, sizeof in[0], NULL, 0) : -ENOMEM;
    mproc_barrier_free(barrier);
    printf("both workers are there: %s\n", error ? mproc_strerror(error) : "yes");
    return error == 0;
}

int main(void) {
    struct rlimit no_core = {0, 0}; /* a crash on purpose needs no core file */
    setrlimit(RLIMIT_CORE, &no_core);
    nowhere = (volatile int *)mmap(NULL, sizeof *nowhere, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mproc_pool *pool = mproc_pool_new(2);
    if (!pool || nowhere == MAP_FAILED) return perror("pool or mmap"), 1;

    bool held = futures(pool);
    held = map(pool) && held;
    held = both_are_back(pool) && held;

    mproc_pool_counts counts;
    mproc_pool_close(pool);
    if (mproc_pool_join(pool, 30.0) != 0) held = false; /* from now on the counts do not change */
    mproc_pool_stats(pool, &counts);
    printf("%zu tasks done, %zu crashed, %zu workers replaced\n", counts.done, counts.crashed,
           counts.respawned);
    mproc_pool_free(pool);
    return held && counts.done == 2 * (TASKS - 1) + 2 && counts.crashed == 2 && counts.respawned == 2 ? 0 : 1;
}
