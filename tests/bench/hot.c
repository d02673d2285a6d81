/* hot FUNCTION - calls one function 1000 times where nothing waits, for instructions.sh to count */
#define MPROC_DEF extern __attribute__((noinline)) /* so that callgrind sees the calls */
#define MPROC_IMPLEMENTATION
#include "../../mproc.h"

static int nothing(const void *arg, void *result) {
    (void)arg, (void)result;
    return 0;
}

/* What the above stand on, to compare with. */
__attribute__((noinline)) static int robust_lock(pthread_mutex_t *m) { return pthread_mutex_lock(m); }
__attribute__((noinline)) static int robust_unlock(pthread_mutex_t *m) { return pthread_mutex_unlock(m); }
__attribute__((noinline)) static ssize_t pipe_write(int fd, const void *m) { return write(fd, m, 64); }
__attribute__((noinline)) static ssize_t pipe_read(int fd, void *m) { return read(fd, m, 64); }

int main(int argc, char **argv) {
    char m[64] = {0};
    mproc_queue *q = mproc_queue_new(0);
    mproc_ring *r = mproc_ring_new(sizeof m, 1024);
    mproc_lock *l = mproc_lock_new();
    mproc_event *e = mproc_event_new();
    mproc_pool *p = argc > 1 && strstr(argv[1], "pool") ? mproc_pool_new(1) : NULL;
    pthread_mutex_t robust;
    pthread_mutexattr_t attr;
    int fd[2];
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attr);
    if (pipe(fd) != 0) return 1;
    for (int i = 0; i < 1000; i++) {
        if (robust_lock(&robust) != 0 || robust_unlock(&robust) != 0) return 1;
        if (pipe_write(fd[1], m) != 64 || pipe_read(fd[0], m) != 64) return 1;
        mproc_queue_put(q, m, sizeof m, 0);
        mproc_queue_get(q, m, sizeof m, 0);
        mproc_ring_put(r, m, 0);
        mproc_ring_get(r, m, 0);
        mproc_lock_acquire(l, 0);
        mproc_lock_release(l);
        mproc_event_set(e);
        mproc_event_clear(e);
        mproc_free(mproc_shm_new(256));
        if (p) mproc_pool_submit(p, nothing, m, 8, MPROC_FOREVER);
    }
    return mproc_pool_free(p);
}
