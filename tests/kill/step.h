/* Leads a process to its k-th instruction.

   A first run steps through an operation and notes the address of each instruction. Later runs need no steps:
   the k-th instruction is the m-th visit to its address, and a breakpoint register of the processor stops
   there. Where the path has changed meanwhile, and on processors whose registers are not known here, steps do
   it. Breakpoints in the code itself would not do: processes forked by the operation would run into them.

   A system call is one step, and so is a repeated string instruction. A process that sleeps in a system call
   is reported as blocked. */
#ifndef STEP_H
#define STEP_H

#include <sys/ptrace.h>
#include <sys/user.h>

#if defined(__x86_64__)
#define STEP_MARK()      __asm__ volatile("int3")
#define STEP_BREAKPOINTS 1
#else
#define STEP_MARK()      raise(SIGTRAP)
#define STEP_BREAKPOINTS 0
#endif

enum step { STEP_STOPPED, STEP_HIT, STEP_MARKED, STEP_BLOCKED, STEP_GONE };

#define STEP_MOST 300000

static struct {
    pid_t pid;
    uintptr_t at; /* the address of its next instruction */
    int signal;   /* to be delivered when it goes on */
    uintptr_t path[STEP_MOST + 2];
    size_t length; /* of the path */
} step;

static inline double step_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The state letter of a process in /proc, 0 when there is none. */
static inline char step_state(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    char *end = strrchr(text, ')');
    return end != NULL ? end[2] : 0;
}

/* Waits until the process stops, ends, or sleeps: a process seen asleep several times in a row is blocked. */
static inline enum step step_wait(int *status) {
    double start = step_clock();
    for (int asleep = 0;;) {
        pid_t pid = waitpid(step.pid, status, __WALL | WNOHANG);
        if (pid < 0) return STEP_GONE;
        if (pid == step.pid) return WIFSTOPPED(*status) ? STEP_STOPPED : STEP_GONE;
        sched_yield();
        if (step_clock() - start < 0.0003) continue;
        asleep = step_state(step.pid) == 'S' ? asleep + 1 : 0;
        if (asleep == 10) return STEP_BLOCKED;
        if (asleep > 0) nanosleep(&(struct timespec){0, 20000}, NULL);
    }
}

static inline void step_look(void) {
#if defined(__x86_64__)
    struct user_regs_struct registers;
    if (ptrace(PTRACE_GETREGS, step.pid, NULL, &registers) == 0) step.at = (uintptr_t)registers.rip;
#else
    step.at++; /* unknown: different for each step */
#endif
}

/* Lets it run (or step) until something happens. Signals of its own are passed to it. */
static inline enum step step_go(bool single) {
    for (;;) {
        int status;
        void *with = (void *)(intptr_t)step.signal;
        ptrace(single ? PTRACE_SINGLESTEP : PTRACE_CONT, step.pid, NULL, with);
        step.signal = 0;
        for (;;) {
            enum step what = step_wait(&status);
            if (what != STEP_STOPPED) return what;
            if (status >> 16 != PTRACE_EVENT_STOP) break;
            ptrace(single ? PTRACE_SINGLESTEP : PTRACE_CONT, step.pid, NULL, NULL);
        }
        siginfo_t info;
        memset(&info, 0, sizeof info);
        ptrace(PTRACE_GETSIGINFO, step.pid, NULL, &info);
        if (WSTOPSIG(status) == SIGTRAP && info.si_code != SI_USER) {
            step_look();
#if STEP_BREAKPOINTS
            if (info.si_code == SI_KERNEL) return STEP_MARKED;
            return info.si_code == TRAP_HWBKPT ? STEP_HIT : STEP_STOPPED;
#else
            return info.si_code == SI_TKILL ? STEP_MARKED : STEP_STOPPED;
#endif
        }
        step.signal = WSTOPSIG(status);
    }
}

/* The same when it was blocked: it is under way already. */
static inline enum step step_resume(void) {
    int status;
    enum step what = step_wait(&status);
    if (what != STEP_STOPPED) return what;
    if (status >> 16 == PTRACE_EVENT_STOP) return step_go(false);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    ptrace(PTRACE_GETSIGINFO, step.pid, NULL, &info);
    if (WSTOPSIG(status) != SIGTRAP) {
        step.signal = WSTOPSIG(status);
        return STEP_STOPPED;
    }
    step_look();
#if STEP_BREAKPOINTS
    if (info.si_code == SI_KERNEL) return STEP_MARKED;
    if (info.si_code == TRAP_HWBKPT) return STEP_HIT;
#endif
    return STEP_STOPPED;
}

#if STEP_BREAKPOINTS
static inline bool step_break(uintptr_t address, bool on) {
    const long mode = on ? 1 : 0; /* of register 7: the first one is on, for instructions */
    return ptrace(PTRACE_POKEUSER, step.pid, offsetof(struct user, u_debugreg[0]), address) == 0 &&
           ptrace(PTRACE_POKEUSER, step.pid, offsetof(struct user, u_debugreg[7]), mode) == 0;
}

/* The length of a repeated string instruction, 0 for any other. */
static inline uintptr_t step_repeated(void) {
    unsigned long word = (unsigned long)ptrace(PTRACE_PEEKTEXT, step.pid, step.at, NULL);
    unsigned char b[3] = {word & 0xff, word >> 8 & 0xff, word >> 16 & 0xff};
    if (b[0] != 0xf3 && b[0] != 0xf2) return 0;
    uintptr_t n = (b[1] & 0xf8) == 0x48 ? 3 : 2;
    unsigned char code = b[n - 1];
    return (code >= 0xa4 && code <= 0xa7) || (code >= 0xaa && code <= 0xaf) ? n : 0;
}
#endif

/* One instruction. */
static inline enum step step_once(void) {
    uintptr_t before = step.at;
    enum step what = step_go(true);
#if STEP_BREAKPOINTS
    uintptr_t n = what == STEP_STOPPED && step.at == before ? step_repeated() : 0;
    if (n != 0 && step_break(before + n, true)) {
        what = step_go(false);
        step_break(0, false);
        if (what == STEP_HIT) what = STEP_STOPPED;
    }
#else
    (void)before;
#endif
    return what;
}

/* Has the process stopped at its first mark? Signals on the way there, of a child's end say, are passed on.
 */
static inline bool step_begin(pid_t pid) {
    int status;
    step.pid = pid;
    step.signal = 0;
    while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) && WSTOPSIG(status) != SIGTRAP)
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)WSTOPSIG(status));
    if (!WIFSTOPPED(status)) return false;
    ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL);
    step_look();
    return true;
}

/* Stops a process that is not the caller's child. */
static inline bool step_attach(pid_t pid) {
    int status;
    step.pid = pid;
    step.signal = 0;
    if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_EXITKILL) != 0) return false;
    ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
    if (waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) return false;
    step_look();
    return true;
}

/* Which visit to its address the k-th instruction of the path is. */
static inline size_t step_visit(size_t k) {
    size_t visit = 0;
    for (size_t i = 0; i <= k; i++) visit += step.path[i] == step.path[k];
    return visit;
}

#endif
