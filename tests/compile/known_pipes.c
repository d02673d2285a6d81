/* Linked with --wrap=syscall: a pipe asked for by the number of the system call is made by libc's function,
   which ThreadSanitizer knows. Then it sees that who reads from a pipe comes after who wrote to it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) {
    long argument[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) argument[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_pipe2) return pipe2((int *)argument[0], (int)argument[1]);
    return __real_syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4],
                          argument[5]);
}
