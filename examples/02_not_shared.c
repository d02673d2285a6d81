/* After fork parent and child have the same variables with the same content, but each has its own: what one
   writes the other never sees. What both are to see must lie in shared memory. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

int main(void) {
    int plain = 1;
    int *shared = mproc_value_new(int, 1); /* an ordinary pointer, to memory that all processes share */
    if (!shared) return perror("mproc_value_new"), 1;

    pid_t pid = mproc_fork();
    if (pid < 0) return 1;
    if (pid == 0) {
        plain = 2;
        *shared = 2;
        printf("child:  plain is %d, *shared is %d\n", plain, *shared);
        mproc_exit(0);
    }

    if (mproc_wait(pid, NULL, 10.0) != 0) return 1;
    printf("parent: plain is %d, *shared is %d\n", plain, *shared);
    int held = plain == 1 && *shared == 2;
    mproc_free(shared);
    return held ? 0 : 1;
}
