/* fork makes a second process out of this one. Both go on behind the same call; only what it returns tells
   them apart: 0 in the child, the child's process id (pid) in the parent. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <unistd.h>

int main(void) {
    pid_t parent = getpid();
    printf("before fork: one process, pid %ld\n", (long)parent);

    pid_t pid = mproc_fork(); /* fork(2), but what printf still holds back is not printed twice */
    if (pid < 0) {
        fprintf(stderr, "fork: %s\n", mproc_strerror((int)pid));
        return 1;
    }
    if (pid == 0) {
        printf("child:  fork returned 0; my pid is %ld, my parent's is %ld\n", (long)getpid(),
               (long)getppid());
        mproc_exit(getppid() == parent ? 7 : 1); /* 7 is for the parent, which waits for this number */
    }

    int exitcode = -1;
    int error = mproc_wait(pid, &exitcode, 10.0);
    printf("parent: fork returned %ld, my pid is %ld; the child ended with exit code %d\n", (long)pid,
           (long)getpid(), exitcode);
    return error == 0 && exitcode == 7 && getpid() == parent ? 0 : 1;
}
