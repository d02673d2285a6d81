/* Makes system calls and allocations of mproc.h fail on demand. Include it instead of support.h.

   A macro stands before each such call while the implementation is compiled, and is gone again before the
   test's own code: the header knows nothing of it. fault_arm says which call is to fail; `rules` says which
   can fail at all, and how. A call whose failure would be no system's fault (FIONREAD of a pipe, say) is left
   alone. */
#ifndef SUPPORT_FAULT_H
#define SUPPORT_FAULT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAULT_WAYS 4    /* errors that one call can give */
#define SHORT      9999 /* in place of an error: half of a write */

typedef struct fault_rule {
    const char *call, *with; /* the call's name and bracket, and what else stands in its text; the first
                                rule that fits a call counts */
    int errors[FAULT_WAYS];
    bool lasts; /* a shortage: when one call fails, so may all later ones */
} fault_rule;

static const fault_rule fault_rules[] = {
    {"fork(", "", {EAGAIN, ENOMEM}, true},
    {"syscall(", "SYS_pipe2", {EMFILE, ENFILE}, true},
    {"syscall(", "SYS_pidfd_open", {EPERM, EMFILE, ENOSYS}, true},
    {"syscall(", "SYS_pidfd_send_signal", {EPERM, ENOSYS}, true},
    {"syscall(", "SYS_FUTEX, word, 0", {EINTR, EAGAIN}, false},
    {"syscall(", "SYS_tgkill", {EPERM}, false},
    {"syscall(", "SYS_sched_getaffinity", {EINVAL, ENOSYS}, false},
    {"waitid(", "P_PIDFD", {EINVAL}, true},
    {"waitid(", "WEXITED | WNOWAIT", {EINTR}, false},
    {"waitpid(", "", {EINTR}, false},
    {"fcntl(", "F_SETPIPE_SZ", {EPERM, ENOMEM}, true},
    {"fcntl(", "F_DUPFD_CLOEXEC", {EMFILE}, true},
    {"fcntl(", "F_SETOWN", {EPERM}, false},
    {"open(", "", {EMFILE, ENOSPC, EINTR, EACCES}, true},
    {"glob(", "", {EMFILE, ENOMEM}, true},
    {"fopen(", "", {EMFILE, ENOMEM}, true},
    {"mmap(", "", {ENOMEM, EAGAIN}, false},
    {"madvise(", "", {ENOSYS, EINVAL}, true},
    {"calloc(", "", {ENOMEM}, true},
    {"malloc(", "", {ENOMEM}, true},
    {"realpath(", "", {ENOMEM, EACCES}, true},
    {"open_memstream(", "", {ENOMEM}, true},
    {"arena(", "", {ENOMEM}, true},
    {"read(", "", {EINTR, EAGAIN}, false},
    {"write(", "data + *done", {EINTR, ENOSPC, EIO, SHORT}, false},
    {"write(", "", {EINTR, EAGAIN}, false},
    {"pread(", "", {EINTR, EIO}, false},
    {"poll(", "", {EINTR, ENOMEM}, false},
    {"flock(", "", {EINTR, ENOLCK}, false},
    {"fstat(", "", {EIO, ENOMEM}, false},
    {"stat(", "", {EACCES, ENOMEM}, true},
    {"lstat(", "", {EACCES, ENOMEM}, true},
#ifdef STATX_TYPE /* musl has none, and the header does without */
    {"syscall(", "SYS_statx", {EACCES, ENOSYS, ENOMEM}, true},
#endif
    {"link(", "", {EACCES, EPERM, ENOSPC}, false},
    {"symlink(", "", {EACCES, ENOSPC, EIO}, false},
    {"readlink(", "", {EACCES, EIO}, false},
    {"ftruncate(", "", {EINTR, EIO}, false},
    {"rename(", "", {ENOSPC, EACCES}, false},
    {"unlink(", "", {EACCES, EBUSY}, false},
    {"fsync(", "", {EINTR, EIO, ENOSPC}, false},
    {"fchmod(", "", {EPERM, EIO}, false},
    {"fchown(", "", {EPERM, EIO}, false},
    {"sigtimedwait(", "", {EINTR, EAGAIN}, false},
    {"nanosleep(", "", {EINTR}, false},
    {"close(", "", {EINTR, EIO}, false},
    {"getrlimit(", "", {EPERM}, false},
    {"sysinfo(", "", {EPERM}, false},
    {"pthread_key_create(", "", {EAGAIN, ENOMEM}, false},
    {"pthread_atfork(", "", {ENOMEM}, false},
    {"pthread_mutex_init(", "", {ENOMEM, EAGAIN}, true},
    {"atexit(", "", {ENOMEM}, false},
};
#define FAULT_RULES (sizeof fault_rules / sizeof *fault_rules)

static struct fault_state {    /* shared, so that calls of children can be made to fail too */
    int way;                   /* which error of a rule */
    int nth;                   /* call of those that can fail that way; 0: none */
    int counted;               /* of them so far */
    int failed;                /* how many have been made to */
    pid_t process;             /* whose calls; 0: those of its children */
    pid_t starter;             /* who armed it */
    const fault_rule *lasting; /* calls under this rule go on failing */
    const char *only;          /* only calls with this in their text count; NULL: all */
    bool lasts;                /* what fails once, goes on failing, where the rule says so */
    char text[160];            /* of the call that failed first */
    int used[FAULT_RULES];     /* how often each rule made a call fail */
} * fault;
static void (*fault_before)(
    const char *text);    /* called before each call: what happens just then; and after pthread_atfork */
static long fault_blocks; /* of malloc that the library holds in this process */

static inline void fault_start(void) {
    void *page = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) abort();
    fault = (struct fault_state *)page;
}

enum { FAULT_MINE, FAULT_CHILDREN };

/* From now on the nth call (of this process, or of its children) fails in its way-th way. */
static inline void fault_arm(int nth, int way, int whose, bool lasts) {
    fault->way = way;
    fault->counted = fault->failed = 0;
    fault->starter = getpid();
    fault->process = whose == FAULT_MINE ? getpid() : 0;
    fault->lasting = NULL;
    fault->lasts = lasts;
    fault->text[0] = 0;
    __atomic_store_n(&fault->nth, nth, __ATOMIC_SEQ_CST);
}

/* Until told otherwise only calls with this in their text count, so that the first of them surely fails,
   whatever other processes call meanwhile. Not while armed. NULL: all. */
static inline void fault_only(const char *with) { fault->only = with; }

/* How many calls failed since. */
static inline int fault_disarm(void) {
    __atomic_store_n(&fault->nth, 0, __ATOMIC_SEQ_CST);
    return fault->failed;
}

static inline const fault_rule *fault_rule_of(const char *text) {
    for (size_t i = 0; i < FAULT_RULES; i++) {
        const fault_rule *r = &fault_rules[i];
        if (strncmp(text, r->call, strlen(r->call)) == 0 && strstr(text, r->with) != NULL) return r;
    }
    return NULL;
}

/* Is this call to fail? errno says how. */
static inline bool fault_hits(const char *text) {
    if (fault_before != NULL) fault_before(text);
    if (fault == NULL) return false;
    int nth = __atomic_load_n(&fault->nth, __ATOMIC_SEQ_CST);
    if (nth == 0) return false;
    if (fault->process != 0 ? fault->process != getpid() : fault->starter == getpid()) return false;
    if (fault->only != NULL && strstr(text, fault->only) == NULL) return false;
    const fault_rule *r = fault_rule_of(text);
    if (r == NULL || r->errors[fault->way] == 0) return false;
    if (fault->lasts && (!r->lasts || r->errors[fault->way] == EINTR)) return false;
    bool first = __atomic_add_fetch(&fault->counted, 1, __ATOMIC_SEQ_CST) == nth;
    if (!first && fault->lasting != r) return false;
    if (first && fault->lasts) fault->lasting = r;
    if (first) snprintf(fault->text, sizeof fault->text, "%s: %s", text, strerror(r->errors[fault->way]));
    __atomic_add_fetch(&fault->failed, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&fault->used[r - fault_rules], 1, __ATOMIC_SEQ_CST);
    errno = r->errors[fault->way];
    return true;
}

static inline ssize_t fault_write(const char *text, int fd, const void *data, size_t size) {
    if (!fault_hits(text)) return write(fd, data, size);
    return errno == SHORT ? write(fd, data, (size + 1) / 2) : -1;
}
/* A close that fails has closed all the same. */
static inline int fault_close(const char *text, int fd) {
    int result = close(fd);
    return fault_hits(text) ? -1 : result;
}
/* Only a file's: that of a pipe cannot fail. */
static inline int fault_fstat(const char *text, int fd, struct stat *st) {
    int result = fstat(fd, st);
    return result == 0 && S_ISREG(st->st_mode) && fault_hits(text) ? -1 : result;
}
static inline int fault_after(const char *text, int result) {
    if (fault_before != NULL) fault_before(text);
    return result;
}
static inline void *fault_got(void *block) {
    if (block != NULL) fault_blocks++;
    return block;
}
static inline void *fault_gave(void *block) {
    if (block != NULL) fault_blocks--;
    return block;
}

/* Its text counts, which is freed in the end. */
static inline FILE *fault_memstream(char **text, size_t *size) {
    return fault_hits("open_memstream(") ? NULL : (FILE *)fault_got(open_memstream(text, size));
}

#define fork(...)               (fault_hits("fork(" #__VA_ARGS__) ? -1 : fork(__VA_ARGS__))
#define syscall(...)            (fault_hits("syscall(" #__VA_ARGS__) ? -1 : syscall(__VA_ARGS__))
#define waitid(...)             (fault_hits("waitid(" #__VA_ARGS__) ? -1 : waitid(__VA_ARGS__))
#define waitpid(...)            (fault_hits("waitpid(" #__VA_ARGS__) ? -1 : waitpid(__VA_ARGS__))
#define fcntl(...)              (fault_hits("fcntl(" #__VA_ARGS__) ? -1 : fcntl(__VA_ARGS__))
#define open(...)               (fault_hits("open(" #__VA_ARGS__) ? -1 : open(__VA_ARGS__))
#define glob(...)               (fault_hits("glob(" #__VA_ARGS__) ? GLOB_NOSPACE : glob(__VA_ARGS__))
#define fopen(...)              (fault_hits("fopen(" #__VA_ARGS__) ? NULL : fopen(__VA_ARGS__))
#define mmap(...)               (fault_hits("mmap(" #__VA_ARGS__) ? MAP_FAILED : mmap(__VA_ARGS__))
#define madvise(...)            (fault_hits("madvise(" #__VA_ARGS__) ? -1 : madvise(__VA_ARGS__))
#define calloc(...)             (fault_hits("calloc(" #__VA_ARGS__) ? NULL : fault_got(calloc(__VA_ARGS__)))
#define malloc(...)             (fault_hits("malloc(" #__VA_ARGS__) ? NULL : fault_got(malloc(__VA_ARGS__)))
#define realpath(...)           (fault_hits("realpath(" #__VA_ARGS__) ? NULL : fault_got(realpath(__VA_ARGS__)))
#define open_memstream(...)     fault_memstream(__VA_ARGS__)
#define free(block)             free(fault_gave(block))
#define mproc__alloc(...)       (fault_hits("arena(" #__VA_ARGS__) ? NULL : (mproc__alloc)(__VA_ARGS__))
#define read(...)               (fault_hits("read(" #__VA_ARGS__) ? -1 : read(__VA_ARGS__))
#define write(...)              fault_write("write(" #__VA_ARGS__, __VA_ARGS__)
#define pread(...)              (fault_hits("pread(" #__VA_ARGS__) ? -1 : pread(__VA_ARGS__))
#define poll(...)               (fault_hits("poll(" #__VA_ARGS__) ? -1 : poll(__VA_ARGS__))
#define flock(...)              (fault_hits("flock(" #__VA_ARGS__) ? -1 : flock(__VA_ARGS__))
#define fstat(...)              fault_fstat("fstat(" #__VA_ARGS__, __VA_ARGS__)
#define stat(...)               (fault_hits("stat(" #__VA_ARGS__) ? -1 : stat(__VA_ARGS__))
#define lstat(...)              (fault_hits("lstat(" #__VA_ARGS__) ? -1 : lstat(__VA_ARGS__))
#define link(...)               (fault_hits("link(" #__VA_ARGS__) ? -1 : link(__VA_ARGS__))
#define symlink(...)            (fault_hits("symlink(" #__VA_ARGS__) ? -1 : symlink(__VA_ARGS__))
#define readlink(...)           (fault_hits("readlink(" #__VA_ARGS__) ? -1 : readlink(__VA_ARGS__))
#define ftruncate(...)          (fault_hits("ftruncate(" #__VA_ARGS__) ? -1 : ftruncate(__VA_ARGS__))
#define rename(...)             (fault_hits("rename(" #__VA_ARGS__) ? -1 : rename(__VA_ARGS__))
#define unlink(...)             (fault_hits("unlink(" #__VA_ARGS__) ? -1 : unlink(__VA_ARGS__))
#define fsync(...)              (fault_hits("fsync(" #__VA_ARGS__) ? -1 : fsync(__VA_ARGS__))
#define fchmod(...)             (fault_hits("fchmod(" #__VA_ARGS__) ? -1 : fchmod(__VA_ARGS__))
#define fchown(...)             (fault_hits("fchown(" #__VA_ARGS__) ? -1 : fchown(__VA_ARGS__))
#define sigtimedwait(...)       (fault_hits("sigtimedwait(" #__VA_ARGS__) ? -1 : sigtimedwait(__VA_ARGS__))
#define nanosleep(...)          (fault_hits("nanosleep(" #__VA_ARGS__) ? -1 : nanosleep(__VA_ARGS__))
#define close(...)              fault_close("close(" #__VA_ARGS__, __VA_ARGS__)
#define getrlimit(...)          (fault_hits("getrlimit(" #__VA_ARGS__) ? -1 : getrlimit(__VA_ARGS__))
#define sysinfo(...)            (fault_hits("sysinfo(" #__VA_ARGS__) ? -1 : sysinfo(__VA_ARGS__))
#define pthread_key_create(...) (fault_hits("pthread_key_create(") ? errno : pthread_key_create(__VA_ARGS__))
#define pthread_atfork(...) \
    (fault_hits("pthread_atfork(") ? errno : fault_after("", pthread_atfork(__VA_ARGS__)))
#define pthread_mutex_init(...) (fault_hits("pthread_mutex_init(") ? errno : pthread_mutex_init(__VA_ARGS__))
#define atexit(...)             (fault_hits("atexit(") ? -1 : atexit(__VA_ARGS__))

#define MPROC_IMPLEMENTATION
#include "../mproc.h"

#undef fork
#undef syscall
#undef waitid
#undef waitpid
#undef fcntl
#undef open
#undef glob
#undef fopen
#undef mmap
#undef madvise
#undef calloc
#undef malloc
#undef realpath
#undef open_memstream
#undef free
#undef mproc__alloc
#undef read
#undef write
#undef pread
#undef poll
#undef flock
#undef fstat
#undef stat
#undef lstat
#undef link
#undef symlink
#undef readlink
#undef ftruncate
#undef rename
#undef unlink
#undef fsync
#undef fchmod
#undef fchown
#undef sigtimedwait
#undef nanosleep
#undef close
#undef getrlimit
#undef sysinfo
#undef pthread_key_create
#undef pthread_atfork
#undef pthread_mutex_init
#undef atexit

#include "support.h"

#endif
