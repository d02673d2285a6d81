/* old_kernel PROGRAM ARGUMENT... - runs a program as if the kernel were from 2018 (Linux 4.18): the system
   calls that came later do not exist. libc and the program have to do without. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#define LOAD(what)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW         BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* The rest belongs to a call of this number, or of one from this number on. */
#define UNLESS(number, lines) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, (lines))
#define BELOW(number, lines)  BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (number), 0, (lines))

/* From 424 on every processor has the same numbers; below it stand the calls that a 32-bit processor needs
   for time of 64 bits (403 to 423), left as they are. */
enum { FIRST_LATER = 424, WAITID_BY_PIDFD = 3 };

int main(int argc, char **argv) {
#ifdef __x86_64__
    const unsigned waitid = 247;
#elif defined(__aarch64__)
    const unsigned waitid = 95;
#else
    const unsigned waitid = ~0u;
#endif
    struct sock_filter filter[] = {
        LOAD(nr),      BELOW(FIRST_LATER, 1),      REFUSE(ENOSYS), UNLESS(waitid, 3),
        LOAD(args[0]), UNLESS(WAITID_BY_PIDFD, 1), REFUSE(EINVAL), ALLOW,
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (argc < 2) return 2;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        return 2;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 2;
}
