/* Tasks with a time limit. One that runs past the pool's task_timeout is ended by force: its worker is killed
   and replaced, so it does not matter where the task hangs. Patience is something else: mproc_future_get with
   a timeout gives up waiting, the task goes on, and can be waited for again or cancelled. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <time.h>
#include <unistd.h>

#define LIMIT 0.5 /* seconds for a task */

/* The number of steps from n to 1 by the rule of Collatz; nobody knows whether it ends for each n, but for 0
   it does not. */
static int collatz(const void *arg, void *result) {
    unsigned long n = *(const unsigned long *)arg;
    unsigned steps = 0;
    for (; n != 1; steps++) n = n % 2 ? 3 * n + 1 : n / 2;
    *(int *)result = (int)steps;
    return 0;
}

static int sleep_for_ever(const void *arg, void *result) {
    (void)arg, (void)result;
    while (pause() == -1) continue; /* it returns for signals only */
    return 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool task_timeout(void) {
    static const unsigned long in[6] = {27, 97, 0, 871, 6171, 77031};
    static const int right[6] = {111, 118, -1, 178, 261, 350};
    mproc_pool_options options = {.workers = 2, .task_timeout = LIMIT};
    mproc_pool *pool = mproc_pool_new_with(&options);
    if (!pool) return perror("mproc_pool_new_with"), false;

    mproc_future *future[6];
    bool held = true;
    double began = now();
    for (int i = 0; i < 6; i++)
        future[i] = mproc_pool_apply_async(pool, collatz, &in[i], sizeof in[i], sizeof(int));
    for (int i = 0; i < 6; i++) {
        int steps = -1, error = mproc_future_get(future[i], &steps, 30.0);
        printf("collatz(%lu): ", in[i]);
        if (error) printf("%s after %.1f s\n", mproc_strerror(error), now() - began);
        else printf("%d steps\n", steps);
        if (error != (in[i] ? 0 : MPROC_ETIMEDOUT) || steps != right[i]) held = false;
        mproc_future_free(future[i]);
    }
    mproc_pool_free(pool);
    return held && now() - began >= LIMIT;
}

static bool patience(void) {
    mproc_pool *pool = mproc_pool_new(1);
    mproc_future *future = mproc_pool_apply_async(pool, sleep_for_ever, NULL, 0, 0);
    if (!future) return perror("pool or task"), false;
    int error = mproc_future_get(future, NULL, 0.1);
    printf("waited a little:  %s, done: %s\n", mproc_strerror(error),
           mproc_future_ready(future) ? "yes" : "no");
    bool held = error == MPROC_ETIMEDOUT && !mproc_future_ready(future);

    if (mproc_future_cancel(future) != 0) held = false;
    error = mproc_future_get(future, NULL, 0);
    printf("cancelled it:     %s\n", mproc_strerror(error));
    if (error != MPROC_ECANCELED) held = false;
    mproc_future_free(future);

    unsigned long n = 27; /* the only worker was killed; there is a new one */
    int steps = -1;
    error = mproc_pool_apply(pool, collatz, &n, sizeof n, &steps, sizeof steps);
    printf("and the next one: %d steps\n", steps);
    mproc_pool_free(pool);
    return held && error == 0 && steps == 111;
}

int main(void) {
    bool held = task_timeout();
    held = patience() && held;
    return held ? 0 : 1;
}
