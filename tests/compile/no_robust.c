/* Linked with --wrap=pthread_mutexattr_setrobust: locks that are not robust, where an emulated kernel has no
   robust ones and libc, which knows, would refuse to make any. */
#include <pthread.h>

int __wrap_pthread_mutexattr_setrobust(pthread_mutexattr_t *attr, int robustness);
int __wrap_pthread_mutexattr_setrobust(pthread_mutexattr_t *attr, int robustness) {
    (void)attr, (void)robustness;
    return 0;
}
