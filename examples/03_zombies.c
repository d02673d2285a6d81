/* A child that has ended stays in the process table as a zombie until somebody asks how it ended. Three ways
   not to leave zombies: wait for the child; make it nobody's child (double fork); tell the kernel that nobody
   will ask (ignore SIGCHLD). */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* The state letter of a process from /proc: 'R' runs, 'S' sleeps, 'Z' is a zombie; '-' there is none. */
static char state_of(pid_t pid) {
    char path[64], state = '-';
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *f = fopen(path, "re");
    if (!f) return '-';
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = '-';
    fclose(f);
    return state;
}

static bool way_1_wait(void) {
    pid_t pid = mproc_fork();
    if (pid < 0) return false;
    if (pid == 0) mproc_exit(0);

    siginfo_t info;
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0)
        return false; /* it has ended; do not ask how */
    char before = state_of(pid);
    int error = mproc_wait(pid, NULL, 10.0); /* now ask */
    char after = state_of(pid);
    printf("1. wait:            state '%c' before, '%c' after\n", before, after);
    return error == 0 && before == 'Z' && after == '-';
}

/* The child forks again and ends at once. The grandchild is adopted by init, which waits for everybody. */
static bool way_2_double_fork(void) {
    pid_t me = getpid();
    mproc_queue *queue = mproc_queue_new(1);
    pid_t pid = queue ? mproc_fork_detached() : -1;
    if (pid < 0) return false;
    if (pid == 0) {
        bool mine = getppid() == me;
        mproc_queue_put(queue, &mine, sizeof mine, MPROC_FOREVER);
        mproc_exit(0);
    }

    bool mine = true;
    ssize_t got = mproc_queue_get(queue, &mine, sizeof mine, 10.0);
    bool waited = waitpid(pid, NULL, 0) == pid; /* fails: it is not ours to wait for */
    printf("2. double fork:     process %ld is %s\n", (long)pid,
           mine || waited ? "my child" : "no child of mine");
    mproc_queue_free(queue);
    return got == (ssize_t)sizeof mine && !mine && !waited;
}

static bool way_3_ignore_sigchld(void) {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = mproc_fork();
    if (pid < 0) return false;
    if (pid == 0) mproc_exit(0);

    bool waited = waitpid(pid, NULL, 0) == pid; /* still waits for the end, but the exit code is gone */
    char after = state_of(pid);
    signal(SIGCHLD, SIG_DFL);
    printf("3. ignored SIGCHLD: state '%c' after the end, exit code %s\n", after,
           waited ? "known" : "unknown");
    return !waited && after == '-';
}

int main(void) {
    bool held = way_1_wait();
    held = way_2_double_fork() && held;
    held = way_3_ignore_sigchld() && held;
    return held ? 0 : 1;
}
