/* Producer and consumers with a queue that can be joined. The consumers are daemons: they serve for ever.
   When is the work done? Not when the queue is empty, for the last jobs are in the consumers' hands then. So
   each says task_done when it has finished a job, and join waits until that was said for every message. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <time.h>

#define JOBS    40
#define WORKERS 3

static long *squares; /* shared; a child inherits the pointer as every other variable */

static int work(void *arg) {
    mproc_queue *jobs = (mproc_queue *)arg;
    struct timespec moment = {0, 2000000};
    int job;
    while (mproc_queue_get(jobs, &job, sizeof job, MPROC_FOREVER) >= 0) {
        nanosleep(&moment, NULL); /* the queue may be empty while this job is still in the making */
        squares[job] = (long)job * job;
        if (mproc_queue_task_done(jobs) != 0) return 1;
    }
    return 0;
}

static bool all_done(void) {
    for (int job = 0; job < JOBS; job++)
        if (squares[job] != (long)job * job) return false;
    return true;
}

int main(void) {
    mproc_process workers[WORKERS] = {{0}};
    mproc_queue *jobs = mproc_queue_new(10);
    squares = mproc_array_new(long, JOBS);
    if (!jobs || !squares) return perror("queue or array"), 1;
    for (int job = 0; job < JOBS; job++) squares[job] = -1;
    for (int i = 0; i < WORKERS; i++) {
        workers[i].target = work;
        workers[i].arg = jobs;
        workers[i].daemon = true; /* ended when we end */
        if (mproc_process_start(&workers[i]) != 0) return 1;
    }

    for (int job = 0; job < JOBS; job++)
        if (mproc_queue_put(jobs, &job, sizeof job, 10.0) != 0) return 1; /* waits while ten are waiting */
    size_t waiting = mproc_queue_qsize(jobs);
    printf("all %d jobs are handed out; %zu of them still wait in the queue\n", JOBS, waiting);

    int error = mproc_queue_join(jobs, 10.0);
    bool done = all_done();
    printf("joined: %s, every job %s\n", mproc_strerror(error), done ? "is done" : "is NOT done");

    int too_many = mproc_queue_task_done(jobs);
    printf("a task_done too many: %s\n", mproc_strerror(too_many));
    return error == 0 && done && waiting <= 10 && too_many == MPROC_EINVAL ? 0 : 1;
}
