/* mproc.h - v0.1.0 - Python's multiprocessing for C on Linux, kill-safe - MIT licence

   One file. In ONE C file write

       #define MPROC_IMPLEMENTATION
       #include "mproc.h"

   before any other #include; everywhere else just #include "mproc.h".
   Build with `cc prog.c` (add -pthread where your libc wants it).

   What it promises: SIGKILL any process at any instruction, and nobody else hangs, reads torn data, or
   loses more than what was in the dead one's hands; whoever waits is told.

   The smallest program:

       #define MPROC_IMPLEMENTATION
       #include "mproc.h"
       #include <stdio.h>

       static int square(const void *arg, void *result) {
           int n = *(const int *)arg;
           *(int *)result = n * n;
           return 0;
       }

       int main(void) {
           int in[4] = {1, 2, 3, 4}, out[4];
           mproc_pool *pool = mproc_pool_new(0);
           int error = mproc_pool_map(pool, square, in, 4, sizeof in[0], out, sizeof out[0]);
           if (error == 0) printf("%d %d %d %d\n", out[0], out[1], out[2], out[3]);
           mproc_pool_free(pool);
           return error ? 1 : 0;
       }

   Contents: each part with the line where it is declared and the line where it is implemented. Each uses
   only what is implemented above it.

       Configuration              mproc.h:89
       Errors                     mproc.h:126
       Processes                  mproc.h:152   mproc.h:2514
       Fork helpers               mproc.h:230   mproc.h:2940
       Locks                      mproc.h:269   mproc.h:1849
       Recursive lock             mproc.h:307   mproc.h:2056
       Semaphore                  mproc.h:317   mproc.h:2079
       Event                      mproc.h:332   mproc.h:2150
       Condition                  mproc.h:345   mproc.h:2207
       Barrier                    mproc.h:370   mproc.h:2377
       Shared values and arrays   mproc.h:386   mproc.h:1972
       Pipe                       mproc.h:430   mproc.h:3941
       Queue                      mproc.h:463   mproc.h:3101
       Ring                       mproc.h:518   mproc.h:4262
       Pool                       mproc.h:543   mproc.h:4484
       Files                      mproc.h:677   mproc.h:6474
       Dump                       mproc.h:712   mproc.h:7031
       Platform                                 mproc.h:729
       Arena                                    mproc.h:1152
       This process                             mproc.h:1538
       Ports                                    mproc.h:1692

   It does not: run on anything but Linux; start threads; install signal handlers in your processes; create
   names in the file system (but for a moment beside a file that is updated or appended to); share memory with
   programs that were not forked from yours; send objects by value deeper than the bytes you give; print,
   unless asked.

   Reading guide. Units: sizes are bytes, timeouts are seconds as a double on the monotonic clock, negative
   for ever, 0 for one try. Errors are negative errno values; NULL, NaN or what is no such object gives
   MPROC_EINVAL, never a crash. The family is all processes forked, by whatever means, from the one that
   first used the library; a child of plain fork(2) is in it until it executes another program. The comment
   that opens a part ends with two words for all its functions: "Callers" says which process, thread or
   signal handler may call them, "Kill" what a SIGKILL inside one of them costs. Exceptions stand with the
   function. No thread may be cancelled (pthread_cancel) within a call: it would leave its process's locks
   held. */

/* Feature macros must come before the first system header; in the one file that holds the implementation. */
#if defined(MPROC_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif

#ifndef MPROC_H
#define MPROC_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* ---- Configuration: define before the #include --------------------------------------------------------- */

#define MPROC_VERSION_MAJOR 0
#define MPROC_VERSION_MINOR 1
#define MPROC_VERSION_PATCH 0

/* MPROC_STATIC: everything static, for a program that is one file. Each such file is a family of its own. */
#ifndef MPROC_DEF
#ifdef MPROC_STATIC
#define MPROC_DEF static __attribute__((unused))
#elif defined(__cplusplus)
#define MPROC_DEF extern "C"
#else
#define MPROC_DEF extern
#endif
#endif

/* MPROC_ARENA_SIZE: bytes of address space for all shared memory of a family. Only touched pages cost
   memory. What the system refuses is halved until it fits. */
#ifndef MPROC_ARENA_SIZE
#if UINTPTR_MAX > 0xffffffffu
#define MPROC_ARENA_SIZE ((size_t)64 << 30)
#else
#define MPROC_ARENA_SIZE ((size_t)512 << 20)
#endif
#endif

/* MPROC_EXIT_GRACE: seconds between SIGTERM and SIGKILL for the daemons left when a process exits. */
#ifndef MPROC_EXIT_GRACE
#define MPROC_EXIT_GRACE 2.0
#endif

/* MPROC_SPINS: how often a wait looks, at most, before it sleeps: 4000 times are some 100 us. 0: never. */
#ifndef MPROC_SPINS
#define MPROC_SPINS 4000
#endif

/* ---- Errors -------------------------------------------------------------------------------------------- */

/* All are negative errno values, so errors of the system pass through the same return value unchanged. */
#define MPROC_ETIMEDOUT  (-ETIMEDOUT)       /* not in time, a single try included */
#define MPROC_ECLOSED    (-EPIPE)           /* the object is closed, or the other end is gone */
#define MPROC_EOWNERDEAD (-EOWNERDEAD)      /* acquired; its last holder died, the data may be half written */
#define MPROC_EBROKEN    (-ENOTRECOVERABLE) /* barrier or pool: it cannot serve any more */
#define MPROC_ECRASHED   (-ECONNRESET)      /* the worker that ran this task died */
#define MPROC_EFAILED    (-EREMOTEIO)       /* the task returned non-zero; its code tells what */
#define MPROC_ECANCELED  (-ECANCELED)       /* cancelled, or its pool was terminated */
#define MPROC_EMSGSIZE   (-EMSGSIZE)        /* the message is larger than the buffer */
#define MPROC_EBUSY      (-EBUSY)           /* somebody still uses it */
#define MPROC_EINVAL     (-EINVAL)          /* not such an object, or an argument that makes no sense */
#define MPROC_EPERM      (-EPERM)           /* not yours to do: released by a non-holder, say */
#define MPROC_ENOMEM     (-ENOMEM)          /* shared memory, or memory, is used up */
#define MPROC_EAGAIN     (-EAGAIN)          /* no more processes now, or the answer is not there yet */
#define MPROC_ECHILD     (-ECHILD)          /* not a child of the caller, or its status was taken by others */

#define MPROC_FOREVER     (-1.0)            /* a timeout that never ends */
#define MPROC_NO_EXITCODE (-2147483647 - 1) /* INT_MIN: not ended yet, or nobody can know */

/* A text for an error of this library or of the system, negative as functions return it or positive as
   errno; never NULL, and not to be freed.
   Callers: any thread of any process, not a signal handler. Kill: costs nothing. */
MPROC_DEF const char *mproc_strerror(int error);

/* ---- Processes ----------------------------------------------------------------------------------------- */

/* A value the caller owns: fill in what you need, zero the rest (designated initialisers do), start it.

       static int work(void *arg) { return puts(arg) < 0; }
       mproc_process p = {.target = work, .arg = "hello"};
       if (mproc_process_start(&p) == 0) mproc_process_join(&p, MPROC_FOREVER);

   The struct may leave scope after start. To give the child state of its own, embed it as the first member
   of your struct and set run. The child sees the parent's memory as it was at start, copy on write.
   Callers: any thread, also several on one process once it is started; join, is_alive, terminate, kill,
   close, fd and wait_any only in the process that started it (elsewhere -ECHILD); no signal handler. Kill:
   nobody else is held up or loses anything; the children of the dead go on, but for its daemons, which are
   killed. */
typedef struct mproc_process mproc_process;
struct mproc_process {
    int (*target)(void *arg);        /* runs in the child; what it returns is the exit code (low 8 bits) */
    void *arg;                       /* passed to target */
    int (*run)(mproc_process *self); /* instead of target */
    const char *name;                /* NULL: start sets "Process-N", which lies in this very struct */
    bool daemon;                     /* ended when the process that started it ends, however that ends */
    pid_t pid;                       /* set by start */
    int exitcode;                    /* 0..255, or minus the signal; MPROC_NO_EXITCODE until join or
                                        is_alive saw the end, and for good where somebody else took the status */
    uint64_t mproc__id;              /* private: names the library's own record of the child */
    pid_t mproc__parent;             /* private: the only process that may join it */
    char mproc__name[32];            /* private: room for the default name */
};

/* Forks and runs p's function in the child. stdio is flushed first, so nothing is printed twice; the child
   ends by joining its own non-daemon children, ending its daemons, flushing its stdio and _exit: it runs no
   atexit handler of its parent. (If another thread is inside a read from a stream other than stdin, flushing
   waits for it: libc knows no other way.) What a daemon (or a pool's task) starts goes down with it.
   0; -EINVAL no function; -EALREADY started before; -EAGAIN, -ENOMEM, -EMFILE from the system, with nothing
   left behind. Kill: a caller killed inside has either started the child or not. */
MPROC_DEF int mproc_process_start(mproc_process *p);

/* Waits until p has ended, collects its status and sets p->exitcode. Again and again if you like.
   0; MPROC_ETIMEDOUT; -ECHILD not started by this process, or ended and its status went to somebody else
   (SIGCHLD ignored, a foreign waitpid); -EINVAL never started; MPROC_ECLOSED. */
MPROC_DEF int mproc_process_join(mproc_process *p, double timeout);

/* Has it been started by this process and not ended? Collects the status if it has ended. A stopped process
   is alive. False for what is not this process's child. */
MPROC_DEF bool mproc_process_is_alive(mproc_process *p);

/* Send SIGTERM, SIGKILL. 0; -ESRCH when it has been joined (no signal reaches a recycled pid); -ECHILD,
   -EINVAL, MPROC_ECLOSED as for join. */
MPROC_DEF int mproc_process_terminate(mproc_process *p);
MPROC_DEF int mproc_process_kill(mproc_process *p);

/* Gives back what the library keeps for an ended p; every other call on p then says MPROC_ECLOSED.
   0, also when closed before or never started; -EBUSY while it runs. */
MPROC_DEF int mproc_process_close(mproc_process *p);

/* A descriptor for poll(2): readable once p has ended, valid until close. The library's: do not close it.
   Before Linux 5.3 it is readable a moment before p can be joined. -ESRCH joined before it was first asked
   for; -EMFILE; other errors as join. */
MPROC_DEF int mproc_process_fd(mproc_process *p);

/* Waits until one of the n has ended; its index, lowest first, also of one joined before: take it out of the
   array. It is not joined by that. Errors as join; -EINVAL for n == 0. */
MPROC_DEF int mproc_process_wait_any(mproc_process *const *ps, size_t n, double timeout);

/* The process that calls: the main program ("MainProcess"), a started one, a pool's worker. Never NULL. */
MPROC_DEF const mproc_process *mproc_current_process(void);

/* The process that started this one; 0 in the main program. Is it still there? (false in the main program) */
MPROC_DEF pid_t mproc_parent_pid(void);
MPROC_DEF bool mproc_parent_is_alive(void);

/* Collects what has ended, writes up to capacity pids of the children (of mproc_process_start) still
   running in this process, and returns how many there are. */
MPROC_DEF size_t mproc_active_children(pid_t *pids, size_t capacity);

/* Processors this process may use: affinity and the cgroup's cpu quota (rounded up) honoured. At least 1. */
MPROC_DEF int mproc_cpu_count(void);

/* ---- Fork helpers -------------------------------------------------------------------------------------- */

/* For those who want fork itself. The children of these are the caller's own business: not joined or ended
   at exit, not among the active children, not ended by their parent's death.
   Callers: any thread, mproc_wait only in the process that forked the pid; no signal handler. Kill: a
   caller killed inside has forked or not; nobody else notices. */

/* fork(2) with stdio flushed first; returns twice, -errno on failure. Leave the child with mproc_exit. It
   is a mproc_current_process of its own, and the caller its parent. For an event loop: block SIGCHLD,
   sigwait, then mproc_wait with timeout 0. */
MPROC_DEF pid_t mproc_fork(void);

/* A child that never becomes a zombie and is nobody's to wait for (double fork). Returns 0 in it, its pid
   in the caller, -errno on failure. */
MPROC_DEF pid_t mproc_fork_detached(void);

/* Waits for a child of mproc_fork; *exitcode (may be NULL) is 0..255, or minus the signal.
   0; MPROC_ETIMEDOUT; -ECHILD for every other pid, 0 and negative ones too, and for one that was collected.
 */
MPROC_DEF int mproc_wait(pid_t pid, int *exitcode, double timeout);

/* Collects the children of mproc_fork that have ended, without waiting; how many. */
MPROC_DEF int mproc_reap(void);

/* Ends this process as a started one ends: joins its children, ends its daemons, flushes stdio, _exit.
   In the main program it is exit(3). */
MPROC_DEF void mproc_exit(int exitcode) __attribute__((noreturn));

/* Has callback(ctx) called at the end of this process, and of this one only: a child starts with none. It
   runs when the target returns, at mproc_exit and exit(3), and never when a signal ends the process. Higher
   priorities first, the last one given first within a priority; those of 0 and over before the children are
   joined, those below 0 after. Why not atexit(3): a child must not run the handlers of its parent.
   0; -EINVAL no function; MPROC_ENOMEM. */
MPROC_DEF int mproc_at_exit(void (*callback)(void *ctx), void *ctx, int priority);

/* Takes back one that was given with that callback and ctx: of several the one that would be called first.
   0; -ENOENT there is none, or it has begun. */
MPROC_DEF int mproc_at_exit_cancel(void (*callback)(void *ctx), void *ctx);

/* ---- Locks --------------------------------------------------------------------------------------------- */

/* A mutex in shared memory, owned by a thread. If its holder dies, or ends without releasing, the next
   acquire succeeds with MPROC_EOWNERDEAD: you hold it, and what it guards may be half written.
   Callers: any thread of any process; release and owner_died the holding thread; no signal handler. A
   child of fork holds none of its parent's locks. Kill: the lock passes on, to a waiter at once. */
typedef struct mproc_lock mproc_lock;       /* one thread should hold no more than 2000 of them at a time */
MPROC_DEF mproc_lock *mproc_lock_new(void); /* NULL and errno on failure, as every _new here */

/* 0; MPROC_EOWNERDEAD acquired, see above; MPROC_ETIMEDOUT; -EDEADLK waiting for ever for what the caller
   holds itself; -EINVAL not a lock, or a NaN timeout. */
MPROC_DEF int mproc_lock_acquire(mproc_lock *lock, double timeout);

/* 0; -EPERM when the calling thread does not hold it. */
MPROC_DEF int mproc_lock_release(mproc_lock *lock);

/* While the caller holds it: did the holder before it die holding it? */
MPROC_DEF bool mproc_lock_owner_died(mproc_lock *lock);

/* 0 (NULL too); -EBUSY while a living process holds it or waits; -EINVAL what is not, or no longer, one. */
MPROC_DEF int mproc_lock_free(mproc_lock *lock);

/* MPROC_WITH(lock) { ... } holds the lock for the block and releases it however the block is left: the end,
   break, return or goto. After MPROC_EOWNERDEAD the block runs as well; mproc_lock_owner_died tells inside.
   What is not a lock skips the block and sets errno. */
typedef struct mproc__guard {
    mproc_lock *lock; /* NULL: not acquired */
    int rounds;       /* of the loop that MPROC_WITH is: 1, then 0 */
} mproc__guard;
MPROC_DEF mproc__guard mproc__guard_enter(mproc_lock *lock);
MPROC_DEF void mproc__guard_leave(mproc__guard *guard);
#define MPROC__JOIN2(a, b) a##b
#define MPROC__JOIN(a, b)  MPROC__JOIN2(a, b)
#define MPROC_WITH(lock)   MPROC__WITH(lock, MPROC__JOIN(mproc__guard_, __COUNTER__))
#define MPROC__WITH(lock, guard)                                                                     \
    for (mproc__guard guard __attribute__((cleanup(mproc__guard_leave))) = mproc__guard_enter(lock); \
         guard.rounds; guard.rounds = 0)

/* ---- Recursive lock ------------------------------------------------------------------------------------ */

/* As the lock, but the thread that holds it may acquire it again; free for others after as many releases.
   Callers: as the lock. Kill: it passes on whole, however deep the dead one held it. */
typedef struct mproc_rlock mproc_rlock;
MPROC_DEF mproc_rlock *mproc_rlock_new(void);
MPROC_DEF int mproc_rlock_acquire(mproc_rlock *lock, double timeout); /* as mproc_lock_acquire, no -EDEADLK */
MPROC_DEF int mproc_rlock_release(mproc_rlock *lock);                 /* 0; -EPERM not the caller's */
MPROC_DEF int mproc_rlock_free(mproc_rlock *lock);                    /* as mproc_lock_free */

/* ---- Semaphore ----------------------------------------------------------------------------------------- */

/* A number of permits, at most INT32_MAX, not owned by anybody. A bounded one refuses to go above its
   first value. _new: NULL and errno, EINVAL for more than INT32_MAX.
   Callers: any thread of any process; release and value signal handlers, too. Kill: the permits that a
   process held are gone; one that was killed inside acquire or release took or gave its permit, or not. */
typedef struct mproc_semaphore mproc_semaphore;
MPROC_DEF mproc_semaphore *mproc_semaphore_new(unsigned value);
MPROC_DEF mproc_semaphore *mproc_semaphore_new_bounded(unsigned value);
MPROC_DEF int mproc_semaphore_acquire(mproc_semaphore *semaphore, double timeout); /* 0; MPROC_ETIMEDOUT */
/* 0; -ERANGE above the first value of a bounded one, or INT32_MAX. Any process, not only who acquired. */
MPROC_DEF int mproc_semaphore_release(mproc_semaphore *semaphore);
MPROC_DEF int mproc_semaphore_value(mproc_semaphore *semaphore); /* permits now, or -EINVAL */
MPROC_DEF int mproc_semaphore_free(mproc_semaphore *semaphore);  /* 0; -EBUSY somebody waits; -EINVAL */

/* ---- Event --------------------------------------------------------------------------------------------- */

/* Clear at first. set wakes everybody who waits, even if clear follows at once. set and clear: 0; -EINVAL.
   Callers: any thread of any process; set, clear and is_set signal handlers, too. Kill: it is set or it is
   not, and who waited is woken, at the latest in a moment. */
typedef struct mproc_event mproc_event;
MPROC_DEF mproc_event *mproc_event_new(void);
MPROC_DEF int mproc_event_set(mproc_event *event);
MPROC_DEF int mproc_event_clear(mproc_event *event);
MPROC_DEF bool mproc_event_is_set(mproc_event *event);
MPROC_DEF int mproc_event_wait(mproc_event *event, double timeout); /* 0; MPROC_ETIMEDOUT */
MPROC_DEF int mproc_event_free(mproc_event *event);                 /* 0; -EBUSY somebody waits; -EINVAL */

/* ---- Condition ----------------------------------------------------------------------------------------- */

/* Waiting for a change of something that a lock guards: hold the lock, and wait in a loop until it is so;
   wait_for is that loop. notify wakes waiters that are there, and is not remembered for later ones.
   Callers: any thread of any process, wait and notify the one that holds the lock; no signal handler.
   Kill: the lock passes on, as the lock does; a waiter that is killed does not keep a notification to
   itself. */
typedef struct mproc_condition mproc_condition;
MPROC_DEF mproc_condition *mproc_condition_new(mproc_lock *lock); /* NULL: a lock of its own */
MPROC_DEF int mproc_condition_acquire(mproc_condition *condition, double timeout); /* its lock: as there */
MPROC_DEF int mproc_condition_release(mproc_condition *condition);

/* Releases the lock, waits, acquires it again whatever happens. 0 notified; MPROC_ETIMEDOUT;
   MPROC_EOWNERDEAD the lock came from a dead holder; -EPERM the caller does not hold it; MPROC_ENOMEM.
   wait_for waits until predicate(ctx), called with the lock held, is true: 0. Several conditions may share a
   lock, which must outlive them. */
MPROC_DEF int mproc_condition_wait(mproc_condition *condition, double timeout);
MPROC_DEF int mproc_condition_wait_for(mproc_condition *condition, bool (*predicate)(void *ctx), void *ctx,
                                       double timeout);

/* With the lock held (-EPERM): wakes n waiters, or all; they go on once the lock is theirs. 0 */
MPROC_DEF int mproc_condition_notify(mproc_condition *condition, unsigned n);
MPROC_DEF int mproc_condition_notify_all(mproc_condition *condition);
MPROC_DEF int mproc_condition_free(mproc_condition *condition); /* 0; -EBUSY held or awaited; -EINVAL */

/* ---- Barrier ------------------------------------------------------------------------------------------- */

/* Lets parties (32767 at most) through together, again and again.
   Callers: any thread of any process, no signal handler. Kill: of one that waits breaks the barrier for
   those that wait with it, in a moment; reset makes it as new. */
typedef struct mproc_barrier mproc_barrier;
MPROC_DEF mproc_barrier *mproc_barrier_new(unsigned parties); /* NULL and errno: EINVAL, ENOMEM */

/* Each pass gives its callers the numbers 0 to parties - 1, in no order. MPROC_ETIMEDOUT this caller's time
   was up, which breaks the barrier; MPROC_EBROKEN aborted, reset, timed out elsewhere, or a waiting process
   was killed; MPROC_EAGAIN more than 2048 threads use the family's objects. */
MPROC_DEF int mproc_barrier_wait(mproc_barrier *barrier, double timeout);
MPROC_DEF int mproc_barrier_reset(mproc_barrier *barrier); /* waiters get MPROC_EBROKEN; then as new. 0 */
MPROC_DEF int mproc_barrier_abort(mproc_barrier *barrier); /* broken until reset. 0 */
MPROC_DEF int mproc_barrier_free(mproc_barrier *barrier);  /* 0; -EBUSY somebody waits; -EINVAL */

/* ---- Shared values and arrays -------------------------------------------------------------------------- */

/* Plain typed pointers into shared memory, the same address in every process of the family; what stands
   before them (a lock, the length) is hidden.

       int *hits = mproc_value_new(int, 0);
       double *a = mproc_array_new(double, 1000);            // zeroed
       double *b = mproc_array_from(double, source, n);
       MPROC_WITH(mproc_lock_of(hits)) *hits += 1;

   NULL and errno when memory is used up, n is 0, or n * sizeof(type) overflows.
   Callers: any thread of any process, whoever made it; no signal handler. Kill: a block not yet handed to
   anybody, or half freed, is lost with its process until the family ends. */
#ifdef __cplusplus
#define mproc_value_new(type, ...) (mproc__value_new_cxx<type>(__VA_ARGS__))
#else
#define mproc_value_new(type, ...) ((type *)mproc__array_new(sizeof(type), 1, (const type[1]){__VA_ARGS__}))
#endif
#define mproc_array_new(type, n)          ((type *)mproc__array_new(sizeof(type), (n), NULL))
#define mproc_array_from(type, source, n) ((type *)mproc__array_from(sizeof(type), (n), (source)))

/* Items; 1 for a value, the bytes of mproc_shm_new, 0 for what is none of these. */
MPROC_DEF size_t mproc_array_len(const void *array);

/* The lock of a value, an array, or memory from mproc_shm_new; NULL for what is none of these. */
MPROC_DEF mproc_lock *mproc_lock_of(const void *shared);

/* Zeroed shared memory for a struct of your own; it may hold pointers to other objects of the family. */
MPROC_DEF void *mproc_shm_new(size_t bytes);

/* Frees a value, an array, mproc_shm_new's memory or a message taken from a queue.
   0 (NULL too); -EBUSY while a living process holds its lock; -EINVAL what is not, or no longer, such. */
MPROC_DEF int mproc_free(void *shared);

MPROC_DEF void *mproc__array_new(size_t size, size_t n, const void *init);    /* behind the macros */
MPROC_DEF void *mproc__array_from(size_t size, size_t n, const void *source); /* behind the macros */
#ifdef __cplusplus
extern "C++" { /* also where the user includes this inside extern "C" */
template <typename T> static inline T *mproc__value_new_cxx(T init) {
    return static_cast<T *>(mproc__array_new(sizeof(T), 1, &init));
}
}
#endif

/* ---- Pipe ---------------------------------------------------------------------------------------------- */

/* Messages of any size, 0 included, received whole and in order; several processes may share an end.
   Close, in each process, the ends it does not need. An end is gone when every process that has it closed
   it or died; as soon as a process other than the maker has used it (or was started with it as its
   argument), siblings that only inherited it do not count.
   Callers: any thread of any process, several on one end: each message goes to one of them; no signal
   handler. Kill: at most the message that was being sent or received; the others go on with the next. */
typedef struct mproc_conn mproc_conn;

/* One-way: ends[0] receives, ends[1] sends. 0; -EMFILE, -ENOMEM ... */
MPROC_DEF int mproc_pipe_new(mproc_conn *ends[2], bool duplex);

/* 0 it will be received, whatever becomes of this process; MPROC_ETIMEDOUT the pipe stayed full, and nothing
   was sent; MPROC_ECLOSED the other end is gone (no SIGPIPE), or this one closed; -EPERM it only receives.
   While siblings that only inherited the other end live, only a send that has to wait sees that. */
MPROC_DEF int mproc_conn_send(mproc_conn *conn, const void *data, size_t size, double timeout);

/* The size of the message; MPROC_ECLOSED nothing left and the other end gone; MPROC_EMSGSIZE longer than
   capacity: it can still be received; MPROC_ETIMEDOUT; -EPERM it only sends. Kill: that message is lost. */
MPROC_DEF ssize_t mproc_conn_recv(mproc_conn *conn, void *buffer, size_t capacity, double timeout);

/* 1 a message waits; 0 none in time; MPROC_ECLOSED nothing left and the other end gone. */
MPROC_DEF int mproc_conn_poll(mproc_conn *conn, double timeout);

/* For poll(2): readable when recv would not wait, or the end is reached. While siblings that only inherited
   the other end live, poll does not see that end by itself: use mproc_conn_poll, or a timeout. */
MPROC_DEF int mproc_conn_fd(mproc_conn *conn);

/* Closes it in this process and those it forks later; in no thread that is still in a call on it. 0, also
   twice. */
MPROC_DEF int mproc_conn_close(mproc_conn *conn);

/* ---- Queue --------------------------------------------------------------------------------------------- */

/* First in, first out, any number of producers and consumers, messages of any size (0 too). What put
   returned 0 for is delivered even if its process ends at once. Not a thread or a feeder behind it: put is
   synchronous and blocks while the queue is full, so drain it before you join the producer.
   Callers: any thread of any process, no signal handler. Kill: the messages of a put are in the queue
   whole or not at all; those that a get was just taking are lost, no others. */
typedef struct mproc_queue mproc_queue;

/* maxsize 0: as many messages as the pipe holds, hundreds at least; a put that finds it full goes on when a
   whole page of the pipe has been got. Otherwise maxsize messages of any size fit, or this fails (ENOSPC: the
   system's pipes are too small; EMFILE ...). NULL and errno. */
MPROC_DEF mproc_queue *mproc_queue_new(size_t maxsize);

/* 0; MPROC_ETIMEDOUT full; MPROC_ECLOSED; -ENOMEM. A failed put put nothing. */
MPROC_DEF int mproc_queue_put(mproc_queue *queue, const void *data, size_t size, double timeout);

/* The size of the message; MPROC_ETIMEDOUT empty; MPROC_ECLOSED closed and empty; MPROC_EMSGSIZE longer than
   capacity: it stays first in the queue. */
MPROC_DEF ssize_t mproc_queue_get(mproc_queue *queue, void *buffer, size_t capacity, double timeout);

/* As get, but the message itself, in shared memory: mproc_free it. NULL and errno (positive) on failure. */
MPROC_DEF void *mproc_queue_take(mproc_queue *queue, size_t *size, double timeout);

/* Messages in the queue at the instant of the call. */
MPROC_DEF size_t mproc_queue_qsize(mproc_queue *queue);
MPROC_DEF bool mproc_queue_empty(mproc_queue *queue);
MPROC_DEF bool mproc_queue_full(mproc_queue *queue);

/* n messages of one size in few system calls; how many were put (fewer than n only when the timeout ended
   or the queue was closed), or an error when none was. Other producers' messages may stand between them. */
MPROC_DEF ssize_t mproc_queue_put_many(mproc_queue *queue, const void *items, size_t n, size_t size,
                                       double timeout);

/* Waits for one message, then takes what is there, n at most, each into size bytes of items (a shorter one
   is padded with zeros); how many. A longer one stays: MPROC_EMSGSIZE if it is the first. */
MPROC_DEF ssize_t mproc_queue_get_many(mproc_queue *queue, void *items, size_t n, size_t size,
                                       double timeout);

/* No more puts: they say MPROC_ECLOSED, blocked ones too; gets drain what is there, then say so as well. 0 */
MPROC_DEF int mproc_queue_close(mproc_queue *queue);

/* For JoinableQueue's habit: one task_done for each message got; join waits until every message put has
   been got and marked: 0; MPROC_ETIMEDOUT. -EINVAL for a task_done too many. A consumer that dies between the
   two leaves its message unmarked; whoever notices may call task_done for it. */
MPROC_DEF int mproc_queue_task_done(mproc_queue *queue);
MPROC_DEF int mproc_queue_join(mproc_queue *queue, double timeout);

/* For poll(2) in this process: readable while a message waits, and when it is closed and a get has said
   so. Another getter may be faster: get with timeout 0. Do not read or close it. */
MPROC_DEF int mproc_queue_fd(mproc_queue *queue);

/* Frees it with the messages in it. 0 (NULL too); -EBUSY while a living process waits in it; -EINVAL. */
MPROC_DEF int mproc_queue_free(mproc_queue *queue);

/* ---- Ring ---------------------------------------------------------------------------------------------- */

/* The queue's fast sister: items of one size in shared memory, any number of producers and consumers, no
   system call while neither side waits.
   Callers: any thread of any process, no signal handler. Kill: a put has put all its items or none (one
   that had to wait for room may have put the first ones); a get has taken its items, or left them to
   others. */
typedef struct mproc_ring mproc_ring;

/* NULL and errno: EINVAL a size of 0, ENOMEM. */
MPROC_DEF mproc_ring *mproc_ring_new(size_t item_size, size_t capacity);

/* 0; MPROC_ETIMEDOUT full or empty; MPROC_ECLOSED closed (for get: and empty). */
MPROC_DEF int mproc_ring_put(mproc_ring *ring, const void *item, double timeout);
MPROC_DEF int mproc_ring_get(mproc_ring *ring, void *item, double timeout);

/* How many were put: n, or fewer when the time was up or the ring closed. How many were got: what is there,
   at least one, at most n. An error when none. */
MPROC_DEF ssize_t mproc_ring_put_many(mproc_ring *ring, const void *items, size_t n, double timeout);
MPROC_DEF ssize_t mproc_ring_get_many(mproc_ring *ring, void *items, size_t n, double timeout);

MPROC_DEF size_t mproc_ring_size(mproc_ring *ring); /* items in it now */
MPROC_DEF int mproc_ring_close(mproc_ring *ring);   /* no more puts; gets drain it. 0 */
MPROC_DEF int mproc_ring_free(mproc_ring *ring);    /* 0 (NULL too); -EBUSY somebody waits in it; -EINVAL */

/* ---- Pool ---------------------------------------------------------------------------------------------- */

/* Workers forked once, fed with tasks. A worker that dies costs the task it ran and is replaced; the
   workers never outlive the program. Functions the tasks name must exist when the pool is made.
   Callers: any thread of any process that lives while the pool does, its own workers too (a task may hand
   in tasks and wait for them, and its thread runs them meanwhile, each to its end, whatever the timeout; its
   other threads and its children only wait; 31 deep a wait without a timeout says -EDEADLK); pool_fd only the
   process that made it; no signal handler. Kill: what was accepted runs, once; a future goes with the process
   that asked; with the process that made the pool all of it ends. */
typedef struct mproc_pool mproc_pool;
typedef struct mproc_future mproc_future;

/* Runs in a worker: arg and result stand in shared memory. 0 for success, anything else fails the task. */
typedef int (*mproc_task)(const void *arg, void *result);

typedef struct mproc_pool_options {
    int workers;                   /* 0: mproc_cpu_count() */
    int (*initializer)(void *arg); /* runs first in each worker; non-zero: the worker is no use */
    void *initarg;                 /* passed to initializer */
    unsigned max_tasks_per_worker; /* then it is replaced; 0: no limit */
    double task_timeout;           /* seconds; past it the task's worker is killed, the task gets
                                      MPROC_ETIMEDOUT; 0: none */
    size_t backlog;                /* tasks accepted ahead of the workers, cancelled ones too; 0: 512 */
    const char *name;              /* NULL: "Pool-N" */
    const char *progress;          /* label of a progress bar that map draws on stderr; NULL: silent */
} mproc_pool_options;

typedef struct mproc_pool_counts {
    size_t done;      /* tasks (items of a map) that returned 0 */
    size_t failed;    /* that returned something else */
    size_t crashed;   /* whose worker died */
    size_t timed_out; /* that ran past task_timeout */
    size_t pending;   /* accepted, not yet taken by a worker */
    size_t running;   /* in a worker now */
    size_t workers;   /* alive now */
    size_t respawned; /* workers replaced since the pool was made */
} mproc_pool_counts;

/* A supervisor process and its workers, all forked when this returns. NULL and errno: EINVAL a negative
   number, EAGAIN no more processes; nothing is left behind. */
MPROC_DEF mproc_pool *mproc_pool_new(int workers); /* 0: mproc_cpu_count() */
MPROC_DEF mproc_pool *mproc_pool_new_with(const mproc_pool_options *options);

/* Runs one task and waits for it. 0; MPROC_EFAILED, MPROC_ECRASHED; MPROC_ECLOSED after close;
   MPROC_ECANCELED terminated; MPROC_EBROKEN the supervisor is gone or no worker can start. */
MPROC_DEF int mproc_pool_apply(mproc_pool *pool, mproc_task task, const void *arg, size_t arg_size,
                               void *result, size_t result_size);

/* Hands in one task; waits only while the backlog is full. Free the future. NULL and errno (positive). */
MPROC_DEF mproc_future *mproc_pool_apply_async(mproc_pool *pool, mproc_task task, const void *arg,
                                               size_t arg_size, size_t result_size);

/* Fire and forget; failures show in the counts only. 0; MPROC_ETIMEDOUT the backlog stayed full; as apply. */
MPROC_DEF int mproc_pool_submit(mproc_pool *pool, mproc_task task, const void *arg, size_t arg_size,
                                double timeout);

/* Runs task on each of n items of in (as qsort takes them), results to out; waits. Arrays that lie in
   shared memory are used where they are, and by tasks that are under way yet should the caller be killed;
   others are copied, and all those of a map within a task. 0, or the error of the first item that failed: the
   others still ran. out may be NULL when out_size is 0. */
MPROC_DEF int mproc_pool_map(mproc_pool *pool, mproc_task task, const void *in, size_t n, size_t in_size,
                             void *out, size_t out_size);

/* As map, but lazily: the tasks run a few chunks ahead of the results that were asked for, on copies of the
   items. `in` must stay there until the iterator is freed, which cancels what has not begun; closing the pool
   hands in the rest at once. imap gives the results in order, imap_unordered as they come. The iterator is
   the calling process's own, for one thread at a time. */
typedef struct mproc_iter mproc_iter;
MPROC_DEF mproc_iter *mproc_pool_imap(mproc_pool *pool, mproc_task task, const void *in, size_t n,
                                      size_t in_size, size_t out_size);
MPROC_DEF mproc_iter *mproc_pool_imap_unordered(mproc_pool *pool, mproc_task task, const void *in, size_t n,
                                                size_t in_size, size_t out_size);

/* The index of the item whose result is now in out (NULL: not wanted); the item's own error when it failed,
   and the next call goes on; MPROC_ECLOSED after the last, for ever; MPROC_ETIMEDOUT, and nothing is lost;
   MPROC_EINVAL if the pool was freed before. */
MPROC_DEF ssize_t mproc_iter_next(mproc_iter *iter, void *out, double timeout);
MPROC_DEF size_t mproc_iter_index(mproc_iter *iter); /* of the item last returned, a failed one too */
MPROC_DEF int mproc_iter_code(mproc_iter *iter);     /* what its task returned, or how its worker ended */
MPROC_DEF int mproc_iter_free(mproc_iter *iter);     /* 0 (NULL too) */

/* 0 done, whatever came of it; MPROC_ETIMEDOUT; MPROC_EBROKEN. A future may be used by any process. */
MPROC_DEF int mproc_future_wait(mproc_future *future, double timeout);
MPROC_DEF bool mproc_future_ready(mproc_future *future);
MPROC_DEF bool mproc_future_successful(mproc_future *future); /* done, and with 0 */

/* Waits, copies the result (result_size as asked for; NULL: not wanted) and returns 0 or the task's error. */
MPROC_DEF int mproc_future_get(mproc_future *future, void *result, double timeout);

/* What the task returned; after MPROC_ECRASHED the exit code of its worker, or minus the signal. MPROC_EAGAIN
   not done yet: ask before, it may be a code as well. */
MPROC_DEF int mproc_future_code(mproc_future *future);

/* A task that waits never runs; a running one's worker is killed and replaced. 0: it is cancelled, and get
   says MPROC_ECANCELED; -EALREADY it was done before. */
MPROC_DEF int mproc_future_cancel(mproc_future *future);

/* callback(future, ctx) is called once, when the task is done, from one of this process's later calls on the
   pool or its futures (from this one if it is done already), or never if the future is freed before; it may
   free the future or an iterator, but not the pool. 0; -ENOMEM. */
MPROC_DEF int mproc_future_on_done(mproc_future *future, void (*callback)(mproc_future *, void *ctx),
                                   void *ctx);

/* 0 (NULL too). A task still waiting or running goes on, its result is dropped. -EBUSY while others wait or
   take the result, or another thread is in its callback. */
MPROC_DEF int mproc_future_free(mproc_future *future);

/* close: no more tasks, what is accepted still runs. join: waits until it has and the workers are gone;
   -EBUSY before close or terminate. terminate: kills the workers now; what has not finished gets
   MPROC_ECANCELED. free: terminates first if need be; -EBUSY within a callback, or while another thread
   waits in it or takes a result. Each 0, also when done before. */
MPROC_DEF int mproc_pool_close(mproc_pool *pool);
MPROC_DEF int mproc_pool_join(mproc_pool *pool, double timeout);
MPROC_DEF int mproc_pool_terminate(mproc_pool *pool);
MPROC_DEF int mproc_pool_free(mproc_pool *pool);

MPROC_DEF int mproc_pool_stats(mproc_pool *pool, mproc_pool_counts *out); /* a snapshot; 0 */

/* For poll(2) in the process that made the pool (-EPERM in others): readable while a callback is due, a task
   with a future is done and this process has not asked after it (get, wait, ready and so on), or an iterator
   has its next item; once too often now and then, until the next call on the pool. With futures and an
   iterator at once call mproc_iter_next last, until it waits. Hung up (POLLHUP) when the pool is over. The
   library's: do not read. */
MPROC_DEF int mproc_pool_fd(mproc_pool *pool);

/* Runs body(0, ctx) to body(n - 1, ctx) in workers forked for it (0: mproc_cpu_count()), each index once, and
   waits. They see the caller's memory as it is, copy on write; what they are to leave behind they write to
   shared memory. 0; MPROC_ECRASHED a body died, all others were run; -EAGAIN, -ENOMEM nothing was run. */
MPROC_DEF int mproc_parallel_for(size_t n, int workers, void (*body)(size_t i, void *ctx), void *ctx);

/* Draws progress: on a terminal one line redrawn at most 20 times a second, otherwise a line each ten
   percent. Call it as often as you like, the last time with done == total. For one label at a time. */
MPROC_DEF void mproc_progress(FILE *out, const char *label, size_t done, size_t total);

/* ---- Files --------------------------------------------------------------------------------------------- */

/* One file written by many processes, each under flock(2).
   Callers: any thread of the process that opened the handle or inherited it: a lock belongs to the thread,
   the others wait for it, and take it over when the thread has ended; no signal handler. Kill: the kernel
   frees the lock; an append or an update is there whole or not at all. */
typedef struct mproc_file mproc_file;

/* Opens, and creates if need be (0666 less umask), a regular file. NULL and errno. A handle inherited over
   fork works in the child as a lock of the child's own; the handle is of this process, not of the family. */
MPROC_DEF mproc_file *mproc_file_open(const char *path);

/* 0; MPROC_ETIMEDOUT; -EDEADLK this handle holds it already (shared to exclusive too: unlock first).
   Advisory, as flock is: for programs that lock. */
MPROC_DEF int mproc_file_lock(mproc_file *file, double timeout);
MPROC_DEF int mproc_file_lock_shared(mproc_file *file, double timeout);
/* 0; -EPERM not locked by this thread, or within edit of an update. */
MPROC_DEF int mproc_file_unlock(mproc_file *file);

/* Appends size bytes, locking by itself unless the handle holds the lock: whole or not at all, whoever else
   appends, also on a full disk. -ENOSPC, -EFBIG ... with the file as it was; -EPERM under a shared lock. */
MPROC_DEF int mproc_file_append(mproc_file *file, const void *data, size_t size);

/* Reads the file into malloc'ed memory, a zero byte behind it, lets edit change it (realloc allowed), and
   replaces the file. Other processes see the old content or the new, also after SIGKILL or a power cut.
   Non-zero from edit leaves the file as it was and is returned. Within edit the handle is the update's:
   -EDEADLK to append and update. The new file has the old one's mode and group and owner, or the caller's
   where that is not allowed. */
MPROC_DEF int mproc_file_update(mproc_file *file, int (*edit)(char **data, size_t *size, void *ctx),
                                void *ctx);

/* Frees the handle and its lock. 0 (NULL too); MPROC_EBUSY another thread holds it, or a call on it is under
   way (in edit: the update). */
MPROC_DEF int mproc_file_close(mproc_file *file);

/* ---- Dump ---------------------------------------------------------------------------------------------- */

/* For a program that hangs: writes the family's objects to out, one a line, with what they hold (messages,
   permits, tasks) and the thread that holds each lock, then the threads that wait and for what. A snapshot
   taken beside the others' work: it takes none of their locks and can be called while any of them is held,
   from a debugger too: `call mproc_dump(stderr)`. 0; -EINVAL no out; MPROC_ENOMEM; MPROC_ETIMEDOUT the
   allocator was held for a second, or -EDEADLK by the thread that a debugger lent for the call: then only
   the waiting threads are shown.
   Callers: any thread of any process, no signal handler. Kill: costs nothing. */
MPROC_DEF int mproc_dump(FILE *out);

#endif /* MPROC_H */

/* ======================================================================================================== */
#if defined(MPROC_IMPLEMENTATION) && !defined(MPROC_IMPLEMENTED)
#define MPROC_IMPLEMENTED

/* ---- Platform ------------------------------------------------------------------------------------------ */

/* What differs between libcs, kernels and compilers is settled here: feature macros, atomics, the futex,
   the monotonic clock, descriptors. Above this part nobody mentions a libc or a processor by name. System
   calls that libc declares under _GNU_SOURCE alone go through syscall(2), so that a file which included
   system headers before this one still compiles. */

#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Each of these macros stands in a part of its header that libc hides without the feature macros. One error
   says so, and nothing follows it. */
#if !defined(MAP_ANONYMOUS) || !defined(MADV_DONTNEED) || !defined(LOCK_EX) || !defined(L_ctermid) || \
    !defined(CLOCK_MONOTONIC) || !defined(SIG_SETMASK) || !defined(alloca)
#define MPROC__HIDDEN
#error \
    "mproc.h: a system header came first in a strict -std mode: define MPROC_IMPLEMENTATION and include mproc.h before every other header, or compile with -D_GNU_SOURCE"
#endif
#ifndef MPROC__HIDDEN
#if !defined(__GLIBC__) && !defined(__cplusplus)
extern long(syscall)(long, ...); /* musl's <unistd.h> may have hidden it, and shows that by no macro */
#endif

/* Constants of the kernel's interface that older or stricter headers lack. */
#define MPROC__P_PIDFD      3
#define MPROC__F_SETSIG     10
#define MPROC__F_SETPIPE_SZ 1031
#define MPROC__F_GETPIPE_SZ 1032
#ifndef MADV_REMOVE
#define MADV_REMOVE 9
#endif
#if !defined(SYS_pidfd_open) && defined(__alpha__)
#define SYS_pidfd_open        544
#define SYS_pidfd_send_signal 534
#elif !defined(SYS_pidfd_open)
#define SYS_pidfd_open        434
#define SYS_pidfd_send_signal 424
#endif
/* The futex takes the kernel's own timespec: of longs, but where only the call with 64-bit time exists. */
#ifdef SYS_futex
#define MPROC__SYS_FUTEX SYS_futex
typedef long mproc__futex_time;
#else
#define MPROC__SYS_FUTEX SYS_futex_time64
typedef int64_t mproc__futex_time;
#endif

#define MPROC__FN     static __attribute__((unused))
#define MPROC__SLOW   static __attribute__((unused, noinline)) /* the rare half of what must be fast */
#define MPROC__MS     ((int64_t)1000000)
#define MPROC__SECOND ((int64_t)1000000000)
#define MPROC__NEVER  INT64_MAX
#ifndef MPROC__SLICE
#define MPROC__SLICE (100 * MPROC__MS) /* the longest sleep that does not look again: see below */
#endif
#define MPROC__LINE 64 /* bytes of a cache line, for words that different processes write */

/* Every wait in this file follows one rule. The truth is kept by the kernel (a pipe's content, a robust
   mutex, a pidfd) or can be derived again from shared memory; a wake-up is only a hint. So each sleep lasts
   MPROC__SLICE at most and then looks again: a wake-up that died with a killed process costs a moment. */

#define MPROC__LOAD(p)     __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define MPROC__STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define MPROC__ADD(p, v)   __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
#define MPROC__SUB(p, v)   __atomic_sub_fetch((p), (v), __ATOMIC_SEQ_CST)
#define MPROC__SWAP(p, v)  __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define MPROC__CAS(p, old, v) \
    __atomic_compare_exchange_n((p), (old), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

/* For words that are changed atomically: some 32-bit processors' ABIs align 64 bits to 4 bytes only. */
typedef uint64_t mproc__u64 __attribute__((aligned(8)));

/* On 64-bit RISC-V gcc before 13.3 compares the whole register that holds old, and then says that it was
   equal if its lower half is: so the upper half is set right. */
MPROC__FN bool mproc__cas32(uint32_t *word, uint32_t old, uint32_t desired) {
#if defined(__riscv) && __riscv_xlen == 64
    __asm__("sext.w %0, %0" : "+r"(old));
#endif
    return MPROC__CAS(word, &old, desired);
}
MPROC__FN bool mproc__cas64(uint64_t *word, uint64_t old, uint64_t desired) {
    return MPROC__CAS(word, &old, desired);
}

/* Constructors report through errno; this turns a negative errno value into that. */
MPROC__FN void *mproc__fail(int error) {
    errno = -error;
    return NULL;
}

MPROC__FN int64_t mproc__now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * MPROC__SECOND + t.tv_nsec;
}

/* The moment a timeout ends; 0 (long past) for a single try, which saves reading the clock. */
MPROC__FN bool mproc__deadline(double timeout, int64_t *deadline) {
    if (timeout != timeout) return false; /* NaN */
    if (timeout < 0 || timeout > 4e9) *deadline = MPROC__NEVER;
    else if (timeout == 0) *deadline = 0;
    else *deadline = mproc__now() + (int64_t)(timeout * 1e9) + 1;
    return true;
}

MPROC__FN int64_t mproc__left(int64_t deadline) {
    if (deadline == MPROC__NEVER || deadline == 0) return deadline;
    int64_t now = mproc__now();
    return deadline > now ? deadline - now : 0;
}

MPROC__FN int64_t mproc__least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Internal locks are held for microseconds by whoever runs; a single try must not fail because of that. */
MPROC__FN int64_t mproc__grace(int64_t deadline) {
    if (deadline == MPROC__NEVER) return deadline;
    int64_t soon = mproc__now() + 50 * MPROC__MS;
    return deadline > soon ? deadline : soon;
}

MPROC__FN void mproc__sleep(int64_t ns) {
    struct timespec t;
    t.tv_sec = (time_t)(ns / MPROC__SECOND);
    t.tv_nsec = (long)(ns % MPROC__SECOND);
    nanosleep(&t, NULL);
}

/* Sleeps while *word == expected, ns at most; returns for any reason or none. */
MPROC__FN void mproc__futex_wait(uint32_t *word, uint32_t expected, int64_t ns) {
    const mproc__futex_time t[2] = {(mproc__futex_time)(ns / MPROC__SECOND),
                                    (mproc__futex_time)(ns % MPROC__SECOND)};
    syscall(MPROC__SYS_FUTEX, word, 0 /* FUTEX_WAIT */, expected, t, 0L, 0L);
}

/* The same within a wait: MPROC__SLICE at most. False, and no sleep, when the time is up. */
MPROC__FN bool mproc__nap(uint32_t *word, uint32_t expected, int64_t deadline) {
    int64_t left = mproc__left(deadline);
    if (left > 0) mproc__futex_wait(word, expected, mproc__least(left, MPROC__SLICE));
    return left > 0;
}

/* Signal handlers may call this. */
MPROC__FN void mproc__futex_wake(uint32_t *word, int count) {
    syscall(MPROC__SYS_FUTEX, word, 1 /* FUTEX_WAKE */, count, 0L, 0L, 0L);
}

/* Flags: a word that is 1 while somebody may sleep on it. Who wants to sleep raises the flag, looks once
   more, and sleeps while it is up; who has news lowers it and wakes. A killed sleeper leaves at worst one
   needless wake-up behind, never a count that stays wrong. */
MPROC__FN void mproc__flag_wake(uint32_t *flag, int count) {
    if (MPROC__LOAD(flag) == 0) return;
    MPROC__STORE(flag, 0);
    mproc__futex_wake(flag, count);
}
MPROC__FN void mproc__flag_sleep(uint32_t *flag, int64_t deadline) { mproc__nap(flag, 1, deadline); }

/* What ends all waits for good has come. Whoever raised the flag after that, looked, and leaves calls this
   too: it may have kept up a flag that another one is about to sleep on. */
MPROC__FN void mproc__flag_end(uint32_t *flag) {
    MPROC__STORE(flag, 0);
    mproc__futex_wake(flag, INT32_MAX);
}

/* Spinning: what another processor is about to do comes sooner than a sleep and a wake-up would take, so
   before the first sleep of a wait the word is watched for a moment: long enough for the other side to be
   woken and to answer, for then both are awake and need no more wake-ups. Each thread learns whether that
   pays: where it does not (both sides share a processor, or waits are long) it gives up, and tries again ever
   more rarely. Never with a single processor. It does not yield in between: that would help a pool with more
   processes than processors, but where others keep these busy each yield lasts a turn of all of them. */
static bool mproc__spinning_helps; /* more than one processor; set when the arena is made, copied by fork */
static __thread int mproc__spin_luck = 8; /* above 0: spin */

MPROC__FN void mproc__relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield" ::: "memory");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

/* How often to look before sleeping; 0: not at all. Without luck at every 64th, 128th, 256th ... and 1024th.
 */
MPROC__FN int mproc__spin_begin(void) {
    if (!mproc__spinning_helps) return 0;
    if (mproc__spin_luck > 0) return MPROC_SPINS;
    unsigned n = (unsigned)-mproc__spin_luck + 1;
    mproc__spin_luck = n < 2048 ? -(int)n : -1024;
    return n >= 64 && ((n & (n - 1)) == 0 || n % 1024 == 0) ? MPROC_SPINS : 0;
}

/* for (int spins = mproc__spin_begin(); mproc__spins(&spins, seen);) seen = ... */
MPROC__FN bool mproc__spins(int *left, bool seen) {
    if (*left == 0) return false;
    if (!seen && --*left > 0) {
        mproc__relax();
        return true;
    }
    if (!seen) mproc__spin_luck -= mproc__spin_luck > 0 ? 1 : 0;
    else mproc__spin_luck = mproc__spin_luck < 0 ? 1 : mproc__spin_luck < 8 ? mproc__spin_luck + 1 : 8;
    return false;
}

/* poll(2), ns at most, rounded up so that no wait ends early. It refuses more entries than the process may
   have descriptors: then a moment's sleep, for the caller looks for itself. */
MPROC__FN bool mproc__poll_all(struct pollfd *fds, size_t n, int64_t ns) {
    ns = mproc__least(ns, 1000000 * MPROC__SECOND);
    int ready = poll(fds, (nfds_t)n, (int)((ns + MPROC__MS - 1) / MPROC__MS));
    if (ready < 0 && errno == EINVAL) mproc__sleep(mproc__least(ns, 10 * MPROC__MS));
    return ready > 0;
}
MPROC__FN bool mproc__poll(int fd, short events, int64_t ns) {
    struct pollfd p = {fd, events, 0};
    return mproc__poll_all(&p, 1, ns);
}

/* Signals interrupt these on slow and network file systems; no caller is to see that. */
MPROC__FN int mproc__open(const char *path, int flags, mode_t mode) {
    int fd;
    while ((fd = open(path, flags, mode)) < 0 && errno == EINTR) continue;
    return fd;
}
MPROC__FN int mproc__fsync(int fd) {
    int result;
    while ((result = fsync(fd)) != 0 && errno == EINTR) continue;
    return result;
}
MPROC__FN int mproc__ftruncate(int fd, off_t size) {
    int result;
    while ((result = ftruncate(fd, size)) != 0 && errno == EINTR) continue;
    return result;
}

/* Descriptors 0 to 2 belong to stdio even when the program has closed them: never stand there. */
MPROC__FN int mproc__fd_above_stdio(int fd) {
    if (fd < 0 || fd > 2) return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3), error = errno;
    close(fd);
    errno = error;
    return high;
}

MPROC__FN void mproc__close(int *fd) {
    if (*fd >= 0) close(*fd);
    MPROC__STORE(fd, -1);
}

MPROC__FN int mproc__pair_above_stdio(int fd[2]) {
    fd[0] = mproc__fd_above_stdio(fd[0]);
    fd[1] = mproc__fd_above_stdio(fd[1]);
    if (fd[0] >= 0 && fd[1] >= 0) return 0;
    mproc__close(&fd[0]);
    mproc__close(&fd[1]);
    return -EMFILE;
}

MPROC__FN int mproc__pipe(int fd[2], int flags) {
    fd[0] = fd[1] = -1; /* memory checkers do not see what a system call by number writes */
    return syscall(SYS_pipe2, fd, O_CLOEXEC | flags) == 0 ? mproc__pair_above_stdio(fd) : -errno;
}

MPROC__FN int mproc__pidfd_open(pid_t pid) {
    return mproc__fd_above_stdio((int)syscall(SYS_pidfd_open, pid, 0));
}

static __thread pid_t mproc__own_tid; /* asked once; a child of fork forgets it */

MPROC__FN pid_t mproc__gettid(void) {
    if (mproc__own_tid == 0) mproc__own_tid = (pid_t)syscall(SYS_gettid);
    return mproc__own_tid;
}

/* Where there are no pidfds: is it a zombie, as far as /proc tells? While threads of it run, it is none. */
MPROC__FN bool mproc__zombie(pid_t pid) {
    char text[512], state = 0;
    int threads = 0;
    snprintf(text, sizeof text, "/proc/%d/stat", (int)pid);
    int fd = mproc__open(text, O_RDONLY | O_CLOEXEC, 0);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    mproc__close(&fd);
    text[n > 0 ? n : 0] = 0;
    const char *name_end = strrchr(text, ')');
    if (name_end == NULL ||
        sscanf(name_end, ") %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d", &state,
               &threads) != 2)
        return false;
    return (state == 'Z' || state == 'X') && threads <= 1;
}

/* Is this thread of this process still there? A zombie is not. */
MPROC__FN bool mproc__alive(pid_t pid, pid_t tid) {
    if (syscall(SYS_tgkill, pid, tid, 0) != 0 && errno == ESRCH) return false;
    int fd = mproc__pidfd_open(pid);
    if (fd < 0) return errno != ESRCH && !mproc__zombie(pid);
    bool ended = mproc__poll(fd, POLLIN, 0);
    close(fd);
    return !ended;
}

/* On how many processors this thread may run; 0: unknown. */
MPROC__FN int mproc__affinity(void) {
    unsigned char set[1024];    /* the call itself, not libc's cpu_set_t, which ends at 1024 processors */
    memset(set, 0, sizeof set); /* memory checkers do not see what a system call by number writes */
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof set, set);
    int n = 0;
    for (long i = 0; i < bytes; i++) n += __builtin_popcount(set[i]);
    return n;
}

MPROC_DEF const char *mproc_strerror(int error) {
    if (error > 0) error = -error;
    switch (error) {
    case 0: return "success";
    case MPROC_ETIMEDOUT: return "not in time";
    case MPROC_ECLOSED: return "closed, or the other end is gone";
    case MPROC_EOWNERDEAD: return "acquired, but its last holder died";
    case MPROC_EBROKEN: return "broken";
    case MPROC_ECRASHED: return "the task's worker died";
    case MPROC_EFAILED: return "the task failed";
    case MPROC_ECANCELED: return "cancelled";
    case MPROC_EMSGSIZE: return "the message does not fit the buffer";
    case MPROC_EBUSY: return "still in use";
    case MPROC_EINVAL: return "not such an object, or a senseless argument";
    case MPROC_EPERM: return "not the caller's to do";
    case MPROC_ENOMEM: return "out of memory";
    case MPROC_EAGAIN: return "not now";
    case MPROC_ECHILD: return "no such child, or its status is lost";
    case -EDEADLK: return "the caller would wait for itself";
    case -EALREADY: return "already started";
    default: return error < 0 && error > -4096 ? strerror(-error) : "unknown error";
    }
}

/* A robust mutex between processes: when its holder dies the kernel hands it to the next one and says so.
   It is libc's, because the kernel's list of held robust locks is libc's. The kernel walks 2048 entries of
   that list: of more locks held by one thread when it dies, the first ones would stay locked. */
typedef pthread_mutex_t mproc__mutex;

MPROC__FN int mproc__mutex_init(mproc__mutex *m, int type) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_settype(&attr, type);
    int error = pthread_mutex_init(m, &attr);
    pthread_mutexattr_destroy(&attr);
    return -error;
}

/* One bounded sleep for the mutex: 0, ETIMEDOUT, EOWNERDEAD, EDEADLK. */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 30)) && \
    !defined(__SANITIZE_THREAD__)
#if !defined(__USE_GNU) && !defined(__cplusplus)
extern int pthread_mutex_clocklock(pthread_mutex_t *, clockid_t, const struct timespec *);
#endif
MPROC__FN int mproc__mutex_sleep(mproc__mutex *m, int64_t ns, unsigned *round) {
    struct timespec t;
    int64_t end = mproc__now() + ns;
    t.tv_sec = (time_t)(end / MPROC__SECOND);
    t.tv_nsec = (long)(end % MPROC__SECOND);
    (void)round;
    return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &t);
}
#else /* no lock with a monotonic timeout: try, at growing distances up to 5 ms */
MPROC__FN int mproc__mutex_sleep(mproc__mutex *m, int64_t ns, unsigned *round) {
    if (*round < 7) *round += 1;
    mproc__sleep(mproc__least(ns, (int64_t)40000 << *round));
    struct timespec past = {0, 0}; /* no wait, so no clock matters; unlike trylock it tells EDEADLK */
    return pthread_mutex_timedlock(m, &past);
}
#endif

/* Tries for a moment, at growing distances: most locks are held for less than a sleep and a wake-up take. */
MPROC__FN int mproc__mutex_spin(mproc__mutex *m) {
    int error = EBUSY, spins = mproc__spin_begin() / 8;
    for (int n = 4; mproc__spins(&spins, error != EBUSY); n++)
        if ((n & (n - 1)) == 0 || n % 64 == 0) error = pthread_mutex_trylock(m);
    return error;
}

/* 0, -EOWNERDEAD (held; say mproc__mutex_repaired when the data is right again), -ETIMEDOUT, -EDEADLK. */
MPROC__FN int mproc__mutex_lock(mproc__mutex *m, int64_t deadline) {
    int error = pthread_mutex_trylock(m);
    if (error == EBUSY && deadline != 0) error = mproc__mutex_spin(m);
    for (unsigned round = 0; error == EBUSY || error == ETIMEDOUT;) {
        int64_t left = mproc__left(deadline);
        if (left == 0) return -ETIMEDOUT;
        error = mproc__mutex_sleep(m, mproc__least(left, MPROC__SLICE), &round);
    }
    return -error;
}
/* The living thread that holds it, or 0. Where a robust mutex keeps that is libc's business, but what is the
   kernel's, which takes the dead ones out. */
MPROC__FN uint32_t mproc__mutex_holder(const mproc__mutex *m) {
    const uint32_t *word = (const uint32_t *)(const void *)m;
#ifndef __GLIBC__
    word++;
#endif
    return MPROC__LOAD(word) & 0x3fffffff /* FUTEX_TID_MASK */;
}
MPROC__FN void mproc__mutex_repaired(mproc__mutex *m) { pthread_mutex_consistent(m); }
MPROC__FN int mproc__mutex_unlock(mproc__mutex *m) { return -pthread_mutex_unlock(m); }

/* ---- Arena --------------------------------------------------------------------------------------------- */

/* One anonymous shared mapping, made on first use and inherited by fork, so an address means the same in
   every process of the family. Only touched pages cost memory.

   Blocks lie end to end from arena->first to arena->top; each starts with its own size, whose lowest bit
   says "used". That chain of sizes is the only truth: every change to it is one aligned store, made when
   what the new size leads to is already in place. Whatever else there is (free lists, sizes of neighbours)
   is derived from it, and is derived again when the lock's holder died: mproc__arena_repair. So a process
   killed at any instruction leaves a valid chain, and at most the block it was allocating marked as used. */

#define MPROC__BINS  256   /* four for each power of two */
#define MPROC__SEATS 2048  /* threads that can be seen waiting at one time */
#define MPROC__PORTS 65536 /* objects with descriptors at one time */
#define MPROC__MAGIC 0x6d70726fu

enum { /* what an object is; stands in its mproc__tag */
       MPROC__LOCK = 1,
       MPROC__HIDDEN_LOCK, /* inside an array: not to be freed by itself */
       MPROC__ARRAY,
       MPROC__MESSAGE,
       MPROC__QUEUE,
       MPROC__POOL,
       MPROC__FUTURE,
       MPROC__RLOCK,
       MPROC__SEMAPHORE,
       MPROC__EVENT,
       MPROC__CONDITION,
       MPROC__BARRIER,
       MPROC__CONN,
       MPROC__RING,
};

/* Names an object, mixed with its address so that a copy of it is none. 0 once it is freed. Aligned to 8
   where pointers are narrower too: an address that is not can hold no object. */
typedef struct mproc__tag {
    uint32_t magic;
    uint32_t kind;
} __attribute__((aligned(8))) mproc__tag;

typedef struct mproc__block mproc__block;
struct mproc__block {
    size_t size;        /* of the whole block; lowest bit: used */
    size_t before;      /* size of the block before it; derived */
    mproc__block *next; /* in its bin while free; user data while used */
    mproc__block *prev; /* likewise */
};
#define MPROC__HEAD     ((size_t)16) /* bytes of a used block's header: size and before */
#define MPROC__SMALLEST ((size_t)32)

/* A thread's seat: what it waits for, so that _free can say "busy" and not count the dead. */
typedef struct mproc__seat {
    mproc__mutex taken; /* held by the thread: its number may be another's by and by, this tells its death */
    mproc__u64 who;     /* pid << 32 | tid; 0: not made yet */
    uintptr_t waiting;  /* object it sleeps on, or future its call is at; pid of the child it joins; or 0 */
    uintptr_t getting;  /* queue it is putting to or getting from; that, or a ring it closes, plus 1: idly;
                           entry in a condition's list that is its own; generation and place in a barrier that
                           it waits in; or 0 */
    uintptr_t at_pool;  /* pool of the call or callback it is in, whatever it waits for in there, or 0 */
} mproc__seat;

typedef struct mproc__arena {
    size_t size;                    /* of the mapping */
    char *first, *top;              /* the chain of blocks */
    char *touched;                  /* memory from here on was never used: it is zero */
    mproc__mutex lock;              /* guards the blocks */
    uint32_t map[MPROC__BINS / 32]; /* which bins hold something */
    mproc__block *bin[MPROC__BINS];
    mproc__u64 serial;                /* of the last port */
    uint32_t seats_used;              /* seats that were ever taken: the first so many */
    uint32_t pools;                   /* made so far, for their names */
    uint32_t port[MPROC__PORTS / 32]; /* which port numbers are taken */
    uint32_t forks;                   /* of all processes of the family */
    uint32_t ports_used;              /* numbers that were ever taken: the first so many */
    uint32_t pairs_look;              /* where the search for forgotten pipes goes on */
    mproc__mutex pairs_lock;          /* guards that search */
    uint32_t file_line[64];           /* see mproc__line_enter */
    void *pair[MPROC__PORTS];         /* the mproc__pair whose first end has the port */
    mproc__seat seat[MPROC__SEATS];
} mproc__arena;

static mproc__arena *mproc__shared; /* NULL until first use; then the same in every process of the family */

MPROC__FN bool mproc__in_arena(const void *p) {
    return mproc__shared != NULL && (uintptr_t)p - (uintptr_t)mproc__shared < mproc__shared->size;
}

MPROC__FN uint32_t mproc__magic(const mproc__tag *tag) {
    return MPROC__MAGIC ^ (uint32_t)((uintptr_t)tag >> 3);
}
MPROC__FN void mproc__tag_set(mproc__tag *tag, uint32_t kind) {
    tag->kind = kind;
    MPROC__STORE(&tag->magic, mproc__magic(tag));
}
MPROC__FN bool mproc__tag_is(const void *object, uint32_t kind) {
    const mproc__tag *tag = (const mproc__tag *)object;
    return mproc__in_arena(tag) && ((uintptr_t)tag & 7) == 0 &&
           __atomic_load_n(&tag->magic, __ATOMIC_RELAXED) == mproc__magic(tag) && tag->kind == kind;
}

MPROC__FN size_t mproc__size_of(const mproc__block *b) { return b->size & ~(size_t)1; }
MPROC__FN bool mproc__used(const mproc__block *b) { return (b->size & 1) != 0; }
MPROC__FN mproc__block *mproc__block_at(char *p) { return (mproc__block *)(void *)p; }
MPROC__FN mproc__block *mproc__after(mproc__block *b) {
    return mproc__block_at((char *)b + mproc__size_of(b));
}
MPROC__FN void mproc__set_size(mproc__block *b, size_t size, bool used) {
    MPROC__STORE(&b->size, size | (used ? 1u : 0u));
}
/* What lies behind block b learns b's size; at the end of the chain that is the next block to come. */
MPROC__FN void mproc__tell_next(mproc__block *b) { mproc__after(b)->before = mproc__size_of(b); }

/* The bin of blocks from this size up: two bits below the leading one choose among four. */
MPROC__FN unsigned mproc__bin_of(size_t size) {
    unsigned log = (unsigned)(sizeof(unsigned long long) * 8 - 1) - (unsigned)__builtin_clzll(size);
    return log * 4 + (unsigned)(size >> (log - 2) & 3);
}

MPROC__FN void mproc__bin_insert(mproc__arena *a, mproc__block *b) {
    unsigned bin = mproc__bin_of(mproc__size_of(b));
    b->prev = NULL;
    b->next = a->bin[bin];
    if (b->next != NULL) b->next->prev = b;
    a->bin[bin] = b;
    a->map[bin / 32] |= (uint32_t)1 << bin % 32;
}

MPROC__FN void mproc__bin_remove(mproc__arena *a, mproc__block *b) {
    unsigned bin = mproc__bin_of(mproc__size_of(b));
    if (b->next != NULL) b->next->prev = b->prev;
    if (b->prev != NULL) b->prev->next = b->next;
    else a->bin[bin] = b->next;
    if (a->bin[bin] == NULL) a->map[bin / 32] &= ~((uint32_t)1 << bin % 32);
}

/* The first free block in a bin where all are large enough, NULL when there is none. */
MPROC__FN mproc__block *mproc__bin_find(mproc__arena *a, size_t size) {
    unsigned bin = mproc__bin_of(size);
    if (a->bin[bin] != NULL && mproc__size_of(a->bin[bin]) >= size) return a->bin[bin];
    for (unsigned word = ++bin / 32; word < MPROC__BINS / 32; word++) {
        uint32_t bits = a->map[word];
        if (word == bin / 32) bits &= ~(uint32_t)0 << bin % 32;
        if (bits != 0) return a->bin[word * 32 + (unsigned)__builtin_ctz(bits)];
    }
    return NULL;
}

/* Rebuilds all that is derived from the chain of sizes, joining free neighbours on the way. */
MPROC__FN void mproc__arena_repair(mproc__arena *a) {
    memset(a->map, 0, sizeof a->map);
    memset(a->bin, 0, sizeof a->bin);
    mproc__block *b = mproc__block_at(a->first), *last = NULL;
    for (; (char *)b < a->top; b = mproc__after(b)) {
        if (last != NULL && !mproc__used(last) && !mproc__used(b)) {
            mproc__set_size(last, mproc__size_of(last) + mproc__size_of(b), false);
            b = last;
        } else {
            b->before = last != NULL ? mproc__size_of(last) : 0;
            if (last != NULL && !mproc__used(last)) mproc__bin_insert(a, last);
            last = b;
        }
    }
    if (last != NULL && !mproc__used(last)) MPROC__STORE(&a->top, (char *)last);
    if (a->touched < a->top) a->touched = a->top;
}

MPROC__FN int mproc__arena_lock_by(mproc__arena *a, int64_t deadline) {
    int error = mproc__mutex_lock(&a->lock, deadline);
    if (error != -EOWNERDEAD) return error;
    mproc__arena_repair(a);
    mproc__mutex_repaired(&a->lock);
    return 0;
}
MPROC__FN void mproc__arena_lock(mproc__arena *a) { mproc__arena_lock_by(a, MPROC__NEVER); }

/* Takes the front of a free block that was found, leaving the rest free if it is worth a block. */
MPROC__FN void mproc__block_carve(mproc__arena *a, mproc__block *b, size_t size) {
    size_t whole = mproc__size_of(b);
    mproc__bin_remove(a, b);
    if (whole - size < MPROC__SMALLEST) {
        mproc__set_size(b, whole, true);
        return;
    }
    mproc__block *rest = mproc__block_at((char *)b + size);
    rest->size = whole - size;
    rest->before = size;
    mproc__set_size(b, size, true); /* from here on the chain leads through rest */
    mproc__tell_next(rest);
    mproc__bin_insert(a, rest);
}

/* A new block at the end of the chain. One header's room is kept beyond the end. */
MPROC__FN mproc__block *mproc__block_grow(mproc__arena *a, size_t size) {
    size_t left = a->size - (size_t)(a->top - (char *)a);
    if (size > left || left - size < MPROC__HEAD) return NULL;
    mproc__block *b = mproc__block_at(a->top);
    if (a->touched < a->top + size + MPROC__HEAD) MPROC__STORE(&a->touched, a->top + size + MPROC__HEAD);
    b->size = size | 1;
    mproc__tell_next(b);
    MPROC__STORE(&a->top, a->top + size);
    return b;
}

/* Zeroes memory of which all before `touched` may have been used. Whole pages of a large block are given
   back instead, and come back as zeros when they are touched. */
MPROC__FN void mproc__zero(char *p, size_t size, char *touched) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (p >= touched) return;
    char *end = touched - p < (ptrdiff_t)size ? touched : p + size;
    char *from = p + (page - (uintptr_t)p % page) % page, *to = end - (uintptr_t)end % page;
    if (end - p < 1 << 20 || madvise(from, (size_t)(to - from), MADV_REMOVE) != 0) {
        memset(p, 0, (size_t)(end - p));
    } else {
        memset(p, 0, (size_t)(from - p));
        memset(to, 0, (size_t)(end - to));
    }
}

/* More than the machine has in all would only bring the out-of-memory killer. */
MPROC__FN bool mproc__beyond_memory(size_t size) {
    struct sysinfo info;
    if (size < (size_t)64 << 20 || sysinfo(&info) != 0) return false;
    return size / info.mem_unit > info.totalram + info.totalswap;
}

/* size bytes, 16-byte aligned (zeroed on demand), or NULL. The name stands in parentheses so that a test may
   put a macro of that name before the function, and make allocations fail. */
MPROC__FN void *(mproc__alloc)(size_t size, bool zeroed) {
    mproc__arena *a = mproc__shared;
    if (size > a->size || mproc__beyond_memory(size)) return NULL;
    size = (size + MPROC__HEAD + 15) & ~(size_t)15;
    if (size < MPROC__SMALLEST) size = MPROC__SMALLEST;
    mproc__arena_lock(a);
    char *touched = a->touched;
    mproc__block *b = mproc__bin_find(a, size);
    if (b == NULL &&
        (size_t)(a->top - (char *)a) + size + MPROC__HEAD > a->size) /* behind its bin's first? */
        for (b = a->bin[mproc__bin_of(size)]; b != NULL && mproc__size_of(b) < size;) b = b->next;
    if (b != NULL) mproc__block_carve(a, b, size);
    else b = mproc__block_grow(a, size);
    mproc__mutex_unlock(&a->lock);
    if (b == NULL) return NULL;
    char *p = (char *)b + MPROC__HEAD;
    if (zeroed) mproc__zero(p, size - MPROC__HEAD, touched);
    return p;
}

MPROC__FN void mproc__dealloc(void *p) {
    mproc__arena *a = mproc__shared;
    mproc__block *b = mproc__block_at((char *)p - MPROC__HEAD);
    size_t size = mproc__size_of(b);
    if (size >= (size_t)16 << 20)
        mproc__zero((char *)p, size - MPROC__HEAD, (char *)p + size); /* to the system */
    mproc__arena_lock(a);
    mproc__set_size(b, size, false);
    mproc__block *next = mproc__after(b);
    if ((char *)next < a->top && !mproc__used(next)) {
        mproc__bin_remove(a, next);
        mproc__set_size(b, size + mproc__size_of(next), false);
    }
    if ((char *)b > a->first && !mproc__used(mproc__block_at((char *)b - b->before))) {
        mproc__block *before = mproc__block_at((char *)b - b->before);
        mproc__bin_remove(a, before);
        mproc__set_size(before, mproc__size_of(before) + mproc__size_of(b), false);
        b = before;
    }
    if ((char *)mproc__after(b) == a->top) {
        MPROC__STORE(&a->top, (char *)b);
    } else {
        mproc__tell_next(b);
        mproc__bin_insert(a, b);
    }
    mproc__mutex_unlock(&a->lock);
}

/* Maps the arena: as large as configured, or half as often as the system refuses. */
MPROC__FN int mproc__arena_map(void) {
    size_t size = MPROC_ARENA_SIZE, smallest = sizeof(mproc__arena) + ((size_t)1 << 18);
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur / 2 < size)
        size = (size_t)limit.rlim_cur / 2;
    size &= ~(size_t)0xffff;
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    void *p = MAP_FAILED;
    while (size >= smallest && (p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0)) == MAP_FAILED)
        size = size / 2 & ~(size_t)0xffff;
    if (p == MAP_FAILED) return MPROC_ENOMEM;
    mproc__arena *a = (mproc__arena *)p;
    a->size = size;
    a->first = a->top = (char *)a + ((sizeof *a + 15) & ~(size_t)15);
    a->touched = a->top + MPROC__HEAD;
    int error = mproc__mutex_init(&a->lock, PTHREAD_MUTEX_ERRORCHECK);
    if (error == 0) error = mproc__mutex_init(&a->pairs_lock, PTHREAD_MUTEX_ERRORCHECK);
    if (error != 0) munmap(p, size);
    else MPROC__STORE(&mproc__shared, a);
    return error;
}

/* Seats. A thread takes one when it first needs it and keeps it; the seats of the dead are taken over. */
static __thread mproc__seat *mproc__own_seat;
static pthread_key_t mproc__seat_key; /* so that a thread leaves its seat when it ends */

MPROC__FN uint64_t mproc__own_who(void) { return (uint64_t)getpid() << 32 | (uint32_t)mproc__gettid(); }
MPROC__FN bool mproc__who_alive(uint64_t who) {
    return mproc__alive((pid_t)(who >> 32), (pid_t)(who & UINT32_MAX));
}

static bool mproc__robust_works; /* not under qemu-user: it does not tell the kernel what a thread holds */

/* Without a system call, where that can be: the many parties of a barrier look for each other. */
MPROC__FN bool mproc__seat_alive(const mproc__seat *s) {
    uint64_t who = MPROC__LOAD(&s->who);
    return who != 0 && mproc__mutex_holder(&s->taken) == (uint32_t)who &&
           (mproc__robust_works || mproc__who_alive(who));
}

/* One seat more, by this thread or another; false when there is no room. Without a lock, whose holder might
   be stopped while others wait with a timeout: a process killed in here costs a seat. */
MPROC__FN bool mproc__seat_add(mproc__arena *a) {
    uint32_t n = MPROC__LOAD(&a->seats_used);
    if (n >= MPROC__SEATS) return false;
    if (!mproc__cas32(&a->seats_used, n, n + 1)) return true;
    if (mproc__mutex_init(&a->seat[n].taken, PTHREAD_MUTEX_ERRORCHECK) == 0) MPROC__STORE(&a->seat[n].who, 1);
    return true;
}

MPROC__FN bool mproc__seat_claim(mproc__seat *s) {
    if (MPROC__LOAD(&s->who) == 0 || mproc__mutex_holder(&s->taken) != 0) return false;
    int error = mproc__mutex_lock(&s->taken, 0);
    if (error != 0 && error != -EOWNERDEAD) return false;
    if (error != 0) mproc__mutex_repaired(&s->taken);
    MPROC__STORE(&s->waiting, 0);
    MPROC__STORE(&s->getting, 0);
    MPROC__STORE(&s->at_pool, 0);
    MPROC__STORE(&s->who, mproc__own_who());
    return true;
}

/* NULL when all seats are taken by the living; callers then do without. */
MPROC__FN mproc__seat *mproc__seat_get(void) {
    mproc__arena *a = mproc__shared; /* NULL where nothing was made yet: then there is nothing to wait for */
    for (uint32_t i = 0; mproc__own_seat == NULL && a != NULL; i++) {
        if (i >= MPROC__LOAD(&a->seats_used) && !mproc__seat_add(a)) return NULL;
        if (!mproc__seat_claim(&a->seat[i])) continue;
        mproc__own_seat = &a->seat[i];
        pthread_setspecific(mproc__seat_key, mproc__own_seat);
    }
    return mproc__own_seat;
}

MPROC__FN void mproc__seat_leave(void *seat) { /* at the end of a thread, or of a process that ends well */
    if (seat != NULL && mproc__own_seat == seat) mproc__mutex_unlock(&mproc__own_seat->taken);
    mproc__own_seat = NULL;
}

/* What the calling thread sleeps on from now, or the future that its call is at; NULL: nothing. Returns the
   one before. */
MPROC__FN const void *mproc__waits_on(const void *object) {
    mproc__seat *s = mproc__seat_get();
    if (s == NULL) return NULL;
    const void *before = (const void *)s->waiting;
    MPROC__STORE(&s->waiting, (uintptr_t)object);
    return before;
}

/* Notes the pool that this thread's call takes results from, or its callback is of; returns the one before.
 */
MPROC__FN const void *mproc__uses(const void *pool) {
    mproc__seat *s = mproc__seat_get();
    if (s == NULL) return NULL;
    const void *before = (const void *)s->at_pool;
    MPROC__STORE(&s->at_pool, (uintptr_t)pool);
    return before;
}

/* Does a living thread other than this one sleep on the object, or is its call at that future? */
MPROC__FN bool mproc__awaited(const void *object) {
    mproc__arena *a = mproc__shared;
    for (uint32_t i = 0, n = MPROC__LOAD(&a->seats_used); i < n; i++) {
        mproc__seat *s = &a->seat[i];
        if (MPROC__LOAD(&s->waiting) == (uintptr_t)object && s != mproc__own_seat && mproc__seat_alive(s))
            return true;
    }
    return false;
}

/* ---- This process -------------------------------------------------------------------------------------- */

/* What the library keeps in private memory, so that each process has its own: who it is, which children it
   started, which descriptors it holds for objects of the family. fork copies all of it; the handlers that
   pthread_atfork installs here make the copy right, also for a plain fork(2) by the user's code. */

enum { MPROC__PROCESS = 1, MPROC__FORKED, MPROC__SUPERVISOR, MPROC__HELPER }; /* kinds of children */

typedef struct mproc__child mproc__child;
struct mproc__child {
    mproc__child *next;
    uint64_t id; /* what mproc_process and mproc_pool remember */
    pid_t pid;   /* 0 while being started */
    int kind;
    bool daemon;
    bool ended;    /* its status has been collected, or is lost */
    bool told;     /* and somebody was told: who has p knows by that */
    bool fd_shown; /* mproc_process_fd gave the pidfd away: keep it until close */
    int exitcode;  /* once ended */
    int users;     /* threads waiting for it right now */
    int pidfd;     /* or, where the kernel refuses pidfds, a socket whose other end the child keeps; or -1 */
    int life[2];  /* a pipe whose write end only this process holds: its end tells the child of ours; or -1 */
    int sentinel; /* that other end, while being started; or -1 */
};

typedef struct mproc__last_call mproc__last_call;
struct mproc__last_call { /* what mproc_at_exit was given */
    mproc__last_call *next;
    void (*callback)(void *ctx);
    void *ctx;
    int priority;
};

typedef struct mproc__local_port { /* this process's descriptors for an object of the family */
    mproc__u64 serial;             /* of the object; 0: none; its complement: closed by this process */
    int fd[2];
    mproc_conn *conn; /* if it is an end of a pipe that is open here */
    pid_t user;       /* the process that has told it uses that */
} mproc__local_port;

static struct mproc__self {
    pthread_mutex_t lock; /* guards what follows against other threads */
    bool ready;           /* the handlers are installed */
    uint32_t preparing;   /* pid of the process that is about it; 0: none */
    uint32_t ending;      /* tid of the thread that ends it; 0: none */
    pid_t pid;            /* the cached getpid() */
    pid_t parent;         /* who started it; 0 in the main program */
    bool detached;        /* its parent was never getppid(): the process between is gone */
    bool tied;            /* it goes down with its parent, and its children with it */
    bool pidfd_works;
    mproc__child *children;
    mproc__child *own;            /* in a child: its parent's record of it, with the pipe it is tied by */
    mproc__last_call *last_calls; /* in the order they are to be made */
    mproc__u64 last_id;           /* of a child */
    unsigned started;             /* processes, for their names */
    unsigned starts;              /* by mproc_process_start alone: at every 64th it collects */
    char identity[24];            /* "" in the main program, "2:1" in the first child of its second */
    mproc_process current;        /* what mproc_current_process shows */
    char name[64];                /* the current process's */
    mproc__local_port port[MPROC__PORTS];      /* by their numbers; memory only where it is used */
} mproc__self;                                 /* zeros are an unlocked mutex, too, with every libc */
static __thread mproc__child *mproc__starting; /* the child that this thread is forking */

MPROC__FN void mproc__child_fds_close(mproc__child *c) {
    mproc__close(&c->pidfd);
    mproc__close(&c->life[0]);
    mproc__close(&c->life[1]);
    mproc__close(&c->sentinel);
}

MPROC__FN void mproc__before_fork(void) {
    pthread_mutex_lock(&mproc__self.lock);
    MPROC__ADD(&mproc__shared->forks, 1);
}
MPROC__FN void mproc__after_fork_parent(void) { pthread_mutex_unlock(&mproc__self.lock); }

MPROC__FN void mproc__conns_inherit(void);
MPROC__FN void mproc__files_inherit(void);
MPROC__FN void mproc__pools_inherit(void);

/* In the child: the parent's children are not ours, nor is what tells them of their parent's end. Only the
   pipe ends meant for this child itself stay open. */
MPROC__FN void mproc__after_fork_child(void) {
    pthread_mutex_unlock(&mproc__self.lock);
    mproc__self.ready = true; /* perhaps the thread that installed this had not come to saying so */
    mproc__self.parent = mproc__self.pid;
    mproc__self.pid = getpid();
    mproc__self.detached = false;
    mproc__self.ending = 0;
    mproc__self.started = 0;
    mproc__self.current.pid = mproc__self.pid;
    mproc__own_seat = NULL;
    mproc__own_tid = 0;
    if (mproc__self.own != NULL) mproc__child_fds_close(mproc__self.own);
    free(mproc__self.own);
    mproc__self.own = NULL;
    for (mproc__child *c; (c = mproc__self.children) != NULL;) {
        mproc__self.children = c->next;
        if (c != mproc__starting) {
            mproc__child_fds_close(c);
            free(c);
            continue;
        }
        mproc__close(&c->life[1]);
        mproc__close(&c->pidfd);
        mproc__self.own = c;
    }
    for (mproc__last_call *call; (call = mproc__self.last_calls) != NULL; free(call))
        mproc__self.last_calls = call->next;
    mproc__conns_inherit();
    mproc__files_inherit();
    mproc__pools_inherit();
}

MPROC__FN void mproc__at_exit(void);

MPROC__FN int mproc__self_prepare(void) {
    mproc__self.pid = getpid();
    mproc__self.current.pid = mproc__self.pid;
    mproc__self.current.name = "MainProcess";
    mproc__self.current.exitcode = MPROC_NO_EXITCODE;
    mproc__spinning_helps = mproc__affinity() > 1;
    void *head[2] = {NULL, NULL}; /* and its size */
    mproc__robust_works = syscall(SYS_get_robust_list, 0, &head[0], &head[1]) == 0;
    int fd = mproc__pidfd_open(mproc__self.pid);
    mproc__self.pidfd_works = fd >= 0 || errno == EMFILE || errno == ENFILE;
    mproc__close(&fd);
    int error = pthread_key_create(&mproc__seat_key, mproc__seat_leave);
    if (error != 0) return -error;
    if (atexit(mproc__at_exit) != 0) error = ENOMEM;
    if (error == 0) /* last: a second time, after a failure, they would lock twice */
        error = pthread_atfork(mproc__before_fork, mproc__after_fork_parent, mproc__after_fork_child);
    if (error != 0) pthread_key_delete(mproc__seat_key);
    return -error;
}

/* Called first by every function that makes something. 0, or -ENOMEM. One thread prepares, the others wait.
   Not by a mutex: a child forked before the handlers are installed would inherit it locked, for ever. This
   tells it by the parent's pid that nobody is about it here. */
MPROC__FN int mproc__init(void) {
    if (MPROC__LOAD(&mproc__self.ready)) return 0;
    int error = 0;
    uint32_t me = (uint32_t)getpid(), by;
    while ((by = MPROC__LOAD(&mproc__self.preparing)) == me || !mproc__cas32(&mproc__self.preparing, by, me))
        mproc__sleep(MPROC__MS / 10);
    if (!mproc__self.ready) {
        if (mproc__shared == NULL) error = mproc__arena_map();
        if (error == 0) error = mproc__self_prepare();
        if (error == 0) MPROC__STORE(&mproc__self.ready, true);
    }
    MPROC__STORE(&mproc__self.preparing, 0);
    return error;
}

/* ---- Ports: descriptors of objects that are made late -----------------------------------------------------
 */

/* A queue's pipe is inherited by every process forked after the queue was made: fork copies the table above
   too, so the child knows it has it. A process forked earlier opens the pipe, at its first use of the queue,
   out of /proc/PID/fd: of the holder (the maker, or who had to search last), or of any other process that
   has it. */

typedef struct mproc__port {
    uint32_t number;   /* its place in every process's table */
    mproc__u64 serial; /* never used twice, so a stale table entry shows */
    uint64_t inode[2]; /* of the descriptors, 0: none; what was opened is checked against it */
    uint32_t holder;   /* the process where to look first; */
    int fd[2];         /* under these numbers. A torn entry only fails the check */
} mproc__port;

/* Puts fd into this process's table, for good or until the number is used by another object. */
MPROC__FN void mproc__port_keep(mproc__local_port *slot, uint64_t serial, const int fd[2]) {
    if (slot->serial != 0) {
        MPROC__STORE(&slot->serial, (uint64_t)0);
        mproc__close(&slot->fd[0]);
        mproc__close(&slot->fd[1]);
    }
    MPROC__STORE(&slot->fd[0], fd[0]);
    MPROC__STORE(&slot->fd[1], fd[1]);
    slot->conn = NULL;
    MPROC__STORE(&slot->user, 0);
    MPROC__STORE(&slot->serial, serial);
}

MPROC__FN int mproc__port_number(void) {
    for (uint32_t i = 0; i < MPROC__PORTS; i++) {
        uint32_t *word = &mproc__shared->port[i / 32], bit = (uint32_t)1 << i % 32;
        if (MPROC__LOAD(word) == UINT32_MAX) i |= 31;
        else if ((__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST) & bit) == 0) return (int)i;
    }
    return -ENFILE;
}

MPROC__FN uint64_t mproc__inode(int fd) {
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* Closes this process's descriptors for the port, and enters this serial for it: 0, so that it may open them
   again, or the complement of the port's: done with it, as the children are that it forks from now on. */
MPROC__FN void mproc__port_drop(mproc__port *port, uint64_t serial) {
    const int none[2] = {-1, -1};
    pthread_mutex_lock(&mproc__self.lock);
    mproc__port_keep(&mproc__self.port[port->number], serial, none);
    pthread_mutex_unlock(&mproc__self.lock);
}
MPROC__FN void mproc__port_free(mproc__port *port) {
    uint32_t bit = (uint32_t)1 << port->number % 32;
    mproc__port_drop(port, 0);
    __atomic_fetch_and(&mproc__shared->port[port->number / 32], ~bit, __ATOMIC_SEQ_CST);
}

/* From here on this process only reads from the port. */
MPROC__FN void mproc__port_close_write(mproc__port *port) {
    pthread_mutex_lock(&mproc__self.lock);
    mproc__local_port *slot = &mproc__self.port[port->number];
    if (slot->serial == port->serial) mproc__close(&slot->fd[1]);
    pthread_mutex_unlock(&mproc__self.lock);
}

/* Makes fd[0] (to read) and fd[1] (to write) a port of the family. On failure they are still the caller's. */
MPROC__FN int mproc__port_make(mproc__port *port, const int fd[2], mproc_conn *conn) {
    int number = mproc__port_number();
    if (number < 0) return number;
    uint32_t used = MPROC__LOAD(&mproc__shared->ports_used), end = (uint32_t)number + 1;
    while (used < end && !MPROC__CAS(&mproc__shared->ports_used, &used, end)) continue;
    port->number = (uint32_t)number;
    port->serial = MPROC__ADD(&mproc__shared->serial, 1);
    port->holder = (uint32_t)mproc__self.pid;
    for (int i = 0; i < 2; i++) {
        port->fd[i] = fd[i];
        port->inode[i] = mproc__inode(fd[i]);
    }
    pthread_mutex_lock(&mproc__self.lock);
    mproc__port_keep(&mproc__self.port[number], port->serial, fd);
    mproc__self.port[number].conn = conn;
    pthread_mutex_unlock(&mproc__self.lock);
    return 0;
}

/* Opens a descriptor of the port by what /proc calls another process's; -1 when that is not it. */
MPROC__FN int mproc__port_open(const mproc__port *port, const char *path, int side) {
    struct stat st; /* look before opening: opening a stranger's file could do things, and who has it for
                       the other direction has the other end */
    char is[48], wanted[48];
    snprintf(wanted, sizeof wanted, "pipe:[%llu]", (unsigned long long)port->inode[side]);
    ssize_t n = readlink(path, is, sizeof is - 1);
    is[n > 0 ? n : 0] = 0;
    if (strcmp(is, wanted) != 0 || lstat(path, &st) != 0) return -1;
    if ((st.st_mode & (side == 0 ? S_IRUSR : S_IWUSR)) == 0) return -1;
    int fd = open(path, (side == 0 ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || mproc__inode(fd) == port->inode[side]) return mproc__fd_above_stdio(fd);
    close(fd);
    return -1;
}

/* Opens by this path what is still lacking. 0: nothing lacks; -EBADF: it is not there; -EMFILE, -ENFILE. */
MPROC__FN int mproc__port_take(const mproc__port *port, const char *path, int fd[2]) {
    int error = 0;
    for (int side = 0; side < 2; side++) {
        if (fd[side] >= 0 || port->inode[side] == 0) continue;
        errno = 0;
        fd[side] = mproc__port_open(port, path, side);
        if (fd[side] < 0) error = errno == EMFILE || errno == ENFILE ? -errno : -EBADF;
    }
    return error;
}

MPROC__FN int mproc__port_adopt(mproc__port *port, mproc__local_port *slot) {
    char path[64];
    int fd[2] = {-1, -1}, error = -EBADF;
    for (int i = 0; i < 2 && error == -EBADF; i++) {
        snprintf(path, sizeof path, "/proc/%u/fd/%d", (unsigned)MPROC__LOAD(&port->holder),
                 MPROC__LOAD(&port->fd[i]));
        error = mproc__port_take(port, path, fd);
    }
    bool search = error == -EBADF;
    glob_t all;
    if (search && glob("/proc/[0-9]*/fd/*", GLOB_NOSORT, NULL, &all) == 0) {
        for (size_t i = 0; i < all.gl_pathc && error == -EBADF; i++)
            error = mproc__port_take(port, all.gl_pathv[i], fd);
        globfree(&all);
    }
    if (error != 0) {
        mproc__close(&fd[0]);
        mproc__close(&fd[1]);
        return error;
    }
    mproc__port_keep(slot, port->serial, fd);
    for (int i = 0; search && i < 2; i++) MPROC__STORE(&port->fd[i], fd[i]);
    if (search) MPROC__STORE(&port->holder, (uint32_t)mproc__self.pid);
    return 0;
}

/* This process's descriptors for the port. 0, or -EBADF when no living process has it (or no /proc). */
MPROC__FN int mproc__port_fds(mproc__port *port, int fd[2]) {
    uint32_t number = MPROC__LOAD(&port->number);
    if (number >= MPROC__PORTS) return MPROC_EINVAL; /* its object was freed just now */
    mproc__local_port *slot = &mproc__self.port[number];
    int error = 0;
    if (MPROC__LOAD(&slot->serial) != port->serial) {
        pthread_mutex_lock(&mproc__self.lock);
        if (slot->serial == ~port->serial) error = MPROC_ECLOSED;
        else if (slot->serial != port->serial) error = mproc__port_adopt(port, slot);
        pthread_mutex_unlock(&mproc__self.lock);
    }
    fd[0] = MPROC__LOAD(&slot->fd[0]);
    fd[1] = MPROC__LOAD(&slot->fd[1]);
    return error;
}

/* ---- Locks --------------------------------------------------------------------------------------------- */

/* A lock is a robust mutex and nothing else: who holds it is known to libc and the kernel alone. `died` names
   the thread that got it from a dead holder, so it needs no repair when that thread dies too. */

struct mproc_lock {
    mproc__tag tag;
    mproc__mutex mutex;
    uint32_t died; /* tid of the holder that was told MPROC_EOWNERDEAD; or this: the next one is to be told */
};
#define MPROC__UNTOLD UINT32_MAX

MPROC__FN bool mproc__is_lock(const mproc_lock *lock) {
    return mproc__tag_is(lock, MPROC__LOCK) || mproc__tag_is(lock, MPROC__HIDDEN_LOCK);
}

MPROC__FN int mproc__lock_init(mproc_lock *lock, uint32_t kind) {
    bool again = kind == MPROC__RLOCK; /* its holder may acquire it again */
    int error = mproc__mutex_init(&lock->mutex, again ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_ERRORCHECK);
    lock->died = 0;
    if (error == 0) mproc__tag_set(&lock->tag, kind);
    return error;
}

/* Objects begin with a tag: zeroed memory first, the tag when all else stands. */
MPROC__FN void *mproc__object_new(size_t size) {
    int error = mproc__init();
    if (error != 0) return mproc__fail(error);
    void *object = mproc__alloc(size, true);
    return object != NULL ? object : mproc__fail(MPROC_ENOMEM);
}
MPROC__FN void *mproc__object_ready(void *object, uint32_t kind, int error) {
    if (error == 0) {
        mproc__tag_set((mproc__tag *)object, kind);
        return object;
    }
    mproc__dealloc(object);
    return mproc__fail(error);
}
/* Of several that free it at the same time, one succeeds. */
MPROC__FN bool mproc__tag_end(mproc__tag *tag) { return mproc__cas32(&tag->magic, mproc__magic(tag), 0); }

/* Frees an object that is in use only while somebody waits. */
MPROC__FN int mproc__unawaited_free(void *object, uint32_t kind) {
    if (object == NULL) return 0;
    if (!mproc__tag_is(object, kind)) return MPROC_EINVAL;
    if (mproc__awaited(object)) return MPROC_EBUSY;
    if (!mproc__tag_end((mproc__tag *)object)) return MPROC_EINVAL;
    mproc__dealloc(object);
    return 0;
}

MPROC__FN mproc_lock *mproc__lock_make(uint32_t kind) {
    mproc_lock *lock = (mproc_lock *)mproc__object_new(sizeof *lock);
    if (lock == NULL) return NULL;
    return (mproc_lock *)mproc__object_ready(lock, kind, mproc__lock_init(lock, kind));
}
MPROC_DEF mproc_lock *mproc_lock_new(void) { return mproc__lock_make(MPROC__LOCK); }

/* The holder before died: this one is told, and later holders find a sound mutex. */
MPROC__SLOW int mproc__lock_inherited(mproc_lock *lock) {
    MPROC__STORE(&lock->died, (uint32_t)mproc__gettid());
    mproc__mutex_repaired(&lock->mutex);
    return MPROC_EOWNERDEAD;
}

MPROC__SLOW int mproc__lock_wait(mproc_lock *lock, double timeout) {
    int64_t deadline;
    if (!mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    if (deadline == 0) return MPROC_ETIMEDOUT;
    mproc__waits_on(lock);
    int error = mproc__mutex_lock(&lock->mutex, deadline);
    if (error == -EDEADLK && deadline != MPROC__NEVER) { /* its own: nobody else can release it */
        for (int64_t left; (left = mproc__left(deadline)) > 0;) mproc__sleep(left);
        error = MPROC_ETIMEDOUT;
    }
    mproc__waits_on(NULL);
    if (error == 0 && lock->died == MPROC__UNTOLD) error = -EOWNERDEAD;
    return error == -EOWNERDEAD ? mproc__lock_inherited(lock) : error;
}

MPROC__FN int mproc__lock_take(mproc_lock *lock, double timeout) {
    int error = pthread_mutex_trylock(&lock->mutex);
    if (error == 0 && lock->died != MPROC__UNTOLD) return 0;
    if (error == 0 || error == EOWNERDEAD) return mproc__lock_inherited(lock);
    return error == EBUSY || error == EDEADLK ? mproc__lock_wait(lock, timeout) : -error;
}
MPROC_DEF int mproc_lock_acquire(mproc_lock *lock, double timeout) {
    return mproc__is_lock(lock) && timeout == timeout ? mproc__lock_take(lock, timeout) : MPROC_EINVAL;
}

MPROC_DEF int mproc_lock_release(mproc_lock *lock) {
    if (!mproc__is_lock(lock)) return MPROC_EINVAL;
    if (lock->died != 0 && lock->died == (uint32_t)mproc__gettid()) MPROC__STORE(&lock->died, 0);
    return mproc__mutex_unlock(&lock->mutex);
}

MPROC_DEF bool mproc_lock_owner_died(mproc_lock *lock) {
    return mproc__is_lock(lock) && lock->died != 0 && lock->died == (uint32_t)mproc__gettid();
}

MPROC__FN bool mproc__mutex_mine(const mproc__mutex *m) {
    return mproc__mutex_holder(m) == (uint32_t)mproc__gettid();
}

MPROC__FN int mproc__lock_end(mproc_lock *lock, uint32_t kind) {
    if (mproc__tag_is(lock, kind) && mproc__mutex_holder(&lock->mutex) != 0) return MPROC_EBUSY;
    return mproc__unawaited_free(lock, kind);
}
MPROC_DEF int mproc_lock_free(mproc_lock *lock) { return mproc__lock_end(lock, MPROC__LOCK); }

MPROC_DEF mproc__guard mproc__guard_enter(mproc_lock *lock) {
    int error = mproc_lock_acquire(lock, MPROC_FOREVER);
    bool held = error == 0 || error == MPROC_EOWNERDEAD;
    mproc__guard guard = {held ? lock : NULL, held};
    if (!held) errno = -error;
    return guard;
}

MPROC_DEF void mproc__guard_leave(mproc__guard *guard) {
    if (guard->lock != NULL) mproc_lock_release(guard->lock);
}

/* ---- Shared values and arrays -------------------------------------------------------------------------- */

/* The caller's pointer is the data; right before it stands a tag, before that what the library needs. */

typedef struct mproc__array {
    mproc_lock lock;
    size_t size; /* of an item */
    size_t n;
} mproc__array;

typedef struct mproc__message mproc__message; /* a queue's message too large for its frame, or taken */
struct mproc__message {
    mproc__message *next; /* while it waits, put back */
    size_t size;
};

#define MPROC__ROOM(type)   ((sizeof(type) + sizeof(mproc__tag) + 15) & ~(size_t)15)
#define MPROC__ARRAY_ROOM   MPROC__ROOM(mproc__array)
#define MPROC__MESSAGE_ROOM MPROC__ROOM(mproc__message)

MPROC__FN mproc__tag *mproc__tag_before(const void *data) {
    return (mproc__tag *)((uintptr_t)data - sizeof(mproc__tag));
}
MPROC__FN mproc__array *mproc__array_of(const void *data) {
    if (data == NULL || !mproc__tag_is(mproc__tag_before(data), MPROC__ARRAY)) return NULL;
    return (mproc__array *)((uintptr_t)data - MPROC__ARRAY_ROOM);
}
MPROC__FN mproc__message *mproc__message_of(const void *data) {
    if (data == NULL || !mproc__tag_is(mproc__tag_before(data), MPROC__MESSAGE)) return NULL;
    return (mproc__message *)((uintptr_t)data - MPROC__MESSAGE_ROOM);
}
MPROC__FN void *mproc__message_data(mproc__message *m) { return (char *)m + MPROC__MESSAGE_ROOM; }

MPROC_DEF void *mproc__array_new(size_t size, size_t n, const void *init) {
    if (size == 0 || n == 0) return mproc__fail(MPROC_EINVAL);
    int error = mproc__init();
    if (error != 0) return mproc__fail(error);
    if (n > (SIZE_MAX - MPROC__ARRAY_ROOM) / size) return mproc__fail(MPROC_ENOMEM);
    mproc__array *array = (mproc__array *)mproc__alloc(MPROC__ARRAY_ROOM + size * n, init == NULL);
    if (array == NULL) return mproc__fail(MPROC_ENOMEM);
    array->size = size;
    array->n = n;
    error = mproc__lock_init(&array->lock, MPROC__HIDDEN_LOCK);
    if (error != 0) {
        mproc__dealloc(array);
        return mproc__fail(error);
    }
    char *data = (char *)array + MPROC__ARRAY_ROOM;
    if (init != NULL) memcpy(data, init, size * n);
    mproc__tag_set(mproc__tag_before(data), MPROC__ARRAY);
    return data;
}

MPROC_DEF void *mproc__array_from(size_t size, size_t n, const void *source) {
    if (source == NULL) return mproc__fail(MPROC_EINVAL);
    return mproc__array_new(size, n, source);
}

MPROC_DEF void *mproc_shm_new(size_t bytes) { return mproc__array_new(1, bytes, NULL); }

MPROC_DEF size_t mproc_array_len(const void *array) {
    const mproc__array *a = mproc__array_of(array);
    const mproc__message *m = mproc__message_of(array);
    return a != NULL ? a->n : m != NULL ? m->size : 0;
}

MPROC_DEF mproc_lock *mproc_lock_of(const void *shared) {
    mproc__array *a = mproc__array_of(shared);
    return a != NULL ? &a->lock : NULL;
}

MPROC_DEF int mproc_free(void *shared) {
    if (shared == NULL) return 0;
    mproc__message *m = mproc__message_of(shared);
    mproc__array *a = mproc__array_of(shared);
    if (m == NULL && a == NULL) return MPROC_EINVAL;
    if (a != NULL && (mproc__mutex_holder(&a->lock.mutex) != 0 || mproc__awaited(&a->lock)))
        return MPROC_EBUSY;
    if (!mproc__tag_end(mproc__tag_before(shared))) return MPROC_EINVAL;
    if (a != NULL) MPROC__STORE(&a->lock.tag.magic, 0);
    mproc__dealloc(m != NULL ? (void *)m : (void *)a);
    return 0;
}

/* ---- Recursive lock ------------------------------------------------------------------------------------ */

/* A lock of another kind. */

struct mproc_rlock {
    mproc_lock lock;
};

MPROC_DEF mproc_rlock *mproc_rlock_new(void) { return (mproc_rlock *)mproc__lock_make(MPROC__RLOCK); }

MPROC_DEF int mproc_rlock_acquire(mproc_rlock *lock, double timeout) {
    if (!mproc__tag_is(lock, MPROC__RLOCK) || timeout != timeout) return MPROC_EINVAL;
    return mproc__lock_take(&lock->lock, timeout);
}

MPROC_DEF int mproc_rlock_release(mproc_rlock *lock) {
    return mproc__tag_is(lock, MPROC__RLOCK) ? mproc__mutex_unlock(&lock->lock.mutex) : MPROC_EINVAL;
}

MPROC_DEF int mproc_rlock_free(mproc_rlock *lock) {
    return mproc__lock_end((mproc_lock *)lock, MPROC__RLOCK);
}

/* ---- Semaphore ----------------------------------------------------------------------------------------- */

/* One word: lowest bit "somebody sleeps", above it the count. So release is one compare-and-swap, and touches
   nothing afterwards: whoever got the permit may free the semaphore. A permit taken by a process that was
   killed is gone: nobody else may give it back. */

struct mproc_semaphore {
    mproc__tag tag;
    uint32_t word;
    uint32_t most; /* bounded: release goes no further */
};

MPROC__FN mproc_semaphore *mproc__semaphore_make(unsigned value, uint32_t most) {
    if (value > INT32_MAX) return (mproc_semaphore *)mproc__fail(MPROC_EINVAL);
    mproc_semaphore *s = (mproc_semaphore *)mproc__object_new(sizeof *s);
    if (s == NULL) return NULL;
    s->word = value << 1;
    s->most = most;
    return (mproc_semaphore *)mproc__object_ready(s, MPROC__SEMAPHORE, 0);
}

MPROC_DEF mproc_semaphore *mproc_semaphore_new(unsigned value) {
    return mproc__semaphore_make(value, INT32_MAX);
}
MPROC_DEF mproc_semaphore *mproc_semaphore_new_bounded(unsigned value) {
    return mproc__semaphore_make(value, value);
}

MPROC__FN bool mproc__semaphore_try(mproc_semaphore *s) {
    uint32_t word = MPROC__LOAD(&s->word);
    while (word > 1 && !MPROC__CAS(&s->word, &word, word - 2)) continue;
    return word > 1;
}

MPROC_DEF int mproc_semaphore_acquire(mproc_semaphore *semaphore, double timeout) {
    int64_t deadline;
    if (!mproc__tag_is(semaphore, MPROC__SEMAPHORE) || !mproc__deadline(timeout, &deadline))
        return MPROC_EINVAL;
    if (mproc__semaphore_try(semaphore)) return 0;
    if (deadline == 0) return MPROC_ETIMEDOUT;
    bool got, in_time = true;
    mproc__waits_on(semaphore);
    do {
        __atomic_fetch_or(&semaphore->word, 1, __ATOMIC_SEQ_CST);
        got = mproc__semaphore_try(semaphore);
        if (!got) in_time = mproc__nap(&semaphore->word, 1, deadline);
    } while (!got && in_time);
    if (MPROC__LOAD(&semaphore->word) > 1) mproc__futex_wake(&semaphore->word, 1); /* one more may go on */
    mproc__waits_on(NULL);
    return got ? 0 : MPROC_ETIMEDOUT;
}

MPROC_DEF int mproc_semaphore_release(mproc_semaphore *semaphore) {
    if (!mproc__tag_is(semaphore, MPROC__SEMAPHORE)) return MPROC_EINVAL;
    uint32_t word = MPROC__LOAD(&semaphore->word);
    do {
        if (word >> 1 >= semaphore->most) return -ERANGE;
    } while (!MPROC__CAS(&semaphore->word, &word, (word & ~(uint32_t)1) + 2));
    if (word & 1) mproc__futex_wake(&semaphore->word, 1);
    return 0;
}

MPROC_DEF int mproc_semaphore_value(mproc_semaphore *semaphore) {
    return mproc__tag_is(semaphore, MPROC__SEMAPHORE) ? (int)(MPROC__LOAD(&semaphore->word) >> 1)
                                                      : MPROC_EINVAL;
}

MPROC_DEF int mproc_semaphore_free(mproc_semaphore *semaphore) {
    return mproc__unawaited_free(semaphore, MPROC__SEMAPHORE);
}

/* ---- Event --------------------------------------------------------------------------------------------- */

/* One word: lowest bit "set", above it "somebody may sleep", above that how often it was set. Who waits
   remembers that number; any other one means it was set meanwhile, though it may be clear again. set is one
   compare-and-swap, and touches nothing afterwards: whoever it lets go may free the event. */

struct mproc_event {
    mproc__tag tag;
    uint32_t word;
};

MPROC_DEF mproc_event *mproc_event_new(void) {
    mproc_event *e = (mproc_event *)mproc__object_new(sizeof *e);
    return e == NULL ? NULL : (mproc_event *)mproc__object_ready(e, MPROC__EVENT, 0);
}

MPROC_DEF int mproc_event_set(mproc_event *event) {
    if (!mproc__tag_is(event, MPROC__EVENT)) return MPROC_EINVAL;
    uint32_t word = MPROC__LOAD(&event->word);
    do {
        if (word & 1) return 0;
    } while (!MPROC__CAS(&event->word, &word, ((word | 3) ^ 2) + 4)); /* set, nobody asleep, one set more */
    if (word & 2) mproc__futex_wake(&event->word, INT32_MAX);
    return 0;
}

MPROC_DEF int mproc_event_clear(mproc_event *event) {
    if (!mproc__tag_is(event, MPROC__EVENT)) return MPROC_EINVAL;
    __atomic_fetch_and(&event->word, ~(uint32_t)1, __ATOMIC_SEQ_CST);
    return 0;
}

MPROC_DEF bool mproc_event_is_set(mproc_event *event) {
    return mproc__tag_is(event, MPROC__EVENT) && (MPROC__LOAD(&event->word) & 1) != 0;
}

MPROC_DEF int mproc_event_wait(mproc_event *event, double timeout) {
    int64_t deadline;
    if (!mproc__tag_is(event, MPROC__EVENT) || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    uint32_t first = MPROC__LOAD(&event->word), sets = ~(uint32_t)3, word;
    if (first & 1) return 0;
    if (deadline == 0) return MPROC_ETIMEDOUT;
    bool was_set = false;
    mproc__waits_on(event); /* before spinning: who frees the event must know */
    for (int spins = mproc__spin_begin(); mproc__spins(&spins, was_set);)
        was_set = (__atomic_load_n(&event->word, __ATOMIC_ACQUIRE) & sets) != (first & sets);
    do {
        word = MPROC__LOAD(&event->word);
        while ((word & sets) == (first & sets) && !MPROC__CAS(&event->word, &word, word | 2)) continue;
        was_set = (word & sets) != (first & sets);
    } while (!was_set && mproc__nap(&event->word, word | 2, deadline));
    mproc__waits_on(NULL);
    return was_set ? 0 : MPROC_ETIMEDOUT;
}

MPROC_DEF int mproc_event_free(mproc_event *event) { return mproc__unawaited_free(event, MPROC__EVENT); }

/* ---- Condition ----------------------------------------------------------------------------------------- */

/* The waiters form a list under the condition's lock, first come first; each sleeps on a word of its own.
   notify marks the first n that live and wakes them, so it never waits for anybody. A waiter takes its entry
   out itself, with the lock held again; one that was marked and died before that passes its notification on:
   the other waiters look for that when their bounded sleep ends, and notify does in passing. The list changes
   by single stores, so a holder of the lock killed meanwhile leaves it whole. */

typedef struct mproc__waiter mproc__waiter;
struct mproc__waiter {
    mproc__waiter *next;
    mproc__u64 who;    /* pid << 32 | tid */
    mproc__seat *seat; /* names this entry while the thread lives, whose number may come again; or NULL */
    uint32_t asleep;   /* flag: 1 until notified */
};

struct mproc_condition {
    mproc__tag tag;
    mproc_lock *lock; /* the caller's, or: */
    mproc_lock own;
    mproc__waiter *first;
};

MPROC_DEF mproc_condition *mproc_condition_new(mproc_lock *lock) {
    if (lock != NULL && !mproc__is_lock(lock)) return (mproc_condition *)mproc__fail(MPROC_EINVAL);
    mproc_condition *c = (mproc_condition *)mproc__object_new(sizeof *c);
    if (c == NULL) return NULL;
    c->lock = lock != NULL ? lock : &c->own;
    return (mproc_condition *)mproc__object_ready(c, MPROC__CONDITION,
                                                  mproc__lock_init(&c->own, MPROC__HIDDEN_LOCK));
}

MPROC_DEF int mproc_condition_acquire(mproc_condition *condition, double timeout) {
    return mproc__tag_is(condition, MPROC__CONDITION) ? mproc_lock_acquire(condition->lock, timeout)
                                                      : MPROC_EINVAL;
}
MPROC_DEF int mproc_condition_release(mproc_condition *condition) {
    return mproc__tag_is(condition, MPROC__CONDITION) ? mproc_lock_release(condition->lock) : MPROC_EINVAL;
}

MPROC__FN bool mproc__waiter_alive(const mproc__waiter *w) {
    if (w->seat == NULL) return mproc__who_alive(w->who);
    return MPROC__LOAD(&w->seat->getting) == (uintptr_t)w && mproc__seat_alive(w->seat);
}

/* With the lock held: takes an entry out of the list and frees it. */
MPROC__FN void mproc__waiter_remove(mproc_condition *c, mproc__waiter *w) {
    mproc__waiter **link = &c->first;
    while (*link != NULL && *link != w) link = &(*link)->next;
    if (*link == w) MPROC__STORE(link, w->next);
    mproc__dealloc(w);
}

/* With the lock held: notifies up to n living waiters, and one more for each notified one that has died. */
MPROC__FN void mproc__condition_notify(mproc_condition *c, size_t n) {
    for (mproc__waiter *w = c->first, *next; w != NULL; w = next) {
        next = w->next;
        bool notified = MPROC__LOAD(&w->asleep) == 0;
        if (n == 0 && !notified) continue;
        if (!mproc__waiter_alive(w)) {
            mproc__waiter_remove(c, w);
            if (notified && n != SIZE_MAX) n++;
        } else if (!notified) {
            mproc__flag_wake(&w->asleep, 1);
            n -= n != SIZE_MAX;
        }
    }
}

/* 0 for who may use it: with the lock held. */
MPROC__FN int mproc__condition_held(const mproc_condition *c) {
    if (!mproc__tag_is(c, MPROC__CONDITION)) return MPROC_EINVAL;
    return mproc__mutex_mine(&c->lock->mutex) ? 0 : MPROC_EPERM;
}

MPROC__FN int mproc__condition_call(mproc_condition *c, size_t n) {
    int error = mproc__condition_held(c);
    if (error == 0) mproc__condition_notify(c, n);
    return error;
}
MPROC_DEF int mproc_condition_notify(mproc_condition *condition, unsigned n) {
    return mproc__condition_call(condition, n);
}
MPROC_DEF int mproc_condition_notify_all(mproc_condition *condition) {
    return mproc__condition_call(condition, SIZE_MAX);
}

/* With the lock held: enters the calling thread at the end of the list. */
MPROC__FN mproc__waiter *mproc__waiter_enter(mproc_condition *c) {
    mproc__waiter *w = (mproc__waiter *)mproc__alloc(sizeof *w, true), **link = &c->first;
    if (w == NULL) return NULL;
    w->who = mproc__own_who();
    w->seat = mproc__seat_get();
    if (w->seat != NULL) MPROC__STORE(&w->seat->getting, (uintptr_t)w);
    w->asleep = 1;
    while (*link != NULL) link = &(*link)->next;
    MPROC__STORE(link, w);
    return w;
}

/* Sleeps until notified or the deadline, without the lock. 0, or MPROC_EOWNERDEAD with the lock held. */
MPROC__FN int mproc__waiter_sleep(mproc_condition *c, mproc__waiter *w, int64_t deadline) {
    int error = 0;
    mproc__waits_on(c);
    while (mproc__nap(&w->asleep, 1, deadline) && MPROC__LOAD(&w->asleep)) {
        error = mproc_lock_acquire(c->lock, 0);
        if (error == MPROC_EOWNERDEAD) break;
        if (error != 0) continue;
        mproc__condition_notify(c, 0); /* hands on what the dead were told */
        mproc_lock_release(c->lock);
    }
    mproc__waits_on(NULL);
    return error == MPROC_EOWNERDEAD ? error : 0;
}

MPROC__FN int mproc__condition_wait(mproc_condition *c, int64_t deadline) {
    int error = mproc__condition_held(c);
    if (error != 0) return error;
    mproc__waiter *w = mproc__waiter_enter(c);
    if (w == NULL) return MPROC_ENOMEM;
    mproc_lock_release(c->lock);
    error = mproc__waiter_sleep(c, w, deadline);
    if (error == 0) error = mproc_lock_acquire(c->lock, MPROC_FOREVER);
    if (error == 0 && MPROC__LOAD(&w->asleep)) error = MPROC_ETIMEDOUT;
    if (w->seat != NULL) MPROC__STORE(&w->seat->getting, 0);
    mproc__waiter_remove(c, w);
    return error;
}

MPROC_DEF int mproc_condition_wait(mproc_condition *condition, double timeout) {
    int64_t deadline;
    return mproc__deadline(timeout, &deadline) ? mproc__condition_wait(condition, deadline) : MPROC_EINVAL;
}

MPROC_DEF int mproc_condition_wait_for(mproc_condition *condition, bool (*predicate)(void *ctx), void *ctx,
                                       double timeout) {
    int64_t deadline;
    if (predicate == NULL || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    int error = mproc__condition_held(condition);
    while (error == 0 && !predicate(ctx)) error = mproc__condition_wait(condition, deadline);
    return error == MPROC_ETIMEDOUT && predicate(ctx) ? 0 : error;
}

/* With the lock held: no condition any more, unless a waiter lives. */
MPROC__FN int mproc__condition_end(mproc_condition *c) {
    if (!mproc__tag_is(c, MPROC__CONDITION)) return MPROC_EINVAL;
    for (const mproc__waiter *w = c->first; w != NULL; w = w->next)
        if (mproc__waiter_alive(w)) return MPROC_EBUSY;
    if (!mproc__tag_end(&c->tag)) return MPROC_EINVAL;
    while (c->first != NULL) mproc__waiter_remove(c, c->first); /* the dead */
    return 0;
}

/* Under the lock, like all that looks at the list: a notified waiter takes itself out once it has that. It
   may be freed by who holds it, if it is the caller's. */
MPROC_DEF int mproc_condition_free(mproc_condition *condition) {
    if (condition == NULL) return 0;
    if (!mproc__tag_is(condition, MPROC__CONDITION)) return MPROC_EINVAL;
    mproc_lock *lock = condition->lock;
    bool own = lock == &condition->own;
    if (own && mproc__awaited(lock)) return MPROC_EBUSY;
    int error, taken = mproc_lock_acquire(lock, 0); /* EINVAL: it was the caller's, who has freed it */
    if (taken == MPROC_ETIMEDOUT && (own || !mproc__mutex_mine(&lock->mutex))) return MPROC_EBUSY;
    error = mproc__condition_end(condition);
    if (taken == MPROC_EOWNERDEAD) MPROC__STORE(&lock->died, MPROC__UNTOLD); /* the next one is told of it */
    if (taken == 0 || taken == MPROC_EOWNERDEAD) mproc_lock_release(lock);
    if (error == 0) mproc__dealloc(condition);
    return error;
}

/* ---- Barrier ------------------------------------------------------------------------------------------- */

/* One word holds {generation, broken, how the last 16 generations ended, arrived}: arriving, opening,
   breaking and resetting are one compare-and-swap each, and touch nothing afterwards: whoever is let go may
   free the barrier. Its upper half changes whenever waiters should look, so they sleep on that. Who arrives
   notes barrier, generation and place in its seat first; so a waiter whose bounded sleep ends can count the
   living ones, and when there are fewer than have arrived, a party was killed and the barrier breaks. */

struct mproc_barrier {
    mproc__tag tag;
    mproc__u64 word; /* generation << 33 | broken << 32 | resets << 16 | arrived */
    uint32_t parties;
};

#define MPROC__BROKEN ((uint64_t)1 << 32)

MPROC__FN uint32_t mproc__arrived(uint64_t word) { return (uint32_t)(word & 0xffff); }
MPROC__FN uint32_t mproc__generation(uint64_t word) { return (uint32_t)(word >> 33); }

/* The word of the next generation, nobody arrived; the one that ends was reset or not. */
MPROC__FN uint64_t mproc__next_generation(uint64_t word, bool reset) {
    uint64_t ends = (word >> 16 & 0x7fff) << 1 | (reset ? 1u : 0u);
    return ((word >> 33) + 1) << 33 | ends << 16;
}

MPROC_DEF mproc_barrier *mproc_barrier_new(unsigned parties) {
    if (parties == 0 || parties > 0x7fff) return (mproc_barrier *)mproc__fail(MPROC_EINVAL);
    mproc_barrier *b = (mproc_barrier *)mproc__object_new(sizeof *b);
    if (b == NULL) return NULL;
    b->parties = parties;
    return (mproc_barrier *)mproc__object_ready(b, MPROC__BARRIER, 0);
}

MPROC__FN uint32_t *mproc__barrier_bell(mproc_barrier *b) { /* the upper half of the word */
    return (uint32_t *)(void *)&b->word + (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
}
MPROC__FN void mproc__barrier_ring(mproc_barrier *b) { mproc__futex_wake(mproc__barrier_bell(b), INT32_MAX); }

/* Breaks this generation, unless it has ended. */
MPROC__FN bool mproc__barrier_break(mproc_barrier *b, uint32_t generation) {
    uint64_t word = MPROC__LOAD(&b->word);
    do {
        if (mproc__generation(word) != generation || (word & MPROC__BROKEN)) return false;
    } while (!MPROC__CAS(&b->word, &word, word | MPROC__BROKEN));
    mproc__barrier_ring(b);
    return true;
}

/* What a party notes: as many bits of the generation as go in, its place, and what no address ends with. */
MPROC__FN uintptr_t mproc__barrier_note(uint64_t word, uint32_t place) {
    return (uintptr_t)mproc__generation(word) << 17 | place << 2 | 2;
}

/* Does every party live that has arrived in this generation? Who is about to take the next place is none. */
MPROC__FN bool mproc__barrier_whole(const mproc_barrier *b, uint64_t word) {
    uint32_t arrived = mproc__arrived(word), living = 0;
    uintptr_t first = mproc__barrier_note(word, 0);
    for (uint32_t i = 0, n = MPROC__LOAD(&mproc__shared->seats_used); i < n && living < arrived; i++) {
        mproc__seat *s = &mproc__shared->seat[i];
        if (MPROC__LOAD(&s->waiting) == (uintptr_t)b && (MPROC__LOAD(&s->getting) - first) / 4 < arrived &&
            mproc__seat_alive(s))
            living++;
    }
    return living == arrived;
}

/* How a generation that this thread waited in has ended: 1 not yet, 0 all came, or MPROC_EBROKEN. */
MPROC__FN int mproc__barrier_outcome(uint64_t word, uint32_t generation) {
    uint32_t ago = (mproc__generation(word) - generation) & 0x7fffffff;
    if (ago == 0) return word & MPROC__BROKEN ? MPROC_EBROKEN : 1;
    return ago <= 16 && (word >> 16 >> (ago - 1) & 1) ? MPROC_EBROKEN : 0;
}

MPROC__FN int mproc__barrier_await(mproc_barrier *b, uint32_t generation, int64_t deadline) {
    for (;;) {
        uint64_t word = MPROC__LOAD(&b->word);
        int outcome = mproc__barrier_outcome(word, generation);
        if (outcome <= 0) return outcome;
        bool in_time = mproc__nap(mproc__barrier_bell(b), (uint32_t)(word >> 32), deadline);
        word = MPROC__LOAD(&b->word);
        if (in_time && (mproc__barrier_outcome(word, generation) <= 0 || mproc__barrier_whole(b, word)))
            continue;
        if (mproc__barrier_break(b, generation) && !in_time) return MPROC_ETIMEDOUT;
    }
}

/* Arrives: the caller's place among the parties, or MPROC_EBROKEN. The last one sees to it that those before
   it live: no living one may have looked yet. */
MPROC__FN int mproc__barrier_arrive(mproc_barrier *b, mproc__seat *seat, uint32_t *generation) {
    for (uint64_t word; ((word = MPROC__LOAD(&b->word)) & MPROC__BROKEN) == 0;) {
        uint32_t place = mproc__arrived(word);
        bool last = place + 1 == b->parties;
        *generation = mproc__generation(word);
        MPROC__STORE(&seat->getting, mproc__barrier_note(word, place));
        if (last && !mproc__barrier_whole(b, word)) mproc__barrier_break(b, *generation);
        else if (mproc__cas64(&b->word, word, last ? mproc__next_generation(word, false) : word + 1))
            return (int)place;
    }
    return MPROC_EBROKEN;
}

MPROC_DEF int mproc_barrier_wait(mproc_barrier *barrier, double timeout) {
    int64_t deadline;
    uint32_t generation;
    if (!mproc__tag_is(barrier, MPROC__BARRIER) || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    mproc__seat *seat = mproc__seat_get();
    if (seat == NULL) return MPROC_EAGAIN;
    mproc__waits_on(barrier);
    int outcome = 0, place = mproc__barrier_arrive(barrier, seat, &generation);
    if (place >= 0 && (uint32_t)place + 1 == barrier->parties) mproc__barrier_ring(barrier);
    else if (place >= 0) outcome = mproc__barrier_await(barrier, generation, deadline);
    mproc__waits_on(NULL);
    MPROC__STORE(&seat->getting, 0);
    return outcome != 0 ? outcome : place;
}

MPROC_DEF int mproc_barrier_abort(mproc_barrier *barrier) {
    if (!mproc__tag_is(barrier, MPROC__BARRIER)) return MPROC_EINVAL;
    __atomic_fetch_or(&barrier->word, MPROC__BROKEN, __ATOMIC_SEQ_CST);
    mproc__barrier_ring(barrier);
    return 0;
}

MPROC_DEF int mproc_barrier_reset(mproc_barrier *barrier) {
    if (!mproc__tag_is(barrier, MPROC__BARRIER)) return MPROC_EINVAL;
    uint64_t word = MPROC__LOAD(&barrier->word), next;
    do { /* with nobody in it the generation goes on: who has yet to learn how an older one ended still can */
        next = mproc__arrived(word) == 0 ? word & ~MPROC__BROKEN : mproc__next_generation(word, true);
    } while (!MPROC__CAS(&barrier->word, &word, next));
    mproc__barrier_ring(barrier);
    return 0;
}

MPROC_DEF int mproc_barrier_free(mproc_barrier *barrier) {
    return mproc__unawaited_free(barrier, MPROC__BARRIER);
}

/* ---- Processes ----------------------------------------------------------------------------------------- */

/* A child is forked, watched through a pidfd (its number cannot be recycled under our eyes), and collected
   with waitid for that one child, never for any. Whoever else takes the status, the pidfd still tells the
   end. A child that must not outlive this process holds the read end of a pipe whose only write end is
   here; when this process ends, however it ends, the kernel closes that and signals the child (F_SETSIG):
   no handler, no thread, and unlike PR_SET_PDEATHSIG not tied to the life of the thread that forked. */

#define MPROC__CLOSED_ID UINT64_MAX

/* stdio may hold output that the child would write a second time. A stream that another thread is reading
   from is locked, perhaps for ever: then only what is surely output gets flushed. */
MPROC__FN void mproc__flush_stdio(void) {
    if (ftrylockfile(stdin) == 0) {
        fflush(NULL);
        funlockfile(stdin);
    } else {
        fflush(stdout);
        fflush(stderr);
    }
}

MPROC__FN mproc__child *mproc__child_new(int kind, bool daemon) {
    mproc__child *c = (mproc__child *)calloc(1, sizeof *c);
    if (c == NULL) return NULL;
    c->kind = kind;
    c->daemon = daemon;
    c->exitcode = MPROC_NO_EXITCODE;
    c->pidfd = c->life[0] = c->life[1] = c->sentinel = -1;
    c->id = MPROC__ADD(&mproc__self.last_id, 1);
    return c;
}

MPROC__FN void mproc__child_unlink(mproc__child *c) { /* with the lock held */
    mproc__child **link = &mproc__self.children;
    while (*link != NULL && *link != c) link = &(*link)->next;
    if (*link == c) *link = c->next;
    mproc__child_fds_close(c);
    free(c);
}

MPROC__FN int mproc__child_pipes(mproc__child *c, bool tied) {
    int fd[2], error = tied ? mproc__pipe(c->life, 0) : 0;
    if (error != 0 || mproc__self.pidfd_works) return error;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0) return -errno;
    error = mproc__pair_above_stdio(fd);
    if (error != 0) return error;
    c->pidfd = fd[0];
    c->sentinel = fd[1];
    return 0;
}

/* In the child: be signalled when the process at the other end of the pipe is gone. The pipe is lost if the
   child executes a program or closes all descriptors, so where the one thread of a process forked, that
   thread's end is waited for as well. */
MPROC__FN void mproc__tie(int life, int sig, bool only_thread) {
    bool tied = fcntl(life, F_SETOWN, getpid()) == 0 && fcntl(life, MPROC__F_SETSIG, sig) == 0 &&
                fcntl(life, F_SETFL, O_ASYNC) == 0;
    if (!tied || only_thread) prctl(PR_SET_PDEATHSIG, sig);
    if (mproc__poll(life, POLLIN, 0)) raise(sig); /* it was gone before the kernel knew whom to signal */
}

/* Is the calling thread the only one of its process? */
MPROC__FN bool mproc__only_thread(void) {
    struct stat st;
    return mproc__gettid() == getpid() && stat("/proc/self/task", &st) == 0 && st.st_nlink == 3;
}

/* fork(2), with the child entered in the list. In the child the record that remains is its own, `c`. */
MPROC__FN pid_t mproc__spawn(mproc__child *c) {
    bool tied = c->daemon || mproc__self.tied, only_thread = tied && mproc__only_thread();
    mproc__flush_stdio();
    pthread_mutex_lock(&mproc__self.lock); /* a thread that forks meanwhile knows which pipes to close */
    c->next = mproc__self.children;
    mproc__self.children = c;
    int error = mproc__child_pipes(c, tied);
    pthread_mutex_unlock(&mproc__self.lock);
    mproc__starting = c;
    pid_t pid = error == 0 ? fork() : -1;
    if (pid < 0 && error == 0) error = -errno;
    mproc__starting = NULL;
    if (pid == 0) {
        mproc__self.tied = tied;
        if (tied) mproc__tie(c->life[0], c->kind == MPROC__SUPERVISOR ? SIGCONT : SIGKILL, only_thread);
        return 0;
    }
    pthread_mutex_lock(&mproc__self.lock);
    if (error != 0) {
        mproc__child_unlink(c);
    } else {
        c->pid = pid;
        if (mproc__self.pidfd_works) c->pidfd = mproc__pidfd_open(pid);
        mproc__close(&c->life[0]);
        mproc__close(&c->sentinel);
    }
    pthread_mutex_unlock(&mproc__self.lock);
    return error != 0 ? error : pid;
}

/* With the lock held: gives back what nobody needs any more of a child that has ended. */
MPROC__FN void mproc__child_tidy(mproc__child *c) {
    if (!c->ended || c->users > 0 || c->fd_shown) return;
    if (c->told) mproc__child_unlink(c);
    else mproc__close(&c->pidfd);
}

/* With the lock held: collects the status if the child has ended. True when it has. */
MPROC__FN bool mproc__child_collect(mproc__child *c) {
    if (c->ended || c->pid == 0) return c->ended;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    int failed = -1, flags = WEXITED | WNOHANG;
    if (mproc__self.pidfd_works && c->pidfd >= 0)
        failed = waitid((idtype_t)MPROC__P_PIDFD, (id_t)c->pidfd, &info, flags);
    else errno = EINVAL;
    if (failed != 0 && errno == EINVAL) failed = waitid(P_PID, (id_t)c->pid, &info, flags);
    if (failed == 0 && info.si_pid == 0) return false;
    c->ended = true;
    if (failed == 0) c->exitcode = info.si_code == CLD_EXITED ? info.si_status & 0xff : -info.si_status;
    mproc__close(&c->life[1]);
    mproc__child_tidy(c);
    return true;
}

/* With the lock held, which is given up meanwhile: waits for the end of c. False: not in time. */
MPROC__FN bool mproc__child_wait(mproc__child *c, int64_t deadline) {
    c->users++;
    while (!mproc__child_collect(c)) {
        int64_t left = mproc__left(deadline);
        if (left == 0) break;
        int fd = c->pidfd;
        if (fd < 0 || !mproc__self.pidfd_works) left = mproc__least(left, 10 * MPROC__MS);
        uintptr_t pid = (uintptr_t)c->pid;
        pthread_mutex_unlock(&mproc__self.lock);
        mproc__seat *seat = mproc__seat_get();
        bool within = seat != NULL && seat->waiting != 0; /* another wait, which whoever frees must see */
        if (!within) mproc__waits_on((const void *)pid);  /* a small number, unlike an object's address */
        mproc__poll(fd, POLLIN, left);                    /* for -1: a sleep */
        if (fd >= 0 && !mproc__self.pidfd_works) mproc__sleep(MPROC__MS); /* it may have closed that end */
        if (!within) mproc__waits_on(NULL);
        pthread_mutex_lock(&mproc__self.lock);
    }
    c->users--;
    return c->ended;
}

/* With the lock held: the record of p. NULL with *error 0: it was collected, and p tells the exit code. */
MPROC__FN mproc__child *mproc__child_of(const mproc_process *p, int *error) {
    *error = MPROC_EINVAL;
    if (p == NULL || p->mproc__id == 0) return NULL;
    *error = MPROC_ECLOSED;
    if (p->mproc__id == MPROC__CLOSED_ID) return NULL;
    *error = MPROC_ECHILD;
    if (p->mproc__parent != mproc__self.pid) return NULL;
    for (mproc__child *c = mproc__self.children; c != NULL; c = c->next)
        if (c->id == p->mproc__id) return c;
    if (p->exitcode != MPROC_NO_EXITCODE) *error = 0;
    return NULL;
}

/* With the lock held: c has ended; tells how. */
MPROC__FN int mproc__child_settle(mproc__child *c, int *exitcode) {
    int code = c->exitcode;
    if (exitcode != NULL) *exitcode = code;
    c->told = true;
    mproc__child_tidy(c);
    return code == MPROC_NO_EXITCODE ? MPROC_ECHILD : 0;
}
MPROC__FN int mproc__process_settle(mproc__child *c, mproc_process *p) {
    return mproc__child_settle(c, p->exitcode != c->exitcode ? &p->exitcode : NULL); /* others may read it */
}

/* That of the next child. */
MPROC__FN void mproc__child_identity(char to[24]) {
    const char *own = mproc__self.identity;
    unsigned number = MPROC__ADD(&mproc__self.started, 1);
    snprintf(to, 24, "%.15s%s%u", own, own[0] != 0 ? ":" : "", number);
}

/* In the child: who am I now? */
MPROC__FN void mproc__become(const char *identity, const char *name) {
    snprintf(mproc__self.identity, sizeof mproc__self.identity, "%s", identity);
    snprintf(mproc__self.name, sizeof mproc__self.name, "%s", name);
    mproc__self.current.name = mproc__self.name;
}

MPROC__FN void mproc__conn_given(void *arg, pid_t pid);

MPROC__FN void mproc__process_main(mproc_process *p, const char *identity) {
    p->pid = mproc__self.pid;
    mproc__self.current = *p;
    mproc__become(identity, p->name);
    mproc__conn_given(p->arg, mproc__self.pid);
    mproc_exit(p->run != NULL ? p->run(p) : p->target(p->arg));
}

MPROC_DEF int mproc_process_start(mproc_process *p) {
    if (p == NULL || (p->target == NULL && p->run == NULL)) return MPROC_EINVAL;
    if (p->mproc__id == MPROC__CLOSED_ID) return MPROC_ECLOSED;
    if (p->mproc__id != 0) return -EALREADY;
    int error = mproc__init();
    if (error != 0) return error;
    mproc__child *c = mproc__child_new(MPROC__PROCESS, p->daemon);
    if (c == NULL) return MPROC_ENOMEM;
    if (MPROC__ADD(&mproc__self.starts, 1) % 64 == 0)
        mproc_active_children(NULL, 0); /* those that nobody asks after become zombies no longer */
    char identity[24];
    mproc__child_identity(identity);
    snprintf(p->mproc__name, sizeof p->mproc__name, "Process-%s", identity);
    p->exitcode = MPROC_NO_EXITCODE;
    pid_t pid = mproc__spawn(c);
    if (pid < 0) return (int)pid;
    if (p->name == NULL) p->name = p->mproc__name;
    if (pid == 0) mproc__process_main(p, identity);
    mproc__conn_given(p->arg, pid);
    p->pid = pid;
    p->mproc__parent = mproc__self.pid;
    p->mproc__id = c->id;
    return 0;
}

MPROC_DEF int mproc_process_join(mproc_process *p, double timeout) {
    int64_t deadline;
    int error;
    if (!mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__child_of(p, &error);
    if (c != NULL) error = mproc__child_wait(c, deadline) ? mproc__process_settle(c, p) : MPROC_ETIMEDOUT;
    pthread_mutex_unlock(&mproc__self.lock);
    return error;
}

MPROC_DEF bool mproc_process_is_alive(mproc_process *p) {
    int error;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__child_of(p, &error);
    bool alive = c != NULL && !mproc__child_collect(c);
    if (c != NULL && !alive) mproc__process_settle(c, p);
    pthread_mutex_unlock(&mproc__self.lock);
    if (c == NULL && p == &mproc__self.current) return true; /* of what mproc_current_process gave */
    return alive;
}

/* With the lock held. Where no pidfd tells, somebody else may have collected it: look before its number is
   used. */
MPROC__FN int mproc__child_signal(mproc__child *c, int sig) {
    bool watched = mproc__self.pidfd_works && c->pidfd >= 0;
    if (c->ended || (!watched && mproc__child_collect(c))) return -ESRCH;
    errno = EPERM;
    if (watched && syscall(SYS_pidfd_send_signal, c->pidfd, sig, 0L, 0) == 0) return 0;
    if (errno != EPERM && errno != ENOSYS) return -errno; /* those two: perhaps only that call is refused */
    return kill(c->pid, sig) == 0 ? 0 : -errno;           /* not collected, so its pid is still its own */
}

MPROC__FN int mproc__process_signal(const mproc_process *p, int sig) {
    int error;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__child_of(p, &error);
    if (c != NULL) error = mproc__child_signal(c, sig);
    else if (error == 0) error = -ESRCH;
    pthread_mutex_unlock(&mproc__self.lock);
    return error;
}

MPROC_DEF int mproc_process_terminate(mproc_process *p) { return mproc__process_signal(p, SIGTERM); }
MPROC_DEF int mproc_process_kill(mproc_process *p) { return mproc__process_signal(p, SIGKILL); }

MPROC_DEF int mproc_process_close(mproc_process *p) {
    int error;
    if (p == NULL) return MPROC_EINVAL;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__child_of(p, &error);
    bool busy = c != NULL && (!mproc__child_collect(c) || c->users > 0);
    if (c != NULL && !busy) {
        p->exitcode = c->exitcode;
        mproc__child_unlink(c);
    }
    pthread_mutex_unlock(&mproc__self.lock);
    if (busy) return MPROC_EBUSY;
    if (c == NULL && error == MPROC_ECHILD && p->mproc__parent != mproc__self.pid) return MPROC_ECHILD;
    p->mproc__id = MPROC__CLOSED_ID;
    return 0;
}

/* With the lock held. Whose status was collected by the way has no pidfd any more: then another one serves.
 */
MPROC__FN int mproc__child_fd(mproc__child *c) {
    int fd[2], error = -EMFILE; /* as when it was started */
    if (c->pidfd < 0 && c->ended && (error = mproc__pipe(fd, 0)) == 0) {
        c->pidfd = fd[0];
        error = write(fd[1], "", 1) == 1 ? 0 : -errno; /* to be read for good */
        close(fd[1]);
    }
    c->fd_shown = c->pidfd >= 0;
    return c->fd_shown ? c->pidfd : error;
}

MPROC_DEF int mproc_process_fd(mproc_process *p) {
    int error;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__child_of(p, &error);
    if (c != NULL) error = mproc__child_fd(c);
    else if (error == 0) error = -ESRCH;
    pthread_mutex_unlock(&mproc__self.lock);
    return error;
}

/* One look at all of ps, with the lock held: the first that has ended, or -ETIMEDOUT, or an error. Fills
   fds for a poll of those that still run, which lasts *slice at most: a child without a pidfd (there were too
   many descriptors) is looked at. */
MPROC__FN int mproc__wait_any_look(mproc_process *const *ps, size_t n, mproc__child **children,
                                   struct pollfd *fds, int64_t *slice) {
    *slice = mproc__self.pidfd_works ? MPROC__SECOND : 10 * MPROC__MS;
    for (size_t i = 0; i < n; i++) {
        int error;
        mproc__child *c = children[i] = mproc__child_of(ps[i], &error);
        if (c == NULL && error != 0) return error;
        if (c == NULL || mproc__child_collect(c)) return (int)i;
        fds[i].fd = c->pidfd;
        fds[i].events = POLLIN;
        if (c->pidfd < 0) *slice = 10 * MPROC__MS;
    }
    return MPROC_ETIMEDOUT;
}

/* With the lock held, which is given up meanwhile: another thread's join must not close what is polled. */
MPROC__FN void mproc__wait_any_sleep(mproc__child **children, struct pollfd *fds, size_t n, int64_t ns) {
    for (size_t i = 0; i < n; i++) children[i]->users++;
    pthread_mutex_unlock(&mproc__self.lock);
    mproc__poll_all(fds, n, ns);
    pthread_mutex_lock(&mproc__self.lock);
    for (size_t i = 0; i < n; i++) {
        children[i]->users--;
        mproc__child_tidy(children[i]);
    }
}

MPROC_DEF int mproc_process_wait_any(mproc_process *const *ps, size_t n, double timeout) {
    int64_t deadline, left, slice;
    if (ps == NULL || n == 0 || n > INT32_MAX || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    struct pollfd *fds = (struct pollfd *)calloc(n, sizeof *fds);
    mproc__child **children = (mproc__child **)calloc(n, sizeof *children);
    int found = MPROC_ENOMEM;
    pthread_mutex_lock(&mproc__self.lock);
    while (fds != NULL && children != NULL &&
           (found = mproc__wait_any_look(ps, n, children, fds, &slice)) == MPROC_ETIMEDOUT &&
           (left = mproc__left(deadline)) != 0)
        mproc__wait_any_sleep(children, fds, n, mproc__least(left, slice));
    pthread_mutex_unlock(&mproc__self.lock);
    free(children);
    free(fds);
    return found;
}

MPROC_DEF const mproc_process *mproc_current_process(void) {
    mproc__init();
    return &mproc__self.current;
}

MPROC_DEF pid_t mproc_parent_pid(void) { return mproc__self.parent; }

MPROC_DEF bool mproc_parent_is_alive(void) {
    if (!mproc__self.detached) return mproc__self.parent != 0 && getppid() == mproc__self.parent;
    return mproc__alive(mproc__self.parent, mproc__self.parent);
}

MPROC_DEF size_t mproc_active_children(pid_t *pids, size_t capacity) {
    size_t n = 0;
    pthread_mutex_lock(&mproc__self.lock);
    for (mproc__child *c = mproc__self.children; c != NULL; c = c->next) {
        if (c->kind != MPROC__PROCESS || c->pid == 0 || mproc__child_collect(c)) continue;
        if (pids != NULL && n < capacity) pids[n] = c->pid;
        n++;
    }
    pthread_mutex_unlock(&mproc__self.lock);
    return n;
}

/* Up to two numbers of a cgroup's file, where "max" is none; how many there were. */
MPROC__FN int mproc__cgroup_read(const char *root, const char *group, const char *file, long long number[2]) {
    char path[768];
    snprintf(path, sizeof path, "%s%s/%s", root, group, file);
    FILE *f = fopen(path, "re");
    int n = f != NULL ? fscanf(f, "%lld %lld", &number[0], &number[1]) : 0;
    if (f != NULL) fclose(f);
    return n;
}

/* The smallest quota of a group and those above it, of version 2 or 1, in processors, rounded up; or most. */
MPROC__FN int mproc__cgroup_least(const char *root, char *group, int most) {
    for (;;) {
        long long quota[2] = {0, 0}; /* and its period */
        if (mproc__cgroup_read(root, group, "cpu.max", quota) != 2 &&
            mproc__cgroup_read(root, group, "cpu.cfs_period_us", quota) == 1) {
            quota[1] = quota[0];
            mproc__cgroup_read(root, group, "cpu.cfs_quota_us", quota); /* -1: none */
        }
        if (quota[0] > 0 && quota[1] > 0 && (quota[0] - 1) / quota[1] < most)
            most = (int)((quota[0] - 1) / quota[1]) + 1;
        char *slash = strrchr(group, '/');
        if (slash == NULL) return most;
        *slash = 0;
    }
}

/* /proc/self/cgroup has lines NUMBER:CONTROLLERS:GROUP; version 2 has no controllers there. */
MPROC__FN int mproc__cgroup_cpus(int most) {
    char line[512], controllers[64], group[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%*d::%511[^\n]", group) == 1)
            most = mproc__cgroup_least("/sys/fs/cgroup", group, most);
        else if (sscanf(line, "%*d:%63[^:]:%511[^\n]", controllers, group) == 2 &&
                 (strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0))
            most = mproc__cgroup_least("/sys/fs/cgroup/cpu", group, most);
    }
    if (f != NULL) fclose(f);
    return most;
}

MPROC_DEF int mproc_cpu_count(void) {
    int n = mproc__affinity();
    if (n < 1) n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return mproc__cgroup_cpus(n < 1 ? 1 : n);
}

/* ---- Fork helpers -----------------------------------------------------------------------------------------
 */

MPROC_DEF pid_t mproc_fork(void) {
    int error = mproc__init();
    if (error != 0) return error;
    mproc__child *c = mproc__child_new(MPROC__FORKED, false);
    if (c == NULL) return MPROC_ENOMEM;
    char identity[24], name[40];
    mproc__child_identity(identity);
    pid_t pid = mproc__spawn(c);
    if (pid != 0) return pid;
    snprintf(name, sizeof name, "Process-%s", identity);
    mproc__become(identity, name);
    return 0;
}

MPROC_DEF pid_t mproc_fork_detached(void) {
    int error = mproc__init();
    if (error != 0) return error;
    pid_t *told = (pid_t *)mproc__alloc(sizeof *told, true); /* in shared memory */
    if (told == NULL) return MPROC_ENOMEM;
    mproc__flush_stdio();
    pid_t starter = mproc__self.pid, pid = fork();
    if (pid == 0) { /* the process between: forks the one that stays and tells its pid, or the error */
        pid = fork();
        mproc__self.parent = starter;
        mproc__self.detached = true;
        if (pid == 0) return 0;
        *told = pid > 0 ? pid : -errno;
        _exit(0);
    }
    if (pid < 0) *told = -errno;
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    pid = *told != 0 ? *told : MPROC_EAGAIN; /* 0: killed before it could tell */
    mproc__dealloc(told);
    return pid;
}

MPROC_DEF int mproc_wait(pid_t pid, int *exitcode, double timeout) {
    int64_t deadline;
    int error = MPROC_ECHILD;
    if (!mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__self.children;
    while (c != NULL && (c->kind != MPROC__FORKED || c->pid != pid || c->ended)) c = c->next;
    if (c != NULL && pid > 0)
        error = mproc__child_wait(c, deadline) ? mproc__child_settle(c, exitcode) : MPROC_ETIMEDOUT;
    pthread_mutex_unlock(&mproc__self.lock);
    return error;
}

/* Collects and forgets the children of this kind that have ended, and says how many. */
MPROC__FN int mproc__reap(int kind) {
    int n = 0;
    pthread_mutex_lock(&mproc__self.lock);
    for (mproc__child *c = mproc__self.children, *next; c != NULL; c = next) {
        next = c->next;
        if (c->kind != kind || c->ended || !mproc__child_collect(c)) continue;
        n++;
        mproc__child_settle(c, NULL);
    }
    pthread_mutex_unlock(&mproc__self.lock);
    return n;
}
MPROC_DEF int mproc_reap(void) { return mproc__reap(MPROC__FORKED); }

/* Is c one of the children that this round of the end is about? */
MPROC__FN bool mproc__ends_with_us(const mproc__child *c, bool daemons) {
    return !c->ended && c->pid != 0 && c->kind != MPROC__FORKED && c->daemon == daemons;
}

/* With the lock held, which is given up meanwhile: lets other threads finish the forks they are at, or their
   children would be passed over; for a second at most. Not those that they begin from now on, without end. */
MPROC__FN void mproc__await_forks(void) {
    uint64_t last = MPROC__LOAD(&mproc__self.last_id);
    for (int64_t end = mproc__now() + MPROC__SECOND; mproc__now() < end;) {
        mproc__child *c = mproc__self.children;
        while (c != NULL && (c->pid != 0 || c->id > last || c->kind == MPROC__FORKED)) c = c->next;
        if (c == NULL) return;
        pthread_mutex_unlock(&mproc__self.lock);
        mproc__sleep(MPROC__MS);
        pthread_mutex_lock(&mproc__self.lock);
    }
}

/* Waits for all children of one sort, signalling each first if sig is not 0. */
MPROC__FN void mproc__end_children(bool daemons, int sig, int64_t deadline) {
    mproc__child *c;
    mproc__await_forks();
    for (c = mproc__self.children; c != NULL && sig != 0; c = c->next)
        if (mproc__ends_with_us(c, daemons)) mproc__child_signal(c, sig);
    do {
        for (c = mproc__self.children; c != NULL && !mproc__ends_with_us(c, daemons);) c = c->next;
    } while (c != NULL && mproc__child_wait(c, deadline));
}

MPROC_DEF int mproc_at_exit(void (*callback)(void *ctx), void *ctx, int priority) {
    if (callback == NULL) return MPROC_EINVAL;
    int error = mproc__init();
    mproc__last_call *call = error == 0 ? (mproc__last_call *)malloc(sizeof *call) : NULL;
    if (call == NULL) return MPROC_ENOMEM;
    call->callback = callback;
    call->ctx = ctx;
    call->priority = priority;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__last_call **at = &mproc__self.last_calls;
    while (*at != NULL && (*at)->priority > priority) at = &(*at)->next;
    call->next = *at;
    *at = call;
    pthread_mutex_unlock(&mproc__self.lock);
    return 0;
}

MPROC_DEF int mproc_at_exit_cancel(void (*callback)(void *ctx), void *ctx) {
    pthread_mutex_lock(&mproc__self.lock);
    mproc__last_call **at = &mproc__self.last_calls;
    while (*at != NULL && ((*at)->callback != callback || (*at)->ctx != ctx)) at = &(*at)->next;
    mproc__last_call *call = *at;
    if (call != NULL) *at = call->next;
    pthread_mutex_unlock(&mproc__self.lock);
    free(call);
    return call != NULL ? 0 : -ENOENT;
}

/* Makes the calls of this priority and over, also those that are asked for meanwhile, each once. */
MPROC__FN void mproc__make_last_calls(int least) {
    for (;;) {
        pthread_mutex_lock(&mproc__self.lock);
        mproc__last_call *call = mproc__self.last_calls;
        if (call != NULL && call->priority < least) call = NULL;
        if (call != NULL) mproc__self.last_calls = call->next;
        pthread_mutex_unlock(&mproc__self.lock);
        if (call == NULL) return;
        call->callback(call->ctx);
        free(call);
    }
}

/* The end of a process: its non-daemons are joined, its daemons and pools ended. Registered with atexit by
   the main program; a child that calls exit(3) runs it too, on what is its own. */
MPROC__FN void mproc__at_exit(void) {
    mproc__make_last_calls(0);
    MPROC__STORE(&mproc__self.ending, (uint32_t)mproc__gettid()); /* others' parallel_for replaces nobody */
    if (mproc__self.children != NULL) mproc__flush_stdio();
    pthread_mutex_lock(&mproc__self.lock);
    mproc__end_children(false, 0, MPROC__NEVER);
    mproc__end_children(true, SIGTERM, mproc__now() + (int64_t)(MPROC_EXIT_GRACE * 1e9));
    mproc__end_children(true, SIGKILL, MPROC__NEVER);
    pthread_mutex_unlock(&mproc__self.lock);
    mproc__make_last_calls(INT32_MIN);
}

MPROC_DEF void mproc_exit(int exitcode) {
    if (mproc__self.parent == 0) exit(exitcode);
    mproc__at_exit();
    mproc__flush_stdio();
    mproc__seat_leave(mproc__own_seat);
    _exit(exitcode);
}

/* ---- Queue --------------------------------------------------------------------------------------------- */

/* Messages travel through one pipe as frames of a fixed size that divides a page. The kernel keeps a write
   of whole frames that fits a page in one piece, and pages hold whole frames, so a read of whole frames gets
   whole frames: no lock of ours stands on that path, and a process killed anywhere has put its frame or not.
   A message that does not fit a frame stands in the arena and the frame names it. How long the queue is the
   kernel knows (FIONREAD); who may get what is in it likewise.

   Besides the pipe there are:
   - put_lock, for a bounded queue: look and write must be one step. It guards nothing that needs repair.
   - back, a list of messages that somebody got and could not take (MPROC_EMSGSIZE): they are first in the
     queue. get_lock guards it. As long as every getter's buffer holds the largest message ever put, getters
   do without that lock; the first that does not makes all of them `careful`, and waits for those that are
   just reading without it. So nobody gets a later message while an earlier one is being put back. Who puts
   a larger one than ever waits for getters that may still go by the old size; one that is stopped is not
   waited for long, and puts back what does not fit.
   - taken, the messages got and not yet marked by task_done. A getter notes in its seat that it is at work
     before it reads, counts, and clears the note when it is through with the message: so a join that finds
   the pipe empty and nobody living at work sees every message either there, or counted, or lost with a dead
     process. Putters leave the same note, for close (whose last getter looks once more) and for free. */

#define MPROC__FRAME      128   /* the usual size of a frame; queues of many messages use smaller ones */
#define MPROC__BATCH      16384 /* bytes moved per system call by the _many forms */
#define MPROC__FRAME_HEAD sizeof(mproc__frame)

typedef struct mproc__frame {
    uint64_t size;  /* of the message */
    uint64_t where; /* its mproc__message, or one of these: */
} mproc__frame;
enum {
    MPROC__INLINE = 0, /* the message follows in the frame */
    MPROC__MARK = 1,   /* no message: keeps the pipe readable while one stands in `back`, and at the end */
};

struct mproc_queue {
    mproc__tag tag;
    uint32_t frame; /* bytes of a frame */
    uint32_t batch; /* frames written at once, at most */
    size_t maxsize; /* 0: as the pipe holds */
    mproc__port port;
    mproc__mutex put_lock, get_lock;
    uint32_t closed;
    uint32_t marks;   /* frames in the pipe that are no messages */
    uint32_t unsure;  /* a holder of get_lock died, perhaps amid a change of marks: count them anew */
    size_t largest;   /* of all messages put or about to be */
    size_t settled;   /* of those, the largest that every getter knows of which is about to read */
    uint32_t careful; /* a getter with too small a buffer has been seen, so all take get_lock; 2: and do so */
    mproc__message *back;
    char apart[MPROC__LINE]; /* what stands above hardly changes, what follows does at each message */
    uint32_t room;           /* flag: putters of a bounded queue sleep here */
    uint32_t taken;          /* twice their number; lowest bit: a joiner sleeps here */
};

/* How the pipe must be cut so that maxsize messages fit whatever the order of puts and gets: the first page
   may be partly read and the last partly written; and where writes of several frames do not fill the page
   before them, pages stay half empty, so without twice the room batches are off. */
MPROC__FN bool mproc__queue_fits(mproc_queue *q, size_t pipe_bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), per_page = page / q->frame, pages = pipe_bytes / page;
    size_t sure = pages > 1 ? (pages - 1) * per_page + 1 : 1, least = q->maxsize != 0 ? q->maxsize : 200;
    q->batch = q->maxsize == 0 || sure / 2 >= q->maxsize + per_page ? MPROC__BATCH / q->frame : 1;
    return least <= sure || (q->maxsize == 0 && q->frame == MPROC__FRAME_HEAD);
}

MPROC__FN int mproc__queue_size_pipe(mproc_queue *q, int fd) {
    for (q->frame = MPROC__FRAME; q->frame >= MPROC__FRAME_HEAD; q->frame /= 2) {
        for (size_t twice = 2; twice >= 1; twice--) {
            size_t want = (q->maxsize * q->frame + 2 * (size_t)sysconf(_SC_PAGESIZE)) * twice;
            if (want > INT32_MAX / 2) continue;
            int is = fcntl(fd, MPROC__F_GETPIPE_SZ);
            if (is >= 0 && (size_t)is < want) fcntl(fd, MPROC__F_SETPIPE_SZ, (int)want);
            is = fcntl(fd, MPROC__F_GETPIPE_SZ);
            if (is > 0 && mproc__queue_fits(q, (size_t)is) && (twice == 1 || q->batch > 1)) return 0;
        }
    }
    return -ENOSPC;
}

MPROC__FN int mproc__queue_set_up(mproc_queue *q, size_t maxsize) {
    int fd[2], error = mproc__mutex_init(&q->put_lock, PTHREAD_MUTEX_ERRORCHECK);
    if (error == 0) error = mproc__mutex_init(&q->get_lock, PTHREAD_MUTEX_ERRORCHECK);
    if (error == 0) error = mproc__pipe(fd, O_NONBLOCK);
    if (error != 0) return error;
    q->maxsize = maxsize;
    error = mproc__queue_size_pipe(q, fd[1]);
    if (error == 0) error = mproc__port_make(&q->port, fd, NULL);
    if (error == 0) return 0;
    mproc__close(&fd[0]);
    mproc__close(&fd[1]);
    return error;
}

MPROC_DEF mproc_queue *mproc_queue_new(size_t maxsize) {
    if (maxsize > INT32_MAX) return (mproc_queue *)mproc__fail(-ENOSPC);
    mproc_queue *q = (mproc_queue *)mproc__object_new(sizeof *q);
    if (q == NULL) return NULL;
    return (mproc_queue *)mproc__object_ready(q, MPROC__QUEUE, mproc__queue_set_up(q, maxsize));
}

/* Messages */

MPROC__FN mproc__message *mproc__message_new(const mproc_queue *owner, size_t size) {
    if (size > SIZE_MAX - MPROC__MESSAGE_ROOM) return NULL;
    mproc__message *m = (mproc__message *)mproc__alloc(MPROC__MESSAGE_ROOM + size, false);
    if (m == NULL) return NULL;
    m->next = (mproc__message *)(uintptr_t)owner;
    m->size = size;
    mproc__tag_set(mproc__tag_before(mproc__message_data(m)), MPROC__MESSAGE);
    return m;
}

MPROC__FN void mproc__message_free(mproc__message *m) {
    mproc__tag *tag = mproc__tag_before(mproc__message_data(m));
    if (mproc__cas32(&tag->magic, mproc__magic(tag), 0)) mproc__dealloc(m); /* of two that free it, one */
}

MPROC__FN void mproc__copy(void *to, const void *from, size_t size) {
    if (size != 0) memcpy(to, from, size); /* memcpy must not be given NULL, not even for nothing */
}

/* The i-th of items of one size. Nothing may be added to NULL, not even nothing. */
MPROC__FN char *mproc__nth(const void *items, size_t i, size_t size) {
    char *first = (char *)(uintptr_t)items;
    return size != 0 ? first + i * size : first;
}

/* Room for one frame of any queue, aligned for its head. */
typedef union mproc__frame_buffer {
    mproc__frame head;
    char bytes[MPROC__FRAME];
} mproc__frame_buffer;
typedef union mproc__frame_batch {
    mproc__frame head;
    char bytes[MPROC__BATCH];
} mproc__frame_batch;

MPROC__FN mproc__message *mproc__frame_message(const mproc__frame *f) {
    return (mproc__message *)(uintptr_t)f->where;
}
MPROC__FN mproc__frame *mproc__frame_at(const mproc_queue *q, char *frames, size_t i) {
    return (mproc__frame *)(void *)(frames + i * q->frame);
}
MPROC__FN size_t mproc__inline_room(const mproc_queue *q) { return q->frame - MPROC__FRAME_HEAD; }

/* Makes the frame of a message. 0 or -ENOMEM. */
MPROC__FN int mproc__frame_pack(const mproc_queue *q, mproc__frame *f, const void *data, size_t size) {
    f->size = size;
    f->where = MPROC__INLINE;
    if (size <= mproc__inline_room(q)) {
        mproc__copy(f + 1, data, size);
        memset((char *)(f + 1) + size, 0,
               mproc__inline_room(q) - size); /* what the stack held is nobody's business */
        return 0;
    }
    memset(f + 1, 0, mproc__inline_room(q));
    mproc__message *m = mproc__message_new(q, size);
    if (m == NULL) return MPROC_ENOMEM;
    memcpy(mproc__message_data(m), data, size);
    f->where = (uint64_t)(uintptr_t)m;
    return 0;
}

MPROC__FN void mproc__frame_drop(const mproc__frame *f) {
    if (f->where > MPROC__MARK) mproc__message_free(mproc__frame_message(f));
}

MPROC__FN void mproc__frame_unpack(const mproc__frame *f, void *buffer) {
    if (f->where == MPROC__INLINE) mproc__copy(buffer, f + 1, (size_t)f->size);
    else mproc__copy(buffer, mproc__message_data(mproc__frame_message(f)), (size_t)f->size);
    mproc__frame_drop(f);
}

/* The message of a frame in memory of its own: a small one takes the spare memory, which is freed if it is
   not needed. */
MPROC__FN mproc__message *mproc__frame_keep(const mproc__frame *f, mproc__message *spare) {
    if (f->where == MPROC__INLINE) {
        spare->size = (size_t)f->size;
        mproc__copy(mproc__message_data(spare), f + 1, spare->size);
        return spare;
    }
    if (spare != NULL) mproc__message_free(spare);
    return mproc__frame_message(f);
}

/* The calling thread notes in its seat that it is in the middle of a put or get of q; that it is in a call
   but not reading or writing a message, which only free needs to know (so the close of a ring, too); or that
   it is through. */
MPROC__FN void mproc__queue_note(uintptr_t note) {
    mproc__seat *s = mproc__seat_get();
    if (s != NULL) MPROC__STORE(&s->getting, note);
}
MPROC__FN void mproc__queue_enter(const mproc_queue *q) { mproc__queue_note((uintptr_t)q); }
MPROC__FN void mproc__queue_idle(const void *q) { mproc__queue_note((uintptr_t)q | 1); }
MPROC__FN void mproc__queue_leave(void) {
    if (mproc__own_seat != NULL) MPROC__STORE(&mproc__own_seat->getting, 0);
}

/* Is another living thread in the middle of one, or in a call at all? */
MPROC__FN bool mproc__queue_busy(const void *q, bool idle_too) {
    mproc__arena *a = mproc__shared;
    for (uint32_t i = 0, n = MPROC__LOAD(&a->seats_used); i < n; i++) {
        mproc__seat *s = &a->seat[i];
        uintptr_t note = MPROC__LOAD(&s->getting) & ~(uintptr_t)idle_too;
        if (s != mproc__own_seat && note == (uintptr_t)q && mproc__seat_alive(s)) return true;
    }
    return false;
}

/* Waits until nobody is in the middle of what began before. A stopped process is not waited for long. */
MPROC__FN bool mproc__queue_await_others(const void *q, bool idle_too) {
    for (int64_t end = mproc__now() + 50 * MPROC__MS; mproc__queue_busy(q, idle_too);) {
        if (mproc__now() > end) return false;
        sched_yield();
    }
    return true;
}

MPROC__FN void mproc__raise(size_t *to, size_t size) {
    size_t old = MPROC__LOAD(to);
    while (old < size && !MPROC__CAS(to, &old, size)) continue;
}

/* Before a message of a new largest size is put: getters that looked at the old size are through. Each putter
   waits until one has settled that: the first may be killed, or be slower than the second. */
MPROC__FN void mproc__queue_note_largest(mproc_queue *q, size_t size) {
    if (size <= MPROC__LOAD(&q->settled)) return;
    mproc__raise(&q->largest, size);
    mproc__queue_await_others(q, false);
    mproc__raise(&q->settled, size);
}

/* Length */

MPROC__FN size_t mproc__queue_frames(const mproc_queue *q, int fd) {
    int bytes = 0;
    uint32_t frame = MPROC__LOAD(&q->frame); /* 0: freed just now */
    return frame != 0 && ioctl(fd, FIONREAD, &bytes) == 0 ? (size_t)bytes / frame : 0;
}

/* Counts the frames that are no messages, in a copy of what the pipe holds. False without descriptors. */
MPROC__FN bool mproc__queue_recount(mproc_queue *q, int fd) {
    int copy[2], size = fcntl(fd, MPROC__F_GETPIPE_SZ);
    uint32_t marks = 0;
    mproc__frame_buffer frame;
    if (mproc__pipe(copy, O_NONBLOCK) != 0) return false;
    if (size > 0) fcntl(copy[1], MPROC__F_SETPIPE_SZ, size);
    bool copied = syscall(SYS_tee, fd, copy[1], (size_t)INT32_MAX, 2 /* SPLICE_F_NONBLOCK */) >= 0;
    copied = copied || errno == EAGAIN; /* there was nothing */
    while (copied && read(copy[0], &frame, q->frame) == (ssize_t)q->frame)
        marks += frame.head.where == MPROC__MARK;
    if (copied) MPROC__STORE(&q->marks, marks);
    mproc__close(&copy[0]);
    mproc__close(&copy[1]);
    return copied;
}

MPROC__FN void mproc__queue_get_lock(mproc_queue *q, int fd, int64_t deadline, int *error) {
    *error = mproc__mutex_lock(&q->get_lock, deadline);
    if (*error == -EOWNERDEAD) {
        MPROC__STORE(&q->unsure, 1);
        mproc__mutex_repaired(&q->get_lock); /* the list changes by single stores: it is right as it is */
        *error = 0;
    }
    if (*error == 0 && MPROC__LOAD(&q->unsure) && mproc__queue_recount(q, fd)) MPROC__STORE(&q->unsure, 0);
}

/* How many messages there are while nobody moves any; it stops at what is none, should the queue be freed. */
MPROC__FN size_t mproc__queue_messages(const mproc_queue *q, int fd) {
    size_t n = mproc__queue_frames(q, fd), marks = MPROC__LOAD(&q->marks);
    n = n > marks ? n - marks : 0;
    for (mproc__message *m = MPROC__LOAD(&q->back); m != NULL; m = MPROC__LOAD(&m->next), n++)
        if (mproc__message_of(mproc__message_data(m)) != m) break;
    return n;
}

MPROC__FN size_t mproc__queue_length(mproc_queue *q, int fd) {
    size_t n = mproc__queue_frames(q, fd);
    if (MPROC__LOAD(&q->back) == NULL && MPROC__LOAD(&q->marks) == 0 && !MPROC__LOAD(&q->careful)) return n;
    int error; /* `careful`: with get_lock held a message may be on its way from the pipe to `back` */
    mproc__queue_get_lock(q, fd, mproc__grace(0), &error);
    if (error != 0) return n; /* its holder is stopped: nearly right */
    n = mproc__queue_messages(q, fd);
    mproc__mutex_unlock(&q->get_lock);
    return n;
}

MPROC_DEF size_t mproc_queue_qsize(mproc_queue *queue) {
    int fd[2];
    if (!mproc__tag_is(queue, MPROC__QUEUE) || mproc__port_fds(&queue->port, fd) != 0) return 0;
    return mproc__queue_length(queue, fd[0]);
}

MPROC_DEF bool mproc_queue_empty(mproc_queue *queue) { return mproc_queue_qsize(queue) == 0; }

MPROC_DEF bool mproc_queue_full(mproc_queue *queue) {
    int fd[2];
    if (!mproc__tag_is(queue, MPROC__QUEUE) || mproc__port_fds(&queue->port, fd) != 0) return false;
    if (queue->maxsize != 0) return mproc__queue_length(queue, fd[0]) >= queue->maxsize;
    return !mproc__poll(fd[1], POLLOUT, 0);
}

/* Put */

/* The other end of a pipe; none for a queue. */
MPROC__FN bool mproc__conn_forsaken(const mproc_conn *c);

/* Writes n frames, as many as there is room for now; how many went, or -EAGAIN for none, or an error. */
MPROC__FN ssize_t mproc__queue_write(const mproc_queue *q, int fd, const void *frames, size_t n) {
    ssize_t bytes, frame = (ssize_t)q->frame;
    while ((bytes = write(fd, frames, n * (size_t)frame)) < 0 && errno == EINTR) continue;
    return bytes < 0 ? -errno : bytes / frame;
}

/* The same under the bound: no more than maxsize in the queue. */
MPROC__FN ssize_t mproc__queue_write_bounded(mproc_queue *q, const int fd[2], const char *frames, size_t n,
                                             int64_t deadline) {
    int error = mproc__mutex_lock(&q->put_lock, mproc__grace(deadline));
    if (error == -EOWNERDEAD) mproc__mutex_repaired(&q->put_lock);
    else if (error != 0) return error;
    size_t length = mproc__queue_length(q, fd[0]), room = length < q->maxsize ? q->maxsize - length : 0;
    ssize_t put = -EAGAIN;
    if (room > 0) put = mproc__queue_write(q, fd[1], frames, n < room ? n : room);
    mproc__mutex_unlock(&q->put_lock);
    return put;
}

MPROC__FN ssize_t mproc__queue_try_put(mproc_queue *q, const int fd[2], const char *frames, size_t n,
                                       int64_t deadline) {
    mproc__queue_enter(q); /* so that close and free know */
    ssize_t put = MPROC_ECLOSED;
    if (n > q->batch) n = q->batch;
    if (!MPROC__LOAD(&q->closed))
        put = q->maxsize == 0 ? mproc__queue_write(q, fd[1], frames, n)
                              : mproc__queue_write_bounded(q, fd, frames, n, deadline);
    mproc__queue_leave();
    return put;
}

/* Full: waits for a change. Half the usual slice, so that close is noticed soon. */
MPROC__FN void mproc__queue_await_room(mproc_queue *q, const int fd[2], int64_t deadline) {
    int64_t ns = mproc__least(mproc__left(deadline), MPROC__SLICE / 2);
    if (q->maxsize != 0) MPROC__STORE(&q->room, 1);
    if (MPROC__LOAD(&q->closed)) return;
    if (q->maxsize != 0 && mproc__queue_length(q, fd[0]) >= q->maxsize) mproc__futex_wait(&q->room, 1, ns);
    else mproc__poll(fd[1], POLLOUT, ns);
}

/* Begins a call with these bytes of the caller's: its deadline, and this process's descriptors. */
MPROC__FN int mproc__queue_begin(mproc_queue *q, const void *bytes, size_t size, double timeout,
                                 int64_t *deadline, int fd[2]) {
    if (!mproc__tag_is(q, MPROC__QUEUE) || (bytes == NULL && size > 0) || !mproc__deadline(timeout, deadline))
        return MPROC_EINVAL;
    return mproc__port_fds(&q->port, fd);
}

/* Puts n frames that stand one after another; how many, or an error when none. */
MPROC__FN ssize_t mproc__queue_put_frames(mproc_queue *q, const mproc_conn *conn, const int fd[2],
                                          const char *frames, size_t n, int64_t deadline) {
    size_t done = 0;
    bool waiting = false;
    ssize_t put = 0;
    while (done < n) {
        put = mproc__queue_try_put(q, fd, frames + done * q->frame, n - done, deadline);
        if (put > 0) done += (size_t)put;
        if (put >= 0) continue;
        if (put == -EAGAIN && waiting && mproc__conn_forsaken(conn)) put = MPROC_ECLOSED;
        if (put == -EAGAIN && mproc__left(deadline) == 0) put = MPROC_ETIMEDOUT;
        if (put != -EAGAIN) break;
        if (!waiting) mproc__waits_on(q);
        waiting = true;
        mproc__queue_await_room(q, fd, deadline);
    }
    if (waiting) {
        if (put == MPROC_ECLOSED) mproc__flag_end(&q->room);
        else mproc__futex_wake(&q->room, 1); /* another putter may sleep, and there may be room for it too */
        mproc__waits_on(NULL);
    }
    return done > 0 ? (ssize_t)done : put;
}

/* Puts one message. 0 or an error. */
MPROC__FN int mproc__queue_put_one(mproc_queue *q, const mproc_conn *conn, const int fd[2], const void *data,
                                   size_t size, int64_t deadline) {
    mproc__frame_buffer frame;
    mproc__queue_note_largest(q, size);
    int error = mproc__frame_pack(q, &frame.head, data, size);
    if (error != 0) return error;
    ssize_t put = mproc__queue_put_frames(q, conn, fd, frame.bytes, 1, deadline);
    if (put == 1) return 0;
    mproc__frame_drop(&frame.head);
    return (int)put;
}

MPROC_DEF int mproc_queue_put(mproc_queue *queue, const void *data, size_t size, double timeout) {
    int64_t deadline;
    int fd[2], error = mproc__queue_begin(queue, data, size, timeout, &deadline, fd);
    if (error != 0) return error;
    if (MPROC__LOAD(&queue->closed)) return MPROC_ECLOSED;
    return mproc__queue_put_one(queue, NULL, fd, data, size, deadline);
}

/* Packs up to n items into the buffer; how many, or an error when not even one. */
MPROC__FN ssize_t mproc__queue_pack_many(const mproc_queue *q, char *frames, const void *items, size_t n,
                                         size_t size) {
    for (size_t i = 0; i < n; i++) {
        mproc__frame *f = mproc__frame_at(q, frames, i);
        int error = mproc__frame_pack(q, f, mproc__nth(items, i, size), size);
        if (error != 0) return i > 0 ? (ssize_t)i : error;
    }
    return (ssize_t)n;
}

MPROC_DEF ssize_t mproc_queue_put_many(mproc_queue *queue, const void *items, size_t n, size_t size,
                                       double timeout) {
    int64_t deadline;
    mproc__frame_batch frames;
    int fd[2], error = mproc__queue_begin(queue, items, n > 0 ? size : 0, timeout, &deadline, fd);
    if (size != 0 && n > SIZE_MAX / size) return MPROC_EINVAL;
    if (error != 0) return error;
    if (MPROC__LOAD(&queue->closed)) return MPROC_ECLOSED;
    mproc__queue_note_largest(queue, size);
    size_t done = 0, most = sizeof frames.bytes / queue->frame;
    for (ssize_t packed, put; done < n; done += (size_t)put) {
        packed = mproc__queue_pack_many(queue, frames.bytes, mproc__nth(items, done, size),
                                        n - done < most ? n - done : most, size);
        if (packed < 0) return done > 0 ? (ssize_t)done : packed;
        put = mproc__queue_put_frames(queue, NULL, fd, frames.bytes, (size_t)packed, deadline);
        for (ssize_t i = put < 0 ? 0 : put; i < packed; i++)
            mproc__frame_drop(mproc__frame_at(queue, frames.bytes, (size_t)i));
        if (put < 0) return done > 0 ? (ssize_t)done : put;
        if (put < packed) return (ssize_t)(done + (size_t)put);
    }
    return (ssize_t)done;
}

/* Get */

/* Reads up to n frames; how many, -EAGAIN for none, or an error. */
MPROC__FN ssize_t mproc__queue_read(const mproc_queue *q, int fd, void *frames, size_t n) {
    ssize_t bytes;
    while ((bytes = read(fd, frames, n * q->frame)) < 0 && errno == EINTR) continue;
    if (bytes == 0) return MPROC_ECLOSED; /* only of a pipe: a queue's processes have both its ends */
    return bytes < 0 ? -errno : bytes / (ssize_t)q->frame;
}

/* True for a frame that is no message; it has done what it was for by being read. */
MPROC__FN bool mproc__queue_skips(mproc_queue *q, const mproc__frame *f) {
    if (f->where != MPROC__MARK) return false;
    uint32_t marks = MPROC__LOAD(&q->marks);
    while (marks > 0 && !MPROC__CAS(&q->marks, &marks, marks - 1)) continue;
    return true;
}

/* Counts what was got; to be called before the note in the seat goes: see `taken` above. */
MPROC__FN void mproc__queue_count(mproc_queue *q, size_t got) {
    MPROC__ADD(&q->taken, (uint32_t)(2 * got));
    if (q->maxsize != 0) mproc__flag_wake(&q->room, 1);
}

/* One message's frame from the pipe, or -EAGAIN. Without get_lock -EINTR tells that it is needed. */
MPROC__FN int mproc__queue_read_one(mproc_queue *q, int fd, mproc__frame *f, size_t capacity, bool locked) {
    ssize_t n;
    bool seated = mproc__own_seat != NULL; /* else putters do not know to wait */
    if (!locked && (!seated || MPROC__LOAD(&q->careful) || capacity < MPROC__LOAD(&q->largest)))
        return -EINTR;
    while ((n = mproc__queue_read(q, fd, f, 1)) > 0 && mproc__queue_skips(q, f)) continue;
    if (n > 0) mproc__queue_count(q, 1);
    return n > 0 ? 0 : (int)n;
}

/* With get_lock held: puts a frame into the empty pipe that is no message, so that poll(2) tells of what
   stands elsewhere. The receiver of a one-way pipe has no descriptor to write to it, and opens one for the
   moment. */
MPROC__FN void mproc__queue_mark(mproc_queue *q, const int fd[2]) {
    mproc__frame_buffer mark;
    char path[32];
    int to = fd[1];
    bool pipe_end = q->port.serial == 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd[0]);
    if (pipe_end) to = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    memset(&mark, 0, sizeof mark);
    mark.head.where = MPROC__MARK;
    MPROC__ADD(&q->marks, 1);
    if (mproc__queue_write(q, to, &mark, 1) != 1) MPROC__SUB(&q->marks, 1);
    if (pipe_end) mproc__close(&to);
}

/* Memory for a small message that may have to be put back; to be had before it is read, for afterwards
   nothing may fail. */
MPROC__FN mproc__message *mproc__queue_spare(const mproc_queue *q) {
    return mproc__message_new(q, mproc__inline_room(q));
}

/* With get_lock held: a message that could not be taken becomes the first of the queue again. */
MPROC__FN void mproc__queue_put_back(mproc_queue *q, const int fd[2], const mproc__frame *f,
                                     mproc__message *spare) {
    mproc__message *m = mproc__frame_keep(f, spare);
    m->next = q->back;
    mproc__cas32(&q->careful, 0, 1); /* it is not in the pipe, where others look */
    if (mproc__queue_frames(q, fd[0]) == 0)
        mproc__queue_mark(q, fd); /* first: who is told in vain looks again */
    MPROC__SUB(&q->taken, 2);
    MPROC__STORE(&q->back, m);
}

/* With get_lock held: takes the first message that was put back, as a frame. */
MPROC__FN bool mproc__queue_take_back(mproc_queue *q, size_t capacity, mproc__frame *f, int *error) {
    mproc__message *m = q->back;
    if (m == NULL) return false;
    if (m->size > capacity) {
        *error = MPROC_EMSGSIZE;
        return true;
    }
    MPROC__STORE(&q->back, m->next);
    mproc__queue_count(q, 1);
    f->size = m->size;
    f->where = (uint64_t)(uintptr_t)m;
    *error = 0;
    return true;
}

/* With get_lock held: a mark has served when nothing stands elsewhere any more. It was put into an empty
   pipe, so it is the first there, but for a message put at that very moment. */
MPROC__FN void mproc__queue_drop_marks(mproc_queue *q, const int fd[2]) {
    mproc__frame_buffer frame;
    if (q->back != NULL || MPROC__LOAD(&q->marks) == 0) return;
    mproc__message *spare = mproc__queue_spare(q);
    while (spare != NULL && q->back == NULL && MPROC__LOAD(&q->marks) > 0) {
        ssize_t n = mproc__queue_read(q, fd[0], &frame, 1);
        if (n > 0 && mproc__queue_skips(q, &frame.head)) continue;
        if (n > 0) {
            MPROC__ADD(&q->taken, 2);
            mproc__queue_put_back(q, fd, &frame.head, spare);
            return;
        }
        if (n == -EAGAIN) MPROC__STORE(&q->marks, 0);
        break;
    }
    if (spare != NULL) mproc__message_free(spare);
}

/* With get_lock held: reads a message, or puts it back if it is larger than capacity. */
MPROC__FN int mproc__queue_read_fitting(mproc_queue *q, const int fd[2], size_t capacity, mproc__frame *f) {
    mproc__message *spare = NULL;
    if (capacity < mproc__inline_room(q) && (spare = mproc__queue_spare(q)) == NULL) return MPROC_ENOMEM;
    int error = mproc__queue_read_one(q, fd[0], f, capacity, true);
    if (error == -EAGAIN && mproc__queue_frames(q, fd[0]) == 0) MPROC__STORE(&q->marks, 0);
    if (error == 0 && f->size > capacity) {
        mproc__queue_put_back(q, fd, f, spare);
        return MPROC_EMSGSIZE;
    }
    if (spare != NULL) mproc__message_free(spare);
    return error;
}

/* Frames that were got without get_lock, of which the first does not fit the getter's buffer: it was stopped
   between its look at `largest` and its read for longer than putters wait. They are not counted as taken.
   Having read them it must not give up for want of memory or of the lock; nor wait for the one, which others'
   gets may free, while it has the other. */
MPROC__FN void mproc__queue_return(mproc_queue *q, const int fd[2], char *frames, size_t n) {
    int error;
    for (size_t i = 0; i < n; i++) {
        mproc__frame *f = mproc__frame_at(q, frames, i);
        mproc__message *spare = NULL;
        while (f->where == MPROC__INLINE && (spare = mproc__queue_spare(q)) == NULL) mproc__sleep(MPROC__MS);
        if (spare != NULL) f->where = (uint64_t)(uintptr_t)mproc__frame_keep(f, spare);
    }
    mproc__queue_get_lock(q, fd[0], MPROC__NEVER, &error);
    while (n-- > 0) {
        const mproc__frame *f = mproc__frame_at(q, frames, n);
        if (mproc__queue_skips(q, f)) continue;
        MPROC__ADD(&q->taken, 2);
        mproc__queue_put_back(q, fd, f, NULL);
    }
    if (error == 0) mproc__mutex_unlock(&q->get_lock);
}

/* Takes get_lock, when all who read do so with it. They are awaited before: with it putters within a bound
   and who has to put something back would wait for us. */
MPROC__FN int mproc__queue_careful_lock(mproc_queue *q, int fd, int64_t deadline) {
    int error;
    mproc__queue_idle(q); /* who has the lock need not wait for us */
    if (MPROC__LOAD(&q->careful) != 2) {
        MPROC__STORE(&q->careful, 1);
        mproc__queue_await_others(q, false);
        MPROC__STORE(&q->careful, 2);
    }
    mproc__queue_get_lock(q, fd, mproc__grace(deadline), &error);
    return error;
}

/* Closed and empty, or a pipe that has ended: its descriptor tells so from now on, and wakes the getters that
   sleep, each of which marks it again for the others. */
MPROC__FN void mproc__queue_mark_end(mproc_queue *q, const int fd[2]) {
    if (mproc__queue_careful_lock(q, fd[0], 0) != 0) return; /* its holder is stopped */
    if (mproc__queue_frames(q, fd[0]) == 0) mproc__queue_mark(q, fd);
    mproc__mutex_unlock(&q->get_lock);
}

/* One try for a getter whose buffer may be too small, or while something was put back. */
MPROC__FN int mproc__queue_try_careful(mproc_queue *q, const int fd[2], size_t capacity, mproc__frame *f,
                                       int64_t deadline) {
    int error = mproc__queue_careful_lock(q, fd[0], deadline);
    if (error != 0) return error;
    mproc__queue_enter(q);
    if (!mproc__queue_take_back(q, capacity, f, &error))
        error = mproc__queue_read_fitting(q, fd, capacity, f);
    else if (error == 0) mproc__queue_drop_marks(q, fd);
    mproc__mutex_unlock(&q->get_lock);
    return error;
}

/* One try: 0 with a message's frame, -EAGAIN (nothing more is to come: MPROC_ECLOSED), or an error. After 0
   the note in the seat stands, until the caller is through with the message. */
MPROC__FN int mproc__queue_try_get(mproc_queue *q, const int fd[2], size_t capacity, mproc__frame *f,
                                   int64_t deadline, bool closed) {
    mproc__queue_enter(q);
    int error = mproc__queue_read_one(q, fd[0], f, capacity, false);
    if (error == 0 && f->size > capacity) {
        MPROC__SUB(&q->taken, 2);
        mproc__queue_return(q, fd, (char *)f, 1);
        error = MPROC_EMSGSIZE;
    }
    if (error == -EINTR) error = mproc__queue_try_careful(q, fd, capacity, f, deadline);
    if (error == -EAGAIN && closed) {
        mproc__queue_mark_end(q, fd);
        error = MPROC_ECLOSED;
    }
    if (error != 0) mproc__queue_leave();
    return error;
}

/* Waits for a message's frame. */
MPROC__FN int mproc__queue_get_frame(mproc_queue *q, const mproc_conn *conn, const int fd[2], size_t capacity,
                                     mproc__frame *f, int64_t deadline) {
    bool waiting = false, closed = false;
    int error;
    while ((error = mproc__queue_try_get(q, fd, capacity, f, deadline, closed)) == -EAGAIN) {
        bool doubt = waiting || deadline == 0 || MPROC__LOAD(&q->careful); /* to ask takes time */
        closed = MPROC__LOAD(&q->closed) || (doubt && mproc__conn_forsaken(conn));
        if (closed) { /* a put that began before is let end, and looked for */
            mproc__queue_await_others(q, false);
            continue;
        }
        int64_t left = mproc__left(deadline);
        error = MPROC_ETIMEDOUT;
        if (left == 0) break;
        if (!waiting) mproc__waits_on(q);
        waiting = true;
        mproc__poll(fd[0], POLLIN, mproc__least(left, conn != NULL ? MPROC__SLICE / 2 : MPROC__SLICE));
    }
    if (waiting) mproc__waits_on(NULL);
    return error;
}

MPROC_DEF ssize_t mproc_queue_get(mproc_queue *queue, void *buffer, size_t capacity, double timeout) {
    int64_t deadline;
    mproc__frame_buffer frame;
    int fd[2], error = mproc__queue_begin(queue, buffer, capacity, timeout, &deadline, fd);
    if (error == 0) error = mproc__queue_get_frame(queue, NULL, fd, capacity, &frame.head, deadline);
    if (error != 0) return error;
    ssize_t size = (ssize_t)frame.head.size;
    mproc__frame_unpack(&frame.head, buffer);
    mproc__queue_leave();
    return size;
}

MPROC_DEF void *mproc_queue_take(mproc_queue *queue, size_t *size, double timeout) {
    int64_t deadline;
    mproc__frame_buffer frame;
    int fd[2], error = mproc__queue_begin(queue, NULL, 0, timeout, &deadline, fd);
    if (error != 0) return mproc__fail(error);
    mproc__message *spare =
        mproc__message_new(NULL, mproc__inline_room(queue)); /* first: then nothing can fail */
    if (spare == NULL) return mproc__fail(MPROC_ENOMEM);
    error = mproc__queue_get_frame(queue, NULL, fd, SIZE_MAX, &frame.head, deadline);
    if (error != 0) {
        mproc__message_free(spare);
        return mproc__fail(error);
    }
    mproc__message *m = mproc__frame_keep(&frame.head, spare);
    m->next = NULL; /* the caller's now, not the queue's */
    mproc__queue_leave();
    if (size != NULL) *size = m->size;
    return mproc__message_data(m);
}

/* Writes one message into its place among n of one size. */
MPROC__FN void mproc__frame_unpack_padded(const mproc__frame *f, char *item, size_t size) {
    size_t used = (size_t)f->size;
    mproc__frame_unpack(f, item);
    if (used < size) memset(item + used, 0, size - used);
}

/* What is there now, many frames in one call, while getters need no care; how many messages. */
MPROC__FN size_t mproc__queue_get_there(mproc_queue *q, const int fd[2], void *items, size_t n, size_t size) {
    mproc__frame_batch frames;
    size_t most = sizeof frames.bytes / q->frame, done = 0;
    ssize_t got = 0;
    mproc__queue_enter(q);
    if (mproc__own_seat != NULL && !MPROC__LOAD(&q->careful) && size >= MPROC__LOAD(&q->largest))
        got = mproc__queue_read(q, fd[0], frames.bytes, n < most ? n : most);
    for (ssize_t i = 0; i < got; i++) {
        mproc__frame *f = mproc__frame_at(q, frames.bytes, (size_t)i);
        if (mproc__queue_skips(q, f)) continue;
        if (f->size > size) {
            mproc__queue_return(q, fd, (char *)f, (size_t)(got - i));
            got = i;
        } else mproc__frame_unpack_padded(f, mproc__nth(items, done++, size), size);
    }
    if (done > 0) mproc__queue_count(q, done);
    mproc__queue_leave();
    return done;
}

MPROC_DEF ssize_t mproc_queue_get_many(mproc_queue *queue, void *items, size_t n, size_t size,
                                       double timeout) {
    int64_t deadline;
    size_t done = 0;
    mproc__frame_buffer frame;
    int fd[2], error = mproc__queue_begin(queue, items, size, timeout, &deadline, fd);
    if (n == 0 || (size != 0 && n > SIZE_MAX / size)) return MPROC_EINVAL;
    while (error == 0 && done < n) {
        error = mproc__queue_get_frame(queue, NULL, fd, size, &frame.head, done > 0 ? 0 : deadline);
        if (error != 0) break;
        mproc__frame_unpack_padded(&frame.head, mproc__nth(items, done++, size), size);
        mproc__queue_leave();
        if (done < n)
            done += mproc__queue_get_there(queue, fd, mproc__nth(items, done, size), n - done, size);
    }
    return done > 0 ? (ssize_t)done : error;
}

/* The rest */

MPROC_DEF int mproc_queue_close(mproc_queue *queue) {
    int fd[2];
    if (!mproc__tag_is(queue, MPROC__QUEUE)) return MPROC_EINVAL;
    mproc__queue_idle(queue); /* who is told that it is closed may free it */
    bool first = !MPROC__SWAP(&queue->closed, 1);
    if (first) mproc__flag_end(&queue->room);
    if (first && mproc__port_fds(&queue->port, fd) == 0) {
        if (mproc__queue_frames(queue, fd[0]) == 0) mproc__queue_mark_end(queue, fd);
        else if (!mproc__poll(fd[1], POLLOUT, 0)) /* putters sleep in poll: a larger pipe wakes them */
            fcntl(fd[1], MPROC__F_SETPIPE_SZ, fcntl(fd[1], MPROC__F_GETPIPE_SZ) + 1);
    }
    mproc__queue_leave();
    return 0;
}

MPROC_DEF int mproc_queue_task_done(mproc_queue *queue) {
    if (!mproc__tag_is(queue, MPROC__QUEUE)) return MPROC_EINVAL;
    uint32_t taken = MPROC__LOAD(&queue->taken), next;
    do {
        if (taken < 2) return MPROC_EINVAL;
        next = taken - 2 > 1 ? taken - 2 : 0;
    } while (!MPROC__CAS(&queue->taken, &taken, next));
    if (next == 0 && (taken & 1))
        mproc__futex_wake(&queue->taken, INT32_MAX); /* they may free the queue now */
    return 0;
}

/* Has every message been got and marked? In this order, see above; what was being read at the first look may
   have been put back. */
MPROC__FN bool mproc__queue_finished(mproc_queue *q, int fd) {
    return mproc__queue_length(q, fd) == 0 && !mproc__queue_busy(q, false) && MPROC__LOAD(&q->taken) < 2 &&
           mproc__queue_length(q, fd) == 0;
}

MPROC_DEF int mproc_queue_join(mproc_queue *queue, double timeout) {
    int64_t deadline;
    int fd[2], error = mproc__queue_begin(queue, NULL, 0, timeout, &deadline, fd);
    if (error != 0) return error;
    mproc__waits_on(queue);
    while (!mproc__queue_finished(queue, fd[0])) {
        int64_t left = mproc__left(deadline);
        if (left == 0) {
            error = MPROC_ETIMEDOUT;
            break;
        }
        uint32_t taken = __atomic_fetch_or(&queue->taken, 1, __ATOMIC_SEQ_CST) | 1;
        if (taken < 2 && mproc__queue_length(queue, fd[0]) == 0)
            mproc__sleep(MPROC__MS / 2); /* one is reading */
        else mproc__futex_wait(&queue->taken, taken, mproc__least(left, MPROC__SLICE));
    }
    mproc__waits_on(NULL);
    return error;
}

MPROC_DEF int mproc_queue_fd(mproc_queue *queue) {
    int fd[2], error;
    if (!mproc__tag_is(queue, MPROC__QUEUE)) return MPROC_EINVAL;
    error = mproc__port_fds(&queue->port, fd);
    return error != 0 ? error : fd[0];
}

/* Is this block of the arena a message on its way through q? */
MPROC__FN mproc__message *mproc__block_message_of(mproc__block *b, const mproc_queue *q) {
    mproc__message *m = (mproc__message *)(void *)((char *)b + MPROC__HEAD);
    if (!mproc__used(b) || mproc__size_of(b) < MPROC__HEAD + MPROC__MESSAGE_ROOM) return NULL;
    if (!mproc__tag_is(mproc__tag_before(mproc__message_data(m)), MPROC__MESSAGE)) return NULL;
    return m->next == (const mproc__message *)(const void *)q ? m : NULL;
}

/* Frees what is left of q's messages: those put back, and, found by walking the arena, those of putters
   killed before they had written the frame, or of a pipe whose last receiver was killed. */
MPROC__FN void mproc__queue_sweep(mproc_queue *q) {
    mproc__arena *a = mproc__shared;
    mproc__message *found;
    for (mproc__message *m = q->back, *next; m != NULL; m = next) {
        next = m->next;
        mproc__message_free(m);
    }
    if (q->largest <= mproc__inline_room(q)) return; /* all stood in frames */
    do {
        found = NULL;
        mproc__arena_lock(a);
        for (char *p = a->first; p < a->top && found == NULL; p += mproc__size_of(mproc__block_at(p)))
            found = mproc__block_message_of(mproc__block_at(p), q);
        mproc__mutex_unlock(&a->lock);
        if (found != NULL) mproc__message_free(found);
    } while (found != NULL);
}

MPROC_DEF int mproc_queue_free(mproc_queue *queue) {
    int fd[2];
    mproc__frame_buffer frame;
    if (queue == NULL) return 0;
    if (!mproc__tag_is(queue, MPROC__QUEUE)) return MPROC_EINVAL;
    if (mproc__awaited(queue) || !mproc__queue_await_others(queue, true)) return MPROC_EBUSY;
    uint32_t magic = mproc__magic(&queue->tag);
    if (!mproc__cas32(&queue->tag.magic, magic, 0)) return MPROC_EINVAL;
    MPROC__STORE(&queue->closed, 1);
    bool open = mproc__port_fds(&queue->port, fd) == 0;
    while (open && mproc__queue_read(queue, fd[0], &frame, 1) == 1) mproc__frame_drop(&frame.head);
    mproc__queue_sweep(queue);
    mproc__port_free(&queue->port);
    mproc__dealloc(queue);
    return 0;
}

/* ---- Pipe ---------------------------------------------------------------------------------------------- */

/* Each direction is a pipe of frames as a queue's, with the same kill safety: a large message stands in the
   arena before its frame is written, so a sender killed in the middle of one has sent nothing. What differs
   is that a pipe has ends, and tells when the other one is gone.

   The kernel says so once no process has the other end's descriptors. But a sibling that merely inherited
   them would delay that for its whole life. So each process that has an end stands in the end's list of
   holders, with a note once it uses it; being given the end itself as the argument of mproc_process_start is
   a use. As soon as an end has been used by a process other than its maker, only those who used it count:
   when they have all closed it or died, it is gone, whoever else inherited it. Until then all who have it
   count, for one of them may be the process that the maker meant it for before it closed its own; unless the
   maker used the end and died without closing it. And a process that uses one end gives up the other one if
   it had only inherited that, so that it does not wait for itself. What a late user sends all the same still
   arrives: the end of a pipe is not remembered, but found anew. */

#define MPROC__HOLDS 64 /* the second half is for those who use the end */

typedef struct mproc__pair mproc__pair; /* both ends of a pipe: one block of the arena */

typedef struct mproc__hold {
    uint32_t pid; /* 0: free */
    uint32_t used;
} mproc__hold;

struct mproc_conn {
    mproc__tag tag;
    uint32_t shown;        /* a process other than the maker has used this end */
    mproc__port port;      /* fd[0] to receive and fd[1] to send; -1 what it does not do */
    mproc_queue *in, *out; /* the directions; NULL likewise */
    mproc_conn *peer;
    mproc__pair *pair;
    mproc__hold hold[MPROC__HOLDS];
};

struct mproc__pair {
    mproc__u64 touched; /* when a holder came or went */
    uint32_t forks;     /* of the family, when the pipe was made */
    size_t crowded;     /* 1: more holders of an end than fit the list; 2: of those who use it, so that the
                           kernel alone decides */
    pid_t maker;
    mproc_conn end[2];
    mproc_queue way[2]; /* way[0] leads to end[0] */
};

MPROC__FN mproc__hold *mproc__hold_of(mproc_conn *c, uint32_t pid) {
    for (int i = 0; i < MPROC__HOLDS; i++)
        if (MPROC__LOAD(&c->hold[i].pid) == pid) return &c->hold[i];
    return NULL;
}

/* A free place, or that of a dead process, but the maker's: whether it used the end counts for good. */
MPROC__FN mproc__hold *mproc__hold_claim(mproc_conn *c, uint32_t pid, bool used) {
    for (int i = 0; i < (used ? MPROC__HOLDS : MPROC__HOLDS / 2); i++) {
        uint32_t old = MPROC__LOAD(&c->hold[i].pid);
        if (old == (uint32_t)c->pair->maker || (old != 0 && mproc__alive((pid_t)old, (pid_t)old))) continue;
        if (!mproc__cas32(&c->hold[i].pid, old, pid)) continue;
        MPROC__STORE(&c->hold[i].used, 0);
        return &c->hold[i];
    }
    return NULL;
}

/* Enters a process among the holders of an end. */
MPROC__FN void mproc__conn_hold(mproc_conn *c, pid_t who, bool used) {
    mproc__hold *hold = mproc__hold_of(c, (uint32_t)who);
    MPROC__STORE(&c->pair->touched, (uint64_t)mproc__now());
    if (hold == NULL) hold = mproc__hold_claim(c, (uint32_t)who, used);
    if (hold == NULL) mproc__raise(&c->pair->crowded, used ? 2 : 1);
    else if (used) MPROC__STORE(&hold->used, 1);
    if (used && who != c->pair->maker) MPROC__STORE(&c->shown, 1);
}

/* Is there a living holder of the end (that has used it), other than this process if so wanted? */
MPROC__FN bool mproc__conn_held(const mproc_conn *c, bool used, bool others) {
    for (int i = 0; i < MPROC__HOLDS; i++) {
        uint32_t pid = MPROC__LOAD(&c->hold[i].pid);
        if (pid == 0 || (used && !MPROC__LOAD(&c->hold[i].used))) continue;
        if (others && pid == (uint32_t)mproc__self.pid) continue;
        if (mproc__alive((pid_t)pid, (pid_t)pid)) return true;
    }
    return false;
}

/* The end is gone though siblings have inherited it: see above. */
MPROC__FN bool mproc__conn_gone(mproc_conn *c) {
    const mproc__hold *maker = mproc__hold_of(c, (uint32_t)c->pair->maker);
    bool shown = MPROC__LOAD(&c->shown) || (maker != NULL && MPROC__LOAD(&maker->used));
    return shown && MPROC__LOAD(&c->pair->crowded) < 2 && !mproc__conn_held(c, true, false);
}

MPROC__FN bool mproc__conn_forsaken(const mproc_conn *c) { return c != NULL && mproc__conn_gone(c->peer); }

/* In a child of fork: it holds what its parent held. */
MPROC__FN void mproc__conns_inherit(void) {
    for (uint32_t i = 0, n = MPROC__LOAD(&mproc__shared->ports_used); i < n; i++)
        if (mproc__self.port[i].conn != NULL)
            mproc__conn_hold(mproc__self.port[i].conn, mproc__self.pid, false);
}

/* With pairs_lock held: frees a pipe that nobody holds any more, with what nobody received. A process that
   was forked just now may not stand in the list yet; so either nobody has forked, or a second has passed. */
MPROC__FN void mproc__pair_tidy(mproc__arena *a, uint32_t number) {
    mproc__pair *p = (mproc__pair *)MPROC__LOAD(&a->pair[number]);
    if (p == NULL || p->crowded) return;
    if (p->forks != MPROC__LOAD(&a->forks) &&
        mproc__now() - (int64_t)MPROC__LOAD(&p->touched) < MPROC__SECOND)
        return;
    if (mproc__conn_held(&p->end[0], false, false) || mproc__conn_held(&p->end[1], false, false)) return;
    MPROC__STORE(&a->pair[number], (void *)NULL);
    for (int k = 0; k < 2; k++) {
        MPROC__STORE(&p->end[k].tag.magic, 0);
        mproc__queue_sweep(&p->way[k]);
        mproc__port_free(&p->end[k].port);
    }
    mproc__dealloc(p);
}

/* Looks at some pipes, for each new one that is made. */
MPROC__FN void mproc__pairs_tidy(uint32_t looks) {
    mproc__arena *a = mproc__shared;
    int error = mproc__mutex_lock(&a->pairs_lock, 0);
    if (error == -EOWNERDEAD) mproc__mutex_repaired(&a->pairs_lock); /* at worst a block is lost */
    else if (error != 0) return;
    for (uint32_t used = MPROC__LOAD(&a->ports_used); looks > 0 && used > 0; looks--) {
        a->pairs_look = a->pairs_look + 1 < used ? a->pairs_look + 1 : 0;
        mproc__pair_tidy(a, a->pairs_look);
    }
    mproc__mutex_unlock(&a->pairs_lock);
}

MPROC__FN int mproc__conn_set_up(mproc__pair *p, int side, int read_fd, int write_fd) {
    mproc_conn *c = &p->end[side];
    const int fd[2] = {read_fd, write_fd};
    c->pair = p;
    c->peer = &p->end[1 - side];
    c->in = read_fd >= 0 ? &p->way[side] : NULL;
    c->out = write_fd >= 0 ? &p->way[1 - side] : NULL;
    int error = mproc__port_make(&c->port, fd, c);
    if (error != 0) return error;
    mproc__conn_hold(c, mproc__self.pid, false);
    return 0;
}

/* A direction: a pipe, and the part of a queue that it takes. */
MPROC__FN int mproc__way_set_up(mproc_queue *way, int fd[2]) {
    int error = mproc__mutex_init(&way->get_lock, PTHREAD_MUTEX_ERRORCHECK);
    way->frame = MPROC__FRAME;
    way->batch = 1;
    return error != 0 ? error : mproc__pipe(fd, O_NONBLOCK);
}

MPROC__FN int mproc__pair_set_up(mproc__pair *p, bool duplex) {
    int to0[2] = {-1, -1}, to1[2] = {-1, -1};
    p->maker = mproc__self.pid;
    int error = mproc__way_set_up(&p->way[0], to0);
    if (error == 0 && duplex) error = mproc__way_set_up(&p->way[1], to1);
    if (error == 0) error = mproc__conn_set_up(p, 0, to0[0], to1[1]);
    if (error == 0) {
        error = mproc__conn_set_up(p, 1, to1[0], to0[1]);
        if (error == 0) return 0;
        mproc__port_free(&p->end[0].port); /* and closes its descriptors */
        to0[0] = to1[1] = -1;
    }
    for (int i = 0; i < 2; i++) {
        mproc__close(&to0[i]);
        mproc__close(&to1[i]);
    }
    return error;
}

MPROC_DEF int mproc_pipe_new(mproc_conn *ends[2], bool duplex) {
    if (ends == NULL) return MPROC_EINVAL;
    mproc__pair *p = (mproc__pair *)mproc__object_new(sizeof *p);
    if (p == NULL) return -errno;
    mproc__pairs_tidy(8);
    p->forks = MPROC__LOAD(&mproc__shared->forks);
    int error = mproc__pair_set_up(p, duplex);
    if (error != 0) {
        mproc__dealloc(p);
        return error;
    }
    for (int i = 0; i < 2; i++) {
        mproc__tag_set(&p->end[i].tag, MPROC__CONN);
        ends[i] = &p->end[i];
    }
    MPROC__STORE(&mproc__shared->pair[p->end[0].port.number], (void *)p);
    return 0;
}

/* This process does not hold the end any more. With its last entry the pipe may be freed by others. */
MPROC__FN void mproc__conn_let_go(mproc_conn *c) {
    mproc__hold *last = NULL;
    MPROC__STORE(&c->pair->touched, (uint64_t)mproc__now());
    for (int i = 0; i < MPROC__HOLDS; i++) {
        if (MPROC__LOAD(&c->hold[i].pid) != (uint32_t)mproc__self.pid) continue;
        if (last != NULL) MPROC__STORE(&last->pid, 0);
        last = &c->hold[i];
    }
    if (last != NULL) MPROC__STORE(&last->pid, 0);
}

/* Has the program gone on in this process, so that it may still hand the end, which it alone has, to others?
   So where a plain fork outlived the maker. Not where the maker has closed the end, nor in a process that was
   started: it would wait for itself. */
MPROC__FN bool mproc__conn_heir(mproc_conn *c) {
    pid_t maker = c->pair->maker;
    return mproc__self.own == NULL && mproc__hold_of(c, (uint32_t)maker) != NULL &&
           !mproc__alive(maker, maker) && !mproc__conn_held(c, false, true);
}

/* The first use of an end in this process: the other end, which it has inherited and not used, is not its any
   more. Under the lock, for another thread may be about to use that one for the first time. */
MPROC__FN void mproc__conn_first_use(mproc_conn *c, mproc__local_port *slot) {
    const int none[2] = {-1, -1};
    mproc__local_port *other = &mproc__self.port[c->peer->port.number];
    pthread_mutex_lock(&mproc__self.lock);
    if (slot->serial == c->port.serial) { /* not dropped or closed by another thread just now */
        mproc__conn_hold(c, mproc__self.pid, true);
        slot->conn = c; /* a port that was adopted late does not know it yet */
        MPROC__STORE(&slot->user, mproc__self.pid);
        bool inherited = other->conn == c->peer && other->user != mproc__self.pid;
        if (inherited && c->pair->maker != mproc__self.pid && !mproc__conn_heir(c->peer)) {
            mproc__port_keep(other, 0, none);
            mproc__conn_let_go(c->peer);
        }
    }
    pthread_mutex_unlock(&mproc__self.lock);
}

/* Begins a call on an end: this process's descriptors for it, and the note that it uses it. Once that is
   there nobody drops them; what was dropped before is opened again. */
MPROC__FN int mproc__conn_enter(mproc_conn *c, int fd[2]) {
    if (!mproc__tag_is(c, MPROC__CONN)) return MPROC_EINVAL;
    mproc__local_port *slot = &mproc__self.port[c->port.number];
    for (;;) {
        bool used = MPROC__LOAD(&slot->user) == mproc__self.pid; /* before looking for the descriptors */
        int error = mproc__port_fds(&c->port, fd);
        if (error != 0 || used) return error;
        mproc__conn_first_use(c, slot);
    }
}

MPROC_DEF int mproc_conn_send(mproc_conn *conn, const void *data, size_t size, double timeout) {
    int64_t deadline;
    int fd[2], error;
    sigset_t one, before, pending;
    struct timespec none = {0, 0};
    if ((data == NULL && size > 0) || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    if ((error = mproc__conn_enter(conn, fd)) != 0) return error;
    if (conn->out == NULL) return MPROC_EPERM;
    sigemptyset(&one); /* SIGPIPE is not for the program: held back, and taken away again if it came of us */
    sigaddset(&one, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &one, &before);
    error = mproc__queue_put_one(conn->out, conn, fd, data, size, deadline);
    if (error == -EPIPE && !sigismember(&pending, SIGPIPE)) sigtimedwait(&one, NULL, &none);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

MPROC_DEF ssize_t mproc_conn_recv(mproc_conn *conn, void *buffer, size_t capacity, double timeout) {
    int64_t deadline;
    int fd[2], error;
    mproc__frame_buffer frame;
    if ((buffer == NULL && capacity > 0) || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    if ((error = mproc__conn_enter(conn, fd)) != 0) return error;
    if (conn->in == NULL) return MPROC_EPERM;
    error = mproc__queue_get_frame(conn->in, conn, fd, capacity, &frame.head, deadline);
    if (error != 0) return error;
    ssize_t size = (ssize_t)frame.head.size;
    mproc__frame_unpack(&frame.head, buffer);
    mproc__queue_leave();
    return size;
}

MPROC_DEF int mproc_conn_poll(mproc_conn *conn, double timeout) {
    int64_t deadline;
    int fd[2], error;
    if (!mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    if ((error = mproc__conn_enter(conn, fd)) != 0) return error;
    if (conn->in == NULL) return MPROC_EPERM;
    for (bool waited = deadline == 0 || MPROC__LOAD(&conn->in->careful);; waited = true) {
        bool gone =
            waited && mproc__conn_gone(conn->peer); /* before the look: what was sent by then counts */
        struct pollfd p = {fd[0], POLLIN, 0};
        poll(&p, 1, 0);
        if (mproc__queue_length(conn->in, fd[0]) > 0) return 1;
        if (gone || (p.revents & POLLHUP)) return MPROC_ECLOSED;
        int64_t left = mproc__left(deadline);
        if (left == 0) return 0;
        mproc__queue_get_lock(conn->in, fd[0], mproc__grace(deadline), &error);
        if (error != 0) return 0; /* its holder is stopped */
        mproc__queue_drop_marks(conn->in, fd);
        mproc__mutex_unlock(&conn->in->get_lock);
        mproc__poll(fd[0], POLLIN, mproc__least(left, MPROC__SLICE / 2));
    }
}

MPROC_DEF int mproc_conn_fd(mproc_conn *conn) {
    int fd[2], error = mproc__conn_enter(conn, fd);
    return error != 0 ? error : fd[0] >= 0 ? fd[0] : fd[1];
}

MPROC_DEF int mproc_conn_close(mproc_conn *conn) {
    if (!mproc__tag_is(conn, MPROC__CONN)) return MPROC_EINVAL;
    mproc__port_drop(&conn->port, ~conn->port.serial);
    mproc__conn_let_go(conn);
    return 0;
}

/* A process is started with an end as its argument: it counts from now on, whatever its parent closes next.
 */
MPROC__FN void mproc__conn_given(void *arg, pid_t pid) {
    mproc_conn *c = (mproc_conn *)arg;
    int fd[2];
    if (!mproc__tag_is(c, MPROC__CONN)) return;
    if (pid == mproc__self.pid) mproc__conn_enter(c, fd);
    else mproc__conn_hold(c, pid, true);
}

/* ---- Ring ---------------------------------------------------------------------------------------------- */

/* Items of one size in shared memory, a robust lock at each end. put copies its items behind the tail and
   then moves the tail, one store; get copies from the head and then moves the head, one store. A process
   killed in between has moved nothing, and its lock passes on: there is nothing to repair. Each side
   remembers how far it last saw the other one, and looks again only when that is not enough, so that while
   both are busy the two ends share no cache line but that of the items.

   Who finds it empty or full sleeps on a flag. Producers are woken once it is half empty, by whoever makes it
   so (going by the shared positions: a position remembered could be stale, and then nobody would wake them).
 */

typedef struct mproc__ring_end {
    mproc__mutex lock;
    size_t at;    /* position: 0 to 2 * capacity - 1, so that full and empty differ */
    size_t other; /* the other end's, as last seen */
} mproc__ring_end;

/* The first cache line hardly changes while both sides are busy; each end has lines of its own, and so have
   the items, which begin a line: see mproc__ring_lines. */
struct mproc_ring {
    mproc__tag tag;
    size_t size;       /* of an item */
    size_t capacity;   /* items */
    uint32_t closed;   /* 0, or one of these: */
    uint32_t sleep[2]; /* flags: those who wait for the other end to move, by `put` */
};
enum {
    MPROC__CLOSED = 1,
    MPROC__CLOSING = 2, /* and who holds the tail's lock may still be putting something */
};
#define MPROC__RING_END  ((size_t)2 * MPROC__LINE) /* bytes: processors fetch lines in pairs */
#define MPROC__RING_ROOM (sizeof(mproc_ring) + (size_t)2 * MPROC__LINE + 2 * MPROC__RING_END)

MPROC__FN char *mproc__ring_lines(const mproc_ring *r) {
    uintptr_t p = (uintptr_t)(r + 1) + MPROC__LINE;
    return (char *)((p + MPROC__LINE - 1) & ~(uintptr_t)(MPROC__LINE - 1));
}
MPROC__FN mproc__ring_end *mproc__ring_at(const mproc_ring *r, bool put) {
    return (mproc__ring_end *)(void *)(mproc__ring_lines(r) + (put ? MPROC__RING_END : 0));
}
MPROC__FN char *mproc__ring_data(const mproc_ring *r) { return mproc__ring_lines(r) + 2 * MPROC__RING_END; }

MPROC_DEF mproc_ring *mproc_ring_new(size_t item_size, size_t capacity) {
    if (item_size == 0 || capacity == 0) return (mproc_ring *)mproc__fail(MPROC_EINVAL);
    if (capacity > SIZE_MAX / 4 || item_size > SIZE_MAX / 4 / capacity)
        return (mproc_ring *)mproc__fail(MPROC_ENOMEM);
    mproc_ring *r = (mproc_ring *)mproc__object_new(MPROC__RING_ROOM + item_size * capacity);
    if (r == NULL) return NULL;
    r->size = item_size;
    r->capacity = capacity;
    int error = mproc__mutex_init(&mproc__ring_at(r, false)->lock, PTHREAD_MUTEX_ERRORCHECK);
    if (error == 0) error = mproc__mutex_init(&mproc__ring_at(r, true)->lock, PTHREAD_MUTEX_ERRORCHECK);
    return (mproc_ring *)mproc__object_ready(r, MPROC__RING, error);
}

MPROC__FN size_t mproc__ring_count(const mproc_ring *r, size_t head, size_t tail) {
    return tail >= head ? tail - head : tail + 2 * r->capacity - head;
}

MPROC_DEF size_t mproc_ring_size(mproc_ring *ring) {
    if (!mproc__tag_is(ring, MPROC__RING)) return 0;
    size_t n = mproc__ring_count(ring, MPROC__LOAD(&mproc__ring_at(ring, false)->at),
                                 MPROC__LOAD(&mproc__ring_at(ring, true)->at));
    return n > ring->capacity ? ring->capacity : n; /* the ends moved between the two looks */
}

MPROC__FN int mproc__ring_lock(mproc__ring_end *end, int64_t deadline) {
    int error = mproc__mutex_lock(&end->lock, 0);
    if (error == -ETIMEDOUT) error = mproc__mutex_lock(&end->lock, mproc__grace(deadline));
    if (error != -EOWNERDEAD) return error;
    mproc__mutex_repaired(&end->lock);
    return 0;
}

/* With the end's lock held: copies n items from (put) or to (get) the place `at`, around the end if need be.
 */
MPROC__FN void mproc__ring_copy(mproc_ring *r, size_t at, char *items, size_t n, bool put) {
    char *data = mproc__ring_data(r);
    size_t from = at >= r->capacity ? at - r->capacity : at;
    size_t first = n < r->capacity - from ? n : r->capacity - from, split = first * r->size;
    char *place = data + from * r->size;
    if (put) {
        memcpy(place, items, split);
        if (first < n) memcpy(data, items + split, n * r->size - split);
    } else {
        memcpy(items, place, split);
        if (first < n) memcpy(items + split, data, n * r->size - split);
    }
}

/* How many items the end can move now: full ones for get, empty ones for put. */
MPROC__FN size_t mproc__ring_ready(mproc_ring *r, bool put, size_t wanted) {
    mproc__ring_end *end = mproc__ring_at(r, put);
    const mproc__ring_end *other = mproc__ring_at(r, !put);
    for (int look = 0;; look++) {
        size_t full = mproc__ring_count(r, put ? end->other : end->at, put ? end->at : end->other);
        size_t ready = put ? r->capacity - full : full;
        if (ready >= wanted || look == 1) return ready < wanted ? ready : wanted;
        end->other = MPROC__LOAD(&other->at);
    }
}

/* One try: how many items were moved; 0 for none now; or an error. Wakes one who waits to get what was put,
   or those who wait for half the room. The flag goes down under the lock: who gets the last item may free the
   ring as soon as that is let go. */
MPROC__FN ssize_t mproc__ring_try(mproc_ring *r, char *items, size_t n, bool put, int64_t deadline) {
    mproc__ring_end *end = mproc__ring_at(r, put);
    uint32_t *sleep = &r->sleep[!put];
    bool tell = false;
    int error = mproc__ring_lock(end, deadline);
    if (error != 0) return error;
    uint32_t closed = MPROC__LOAD(&r->closed);
    if (closed == MPROC__CLOSING && !put && mproc__mutex_holder(&mproc__ring_at(r, true)->lock) != 0)
        closed = 0;
    size_t ready = put && closed != 0 ? 0 : mproc__ring_ready(r, put, n);
    if (ready > 0) {
        size_t at = end->at, turn = 2 * r->capacity;
        mproc__ring_copy(r, at, items, ready, put);
        at += ready;
        MPROC__STORE(&end->at, at >= turn ? at - turn : at);
        tell = MPROC__LOAD(sleep) != 0 && (put || mproc_ring_size(r) <= r->capacity / 2);
        if (tell) MPROC__STORE(sleep, 0);
    }
    mproc__mutex_unlock(&end->lock);
    if (tell) mproc__futex_wake(sleep, put ? 1 : INT32_MAX);
    return ready > 0 ? (ssize_t)ready : closed != 0 ? MPROC_ECLOSED : 0;
}

/* Empty or full: watches for a moment, without the lock, whether the other end moves. Room for one item alone
   is not worth going on for: taken one by one, each would cost both sides a cache miss. */
MPROC__FN bool mproc__ring_spin(mproc_ring *r, bool put) {
    bool moved = false;
    for (int spins = mproc__spin_begin(); mproc__spins(&spins, moved);) {
        size_t n = mproc_ring_size(r);
        moved = put ? n < r->capacity - r->capacity / 8 : n > 0;
    }
    return moved;
}

/* Moves up to n items: waits for the first of a get, for all of a put. How many, or an error for none. */
MPROC__FN ssize_t mproc__ring_move(mproc_ring *r, char *items, size_t n, bool put, double timeout) {
    int64_t deadline;
    if (!mproc__tag_is(r, MPROC__RING) || items == NULL || n == 0 || !mproc__deadline(timeout, &deadline))
        return MPROC_EINVAL;
    uint32_t *sleep = &r->sleep[put];
    size_t done = 0;
    bool waiting = false, spun = false;
    ssize_t moved;
    for (bool flagged = false;;) {
        moved = mproc__ring_try(r, items + done * r->size, n - done, put, deadline);
        if (moved > 0) {
            done += (size_t)moved;
            flagged = spun = false;
            if (done == n || !put) break;
            continue;
        }
        if (moved == 0 && mproc__left(deadline) == 0) moved = MPROC_ETIMEDOUT;
        if (moved < 0) break;
        if (!waiting) mproc__waits_on(r); /* before spinning: who frees the ring must know */
        waiting = true;
        if (!spun) { /* once before each sleep, the first of a wait */
            spun = true;
            if (mproc__ring_spin(r, put)) continue;
        }
        if (flagged) mproc__flag_sleep(sleep, deadline);
        flagged = true;
        MPROC__STORE(sleep, 1); /* and one more try before the sleep */
    }
    if (waiting) {
        if (MPROC__LOAD(&r->closed)) mproc__flag_end(sleep);
        else if (put ? mproc_ring_size(r) < r->capacity : mproc_ring_size(r) > 0) mproc__flag_wake(sleep, 1);
        mproc__waits_on(NULL);
    }
    return done > 0 ? (ssize_t)done : moved;
}

MPROC_DEF int mproc_ring_put(mproc_ring *ring, const void *item, double timeout) {
    ssize_t n = mproc__ring_move(ring, (char *)(uintptr_t)item, 1, true, timeout);
    return n > 0 ? 0 : (int)n;
}
MPROC_DEF int mproc_ring_get(mproc_ring *ring, void *item, double timeout) {
    ssize_t n = mproc__ring_move(ring, (char *)item, 1, false, timeout);
    return n > 0 ? 0 : (int)n;
}
MPROC_DEF ssize_t mproc_ring_put_many(mproc_ring *ring, const void *items, size_t n, double timeout) {
    return mproc__ring_move(ring, (char *)(uintptr_t)items, n, true, timeout);
}
MPROC_DEF ssize_t mproc_ring_get_many(mproc_ring *ring, void *items, size_t n, double timeout) {
    return mproc__ring_move(ring, (char *)items, n, false, timeout);
}

/* Under the tail's lock, so that no put is under way that would come after the last get. Its holder may be
   stopped: then getters see to it that it is through before they call the ring closed. */
MPROC_DEF int mproc_ring_close(mproc_ring *ring) {
    if (!mproc__tag_is(ring, MPROC__RING)) return MPROC_EINVAL;
    mproc__queue_idle(ring); /* who is told that it is closed may free it */
    int error = mproc__ring_lock(mproc__ring_at(ring, true), 0);
    mproc__cas32(&ring->closed, 0, error == 0 ? MPROC__CLOSED : MPROC__CLOSING);
    if (error == 0) mproc__mutex_unlock(&mproc__ring_at(ring, true)->lock);
    mproc__flag_end(&ring->sleep[false]);
    mproc__flag_end(&ring->sleep[true]);
    mproc__queue_leave();
    return 0;
}

/* Is somebody amid a move, or closing it? */
MPROC__FN bool mproc__ring_busy(const mproc_ring *r) {
    return mproc__mutex_holder(&mproc__ring_at(r, false)->lock) != 0 ||
           mproc__mutex_holder(&mproc__ring_at(r, true)->lock) != 0 || mproc__queue_busy(r, true);
}

/* Who put what was got last may still have the lock for a moment. */
MPROC_DEF int mproc_ring_free(mproc_ring *ring) {
    for (int64_t end = mproc__now() + 50 * MPROC__MS;
         mproc__tag_is(ring, MPROC__RING) && mproc__ring_busy(ring);) {
        if (mproc__now() > end) return MPROC_EBUSY;
        sched_yield();
    }
    return mproc__unawaited_free(ring, MPROC__RING);
}

/* ---- Pool ---------------------------------------------------------------------------------------------- */

/* A supervisor process is the parent of the workers. It waits for their end, names the task that each one
   held, replaces them, enforces time limits, and takes everything down with the program. It sleeps in
   sigtimedwait, all signals blocked: SIGCHLD tells it of a worker's end, SIGCONT of news in shared memory or
   of the program's end (through the pipe of mproc__tie), SIGTERM to terminate. SIGCONT, because it also
   resumes a supervisor that somebody stopped, and is harmless should it ever reach a stranger.

   A task stands in a slot (an mproc_future) whose one word holds {state, holder, generation}:

       FREE -> FILLING(pid) -> READY(pid) -> RUNNING(worker) -> DONE -> FILLING(pid) -> FREE, next generation

   or, cancelled while READY, at once to DONE(why). A RUNNING task that is cancelled or past its limit is
   DOOMED(worker) until its worker, which goes on writing to the slot, is killed and collected. Each arrow is
   one compare-and-swap, so no instant exists at which a task belongs to nobody. Two structures only help to
   find slots, and may be wrong without harm: a bitmap of free slots, and the ring, a queue of slots that are
   ready. An entry of the ring whose slot is not READY any more is passed over. What processes killed in
   between leave behind (a slot filled by the dead, a ready slot not in the ring, a free slot not in the
   bitmap) the supervisor finds on its rounds.

   A worker writes the slot's number into its record before it claims the slot. When it dies, the supervisor
   looks at that slot: RUNNING or DOOMED under this worker's pid means the task dies with it. */

#define MPROC__SEGMENT     256       /* slots that are allocated together */
#define MPROC__SEGMENTS    16384     /* at most: four million tasks and futures */
#define MPROC__INLINE_TASK 96        /* bytes of argument and result that stand in the slot */
#define MPROC__NESTING     32        /* tasks that wait for tasks of their own pool, in one worker */
#define MPROC__WORKERS     4096      /* at most */
#define MPROC__ORPHAN      0xffffffu /* for a pid: the process that asked is gone */

enum { MPROC__FREE, MPROC__FILLING, MPROC__READY, MPROC__RUNNING, MPROC__DOOMED, MPROC__DONE };

typedef struct mproc__item { /* what came of one item of a task for many */
    int32_t status;          /* 0 or an error */
    int32_t code;            /* what the task returned, or how its worker ended */
} mproc__item;

typedef struct mproc__job { /* what is handed in: a task for one item or for many */
    mproc_task task;
    const char *in; /* arguments, in_size apart */
    char *out;      /* results, out_size apart; NULL when handed in: the slot finds room */
    size_t in_size, out_size;
    size_t first;      /* of a map: which item the first one is */
    uint32_t count;    /* items */
    uint32_t detached; /* nobody wants the result: who finishes the task frees the slot */
    bool in_place;     /* the arguments stay where they are: in shared memory */
} mproc__job;

struct mproc_future {
    mproc__tag tag;  /* valid while somebody has the future in hand */
    uint32_t index;  /* of this slot in its pool */
    uint32_t owner;  /* pid of the process that asked; the future goes with it */
    mproc__u64 word; /* generation << 32 | holder << 8 | state */
    mproc_pool *pool;
    mproc__job job;
    mproc__item *items; /* one for each item; `single` when there is only one */
    void *block;        /* arena memory that goes with the slot, or NULL */
    uint32_t begun;     /* items begun, and */
    uint32_t done;      /* finished: as many, or the last one is running */
    uint32_t counted;   /* of these, before its present worker */
    uint32_t wake;      /* flag: somebody sleeps until it is done */
    uint32_t cancel;    /* somebody wants it killed */
    uint32_t told;      /* the asking process knows that it is done: not a reason to be woken any more */
    mproc__item single;
    uint64_t room[MPROC__INLINE_TASK / 8] __attribute__((aligned(16)));
};

typedef struct mproc__tally { /* counts of finished items */
    size_t done, failed;
} mproc__tally;

typedef struct mproc__worker { /* a multiple of 8 bytes, with 32 bits too: the ring stands behind them */
    uint32_t pid;              /* 0: none */
    uint32_t ready;            /* its initializer succeeded */
    uint32_t depth;            /* of current: tasks that wait for tasks */
    uint32_t current[MPROC__NESTING];                          /* slot + 1 it claims or runs */
    int64_t began[MPROC__NESTING] __attribute__((aligned(8))); /* when, if there is a time limit */
    mproc__tally tally, next_tally; /* its own and its forerunners': see mproc__worker_prepare_count */
} mproc__worker;

struct mproc_pool {
    mproc__tag tag;
    mproc__mutex life;     /* held by the supervisor as long as it lives */
    uint32_t started;      /* 1, plus the errno with which the start failed */
    uint32_t closed, quit; /* no more tasks; workers shall leave */
    uint32_t why;          /* to be ended by force: minus the error that what is unfinished gets */
    uint32_t over;         /* nothing runs any more */
    uint32_t settled;      /* and every task has been told so */
    uint32_t watch;        /* flag: somebody waits for started or over */
    pid_t supervisor, creator;
    uint64_t child; /* the creator's record of the supervisor: its pid may be another's by and by */
    mproc_pool_options options;
    char name[40], progress[80]; /* copies: other processes may not have the memory of who made the pool */
    int workers;
    mproc_pool_counts counts; /* kept by the supervisor, but for what the workers' records tell */
    mproc__worker *worker;    /* workers of them */
    uint32_t segments;        /* in use */
    uint32_t hint;            /* there is hardly a free slot before this word of the bitmap */
    size_t backlog;           /* ready tasks at most */
    mproc_future *segment[MPROC__SEGMENTS];
    uint32_t free[MPROC__SEGMENTS * (MPROC__SEGMENT / 32)]; /* a bit for each free slot */
    mproc__u64 mask;                                        /* length of the ring minus 1 */
    uint64_t *entry; /* the ring: position << 24 | slot + 1, or position << 24 */
    char apart1[MPROC__LINE];
    mproc__u64 tail;
    char apart2[MPROC__LINE];
    mproc__u64 head;
    char apart3[MPROC__LINE];
    uint32_t work;      /* flag: workers sleep here */
    uint32_t space;     /* flag: submitters sleep here */
    uint32_t any;       /* flag: sleeps whoever waits for any task to be done */
    uint32_t fd_wanted; /* mproc_pool_fd was called */
    uint32_t fd_rung;   /* 1: a byte is to be put into its pipe; 2: it was */
    uint32_t fd_slot;   /* the last one for whose sake it rang: the next to ask after is likely to follow */
    mproc__port bell;   /* that pipe */
};

static struct { /* in a worker: which; in a process that a task started: of which pool, without a worker */
    mproc_pool *pool;
    mproc__worker *worker;
    pid_t thread; /* that runs the tasks */
} mproc__me;

MPROC__FN bool mproc__is_pool(const mproc_pool *pool) { return mproc__tag_is(pool, MPROC__POOL); }
MPROC__FN bool mproc__is_future(const mproc_future *f) { return mproc__tag_is(f, MPROC__FUTURE); }

/* Slots */

MPROC__FN uint32_t mproc__state(uint64_t word) { return (uint32_t)(word & 0xff); }
MPROC__FN uint32_t mproc__holder_of(uint64_t word) { return (uint32_t)(word >> 8 & 0xffffff); }
MPROC__FN uint64_t mproc__word(uint64_t old, uint32_t state, uint32_t holder) {
    return (old & ~(uint64_t)0xffffffff) | (uint64_t)holder << 8 | state;
}
MPROC__FN uint32_t mproc__own_holder(void) { return (uint32_t)mproc__self.pid & 0xffffff; }
MPROC__FN bool mproc__is_done(const mproc_future *f) {
    return mproc__state(MPROC__LOAD(&f->word)) == MPROC__DONE;
}

MPROC__FN mproc_future *mproc__slot(const mproc_pool *pool, uint32_t index) {
    return pool->segment[index / MPROC__SEGMENT] + index % MPROC__SEGMENT;
}

/* Wakes the supervisor: there is news in shared memory. */
MPROC__FN void mproc__supervisor_call(mproc_pool *pool) {
    if (pool->supervisor > 0 && !MPROC__LOAD(&pool->over)) kill(pool->supervisor, SIGCONT);
}

/* The pool is to end by force, for this reason, unless there is one already. */
MPROC__FN void mproc__pool_doom(mproc_pool *pool, int error) {
    mproc__cas32(&pool->why, 0, (uint32_t)-error);
}

/* What becomes of a task that has not finished when nothing runs any more. */
MPROC__FN int mproc__pool_lost(const mproc_pool *pool) {
    uint32_t why = MPROC__LOAD(&pool->why);
    return why != 0 ? -(int)why : MPROC_ECANCELED;
}

/* Adds a segment of free slots to the n there are. Of several that do so, one succeeds; who is killed before
   the last steps leaves them to the next one, and the bitmap to the supervisor. */
MPROC__FN int mproc__pool_grow(mproc_pool *pool, uint32_t n) {
    mproc_future *slots = NULL, *none = NULL;
    if (n < MPROC__SEGMENTS) slots = (mproc_future *)mproc__alloc(MPROC__SEGMENT * sizeof *slots, true);
    if (slots == NULL) return MPROC__LOAD(&pool->segments) != n ? 0 : MPROC_ENOMEM;
    for (uint32_t i = 0; i < MPROC__SEGMENT; i++) {
        slots[i].index = n * MPROC__SEGMENT + i;
        slots[i].pool = pool;
    }
    if (!MPROC__CAS(&pool->segment[n], &none, slots)) mproc__dealloc(slots);
    uint32_t first = n * (MPROC__SEGMENT / 32);
    if (mproc__cas32(&pool->segments, n, n + 1)) {
        for (uint32_t i = 0; i < MPROC__SEGMENT / 32; i++) MPROC__STORE(&pool->free[first + i], UINT32_MAX);
        MPROC__STORE(&pool->hint, first);
    }
    mproc__supervisor_call(pool); /* it looks for slots of dead processes before there are many more */
    return 0;
}

MPROC__FN void mproc__bit_set(mproc_pool *pool, uint32_t index) {
    __atomic_fetch_or(&pool->free[index / 32], (uint32_t)1 << index % 32, __ATOMIC_SEQ_CST);
}

/* Takes a bit out of one word of the bitmap, and the slot it stands for, if that is free indeed. */
MPROC__FN mproc_future *mproc__slot_from(mproc_pool *pool, uint32_t word) {
    for (uint32_t bits; (bits = MPROC__LOAD(&pool->free[word])) != 0;) {
        uint32_t bit = (uint32_t)__builtin_ctz(bits);
        __atomic_fetch_and(&pool->free[word], ~((uint32_t)1 << bit), __ATOMIC_SEQ_CST);
        mproc_future *f = mproc__slot(pool, word * 32 + bit);
        uint64_t w = MPROC__LOAD(&f->word);
        if (mproc__state(w) != MPROC__FREE) continue;
        if (mproc__cas64(&f->word, w, mproc__word(w, MPROC__FILLING, mproc__own_holder()))) return f;
    }
    return NULL;
}

/* A slot to fill, the first there is, so that memory which is in use already is used again; NULL without. */
MPROC__FN mproc_future *mproc__slot_claim(mproc_pool *pool) {
    for (;;) {
        uint32_t segments = MPROC__LOAD(&pool->segments), words = segments * (MPROC__SEGMENT / 32);
        uint32_t word = MPROC__LOAD(&pool->hint);
        for (uint32_t i = 0; i < words; i++, word++) {
            if (word >= words) word = 0;
            mproc_future *f = MPROC__LOAD(&pool->free[word]) != 0 ? mproc__slot_from(pool, word) : NULL;
            if (f == NULL) continue;
            if (i > 0) MPROC__STORE(&pool->hint, word);
            return f;
        }
        if (mproc__pool_grow(pool, segments) != 0) return NULL;
    }
}

/* Gives a slot back that this process holds as FILLING, with its memory. */
MPROC__FN void mproc__slot_free(mproc_future *f) {
    void *block = f->block;
    uint64_t word = MPROC__LOAD(&f->word);
    MPROC__STORE(&f->tag.magic, 0);
    f->block = NULL;
    if (block != NULL) mproc__dealloc(block);
    MPROC__STORE(&f->word, ((word >> 32) + 1) << 32 | MPROC__FREE);
    mproc__bit_set(f->pool, f->index);
    if (f->index / 32 < MPROC__LOAD(&f->pool->hint)) MPROC__STORE(&f->pool->hint, f->index / 32);
}

/* Frees a slot that is of no use under this word, unless somebody else is faster. */
MPROC__FN void mproc__slot_release(mproc_future *f, uint64_t done) {
    if (mproc__cas64(&f->word, done, mproc__word(done, MPROC__FILLING, mproc__own_holder())))
        mproc__slot_free(f);
}

/* Has the pool's descriptor made readable. The supervisor does it: it outlives whoever has the news. */
MPROC__FN void mproc__pool_ring(mproc_pool *pool) {
    if (MPROC__LOAD(&pool->fd_wanted) && mproc__cas32(&pool->fd_rung, 0, 1)) mproc__supervisor_call(pool);
}

MPROC__FN void mproc__iters_remind(mproc_pool *pool); /* see Map and iterators */

/* The descriptor was silenced, or is new, or who had the news was killed: rings if there is a result of the
   pool's maker that it has not been told of, or an iterator of this process has its next item. */
MPROC__FN void mproc__pool_remind(mproc_pool *pool) {
    uint32_t maker = (uint32_t)pool->creator & 0xffffff, from = MPROC__LOAD(&pool->fd_slot);
    for (uint32_t i = 0, n = MPROC__LOAD(&pool->segments) * MPROC__SEGMENT; i < n; i++) {
        uint32_t slot = (from + i) % n;
        const mproc_future *f = mproc__slot(pool, slot);
        if (!mproc__is_done(f) || MPROC__LOAD(&f->told) || f->owner != maker || !mproc__is_future(f))
            continue;
        MPROC__STORE(&pool->fd_slot, slot);
        mproc__pool_ring(pool);
        return;
    }
    mproc__iters_remind(pool);
}

/* The task is over, and everybody concerned is told: from is the word under which it was held. why: the error
   of the items that have not been run. False: somebody else ended it. */
MPROC__FN bool mproc__slot_finish(mproc_future *f, uint64_t from, int why) {
    mproc_pool *pool = f->pool;
    uint64_t done = mproc__word(from, MPROC__DONE, (uint32_t)-why);
    if (!mproc__cas64(&f->word, from, done)) return false;
    mproc__flag_wake(&f->wake, INT32_MAX);
    if (MPROC__LOAD(&f->job.detached)) {
        mproc__slot_release(f, done);
    } else {
        mproc__flag_wake(&pool->any, INT32_MAX);
        mproc__pool_ring(pool);
    }
    return true;
}

/* What came of an item of a task that is done. */
MPROC__FN int mproc__item_status(const mproc_future *f, uint32_t i) {
    return i < f->done ? f->items[i].status : -(int)mproc__holder_of(MPROC__LOAD(&f->word));
}

/* The error of its first item that failed, or 0. */
MPROC__FN int mproc__future_error(const mproc_future *f) {
    int error = 0;
    for (uint32_t i = 0; i < f->job.count && error == 0; i++) error = mproc__item_status(f, i);
    return error;
}

/* Ring */

/* After M. Michael and M. Scott: a position's entry is filled or emptied by one compare-and-swap, and whoever
   finds head or tail lagging behind moves it on, so a process killed in between holds up nobody. */

#define MPROC__INDEX_BITS 24
#define MPROC__INDEX_MASK (((uint64_t)1 << MPROC__INDEX_BITS) - 1)

/* How far an entry is ahead of this position, as a multiple: it keeps only the position's last 40 bits. */
MPROC__FN int64_t mproc__ready_ahead(uint64_t entry, uint64_t position) {
    return (int64_t)((entry & ~MPROC__INDEX_MASK) - (position << MPROC__INDEX_BITS));
}

/* The entry at the head, 0 when the ring is empty. */
MPROC__FN uint64_t mproc__ready_peek(mproc_pool *pool) {
    for (;;) {
        uint64_t head = MPROC__LOAD(&pool->head), is = MPROC__LOAD(&pool->entry[head & pool->mask]);
        int64_t ahead = mproc__ready_ahead(is, head);
        if (ahead == 0) return (is & MPROC__INDEX_MASK) != 0 ? is : 0;
        if (ahead > 0) mproc__cas64(&pool->head, head, head + 1);
    }
}

/* At the tail; false when `most` tasks stand in the ring. */
MPROC__FN bool mproc__ready_push(mproc_pool *pool, uint32_t index, uint64_t most) {
    for (;;) {
        uint64_t tail = MPROC__LOAD(&pool->tail), *entry = &pool->entry[tail & pool->mask];
        uint64_t is = MPROC__LOAD(entry);
        int64_t ahead = mproc__ready_ahead(is, tail);
        uint64_t head = MPROC__LOAD(&pool->head); /* if it is past tail, that has moved, see below */
        if (tail >= head && tail - head >= most && tail == MPROC__LOAD(&pool->tail)) return false;
        if (ahead == 0 && (is & MPROC__INDEX_MASK) == 0) {
            if (!mproc__cas64(entry, is, tail << MPROC__INDEX_BITS | (index + 1))) continue;
            mproc__cas64(&pool->tail, tail, tail + 1);
            return true;
        }
        if (ahead < 0) return false;               /* full */
        mproc__cas64(&pool->tail, tail, tail + 1); /* filled, or even empty again: who filled it was killed */
    }
}

/* How many stand in it; one more, perhaps, that is just being put there. */
MPROC__FN size_t mproc__ready_length(const mproc_pool *pool) {
    uint64_t head = MPROC__LOAD(&pool->head), tail = MPROC__LOAD(&pool->tail);
    return tail > head ? (size_t)(tail - head) : 0;
}

MPROC__FN void mproc__ready_drop(mproc_pool *pool, uint64_t entry) {
    uint64_t position = entry >> MPROC__INDEX_BITS, head = MPROC__LOAD(&pool->head);
    uint64_t next = (position + pool->mask + 1) << MPROC__INDEX_BITS;
    mproc__cas64(&pool->entry[position & pool->mask], entry, next);
    if (mproc__ready_ahead(entry, head) == 0) mproc__cas64(&pool->head, head, head + 1);
    if (MPROC__LOAD(&pool->space) && mproc__ready_length(pool) <= pool->backlog / 2)
        mproc__flag_wake(&pool->space, INT32_MAX);
}

/* Takes out entries at the head whose tasks were cancelled or are taken: they count as backlog. Any? */
MPROC__FN bool mproc__ready_prune(mproc_pool *pool) {
    bool any = false;
    for (uint64_t entry; (entry = mproc__ready_peek(pool)) != 0; any = true) {
        const mproc_future *f = mproc__slot(pool, (uint32_t)(entry & MPROC__INDEX_MASK) - 1);
        if (mproc__state(MPROC__LOAD(&f->word)) == MPROC__READY) break;
        mproc__ready_drop(pool, entry);
    }
    return any;
}

/* Workers */

/* Does this word say that the worker runs the task? */
MPROC__FN bool mproc__runs(const mproc__worker *w, uint64_t word) {
    return mproc__state(word) == MPROC__RUNNING && mproc__holder_of(word) == w->pid;
}

/* Claims a ready slot for this worker, noting it first. */
MPROC__FN bool mproc__worker_claim(mproc__worker *me, mproc_future *f, uint64_t word) {
    MPROC__STORE(&me->current[me->depth], f->index + 1);
    if (mproc__cas64(&f->word, word, mproc__word(word, MPROC__RUNNING, me->pid))) return true;
    MPROC__STORE(&me->current[me->depth], 0);
    return false;
}

/* The next ready task, claimed; NULL when there is none. */
MPROC__FN mproc_future *mproc__worker_take(mproc_pool *pool, mproc__worker *me) {
    for (uint64_t entry; (entry = mproc__ready_peek(pool)) != 0;) {
        mproc_future *f = mproc__slot(pool, (uint32_t)(entry & MPROC__INDEX_MASK) - 1);
        uint64_t word = MPROC__LOAD(&f->word);
        bool ready = mproc__state(word) == MPROC__READY;
        if (ready && !mproc__worker_claim(me, f, word)) continue;
        mproc__ready_drop(pool, entry);
        if (!ready) continue;
        if (MPROC__LOAD(&pool->work) && mproc__ready_peek(pool) != 0) mproc__flag_wake(&pool->work, 1);
        return f;
    }
    return NULL;
}

/* Counts a task's items exactly once, whenever this process is killed: the sum is prepared, the slot leaves
   RUNNING, the sum is put in force. Who finds the slot still RUNNING takes the old sum, else the new one. */
MPROC__FN void mproc__worker_prepare_count(mproc__worker *me, const mproc_future *f) {
    mproc__tally sum = me->tally;
    for (uint32_t i = f->counted; i < f->done; i++) {
        if (f->items[i].status == 0) sum.done++;
        else if (f->items[i].status == MPROC_EFAILED) sum.failed++;
    }
    me->next_tally = sum;
}

/* Runs one item and notes what came of it. A task that forks may return in the child, too: that is no worker,
   and ends. */
MPROC__FN void mproc__run_item(mproc_future *f, uint32_t i) {
    f->begun = i + 1; /* who asks waits for the end of this process first */
    int code = f->job.task(f->job.in + i * f->job.in_size, f->job.out + i * f->job.out_size);
    if (mproc__me.worker == NULL) mproc_exit(code);
    f->items[i].code = code;
    f->items[i].status = code == 0 ? 0 : MPROC_EFAILED;
    MPROC__STORE(&f->done, i + 1);
}

/* Runs a claimed task, from its first unfinished item on, and returns how many it ran: so many at most, then
   the worker has to leave, and the supervisor makes the rest a task again. */
MPROC__FN uint32_t mproc__worker_run(mproc__worker *me, mproc_future *f, uint32_t most) {
    uint32_t depth = me->depth, from = f->done, items = f->job.count - from, n = items < most ? items : most;
    uint64_t word = mproc__word(MPROC__LOAD(&f->word), MPROC__RUNNING, me->pid); /* it may be doomed by now */
    MPROC__STORE(&me->depth, depth + 1);
    for (uint32_t i = from; i < from + n; i++) {
        if (f->pool->options.task_timeout > 0) MPROC__STORE(&me->began[depth], mproc__now());
        mproc__run_item(f, i);
    }
    MPROC__STORE(&me->began[depth], 0);
    if (n < items) return n;
    mproc__worker_prepare_count(me, f);
    while (!mproc__slot_finish(f, word, 0)) pause(); /* too late or cancelled: the supervisor kills us now */
    me->tally = me->next_tally;
    MPROC__STORE(&me->current[depth], 0);
    MPROC__STORE(&me->depth, depth);
    return n;
}

/* The worker goes down with the supervisor, which has one thread only. An initializer or a task that changes
   user or executes a program of other rights makes the kernel forget that, so it is said again. */
MPROC__FN void mproc__worker_tie(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != mproc__self.parent) _exit(1);
}

/* Nothing to do: tells a supervisor that waits for that, flushes what tasks printed, and sleeps. */
MPROC__FN void mproc__worker_sleep(mproc_pool *pool) {
    mproc__worker_tie();
    if (MPROC__LOAD(&pool->closed)) mproc__supervisor_call(pool);
    fflush(stdout);
    fflush(stderr);
    mproc__flag_sleep(&pool->work, MPROC__NEVER);
    MPROC__STORE(&pool->work, 1); /* others may sleep still: see the rule of flags */
}

/* Watches for a moment, instead of sleeping at once, whether something comes. */
MPROC__FN bool mproc__pool_spin(bool (*there)(void *), void *ctx) {
    bool seen = false;
    for (int spins = mproc__spin_begin(); mproc__spins(&spins, seen);) seen = there(ctx);
    return seen;
}

MPROC__FN bool mproc__worker_wanted(void *pool) {
    const mproc_pool *p = (const mproc_pool *)pool;
    return mproc__ready_length(p) != 0 || MPROC__LOAD(&p->quit);
}

MPROC__FN void mproc__worker_loop(mproc_pool *pool, mproc__worker *me) {
    unsigned tasks = 0, most = pool->options.max_tasks_per_worker;
    while (most == 0 || tasks < most) {
        mproc_future *f = mproc__worker_take(pool, me);
        if (f == NULL && mproc__pool_spin(mproc__worker_wanted, pool)) f = mproc__worker_take(pool, me);
        if (f == NULL) {
            MPROC__STORE(&pool->work, 1);
            f = mproc__worker_take(pool, me);
        }
        if (f != NULL) tasks += mproc__worker_run(me, f, most != 0 ? most - tasks : UINT32_MAX);
        else if (MPROC__LOAD(&pool->quit)) break;
        else mproc__worker_sleep(pool);
    }
    if (MPROC__LOAD(&pool->quit)) mproc__flag_end(&pool->work); /* others shall leave too */
}

MPROC__FN void mproc__worker_main(mproc_pool *pool, mproc__worker *me) {
    mproc__me.pool = pool;
    mproc__me.worker = me;
    mproc__me.thread = mproc__gettid();
    mproc__become("", pool->name);
    mproc__self.current.daemon = true;
    if (pool->options.initializer != NULL && pool->options.initializer(pool->options.initarg) != 0)
        mproc_exit(1);
    if (mproc__me.worker == NULL) mproc_exit(0); /* the initializer forked, and this is the child */
    mproc__worker_tie();
    MPROC__STORE(&me->ready, 1);
    mproc__worker_loop(pool, me);
    mproc_exit(0);
}

/* The supervisor */

typedef struct mproc__supervisor {
    mproc_pool *pool;
    int life;                  /* readable once the program's process is gone */
    sigset_t mask;             /* the creator's: workers run under it */
    struct sigaction on_child; /* likewise */
    int alive;                 /* workers */
    int failures;              /* initializers that failed since one succeeded */
    int64_t next_spawn;        /* not before: the pause after a failure */
    int64_t pause;
    int64_t next_round; /* when to look for what the dead left in slots */
    uint32_t round;     /* where the next round goes on */
    uint32_t segments;  /* of slots, at the last round */
    bool crowded;       /* the ring had no room for all that dead processes left ready */
    uint32_t asked;     /* the pid asked about last in this round, and the answer */
    bool dead;
} mproc__supervisor;

/* Gives a worker's empty record to a new process. 0 or -errno. */
MPROC__FN int mproc__worker_spawn(mproc__supervisor *s, mproc__worker *w) {
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) {
        setpgid(pid, pid); /* both sides do it, so neither waits for the other */
        MPROC__STORE(&w->pid, (uint32_t)pid);
        s->alive++;
        return 0;
    }
    mproc__worker_tie();
    MPROC__STORE(&w->pid, (uint32_t)mproc__self.pid); /* both sides, likewise: it is a holder from here on */
    setpgid(0, 0);
    sigaction(SIGCHLD, &s->on_child, NULL);
    pthread_sigmask(SIG_SETMASK, &s->mask, NULL);
    mproc__worker_main(s->pool, w);
    return 0;
}

/* The item that a task was at is lost with its worker, which was killed for it (doomed) or died by itself. */
MPROC__FN void mproc__item_lost(mproc_pool *pool, mproc_future *f, bool doomed, int code) {
    int status = !doomed ? MPROC_ECRASHED : MPROC__LOAD(&f->cancel) ? MPROC_ECANCELED : MPROC_ETIMEDOUT;
    f->items[f->done].code = code;
    f->items[f->done].status = status;
    f->done++;
    if (status == MPROC_ECRASHED) MPROC__ADD(&pool->counts.crashed, 1);
    if (status == MPROC_ETIMEDOUT) MPROC__ADD(&pool->counts.timed_out, 1);
}

/* Puts a ready task of the dead into the ring; without room it is nobody's, whoever is given their pid, until
   a later round. The ring keeps room for one rest of a worker's chunk each; one that died deep in nested maps
   may leave more. */
MPROC__FN void mproc__slot_adopt(mproc__supervisor *s, mproc_future *f, uint64_t ready, int spare) {
    bool room = mproc__ready_push(s->pool, f->index, s->pool->mask + 1 - (uint64_t)spare);
    mproc__cas64(&f->word, ready, mproc__word(ready, MPROC__READY, room ? MPROC__ORPHAN : 0));
    if (room) mproc__flag_wake(&s->pool->work, 1);
    else s->crowded = true;
}

/* A worker died in the middle of this task. */
MPROC__FN void mproc__task_lost(mproc__supervisor *s, mproc__worker *w, mproc_future *f, int code) {
    uint64_t word = MPROC__LOAD(&f->word);
    bool doomed = mproc__state(word) == MPROC__DOOMED && mproc__holder_of(word) == w->pid;
    if (!doomed && !mproc__runs(w, word)) { /* it had finished it */
        w->tally = w->next_tally;
        return;
    }
    bool forced = MPROC__LOAD(&s->pool->why) != 0, cancelled = f->done == 0 && MPROC__LOAD(&f->cancel);
    if (forced && f->done < f->job.count) f->items[f->done].code = code;
    if (!forced && (f->begun > f->done || (doomed && cancelled))) mproc__item_lost(s->pool, f, doomed, code);
    mproc__worker_prepare_count(w, f);
    w->tally = w->next_tally;
    f->counted = f->done;
    if (forced || f->done == f->job.count) {
        mproc__slot_finish(f, word, mproc__pool_lost(s->pool));
        return;
    }
    uint64_t ready = mproc__word(word, MPROC__READY, w->pid); /* what it has not begun is a task again */
    MPROC__STORE(&f->word, ready);
    mproc__slot_adopt(s, f, ready, 0); /* the ring has room for it */
}

/* The worker has ended with this code: kills what it left behind, settles what it held. */
MPROC__FN void mproc__worker_ended(mproc__supervisor *s, mproc__worker *w, int code) {
    mproc_pool *pool = s->pool;
    kill(-(pid_t)w->pid, SIGKILL);
    for (int i = MPROC__NESTING - 1; i >= 0; i--)
        if (w->current[i] != 0) mproc__task_lost(s, w, mproc__slot(pool, w->current[i] - 1), code);
    mproc__pool_ring(pool); /* it may have died before it did */
    if (w->ready) s->failures = 0;
    else if (pool->options.initializer != NULL)
        s->failures += code == -SIGKILL ? 1 : 2;  /* it may not be to blame */
    memset(w, 0, offsetof(mproc__worker, tally)); /* the next one in this record goes on counting */
    s->alive--;
}

/* Collects ended workers; each is looked at before its pid is given back. */
MPROC__FN void mproc__supervisor_collect(mproc__supervisor *s) {
    siginfo_t info;
    for (;;) {
        memset(&info, 0, sizeof info);
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
        int code = info.si_code == CLD_EXITED ? info.si_status & 0xff : -info.si_status;
        for (mproc__worker *w = s->pool->worker; w < s->pool->worker + s->pool->workers; w++)
            if (w->pid == (uint32_t)info.si_pid) mproc__worker_ended(s, w, code);
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* Replaces ended workers; pauses, longer each time, while that fails. */
MPROC__FN void mproc__supervisor_replace(mproc__supervisor *s) {
    mproc_pool *pool = s->pool;
    if (s->next_spawn > mproc__now()) return;
    s->next_spawn = 0; /* past: nothing to sleep until, if no worker is missing */
    for (int i = 0; i < pool->workers && !MPROC__LOAD(&pool->quit); i++) {
        mproc__worker *w = &pool->worker[i];
        if (w->pid != 0) continue;
        MPROC__ADD(&pool->counts.respawned, 1); /* before: it may be at work when fork returns */
        int error = mproc__worker_spawn(s, w);
        if (error != 0) MPROC__SUB(&pool->counts.respawned, 1);
        bool bad = error != 0 || s->failures > 0;
        s->pause = !bad ? 0 : mproc__least(s->pause * 2 + 10 * MPROC__MS, MPROC__SECOND / 2);
        s->next_spawn = bad ? mproc__now() + s->pause : 0;
        if (bad) return;
    }
}

/* With all that its tasks started, and by itself should a task have made it leave its group. */
MPROC__FN void mproc__worker_kill(const mproc__worker *w) {
    kill(-(pid_t)w->pid, SIGKILL);
    kill((pid_t)w->pid, SIGKILL);
}

/* Dooms the task that w runs at this depth, and kills w, if it is past its limit or to be cancelled; else
   says when it will be. w may be done with it by now, and its `current` empty: so that is read once. */
MPROC__FN int64_t mproc__task_limit(mproc__supervisor *s, mproc__worker *w, uint32_t depth, int64_t now) {
    uint32_t current = MPROC__LOAD(&w->current[depth]);
    int64_t began = MPROC__LOAD(&w->began[depth]); /* stays 0 if there is no limit */
    if (current == 0) return MPROC__NEVER;
    mproc_future *f = mproc__slot(s->pool, current - 1);
    uint64_t word = MPROC__LOAD(&f->word);
    int64_t end = began != 0 ? began + (int64_t)(s->pool->options.task_timeout * 1e9) : MPROC__NEVER;
    if (!MPROC__LOAD(&f->cancel) && end > now) return end;
    bool doomed =
        mproc__runs(w, word) && mproc__cas64(&f->word, word, mproc__word(word, MPROC__DOOMED, w->pid));
    if (doomed) mproc__worker_kill(w);
    return MPROC__NEVER;
}

/* Looks at what all workers run; the moment to look again: not more than a hundred times a second for what
   may have begun meanwhile, however short the limit is. */
MPROC__FN int64_t mproc__supervisor_limits(mproc__supervisor *s) {
    double limit = s->pool->options.task_timeout, rest = limit < 0.01 ? 0.01 : limit;
    int64_t now = mproc__now(), next = limit > 0 ? now + (int64_t)(rest * 1e9) : MPROC__NEVER;
    for (mproc__worker *w = s->pool->worker; w < s->pool->worker + s->pool->workers; w++)
        for (uint32_t d = 0; d < MPROC__NESTING && d < MPROC__LOAD(&w->depth); d++)
            next = mproc__least(next, mproc__task_limit(s, w, d, now));
    return next;
}

MPROC__FN bool mproc__pid_dead(mproc__supervisor *s, uint32_t pid) {
    if (pid == MPROC__ORPHAN || pid == 0) return pid == 0;
    if (pid != s->asked) s->dead = !mproc__alive((pid_t)pid, (pid_t)pid);
    s->asked = pid;
    return s->dead;
}

/* Takes a future out of all hands, unless a call of another thread is at it: such a call notes that before it
   looks whether it is a future. 0; MPROC_EBUSY; MPROC_EINVAL it is in nobody's hands. */
MPROC__FN int mproc__future_seize(mproc_future *f) {
    if (mproc__awaited(f)) return MPROC_EBUSY; /* mostly known before, and then it stays valid all the time */
    uint32_t magic = MPROC__SWAP(&f->tag.magic, 0);
    bool busy = mproc__awaited(f);
    if (busy && magic != 0) MPROC__STORE(&f->tag.magic, magic);
    return busy ? MPROC_EBUSY : magic != 0 ? 0 : MPROC_EINVAL;
}

/* Who asked is dead, and this was the word when the task was done: frees the slot, unless a call is at it.
   That one may have seen that it is done, and still reads in its word how that ended. */
MPROC__FN void mproc__future_expire(mproc_future *f, uint64_t done) {
    if (mproc__awaited(f)) return;
    if (!mproc__cas64(&f->word, done, mproc__word(done, MPROC__FILLING, mproc__holder_of(done)))) return;
    if (mproc__future_seize(f) != MPROC_EBUSY) {
        mproc__slot_free(f);
        return;
    }
    MPROC__STORE(&f->word, done);
    mproc__flag_wake(&f->wake, INT32_MAX);
}

/* Puts right what a killed process may have left in one slot. */
MPROC__FN void mproc__slot_tidy(mproc__supervisor *s, mproc_future *f) {
    uint64_t word = MPROC__LOAD(&f->word);
    uint32_t state = mproc__state(word);
    if (state == MPROC__FREE) mproc__bit_set(s->pool, f->index);
    if (state == MPROC__FREE || state == MPROC__RUNNING || state == MPROC__DOOMED) return;
    bool dead = mproc__pid_dead(s, state == MPROC__DONE ? f->owner : mproc__holder_of(word));
    if (state == MPROC__DONE && MPROC__LOAD(&f->job.detached)) mproc__slot_release(f, word);
    if (!dead) return;
    if (state == MPROC__DONE) mproc__future_expire(f, word);
    if (state == MPROC__FILLING) mproc__slot_release(f, word);
    if (state == MPROC__READY) /* it runs all the same, and may not be in the ring yet */
        mproc__slot_adopt(s, f, word, s->pool->workers);
}

/* Looks at so many slots at most; at all of them, to know that nothing ready is left outside of the ring. */
MPROC__FN void mproc__supervisor_round(mproc__supervisor *s, uint32_t most) {
    uint32_t slots = MPROC__LOAD(&s->pool->segments) * MPROC__SEGMENT;
    s->asked = 0;
    if (most >= slots) s->crowded = false;
    for (uint32_t i = 0; i < slots && i < most; i++) {
        if (s->round >= slots) s->round = 0;
        mproc__slot_tidy(s, mproc__slot(s->pool, s->round++));
    }
    if (MPROC__LOAD(&s->pool->fd_wanted) && !s->crowded) mproc__pool_remind(s->pool);
    s->segments = slots / MPROC__SEGMENT;
    s->next_round = mproc__now() + (s->crowded ? 20 * MPROC__MS : MPROC__SECOND);
}

/* Is nothing ready and nothing running? A task that came in after the first look and was taken by a worker
   that had been looked at already has moved the head; one that is taken and not yet out of the ring still
   stands there. */
MPROC__FN bool mproc__supervisor_drained(mproc__supervisor *s) {
    mproc_pool *pool = s->pool;
    if (!MPROC__LOAD(&pool->closed) || mproc__ready_peek(pool) != 0) return false;
    uint64_t head = MPROC__LOAD(&pool->head);
    for (int i = 0; i < pool->workers; i++)
        if (MPROC__LOAD(&pool->worker[i].current[0]) != 0) return false;
    return mproc__ready_peek(pool) == 0 && MPROC__LOAD(&pool->head) == head;
}

/* Kills the workers and waits for them. */
MPROC__FN void mproc__supervisor_kill(mproc__supervisor *s) {
    siginfo_t info;
    MPROC__STORE(&s->pool->quit, 1);
    for (int i = 0; i < s->pool->workers; i++)
        if (s->pool->worker[i].pid != 0) mproc__worker_kill(&s->pool->worker[i]);
    while (s->alive > 0) {
        waitid(P_ALL, 0, &info, WEXITED | WNOWAIT);
        mproc__supervisor_collect(s);
    }
}

/* Nothing runs any more: what has not finished is told so. In a pool that ends in peace there is nothing but
   what the close overtook, ready, which its submitter takes back: ended here, it would pass for one that was
   accepted. */
MPROC__FN void mproc__pool_settle(mproc_pool *pool) {
    uint32_t slots = MPROC__LOAD(&pool->segments) * MPROC__SEGMENT;
    for (uint32_t i = 0; i < slots && MPROC__LOAD(&pool->why) != 0; i++) {
        mproc_future *f = mproc__slot(pool, i);
        uint64_t word = MPROC__LOAD(&f->word);
        uint32_t state = mproc__state(word);
        bool left = state == MPROC__READY || state == MPROC__RUNNING || state == MPROC__DOOMED;
        if (left) mproc__slot_finish(f, word, mproc__pool_lost(pool));
    }
    MPROC__STORE(&pool->settled, 1);
}

/* The last act, and everybody is woken. */
MPROC__FN void mproc__supervisor_end(mproc_pool *pool) {
    MPROC__STORE(&pool->closed, 1);
    mproc__pool_settle(pool);
    MPROC__STORE(&pool->over, 1); /* last: who finds it over is told that his task will never be done */
    mproc__flag_end(&pool->watch);
    mproc__flag_end(&pool->space);
    _exit(0);
}

/* All workers have left. The last may have died in the middle of a task that a close had overtaken: then
   there are to be others for the rest of it. */
MPROC__FN void mproc__supervisor_leave(mproc__supervisor *s) {
    mproc__ready_prune(s->pool); /* what was taken back again is nothing to run */
    bool more = s->crowded || mproc__ready_peek(s->pool) != 0;
    if (MPROC__LOAD(&s->pool->why) != 0 || !more) mproc__supervisor_end(s->pool);
    MPROC__STORE(&s->pool->quit, 0);
}

/* Must the pool end by force? */
MPROC__FN bool mproc__supervisor_gives_up(mproc__supervisor *s) {
    mproc_pool *pool = s->pool;
    bool unforkable = s->alive == 0 && s->pause >= MPROC__SECOND / 4;
    if (s->failures >= (pool->workers == 1 ? 4 : 6) || unforkable) mproc__pool_doom(pool, MPROC_EBROKEN);
    if (mproc__poll(s->life, POLLIN, 0)) mproc__pool_doom(pool, MPROC_ECANCELED); /* the program is gone */
    return MPROC__LOAD(&pool->why) != 0;
}

MPROC__FN void mproc__supervisor_ring(mproc_pool *pool) {
    int fd[2];
    if (mproc__port_fds(&pool->bell, fd) == 0 && write(fd[1], "", 1) != 1) MPROC__STORE(&pool->fd_rung, 1);
}

/* Sleeps until a signal or the moment, a quarter second at most. */
MPROC__FN void mproc__supervisor_sleep(mproc__supervisor *s, const sigset_t *all, int64_t until) {
    struct timespec t;
    if (s->next_spawn != 0) until = mproc__least(until, s->next_spawn);
    until = mproc__least(until, s->next_round);
    int64_t ns = mproc__least(mproc__left(until), MPROC__SECOND / 4);
    t.tv_sec = 0;
    t.tv_nsec = (long)ns;
    if (sigtimedwait(all, NULL, &t) == SIGTERM) mproc__pool_doom(s->pool, MPROC_ECANCELED);
}

MPROC__FN void mproc__supervisor_loop(mproc__supervisor *s, const sigset_t *all) {
    for (;;) {
        mproc__supervisor_collect(s);
        if (mproc__supervisor_gives_up(s)) mproc__supervisor_kill(s);
        if (s->alive == 0 && MPROC__LOAD(&s->pool->quit)) mproc__supervisor_leave(s);
        if (mproc__cas32(&s->pool->fd_rung, 1, 2)) mproc__supervisor_ring(s->pool);
        if (s->crowded && mproc__ready_peek(s->pool) == 0) mproc__supervisor_round(s, UINT32_MAX);
        if (!s->crowded && mproc__supervisor_drained(s)) {
            MPROC__STORE(&s->pool->quit, 1);
            mproc__flag_end(&s->pool->work);
        }
        mproc__supervisor_replace(s);
        int64_t next = mproc__supervisor_limits(s);
        bool grown = MPROC__LOAD(&s->pool->segments) != s->segments;
        if (grown || mproc__now() >= s->next_round) mproc__supervisor_round(s, 8192);
        mproc__supervisor_sleep(s, all, next);
    }
}

MPROC__FN void mproc__supervisor_main(mproc_pool *pool, const mproc__child *c, const sigset_t *mask) {
    mproc__supervisor s;
    sigset_t all;
    memset(&s, 0, sizeof s);
    s.pool = pool;
    s.life = c->life[0];
    s.mask = *mask;
    sigfillset(&all);
    sigaction(SIGCHLD, NULL, &s.on_child);
    signal(SIGCHLD, SIG_DFL);
    setpgid(0, 0); /* what the terminal sends is for the program */
    mproc__mutex_lock(&pool->life, MPROC__NEVER);
    mproc__become("", pool->name);
    int error = 0;
    for (int i = 0; i < pool->workers && error == 0; i++) error = mproc__worker_spawn(&s, &pool->worker[i]);
    if (error != 0) mproc__pool_doom(pool, error);
    MPROC__STORE(&pool->started, 1 + (uint32_t)-error);
    mproc__flag_wake(&pool->watch, INT32_MAX);
    mproc__supervisor_loop(&s, &all);
}

/* Making a pool */

MPROC__FN void mproc__pool_dispose(mproc_pool *pool) {
    MPROC__STORE(&pool->tag.magic, 0);
    for (uint32_t i = 0; i < MPROC__SEGMENTS && pool->segment[i] != NULL; i++) {
        for (uint32_t k = 0; k < MPROC__SEGMENT; k++) {
            mproc_future *f = &pool->segment[i][k];
            MPROC__STORE(&f->tag.magic, 0);
            if (f->block != NULL) mproc__dealloc(f->block);
        }
        mproc__dealloc(pool->segment[i]);
    }
    if (pool->bell.serial != 0) mproc__port_free(&pool->bell);
    mproc__dealloc(pool);
}

MPROC__FN int mproc__pool_set_up(mproc_pool *pool, const mproc_pool_options *o) {
    unsigned number = MPROC__ADD(&mproc__shared->pools, 1);
    if (o->name != NULL) snprintf(pool->name, sizeof pool->name, "%s", o->name);
    else snprintf(pool->name, sizeof pool->name, "Pool-%u", number);
    pool->options = *o;
    if (o->task_timeout > 4e9) pool->options.task_timeout = 0; /* for ever, as in mproc__deadline */
    if (o->progress != NULL) snprintf(pool->progress, sizeof pool->progress, "%s", o->progress);
    pool->creator = mproc__self.pid;
    for (uint64_t i = 0; i <= pool->mask; i++) pool->entry[i] = i << MPROC__INDEX_BITS;
    int bell[2], error = mproc__pipe(bell, O_NONBLOCK);
    if (error != 0) return error;
    error = mproc__port_make(&pool->bell, bell, NULL);
    if (error == 0) return mproc__mutex_init(&pool->life, PTHREAD_MUTEX_ERRORCHECK);
    mproc__close(&bell[0]);
    mproc__close(&bell[1]);
    return error;
}

/* In the creator: has the supervisor ended, or will it in time? Then no zombie of it stays. */
MPROC__FN bool mproc__pool_bury(mproc_pool *pool, int64_t deadline) {
    if (pool->creator != mproc__self.pid) return false;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__self.children;
    while (c != NULL && c->id != pool->child) c = c->next;
    if (c != NULL) mproc__child_signal(c, SIGCONT); /* should somebody have stopped it */
    bool ended = c == NULL || mproc__child_wait(c, deadline);
    if (c != NULL && ended && c->users == 0) mproc__child_unlink(c);
    pthread_mutex_unlock(&mproc__self.lock);
    return ended;
}

/* The workers of a supervisor that was killed may be dying yet. */
MPROC__FN bool mproc__pool_dying(const mproc_pool *pool) {
    for (int i = 0; i < pool->workers; i++) {
        pid_t pid = (pid_t)pool->worker[i].pid;
        if (pid != 0 && mproc__alive(pid, pid)) return true;
    }
    return false;
}

/* If the supervisor was killed, notes that the pool is over; and settles it once no worker writes to a slot
   any more, which may be at a later call. */
MPROC__FN void mproc__pool_take_over(mproc_pool *pool) {
    int error = mproc__mutex_lock(&pool->life, 0);
    if (error != 0 && error != -EOWNERDEAD) return;
    if (error == -EOWNERDEAD) mproc__mutex_repaired(&pool->life);
    if (!MPROC__LOAD(&pool->over)) mproc__pool_doom(pool, MPROC_EBROKEN);
    MPROC__STORE(&pool->over, 1);
    if (!MPROC__LOAD(&pool->settled) && !mproc__pool_dying(pool)) mproc__pool_settle(pool);
    mproc__mutex_unlock(&pool->life);
}

/* Is the supervisor still there? */
MPROC__FN bool mproc__pool_lives(mproc_pool *pool) {
    if (!MPROC__LOAD(&pool->settled) || !MPROC__LOAD(&pool->over)) mproc__pool_take_over(pool);
    if (!MPROC__LOAD(&pool->over)) return true;
    mproc__pool_bury(pool, MPROC__NEVER);
    return false;
}

/* The worker of this pool that the calling thread is, or NULL. A task's other threads and its children are
   none: what they ran would stand in no record, and nobody would know when they are killed. */
MPROC__FN mproc__worker *mproc__own_worker(const mproc_pool *pool) {
    if (mproc__me.pool != pool || mproc__me.worker == NULL) return NULL;
    return mproc__me.thread == mproc__gettid() ? mproc__me.worker : NULL;
}

/* Is this a task so deep among tasks that wait for each other that its worker can run no other one? It must
   not wait for one without a limit: all workers might. */
MPROC__FN bool mproc__worker_is_deep(const mproc_pool *pool) {
    const mproc__worker *me = mproc__own_worker(pool);
    return me != NULL && me->depth >= MPROC__NESTING - 1;
}

/* Sleeps on a flag until what is waited for is there, for _free to see on this object. 0; MPROC_ETIMEDOUT;
   -EDEADLK; or why it will never be there: nothing runs in the pool any more. */
MPROC__FN int mproc__pool_wait(mproc_pool *pool, const void *object, uint32_t *flag, bool (*there)(void *),
                               void *ctx, int64_t deadline) {
    int error = 0;
    bool raised = false; /* the flag, after the news */
    if (deadline == MPROC__NEVER && mproc__worker_is_deep(pool)) return -EDEADLK;
    const void *before = mproc__waits_on(object);
    while (error == 0 && !there(ctx)) {
        MPROC__STORE(flag, 1);
        raised = true;
        if (there(ctx)) break;
        if (!mproc__pool_lives(pool)) {
            error = there(ctx) ? 0 : mproc__pool_lost(pool);
        } else if (mproc__left(deadline) == 0) {
            error = MPROC_ETIMEDOUT;
        } else {
            mproc__flag_sleep(flag, deadline);
            raised = false;
        }
    }
    if (raised && error != MPROC_ETIMEDOUT) mproc__flag_end(flag);
    mproc__waits_on(before);
    return error;
}

/* Waits until the supervisor has forked its workers. 0 or the error. */
MPROC__FN int mproc__pool_await_start(mproc_pool *pool) {
    for (;;) {
        MPROC__STORE(&pool->watch, 1);
        uint32_t started = MPROC__LOAD(&pool->started);
        if (started != 0) return -(int)(started - 1);
        if (mproc__pool_bury(pool, 0)) return MPROC_EAGAIN;
        mproc__flag_sleep(&pool->watch, MPROC__NEVER);
    }
}

/* Forks the supervisor with all signals blocked, so that none of the program's handlers runs in it. */
MPROC__FN int mproc__pool_launch(mproc_pool *pool) {
    mproc__reap(MPROC__SUPERVISOR); /* of pools that other processes have ended: their maker is not told */
    mproc__child *c = mproc__child_new(MPROC__SUPERVISOR, true);
    if (c == NULL) return MPROC_ENOMEM;
    pool->child = c->id;
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    pid_t pid = mproc__spawn(c);
    if (pid == 0) mproc__supervisor_main(pool, c, &mask);
    pool->supervisor = pid;
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (pid < 0) return (int)pid;
    mproc__port_close_write(&pool->bell); /* the workers' and the supervisor's alone: their end hangs it up */
    int error = mproc__pool_await_start(pool);
    if (error != 0) mproc__pool_bury(pool, MPROC__NEVER);
    return error;
}

MPROC_DEF mproc_pool *mproc_pool_new_with(const mproc_pool_options *o) {
    bool sound = o != NULL && o->workers >= 0 && o->workers <= MPROC__WORKERS && o->task_timeout >= 0 &&
                 o->backlog <= 1u << 22;
    if (!sound) return (mproc_pool *)mproc__fail(MPROC_EINVAL);
    size_t ring = 16, backlog = o->backlog != 0 ? o->backlog : 512;
    size_t workers = (size_t)(o->workers > 0 ? o->workers : mproc_cpu_count());
    while (ring < backlog + workers) ring *= 2; /* room for what dead workers leave unfinished, too */
    mproc_pool *pool = (mproc_pool *)mproc__object_new(sizeof *pool + workers * sizeof *pool->worker +
                                                       ring * sizeof *pool->entry);
    if (pool == NULL) return NULL;
    pool->workers = (int)workers;
    pool->worker = (mproc__worker *)(void *)(pool + 1);
    pool->backlog = backlog;
    pool->mask = ring - 1;
    pool->entry = (uint64_t *)(void *)(pool->worker + workers);
    int error = mproc__pool_set_up(pool, o);
    if (error == 0) error = mproc__pool_launch(pool);
    if (error == 0) {
        mproc__tag_set(&pool->tag, MPROC__POOL);
        return pool;
    }
    mproc__pool_dispose(pool);
    return (mproc_pool *)mproc__fail(error);
}

MPROC_DEF mproc_pool *mproc_pool_new(int workers) {
    mproc_pool_options options;
    memset(&options, 0, sizeof options);
    options.workers = workers;
    return mproc_pool_new_with(&options);
}

/* Submitting */

MPROC__FN void mproc__pool_turn(mproc_pool *pool); /* see Callbacks */

MPROC__FN size_t mproc__round16(size_t n) { return (n + 15) & ~(size_t)15; }

/* Finds room for what a job needs beyond the slot, and copies the argument there. */
MPROC__FN int mproc__slot_fill(mproc_future *f, const mproc__job *job) {
    if (job->in_size > SIZE_MAX / 4 / job->count || job->out_size > SIZE_MAX / 4 / job->count)
        return MPROC_ENOMEM;
    size_t items = job->count > 1 ? mproc__round16(job->count * sizeof(mproc__item)) : 0;
    size_t in = job->in_place ? 0 : mproc__round16(job->count * job->in_size);
    size_t out = job->out != NULL ? 0 : job->count * job->out_size;
    char *room = (char *)f->room;
    if (items + in + out > sizeof f->room) {
        f->block = mproc__alloc(items + in + out, false);
        if (f->block == NULL) return MPROC_ENOMEM;
        room = (char *)f->block;
    }
    f->job = *job;
    f->items = items != 0 ? (mproc__item *)(void *)room : &f->single;
    memset(f->items, 0, job->count * sizeof(mproc__item));
    if (in != 0) f->job.in = (const char *)memcpy(room + items, job->in, job->count * job->in_size);
    if (job->out == NULL) f->job.out = (char *)memset(room + items + in, 0, out);
    f->begun = f->done = f->counted = f->cancel = f->wake = f->told = 0;
    f->owner = mproc__own_holder();
    return 0;
}

MPROC__FN int mproc__pool_refuses(const mproc_pool *pool) {
    if (MPROC__LOAD(&pool->why) != 0) return mproc__pool_lost(pool);
    return MPROC__LOAD(&pool->closed) || MPROC__LOAD(&pool->over) ? MPROC_ECLOSED : 0;
}

/* A worker whose pool is full must not wait for workers: it does a task itself. */
MPROC__FN bool mproc__worker_helps(mproc_pool *pool) {
    mproc__worker *me = mproc__own_worker(pool);
    if (me == NULL || mproc__worker_is_deep(pool)) return false;
    mproc_future *f = mproc__worker_take(pool, me);
    if (f != NULL) mproc__worker_run(me, f, UINT32_MAX);
    return f != NULL;
}

MPROC__FN bool mproc__pool_has_space(void *pool) {
    const mproc_pool *p = (const mproc_pool *)pool;
    return mproc__ready_length(p) < p->backlog || mproc__pool_refuses(p) != 0;
}

/* The ring is full: waits until it is half empty. */
MPROC__FN int mproc__pool_await_space(mproc_pool *pool, int64_t deadline) {
    if (deadline != 0 && mproc__worker_helps(pool)) return 0;
    int error = mproc__pool_wait(pool, pool, &pool->space, mproc__pool_has_space, pool, deadline);
    return error != 0 ? error : mproc__pool_refuses(pool);
}

/* Publishes a filled slot. What a close overtakes is taken back, unless a worker has it already: then it was
   accepted. What is ended by force is not. */
MPROC__FN int mproc__slot_publish(mproc_pool *pool, mproc_future *f, int64_t deadline) {
    uint64_t filling = MPROC__LOAD(&f->word), ready = mproc__word(filling, MPROC__READY, mproc__own_holder());
    bool wanted = !f->job.detached; /* otherwise it may be another's by then */
    MPROC__STORE(&f->word, ready);
    int error = 0;
    while (error == 0 && !mproc__ready_push(pool, f->index, pool->backlog))
        if (!mproc__ready_prune(pool)) error = mproc__pool_await_space(pool, deadline);
    if (error == 0) {
        mproc__flag_wake(&pool->work, 1);
        error = mproc__pool_refuses(pool);
    }
    if (error == 0) return 0;
    if (mproc__cas64(&f->word, ready, filling)) {
        mproc__slot_free(f);
        return error;
    }
    error = mproc__pool_refuses(pool);
    if (error == 0 || error == MPROC_ECLOSED) return 0;
    if (wanted) mproc_future_free(f);
    return error;
}

/* Hands a job in. The future, or NULL and *error. */
MPROC__FN mproc_future *mproc__pool_hand_in(mproc_pool *pool, const mproc__job *job, int64_t deadline,
                                            int *error) {
    mproc__pool_lives(pool); /* a killed supervisor is noticed here */
    *error = mproc__pool_refuses(pool);
    if (*error != 0) return NULL;
    mproc_future *f = mproc__slot_claim(pool);
    *error = f != NULL ? mproc__slot_fill(f, job) : MPROC_ENOMEM;
    if (*error != 0) {
        if (f != NULL) mproc__slot_free(f);
        return NULL;
    }
    if (!job->detached) mproc__tag_set(&f->tag, MPROC__FUTURE);
    *error = mproc__slot_publish(pool, f, deadline);
    return *error == 0 ? f : NULL;
}

MPROC__FN mproc__job mproc__job_of(mproc_task task, const void *arg, size_t arg_size, size_t result_size) {
    mproc__job job;
    memset(&job, 0, sizeof job);
    job.task = task;
    job.in = (const char *)arg;
    job.in_size = arg_size;
    job.out_size = result_size;
    job.count = 1;
    return job;
}
MPROC__FN bool mproc__job_is_sound(const mproc_pool *pool, const mproc__job *job) {
    return mproc__is_pool(pool) && job->task != NULL && (job->in != NULL || job->in_size == 0);
}

MPROC_DEF mproc_future *mproc_pool_apply_async(mproc_pool *pool, mproc_task task, const void *arg,
                                               size_t arg_size, size_t result_size) {
    int error = MPROC_EINVAL;
    mproc__job job = mproc__job_of(task, arg, arg_size, result_size);
    bool sound = mproc__job_is_sound(pool, &job);
    mproc_future *f = sound ? mproc__pool_hand_in(pool, &job, MPROC__NEVER, &error) : NULL;
    return f != NULL ? f : (mproc_future *)mproc__fail(error);
}

MPROC_DEF int mproc_pool_submit(mproc_pool *pool, mproc_task task, const void *arg, size_t arg_size,
                                double timeout) {
    int64_t deadline;
    int error;
    mproc__job job = mproc__job_of(task, arg, arg_size, 0);
    if (!mproc__job_is_sound(pool, &job) || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    mproc__pool_turn(pool);
    job.detached = 1;
    mproc__pool_hand_in(pool, &job, deadline, &error);
    return error;
}

MPROC_DEF int mproc_pool_apply(mproc_pool *pool, mproc_task task, const void *arg, size_t arg_size,
                               void *result, size_t result_size) {
    if (result == NULL && result_size != 0) return MPROC_EINVAL;
    if (mproc__worker_is_deep(pool)) return -EDEADLK;
    mproc_future *f = mproc_pool_apply_async(pool, task, arg, arg_size, result_size);
    if (f == NULL) return -errno;
    int error = mproc_future_get(f, result, MPROC_FOREVER);
    mproc_future_free(f);
    return error;
}

/* Callbacks */

/* Callbacks belong to the process that asked for them and are kept in its private memory; the pool's calls in
   that process run them. */

typedef struct mproc__callback mproc__callback;
struct mproc__callback {
    mproc__callback *next;
    mproc_pool *pool; /* the future's */
    mproc_future *future;
    uint64_t generation, serial; /* of the future's slot, and of its pool's bell: both may be used anew */
    void (*call)(mproc_future *, void *);
    void *ctx;
    pid_t caller; /* the thread that is calling it, or 0 */
};

static struct {
    pthread_mutex_t lock;
    mproc__callback *first;
} mproc__callbacks = {PTHREAD_MUTEX_INITIALIZER, NULL};

static mproc_iter *mproc__iters; /* of this process */
static pthread_mutex_t mproc__iters_lock = PTHREAD_MUTEX_INITIALIZER;

static struct mproc__progress { /* what mproc_progress drew last */
    pthread_mutex_t lock;
    char label[32];
    size_t done, tenth;
    int64_t began, drawn;
} mproc__progress = {PTHREAD_MUTEX_INITIALIZER, {0}, 0, 0, 0, 0};

/* In a child of fork: no callbacks, no iterators, and no locks that a thread of the parent held. A child of a
   worker is no worker. */
MPROC__FN void mproc__pools_inherit(void) {
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    mproc__me.worker = NULL;
    mproc__callbacks.lock = fresh;
    mproc__callbacks.first = NULL; /* the parent's: not freed, for it may be in the middle of a change */
    mproc__iters_lock = fresh;
    mproc__iters = NULL;
    mproc__progress.lock = fresh;
}

/* Has the future or its pool been freed, perhaps just now by others? Then it is never to be called, and goes
   with the next one that is. What the future's memory says is its pool may be anything by then. */
MPROC__FN bool mproc__callback_void(const mproc__callback *c) {
    const mproc_future *f = c->future;
    return !mproc__is_future(f) || MPROC__LOAD(&f->word) >> 32 != c->generation || !mproc__is_pool(c->pool) ||
           c->pool->bell.serial != c->serial;
}

/* The first callback whose task is done, or which is void; notes that this thread is calling it. */
MPROC__FN mproc__callback *mproc__callback_take(const mproc_pool *pool) {
    pthread_mutex_lock(&mproc__callbacks.lock);
    mproc__callback *c = mproc__callbacks.first;
    for (; c != NULL; c = c->next) {
        bool due = c->pool == pool && mproc__is_done(c->future);
        if (c->caller == 0 && (due || mproc__callback_void(c))) break;
    }
    if (c != NULL) c->caller = mproc__gettid();
    pthread_mutex_unlock(&mproc__callbacks.lock);
    return c;
}

MPROC__FN void mproc__callback_end(mproc__callback *c) {
    pthread_mutex_lock(&mproc__callbacks.lock);
    mproc__callback **link = &mproc__callbacks.first;
    while (*link != NULL && *link != c) link = &(*link)->next;
    if (*link == c) *link = c->next; /* it is not there in a child that it forked */
    pthread_mutex_unlock(&mproc__callbacks.lock);
    free(c);
}

/* The caller asks whether it is done: then that is no news any more to this process. */
MPROC__FN bool mproc__future_look(mproc_future *f) {
    bool done = mproc__is_done(f) || (!mproc__pool_lives(f->pool) && mproc__is_done(f));
    if (done && f->owner == mproc__own_holder()) MPROC__STORE(&f->told, 1);
    return done;
}

/* Silences the descriptor and rings again for what else there is to tell; whoever finishes a task afterwards
   rings, too. At the end of a call, when what it took is no news any more, and not before it waits: another
   thread may be at the descriptor. The byte may come late, so it is looked for each time. */
MPROC__FN void mproc__pool_hush(mproc_pool *pool) {
    int fd[2];
    char bytes[16];
    bool rung = false;
    if (!MPROC__LOAD(&pool->fd_wanted) || pool->creator != mproc__self.pid) return;
    if (mproc__port_fds(&pool->bell, fd) != 0) return;
    while (read(fd[0], bytes, sizeof bytes) > 0) rung = true;
    if (MPROC__SWAP(&pool->fd_rung, 0) == 0 && !rung) return;
    mproc__pool_remind(pool);
}

/* Last in every call on a pool: runs the callbacks that are due, but not from within a callback, which would
   go as deep as there are callbacks. They may free futures and iterators, but not the pool. */
MPROC__FN void mproc__pool_turn(mproc_pool *pool) {
    static __thread bool within;
    const void *before = NULL;
    bool any = mproc__callbacks.first != NULL && !within;
    if (any) mproc__pool_lives(pool); /* or they are due because it does not */
    if (any) before = mproc__uses(pool);
    for (mproc__callback *c; any && (c = mproc__callback_take(pool)) != NULL;) {
        within = true;
        if (!mproc__callback_void(c)) {
            mproc__future_look(c->future);
            c->call(c->future, c->ctx);
        }
        within = false;
        mproc__callback_end(c);
    }
    if (any) mproc__uses(before);
    mproc__pool_hush(pool);
}

MPROC_DEF int mproc_future_on_done(mproc_future *future, void (*callback)(mproc_future *, void *ctx),
                                   void *ctx) {
    if (!mproc__is_future(future) || callback == NULL) return MPROC_EINVAL;
    mproc__callback *c = (mproc__callback *)calloc(1, sizeof *c);
    if (c == NULL) return MPROC_ENOMEM;
    c->future = future;
    c->generation = MPROC__LOAD(&future->word) >> 32;
    c->pool = future->pool;
    c->serial = c->pool->bell.serial;
    c->call = callback;
    c->ctx = ctx;
    pthread_mutex_lock(&mproc__callbacks.lock);
    mproc__callback **link = &mproc__callbacks.first;
    while (*link != NULL) link = &(*link)->next;
    *link = c;
    pthread_mutex_unlock(&mproc__callbacks.lock);
    mproc__pool_turn(future->pool);
    return 0;
}

/* The creator's only: the bytes in it are taken out by that process's calls. */
MPROC_DEF int mproc_pool_fd(mproc_pool *pool) {
    int fd[2];
    if (!mproc__is_pool(pool)) return MPROC_EINVAL;
    if (pool->creator != mproc__self.pid) return MPROC_EPERM;
    int error = mproc__port_fds(&pool->bell, fd);
    if (error != 0) return error;
    if (MPROC__SWAP(&pool->fd_wanted, 1) == 0) mproc__pool_remind(pool); /* nobody knew that it should ring */
    return fd[0];
}

/* Futures */

/* In a worker that waits for a task of its own pool: runs it here if nobody has begun it. */
MPROC__FN bool mproc__worker_runs_own(mproc_future *f) {
    mproc__worker *me = mproc__own_worker(f->pool);
    if (me == NULL || mproc__worker_is_deep(f->pool)) return false;
    uint64_t word = MPROC__LOAD(&f->word);
    if (mproc__state(word) != MPROC__READY || !mproc__worker_claim(me, f, word)) return false;
    const void *before = mproc__waits_on(f);
    mproc__worker_run(me, f, UINT32_MAX);
    mproc__waits_on(before); /* what the task waited for has taken its place */
    return true;
}

MPROC__FN bool mproc__future_done(void *f) { return mproc__is_done((const mproc_future *)f); }

/* Waits until f is done. 0, MPROC_ETIMEDOUT, -EDEADLK, or why it never will be. While this thread ran its
   task, which waited for something else, who freed f did not see that we are at it. */
MPROC__FN int mproc__future_await(mproc_future *f, int64_t deadline) {
    uint64_t word = MPROC__LOAD(&f->word);
    if (mproc__state(word) == MPROC__DONE) return 0;
    if (deadline != 0 && mproc__worker_runs_own(f))
        return mproc__is_future(f) && MPROC__LOAD(&f->word) >> 32 == word >> 32 ? 0 : MPROC_EINVAL;
    if (deadline != 0 && mproc__pool_spin(mproc__future_done, f)) return 0;
    return mproc__pool_wait(f->pool, f, &f->wake, mproc__future_done, f, deadline);
}

/* What came of item i, its result to out. error: the task itself is lost. */
MPROC__FN int mproc__item_take(const mproc_future *f, uint32_t i, void *out, int error) {
    size_t size = f->job.out_size;
    if (error == 0) error = mproc__item_status(f, i);
    if (error == 0 && out != NULL) mproc__copy(out, f->job.out + i * size, size);
    return error;
}

/* For a call on a future: notes it, for who frees the future to see, until mproc__waits_on(*before). */
MPROC__FN bool mproc__future_enter(mproc_future *f, const void **before) {
    *before = mproc__waits_on(f);
    if (mproc__is_future(f) && MPROC__LOAD(&f->tag.magic) != 0) return true; /* looked at after the note */
    mproc__waits_on(*before);
    return false;
}

/* Ends such a call: runs the callbacks that are due, one of which may free the future; the pool, which is
   looked at until the end, nobody may. */
MPROC__FN void mproc__future_leave(mproc_pool *pool, const void *before) {
    const void *used = mproc__uses(pool);
    mproc__waits_on(before);
    mproc__pool_turn(pool);
    mproc__uses(used);
}

/* What get and wait have in common: one says what came of the task, the other only that it is done. */
MPROC__FN int mproc__future_end(mproc_future *f, void *result, double timeout, bool get) {
    int64_t deadline;
    const void *before = NULL;
    if (!mproc__deadline(timeout, &deadline) || !mproc__future_enter(f, &before)) return MPROC_EINVAL;
    mproc_pool *pool = f->pool;
    int error = mproc__future_await(f, deadline);
    if (error == 0) mproc__future_look(f); /* else the caller is not told, though it may be done by now */
    if (error == 0 && get) error = mproc__item_take(f, 0, result, mproc__future_error(f));
    mproc__future_leave(pool, before);
    return error;
}

MPROC_DEF int mproc_future_wait(mproc_future *future, double timeout) {
    return mproc__future_end(future, NULL, timeout, false);
}
MPROC_DEF int mproc_future_get(mproc_future *future, void *result, double timeout) {
    return mproc__future_end(future, result, timeout, true);
}
MPROC_DEF bool mproc_future_ready(mproc_future *future) { return mproc_future_wait(future, 0) == 0; }
MPROC_DEF bool mproc_future_successful(mproc_future *future) {
    return mproc_future_get(future, NULL, 0) == 0;
}

MPROC_DEF int mproc_future_code(mproc_future *future) {
    const void *before = NULL;
    if (!mproc__future_enter(future, &before)) return MPROC_EINVAL;
    mproc_pool *pool = future->pool;
    int code = mproc__future_look(future) ? future->single.code : MPROC_EAGAIN;
    mproc__future_leave(pool, before);
    return code;
}

/* Cancels a task that no worker has begun; no if one has. */
MPROC__FN bool mproc__future_withdraw(mproc_future *f) {
    uint64_t word = MPROC__LOAD(&f->word);
    bool ended = mproc__state(word) == MPROC__READY && mproc__slot_finish(f, word, MPROC_ECANCELED);
    if (ended) mproc__ready_prune(f->pool); /* wakes who waits for room */
    return ended;
}

MPROC_DEF int mproc_future_cancel(mproc_future *future) {
    const void *before = NULL;
    if (!mproc__future_enter(future, &before)) return MPROC_EINVAL;
    mproc_pool *pool = future->pool;
    int error = MPROC_ETIMEDOUT;
    while (error == MPROC_ETIMEDOUT && !mproc__future_withdraw(future) && !mproc__is_done(future)) {
        MPROC__STORE(&future->cancel, 1);
        mproc__supervisor_call(pool);
        error = mproc__future_await(future, mproc__now() + MPROC__SLICE);
    }
    if (mproc__future_look(future)) error = mproc__future_error(future) == MPROC_ECANCELED ? 0 : -EALREADY;
    mproc__future_leave(pool, before);
    return error;
}

/* Gives a future up; the descriptor may have rung for it yet. MPROC_EBUSY: other calls are at it, or another
   thread is in its callback; who is in that of a future freed before, in the same slot, does no harm. */
MPROC__FN int mproc__future_drop(mproc_future *f) {
    uint64_t word = MPROC__LOAD(&f->word); /* its generation: later the slot may be another's */
    int error = 0;
    bool locked = mproc__callbacks.first != NULL;
    if (locked) pthread_mutex_lock(&mproc__callbacks.lock);
    for (mproc__callback *c = locked ? mproc__callbacks.first : NULL; c != NULL; c = c->next)
        if (c->future == f && c->generation == word >> 32 && c->caller != 0 && c->caller != mproc__gettid())
            error = MPROC_EBUSY;
    if (error == 0) error = mproc__future_seize(f);
    if (locked) pthread_mutex_unlock(&mproc__callbacks.lock);
    if (error != 0) return error;
    MPROC__STORE(&f->job.detached, 1);
    uint64_t now = MPROC__LOAD(&f->word);
    if (mproc__state(now) == MPROC__DONE && now >> 32 == word >> 32) mproc__slot_release(f, now);
    return 0;
}

MPROC_DEF int mproc_future_free(mproc_future *future) {
    if (future == NULL) return 0;
    if (!mproc__is_future(future)) return MPROC_EINVAL;
    mproc_pool *pool = future->pool;
    const void *before = NULL;
    bool others = future->owner != mproc__own_holder(); /* it goes with its asker, who may die meanwhile */
    if (others && !mproc__future_enter(future, &before)) return MPROC_EINVAL;
    int error = mproc__future_drop(future);
    if (others) mproc__waits_on(before);
    if (error == 0) mproc__pool_hush(pool);
    return error;
}

/* Map and iterators */

/* Both hand in chunks of items, a number of them ahead, and take their results from the oldest on. An
   iterator is the asking process's own; a map is one that lives in the call. */

struct mproc_iter {
    mproc_iter *next; /* in this process's list */
    mproc_pool *pool;
    uint64_t serial;      /* of the pool's bell: another pool may lie there by and by */
    pthread_mutex_t lock; /* of who hands in chunks, which close does too, or swaps them; the counts of
                             chunks and items are read without it, by the iterator's own thread */
    mproc__job job;       /* of a whole chunk, with in and out of all items */
    size_t n, given;      /* items */
    bool unordered;
    size_t ahead;              /* chunks in the pool at most */
    size_t head, tail;         /* of those, counting up */
    mproc_future *window[256]; /* those, the oldest at the head */
    uint32_t position;         /* of the next item in the chunk at the head */
    size_t index;              /* of the item returned last */
    int code;                  /* of that item */
};
#define MPROC__WINDOW (sizeof((mproc_iter *)0)->window / sizeof(mproc_future *))

/* Items per chunk: enough chunks to keep all workers busy to the end, few enough that handing them over is
   cheap; single items where each has a limit of time, or a worker a limit of tasks. */
MPROC__FN uint32_t mproc__chunk_size(const mproc_pool *pool, size_t n, size_t in_size, size_t out_size) {
    size_t chunk = n / ((size_t)pool->workers * 32), room = ((size_t)1 << 20) / (in_size + out_size + 1);
    if (chunk > 256) chunk = 256;
    if (chunk > room) chunk = room;
    bool single = pool->options.task_timeout > 0 || pool->options.max_tasks_per_worker > 0;
    return chunk < 1 || single ? 1 : (uint32_t)chunk;
}

/* Checks the arguments and sets it up. */
MPROC__FN int mproc__iter_begin(mproc_iter *it, mproc_pool *pool, const mproc__job *job, size_t n) {
    memset(it, 0, sizeof *it);
    it->pool = pool;
    it->serial = mproc__is_pool(pool) ? pool->bell.serial : 0;
    it->n = n;
    it->job = *job;
    if (n == 0) it->job.in_size = it->job.out_size = 0; /* then there need not be an array */
    if (!mproc__job_is_sound(pool, &it->job)) return MPROC_EINVAL;
    size_t most = SIZE_MAX / 2 / (n | 1);
    if (it->job.in_size > most || it->job.out_size > most) return MPROC_EINVAL;
    int error = mproc__pool_refuses(pool);
    if (error != 0) return error;
    it->job.count = mproc__chunk_size(pool, n, it->job.in_size, it->job.out_size);
    it->ahead = pool->workers < 32 ? (size_t)pool->workers * 4 : MPROC__WINDOW / 2;
    return -pthread_mutex_init(&it->lock, NULL);
}

MPROC__FN mproc_future **mproc__iter_at(mproc_iter *it, size_t position) {
    return &it->window[position % MPROC__WINDOW];
}
MPROC__FN mproc_future *mproc__iter_head(mproc_iter *it) { return *mproc__iter_at(it, it->head); }

/* Hands in the next chunk. */
MPROC__FN int mproc__iter_give(mproc_iter *it, int64_t deadline) {
    mproc__job job = it->job;
    int error;
    if (job.count > it->n - it->given) job.count = (uint32_t)(it->n - it->given);
    job.first = it->given;
    if (job.in_size != 0) job.in += it->given * job.in_size;
    if (job.out != NULL) job.out += it->given * job.out_size;
    mproc_future *f = mproc__pool_hand_in(it->pool, &job, deadline, &error);
    if (f == NULL) return error;
    MPROC__STORE(&f->told, 1); /* mproc_iter_next says itself whether there is more */
    *mproc__iter_at(it, it->tail) = f;
    MPROC__STORE(&it->tail, it->tail + 1);
    MPROC__STORE(&it->given, it->given + job.count);
    return 0;
}

/* Hands in chunks, as many as may run ahead. 0 if any is under way, or all have been. */
MPROC__FN int mproc__iter_feed(mproc_iter *it, int64_t deadline) {
    int error = 0;
    pthread_mutex_lock(&it->lock);
    while (error == 0 && it->given < it->n && it->tail - it->head < it->ahead)
        error = mproc__iter_give(it, it->tail > it->head ? 0 : deadline);
    if (it->tail > it->head) error = 0;
    pthread_mutex_unlock(&it->lock);
    return error;
}

/* Hands in all of the rest at once, in a few large chunks. 0; MPROC_ETIMEDOUT without room for all, or while
   the iterator's thread hands in itself; or why the pool takes no more. */
MPROC__FN int mproc__iter_flush(mproc_iter *it) {
    int error = 0;
    if (pthread_mutex_trylock(&it->lock) != 0) return MPROC_ETIMEDOUT;
    if (it->ahead < MPROC__WINDOW) {
        size_t count = (it->n - it->given) / it->ahead + 1;
        it->job.count = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
        it->ahead = MPROC__WINDOW;
    }
    while (error == 0 && it->given < it->n && it->tail - MPROC__LOAD(&it->head) < it->ahead)
        error = mproc__iter_give(it, 0);
    pthread_mutex_unlock(&it->lock);
    return error;
}

/* All of the chunk at the head has been taken. */
MPROC__FN void mproc__iter_drop(mproc_iter *it) {
    mproc_future *f = mproc__iter_head(it);
    MPROC__STORE(&it->position, 0);
    MPROC__STORE(&it->head, it->head + 1);
    mproc__future_drop(f);
}

/* Takes the chunk at the head of a map, to out. 0, or the error of its first item that failed. */
MPROC__FN int mproc__map_take(mproc_iter *it, char *out) {
    mproc_future *f = mproc__iter_head(it);
    if (!mproc__is_done(f)) /* one sleep for half of them */
        mproc__future_await(*mproc__iter_at(it, it->head + (it->tail - it->head) / 2), MPROC__NEVER);
    int lost = mproc__future_await(f, MPROC__NEVER), failed = 0;
    size_t step = out != NULL ? f->job.out_size : 0;
    for (uint32_t i = 0; i < f->job.count; i++) {
        int error = mproc__item_take(f, i, out != NULL ? out + (f->job.first + i) * step : NULL, lost);
        if (failed == 0) failed = error;
    }
    it->index = f->job.first + f->job.count;
    mproc__iter_drop(it);
    return failed;
}

MPROC_DEF int mproc_pool_map(mproc_pool *pool, mproc_task task, const void *in, size_t n, size_t in_size,
                             void *out, size_t out_size) {
    mproc_iter it;
    mproc__job job = mproc__job_of(task, in, in_size, out_size);
    if (out == NULL && out_size != 0 && n != 0) return MPROC_EINVAL;
    if (mproc__worker_is_deep(pool)) return -EDEADLK;
    /* It stays until the last task has ended. An iterator's array does not; nor, should its worker be killed,
       what a task has from its caller, and its chunks run yet. */
    bool stays = mproc__me.pool == NULL;
    if (stays && mproc__in_arena(out)) job.out = (char *)out;
    int failed = 0, error = mproc__iter_begin(&it, pool, &job, n);
    if (error != 0) return error;
    it.job.in_place = stays && mproc__in_arena(in);
    it.ahead = MPROC__WINDOW;
    const void *before = mproc__uses(pool); /* while it takes results, too: they go with the pool */
    while ((error = mproc__iter_feed(&it, MPROC__NEVER)) == 0 && it.head < it.tail) {
        error = mproc__map_take(&it, job.out == NULL ? (char *)out : NULL);
        if (failed == 0) failed = error;
        if (pool->options.progress != NULL) mproc_progress(stderr, pool->progress, it.index, n);
    }
    pthread_mutex_destroy(&it.lock);
    mproc__pool_turn(pool);
    mproc__uses(before);
    return failed != 0 ? failed : error;
}

/* With the lock held: what points to it in the list, or to the list's end. */
MPROC__FN mproc_iter **mproc__iter_link(const mproc_iter *it) {
    mproc_iter **link = &mproc__iters;
    while (*link != NULL && *link != it) link = &(*link)->next;
    return link;
}

/* Is it one of this process's? It lies in private memory: what was freed must not be read, so it is looked
   up; and may be taken off the list. */
MPROC__FN bool mproc__iter_find(const mproc_iter *it, bool no_more) {
    pthread_mutex_lock(&mproc__iters_lock);
    mproc_iter **link = mproc__iter_link(it);
    bool known = *link != NULL;
    if (known && no_more) *link = it->next;
    pthread_mutex_unlock(&mproc__iters_lock);
    return known;
}
MPROC__FN bool mproc__is_iter(const mproc_iter *it) { return mproc__iter_find(it, false); }

/* The pool is about to be closed: what an iterator was accepted with is handed in now. Locks are taken in the
   order iterator list, iterator. The list is of all pools, so nobody waits while he holds it. */
MPROC__FN void mproc__iters_flush(mproc_pool *pool) {
    for (int error = MPROC_ETIMEDOUT; error == MPROC_ETIMEDOUT;) {
        error = 0;
        pthread_mutex_lock(&mproc__iters_lock);
        for (mproc_iter *it = mproc__iters; it != NULL && error != MPROC_ETIMEDOUT; it = it->next)
            if (it->pool == pool && it->serial == pool->bell.serial) error = mproc__iter_flush(it);
        pthread_mutex_unlock(&mproc__iters_lock);
        if (error != MPROC_ETIMEDOUT) return;
        mproc__sleep(MPROC__MS);
        if (mproc__pool_await_space(pool, MPROC__NEVER) != 0) return;
    }
}

/* The position of the first chunk that is done and that the next item may come from; SIZE_MAX without. */
MPROC__FN size_t mproc__iter_done(mproc_iter *it) {
    size_t head = MPROC__LOAD(&it->head), tail = MPROC__LOAD(&it->tail);
    size_t end = it->unordered && MPROC__LOAD(&it->position) == 0 ? tail : head + 1;
    for (size_t i = head; i < tail && i < end; i++)
        if (mproc__is_done(*mproc__iter_at(it, i))) return i;
    return SIZE_MAX;
}

/* Has the descriptor tell of the next item if it is there. Another thread may have silenced it and, while
   this one had the lock, not have seen that. */
MPROC__FN void mproc__iter_ring(mproc_iter *it) {
    if (MPROC__LOAD(&it->pool->fd_wanted) && mproc__iter_done(it) != SIZE_MAX) mproc__pool_ring(it->pool);
}

MPROC__FN mproc_iter *mproc__iter_new(mproc_pool *pool, mproc__job job, size_t n, bool unordered) {
    mproc_iter *it = (mproc_iter *)malloc(sizeof *it);
    int error = it != NULL ? mproc__iter_begin(it, pool, &job, n) : MPROC_ENOMEM;
    if (error != 0) {
        free(it);
        return (mproc_iter *)mproc__fail(error);
    }
    it->unordered = unordered;
    pthread_mutex_lock(&mproc__iters_lock);
    it->next = mproc__iters;
    mproc__iters = it;
    pthread_mutex_unlock(&mproc__iters_lock);
    mproc__iter_feed(it, 0);
    mproc__iter_ring(it);
    return it;
}

MPROC_DEF mproc_iter *mproc_pool_imap(mproc_pool *pool, mproc_task task, const void *in, size_t n,
                                      size_t in_size, size_t out_size) {
    return mproc__iter_new(pool, mproc__job_of(task, in, in_size, out_size), n, false);
}
MPROC_DEF mproc_iter *mproc_pool_imap_unordered(mproc_pool *pool, mproc_task task, const void *in, size_t n,
                                                size_t in_size, size_t out_size) {
    return mproc__iter_new(pool, mproc__job_of(task, in, in_size, out_size), n, true);
}

/* Brings such a chunk to the head of the window. */
MPROC__FN bool mproc__iter_pick(void *iter) {
    mproc_iter *it = (mproc_iter *)iter;
    size_t done = mproc__iter_done(it);
    if (done == SIZE_MAX) return false;
    pthread_mutex_lock(&it->lock); /* for iters_remind, in another thread */
    mproc_future **at = mproc__iter_at(it, done), **head = mproc__iter_at(it, it->head), *f = *at;
    *at = *head;
    *head = f;
    pthread_mutex_unlock(&it->lock);
    return true;
}

/* Is its pool still there? This process may have freed it, or another one. */
MPROC__FN bool mproc__iter_lives(const mproc_iter *it) {
    return mproc__is_pool(it->pool) && it->pool->bell.serial == it->serial;
}

/* Rings for what this process's iterators have ready. If another thread is at their list, it rings once too
   often rather than wait; if one hands in an iterator's chunks, there will be news. */
MPROC__FN void mproc__iters_remind(mproc_pool *pool) {
    bool busy = pthread_mutex_trylock(&mproc__iters_lock) != 0, ready = busy;
    for (mproc_iter *it = busy ? NULL : mproc__iters; it != NULL && !ready; it = it->next) {
        if (it->pool != pool || !mproc__iter_lives(it) || pthread_mutex_trylock(&it->lock) != 0) continue;
        ready = mproc__iter_done(it) != SIZE_MAX;
        pthread_mutex_unlock(&it->lock);
    }
    if (!busy) pthread_mutex_unlock(&mproc__iters_lock);
    if (ready) mproc__pool_ring(pool);
}

/* For a call on the iterator: marks its pool as in use by this thread, for mproc_pool_free to see. 0; or
   MPROC_EINVAL, or MPROC_ECLOSED if the pool was freed, but not before the last item was taken. */
MPROC__FN int mproc__iter_enter(mproc_iter *it, const void **before) {
    pthread_mutex_lock(&mproc__iters_lock);
    bool known = *mproc__iter_link(it) != NULL, usable = known && mproc__iter_lives(it);
    if (usable) *before = mproc__uses(it->pool);
    pthread_mutex_unlock(&mproc__iters_lock);
    if (usable) return 0;
    return known && it->head == MPROC__LOAD(&it->tail) && MPROC__LOAD(&it->given) == it->n ? MPROC_ECLOSED
                                                                                           : MPROC_EINVAL;
}

/* Waits until the chunk at the head is the one to take from. A worker first runs one that nobody has begun.
 */
MPROC__FN int mproc__iter_await(mproc_iter *it, int64_t deadline) {
    mproc_pool *pool = it->pool;
    if (!it->unordered || it->position > 0) return mproc__future_await(mproc__iter_head(it), deadline);
    if (mproc__iter_pick(it)) return 0;
    bool ran = deadline == 0;
    for (size_t i = it->head, end = MPROC__LOAD(&it->tail); i < end && !ran; i++)
        ran = mproc__worker_runs_own(*mproc__iter_at(it, i));
    return mproc__pool_wait(pool, pool, &pool->any, mproc__iter_pick, it, deadline);
}

/* Takes the next item of the chunk at the head. */
MPROC__FN ssize_t mproc__iter_take(mproc_iter *it, void *out, int lost) {
    mproc_future *f = mproc__iter_head(it);
    uint32_t i = it->position;
    MPROC__STORE(&it->position, i + 1);
    it->index = f->job.first + i;
    it->code = lost != 0 ? 0 : f->items[i].code;
    int error = mproc__item_take(f, i, out, lost);
    if (it->position == f->job.count) mproc__iter_drop(it);
    return error != 0 ? error : (ssize_t)it->index;
}

/* The pool took no more: the items that were not handed in fail one by one, so that their number is right. */
MPROC__FN ssize_t mproc__iter_refused(mproc_iter *it, int error) {
    if (error == MPROC_ETIMEDOUT || error == MPROC_ENOMEM || error == -EDEADLK) return error;
    pthread_mutex_lock(&it->lock);
    it->index = it->given;
    MPROC__STORE(&it->given, it->given + 1);
    pthread_mutex_unlock(&it->lock);
    it->code = 0;
    return error == MPROC_ECLOSED ? MPROC_ECANCELED : error;
}

MPROC__FN ssize_t mproc__iter_step(mproc_iter *iter, void *out, int64_t deadline) {
    int error = mproc__iter_feed(iter, deadline);
    if (error != 0) return mproc__iter_refused(iter, error);
    if (iter->head == MPROC__LOAD(&iter->tail)) return MPROC_ECLOSED;
    error = mproc__iter_await(iter, deadline);
    if (error == MPROC_ETIMEDOUT || error == -EDEADLK) return error;
    ssize_t taken = mproc__iter_take(iter, out, error);
    mproc__iter_ring(iter);
    return taken;
}

MPROC_DEF ssize_t mproc_iter_next(mproc_iter *iter, void *out, double timeout) {
    int64_t deadline;
    const void *before = NULL;
    if (!mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    int error = mproc__iter_enter(iter, &before);
    if (error != 0) return error;
    mproc_pool *pool = iter->pool;
    ssize_t taken = mproc__iter_step(iter, out, deadline);
    mproc__pool_turn(pool); /* last: a callback may free the iterator */
    mproc__uses(before);
    return taken;
}

MPROC_DEF size_t mproc_iter_index(mproc_iter *iter) { return mproc__is_iter(iter) ? iter->index : 0; }
MPROC_DEF int mproc_iter_code(mproc_iter *iter) { return mproc__is_iter(iter) ? iter->code : MPROC_EINVAL; }

MPROC_DEF int mproc_iter_free(mproc_iter *iter) {
    if (iter == NULL) return 0;
    const void *before = NULL;
    bool uses = mproc__iter_enter(iter, &before) == 0; /* or the pool is gone already */
    if (!mproc__iter_find(iter, true)) return MPROC_EINVAL;
    while (mproc__iter_lives(iter) && iter->head < iter->tail) { /* a freed pool took them along */
        mproc__future_withdraw(mproc__iter_head(iter));
        mproc__iter_drop(iter);
    }
    if (uses) mproc__pool_hush(iter->pool);
    if (uses) mproc__uses(before);
    pthread_mutex_destroy(&iter->lock);
    free(iter);
    return 0;
}

/* The end of a pool */

MPROC_DEF int mproc_pool_close(mproc_pool *pool) {
    if (!mproc__is_pool(pool)) return MPROC_EINVAL;
    if (!MPROC__LOAD(&pool->closed)) mproc__iters_flush(pool);
    MPROC__STORE(&pool->closed, 1);
    mproc__flag_end(&pool->space);
    mproc__supervisor_call(pool);
    return 0;
}

MPROC__FN bool mproc__pool_is_over(void *pool) { return MPROC__LOAD(&((mproc_pool *)pool)->over) != 0; }

/* Waits until nothing of the pool runs any more. */
MPROC__FN int mproc__pool_await_end(mproc_pool *pool, int64_t deadline) {
    const void *before = mproc__uses(pool);
    int error = mproc__pool_wait(pool, pool, &pool->watch, mproc__pool_is_over, pool, deadline);
    if (error == 0) mproc__pool_bury(pool, MPROC__NEVER);
    mproc__pool_turn(pool);
    mproc__uses(before);
    return error;
}

MPROC_DEF int mproc_pool_join(mproc_pool *pool, double timeout) {
    int64_t deadline;
    if (!mproc__is_pool(pool) || !mproc__deadline(timeout, &deadline)) return MPROC_EINVAL;
    if (mproc__me.pool == pool) return -EDEADLK; /* a worker would wait for itself */
    if (mproc__pool_refuses(pool) == 0 && mproc__pool_lives(pool)) return MPROC_EBUSY;
    return mproc__pool_await_end(pool, deadline);
}

MPROC_DEF int mproc_pool_terminate(mproc_pool *pool) {
    if (!mproc__is_pool(pool)) return MPROC_EINVAL;
    if (mproc__me.pool == pool) return -EDEADLK;
    mproc__pool_doom(pool, MPROC_ECANCELED);
    mproc__supervisor_call(pool);
    return mproc__pool_await_end(pool, MPROC__NEVER);
}

/* Does a living thread wait for the pool or one of its tasks? */
MPROC__FN bool mproc__pool_awaited(const mproc_pool *pool) {
    for (uint32_t i = 0, n = MPROC__LOAD(&mproc__shared->seats_used); i < n; i++) {
        const mproc__seat *s = &mproc__shared->seat[i];
        const mproc_future *f = (const mproc_future *)MPROC__LOAD(&s->waiting);
        bool waits = (const void *)f == pool || (mproc__is_future(f) && f->pool == pool);
        if (!waits && MPROC__LOAD(&s->at_pool) != (uintptr_t)pool) continue;
        if (s != mproc__own_seat && mproc__seat_alive(s)) return true;
    }
    return false;
}

MPROC_DEF int mproc_pool_free(mproc_pool *pool) {
    if (pool == NULL) return 0;
    bool within = mproc__own_seat != NULL && mproc__own_seat->at_pool == (uintptr_t)pool;
    if (within) return MPROC_EBUSY; /* a callback of this thread's call on the pool */
    int error = mproc_pool_terminate(pool);
    if (error != 0) return error;
    int64_t end = mproc__now() + MPROC__SECOND; /* they are waking up */
    while ((mproc__pool_awaited(pool) || mproc__pool_dying(pool) || mproc__mutex_holder(&pool->life) != 0) &&
           mproc__now() < end) /* the supervisor says that it is over, and then tells each task */
        mproc__sleep(MPROC__MS);
    pthread_mutex_lock(&mproc__iters_lock); /* so that no thread begins to use an iterator of it meanwhile */
    if (mproc__mutex_holder(&pool->life) != 0 || mproc__pool_awaited(pool)) error = MPROC_EBUSY;
    else if (!mproc__cas32(&pool->tag.magic, mproc__magic(&pool->tag), 0)) error = MPROC_EINVAL;
    pthread_mutex_unlock(&mproc__iters_lock);
    if (error == 0) mproc__pool_dispose(pool);
    return error;
}

/* What a worker has finished, the task included that it is just putting into its sum, unless it is at the
   next one when that has been read, and may have prepared the sum for it. */
MPROC__FN mproc__tally mproc__worker_tally(const mproc_pool *pool, const mproc__worker *w) {
    for (;;) {
        uint32_t current = MPROC__LOAD(&w->current[0]);
        if (current == 0) return w->tally;
        const mproc_future *f = mproc__slot(pool, current - 1);
        uint64_t word = MPROC__LOAD(&f->word);
        if (mproc__runs(w, word)) return w->tally;
        mproc__tally tally;
        tally.done = MPROC__LOAD(&w->next_tally.done);
        tally.failed = MPROC__LOAD(&w->next_tally.failed);
        if (MPROC__LOAD(&w->current[0]) == current && MPROC__LOAD(&f->word) == word) return tally;
    }
}

MPROC_DEF int mproc_pool_stats(mproc_pool *pool, mproc_pool_counts *out) {
    if (!mproc__is_pool(pool) || out == NULL) return MPROC_EINVAL;
    mproc__pool_turn(pool);
    bool lives = mproc__pool_lives(pool);
    *out = pool->counts;
    out->pending = lives ? mproc__ready_length(pool) : 0;
    for (int i = 0; i < pool->workers; i++) {
        const mproc__worker *w = &pool->worker[i];
        mproc__tally tally = mproc__worker_tally(pool, w);
        out->done += tally.done;
        out->failed += tally.failed;
        out->workers += lives && w->pid != 0;
        out->running += lives && w->pid != 0 && w->current[0] != 0;
    }
    return 0;
}

/* Parallel for */

/* No pool: processes forked for the occasion share out the indices by one counter. A process that dies takes
   the index with it that it was at; as long as indices are left, another is forked in its place. */

typedef struct mproc__looper { /* one of those processes */
    mproc__child *child;
    uint32_t busy; /* it has not come to the end, and may hold an index */
} mproc__looper;

typedef struct mproc__loop {
    size_t n, next; /* indices, and the next one */
    void (*body)(size_t i, void *ctx);
    void *ctx;
    mproc__looper looper[1];
} mproc__loop;

/* Forks one of the loop's processes. 0 or the error. */
MPROC__FN int mproc__loop_fork(mproc__loop *loop, mproc__looper *me) {
    mproc__child *c = mproc__child_new(MPROC__HELPER, true);
    MPROC__STORE(&me->busy, 1);
    pid_t pid = c != NULL ? mproc__spawn(c) : MPROC_ENOMEM;
    if (pid > 0) me->child = c;
    if (pid != 0) return pid > 0 ? 0 : (int)pid;
    mproc__become("", mproc__self.current.name);
    pid = mproc__self.pid;
    for (size_t i; (i = __atomic_fetch_add(&loop->next, 1, __ATOMIC_SEQ_CST)) < loop->n;) {
        loop->body(i, loop->ctx);
        if (mproc__self.pid != pid) mproc_exit(0); /* a child that the body forked: nobody waits for it */
    }
    MPROC__STORE(&me->busy, 0);
    mproc_exit(0);
    return 0;
}

/* Waits for a process of the loop; did it end well? */
MPROC__FN bool mproc__loop_join(mproc__looper *it) {
    mproc__child *c = it->child;
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child_wait(c, MPROC__NEVER);
    bool well = MPROC__LOAD(&it->busy) == 0 && (c->exitcode == 0 || c->exitcode == MPROC_NO_EXITCODE);
    if (c->users == 0) mproc__child_unlink(c); /* else another thread ends the program */
    pthread_mutex_unlock(&mproc__self.lock);
    return well;
}

MPROC_DEF int mproc_parallel_for(size_t n, int workers, void (*body)(size_t i, void *ctx), void *ctx) {
    if (body == NULL || workers < 0 || workers > MPROC__WORKERS) return MPROC_EINVAL;
    int error = mproc__init(), result = 0, started = 0;
    if (error != 0 || n == 0) return error;
    if (workers == 0) workers = mproc_cpu_count();
    if ((size_t)workers > n) workers = (int)n;
    size_t size = sizeof(mproc__loop) + (size_t)workers * sizeof(mproc__looper);
    mproc__loop *loop = (mproc__loop *)mproc__alloc(size, true);
    if (loop == NULL) return MPROC_ENOMEM;
    loop->n = n;
    loop->body = body;
    loop->ctx = ctx;
    for (; error == 0 && started < workers; started += error == 0)
        error = mproc__loop_fork(loop, &loop->looper[started]);
    for (mproc__looper *it = loop->looper; it < loop->looper + started; it++) {
        while (it->child != NULL && !mproc__loop_join(it)) {
            result = MPROC_ECRASHED;
            it->child = NULL;
            uint32_t ending = MPROC__LOAD(&mproc__self.ending); /* whose own last calls may use a loop */
            if (MPROC__LOAD(&loop->next) < n && (ending == 0 || ending == (uint32_t)mproc__gettid()))
                mproc__loop_fork(loop, it);
        }
    }
    if (started > 0 && MPROC__LOAD(&loop->next) < n) result = MPROC_ECRASHED; /* and nobody left to go on */
    mproc__dealloc(loop);
    return started > 0 ? result : error;
}

/* Progress */

MPROC__FN void mproc__progress_bar(FILE *out, const char *label, size_t done, size_t total, double seconds) {
    double part = total > 0 ? (double)done / (double)total : 1;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    long left = rate > 0 ? (long)((double)(total - done) / rate + 0.5) : 0;
    int full = (int)(part * 30);
    fprintf(out, "\r%s [%.*s%.*s] %3d%% %zu/%zu %.0f/s %ld:%02ld left %s", label, full,
            "##############################", 30 - full, "..............................", (int)(part * 100),
            done, total, rate, left / 60, left % 60, done >= total ? "\n" : "");
    fflush(out);
}

MPROC_DEF void mproc_progress(FILE *out, const char *label, size_t done, size_t total) {
    struct mproc__progress *last = &mproc__progress;
    if (out == NULL) return;
    if (label == NULL) label = "";
    if (done > total) done = total;
    pthread_mutex_lock(&last->lock);
    int64_t now = mproc__now();
    bool renamed = last->began == 0 || strncmp(label, last->label, sizeof last->label - 1) != 0;
    if (renamed || done < last->done) {
        last->began = now;
        last->tenth = 0;
    }
    if (renamed) last->drawn = 0; /* draw at once */
    if (renamed) snprintf(last->label, sizeof last->label, "%s", label);
    size_t percent = total > 0 ? (size_t)((double)done * 100 / (double)total) : 100, tenth = percent / 10;
    bool end = done >= total && (renamed || last->done < total);
    last->done = done;
    if (!isatty(fileno(out))) {
        if (tenth > last->tenth) fprintf(out, "%s %zu%% (%zu of %zu)\n", label, percent, done, total);
        if (tenth > last->tenth) fflush(out);
        last->tenth = tenth;
    } else if (end || now - last->drawn >= MPROC__SECOND / 20) {
        mproc__progress_bar(out, label, done, total, (double)(now - last->began) / 1e9);
        last->drawn = now;
    }
    pthread_mutex_unlock(&last->lock);
}

/* ---- Files --------------------------------------------------------------------------------------------- */

/* flock(2) belongs to an open description, so every process must open its own: a child of fork closes what
   its handles inherited, and opens the path again when it locks it. Within a process the handle is guarded by
   a futex word.

   An update writes a temporary file beside the target, locks it, and renames it over the target; whoever got
   the lock of the old file meanwhile finds that the path names another file now, and locks that instead. So
   the lock is always that of the file which the path names.

   An append that fits one page of the file is a single step for the kernel. A longer one could be cut short
   by SIGKILL: before it begins, a mark beside the file, a hard link to it, and then a note, a symbolic link,
   say that and how long the file was. Whoever next gets the lock sees by the count of the file's names that
   there may be a mark, and cuts the file back. (Where the folder may not be written or knows no links,
   without.) */

typedef struct mproc__looks {
    uint64_t device, inode, size;
    bool regular, linked; /* linked: has more than one name */
} mproc__looks;

struct mproc_file {
    uint32_t busy;  /* futex: 0 free, 1 a thread uses the handle, 2 and others wait */
    uint32_t owner; /* tid of the thread that holds the lock */
    int fd;
    int fresh;        /* an update's new file, or -1 */
    int held;         /* 0, LOCK_SH or LOCK_EX */
    int users;        /* calls under way; guarded by mproc__self.lock */
    bool inside;      /* an update's edit is under way */
    uint32_t *line;   /* where this append or update stands in line */
    mproc__looks is;  /* the open file, as it was when the lock was got */
    mproc_file *next; /* in this process's list of handles */
    char *path;       /* absolute, links resolved */
    char *beside;     /* room for the names of the folder and of what we put beside the file */
};

static mproc_file *mproc__files; /* open in this process; guarded by mproc__self.lock */

/* With the lock: what points to a handle, or to the list's end. Handles are private memory: one that was
   closed must not be read, so it is looked up. */
MPROC__FN mproc_file **mproc__file_find(const mproc_file *f) {
    mproc_file **link = &mproc__files;
    while (*link != NULL && *link != f) link = &(*link)->next;
    return link;
}

/* Each call brackets what it does with these: meanwhile nobody can close the handle. */
MPROC__FN bool mproc__file_pin(const mproc_file *f) {
    pthread_mutex_lock(&mproc__self.lock);
    mproc_file *known = *mproc__file_find(f);
    if (known != NULL) known->users++;
    pthread_mutex_unlock(&mproc__self.lock);
    return known != NULL;
}
MPROC__FN int mproc__file_unpin(mproc_file *f, int result) {
    pthread_mutex_lock(&mproc__self.lock);
    if (f->users > 0) f->users--; /* 0: in a child that was forked meanwhile */
    pthread_mutex_unlock(&mproc__self.lock);
    return result;
}

/* In a child of fork: an inherited description would keep the parent's lock alive when the parent is killed.
   Closing it leaves the parent's lock alone, unlike unlocking; the child opens its own when it needs one. The
   parent's threads, which may be using handles, are not here. */
MPROC__FN void mproc__files_inherit(void) {
    for (mproc_file *f = mproc__files; f != NULL; f = f->next) {
        mproc__close(&f->fd);
        mproc__close(&f->fresh);
        f->busy = f->owner = 0;
        f->held = f->users = 0;
        f->inside = false;
    }
}

#define MPROC__BESIDE_ROOM 48 /* more than ".", "~", a hash and ".mproc-note" */

/* The name of a file of ours beside the target: ".NAME.mproc-SUFFIX". A NAME too long for that is cut, and a
   hash of it (FNV-1a, of Fowler, Noll and Vo) tells it from others cut so. */
MPROC__FN const char *mproc__beside(mproc_file *f, const char *suffix) {
    const char *name = strrchr(f->path, '/') + 1;
    char tail[20] = "";
    uint64_t hash = 14695981039346656037u;
    for (const char *p = name; *p != 0; p++) hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    if (strlen(name) > 200) snprintf(tail, sizeof tail, "~%016llx", (unsigned long long)hash);
    snprintf(f->beside, strlen(f->path) + MPROC__BESIDE_ROOM, "%.*s.%.200s%s.mproc-%s", (int)(name - f->path),
             f->path, name, tail, suffix);
    return f->beside;
}

/* What there is to know of a file, but for its times: who asks for those makes the kernel give the next write
   a time of its own, which then goes to the disk with it. */
MPROC__FN int mproc__look(int fd, const char *path, mproc__looks *l) {
#ifdef STATX_TYPE
    struct statx x;
    memset(&x, 0, sizeof x); /* MemorySanitizer does not see the kernel write there */
    if (syscall(SYS_statx, fd, path, path[0] != 0 ? 0 : AT_EMPTY_PATH,
                STATX_TYPE | STATX_INO | STATX_NLINK | STATX_SIZE, &x) == 0) {
        l->device = makedev(x.stx_dev_major, x.stx_dev_minor);
        l->inode = x.stx_ino;
        l->size = x.stx_size;
        l->regular = S_ISREG(x.stx_mode);
        l->linked = x.stx_nlink > 1;
        return l->size == (uint64_t)(off_t)l->size ? 0 : -EOVERFLOW; /* as stat says it */
    }
    if (errno != ENOSYS && errno != EPERM) return -errno;
#endif
    struct stat st;
    if ((path[0] != 0 ? stat(path, &st) : fstat(fd, &st)) != 0) return -errno;
    l->device = (uint64_t)st.st_dev;
    l->inode = (uint64_t)st.st_ino;
    l->size = (uint64_t)st.st_size;
    l->regular = S_ISREG(st.st_mode);
    l->linked = st.st_nlink > 1;
    return 0;
}

/* Opens into a handle's fd or fresh. When a fork came between the open and the note of it, the child does not
   know what to close, and would keep our lock when we are killed: then it is opened once more. */
MPROC__FN int mproc__file_slot(int *slot, const char *path, int flags, mode_t mode) {
    for (;;) {
        pthread_mutex_lock(&mproc__self.lock); /* so no fork is under way */
        uint32_t forks = MPROC__LOAD(&mproc__shared->forks);
        pthread_mutex_unlock(&mproc__self.lock);
        if ((flags & O_EXCL) != 0) unlink(path); /* of an updater that was killed, or of the round before */
        int fd = mproc__fd_above_stdio(mproc__open(path, flags, mode)), error = errno;
        pthread_mutex_lock(&mproc__self.lock);
        bool shared = fd >= 0 && MPROC__LOAD(&mproc__shared->forks) != forks;
        *slot = shared ? -1 : fd;
        pthread_mutex_unlock(&mproc__self.lock);
        if (!shared) return fd >= 0 ? 0 : -error;
        close(fd);
    }
}
/* A child that is forked meanwhile must not close a number that has become another's. */
MPROC__FN void mproc__file_slot_close(int *slot) {
    pthread_mutex_lock(&mproc__self.lock);
    mproc__close(slot);
    pthread_mutex_unlock(&mproc__self.lock);
}

MPROC__FN int mproc__file_open(mproc_file *f) {
    mproc__looks named; /* first: opening a FIFO or a device has effects */
    if (mproc__look(AT_FDCWD, f->path, &named) == 0 && !named.regular) return MPROC_EINVAL;
    int error = mproc__file_slot(&f->fd, f->path,
                                 O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    if ((error == -EACCES || error == -EROFS) &&
        mproc__file_slot(&f->fd, f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0) == 0)
        error = 0;
    if (error != 0) return error == -EISDIR || error == -ENXIO ? MPROC_EINVAL : error;
    error = mproc__look(f->fd, "", &f->is);
    if (error == 0 && !f->is.regular) error = MPROC_EINVAL;
    if (error != 0) mproc__file_slot_close(&f->fd);
    return error;
}

/* The absolute path of a file that exists by now, links resolved, so that an update replaces what a link
   points to and not the link. */
MPROC_DEF mproc_file *mproc_file_open(const char *path) {
    if (path == NULL || path[0] == 0) return (mproc_file *)mproc__fail(MPROC_EINVAL);
    int error = mproc__init();
    if (error != 0) return (mproc_file *)mproc__fail(error);
    mproc_file *f = (mproc_file *)calloc(1, sizeof *f);
    if (f == NULL) return (mproc_file *)mproc__fail(MPROC_ENOMEM);
    f->fd = f->fresh = -1;
    pthread_mutex_lock(&mproc__self.lock); /* first, so that a child of fork closes what is opened */
    f->next = mproc__files;
    mproc__files = f;
    pthread_mutex_unlock(&mproc__self.lock);
    f->path = (char *)(uintptr_t)path;
    error = mproc__file_open(f);
    f->path = error == 0 ? realpath(path, NULL) : NULL;
    if (error == 0 && f->path == NULL) error = -errno;
    if (error == 0) f->beside = (char *)malloc(strlen(f->path) + MPROC__BESIDE_ROOM);
    if (error == 0 && f->beside == NULL) error = MPROC_ENOMEM;
    if (error == 0) return f;
    mproc_file_close(f);
    return (mproc_file *)mproc__fail(error);
}

MPROC__FN void mproc__file_leave(mproc_file *f) {
    MPROC__STORE(&f->owner, 0);
    if (MPROC__SWAP(&f->busy, 0) == 2) mproc__futex_wake(&f->busy, 1);
}

/* flock with a timeout: flock itself knows for ever and not at all, so in between it is tried at growing
   distances, 10 ms at most. */
MPROC__FN int mproc__flock(int fd, int how, int64_t deadline) {
    for (int64_t pause = MPROC__MS / 20;; pause = mproc__least(pause * 2, 10 * MPROC__MS)) {
        if (flock(fd, deadline == MPROC__NEVER ? how : how | LOCK_NB) == 0) return 0;
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) return -errno;
        int64_t left = mproc__left(deadline);
        if (left == 0) return MPROC_ETIMEDOUT;
        mproc__sleep(mproc__least(pause, left));
    }
}

/* Closing gives it up where unlocking fails; the next use opens the file again. */
MPROC__FN void mproc__flock_end(mproc_file *f) {
    f->held = 0;
    if (mproc__flock(f->fd, LOCK_UN, MPROC__NEVER) != 0) mproc__file_slot_close(&f->fd);
}

/* Takes the place of a thread that ended with the lock. */
MPROC__FN bool mproc__file_orphaned(mproc_file *f) {
    uint32_t owner = MPROC__LOAD(&f->owner);
    if (owner == 0 || mproc__alive(getpid(), (pid_t)owner) || !mproc__cas32(&f->owner, owner, 0))
        return false;
    if (f->inside) mproc__file_unpin(f, 0); /* it ended within edit: its call does not come back */
    f->inside = false;
    mproc__flock_end(f);
    return true;
}

/* One thread at a time uses a handle: no other looks at what stands behind busy and owner. */
MPROC__FN int mproc__file_enter(mproc_file *f, int64_t deadline) {
    if (MPROC__LOAD(&f->owner) == (uint32_t)mproc__gettid()) return f->inside ? -EDEADLK : 0;
    uint32_t mine = 1;
    bool late = false;
    for (uint32_t is = 0; !MPROC__CAS(&f->busy, &is, mine); is = 0) {
        int64_t left = mproc__left(deadline);
        if ((late || left == 0) && mproc__file_orphaned(f)) break;
        if (left == 0) {
            if (mine == 2) mproc__futex_wake(&f->busy, 1); /* it may have been woken, and others not */
            return MPROC_ETIMEDOUT;
        }
        if (is != 2 && !mproc__cas32(&f->busy, is, 2)) continue;
        mproc__futex_wait(&f->busy, 2, mproc__least(left, MPROC__SLICE));
        late = errno == ETIMEDOUT;
        mine = 2; /* who was woken does not know whether others sleep on */
    }
    return 0;
}

/* Is the open file still the one that the path names? 1, 0, or an error. */
MPROC__FN int mproc__file_current(mproc_file *f) {
    mproc__looks named;
    int error = mproc__look(AT_FDCWD, f->path, &named);
    if (error != 0) return error == -ENOENT ? 0 : error;
    if (f->is.inode != named.inode || f->is.device != named.device)
        return 0; /* no other has these while it is open */
    f->is = named;
    return 1;
}

/* With the lock: is a long append unfinished, whose process was killed? 1, 0, or an error. */
MPROC__FN int mproc__file_torn(mproc_file *f) {
    mproc__looks mark;
    if (!f->is.linked) return 0;
    int error = mproc__look(AT_FDCWD, mproc__beside(f, "mark"), &mark);
    if (error != 0) return error == -ENOENT ? 0 : error;
    return mark.inode == f->is.inode && mark.device == f->is.device;
}

/* First the note: so it never stands alone, where nobody would look for it. */
MPROC__FN int mproc__file_unmark(mproc_file *f) {
    if (unlink(mproc__beside(f, "note")) != 0 && errno != ENOENT) return -errno;
    return unlink(mproc__beside(f, "mark")) == 0 || errno == ENOENT ? 0 : -errno;
}

/* With the exclusive lock: undoes such an append. 0, or why it cannot: then nothing may be appended, for
   whoever can would cut that off too. */
MPROC__FN int mproc__file_recover(mproc_file *f) {
    char text[32];
    long long size = -1;
    int torn = mproc__file_torn(f);
    if (torn <= 0) return torn;
    ssize_t n = readlink(mproc__beside(f, "note"), text, sizeof text - 1);
    if (n < 0 && errno != ENOENT) return -errno;
    text[n < 0 ? 0 : n] = 0;
    if (sscanf(text, "%lld", &size) == 1 && f->is.size > (uint64_t)size &&
        mproc__ftruncate(f->fd, (off_t)size) != 0)
        return -errno;
    int error = mproc__file_unmark(f);
    return error != 0 ? error : mproc__look(f->fd, "", &f->is);
}

/* Locks the file; opens it first in a child of fork, after an error, and when it was replaced. */
MPROC__FN int mproc__file_take(mproc_file *f, int how, int64_t deadline) {
    int error, current = 0;
    while (current == 0) {
        error = f->fd < 0 ? mproc__file_open(f) : 0;
        if (error == 0) error = mproc__flock(f->fd, how, deadline);
        if (error != 0) return error;
        current = mproc__file_current(f);
        if (current <= 0) mproc__file_slot_close(&f->fd); /* and with it goes the lock */
    }
    if (current < 0) return current;
    f->held = how;
    MPROC__STORE(&f->owner, (uint32_t)mproc__gettid());
    error = how == LOCK_EX ? mproc__file_recover(f) : 0;
    if (error != 0) mproc__flock_end(f);
    return error;
}

/* Is it a matter of rights, that will not change? */
MPROC__FN bool mproc__may_not(int error) {
    return error == -EACCES || error == -EPERM || error == -EROFS || error == -EINVAL || error == -EBADF;
}
/* For readers: a torn tail must be cut off under the exclusive lock first. */
MPROC__FN int mproc__file_take_shared(mproc_file *f, int64_t deadline) {
    for (int error;;) {
        error = mproc__file_take(f, LOCK_SH, deadline);
        if (error != 0 || mproc__file_torn(f) == 0) return error;
        mproc__flock_end(f); /* a plain upgrade could deadlock with another reader's */
        error = mproc__file_take(f, LOCK_EX, deadline);
        if (error != 0 && !mproc__may_not(error)) return error;
        bool stays = error != 0 || mproc__file_torn(f) != 0; /* it cannot be removed: not by us, then */
        if (error == 0) mproc__flock_end(f);
        if (stays) return mproc__file_take(f, LOCK_SH, deadline);
    }
}

MPROC__FN int mproc__file_lock(mproc_file *f, int how, double timeout) {
    int64_t deadline;
    if (!mproc__deadline(timeout, &deadline) || !mproc__file_pin(f)) return MPROC_EINVAL;
    int error = mproc__file_enter(f, deadline);
    if (error == 0 && f->held != 0) error = -EDEADLK;
    if (error != 0) return mproc__file_unpin(f, error);
    error = how == LOCK_SH ? mproc__file_take_shared(f, deadline) : mproc__file_take(f, how, deadline);
    if (error != 0) mproc__file_leave(f);
    return mproc__file_unpin(f, error);
}

MPROC_DEF int mproc_file_lock(mproc_file *file, double timeout) {
    return mproc__file_lock(file, LOCK_EX, timeout);
}
MPROC_DEF int mproc_file_lock_shared(mproc_file *file, double timeout) {
    return mproc__file_lock(file, LOCK_SH, timeout);
}

MPROC_DEF int mproc_file_unlock(mproc_file *file) {
    if (!mproc__file_pin(file)) return MPROC_EINVAL;
    if (MPROC__LOAD(&file->owner) != (uint32_t)mproc__gettid() || file->inside)
        return mproc__file_unpin(file, MPROC_EPERM);
    mproc__flock_end(file);
    mproc__file_leave(file);
    return mproc__file_unpin(file, 0);
}

/* The family's appenders stand in line before they ask for the flock, for those who sleep in that wake and
   switch for each line written. Only a courtesy: the flock guards the file, so who has waited for 2 ms,
   behind a dead one or behind one that waits for a stranger, goes on all the same. Nobody is woken: naps are
   short. */
MPROC__FN void mproc__line_enter(uint32_t *line) {
    uint32_t me = (uint32_t)mproc__gettid();
    if (mproc__cas32(line, 0, me)) return;
    for (int64_t end = mproc__now() + 2 * MPROC__MS; mproc__now() < end; mproc__sleep(MPROC__MS / 20)) {
        for (int looks = mproc__spinning_helps ? 400 : 1; looks > 0; looks--) {
            if (MPROC__LOAD(line) == 0 && mproc__cas32(line, 0, me)) return;
            mproc__relax();
        }
    }
    MPROC__STORE(line, me);
}

/* Brackets an operation that needs the exclusive lock; *took tells whether to give it back. */
MPROC__FN int mproc__file_end(mproc_file *f, bool took, int result) {
    if (took) {
        mproc__flock_end(f);
        mproc__cas32(f->line, (uint32_t)mproc__gettid(), 0);
        mproc__file_leave(f);
    }
    return mproc__file_unpin(f, result);
}
MPROC__FN int mproc__file_begin(mproc_file *f, bool *took) {
    if (!mproc__file_pin(f)) return MPROC_EINVAL;
    int error = mproc__file_enter(f, MPROC__NEVER);
    if (error == 0 && f->held == LOCK_SH) error = MPROC_EPERM;
    if (error != 0) return mproc__file_unpin(f, error);
    *took = f->held == 0;
    if (*took) {
        f->line = &mproc__shared->file_line[f->is.inode % 64];
        mproc__line_enter(f->line);
        error = mproc__file_take(f, LOCK_EX, MPROC__NEVER);
    } else if ((error = mproc__look(f->fd, "", &f->is)) == 0) error = mproc__file_recover(f);
    return error == 0 ? 0 : mproc__file_end(f, *took, error);
}

/* Would a write past RLIMIT_FSIZE raise SIGXFSZ? */
MPROC__FN bool mproc__file_limited(void) {
    struct rlimit limit = {0, 0}; /* or MemorySanitizer, which does not know the call, takes it for unset */
#if defined(__x86_64__) && defined(__LP64__)
    int got =
        (int)syscall(SYS_getrlimit, RLIMIT_FSIZE, &limit); /* libc's way is a prlimit, which is slower */
#else
    int got = getrlimit(RLIMIT_FSIZE, &limit);
#endif
    return got != 0 || limit.rlim_cur != RLIM_INFINITY;
}

/* Writes all, or says why not; *done counts. SIGXFSZ is not for the program: where there is a limit, it is
   held back and taken away again. */
MPROC__FN int mproc__write_all(int fd, const char *data, size_t size, size_t *done, bool limited) {
    int error = 0;
    sigset_t one, before, pending;
    struct timespec none = {0, 0};
    sigemptyset(&one);
    sigaddset(&one, SIGXFSZ);
    if (limited) sigpending(&pending);
    if (limited) pthread_sigmask(SIG_BLOCK, &one, &before);
    for (*done = 0; *done < size && error == 0;) {
        ssize_t n = write(fd, data + *done, size - *done);
        if (n > 0) *done += (size_t)n;
        else if (n < 0 && errno != EINTR) error = -errno;
    }
    if (limited && error == -EFBIG && !sigismember(&pending, SIGXFSZ)) sigtimedwait(&one, NULL, &none);
    if (limited) pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* Before an append that SIGKILL could cut short: 1, or 0 where no mark may stand, or an error. None for a
   file with several names: who appends by another would not see it, and the next by this one would cut that
   off. What stands there by now is of a file that was replaced. */
MPROC__FN int mproc__file_mark(mproc_file *f) {
    char text[32];
    if (f->is.linked) return 0;
    snprintf(text, sizeof text, "%lld", (long long)f->is.size);
    mproc__file_unmark(f);
    if (link(f->path, mproc__beside(f, "mark")) == 0 && symlink(text, mproc__beside(f, "note")) == 0)
        return 1;
    int error = -errno;
    mproc__file_unmark(f);
    return mproc__may_not(error) || error == -EMLINK || error == -EOPNOTSUPP ? 0 : error;
}

MPROC_DEF int mproc_file_append(mproc_file *file, const void *data, size_t size) {
    bool took, limited = mproc__file_limited(); /* asked before the lock is held, not while others wait */
    if ((data == NULL && size != 0) || size > SIZE_MAX / 2) return MPROC_EINVAL;
    int error = mproc__file_begin(file, &took);
    if (error != 0) return error;
    size_t page = 4096, done = 0, used = (size_t)(file->is.size % page);
    int marked = size > 0 && used + size > page ? mproc__file_mark(file) : 0;
    error = marked < 0 ? marked : 0;
    if (error == 0) error = mproc__write_all(file->fd, (const char *)data, size, &done, limited);
    if (error == -EBADF) error = -EACCES; /* it could be opened for reading only */
    bool undone = error == 0 || done == 0 || mproc__ftruncate(file->fd, (off_t)file->is.size) == 0;
    int left = marked > 0 && undone ? mproc__file_unmark(file) : 0; /* else the next one will cut it off */
    if (error == 0 && left != 0) {
        error = left;
        mproc__ftruncate(file->fd, (off_t)file->is.size);
    }
    return mproc__file_end(file, took, error);
}

/* Reads the whole file into malloc'ed memory, a zero byte behind it. */
MPROC__FN int mproc__file_read(const mproc_file *f, char **data, size_t *size) {
    size_t room = (size_t)f->is.size;
    if (f->is.size >= SIZE_MAX) return MPROC_ENOMEM; /* with 32 bits */
    *data = (char *)malloc(room + 1);
    if (*data == NULL) return MPROC_ENOMEM;
    for (*size = 0; *size < room;) {
        ssize_t n = pread(f->fd, *data + *size, room - *size, (off_t)*size);
        if (n == 0) break;
        if (n > 0) *size += (size_t)n;
        else if (errno != EINTR) return -errno;
    }
    (*data)[*size] = 0;
    return 0;
}

/* After a rename only the folder's own fsync makes the new name survive a power cut. */
MPROC__FN void mproc__sync_folder(mproc_file *f) {
    int folder = (int)(strrchr(f->path, '/') + 1 - f->path);
    snprintf(f->beside, strlen(f->path) + MPROC__BESIDE_ROOM, "%.*s", folder, f->path);
    int fd = mproc__open(f->beside, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd >= 0) mproc__fsync(fd);
    mproc__close(&fd);
}

/* Mode and owner of the old file for the new one. Who may not give the owner away owns it, and who may not
   give the group away leaves it to a group of his own: nobody is to gain rights by that. */
MPROC__FN int mproc__file_rights(int fd, const struct stat *old) {
    mode_t mode = old->st_mode & 07777;
    if (fchown(fd, old->st_uid, old->st_gid) != 0) {
        if (errno != EPERM && errno != EINVAL) return -errno; /* EINVAL: unknown in this user namespace */
        mode &= 0777;
        if (fchown(fd, (uid_t)-1, old->st_gid) != 0) mode = (mode & 0707) | (mode & 07) << 3;
    }
    return fchmod(fd, mode) == 0 ? 0 : -errno;
}

/* Writes data to a fresh temporary file, locked, with the target's mode and, where allowed, owner. */
MPROC__FN int mproc__file_temporary(mproc_file *f, const char *data, size_t size) {
    struct stat st;
    size_t done;
    if (fstat(f->fd, &st) != 0) return -errno;
    int error = mproc__file_slot(&f->fresh, mproc__beside(f, "new"),
                                 O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (error == 0) error = mproc__flock(f->fresh, LOCK_EX, MPROC__NEVER);
    if (error == 0) error = mproc__write_all(f->fresh, data, size, &done, mproc__file_limited());
    if (error == 0) error = mproc__file_rights(f->fresh, &st);
    if (error == 0 && mproc__fsync(f->fresh) != 0) error = -errno;
    return error;
}

/* Puts data in the place of the file; the handle goes over to the new one, whose lock it holds. */
MPROC__FN int mproc__file_replace(mproc_file *f, const char *data, size_t size) {
    mproc__looks is;
    int error = mproc__file_temporary(f, data, size);
    if (error == 0) error = mproc__look(f->fresh, "", &is);
    if (error == 0 && rename(f->beside, f->path) != 0) error = -errno;
    if (error != 0) {
        if (f->fresh >= 0) unlink(f->beside);
        mproc__file_slot_close(&f->fresh);
        return error;
    }
    pthread_mutex_lock(&mproc__self.lock);
    close(f->fd);
    f->fd = f->fresh;
    f->fresh = -1;
    pthread_mutex_unlock(&mproc__self.lock);
    f->is = is;
    mproc__sync_folder(f);
    return 0;
}

MPROC_DEF int mproc_file_update(mproc_file *file, int (*edit)(char **data, size_t *size, void *ctx),
                                void *ctx) {
    bool took;
    char *data = NULL;
    size_t size = 0;
    if (edit == NULL) return MPROC_EINVAL;
    int error = mproc__file_begin(file, &took);
    if (error != 0) return error;
    error = mproc__file_read(file, &data, &size);
    file->inside = true;
    if (error == 0) error = edit(&data, &size, ctx);
    file->inside = false;
    if (error == 0 && data == NULL && size != 0) error = MPROC_EINVAL;
    if (error == 0) error = mproc__file_replace(file, data, size);
    free(data);
    return mproc__file_end(file, took, error);
}

MPROC_DEF int mproc_file_close(mproc_file *file) {
    if (file == NULL) return 0;
    pthread_mutex_lock(&mproc__self.lock);
    mproc_file **link = mproc__file_find(file);
    int error = *link == NULL ? MPROC_EINVAL : file->users > 0 ? MPROC_EBUSY : 0;
    uint32_t owner = error == 0 ? MPROC__LOAD(&file->owner) : 0;
    if (owner != 0 && owner != (uint32_t)mproc__gettid() && mproc__alive(getpid(), (pid_t)owner))
        error = MPROC_EBUSY;
    if (error == 0) {
        *link = file->next;
        bool own = mproc__self.pid == getpid(); /* else a child's that no handler of fork was called in */
        if (file->held != 0 && own) flock(file->fd, LOCK_UN); /* a child just forked may have it too */
        mproc__close(&file->fd);
    }
    pthread_mutex_unlock(&mproc__self.lock);
    if (error != 0) return error;
    free(file->path);
    free(file->beside);
    free(file);
    return 0;
}

/* ---- Dump ---------------------------------------------------------------------------------------------- */

/* What is in shared memory says itself what it is, by its tag. The addresses are collected under the
   allocator's lock; what is freed after that is passed over, by its tag again. A line is made in memory
   first: printing may take long (into a full pipe), and nothing is read of an object after that. */

MPROC__FN const char *mproc__kind_name(uint32_t kind) {
    static const char *const names[] = {"memory", "lock",      "array",   "array",    "message",
                                        "queue",  "pool",      "future",  "rlock",    "semaphore",
                                        "event",  "condition", "barrier", "pipe end", "ring"};
    return names[kind < sizeof names / sizeof names[0] ? kind : 0];
}

MPROC__FN void mproc__dump_holder(FILE *out, const mproc__mutex *m) {
    unsigned holder = mproc__mutex_holder(m);
    if (holder != 0) fprintf(out, ", held by thread %u", holder);
}

MPROC__FN void mproc__dump_pool(FILE *out, const mproc_pool *pool) {
    uint64_t head = MPROC__LOAD(&pool->head), tail = MPROC__LOAD(&pool->tail);
    const mproc__worker *worker = MPROC__LOAD(&pool->worker);
    int workers = MPROC__LOAD(&pool->workers);
    if (!mproc__is_pool(pool)) return; /* freed, so those were perhaps another's */
    fprintf(out, " %.39s, supervisor %d, %d workers, %zu tasks wait%s%s", pool->name, (int)pool->supervisor,
            workers, tail > head ? (size_t)(tail - head) : 0, pool->closed ? ", closed" : "",
            pool->over ? ", over" : "");
    for (int i = 0; i < workers; i++)
        if (worker[i].current[0] != 0)
            fprintf(out, "\n           worker %u runs a task", (unsigned)worker[i].pid);
}

MPROC__FN void mproc__dump_condition(FILE *out, const mproc_condition *c) {
    const mproc_lock *lock = c->lock;
    fprintf(out, " with lock %p", (const void *)lock);
    if (mproc__is_lock(lock)) mproc__dump_holder(out, &lock->mutex);
}

/* Its length without a lock, and by a descriptor that others need not know of: the queue may be freed and its
   memory used anew by now, or the thread that a debugger lent for the call be in the midst of what a lock
   guards. */
MPROC__FN void mproc__dump_queue(FILE *out, const mproc_queue *q) {
    char path[64];
    const mproc__port port = q->port;
    const mproc__local_port *slot = &mproc__self.port[port.number % MPROC__PORTS];
    bool own = MPROC__LOAD(&slot->serial) == port.serial;
    snprintf(path, sizeof path, "/proc/%u/fd/%d", (unsigned)port.holder, port.fd[0]);
    int fd = own ? MPROC__LOAD(&slot->fd[0]) : mproc__port_open(&port, path, 0);
    if (fd >= 0) fprintf(out, " %zu messages", mproc__queue_messages(q, fd));
    if (!own) mproc__close(&fd);
    if (q->closed) fputs(", closed", out);
}

MPROC__FN void mproc__dump_object(FILE *out, void *object, uint32_t kind) {
    mproc_lock *lock = (mproc_lock *)object; /* what it is by its kind */
    mproc_barrier *barrier = (mproc_barrier *)object;
    mproc__array *array = (mproc__array *)object;
    const mproc_queue *queue = (const mproc_queue *)object;
    mproc_ring *ring = (mproc_ring *)object;
    fprintf(out, "%-10s %p", mproc__kind_name(kind), object);
    switch (kind) {
    case MPROC__LOCK:
    case MPROC__RLOCK: mproc__dump_holder(out, &lock->mutex); break;
    case MPROC__POOL: mproc__dump_pool(out, (mproc_pool *)object); break;
    case MPROC__EVENT: fputs(mproc_event_is_set((mproc_event *)object) ? " set" : " clear", out); break;
    case MPROC__SEMAPHORE:
        fprintf(out, " %d permits", mproc_semaphore_value((mproc_semaphore *)object));
        break;
    case MPROC__CONDITION: mproc__dump_condition(out, (mproc_condition *)object); break;
    case MPROC__BARRIER:
        fprintf(out, " %u of %u parties", mproc__arrived(barrier->word), barrier->parties);
        break;
    case MPROC__HIDDEN_LOCK: /* which stands first in an array */
        fprintf(out, " %zu items of %zu bytes", array->n, array->size);
        mproc__dump_holder(out, &array->lock.mutex);
        break;
    case MPROC__QUEUE:
        mproc__dump_queue(out, queue);
        mproc__dump_holder(out, &queue->put_lock);
        mproc__dump_holder(out, &queue->get_lock);
        break;
    case MPROC__RING:
        fprintf(out, " %zu of %zu items%s", mproc_ring_size(ring), ring->capacity,
                ring->closed ? ", closed" : "");
        mproc__dump_holder(out, &mproc__ring_at(ring, false)->lock);
        mproc__dump_holder(out, &mproc__ring_at(ring, true)->lock);
        break;
    default: break;
    }
    fputc('\n', out);
}

/* The ends of a pipe, with the living processes that have them; nothing if nobody has: its memory is only not
   yet given back. */
MPROC__FN void mproc__dump_pair(FILE *out, mproc__pair *pair) {
    bool held =
        mproc__conn_held(&pair->end[0], false, false) || mproc__conn_held(&pair->end[1], false, false);
    for (int i = 0; i < 2 && (held || pair->crowded); i++) {
        mproc_conn *conn = &pair->end[i];
        fprintf(out, "%-10s %p", mproc__kind_name(MPROC__CONN), (void *)conn);
        if (!mproc__tag_is(conn, MPROC__CONN)) fputs(" closed", out);
        else if (MPROC__LOAD(&conn->shown) == 0)
            fprintf(out, " of process %d and what it forked", (int)pair->maker);
        for (int k = 0; k < MPROC__HOLDS; k++) {
            pid_t pid = (pid_t)MPROC__LOAD(&conn->hold[k].pid);
            if (pid == 0 || !mproc__alive(pid, pid)) continue;
            fprintf(out, ", %s by process %d", MPROC__LOAD(&conn->hold[k].used) ? "used" : "held", (int)pid);
        }
        fputc('\n', out);
    }
}

/* With the allocator's lock held: the used blocks that begin with a tag, most at most; how many there are.
   Tags come and go meanwhile: that of a new object is set without the lock, and one is freed before its block
   is. */
MPROC__FN size_t mproc__dump_list(mproc__arena *a, mproc__tag **list, size_t most) {
    size_t n = 0;
    for (mproc__block *b = mproc__block_at(a->first); (char *)b < a->top && n < most; b = mproc__after(b)) {
        mproc__tag *tag = (mproc__tag *)(void *)((char *)b + MPROC__HEAD);
        if (!mproc__used(b) || tag->magic != mproc__magic(tag) || tag->kind == MPROC__MESSAGE) continue;
        if (list != NULL) list[n] = tag;
        n++;
    }
    return n;
}

/* The object's line, by way of memory; none if it is gone by then. */
MPROC__FN void mproc__dump_line(FILE *out, FILE *memory, char *const *text, const size_t *size,
                                mproc__tag *tag) {
    rewind(memory);
    if (tag->magic == mproc__magic(tag)) mproc__dump_object(memory, tag, tag->kind);
    if (fflush(memory) == 0 && tag->magic == mproc__magic(tag)) fwrite(*text, 1, *size, out);
}

MPROC__FN int mproc__dump_objects(FILE *out, mproc__arena *a) {
    int error = mproc__arena_lock_by(a, mproc__now() + MPROC__SECOND);
    if (error != 0) return error;
    size_t n = mproc__dump_list(a, NULL, SIZE_MAX);
    mproc__tag **list = (mproc__tag **)malloc((n + 1) * sizeof *list);
    if (list != NULL) n = mproc__dump_list(a, list, n);
    mproc__mutex_unlock(&a->lock);
    fprintf(out, "shared memory: %zu KiB of %zu MiB\n", (size_t)(a->top - (char *)a) >> 10, a->size >> 20);
    char *text = NULL;
    size_t size = 0;
    FILE *memory = list != NULL ? open_memstream(&text, &size) : NULL;
    for (size_t i = 0; memory != NULL && i < n; i++) mproc__dump_line(out, memory, &text, &size, list[i]);
    if (memory != NULL) fclose(memory);
    free(text);
    free(list);
    for (uint32_t i = 0; i < MPROC__LOAD(&a->ports_used); i++) {
        mproc__pair *pair = (mproc__pair *)MPROC__LOAD(&a->pair[i]);
        if (pair != NULL) mproc__dump_pair(out, pair);
    }
    return memory != NULL ? 0 : MPROC_ENOMEM;
}

MPROC__FN void mproc__dump_waiting(FILE *out, const mproc__seat *s) {
    const mproc__tag *tag = (const mproc__tag *)MPROC__LOAD(&s->waiting);
    if (tag == NULL || !mproc__seat_alive(s)) return;
    uint64_t who = MPROC__LOAD(&s->who);
    fprintf(out, "process %u thread %u waits for ", (unsigned)(who >> 32), (unsigned)who);
    if (!mproc__in_arena(tag)) fprintf(out, "the end of process %u\n", (unsigned)(uintptr_t)tag);
    else
        fprintf(out, "%s %p\n", mproc__kind_name(tag->magic == mproc__magic(tag) ? tag->kind : 0),
                (const void *)tag);
}

MPROC_DEF int mproc_dump(FILE *out) {
    mproc__arena *a = mproc__shared;
    if (out == NULL) return MPROC_EINVAL;
    if (a == NULL) return 0;
    int error = mproc__dump_objects(out, a);
    for (uint32_t i = 0, n = MPROC__LOAD(&a->seats_used); i < n; i++) mproc__dump_waiting(out, &a->seat[i]);
    fflush(out);
    return error;
}

#endif /* MPROC__HIDDEN */
#endif /* MPROC_IMPLEMENTATION */

/* Revision history:
   0.1.0  first version

   Licence: MIT. Copyright (c) 2026 the mproc.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
   associated documentation files (the "Software"), to deal in the Software without restriction, including
   without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
   copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
   following conditions: the above copyright notice and this permission notice shall be included in all copies
   or substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND,
   EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A
   PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
   ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
