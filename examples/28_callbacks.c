/* Callbacks in an event loop. on_done names a function to call when a task is done. There is no hidden thread
   to call it from: it runs in this thread, within one of this process's later calls on the pool. So that the
   loop knows when to make one, the pool has a descriptor for poll(2), beside a timer here. Each number goes
   through two tasks; the callback of the first one hands in the second. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NUMBERS 8

struct job {
    mproc_pool *pool;
    uint64_t number, square;
    unsigned digits; /* the sum of the square's digits; 0 until it is known */
    bool failed;
};

static int jobs_left = NUMBERS;

static int square(const void *arg, void *result) {
    uint64_t n = *(const uint64_t *)arg;
    *(uint64_t *)result = n * n;
    return 0;
}

static int add_digits(const void *arg, void *result) {
    unsigned sum = 0;
    for (uint64_t n = *(const uint64_t *)arg; n > 0; n /= 10) sum += (unsigned)(n % 10);
    *(unsigned *)result = sum;
    return 0;
}

static void finish(struct job *job, bool good) {
    job->failed = !good;
    jobs_left--;
}

static void digits_done(mproc_future *future, void *ctx) {
    struct job *job = (struct job *)ctx;
    int error = mproc_future_get(future, &job->digits, 0); /* it is done: this does not wait */
    printf("%llu squared is %llu, its digits add up to %u\n", (unsigned long long)job->number,
           (unsigned long long)job->square, job->digits);
    mproc_future_free(future);
    finish(job, error == 0);
}

static void square_done(mproc_future *future, void *ctx) {
    struct job *job = (struct job *)ctx;
    int error = mproc_future_get(future, &job->square, 0);
    mproc_future_free(future);
    mproc_future *next = error ? NULL
                               : mproc_pool_apply_async(job->pool, add_digits, &job->square,
                                                        sizeof job->square, sizeof(unsigned));
    if (!next || mproc_future_on_done(next, digits_done, job) != 0) finish(job, false);
}

static int make_timer(void) {
    struct itimerspec each = {{0, 1000000}, {0, 1000000}}; /* a millisecond */
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd >= 0 && timerfd_settime(fd, 0, &each, NULL) != 0) return -1;
    return fd;
}

/* Goes on until all jobs are done and the timer has been heard of. */
static bool event_loop(mproc_pool *pool, int timer) {
    struct pollfd fds[2] = {{.fd = mproc_pool_fd(pool), .events = POLLIN}, {.fd = timer, .events = POLLIN}};
    uint64_t ticks = 0, more;
    while (jobs_left > 0 || ticks == 0) {
        if (poll(fds, 2, 10000) <= 0) return false;
        if (fds[0].revents & POLLHUP) return false; /* the pool is over */
        mproc_pool_counts counts;
        if (fds[0].revents) mproc_pool_stats(pool, &counts); /* any call will do: it runs the callbacks */
        if (fds[1].revents && read(timer, &more, sizeof more) == (ssize_t)sizeof more) ticks += more;
    }
    puts("the timer was heard of, too");
    return true;
}

int main(void) {
    static const unsigned expected[NUMBERS] = {1, 4, 9, 16, 25, 36, 49, 64}; /* 1, 11, 111, ... squared */
    static struct job jobs[NUMBERS];
    mproc_pool *pool = mproc_pool_new(2);
    int timer = make_timer();
    if (!pool || timer < 0) return perror("pool or timer"), 1;

    uint64_t ones = 1;
    for (int i = 0; i < NUMBERS; i++, ones = 10 * ones + 1) {
        jobs[i].pool = pool;
        jobs[i].number = ones;
        mproc_future *future = mproc_pool_apply_async(pool, square, &ones, sizeof ones, sizeof ones);
        if (!future || mproc_future_on_done(future, square_done, &jobs[i]) != 0) return 1;
    }
    bool held = event_loop(pool, timer);
    for (int i = 0; i < NUMBERS; i++)
        if (jobs[i].failed || jobs[i].digits != expected[i]) held = false;
    close(timer);
    mproc_pool_free(pool);
    return held ? 0 : 1;
}
