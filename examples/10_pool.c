/* A pool keeps workers ready, forked once, and feeds them with tasks. apply runs one and waits for it;
   apply_async hands it in and returns a future, to ask for the result later; map runs one per array item. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <unistd.h>

struct squared {
    long square;
    pid_t worker;
};

/* A task gets its argument and a place for its result. What it returns: 0 is success. */
static int square(const void *arg, void *result) {
    long n = *(const long *)arg;
    struct squared *r = (struct squared *)result;
    if (n < 0) return 3; /* a task may fail */
    r->square = n * n;
    r->worker = getpid();
    return 0;
}

static bool apply(mproc_pool *pool) {
    long n = 12;
    struct squared r = {0, 0};
    int error = mproc_pool_apply(pool, square, &n, sizeof n, &r, sizeof r);
    printf("apply:       %ld squared is %ld, says worker %ld (I am %ld)\n", n, r.square, (long)r.worker,
           (long)getpid());
    return error == 0 && r.square == 144 && r.worker != getpid();
}

static bool apply_async(mproc_pool *pool) {
    mproc_future *futures[5];
    bool held = true;
    for (long n = 0; n < 5; n++)
        futures[n] = mproc_pool_apply_async(pool, square, &n, sizeof n, sizeof(struct squared));
    for (long n = 0; n < 5; n++) { /* all five are on their way; now collect */
        struct squared r = {-1, 0};
        int error = mproc_future_get(futures[n], &r, 10.0);
        printf("apply_async: %ld squared is %ld\n", n, r.square);
        if (error || r.square != n * n) held = false;
        mproc_future_free(futures[n]);
    }
    return held;
}

static bool failing(mproc_pool *pool) {
    long n = -1;
    mproc_future *future = mproc_pool_apply_async(pool, square, &n, sizeof n, sizeof(struct squared));
    int error = mproc_future_get(future, NULL, 10.0), code = mproc_future_code(future);
    printf("a task that fails: %s, code %d\n", mproc_strerror(error), code);
    mproc_future_free(future);
    return error == MPROC_EFAILED && code == 3;
}

static bool map(mproc_pool *pool) {
    long in[6] = {1, 2, 3, 4, 5, 6}, sum = 0;
    struct squared out[6];
    int error = mproc_pool_map(pool, square, in, 6, sizeof in[0], out, sizeof out[0]);
    if (error) return false;
    for (int i = 0; i < 6; i++) sum += out[i].square;
    printf("map:         the squares from 1 to 6 add up to %ld\n", sum);
    return sum == 91;
}

int main(void) {
    mproc_pool *pool = mproc_pool_new(3);
    if (!pool) return perror("mproc_pool_new"), 1;
    bool held = apply(pool);
    held = apply_async(pool) && held;
    held = failing(pool) && held;
    held = map(pool) && held;
    mproc_pool_close(pool); /* no more tasks */
    if (mproc_pool_join(pool, 10.0) != 0) held = false;
    mproc_pool_free(pool);
    return held ? 0 : 1;
}
