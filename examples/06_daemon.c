/* A daemon is a process that serves others and must not outlive them. It can be ended with terminate; and
   when the process that started it ends, it is ended too, where another process would be waited for. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int serve(void *arg) {
    mproc_queue *started = (mproc_queue *)arg;
    pid_t pid = getpid();
    mproc_queue_put(started, &pid, sizeof pid, MPROC_FOREVER);
    while (pause() == -1) continue; /* for ever: a signal ends it */
    return 0;
}

static bool terminated(mproc_queue *started) {
    pid_t pid = 0;
    mproc_process daemon = {.target = serve, .arg = started, .daemon = true};
    if (mproc_process_start(&daemon) != 0) return false;
    if (mproc_queue_get(started, &pid, sizeof pid, 10.0) < 0) return false; /* it serves now */
    bool alive_before = mproc_process_is_alive(&daemon);

    mproc_process_terminate(&daemon); /* sends SIGTERM */
    int error = mproc_process_join(&daemon, 10.0);
    bool alive_after = mproc_process_is_alive(&daemon);
    printf("daemon %ld: alive %d, after terminate alive %d, exit code %d (%s)\n", (long)pid, alive_before,
           alive_after, daemon.exitcode, strsignal(-daemon.exitcode));
    return error == 0 && alive_before && !alive_after && daemon.exitcode == -SIGTERM;
}

/* Starts a daemon and returns: with this process its daemon ends. */
static int master(void *arg) {
    mproc_process daemon = {.target = serve, .arg = arg, .daemon = true};
    return mproc_process_start(&daemon) == 0 ? 0 : 1;
}

/* Both hold the writing end of a pipe; its reading end tells when the last of them is gone. */
static bool goes_with_its_master(mproc_queue *started) {
    int ends[2];
    char byte;
    mproc_process p = {.target = master, .arg = started};
    if (pipe(ends) != 0 || mproc_process_start(&p) != 0) return false;
    close(ends[1]);
    int error = mproc_process_join(&p, 10.0);
    struct pollfd end = {.fd = ends[0], .events = POLLIN};
    bool gone = poll(&end, 1, 10000) == 1 && read(ends[0], &byte, 1) == 0;
    printf("its master ended with exit code %d, and the daemon is %s\n", p.exitcode,
           gone ? "gone" : "still there");
    close(ends[0]);
    return error == 0 && p.exitcode == 0 && gone;
}

int main(void) {
    mproc_queue *started = mproc_queue_new(0);
    if (!started) return perror("mproc_queue_new"), 1;
    bool held = terminated(started);
    held = goes_with_its_master(started) && held;
    mproc_queue_free(started);
    return held ? 0 : 1;
}
