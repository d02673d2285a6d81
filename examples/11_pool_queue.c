/* Two tasks of one pool talk through a queue, which is made after the workers were: its pointer is good in
   them all the same, and travels as part of the tasks' argument. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <unistd.h>

#define NUMBERS 1000

struct channel {
    mproc_queue *queue;
};

struct sum {
    long sum;
    pid_t worker;
};

static int write_numbers(const void *arg, void *result) {
    const struct channel *c = (const struct channel *)arg;
    *(pid_t *)result = getpid();
    for (int i = 1; i <= NUMBERS; i++)
        if (mproc_queue_put(c->queue, &i, sizeof i, 10.0) != 0) return 1;
    return mproc_queue_close(c->queue) == 0 ? 0 : 1;
}

static int read_numbers(const void *arg, void *result) {
    const struct channel *c = (const struct channel *)arg;
    struct sum *s = (struct sum *)result;
    int n;
    ssize_t got;
    s->sum = 0;
    s->worker = getpid();
    while ((got = mproc_queue_get(c->queue, &n, sizeof n, 10.0)) == (ssize_t)sizeof n) s->sum += n;
    return got == MPROC_ECLOSED ? 0 : 1;
}

int main(void) {
    mproc_pool *pool =
        mproc_pool_new(2); /* two workers: a task that waits for another needs one of its own */
    struct channel c = {mproc_queue_new(10)};
    if (!pool || !c.queue) return perror("pool or queue"), 1;

    struct sum s = {0, 0};
    pid_t writer = 0;
    mproc_future *reading = mproc_pool_apply_async(pool, read_numbers, &c, sizeof c, sizeof s);
    mproc_future *writing = mproc_pool_apply_async(pool, write_numbers, &c, sizeof c, sizeof writer);
    int read_error = mproc_future_get(reading, &s, 30.0);
    int write_error = mproc_future_get(writing, &writer, 30.0);
    printf("worker %ld wrote the numbers from 1 to %d, worker %ld got %ld in all\n", (long)writer, NUMBERS,
           (long)s.worker, s.sum);

    mproc_future_free(reading);
    mproc_future_free(writing);
    mproc_pool_free(pool);
    mproc_queue_free(c.queue);
    return !read_error && !write_error && s.worker != writer && s.sum == NUMBERS * (NUMBERS + 1L) / 2 ? 0 : 1;
}
