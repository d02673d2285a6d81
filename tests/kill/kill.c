/* The kill matrix: what a SIGKILL at any instruction of an operation does to the others.

   A victim is led to its k-th instruction inside one call and killed there, for every k from entry to return,
   and also while the call sleeps. Then a survivor carries on with the same objects under a deadline: they
   work, nothing is lost but what the victim had in hand, nothing is torn, nothing comes twice, and the
   arena's blocks are all accounted for.

       kill [-S] [-s SEED] [-t SECONDS] [OPERATION...]     without -t all points, with it a random sample

   With -S the victim is stopped there instead, by SIGSTOP. Another process carries on meanwhile: its calls
   may time out or wait, but what they say is true. Then the victim goes on and must end its operation well.

   It prints for each operation: how many instructions it has, how many victims were killed in it, how often a
   survivor hung, how often something was lost that may be lost (a message in the victim's hands, a lock's
   soundness, a block), and how often something happened that must not.

   Some drivers share the points out. Each is a family of its own: the tracer and the survivor in one. When a
   check fails or hangs, that driver is replaced and the next one goes on behind the point. */
#define MPROC_SPINS 20 /* the same instructions as 4000, in a time that can be stepped through */
#define MPROC_IMPLEMENTATION
#include "../../mproc.h"
#include <dirent.h>
#include <dlfcn.h>
#include <stdarg.h>
#include "step.h"

#define ROOM         1024  /* bytes of the longest message */
#define VICTIMS      10000 /* numbers of the victim's own messages */
#define MANY         5
#define DRIVERS      8 /* at most */
#define SMALL        24
#define LARGE        300
#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define SOON         2.0  /* seconds, as patience() counts them, for what should happen at once */
#define LONG         60.0 /* for the calls themselves, so that their own clock does not end them */

typedef struct operation {
    const char *name;
    void (*setup)(void);     /* fresh objects, in the survivor */
    void (*before)(void);    /* in the victim, before it counts */
    void (*meanwhile)(void); /* in the survivor, between the two */
    void (*victim)(void);    /* the operation */
    void (*unblock)(void);   /* in the survivor, when the victim sleeps */
    void (*check)(void);     /* in the survivor; frees the objects */
    pid_t (*attach)(
        void); /* instead of before and victim: a process that is there already; it counts until */
    void (*stimulus)(void); /* ... it sleeps again after this */
    void (*begin)(void);    /* once before many points */
    void (*end)(void);      /* once after them */
    bool sleeps;            /* its sleep is the end of it: nobody helps it on */
    bool leaves;            /* with attach: the process's own end is the end of it, and no sleep before */
    bool ends;              /* it may end the pool */
    size_t size;            /* of a message or block */
    size_t most;            /* bound of a queue, capacity of a ring; how often the victim's task may run */
    size_t there;           /* messages put beforehand; how often the victim's task runs once it is through */
    size_t hands;           /* how many messages the victim may take with it */
    size_t spare;           /* bytes of blocks that may be lost with it */
} operation;

/* ---- What drivers and their keeper share ---- */

typedef struct tally {
    uint32_t instructions, kills, hangs, losses, forbidden;
} tally;

typedef struct driver {
    pid_t pid;
    double alive;  /* when it was last seen at work */
    size_t op, k;  /* where it is */
    size_t length; /* of the operation's path */
    uintptr_t at;  /* the victim's next instruction */
    bool checking; /* the victim is dead, the survivor at work */
    bool done;
    unsigned lives;
    /* what the processes of one point tell each other */
    int here[4]; /* a companion is about to sleep */
    int ran[8];  /* how often a task or child ran */
    int gate;    /* tasks wait until it is open */
    int round;   /* numbers the points, so that a task handed in at an earlier one is known */
    int late;    /* how many of those ran */
    pid_t child; /* that one of them has started */
    /* with -S: what the process did that carried on while the victim was stopped */
    bool stops;      /* the victim is to be stopped */
    bool told;       /* that process was told that a holder had died before */
    int put, got[3]; /* the messages it put and got; 0: none */
} driver;

static struct board {
    tally tally[256];
    driver driver[DRIVERS];
    size_t drivers; /* in use */
    uint64_t seed;
    double until; /* of a sample; 0: all points */
    double clock; /* see patience */
    bool stop;    /* victims are stopped, not killed */
} * board;

enum { GO_ON = 100, FLAW }; /* exit codes of a driver: a new one goes on at this point, or behind it */

static driver *me;
static const operation *op;
static void clear_up(void);

#define PEEK(place)        __atomic_load_n((place), __ATOMIC_SEQ_CST)
#define POKE(place, value) __atomic_store_n((place), (value), __ATOMIC_SEQ_CST)
#define BUMP(place)        __atomic_add_fetch((place), 1, __ATOMIC_SEQ_CST)

/* Seconds, counted slower while there are more processes that want to run than processors: so a deadline
   tells a hang from a machine that is busy with other things. The keeper counts. */
static double patience(void) {
    double now;
    __atomic_load(&board->clock, &now, __ATOMIC_SEQ_CST);
    return now;
}

static void nap(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

/* The functions an address stands in, innermost first. */
static void print_place(uintptr_t at) {
    Dl_info info;
    char command[700], line[300];
    if (dladdr((void *)at, &info) == 0 || info.dli_fbase == NULL) {
        printf("0x%lx", (unsigned long)at);
        return;
    }
    if (info.dli_sname != NULL) printf("%s ", info.dli_sname);
    snprintf(command, sizeof command, "addr2line -i -s -f -e %s 0x%lx 2>/dev/null | paste - - | head -4",
             strcmp(info.dli_fname, "") == 0 || strchr(info.dli_fname, '/') == NULL ? "/proc/self/exe"
                                                                                    : info.dli_fname,
             (unsigned long)(at - (uintptr_t)info.dli_fbase));
    FILE *tool = popen(command, "r");
    const char *gap = "";
    while (tool != NULL && fgets(line, sizeof line, tool) != NULL) {
        line[strcspn(line, "\n")] = 0;
        for (char *c = line; *c != 0; c++)
            if (*c == '\t') *c = ' ';
        printf("%s%s", gap, line);
        gap = " < ";
    }
    if (tool != NULL) pclose(tool);
}

static void print_point(const driver *d, const char *what) {
    printf("FAIL %s at %zu of %u: %s; the victim was in ", op->name, d->k, board->tally[d->op].instructions,
           what);
    print_place(d->at);
    printf("\n");
    fflush(stdout);
}

/* A promise is broken: says so, and leaves the rest to the next driver. */
static void __attribute__((noreturn, format(printf, 1, 2))) flaw(const char *format, ...) {
    char text[600];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    BUMP(&board->tally[me->op].forbidden);
    print_point(me, text);
    clear_up();
    _exit(FLAW);
}
#define CHECK(condition)                                                     \
    do {                                                                     \
        if (!(condition)) flaw("line %d: not so: %s", __LINE__, #condition); \
    } while (0)
#define CHECK_IS(actual, expected)                                                        \
    do {                                                                                  \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected);       \
        if (actual_ != expected_)                                                         \
            flaw("line %d: %s is %lld, not %lld", __LINE__, #actual, actual_, expected_); \
    } while (0)
#define EVENTUALLY(condition)                                                                        \
    do {                                                                                             \
        double end_ = patience() + SOON;                                                             \
        while (!(condition)) {                                                                       \
            if (patience() > end_) flaw("line %d: not within %g s: %s", __LINE__, SOON, #condition); \
            nap(0.0002);                                                                             \
        }                                                                                            \
    } while (0)

/* In the victim: its call did what it should, since nobody killed it. */
static void must(bool so) {
    if (!so) abort();
}

/* What a call gave that should return soon. */
static double timely_since;
static void timely_begin(void) { timely_since = patience(); }
static int timely_end(int result, double most, int line) {
    if (patience() - timely_since > most) flaw("line %d: not within %g s", line, most);
    return result;
}
#define WITHIN(most, call) (timely_begin(), timely_end((call), (most), __LINE__))
#define TIMELY(call)       WITHIN(SOON, call)

/* ---- The world of one point ---- */

static struct world {
    mproc_lock *lock;
    mproc_rlock *rlock;
    mproc_semaphore *semaphore;
    mproc_event *event;
    mproc_condition *condition;
    mproc_barrier *barrier;
    mproc_queue *queue;
    mproc_ring *ring;
    mproc_conn *ends[2];
    mproc_pool *pool;
    mproc_future *future, *future2;
    mproc_file *file;
    char *block[16];
    size_t used; /* bytes of the arena in use before */
    pid_t companion[4];
    int companions;
    pid_t carrier;  /* carries on while the victim is stopped */
    bool stopped;   /* the victim was */
    int early;      /* messages of the victim that it got */
    int missing;    /* messages that were not found in the end */
    bool held;      /* the survivor holds the lock */
    bool unblocked; /* the survivor has done its part for a victim that slept */
    bool finished;  /* the victim has returned */
    bool marked;    /* it was notified and had not gone on */
    int ids[1100];  /* the messages put by the survivor and not taken by it, in order */
    int n;
    int pipe[2];
    pid_t supervisor; /* of a pool that the victim may free */
    char folder[64], path[96];
    char data[MANY * ROOM]; /* what the victim puts */
    size_t done, respawned; /* what the pool should have counted */
} w;

static bool only_child_left(void); /* none but those the driver knows of */
static void lost(void) { BUMP(&board->tally[me->op].losses); }

/* Companions: processes that wait while the victim works. */
static void companion(int (*work)(void)) {
    int who = w.companions++;
    POKE(&me->here[who], 0);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0);
        POKE(&me->here[who], 1);
        int error = work();
        _exit(error < 0 ? -error : 0); /* an errno fits */
    }
    if (pid < 0) flaw("fork: %s", strerror(errno));
    w.companion[who] = pid;
    EVENTUALLY(PEEK(&me->here[who]) && step_state(pid) == 'S');
}
static bool companion_ended(int who, int *error) {
    int status;
    if (waitpid(w.companion[who], &status, WNOHANG) != w.companion[who]) return false;
    w.companion[who] = 0;
    if (!WIFEXITED(status)) flaw("companion %d died by signal %d", who, WTERMSIG(status));
    *error = -WEXITSTATUS(status);
    return true;
}
static int companion_end(int who) {
    int error = 0;
    double end = patience() + SOON;
    while (!companion_ended(who, &error)) {
        if (patience() > end) flaw("companion %d still waits after %g s", who, SOON);
        nap(0.0001);
    }
    return error;
}

/* Bytes of the arena in use, and whether its blocks, bins and lengths agree. */
static size_t arena_used(void) {
    mproc__arena *a = mproc__shared;
    size_t used = 0, before = 0, unused = 0, binned = 0;
    mproc__arena_lock(a);
    char *p = a->first;
    bool last_free = false;
    for (mproc__block *b; p < a->top; p += before) {
        b = mproc__block_at(p);
        size_t size = mproc__size_of(b);
        if (size < MPROC__SMALLEST || size % 16 != 0) flaw("arena: a block of %zu bytes", size);
        if (b->before != before) flaw("arena: before is %zu, not %zu", b->before, before);
        if (!mproc__used(b) && last_free) flaw("arena: two free blocks side by side");
        last_free = !mproc__used(b);
        if (last_free) unused += size;
        else used += size;
        before = size;
    }
    if (p != a->top) flaw("arena: the chain misses its end");
    if (last_free) flaw("arena: the last block is free");
    if (mproc__block_at(a->top)->before != before && before != 0) flaw("arena: the end is not told");
    for (unsigned i = 0; i < MPROC__BINS; i++) {
        if ((a->bin[i] != NULL) != ((a->map[i / 32] >> i % 32 & 1) != 0))
            flaw("arena: bin %u and map differ", i);
        mproc__block *prev = NULL;
        for (mproc__block *b = a->bin[i]; b != NULL; prev = b, b = b->next) {
            if (mproc__used(b) || b->prev != prev || mproc__bin_of(mproc__size_of(b)) != i)
                flaw("arena: bin %u holds what it should not", i);
            binned += mproc__size_of(b);
        }
    }
    if (binned != unused) flaw("arena: %zu bytes free, %zu in bins", unused, binned);
    mproc__mutex_unlock(&a->lock);
    return used;
}

/* Blocks of many sizes can be had, do not overlap, and can be given back in any order. */
static void arena_works(void) {
    static const size_t sizes[] = {1, 16, 24, 100, 112, 400, 1000, 4096, 5000, 30000, 64, 48};
    char *block[COUNT(sizes)];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CHECK((block[i] = (char *)mproc_shm_new(sizes[i])) != NULL);
        for (size_t k = 0; k < sizes[i]; k++)
            if (block[i][k] != 0) flaw("arena: memory not zeroed");
        memset(block[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t one = i * 5 % COUNT(sizes);
        for (size_t k = 0; k < sizes[one]; k++)
            if (block[one][k] != (char)(one + 1)) flaw("arena: blocks overlap");
        CHECK_IS(mproc_free(block[one]), 0);
    }
}

/* ---- Locks ---- */

/* Takes the lock as its dead holder's heir, or as if nothing had been; then it is sound. */
static void lock_is_sound(mproc_lock *lock) {
    int error = TIMELY(mproc_lock_acquire(lock, LONG));
    if (error == MPROC_EOWNERDEAD) lost();
    CHECK(error == 0 || error == MPROC_EOWNERDEAD);
    CHECK_IS(mproc_lock_owner_died(lock), error != 0);
    CHECK_IS(mproc_lock_release(lock), 0);
    CHECK_IS(mproc_lock_release(lock), MPROC_EPERM);
    CHECK_IS(mproc_lock_acquire(lock, 0), 0);
    CHECK(!mproc_lock_owner_died(lock));
    CHECK_IS(mproc_lock_release(lock), 0);
}

static void lock_setup(void) { CHECK((w.lock = mproc_lock_new()) != NULL); }
static void lock_setup_held(void) {
    lock_setup();
    CHECK_IS(mproc_lock_acquire(w.lock, 0), 0);
    w.held = true;
}
static int lock_companion(void) {
    int error = mproc_lock_acquire(w.lock, LONG);
    int released = mproc_lock_release(w.lock);
    return released != 0 ? released : error;
}
static void lock_acquire(void) { mproc_lock_acquire(w.lock, MPROC_FOREVER); }
static void lock_meanwhile(void) { companion(lock_companion); }
static void lock_release(void) { mproc_lock_release(w.lock); }
static void lock_let_go(void) {
    if (w.held) CHECK_IS(mproc_lock_release(w.lock), 0);
    w.held = false;
}
static void lock_check(void) {
    lock_let_go();
    for (int i = 0; i < w.companions; i++) {
        int error = companion_end(i);
        CHECK(error == 0 || error == MPROC_EOWNERDEAD);
    }
    lock_is_sound(w.lock);
    CHECK_IS(mproc_lock_free(w.lock), 0);
}
static void nothing(void) {}

/* A lock whose holder has died already, and nobody was told. */
static void lock_leave(void) {
    POKE(&me->told, 0);
    pid_t pid = fork();
    if (pid == 0) _exit(mproc_lock_acquire(w.lock, 0) == 0 ? 0 : 1);
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}
static void lock_setup_left(void) {
    lock_setup();
    lock_leave();
}
static void lock_inherit(void) {
    int error = mproc_lock_acquire(w.lock, MPROC_FOREVER);
    must(error == MPROC_EOWNERDEAD || (me->stops && error == 0));
}
static void lock_ask(void) { must(mproc_lock_owner_died(w.lock)); }
static void lock_left_check(void) { /* somebody is told, once and no more, unless a second holder died */
    int error = TIMELY(mproc_lock_acquire(w.lock, LONG));
    CHECK(error == MPROC_EOWNERDEAD || (error == 0 && PEEK(&me->told)));
    CHECK_IS(mproc_lock_owner_died(w.lock), error != 0);
    CHECK_IS(mproc_lock_release(w.lock), 0);
    lock_check();
}
static void lock_setup_left_condition(void) {
    lock_setup_left();
    CHECK((w.condition = mproc_condition_new(w.lock)) != NULL);
}
static void lock_refuse(void) { /* it does not hold it, and meets the dead holder when it looks for that */
    must(mproc_condition_notify(w.condition, 1) == MPROC_EPERM);
}
static void lock_refuse_check(void) {
    CHECK_IS(mproc_condition_free(w.condition), 0);
    w.condition = NULL;
    lock_left_check();
}

static void rlock_setup(void) { CHECK((w.rlock = mproc_rlock_new()) != NULL); }
static void rlock_setup_held(void) {
    rlock_setup();
    CHECK_IS(mproc_rlock_acquire(w.rlock, 0), 0);
    w.held = true;
}
static void rlock_acquire(void) { mproc_rlock_acquire(w.rlock, MPROC_FOREVER); }
static void rlock_acquire_twice(void) {
    rlock_acquire();
    rlock_acquire();
}
static void rlock_release_twice(void) {
    mproc_rlock_release(w.rlock);
    mproc_rlock_release(w.rlock);
}
static void rlock_let_go(void) {
    if (w.held) CHECK_IS(mproc_rlock_release(w.rlock), 0);
    w.held = false;
}
static void rlock_check(void) {
    rlock_let_go();
    int error = TIMELY(mproc_rlock_acquire(w.rlock, LONG));
    if (error == MPROC_EOWNERDEAD) lost();
    CHECK(error == 0 || error == MPROC_EOWNERDEAD);
    CHECK_IS(mproc_rlock_acquire(w.rlock, 0), 0);
    CHECK_IS(mproc_rlock_release(w.rlock), 0);
    CHECK_IS(mproc_rlock_release(w.rlock), 0);
    CHECK_IS(mproc_rlock_release(w.rlock), MPROC_EPERM);
    CHECK_IS(mproc_rlock_acquire(w.rlock, 0), 0);
    CHECK_IS(mproc_rlock_release(w.rlock), 0);
    CHECK_IS(mproc_rlock_free(w.rlock), 0);
}

/* ---- Semaphore: how many permits there are in all is known but for the victim's one ---- */

static int semaphore_companion(void) { return mproc_semaphore_acquire(w.semaphore, LONG); }
static void semaphore_setup(void) { CHECK((w.semaphore = mproc_semaphore_new((unsigned)op->there)) != NULL); }
static void semaphore_acquire(void) { mproc_semaphore_acquire(w.semaphore, MPROC_FOREVER); }
static void semaphore_release(void) { mproc_semaphore_release(w.semaphore); }
static void semaphore_unblock_companion(void) { /* which waits behind the victim */
    companion(semaphore_companion);
    semaphore_release();
}
static void semaphore_setup_companion(void) {
    semaphore_setup();
    companion(semaphore_companion);
}
static void semaphore_acquire_check(void) { /* permits in it: op->there; one may be gone */
    int value = mproc_semaphore_value(w.semaphore), was = (int)op->there + (w.unblocked ? 1 : 0);
    CHECK(value == was || value == was - 1);
    if (w.finished) CHECK_IS(value, was - 1);
    if (value < was) lost();
    CHECK_IS(mproc_semaphore_release(w.semaphore), 0);
    for (int i = 0; i <= value; i++) CHECK_IS(TIMELY(mproc_semaphore_acquire(w.semaphore, LONG)), 0);
    CHECK_IS(mproc_semaphore_acquire(w.semaphore, 0), MPROC_ETIMEDOUT);
    CHECK_IS(mproc_semaphore_free(w.semaphore), 0);
}
static void semaphore_release_check(void) { /* a companion waits; the victim's permit is there or not */
    int error;
    double end = patience() + (w.finished ? SOON : 0.0);
    bool got = companion_ended(0, &error);
    while (!got && patience() < end) {
        nap(0.0002);
        got = companion_ended(0, &error);
    }
    if (w.finished) CHECK(got);
    CHECK_IS(mproc_semaphore_release(w.semaphore), 0);
    if (!got) error = companion_end(0);
    CHECK_IS(error, 0);
    int value = mproc_semaphore_value(w.semaphore);
    CHECK(value == 0 || value == 1);
    if (w.finished) CHECK_IS(value, 1);
    CHECK_IS(mproc_semaphore_acquire(w.semaphore, 0), value == 1 ? 0 : MPROC_ETIMEDOUT);
    CHECK_IS(mproc_semaphore_free(w.semaphore), 0);
}
static void
semaphore_waiters_check(void) { /* victim and companion wait: a permit may be lost, none is doubled */
    if (!w.unblocked) semaphore_unblock_companion();
    CHECK_IS(mproc_semaphore_release(w.semaphore), 0);
    CHECK_IS(companion_end(0), 0);
    int value = mproc_semaphore_value(w.semaphore);
    CHECK(value == 0 || value == 1);
    if (value == 0) lost();
    if (!w.unblocked) CHECK_IS(value, 1);
    CHECK_IS(mproc_semaphore_free(w.semaphore), 0);
}

static void semaphore_setup_bounded(void) { CHECK((w.semaphore = mproc_semaphore_new_bounded(1)) != NULL); }
static void semaphore_bounded_check(void) { /* the victim had its one permit */
    int value = mproc_semaphore_value(w.semaphore);
    CHECK(value == 1 || (value == 0 && !w.finished));
    if (value == 0) CHECK_IS(mproc_semaphore_release(w.semaphore), 0);
    CHECK(mproc_semaphore_release(w.semaphore) < 0);
    CHECK_IS(mproc_semaphore_acquire(w.semaphore, 0), 0);
    CHECK_IS(mproc_semaphore_acquire(w.semaphore, 0), MPROC_ETIMEDOUT);
    CHECK_IS(mproc_semaphore_free(w.semaphore), 0);
}

/* ---- Event ---- */

static int event_companion(void) { return mproc_event_wait(w.event, LONG); }
static void event_setup(void) { CHECK((w.event = mproc_event_new()) != NULL); }
static void event_setup_set(void) {
    event_setup();
    mproc_event_set(w.event);
}
static void event_setup_companion(void) {
    event_setup();
    companion(event_companion);
}
static void event_set(void) { mproc_event_set(w.event); }
static void event_clear(void) { mproc_event_clear(w.event); }
static void event_wait(void) { mproc_event_wait(w.event, MPROC_FOREVER); }
static void event_check(void) {
    bool set = mproc_event_is_set(w.event);
    if (w.finished && op->victim == event_set) CHECK(set);
    if (w.finished && op->victim == event_clear) CHECK(!set);
    if (set && w.companions > 0) CHECK_IS(companion_end(0), 0);
    CHECK_IS(mproc_event_set(w.event), 0);
    if (!set && w.companions > 0) CHECK_IS(companion_end(0), 0);
    CHECK_IS(mproc_event_wait(w.event, 0), 0);
    CHECK_IS(mproc_event_clear(w.event), 0);
    CHECK_IS(mproc_event_wait(w.event, 0), MPROC_ETIMEDOUT);
    CHECK_IS(mproc_event_free(w.event), 0);
}

/* ---- Condition ---- */

static bool good_lock(int error) { return error == 0 || error == MPROC_EOWNERDEAD; }

/* A victim that sleeps looks at the lock now and then: if it meets its breakpoint while it has it, and the
   survivor is about to wake it, then nobody would lead it on. That point comes again, with a new driver. */
static void condition_lock(void) {
    siginfo_t info;
    double end = patience() + SOON;
    for (int error; (error = mproc_condition_acquire(w.condition, 0.05)) != 0;) {
        if (error == MPROC_EOWNERDEAD) return;
        CHECK_IS(error, MPROC_ETIMEDOUT);
        memset(&info, 0, sizeof info);
        if (step.pid > 0 && waitid(P_PID, (id_t)step.pid, &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid != 0) {
            clear_up();
            _exit(GO_ON);
        }
        if (patience() > end) flaw("the condition's lock is not to be had");
    }
}

static int condition_companion(void) {
    int error = mproc_condition_acquire(w.condition, LONG);
    if (!good_lock(error)) return error;
    error = mproc_condition_wait(w.condition, LONG);
    int released = mproc_condition_release(w.condition);
    return released != 0 ? released : error;
}
static void condition_companions(int n) {
    for (int i = 0; i < n; i++) companion(condition_companion);
    for (int waiting = 0; waiting < n;) { /* asleep on the lock is not enough: until all stand in the list */
        condition_lock();
        waiting = 0;
        for (mproc__waiter *one = w.condition->first; one != NULL; one = one->next) waiting++;
        mproc_condition_release(w.condition);
    }
}
static void condition_setup(void) { CHECK((w.condition = mproc_condition_new(NULL)) != NULL); }
static void condition_setup_companion(void) {
    condition_setup();
    condition_companions(1);
}
static void condition_setup_companions(void) {
    condition_setup();
    condition_companions(2);
}
static void condition_acquire(void) { mproc_condition_acquire(w.condition, MPROC_FOREVER); }
static void condition_wait(void) { mproc_condition_wait(w.condition, MPROC_FOREVER); }
static void condition_wait_briefly(void) { mproc_condition_wait(w.condition, 0.001); }
static void condition_notify(void) { mproc_condition_notify(w.condition, 1); }
static void condition_notify_all(void) { mproc_condition_notify_all(w.condition); }
static void condition_wake(unsigned n) {
    condition_lock();
    CHECK_IS(mproc_condition_notify(w.condition, n), 0);
    CHECK_IS(mproc_condition_release(w.condition), 0);
}
static void condition_unblock(void) { /* a companion waits behind the victim */
    if (w.companions == 0) condition_companions(1);
    condition_wake(1);
}
static bool condition_entry(pid_t pid, bool notified) {
    for (mproc__waiter *one = w.condition->first; one != NULL; one = one->next)
        if (one->who >> 32 == (uint64_t)pid && (one->asleep == 0) == notified) return true;
    return false;
}
static void condition_wait_check(void) {
    if (w.unblocked) {
        /* Killed before it took its notification out of the list, the victim must not keep it. */
        if (!condition_entry(step.pid, true)) condition_wake(1);
        int error = companion_end(0);
        CHECK(good_lock(error));
    }
    int error = TIMELY(mproc_condition_acquire(w.condition, LONG));
    CHECK(good_lock(error));
    CHECK_IS(mproc_condition_notify_all(w.condition), 0);
    CHECK_IS(mproc_condition_wait(w.condition, 0.0), MPROC_ETIMEDOUT);
    CHECK_IS(mproc_condition_release(w.condition), 0);
    CHECK_IS(mproc_condition_free(w.condition), 0);
}
static void condition_notify_check(void) {
    for (int i = 0; i < w.companions; i++) {
        if (w.finished && (i == 0 || op->victim == condition_notify_all)) continue;
        condition_wake(1);
    }
    condition_wake(8);
    for (int i = 0; i < w.companions; i++) CHECK(good_lock(companion_end(i)));
    CHECK_IS(mproc_condition_free(w.condition), 0);
}

static void condition_setup_lock(void) { /* with a lock that its caller made */
    lock_setup();
    POKE(&me->gate, 0);
    CHECK((w.condition = mproc_condition_new(w.lock)) != NULL);
}
static void condition_lock_check(void) {
    condition_wait_check();
    w.companions = 0;
    lock_check();
}

/* A waiter has died, and then a holder of the lock: who frees the condition leaves it to the next holder to
   be told. */
static void condition_setup_left(void) {
    condition_setup_lock();
    condition_companions(1);
    kill(w.companion[0], SIGKILL);
    CHECK_IS(waitpid(w.companion[0], NULL, 0), w.companion[0]);
    w.companions = 0;
    lock_leave();
}
static void condition_end(void) {
    int error;
    while ((error = mproc_condition_free(w.condition)) == MPROC_EBUSY && me->stops) continue;
    must(error == 0);
}
static void condition_end_check(void) {
    int error = TIMELY(mproc_condition_free(w.condition));
    CHECK(error == 0 || error == MPROC_EINVAL);
    if (w.finished) CHECK_IS(error, MPROC_EINVAL);
    CHECK_IS(mproc_condition_free(w.condition), MPROC_EINVAL);
    w.condition = NULL;
    lock_left_check();
}
static bool gate_open(void *ctx) {
    (void)ctx;
    return PEEK(&me->gate);
}
static void condition_wait_for(void) {
    mproc_condition_wait_for(w.condition, gate_open, NULL, MPROC_FOREVER);
}
static void condition_unblock_for(void) {
    POKE(&me->gate, 1);
    condition_unblock();
}

/* ---- Barrier ---- */

static int barrier_companion(void) {
    int place = mproc_barrier_wait(w.barrier, LONG);
    return place < 0 ? place : 0;
}
static void barrier_setup(void) { CHECK((w.barrier = mproc_barrier_new((unsigned)op->most)) != NULL); }
static void barrier_setup_companion(void) {
    barrier_setup();
    companion(barrier_companion);
}
static void barrier_wait(void) { mproc_barrier_wait(w.barrier, MPROC_FOREVER); }
static void barrier_join_in(void) {
    int place = TIMELY(mproc_barrier_wait(w.barrier, LONG));
    CHECK(place == 0 || place == 1 || place == MPROC_EBROKEN);
}
static void barrier_works(void) {
    CHECK_IS(mproc_barrier_reset(w.barrier), 0);
    w.companions = 0;
    for (size_t i = 1; i < op->most; i++) companion(barrier_companion);
    CHECK_IS(TIMELY(mproc_barrier_wait(w.barrier, LONG)), (int)op->most - 1);
    for (size_t i = 1; i < op->most; i++) CHECK_IS(companion_end((int)i - 1), 0);
    CHECK_IS(mproc_barrier_free(w.barrier), 0);
}
static void barrier_first_check(void) { /* of two: the victim came first, the survivor second */
    if (!w.unblocked) {
        int place = mproc_barrier_wait(w.barrier, 0.0);
        CHECK(place == MPROC_ETIMEDOUT || place == MPROC_EBROKEN || (place == 1 && me->stops));
    }
    barrier_works();
}
static void barrier_last_check(void) { /* a companion waits: with the victim it is complete, or is told */
    uint64_t word = MPROC__LOAD(&w.barrier->word);
    bool complete = mproc__generation(word) != 0;
    if (w.finished) CHECK(complete);
    if (!complete && mproc__arrived(word) == 1) CHECK_IS(TIMELY(mproc_barrier_wait(w.barrier, LONG)), 1);
    CHECK_IS(companion_end(0), 0);
    barrier_works();
}
static void barrier_middle_check(void) { /* of three: a companion and the victim, the third never comes */
    uint64_t word = MPROC__LOAD(&w.barrier->word);
    if (mproc__arrived(word) == 2) {
        CHECK_IS(companion_end(0), MPROC_EBROKEN);
    } else {
        CHECK_IS(mproc_barrier_abort(w.barrier), 0);
        CHECK_IS(companion_end(0), MPROC_EBROKEN);
    }
    barrier_works();
}

static void barrier_abort(void) { mproc_barrier_abort(w.barrier); }
static void barrier_reset(void) { mproc_barrier_reset(w.barrier); }
static void barrier_broken_check(void) { /* a companion waits, until somebody breaks it */
    if (!w.finished) CHECK_IS(mproc_barrier_abort(w.barrier), 0);
    CHECK_IS(companion_end(0), MPROC_EBROKEN);
    if (w.finished)
        CHECK_IS(mproc_barrier_wait(w.barrier, 0),
                 op->victim == barrier_abort ? MPROC_EBROKEN : MPROC_ETIMEDOUT);
    barrier_works();
}

/* ---- Shared memory ---- */

/* Blocks in use between free ones: the victim's neighbours. */
static void blocks_setup(void) {
    static const size_t sizes[] = {40, 300, 40, 300, 1000, 300, 40, 200, 4000, 40};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CHECK((w.block[i] = (char *)mproc_shm_new(sizes[i])) != NULL);
        memset(w.block[i], (int)i + 65, sizes[i]);
    }
    static const size_t gone[] = {1, 4, 7};
    for (size_t i = 0; i < COUNT(gone); i++) {
        mproc_free(w.block[gone[i]]);
        w.block[gone[i]] = NULL;
    }
}
static void blocks_setup_pair(void) { /* block 2 stands between two free ones */
    blocks_setup();
    mproc_free(w.block[3]);
    w.block[3] = NULL;
}
static void value_new(void) {
    int *value = mproc_value_new(int, 7);
    must(value != NULL && *value == 7);
}
static void array_new(void) {
    char *array = mproc_array_new(char, op->size);
    must(array != NULL);
}
static void array_from(void) {
    static const char source[200] = "abc";
    char *array = mproc_array_from(char, source, sizeof source);
    must(array != NULL && array[1] == 'b');
}
static void shm_new(void) { must(mproc_shm_new(op->size) != NULL); }
static void shm_free(void) { mproc_free(w.block[op->there]); }
static void blocks_check(void) {
    for (int i = 0; i < 10; i++) {
        bool victims = op->victim == shm_free && (size_t)i == op->there;
        if (w.block[i] == NULL) continue;
        if (!victims)
            for (size_t k = 0; k < mproc_array_len(w.block[i]); k++)
                if (w.block[i][k] != (char)(i + 65)) flaw("block %d has changed", i);
        int error = mproc_free(w.block[i]);
        CHECK(error == 0 || (victims && error == MPROC_EINVAL));
        if (victims && w.finished) CHECK_IS(error, MPROC_EINVAL);
    }
}

/* ---- Messages ---- */

static void message_make(char *to, size_t size, int id) {
    for (size_t i = 0; i < size; i++) to[i] = (char)(id * 7 + (int)i);
    if (size >= sizeof id) memcpy(to, &id, sizeof id);
}
static int message_read(const char *from, size_t size) { /* its number, if it is whole */
    char should[ROOM];
    int id;
    if (size != op->size) flaw("a message of %zd bytes instead of %zu", (ssize_t)size, op->size);
    memcpy(&id, from, sizeof id);
    message_make(should, size, id);
    if (memcmp(from, should, size) != 0) flaw("message %d is torn", id);
    return id;
}
static void queue_get_short(void);
static void queue_get_many(void);
static void ring_get_many(void);

/* With -S: the victim has got or put all of its messages; where between the others' is left open. */
static void messages_check_mixed(const int *got, int n, bool puts, size_t count) {
    int at = 0, victims = w.early;
    bool many = op->victim == queue_get_many || op->victim == ring_get_many; /* it took what was there */
    size_t least = puts || op->victim == queue_get_short ? 0 : many ? 1 : op->hands;
    for (int i = 0; i < n; i++) {
        if (got[i] == VICTIMS + victims) {
            victims++;
            continue;
        }
        for (; at < w.n && w.ids[at] != got[i]; at++) w.missing++;
        if (at++ == w.n) flaw("message %d comes where it should not", got[i]);
    }
    w.missing += w.n - at;
    if ((size_t)victims != (puts ? count : 0)) flaw("%d messages of the victim", victims);
    if ((size_t)w.missing < least || (size_t)w.missing > (many ? MANY : least))
        flaw("%d messages are gone", w.missing);
}

/* Of the survivor's messages at most `hands` are gone, from the front; of the victim's a first part is there,
   behind those. All or none of what one call of a ring moves. */
static void messages_check(const int *got, int n, bool whole, bool puts, size_t count) {
    int mine = 0, victims = 0, missing = 0;
    if (w.stopped) {
        messages_check_mixed(got, n, puts, count);
        return;
    }
    while (mine < n && got[mine] < VICTIMS) mine++;
    int offset = w.n - mine;
    while (mine + victims < n) {
        if (got[mine + victims] != VICTIMS + victims)
            flaw("after %d messages comes %d", mine + victims, got[mine + victims]);
        victims++;
    }
    missing = offset;
    if (missing < 0) flaw("%d messages too many", -missing);
    for (int i = 0; i < mine; i++)
        if (got[i] != w.ids[i + offset]) flaw("message %d comes instead of %d", got[i], w.ids[i + offset]);
    size_t hands = puts ? 0 : op->hands;
    w.missing = missing;
    if ((size_t)missing > hands) flaw("%d messages are lost, the first of them %d", missing, w.ids[0]);
    if (missing > 0) lost();
    if (op->victim == queue_get_short && w.finished && missing != 0)
        flaw("a message too large was not left there");
    else if (!puts && w.finished && (size_t)missing != op->hands && op->victim != queue_get_short)
        flaw("%d of %zu messages were taken", missing, op->hands);
    if (!puts && whole && missing != 0 && (size_t)missing != op->hands)
        flaw("only %d messages are gone", missing);
    if (puts && whole && victims != 0 && (size_t)victims != count)
        flaw("only %d of %zu messages", victims, count);
    if (puts && w.finished && (size_t)victims != count)
        flaw("%d of %zu messages after its return", victims, count);
    if (!puts && victims != 0) flaw("messages from nowhere");
}

/* ---- Queue ---- */

static int queue_put_one(int id) {
    char data[ROOM];
    message_make(data, op->size, id);
    int error = mproc_queue_put(w.queue, data, op->size, 0);
    if (error == 0) w.ids[w.n++] = id;
    return error;
}
static int queue_get_one(double timeout) { /* a number, or an error */
    char data[ROOM];
    ssize_t n = mproc_queue_get(w.queue, data, sizeof data, timeout);
    return n < 0 ? (int)n : message_read(data, (size_t)n);
}
static void queue_setup(void) {
    CHECK((w.queue = mproc_queue_new(op->most)) != NULL);
    for (size_t i = 0; i < op->there; i++) CHECK_IS(queue_put_one((int)i + 1), 0);
}
static void queue_setup_full(void) {
    CHECK((w.queue = mproc_queue_new(op->most)) != NULL);
    int id = 1;
    while (queue_put_one(id) == 0) id++;
}
static void queue_put(void) { must(mproc_queue_put(w.queue, w.data, op->size, MPROC_FOREVER) == 0); }
static void queue_put_many(void) {
    must(mproc_queue_put_many(w.queue, w.data, MANY, op->size, MPROC_FOREVER) == MANY);
}
static void queue_get(void) {
    char data[ROOM];
    must(mproc_queue_get(w.queue, data, sizeof data, MPROC_FOREVER) == (ssize_t)op->size);
}
static void queue_unopened(void) { /* as in a process that was forked before the queue was made */
    mproc__port_drop(&w.queue->port, 0);
}
static void queue_get_exact(void) {
    char data[ROOM];
    must(mproc_queue_get(w.queue, data, op->size, MPROC_FOREVER) == (ssize_t)op->size);
}
static void queue_get_short(void) {
    char data[ROOM];
    must(mproc_queue_get(w.queue, data, op->size - 1, MPROC_FOREVER) == MPROC_EMSGSIZE);
}
static void queue_take(void) {
    size_t size;
    must(mproc_queue_take(w.queue, &size, MPROC_FOREVER) != NULL && size == op->size);
}
static void queue_get_many(void) {
    char data[MANY * ROOM];
    ssize_t n = mproc_queue_get_many(w.queue, data, MANY, op->size, MPROC_FOREVER);
    must(n > 0);
}
static void queue_close(void) { mproc_queue_close(w.queue); }
static void queue_task_done(void) { must(mproc_queue_task_done(w.queue) == 0); }
static void queue_forget(int n) { /* the survivor has taken the first n */
    memmove(w.ids, w.ids + n, (size_t)(w.n - n) * sizeof w.ids[0]);
    w.n -= n;
}
static void queue_make_room(void) {
    int n = op->most != 0 ? 1 : 40; /* of a pipe a whole page */
    for (int i = 0; i < n; i++) {
        CHECK_IS(queue_get_one(0), w.ids[i]);
        CHECK_IS(mproc_queue_task_done(w.queue), 0);
    }
    queue_forget(n);
}
static void queue_drain(void) {
    for (int i = 0; i < w.n; i++) {
        CHECK_IS(queue_get_one(0), w.ids[i]);
        CHECK_IS(mproc_queue_task_done(w.queue), 0);
    }
    w.n = 0;
}
static void queue_feed(void) { CHECK_IS(queue_put_one(500), 0); }

/* Everything that can be got is as it should be, as many as qsize says; then the queue serves as ever. */
static void queue_check(void) {
    static int got[1200];
    bool puts = op->victim == queue_put || op->victim == queue_put_many;
    int n = 0, unmarked = 0, error;
    size_t count = op->victim == queue_put_many ? MANY : 1;
    struct pollfd told = {mproc_queue_fd(w.queue), POLLIN, 0};
    int readable = poll(&told, 1, 0); /* first: the look at its length may mend what the victim left */
    CHECK(readable == 1 || mproc_queue_empty(w.queue));
    if (!puts && op->victim != queue_close) { /* one more behind: as many as there should be */
        error = queue_put_one(600);
        CHECK_IS(error, 0);
    }
    size_t size = mproc_queue_qsize(w.queue);
    CHECK_IS(mproc_queue_empty(w.queue), size == 0);
    if (me->k % 4 < 2 && size > 0) { /* a buffer too small leaves it where it is */
        char small[1];
        CHECK_IS(mproc_queue_get(w.queue, small, 1, 0), MPROC_EMSGSIZE);
        CHECK_IS(mproc_queue_qsize(w.queue), size);
    }
    while ((error = queue_get_one(0)) >= 0) got[n++] = error;
    CHECK(error == MPROC_ETIMEDOUT || (op->victim == queue_close && error == MPROC_ECLOSED));
    if (op->victim == queue_task_done) queue_forget(1); /* that the victim had got before */
    messages_check(got, n, false, puts, count);
    if ((size_t)n != size) flaw("qsize said %zu, there were %d", size, n);
    CHECK(mproc_queue_empty(w.queue));
    for (int i = 0; i < n; i++) CHECK_IS(mproc_queue_task_done(w.queue), 0);
    size_t hands = op->hands + (op->victim == queue_task_done ? 1 : 0);
    while (mproc_queue_join(w.queue, 0) != 0) {
        CHECK_IS(mproc_queue_task_done(w.queue), 0);
        unmarked++;
    }
    if (puts && unmarked > 0) flaw("join waits for %d messages that nobody can get", unmarked);
    if ((size_t)unmarked > hands) flaw("join waits for %d messages too many", unmarked);
    if (!puts && w.finished) CHECK_IS(unmarked, w.missing);
    if (op->victim != queue_close) {
        w.n = 0;
        for (int i = 0; i < 3; i++) CHECK_IS(queue_put_one(700 + i), 0);
        if (op->most != 0) { /* exactly as many as it should hold */
            while (queue_put_one(703) == 0) continue;
            CHECK_IS(w.n, op->most);
            CHECK(mproc_queue_full(w.queue));
        }
        for (int i = 0; i < w.n; i++) CHECK_IS(queue_get_one(0), w.ids[i]);
    }
    CHECK_IS(mproc_queue_close(w.queue), 0);
    CHECK_IS(queue_get_one(0), MPROC_ECLOSED);
    CHECK_IS(queue_put_one(1), MPROC_ECLOSED);
    CHECK_IS(mproc_queue_free(w.queue), 0);
}
static void queue_close_check(void) {
    bool closed = w.queue->closed != 0;
    if (w.finished) CHECK(closed);
    if (!closed) CHECK_IS(mproc_queue_close(w.queue), 0);
    for (int i = 0; i < w.companions; i++) CHECK_IS(companion_end(i), MPROC_ECLOSED);
    queue_check();
}
static void queue_setup_closed(void) {
    queue_setup();
    CHECK_IS(mproc_queue_close(w.queue), 0);
}
static void queue_get_closed(void) {
    char data[ROOM];
    must(mproc_queue_get(w.queue, data, sizeof data, MPROC_FOREVER) == MPROC_ECLOSED);
}
static void queue_get_closed_check(void) {
    CHECK(mproc_queue_empty(w.queue));
    CHECK_IS(queue_get_one(0), MPROC_ECLOSED);
    struct pollfd told = {mproc_queue_fd(w.queue), POLLIN, 0};
    CHECK_IS(poll(&told, 1, 0), 1);
    CHECK_IS(mproc_queue_join(w.queue, 0), 0);
    CHECK_IS(mproc_queue_free(w.queue), 0);
}
static int queue_companion(void) { return queue_get_one(LONG); }
static int queue_companion_put(void) {
    char data[ROOM];
    message_make(data, op->size, 1);
    return mproc_queue_put(w.queue, data, op->size, LONG);
}
static void queue_setup_getter(void) {
    queue_setup();
    companion(queue_companion);
}
static void queue_setup_putter(void) {
    queue_setup_full();
    companion(queue_companion_put);
}
static void queue_get_freed(void) { /* a putter waits: the victim makes room for it */
    queue_get();
}
static void queue_get_freed_check(void) { /* room is made now at the latest */
    int error = queue_get_one(0);
    CHECK(error == w.ids[0] || error == w.ids[1]);
    CHECK_IS(companion_end(0), 0);
    while (queue_get_one(0) >= 0) continue;
    CHECK_IS(mproc_queue_qsize(w.queue), 0);
    CHECK_IS(mproc_queue_free(w.queue), 0);
}
static int queue_join_companion(void) { return mproc_queue_join(w.queue, LONG); }
static void queue_setup_joiner(void) {
    queue_setup();
    for (size_t i = 0; i < op->there; i++) CHECK_IS(queue_get_one(0), (int)i + 1);
    companion(queue_join_companion);
}
static void queue_joiner_check(void) {
    int error;
    bool ended = w.finished;
    if (ended) error = companion_end(0);
    else {
        int done = mproc_queue_task_done(w.queue);
        CHECK(done == 0 || done == MPROC_EINVAL);
        error = companion_end(0);
    }
    CHECK_IS(error, 0);
    CHECK_IS(mproc_queue_free(w.queue), 0);
}
static void queue_setup_got(void) {
    queue_setup();
    for (size_t i = 0; i < op->there; i++) CHECK_IS(queue_get_one(0), (int)i + 1);
}
static void queue_join(void) { must(mproc_queue_join(w.queue, MPROC_FOREVER) == 0); }
static void queue_mark_done(void) { CHECK_IS(mproc_queue_task_done(w.queue), 0); }
static void queue_joined_check(void) {
    if (!w.unblocked) queue_mark_done();
    CHECK_IS(mproc_queue_join(w.queue, 0), 0);
    CHECK_IS(mproc_queue_free(w.queue), 0);
}

/* ---- Ring ---- */

static int ring_put_one(int id) {
    char data[ROOM];
    message_make(data, op->size, id);
    int error = mproc_ring_put(w.ring, data, 0);
    if (error == 0) w.ids[w.n++] = id;
    return error;
}
static int ring_get_one(void) {
    char data[ROOM];
    int error = mproc_ring_get(w.ring, data, 0);
    return error != 0 ? error : message_read(data, op->size);
}
static void ring_setup(void) {
    CHECK((w.ring = mproc_ring_new(op->size, op->most)) != NULL);
    for (int i = 0; i < 3; i++) { /* so that what follows goes around the end */
        CHECK_IS(ring_put_one(1), 0);
        CHECK_IS(ring_get_one(), 1);
    }
    w.n = 0;
    for (size_t i = 0; i < op->there; i++) CHECK_IS(ring_put_one((int)i + 1), 0);
}
static void ring_put(void) { must(mproc_ring_put(w.ring, w.data, MPROC_FOREVER) == 0); }
static void ring_put_many(void) { must(mproc_ring_put_many(w.ring, w.data, MANY, MPROC_FOREVER) == MANY); }
static void ring_get(void) {
    char data[ROOM];
    must(mproc_ring_get(w.ring, data, MPROC_FOREVER) == 0);
}
static void ring_get_many(void) {
    char data[MANY * ROOM];
    must(mproc_ring_get_many(w.ring, data, MANY, MPROC_FOREVER) > 0);
}
static void ring_close(void) { mproc_ring_close(w.ring); }
static void ring_make_room(void) {
    int n = w.n < (int)op->most ? w.n : (int)op->most;
    for (int i = 0; i < n; i++) CHECK_IS(ring_get_one(), w.ids[i]);
    queue_forget(n);
}
static void ring_drain(void) { /* at once, so that the victim finds room for all it has */
    char data[MANY * 2 * ROOM];
    ssize_t n = mproc_ring_get_many(w.ring, data, MANY * 2, 0);
    CHECK(n == w.n || (w.stopped && n > w.n)); /* that room was made for a part of it before */
    for (int i = 0; i < n; i++) {
        int id = message_read(data + (size_t)i * op->size, op->size);
        CHECK_IS(id, i < w.n ? w.ids[i] : VICTIMS + w.early++);
    }
    w.n = 0;
}
static void ring_feed(void) { CHECK_IS(ring_put_one(500), 0); }
static void ring_check(void) {
    int got[64], n = 0, error;
    bool puts = op->victim == ring_put || op->victim == ring_put_many;
    size_t count = op->victim == ring_put_many ? MANY : 1, size = mproc_ring_size(w.ring);
    while ((error = ring_get_one()) >= 0) got[n++] = error;
    CHECK(error == MPROC_ETIMEDOUT || (op->victim == ring_close && error == MPROC_ECLOSED));
    messages_check(got, n, true, puts, count);
    if ((size_t)n != size) flaw("size said %zu, there were %d", size, n);
    if (op->victim == ring_close && w.finished) CHECK_IS(ring_put_one(1), MPROC_ECLOSED);
    if (op->victim != ring_close) {
        w.n = 0;
        for (size_t i = 0; i < op->most; i++) CHECK_IS(ring_put_one(700 + (int)i), 0);
        CHECK_IS(ring_put_one(1), MPROC_ETIMEDOUT);
        for (size_t i = 0; i < op->most; i++) CHECK_IS(ring_get_one(), 700 + (int)i);
    }
    CHECK_IS(mproc_ring_close(w.ring), 0);
    for (int i = 0; i < w.companions; i++) CHECK_IS(companion_end(i), MPROC_ECLOSED);
    CHECK_IS(ring_get_one(), MPROC_ECLOSED);
    CHECK_IS(mproc_ring_free(w.ring), 0);
}
static int ring_companion(void) {
    char data[ROOM];
    return mproc_ring_get(w.ring, data, LONG);
}
static void ring_setup_getter(void) {
    ring_setup();
    companion(ring_companion);
}
static void ring_fed_check(void) { /* a getter waits; the victim's item comes or not, then the survivor's */
    CHECK_IS(ring_put_one(1), 0);
    CHECK_IS(companion_end(0), 0);
    int one = ring_get_one();
    CHECK(one == MPROC_ETIMEDOUT || one == 1);
    if (w.finished) CHECK_IS(one, 1);
    CHECK_IS(mproc_ring_free(w.ring), 0);
}

/* ---- Pipe ---- */

static void conn_setup(void) {
    char data[ROOM];
    CHECK_IS(mproc_pipe_new(w.ends, false), 0);
    CHECK_IS(mproc_conn_fd(w.ends[1]) >= 0,
             true); /* a use: or the end is gone when a carrier that sent ends */
    for (size_t i = 0; i < op->there; i++) {
        message_make(data, op->size, (int)i + 1);
        CHECK_IS(mproc_conn_send(w.ends[1], data, op->size, 0), 0);
        w.ids[w.n++] = (int)i + 1;
    }
}
static void conn_send(void) { must(mproc_conn_send(w.ends[1], w.data, op->size, MPROC_FOREVER) == 0); }
static void conn_recv(void) {
    char data[ROOM];
    must(mproc_conn_recv(w.ends[0], data, sizeof data, MPROC_FOREVER) == (ssize_t)op->size);
}
static void conn_feed(void) {
    char data[ROOM];
    message_make(data, op->size, 500);
    CHECK_IS(mproc_conn_send(w.ends[1], data, op->size, 0), 0);
    w.ids[w.n++] = 500;
}
static void conn_setup_full(void) {
    char data[ROOM];
    CHECK_IS(mproc_pipe_new(w.ends, false), 0);
    message_make(data, op->size, 1);
    CHECK_IS(mproc_conn_send(w.ends[1], data, op->size, 0), 0);
    CHECK_IS(mproc_conn_recv(w.ends[0], data, sizeof data, 0), op->size); /* from now on it uses this end */
    for (int id = 1;; w.ids[w.n++] = id++) {
        message_make(data, op->size, id);
        if (mproc_conn_send(w.ends[1], data, op->size, 0) != 0) break;
    }
}
static void conn_make_room(void) { /* a whole page */
    char data[ROOM];
    for (int i = 0; i < 40; i++) {
        CHECK_IS(mproc_conn_recv(w.ends[0], data, sizeof data, 0), op->size);
        CHECK_IS(message_read(data, op->size), w.ids[i]);
    }
    queue_forget(40);
}
static void conn_close(void) { mproc_conn_close(w.ends[1]); }
static void conn_check(void) {
    char data[ROOM];
    static int got[1200];
    int count = 0;
    ssize_t n;
    while ((n = mproc_conn_recv(w.ends[0], data, sizeof data, 0)) >= 0)
        got[count++] = message_read(data, (size_t)n);
    CHECK(n == MPROC_ETIMEDOUT || n == MPROC_ECLOSED);
    messages_check(got, count, true, op->victim == conn_send, 1);
    message_make(data, op->size, 7);
    CHECK_IS(mproc_conn_send(w.ends[1], data, op->size, 0), 0);
    CHECK_IS(mproc_conn_recv(w.ends[0], data, sizeof data, 0), op->size);
    CHECK_IS(message_read(data, op->size), 7);
    CHECK_IS(mproc_conn_close(w.ends[1]), 0);
    CHECK_IS(TIMELY((int)mproc_conn_recv(w.ends[0], data, sizeof data, LONG)), MPROC_ECLOSED);
    CHECK_IS(mproc_conn_close(w.ends[0]), 0);
}

/* ---- New objects and old ones ---- */

/* The one object in the world of this point, whatever it is. */
static int object_free(void) {
    int error = mproc_lock_free(w.lock);
    if (error == 0) error = mproc_rlock_free(w.rlock);
    if (error == 0) error = mproc_semaphore_free(w.semaphore);
    if (error == 0) error = mproc_event_free(w.event);
    if (error == 0) error = mproc_condition_free(w.condition);
    if (error == 0) error = mproc_barrier_free(w.barrier);
    if (error == 0) error = mproc_queue_free(w.queue);
    return error == 0 ? mproc_ring_free(w.ring) : error;
}
static void lock_new(void) { must((w.lock = mproc_lock_new()) != NULL); }
static void rlock_new(void) { must((w.rlock = mproc_rlock_new()) != NULL); }
static void semaphore_new(void) { must((w.semaphore = mproc_semaphore_new_bounded(3)) != NULL); }
static void event_new(void) { must((w.event = mproc_event_new()) != NULL); }
static void condition_new(void) { must((w.condition = mproc_condition_new(NULL)) != NULL); }
static void barrier_new(void) { must((w.barrier = mproc_barrier_new(2)) != NULL); }
static void queue_new(void) { must((w.queue = mproc_queue_new(op->most)) != NULL); }
static void ring_new(void) { must((w.ring = mproc_ring_new(SMALL, op->most)) != NULL); }
static void pipe_new(void) { must(mproc_pipe_new(w.ends, false) == 0); }
static void pipe_new_duplex(void) { must(mproc_pipe_new(w.ends, true) == 0); }

static void object_end(void) { must(object_free() == 0); }
static void object_end_check(void) {
    int error = object_free();
    CHECK(error == 0 || error == MPROC_EINVAL);
    if (w.finished) CHECK_IS(error, MPROC_EINVAL);
    CHECK_IS(object_free(), MPROC_EINVAL);
}

/* ---- Pool ---- */

static struct {
    mproc_pool *pool;
    size_t done, crashed, respawned; /* what it had counted before the point */
    int ran;                         /* tasks that had, of earlier points' too */
} p;

typedef struct job {
    int id, round;
    int wanted;     /* there is room for a result */
    char rest[400]; /* of a large argument */
} job;
#define JOB offsetof(job, rest)

static job job_of(int id, bool wanted) {
    job it = {id, me->round, wanted, {0}};
    return it;
}
static int task(const void *arg, void *result) {
    const job *it = (const job *)arg;
    BUMP(it->round == PEEK(&me->round) ? &me->ran[it->id] : &me->late);
    if (it->wanted) *(int *)result = it->id * it->id;
    return 0;
}
static int task_gate(const void *arg, void *result) {
    const job *it = (const job *)arg;
    (void)result;
    BUMP(&me->ran[it->id]);
    while (!PEEK(&me->gate)) nap(0.0002);
    return 0;
}
static mproc_pool_counts counts(void) {
    mproc_pool_counts c;
    CHECK_IS(mproc_pool_stats(p.pool, &c), 0);
    return c;
}
static void pool_begin_with(mproc_pool_options options) {
    memset(&p, 0, sizeof p);
    options.workers = 1;
    CHECK((p.pool = mproc_pool_new_with(&options)) != NULL);
}
static void pool_begin(void) { pool_begin_with((mproc_pool_options){0}); }
static void pool_begin_small(void) { pool_begin_with((mproc_pool_options){.backlog = 2}); }
static void pool_begin_one_task(void) { pool_begin_with((mproc_pool_options){.max_tasks_per_worker = 1}); }
static uint32_t pool_taken(bool for_tasks) { /* how many slots are, or how many stand for a task to be done */
    uint32_t taken = 0;
    for (uint32_t i = 0; i < p.pool->segments * MPROC__SEGMENT; i++) {
        uint32_t state = mproc__state(MPROC__LOAD(&mproc__slot(p.pool, i)->word));
        taken += for_tasks ? state >= MPROC__READY && state <= MPROC__DOOMED : state != MPROC__FREE;
    }
    return taken;
}
/* All slots come back, those of dead processes too; or the tasks they handed in get done. */
static void pool_await_slots(bool for_tasks) {
    double end = patience() + 3.5;
    for (uint32_t taken; (taken = pool_taken(for_tasks)) != 0; nap(0.001))
        if (patience() > end) flaw("%u slots of the pool have not come back", taken);
}
static void pool_end(void) {
    if (board->until == 0) pool_await_slots(false);
    CHECK_IS(mproc_pool_free(p.pool), 0);
    p.pool = NULL;
}
static bool pool_idle(void) {
    mproc_pool_counts c = counts();
    const mproc__worker *worker = &p.pool->worker[0];
    return c.pending + c.running == 0 && c.workers == 1 && PEEK(&worker->ready) == 1 &&
           PEEK(&p.pool->work) == 1 && step_state((pid_t)worker->pid) == 'S';
}
/* What the pool has counted, and how many tasks have run by then: those of dead victims come at any moment.
 */
static mproc_pool_counts pool_rest(int *ran) {
    mproc_pool_counts c;
    for (int before = -1;; before = *ran) {
        *ran = PEEK(&me->late);
        for (size_t i = 0; i < sizeof me->ran / sizeof me->ran[0]; i++) *ran += PEEK(&me->ran[i]);
        if (*ran == before) return c;
        EVENTUALLY(pool_idle());
        c = counts();
    }
}
static void pool_setup(void) {
    BUMP(&me->round);
    EVENTUALLY(pool_idle());
    memset(me->ran, 0, sizeof me->ran);
    mproc_pool_counts c = pool_rest(&p.ran);
    POKE(&me->gate, 0);
    p.done = c.done;
    p.crashed = c.crashed;
    p.respawned = c.respawned;
}
static void pool_map(void) { /* the victim's task, several times */
    job in[MANY];
    int out[MANY];
    for (int i = 0; i < MANY; i++) in[i] = job_of(3, true);
    must(mproc_pool_map(p.pool, task, in, MANY, sizeof in[0], out, sizeof out[0]) == 0);
    for (int i = 0; i < MANY; i++) must(out[i] == 9);
}
static void pool_works(void) {
    job it = job_of(7, true);
    int result = 0;
    CHECK_IS(mproc_pool_apply(p.pool, task, &it, JOB, &result, sizeof result), 0);
    CHECK_IS(result, 49);
    CHECK_IS(PEEK(&me->ran[7]), 1);
}
/* The victim's task (number 3) ran once or not at all. */
static void pool_check(void) {
    POKE(&me->gate, 1);
    if (me->k / 2 % 2 == 1) EVENTUALLY(mproc__ready_peek(p.pool) == 0); /* let the worker find it by itself */
    int most = op->most != 0 ? (int)op->most : 1;
    int least = op->there != 0 ? (int)op->there : 1;
    if (op->before == nothing && w.finished) EVENTUALLY(PEEK(&me->ran[3]) == least);
    pool_works();
    if (w.future != NULL) {
        CHECK_IS(TIMELY(mproc_future_get(w.future, NULL, LONG)), 0);
        CHECK_IS(mproc_future_free(w.future), 0);
    }
    int ran;
    mproc_pool_counts c = pool_rest(&ran);
    CHECK(PEEK(&me->ran[3]) <= most);
    CHECK_IS(c.done - p.done, ran - p.ran);
    CHECK_IS(c.crashed, p.crashed);
}
static void pool_submit(void) {
    job it = job_of(3, false);
    must(mproc_pool_submit(p.pool, task, &it, JOB, MPROC_FOREVER) == 0);
}
static void pool_submit_large(void) {
    job it = job_of(3, false);
    must(mproc_pool_submit(p.pool, task, &it, sizeof it, MPROC_FOREVER) == 0);
}
static void pool_apply_async(void) {
    job it = job_of(3, true);
    w.future2 = mproc_pool_apply_async(p.pool, task, &it, JOB, sizeof(int));
    must(w.future2 != NULL);
}
static void pool_await(void) { /* before get and free: it is done */
    pool_apply_async();
    must(mproc_future_wait(w.future2, MPROC_FOREVER) == 0);
}
static void pool_get(void) {
    int result;
    must(mproc_future_get(w.future2, &result, MPROC_FOREVER) == 0 && result == 9);
}
static void pool_future_free(void) { must(mproc_future_free(w.future2) == 0); }
static void pool_setup_gate(void) {
    pool_setup();
    job it = job_of(1, false);
    CHECK((w.future = mproc_pool_apply_async(p.pool, task_gate, &it, JOB, 0)) != NULL);
    EVENTUALLY(PEEK(&me->ran[1]) == 1);
}
static void pool_setup_full(void) { /* one task runs, two wait, and no more are taken */
    pool_setup_gate();
    job it = job_of(2, false);
    while (mproc_pool_submit(p.pool, task, &it, JOB, 0) == 0) continue;
}
static void pool_open_gate(void) { POKE(&me->gate, 1); }
static void pool_apply(void) {
    job it = job_of(3, true);
    int result = 0;
    must(mproc_pool_apply(p.pool, task, &it, sizeof it, &result, sizeof result) == 0 && result == 9);
}
static void pool_wait(void) { must(mproc_future_wait(w.future2, MPROC_FOREVER) == 0); }

/* What is called when the task is done frees its future, as it may. */
static int called; /* in the victim */
static void pool_callback(mproc_future *future, void *ctx) {
    must(future == w.future2 && ctx == &called);
    called++;
    must(mproc_future_free(future) == 0);
}
static void pool_on_done(void) { /* done by now */
    must(mproc_future_on_done(w.future2, pool_callback, &called) == 0);
    must(called == 1);
}
static void pool_ask_for_call(void) { /* not done yet */
    pool_apply_async();
    must(mproc_future_on_done(w.future2, pool_callback, &called) == 0);
    must(called == 0);
}
static void pool_get_with_call(void) {
    pool_get();
    must(called == 1);
}

static mproc_iter *iter; /* the victim's */
#define ITEMS 6          /* more than run ahead */
static void iter_new(bool unordered) {
    static job items[ITEMS];
    for (int i = 0; i < ITEMS; i++) items[i] = job_of(3, true);
    iter = (unordered ? mproc_pool_imap_unordered : mproc_pool_imap)(p.pool, task, items, ITEMS,
                                                                     sizeof items[0], sizeof(int));
    must(iter != NULL);
}
static void pool_imap(void) { iter_new(false); }
static void pool_imap_unordered(void) { iter_new(true); }
static void iter_next(void) {
    bool seen[ITEMS] = {false};
    for (int i = 0, result = 0; i < ITEMS; i++, result = 0) {
        ssize_t index = mproc_iter_next(iter, &result, MPROC_FOREVER);
        must(index >= 0 && index < ITEMS && !seen[index] && result == 9);
        seen[index] = true;
    }
    must(mproc_iter_next(iter, NULL, 0) == MPROC_ECLOSED);
}
static void iter_free(void) { must(mproc_iter_free(iter) == 0); }
static void pool_cancel(void) { must(mproc_future_cancel(w.future2) == 0); }
static void pool_cancel_check(void) {
    bool finished = w.finished;
    w.finished = false;
    pool_check();
    if (finished) CHECK_IS(PEEK(&me->ran[3]), 0);
}

/* A running task, cancelled by the victim whose it is: its worker is killed. */
static void pool_run_gate(void) {
    job it = job_of(1, false);
    w.future2 = mproc_pool_apply_async(p.pool, task_gate, &it, JOB, 0);
    must(w.future2 != NULL);
    while (PEEK(&me->ran[1]) == 0) nap(0.0001);
}
static void pool_cancel_running_check(void) {
    if (!w.finished) POKE(&me->gate, 1);
    pool_works();
    EVENTUALLY(pool_idle());
    mproc_pool_counts c = counts();
    size_t cancelled = c.respawned - p.respawned;
    CHECK(cancelled == 1 || (cancelled == 0 && !w.finished));
    CHECK_IS(c.done - p.done, 1 + PEEK(&me->ran[6]) + (cancelled == 0));
    CHECK_IS(c.crashed, p.crashed);
}

/* A worker, from its sleep through one task to its sleep. */
static pid_t pool_worker(void) { return (pid_t)p.pool->worker[0].pid; }
static void pool_stimulus(void) {
    job it = job_of(5, true);
    CHECK((w.future = mproc_pool_apply_async(p.pool, task, &it, JOB, sizeof(int))) != NULL);
}
static void pool_stimulus_submit(void) {
    job it = job_of(5, false);
    CHECK_IS(mproc_pool_submit(p.pool, task, &it, sizeof it, 0), 0);
}
static void pool_worker_check(void) {
    int result = 0, error = 0;
    if (w.future != NULL) {
        error = WITHIN(1.0 + SOON, mproc_future_get(w.future, &result, LONG));
        CHECK(error == 0 || error == MPROC_ECRASHED);
        if (error == 0) {
            CHECK_IS(result, 25);
            CHECK_IS(PEEK(&me->ran[5]), 1);
        } else {
            lost();
            CHECK_IS(mproc_future_code(w.future), -SIGKILL);
        }
        if (w.finished || w.stopped) CHECK_IS(error, 0);
        CHECK_IS(mproc_future_free(w.future), 0);
    }
    pool_works();
    EVENTUALLY(pool_idle());
    CHECK(PEEK(&me->ran[5]) <= 1);
    mproc_pool_counts c = counts();
    if (w.future != NULL) CHECK_IS(c.crashed - p.crashed, error != 0);
    CHECK_IS(c.done - p.done + c.crashed - p.crashed, 2 + PEEK(&me->ran[6]));
    CHECK_IS(c.respawned - p.respawned, w.stopped ? 0 : 1);
}

/* The pool's maker sleeps until its descriptor tells that something is done, whoever is killed over that. */
static void pool_stimulus_watched(void) {
    CHECK(mproc_pool_fd(p.pool) >= 0);
    pool_stimulus();
}
static void pool_watched_check(void) {
    struct pollfd told = {mproc_pool_fd(p.pool), POLLIN, 0};
    do { /* of a worker's death it tells, too */
        EVENTUALLY(poll(&told, 1, 0) == 1 && told.revents == POLLIN);
    } while (!mproc_future_ready(w.future));
    pool_worker_check();
}

/* A task of several items, as a map hands them in: the item it was at is lost, the others run. */
#define CHUNK 3
static void pool_stimulus_chunk(void) {
    job items[CHUNK];
    int error;
    for (int i = 0; i < CHUNK; i++) items[i] = job_of(5, true);
    mproc__job it = mproc__job_of(task, items, sizeof items[0], sizeof(int));
    it.count = CHUNK;
    CHECK((w.future = mproc__pool_hand_in(p.pool, &it, 0, &error)) != NULL);
}
static void pool_handed_back_check(void) {
    size_t crashed = 0, dead = w.stopped ? 0 : 1;
    CHECK_IS(WITHIN(1.0 + SOON, mproc_future_wait(w.future, LONG)), 0);
    for (int i = 0; i < CHUNK; i++) {
        const mproc__item *item = &w.future->items[i];
        CHECK(item->status == 0 || (item->status == MPROC_ECRASHED && item->code == -SIGKILL));
        if (item->status == 0) CHECK_IS(((int *)(void *)w.future->job.out)[i], 25);
        else crashed++;
    }
    if (crashed > 0) lost();
    CHECK(crashed <= (w.finished ? 0 : dead));
    CHECK_IS(mproc_future_get(w.future, NULL, 0), crashed > 0 ? MPROC_ECRASHED : 0);
    CHECK(PEEK(&me->ran[5]) == CHUNK || (crashed > 0 && PEEK(&me->ran[5]) == CHUNK - 1));
    CHECK_IS(mproc_future_free(w.future), 0);
    pool_works();
    EVENTUALLY(pool_idle());
    mproc_pool_counts c = counts();
    CHECK_IS(c.done - p.done, 1 + CHUNK - crashed + (size_t)PEEK(&me->ran[6]));
    CHECK_IS(c.crashed - p.crashed, crashed);
}
static void pool_chunk_check(void) {
    pool_handed_back_check();
    CHECK_IS(counts().respawned - p.respawned, w.stopped ? 0 : 1);
}

/* A task that hands in another and waits for it: the worker runs that, too. */
static int task_nested(const void *arg, void *result) {
    job inner = job_of(4, true);
    int got = 0;
    if (mproc_pool_apply(mproc__me.pool, task, &inner, JOB, &got, sizeof got) != 0 || got != 16) return 1;
    return task(arg, result);
}
static void pool_stimulus_nested(void) {
    job it = job_of(5, true);
    CHECK((w.future = mproc_pool_apply_async(p.pool, task_nested, &it, JOB, sizeof(int))) != NULL);
}
static void pool_nested_check(void) {
    int result = 0, error = WITHIN(1.0 + SOON, mproc_future_get(w.future, &result, LONG));
    CHECK(error == 0 || (error == MPROC_ECRASHED && !w.finished && !w.stopped));
    if (error == 0) CHECK_IS(result, 25);
    if (error == 0) CHECK(PEEK(&me->ran[4]) == 1 && PEEK(&me->ran[5]) == 1);
    else lost();
    CHECK_IS(mproc_future_free(w.future), 0);
    if (error != 0)
        pool_await_slots(true); /* the inner task, handed in by the dead, may begin a second later */
    pool_works();
    EVENTUALLY(pool_idle());
    CHECK(PEEK(&me->ran[4]) <= 1 && PEEK(&me->ran[5]) <= 1);
    mproc_pool_counts c = counts();
    size_t done = c.done - p.done - (size_t)PEEK(&me->ran[6]), crashed = c.crashed - p.crashed;
    if (error == 0) CHECK(done == 3 && crashed == 0);
    else CHECK((crashed == 1 && (done == 1 || done == 2)) || (crashed == 2 && done == 1));
    CHECK_IS(c.failed, 0);
    CHECK_IS(c.respawned - p.respawned, w.stopped ? 0 : 1);
}

/* A worker that leaves after one task, and another comes. */
static void pool_last_check(void) {
    int result = 0, error = WITHIN(1.0 + SOON, mproc_future_get(w.future, &result, LONG));
    CHECK(error == 0 || (error == MPROC_ECRASHED && !w.finished && !w.stopped));
    if (error == 0) CHECK_IS(result, 25);
    else lost();
    CHECK_IS(mproc_future_free(w.future), 0);
    pool_works();
    EVENTUALLY(pool_idle());
    mproc_pool_counts c = counts();
    size_t tasks = 2 + (size_t)PEEK(&me->ran[6]);
    CHECK(PEEK(&me->ran[5]) == 1 || (error != 0 && PEEK(&me->ran[5]) == 0));
    CHECK_IS(c.crashed - p.crashed, error != 0);
    CHECK_IS(c.done - p.done + c.crashed - p.crashed, tasks);
    size_t idly = c.respawned - p.respawned - tasks; /* killed before it had the task */
    CHECK(idly == 0 || (idly == 1 && error == 0 && !w.finished && !w.stopped));
}

/* A worker that begins, from the end of its initializer on; a pool for each point. */
static int worker_initializer(void *arg) {
    char byte;
    while (read(((int *)arg)[0], &byte, 1) != 1) continue;
    return 0;
}
static void pool_begin_initialized(void) {
    CHECK(pipe(w.pipe) == 0);
    pool_begin_with((mproc_pool_options){.initializer = worker_initializer, .initarg = w.pipe});
    EVENTUALLY(pool_worker() != 0 && step_state(pool_worker()) == 'S');
    BUMP(&me->round);
    memset(me->ran, 0, sizeof me->ran);
}
static void pool_stimulus_initialized(void) { CHECK(write(w.pipe[1], "x", 1) == 1); }
static void pool_initialized_check(void) {
    pool_stimulus_initialized(); /* for the one in its place */
    pool_works();
    EVENTUALLY(pool_idle());
    mproc_pool_counts c = counts();
    CHECK_IS(c.done, 1 + PEEK(&me->ran[6]));
    CHECK_IS(c.crashed, 0);
    CHECK_IS(c.respawned, w.stopped ? 0 : 1);
    CHECK_IS(mproc_pool_free(p.pool), 0);
    p.pool = NULL;
    close(w.pipe[0]);
    close(w.pipe[1]);
}

static void pool_join(void) { must(mproc_pool_join(p.pool, MPROC_FOREVER) == 0); }

/* The supervisor, while it learns of a worker's death and replaces it; a pool for each point. */
static void supervisor_stimulus(void) {
    pid_t worker = pool_worker();
    CHECK(worker > 0);
    kill(worker, SIGKILL);
    EVENTUALLY(step_state(worker) == 'Z');
}
static void supervisor_stimulus_cancel(void) { /* what mproc_future_cancel does before it waits */
    POKE(&w.future->cancel, 1);
    mproc__supervisor_call(p.pool);
}
static void supervisor_stimulus_limit(void) { /* its task began long ago */
    POKE(&p.pool->worker[0].began[0], mproc__now() - 200 * MPROC__SECOND);
    mproc__supervisor_call(p.pool);
}
static void supervisor_stimulus_close(void) { CHECK_IS(mproc_pool_close(p.pool), 0); }
static void supervisor_stimulus_terminate(void) { /* what mproc_pool_terminate does before it waits */
    mproc__pool_doom(p.pool, MPROC_ECANCELED);
    mproc__supervisor_call(p.pool);
}
/* What becomes of the task that runs. */
static int supervisor_verdict(void) {
    if (op->stimulus == supervisor_stimulus_limit) return MPROC_ETIMEDOUT;
    return op->stimulus == supervisor_stimulus ? MPROC_ECRASHED : MPROC_ECANCELED;
}
static pid_t supervisor_pid(void) { return p.pool->supervisor; }
static void supervisor_setup(void) {
    pool_begin_with(
        (mproc_pool_options){.task_timeout = op->stimulus == supervisor_stimulus_limit ? 100 : 0});
    pool_setup();
    job first = job_of(1, false), second = job_of(2, true);
    CHECK((w.future = mproc_pool_apply_async(p.pool, task_gate, &first, JOB, 0)) != NULL);
    CHECK((w.future2 = mproc_pool_apply_async(p.pool, task, &second, JOB, sizeof(int))) != NULL);
    EVENTUALLY(PEEK(&me->ran[1]) == 1);
    EVENTUALLY(step_state(p.pool->supervisor) == 'S');
}
static void supervisor_resumed_check(void) { /* it has done its work, late */
    int result = 0;
    CHECK_IS(WITHIN(1.0 + SOON, mproc_future_get(w.future, NULL, LONG)), supervisor_verdict());
    CHECK_IS(TIMELY(mproc_future_get(w.future2, &result, LONG)), 0);
    CHECK_IS(result, 4);
    CHECK_IS(PEEK(&me->ran[2]), 1);
    CHECK_IS(mproc_future_free(w.future), 0);
    CHECK_IS(mproc_future_free(w.future2), 0);
    pool_works();
    EVENTUALLY(pool_idle());
    CHECK_IS(counts().respawned, 1);
    CHECK_IS(counts().timed_out, supervisor_verdict() == MPROC_ETIMEDOUT);
    CHECK_IS(mproc_pool_free(p.pool), 0);
    p.pool = NULL;
}
static void supervisor_check(void) {
    if (w.stopped) {
        supervisor_resumed_check();
        return;
    }
    int error = TIMELY(mproc_future_get(w.future, NULL, LONG));
    CHECK(error == MPROC_EBROKEN || error == supervisor_verdict());
    int result = 0;
    error = TIMELY(mproc_future_get(w.future2, &result, LONG));
    CHECK(error == 0 || error == MPROC_EBROKEN);
    if (error == 0) CHECK_IS(result, 4);
    CHECK(PEEK(&me->ran[2]) <= 1);
    job it = job_of(4, false);
    error = TIMELY(mproc_pool_submit(p.pool, task, &it, JOB, LONG));
    CHECK_IS(error, MPROC_EBROKEN);
    CHECK_IS(mproc_future_free(w.future), 0);
    CHECK_IS(mproc_future_free(w.future2), 0);
    EVENTUALLY(only_child_left());
    CHECK_IS(mproc_pool_free(p.pool), 0);
    p.pool = NULL;
}
/* The supervisor ends the pool and itself: closed, it lets the tasks end first; terminated, it does not. */
static void supervisor_ending_check(void) {
    bool closed = op->stimulus == supervisor_stimulus_close, well = w.finished || w.stopped;
    int should = closed ? 0 : MPROC_ECANCELED, result = 0;
    if (closed) POKE(&me->gate, 1);
    int error = WITHIN(1.0 + SOON, mproc_future_get(w.future, NULL, LONG));
    CHECK(error == should || (error == MPROC_EBROKEN && !well));
    error = TIMELY(mproc_future_get(w.future2, &result, LONG));
    CHECK(error == should || (error == MPROC_EBROKEN && !well));
    CHECK_IS(result, error == 0 ? 4 : 0);
    CHECK(PEEK(&me->ran[2]) <= (closed ? 1 : 0));
    CHECK_IS(TIMELY(mproc_pool_join(p.pool, LONG)), 0);
    EVENTUALLY(only_child_left());
    job it = job_of(4, false);
    error = mproc_pool_submit(p.pool, task, &it, JOB, 0);
    CHECK(error == (closed ? MPROC_ECLOSED : MPROC_ECANCELED) || (error == MPROC_EBROKEN && !well));
    CHECK_IS(mproc_future_free(w.future), 0);
    CHECK_IS(mproc_future_free(w.future2), 0);
    CHECK_IS(mproc_pool_free(p.pool), 0);
    p.pool = NULL;
}

/* A pool that the victim ends, one task running and one behind it. */
static void pool_setup_ending(void) {
    supervisor_setup();
    w.supervisor = p.pool->supervisor;
    if (op->victim == pool_join) CHECK_IS(mproc_pool_close(p.pool), 0);
}
static void pool_close(void) { must(mproc_pool_close(p.pool) == 0); }
static void pool_terminate(void) { must(mproc_pool_terminate(p.pool) == 0); }
static void pool_free(void) { must(mproc_pool_free(p.pool) == 0); }
static void pool_close_with_iter(void) { /* whose items are handed in now */
    pool_close();
    must(iter->given == ITEMS);
}
/* The pool is gone, and so are its processes. Its maker knows of them still if another process freed it. */
static void pool_forget(void) {
    p.pool = NULL;
    EVENTUALLY(only_child_left());
    pthread_mutex_lock(&mproc__self.lock);
    mproc__child *c = mproc__self.children;
    while (c != NULL && c->pid != w.supervisor) c = c->next;
    if (c != NULL) mproc__child_unlink(c);
    pthread_mutex_unlock(&mproc__self.lock);
}
static void pool_ending_check(void) {
    bool terminated = PEEK(&p.pool->why) != 0, gone = !mproc__is_pool(p.pool);
    int should = terminated ? MPROC_ECANCELED : 0, result = 0;
    if (w.finished)
        CHECK(op->victim == pool_free        ? gone
              : op->victim == pool_terminate ? terminated
                                             : PEEK(&p.pool->closed));
    if (gone) {
        CHECK(op->victim == pool_free);
        pool_forget();
        return;
    }
    if (!terminated) CHECK_IS(mproc_pool_close(p.pool), 0);
    POKE(&me->gate, !terminated);
    CHECK_IS(WITHIN(1.0 + SOON, mproc_future_get(w.future, NULL, LONG)), should);
    CHECK_IS(TIMELY(mproc_future_get(w.future2, &result, LONG)), should);
    CHECK_IS(PEEK(&me->ran[2]), !terminated);
    CHECK_IS(TIMELY(mproc_pool_join(p.pool, LONG)), 0);
    CHECK(PEEK(&me->ran[3]) <= ITEMS);
    if (w.finished && op->victim == pool_close_with_iter) CHECK_IS(PEEK(&me->ran[3]), ITEMS);
    CHECK_IS(mproc_future_free(w.future), 0);
    CHECK_IS(mproc_future_free(w.future2), 0);
    CHECK_IS(mproc_pool_free(p.pool), 0);
    pool_forget();
}

/* The same by the process that made the pool: with it, all of it goes. */
static void pool_make(void) {
    POKE(&me->gate, 0);
    POKE(&me->ran[1], 0);
    must((p.pool = mproc_pool_new(1)) != NULL);
    pool_run_gate();
    if (op->victim == pool_join) pool_close();
}

static void pool_new(void) {
    mproc_pool_options options = {.workers = 1, .backlog = 16};
    must(mproc_pool_new_with(&options) != NULL);
}
static void orphans_check(void) { EVENTUALLY(only_child_left()); }

/* ---- Parallel for: an index is run once, and only the one that the victim was at may be lost ---- */

static void loop_body_gate(size_t i, void *ctx) {
    (void)ctx;
    BUMP(&me->ran[i]);
    while (i == 1 && !PEEK(&me->gate)) nap(0.0002);
}
static void loop_setup(void) {
    memset(me->ran, 0, sizeof me->ran);
    POKE(&me->gate, 0);
}
static void loop_run(void) { must(mproc_parallel_for(3, 1, loop_body_gate, NULL) == 0); }
static void loop_check(void) { /* with the caller its processes end, though the gate is closed */
    EVENTUALLY(only_child_left());
    for (int i = 0; i < 3; i++) CHECK(PEEK(&me->ran[i]) <= 1);
    if (w.finished) CHECK(PEEK(&me->ran[0]) == 1 && PEEK(&me->ran[1]) == 1 && PEEK(&me->ran[2]) == 1);
}

static void loop_body_pipe(size_t i, void *ctx) {
    char byte;
    (void)ctx;
    BUMP(&me->ran[i]);
    POKE(&me->child, getpid());
    while (i != 1 && read(w.pipe[0], &byte, 1) != 1) continue;
}
static int loop_companion(void) { return mproc_parallel_for(4, 1, loop_body_pipe, NULL); }
static void loop_setup_companion(void) {
    loop_setup();
    POKE(&me->child, 0);
    CHECK(pipe(w.pipe) == 0);
    companion(loop_companion);
    EVENTUALLY(PEEK(&me->child) != 0 && step_state(PEEK(&me->child)) == 'S');
}
static pid_t loop_child(void) { return PEEK(&me->child); }
static void loop_go_on(void) { CHECK(write(w.pipe[1], "x", 1) == 1); }
static void loop_child_check(void) {
    int missing = 0;
    for (int i = 0; i < 3; i++) loop_go_on();
    CHECK_IS(companion_end(0), w.stopped ? 0 : MPROC_ECRASHED);
    for (int i = 0; i < 4; i++) {
        CHECK(PEEK(&me->ran[i]) <= 1);
        missing += PEEK(&me->ran[i]) == 0;
    }
    CHECK(missing <= (w.stopped ? 0 : 1));
    if (missing > 0) lost();
    close(w.pipe[0]);
    close(w.pipe[1]);
}

/* ---- Processes ---- */

static int child_once(void *arg) {
    (void)arg;
    BUMP(&me->ran[0]);
    return 0;
}
static int child_forever(void *arg) {
    (void)arg;
    BUMP(&me->ran[0]);
    for (;;) pause();
    return 0;
}
static void process_setup(void) { memset(me->ran, 0, sizeof me->ran); }
static void process_start(void) {
    static mproc_process child;
    child.target = child_once;
    must(mproc_process_start(&child) == 0);
}
static void daemon_start(void) {
    static mproc_process child;
    child.target = child_forever;
    child.daemon = true;
    must(mproc_process_start(&child) == 0);
}
static void process_exit(void) { mproc_exit(0); }
static void daemon_wait(void) { /* a child that runs */
    daemon_start();
    while (PEEK(&me->ran[0]) == 0) nap(0.0001);
}
static void process_check(void) {
    EVENTUALLY(only_child_left());
    CHECK(PEEK(&me->ran[0]) <= 1);
    if (w.finished && op->victim == process_start) CHECK_IS(PEEK(&me->ran[0]), 1);
}

static int child_gate(void *arg) {
    (void)arg;
    BUMP(&me->ran[0]);
    for (double end = step_clock() + LONG; !PEEK(&me->gate) && step_clock() < end;) nap(0.0002);
    return 7;
}
static mproc_process child[2]; /* the victim's */
static void gate_setup(void) {
    process_setup();
    POKE(&me->gate, 0);
}
static void gate_open_it(void) { POKE(&me->gate, 1); }
static void children_start(void) {
    for (int i = 0; i < 2; i++) {
        child[i].target = child_gate;
        must(mproc_process_start(&child[i]) == 0);
    }
    while (PEEK(&me->ran[0]) < 2) nap(0.0001);
}
static void children_end(void) {
    children_start();
    gate_open_it();
    while (mproc_process_is_alive(&child[0])) nap(0.0001);
}
static void process_join(void) {
    must(mproc_process_join(&child[0], MPROC_FOREVER) == 0 && child[0].exitcode == 7);
}
static void process_wait_any(void) {
    mproc_process *both[] = {&child[0], &child[1]};
    must(mproc_process_wait_any(both, 2, MPROC_FOREVER) >= 0);
}
static void process_terminate(void) {
    for (int i = 0; i < 2; i++) must(mproc_process_terminate(&child[i]) == 0);
}
static void process_kill(void) {
    for (int i = 0; i < 2; i++) must(mproc_process_kill(&child[i]) == 0);
}
static void process_close(void) { must(mproc_process_close(&child[0]) == 0); }
static void process_gate_check(void) { /* what the victim has not ended ends by itself */
    bool ended = w.finished && (op->victim == process_terminate || op->victim == process_kill);
    if (!ended) gate_open_it();
    EVENTUALLY(only_child_left());
}

static void forked(pid_t pid) { /* in either process */
    must(pid >= 0);
    if (pid > 0) return;
    child_once(NULL);
    mproc_exit(0);
}
static void process_fork(void) { forked(mproc_fork()); }
static void process_fork_detached(void) { forked(mproc_fork_detached()); }
static void process_fork_gate(void) {
    w.companion[0] = mproc_fork();
    must(w.companion[0] >= 0);
    if (w.companion[0] == 0) mproc_exit(child_gate(NULL));
}
static void process_wait(void) {
    int code;
    must(mproc_wait(w.companion[0], &code, MPROC_FOREVER) == 0 && code == 7);
}
static void process_fork_ended(void) { /* a zombie of its own */
    w.companion[0] = mproc_fork();
    must(w.companion[0] >= 0);
    if (w.companion[0] == 0) mproc_exit(0);
    while (step_state(w.companion[0]) != 'Z') nap(0.0001);
}
static void process_reap(void) { must(mproc_reap() == 1); }

static void last_call(void *ctx) { BUMP((int *)ctx); }
static void at_exit_ask(void) {
    must(mproc_at_exit(last_call, &me->ran[1], 1) == 0);
    must(mproc_at_exit(last_call, &me->ran[2], -1) == 0);
}
static void at_exit_leave(void) {
    at_exit_ask();
    mproc_exit(0);
}
static void at_exit_daemon(void) {
    at_exit_ask();
    daemon_wait();
}
static void at_exit_check(void) { /* each once at most, the one for later after the other */
    process_check();
    CHECK(PEEK(&me->ran[1]) <= 1 && PEEK(&me->ran[2]) <= PEEK(&me->ran[1]));
    if (w.finished) CHECK_IS(PEEK(&me->ran[2]), 1);
}

/* ---- Files ---- */

static size_t file_content(char *to, size_t room) {
    int fd = open(w.path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t n = read(fd, to, room - 1);
    close(fd);
    CHECK(n >= 0);
    to[n] = 0;
    return (size_t)n;
}
static void file_setup(void) {
    snprintf(w.folder, sizeof w.folder, "%s/mproc-kill-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(w.folder) != NULL);
    snprintf(w.path, sizeof w.path, "%s/file", w.folder);
    int fd = open(w.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "1", 1) == 1);
    close(fd);
    CHECK((w.file = mproc_file_open(w.path)) != NULL);
}
static void file_text(char *to, char what) {
    memset(to, what, op->size);
    to[op->size] = 0;
}
static void file_append(void) {
    static char text[20000];
    file_text(text, 'V');
    must(mproc_file_append(w.file, text, op->size) == 0);
}
static int file_edit(char **data, size_t *size, void *ctx) {
    (void)ctx;
    if (*size != 1) return 1;
    ++**data;
    return 0;
}
static void file_update(void) { must(mproc_file_update(w.file, file_edit, NULL) == 0); }
static void file_lock(void) { must(mproc_file_lock(w.file, MPROC_FOREVER) == 0); }
static void file_setup_held(void) {
    file_setup();
    CHECK_IS(mproc_file_lock(w.file, 0), 0);
    w.held = true;
}
static void file_let_go(void) {
    if (w.held) CHECK_IS(mproc_file_unlock(w.file), 0);
    w.held = false;
}
static void file_lock_shared(void) { must(mproc_file_lock_shared(w.file, MPROC_FOREVER) == 0); }
static void file_open(void) {
    mproc_file *file = mproc_file_open(w.path);
    must(file != NULL && mproc_file_lock(file, MPROC_FOREVER) == 0 && mproc_file_close(file) == 0);
}
static void file_unlock(void) { must(mproc_file_unlock(w.file) == 0); }
static int file_entries(void) {
    int n = 0;
    DIR *dir = opendir(w.folder);
    CHECK(dir != NULL);
    while (readdir(dir) != NULL) n++;
    closedir(dir);
    return n - 2;
}
static void file_check(void) {
    static char text[50000], mine[20000], should[50000];
    size_t n;
    bool there;
    file_let_go();
    CHECK_IS(TIMELY(mproc_file_lock(w.file, LONG)), 0);
    n = file_content(text, sizeof text);
    there = n > 1;
    if (op->victim == file_append) {
        file_text(mine, 'V');
        snprintf(should, sizeof should, "1%s", there ? mine : "");
        if (strcmp(text, should) != 0) flaw("of an append of %zu bytes %zu are there", op->size, n - 1);
        if (w.finished) CHECK(there);
        if (!there) lost();
        CHECK_IS(mproc_file_append(w.file, "end", 3), 0);
        strcat(should, "end");
        CHECK_IS(mproc_file_unlock(w.file), 0);
        CHECK_IS(file_content(text, sizeof text), strlen(should));
        CHECK(strcmp(text, should) == 0);
    } else if (op->victim == file_update) {
        CHECK(strcmp(text, "1") == 0 || strcmp(text, "2") == 0);
        if (w.finished) CHECK(strcmp(text, "2") == 0);
        char now = text[0];
        CHECK_IS(mproc_file_update(w.file, file_edit, NULL), 0);
        CHECK_IS(mproc_file_unlock(w.file), 0);
        CHECK_IS(file_content(text, sizeof text), 1);
        CHECK_IS(text[0], now + 1);
    } else {
        CHECK_IS(mproc_file_unlock(w.file), 0);
    }
    CHECK_IS(file_entries(), 1);
    CHECK_IS(mproc_file_close(w.file), 0);
    unlink(w.path);
    rmdir(w.folder);
    w.folder[0] = 0;
}

/* ---- The operations ---- */

/* First what every operation has, then what this one has besides. */
#define CALL(name_, setup_, victim_, ...) \
    { .name = name_, .setup = setup_, .victim = victim_, .check = __VA_ARGS__ }
#define ATTACH(name_, setup_, attach_, stimulus_, ...) \
    { .name = name_, .setup = setup_, .attach = attach_, .stimulus = stimulus_, .check = __VA_ARGS__ }
#define POOL .begin = pool_begin, .end = pool_end, .spare = SIZE_MAX

static const operation operations[] = {
    CALL("lock acquire", lock_setup, lock_acquire, lock_check),
    CALL("lock release", lock_setup, lock_release, lock_check, .before = lock_acquire),
    CALL("lock release, waiter", lock_setup, lock_release, lock_check, .before = lock_acquire,
         .meanwhile = lock_meanwhile),
    CALL("lock acquire, waiting", lock_setup_held, lock_acquire, lock_check, .unblock = lock_let_go),
    CALL("lock new", nothing, lock_new, nothing, .spare = 128),
    CALL("lock free", lock_setup, object_end, object_end_check, .spare = 128),
    CALL("lock acquire, left behind", lock_setup_left, lock_inherit, lock_left_check),
    CALL("lock owner_died", lock_setup_left, lock_ask, lock_left_check, .before = lock_inherit),
    CALL("lock release, inherited", lock_setup_left, lock_release, lock_check, .before = lock_inherit),
    CALL("lock refused, left behind", lock_setup_left_condition, lock_refuse, lock_refuse_check),
    CALL("rlock acquire twice", rlock_setup, rlock_acquire_twice, rlock_check),
    CALL("rlock release twice", rlock_setup, rlock_release_twice, rlock_check, .before = rlock_acquire_twice),
    CALL("rlock acquire, waiting", rlock_setup_held, rlock_acquire, rlock_check, .unblock = rlock_let_go),

    CALL("rlock new", nothing, rlock_new, nothing, .spare = 128),
    CALL("semaphore new", nothing, semaphore_new, nothing, .spare = 128),
    CALL("event new", nothing, event_new, nothing, .spare = 128),
    CALL("condition new", nothing, condition_new, nothing, .spare = 256),
    CALL("barrier new", nothing, barrier_new, nothing, .spare = 256),
    CALL("ring new", nothing, ring_new, nothing, .most = 4, .spare = 2048),
    CALL("pipe new", nothing, pipe_new, nothing, .spare = 4096),
    CALL("pipe new, duplex", nothing, pipe_new_duplex, nothing, .spare = 4096),
    CALL("queue new, no bound", nothing, queue_new, nothing, .spare = 2048),
    CALL("rlock free", rlock_setup, object_end, object_end_check, .spare = 128),
    CALL("semaphore free", semaphore_setup, object_end, object_end_check, .spare = 128),
    CALL("event free", event_setup, object_end, object_end_check, .spare = 128),
    CALL("condition free", condition_setup, object_end, object_end_check, .spare = 256),
    CALL("barrier free", barrier_setup, object_end, object_end_check, .most = 2, .spare = 256),
    CALL("ring free", ring_setup, object_end, object_end_check, .size = SMALL, .most = 4, .there = 2,
         .spare = 2048),

    CALL("value new", blocks_setup, value_new, blocks_check, .spare = 256),
    CALL("array new", blocks_setup, array_new, blocks_check, .size = 300, .spare = 600),
    CALL("array from", blocks_setup, array_from, blocks_check, .spare = 600),
    CALL("shm new, at the end", blocks_setup, shm_new, blocks_check, .size = 20000, .spare = 20400),
    CALL("free, used neighbours", blocks_setup, shm_free, blocks_check, .there = 9, .spare = 256),
    CALL("free, free before", blocks_setup, shm_free, blocks_check, .there = 2, .spare = 256),
    CALL("free, free behind", blocks_setup, shm_free, blocks_check, .there = 3, .spare = 600),
    CALL("free, free both sides", blocks_setup_pair, shm_free, blocks_check, .there = 2, .spare = 256),

    CALL("queue put", queue_setup, queue_put, queue_check, .size = SMALL, .there = 2),
    CALL("queue put, large", queue_setup, queue_put, queue_check, .size = LARGE, .there = 2, .spare = 600),
    CALL("queue put, bounded", queue_setup, queue_put, queue_check, .size = SMALL, .most = 4, .there = 2),
    CALL("queue put, bounded, large", queue_setup, queue_put, queue_check, .size = LARGE, .most = 4,
         .there = 2, .spare = 600),
    CALL("queue put, bounded, full", queue_setup_full, queue_put, queue_check, .unblock = queue_make_room,
         .size = SMALL, .most = 4),
    CALL("queue put, full", queue_setup_full, queue_put, queue_check, .unblock = queue_make_room,
         .size = SMALL),
    CALL("queue put, not opened yet", queue_setup, queue_put, queue_check, .before = queue_unopened,
         .size = SMALL, .there = 2),
    CALL("queue put_many", queue_setup, queue_put_many, queue_check, .size = SMALL, .there = 2),
    CALL("queue put_many, large", queue_setup, queue_put_many, queue_check, .size = LARGE, .there = 2,
         .spare = 600),
    CALL("queue put_many, bounded", queue_setup, queue_put_many, queue_check, .size = SMALL, .most = 8,
         .there = 2),
    CALL("queue get", queue_setup, queue_get, queue_check, .size = SMALL, .there = 3, .hands = 1),
    CALL("queue get, large", queue_setup, queue_get, queue_check, .size = LARGE, .there = 3, .hands = 1,
         .spare = 600),
    CALL("queue get, exact buffer", queue_setup, queue_get_exact, queue_check, .size = LARGE, .there = 3,
         .hands = 1, .spare = 600),
    CALL("queue get, bounded", queue_setup, queue_get, queue_check, .size = SMALL, .most = 4, .there = 3,
         .hands = 1),
    CALL("queue get, waiting", queue_setup, queue_get, queue_check, .unblock = queue_feed, .size = SMALL,
         .hands = 1),
    CALL("queue get, putter waits", queue_setup_putter, queue_get_freed, queue_get_freed_check, .size = SMALL,
         .most = 3),
    CALL("queue get, too small", queue_setup, queue_get_short, queue_check, .size = SMALL, .there = 2,
         .hands = 1, .spare = 600),
    CALL("queue get, too small, large", queue_setup, queue_get_short, queue_check, .size = LARGE, .there = 2,
         .hands = 1, .spare = 600),
    CALL("queue get, too small, one", queue_setup, queue_get_short, queue_check, .size = SMALL, .there = 1,
         .hands = 1, .spare = 600),
    CALL("queue get, put back", queue_setup, queue_get, queue_check, .before = queue_get_short, .size = SMALL,
         .there = 2, .hands = 1, .spare = 600),
    CALL("queue get, put back, one", queue_setup, queue_get, queue_check, .before = queue_get_short,
         .size = SMALL, .there = 1, .hands = 1, .spare = 600),
    CALL("queue get, not opened yet", queue_setup, queue_get, queue_check, .before = queue_unopened,
         .size = SMALL, .there = 3, .hands = 1),
    CALL("queue take", queue_setup, queue_take, queue_check, .size = SMALL, .there = 3, .hands = 1,
         .spare = 256),
    CALL("queue take, large", queue_setup, queue_take, queue_check, .size = LARGE, .there = 3, .hands = 1,
         .spare = 600),
    CALL("queue get_many", queue_setup, queue_get_many, queue_check, .size = SMALL, .there = 5, .hands = 5),
    CALL("queue get_many, large", queue_setup, queue_get_many, queue_check, .size = LARGE, .there = 5,
         .hands = 5, .spare = 600),
    CALL("queue put_many, full", queue_setup_full, queue_put_many, queue_check, .unblock = queue_drain,
         .size = SMALL, .most = 8),
    CALL("queue take, waiting", queue_setup, queue_take, queue_check, .unblock = queue_feed, .size = SMALL,
         .hands = 1, .spare = 256),
    CALL("queue get_many, waiting", queue_setup, queue_get_many, queue_check, .unblock = queue_feed,
         .size = SMALL, .hands = 1),
    CALL("queue close", queue_setup, queue_close, queue_close_check, .size = SMALL, .there = 2),
    CALL("queue close, getter waits", queue_setup_getter, queue_close, queue_close_check, .size = SMALL),
    CALL("queue close, putter waits", queue_setup_putter, queue_close, queue_close_check, .size = SMALL),
    CALL("queue get, closed", queue_setup_closed, queue_get_closed, queue_get_closed_check, .size = SMALL),
    CALL("queue task_done", queue_setup, queue_task_done, queue_check, .before = queue_get, .size = SMALL,
         .there = 2),
    CALL("queue task_done, joiner", queue_setup_joiner, queue_task_done, queue_joiner_check, .size = SMALL,
         .there = 1),
    CALL("queue join, waiting", queue_setup_got, queue_join, queue_joined_check, .unblock = queue_mark_done,
         .size = SMALL, .there = 1),
    CALL("queue new", nothing, queue_new, nothing, .most = 4, .spare = 2048),
    CALL("queue free", queue_setup, object_end, object_end_check, .size = SMALL, .there = 2, .spare = 2048),
    CALL("queue free, large", queue_setup, object_end, object_end_check, .size = LARGE, .there = 2,
         .spare = 2048),

    CALL("ring put", ring_setup, ring_put, ring_check, .size = SMALL, .most = 8, .there = 2),
    CALL("ring put, large", ring_setup, ring_put, ring_check, .size = LARGE, .most = 8, .there = 2),
    CALL("ring put, full", ring_setup, ring_put, ring_check, .unblock = ring_make_room, .size = SMALL,
         .most = 4, .there = 4),
    CALL("ring put, getter waits", ring_setup_getter, ring_put, ring_fed_check, .size = SMALL, .most = 4),
    CALL("ring put_many", ring_setup, ring_put_many, ring_check, .size = SMALL, .most = 8, .there = 2),
    CALL("ring get", ring_setup, ring_get, ring_check, .size = SMALL, .most = 8, .there = 3, .hands = 1),
    CALL("ring get, large", ring_setup, ring_get, ring_check, .size = LARGE, .most = 8, .there = 3,
         .hands = 1),
    CALL("ring get, waiting", ring_setup, ring_get, ring_check, .unblock = ring_feed, .size = SMALL,
         .most = 8, .hands = 1),
    CALL("ring get_many", ring_setup, ring_get_many, ring_check, .size = SMALL, .most = 8, .there = 6,
         .hands = 5),
    CALL("ring put_many, full", ring_setup, ring_put_many, ring_check, .unblock = ring_drain, .size = SMALL,
         .most = 8, .there = 8),
    CALL("ring get_many, waiting", ring_setup, ring_get_many, ring_check, .unblock = ring_feed, .size = SMALL,
         .most = 8, .hands = 1),
    CALL("ring close", ring_setup, ring_close, ring_check, .size = SMALL, .most = 8, .there = 2),
    CALL("ring close, getter waits", ring_setup_getter, ring_close, ring_check, .size = SMALL, .most = 8),

    CALL("semaphore acquire", semaphore_setup, semaphore_acquire, semaphore_acquire_check, .there = 2),
    CALL("semaphore acquire, waiting", semaphore_setup, semaphore_acquire, semaphore_acquire_check,
         .unblock = semaphore_release),
    CALL("semaphore acquire, two wait", semaphore_setup, semaphore_acquire, semaphore_waiters_check,
         .unblock = semaphore_unblock_companion),
    CALL("semaphore release", semaphore_setup_companion, semaphore_release, semaphore_release_check),
    CALL("semaphore release, bounded", semaphore_setup_bounded, semaphore_release, semaphore_bounded_check,
         .before = semaphore_acquire),
    CALL("event set", event_setup_companion, event_set, event_check),
    CALL("event clear", event_setup_set, event_clear, event_check),
    CALL("event wait", event_setup, event_wait, event_check, .unblock = event_set),
    CALL("condition wait", condition_setup, condition_wait, condition_wait_check, .before = condition_acquire,
         .unblock = condition_unblock, .spare = 128),
    CALL("condition wait, not notified", condition_setup, condition_wait_briefly, condition_wait_check,
         .before = condition_acquire, .spare = 128),
    CALL("condition wait, caller's lock", condition_setup_lock, condition_wait, condition_lock_check,
         .before = condition_acquire, .unblock = condition_unblock, .spare = 128),
    CALL("condition wait_for", condition_setup_lock, condition_wait_for, condition_lock_check,
         .before = condition_acquire, .unblock = condition_unblock_for, .spare = 128),
    CALL("condition free, left behind", condition_setup_left, condition_end, condition_end_check,
         .spare = 256),
    CALL("condition notify", condition_setup_companion, condition_notify, condition_notify_check,
         .before = condition_acquire, .spare = 128),
    CALL("condition notify_all", condition_setup_companions, condition_notify_all, condition_notify_check,
         .before = condition_acquire, .spare = 128),
    CALL("barrier wait, first", barrier_setup, barrier_wait, barrier_first_check, .unblock = barrier_join_in,
         .most = 2),
    CALL("barrier wait, last", barrier_setup_companion, barrier_wait, barrier_last_check, .most = 2),

    CALL("barrier wait, middle", barrier_setup_companion, barrier_wait, barrier_middle_check, .sleeps = true,
         .most = 3),

    CALL("barrier abort", barrier_setup_companion, barrier_abort, barrier_broken_check, .most = 2),
    CALL("barrier reset", barrier_setup_companion, barrier_reset, barrier_broken_check, .most = 2),

    CALL("conn send", conn_setup, conn_send, conn_check, .size = SMALL, .there = 2, .spare = SIZE_MAX),
    CALL("conn send, large", conn_setup, conn_send, conn_check, .size = LARGE, .there = 2, .spare = SIZE_MAX),
    CALL("conn send, full", conn_setup_full, conn_send, conn_check, .unblock = conn_make_room, .size = SMALL,
         .spare = SIZE_MAX),
    CALL("conn close", conn_setup, conn_close, conn_check, .size = SMALL, .there = 2, .spare = SIZE_MAX),
    CALL("conn recv", conn_setup, conn_recv, conn_check, .size = SMALL, .there = 2, .hands = 1,
         .spare = SIZE_MAX),
    CALL("conn recv, large", conn_setup, conn_recv, conn_check, .size = LARGE, .there = 2, .hands = 1,
         .spare = SIZE_MAX),
    CALL("conn recv, waiting", conn_setup, conn_recv, conn_check, .unblock = conn_feed, .size = SMALL,
         .hands = 1, .spare = SIZE_MAX),

    CALL("pool submit", pool_setup, pool_submit, pool_check, POOL, .before = nothing),
    CALL("pool submit, large", pool_setup, pool_submit_large, pool_check, POOL, .before = nothing),
    CALL("pool submit, full", pool_setup_full, pool_submit, pool_check, .before = nothing,
         .unblock = pool_open_gate, .begin = pool_begin_small, .end = pool_end, .spare = SIZE_MAX),
    CALL("pool map", pool_setup, pool_map, pool_check, POOL, .most = MANY),
    CALL("pool apply", pool_setup, pool_apply, pool_check, POOL, .before = nothing),
    CALL("pool apply, waiting", pool_setup_gate, pool_apply, pool_check, POOL, .before = nothing,
         .unblock = pool_open_gate),
    CALL("pool imap", pool_setup, pool_imap, pool_check, POOL, .before = nothing, .most = ITEMS, .there = 4),
    CALL("pool imap_unordered", pool_setup, pool_imap_unordered, pool_check, POOL, .before = nothing,
         .most = ITEMS, .there = 4),
    CALL("iter next", pool_setup, iter_next, pool_check, POOL, .before = pool_imap, .most = ITEMS),
    CALL("iter next, waiting", pool_setup_gate, iter_next, pool_check, POOL, .before = pool_imap,
         .unblock = pool_open_gate, .most = ITEMS),
    CALL("iter next, unordered, waiting", pool_setup_gate, iter_next, pool_check, POOL,
         .before = pool_imap_unordered, .unblock = pool_open_gate, .most = ITEMS),
    CALL("iter free", pool_setup_gate, iter_free, pool_check, POOL, .before = pool_imap, .most = ITEMS),
    CALL("pool apply_async", pool_setup, pool_apply_async, pool_check, POOL, .before = nothing),
    CALL("future get, done", pool_setup, pool_get, pool_check, POOL, .before = pool_await),
    CALL("future get, waiting", pool_setup_gate, pool_get, pool_check, POOL, .before = pool_apply_async,
         .unblock = pool_open_gate),
    CALL("future wait, waiting", pool_setup_gate, pool_wait, pool_check, POOL, .before = pool_apply_async,
         .unblock = pool_open_gate),
    CALL("future on_done", pool_setup, pool_on_done, pool_check, POOL, .before = pool_await),
    CALL("future get, with a call", pool_setup_gate, pool_get_with_call, pool_check, POOL,
         .before = pool_ask_for_call, .unblock = pool_open_gate),
    CALL("future free", pool_setup, pool_future_free, pool_check, POOL, .before = pool_await),
    CALL("future free, not done", pool_setup_gate, pool_future_free, pool_check, POOL,
         .before = pool_apply_async),
    CALL("future cancel, not begun", pool_setup_gate, pool_cancel, pool_cancel_check, POOL,
         .before = pool_apply_async),
    CALL("future cancel, running", pool_setup, pool_cancel, pool_cancel_running_check, POOL,
         .before = pool_run_gate),
    ATTACH("pool worker", pool_setup, pool_worker, pool_stimulus, pool_worker_check, POOL),
    ATTACH("pool worker, submitted", pool_setup, pool_worker, pool_stimulus_submit, pool_worker_check, POOL),
    ATTACH("pool worker, its start", pool_begin_initialized, pool_worker, pool_stimulus_initialized,
           pool_initialized_check, .spare = SIZE_MAX),
    ATTACH("pool worker, watched", pool_setup, pool_worker, pool_stimulus_watched, pool_watched_check, POOL),
    ATTACH("pool worker, many items", pool_setup, pool_worker, pool_stimulus_chunk, pool_chunk_check, POOL),
    ATTACH("pool worker, task in a task", pool_setup, pool_worker, pool_stimulus_nested, pool_nested_check,
           POOL),
    ATTACH("pool worker, its last task", pool_setup, pool_worker, pool_stimulus, pool_last_check,
           .begin = pool_begin_one_task, .end = pool_end, .leaves = true, .spare = SIZE_MAX),
    ATTACH("pool worker, handing back", pool_setup, pool_worker, pool_stimulus_chunk, pool_handed_back_check,
           .begin = pool_begin_one_task, .end = pool_end, .leaves = true, .spare = SIZE_MAX),
    ATTACH("pool supervisor", supervisor_setup, supervisor_pid, supervisor_stimulus, supervisor_check,
           .spare = SIZE_MAX),
    ATTACH("pool supervisor, cancel", supervisor_setup, supervisor_pid, supervisor_stimulus_cancel,
           supervisor_check, .spare = SIZE_MAX),
    ATTACH("pool supervisor, limit", supervisor_setup, supervisor_pid, supervisor_stimulus_limit,
           supervisor_check, .spare = SIZE_MAX),
    ATTACH("pool supervisor, close", supervisor_setup, supervisor_pid, supervisor_stimulus_close,
           supervisor_ending_check, .unblock = pool_open_gate, .leaves = true, .ends = true,
           .spare = SIZE_MAX),
    ATTACH("pool supervisor, terminate", supervisor_setup, supervisor_pid, supervisor_stimulus_terminate,
           supervisor_ending_check, .leaves = true, .ends = true, .spare = SIZE_MAX),
    CALL("pool close", pool_setup_ending, pool_close, pool_ending_check, .ends = true, .spare = SIZE_MAX),
    CALL("pool close, iterator", pool_setup_ending, pool_close_with_iter, pool_ending_check,
         .before = pool_imap, .ends = true, .spare = SIZE_MAX),
    CALL("pool join", pool_setup_ending, pool_join, pool_ending_check, .unblock = pool_open_gate,
         .ends = true, .spare = SIZE_MAX),
    CALL("pool terminate", pool_setup_ending, pool_terminate, pool_ending_check, .ends = true,
         .spare = SIZE_MAX),
    CALL("pool free", pool_setup_ending, pool_free, pool_ending_check, .ends = true, .spare = SIZE_MAX),
    CALL("pool join, its maker", nothing, pool_join, orphans_check, .before = pool_make,
         .unblock = pool_open_gate, .spare = SIZE_MAX),
    CALL("pool terminate, its maker", nothing, pool_terminate, orphans_check, .before = pool_make,
         .spare = SIZE_MAX),
    CALL("pool free, its maker", nothing, pool_free, orphans_check, .before = pool_make, .spare = SIZE_MAX),
    CALL("pool new", nothing, pool_new, orphans_check, .spare = SIZE_MAX),

    CALL("parallel_for", loop_setup, loop_run, loop_check, .unblock = gate_open_it, .spare = 128),
    ATTACH("parallel_for, a child", loop_setup_companion, loop_child, loop_go_on, loop_child_check),

    CALL("file append", file_setup, file_append, file_check, .size = 100),
    CALL("file append, long", file_setup, file_append, file_check, .size = 9000),
    CALL("file update", file_setup, file_update, file_check),
    CALL("file append, waiting", file_setup_held, file_append, file_check, .unblock = file_let_go,
         .size = 100),
    CALL("file lock, waiting", file_setup_held, file_lock, file_check, .unblock = file_let_go),
    CALL("file lock_shared", file_setup, file_lock_shared, file_check),
    CALL("file lock_shared, waiting", file_setup_held, file_lock_shared, file_check, .unblock = file_let_go),
    CALL("file open, lock, close", file_setup, file_open, file_check),
    CALL("file lock", file_setup, file_lock, file_check),
    CALL("file unlock", file_setup, file_unlock, file_check, .before = file_lock),

    CALL("process start", process_setup, process_start, process_check),
    CALL("process start, daemon", process_setup, daemon_start, process_check),
    CALL("process exit", process_setup, process_exit, process_check, .before = daemon_wait),
    CALL("process join", gate_setup, process_join, process_gate_check, .before = children_start,
         .unblock = gate_open_it),
    CALL("process wait_any", gate_setup, process_wait_any, process_gate_check, .before = children_start,
         .unblock = gate_open_it),
    CALL("process terminate", gate_setup, process_terminate, process_gate_check, .before = children_start),
    CALL("process kill", gate_setup, process_kill, process_gate_check, .before = children_start),
    CALL("process close", gate_setup, process_close, process_gate_check, .before = children_end),
    CALL("fork", process_setup, process_fork, process_check),
    CALL("fork_detached", process_setup, process_fork_detached, process_check, .spare = 64),
    CALL("wait", gate_setup, process_wait, process_gate_check, .before = process_fork_gate,
         .unblock = gate_open_it),
    CALL("reap", gate_setup, process_reap, process_gate_check, .before = process_fork_ended),
    CALL("process exit, with children", gate_setup, process_exit, process_gate_check,
         .before = children_start, .unblock = gate_open_it),
    CALL("process exit, with a pool", nothing, process_exit, orphans_check, .before = pool_make,
         .spare = SIZE_MAX),
    CALL("at_exit", process_setup, at_exit_leave, at_exit_check),
    CALL("process exit, with calls", process_setup, process_exit, at_exit_check, .before = at_exit_daemon),
};

/* ---- Leading a victim to its point ---- */

static tally *score(void) { return &board->tally[me->op]; }

/* Children of this process that nobody here knows are orphans of a victim: counts them, collects the dead. */
static int orphans(void) {
    char path[64], text[4096];
    int n = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) close(fd);
    text[got > 0 ? got : 0] = 0;
    for (char *at = text, *next; *at != 0; at = next) {
        pid_t pid = (pid_t)strtol(at, &next, 10);
        if (next == at) break;
        bool known = pid == step.pid || pid == w.carrier || (p.pool != NULL && pid == p.pool->supervisor);
        for (int i = 0; i < w.companions; i++) known = known || pid == w.companion[i];
        if (known || waitpid(pid, NULL, WNOHANG) == pid) continue;
        n++;
    }
    return n;
}
static bool only_child_left(void) { return orphans() == 0; }

/* After a flaw: nothing of this point shall be left. */
static void clear_up(void) {
    if (step.pid > 0) kill(step.pid, SIGKILL);
    if (w.carrier > 0) kill(w.carrier, SIGKILL);
    for (int i = 0; i < w.companions; i++)
        if (w.companion[i] > 0) kill(w.companion[i], SIGKILL);
    if (w.folder[0] != 0) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf '%s'", w.folder);
        if (system(command) != 0) return;
    }
}

/* The seats of the dead are free again, so that every victim takes the same path to its own. */
static void clear_seats(void) {
    for (uint32_t i = 0; i < mproc__shared->seats_used; i++) {
        mproc__seat *seat = &mproc__shared->seat[i];
        if (seat->who == 0) continue;
        int error = mproc__mutex_lock(&seat->taken, 0);
        if (error == -EOWNERDEAD) mproc__mutex_repaired(&seat->taken);
        if (error == 0 || error == -EOWNERDEAD) mproc__mutex_unlock(&seat->taken);
    }
}

/* Fresh objects, and a victim that stands at the entry. */
static void world_begin(void) {
    memset(&w, 0, sizeof w);
    me->alive = patience();
    me->checking = false;
    step.pid = 0;
    clear_seats();
    if (op->spare != SIZE_MAX) w.used = arena_used();
    op->setup();
    for (int i = 0; i < MANY && op->size != 0 && op->size <= ROOM; i++)
        message_make(w.data + (size_t)i * op->size, op->size, VICTIMS + i);
    if (op->attach != NULL) {
        if (!step_attach(op->attach())) flaw("cannot trace: %s", strerror(errno));
        op->stimulus();
        return;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) flaw("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(1);
        if (op->before != NULL) op->before();
        STEP_MARK();
        op->victim();
        if (!me->stops) STEP_MARK();
        _exit(0);
    }
    if (!step_begin(pid)) flaw("the victim did not begin");
    if (op->meanwhile != NULL) op->meanwhile();
}

/* The victim sleeps: helps it on, or waits for what it waits for. False: this is the end of its operation. */
static bool world_unblock(double since) {
    if ((op->attach != NULL && !op->leaves) || op->sleeps) return false;
    if (op->unblock != NULL && !w.unblocked) {
        w.unblocked = true;
        op->unblock();
    }
    if (patience() - since > 5) flaw("the victim hangs");
    me->alive = patience();
    return true;
}

/* What is left of the point once the victim is through. */
static void world_check(void) {
    me->alive = patience();
    me->checking = true;
    op->check();
    if (step.pid > 0) waitpid(step.pid, NULL, __WALL | WNOHANG);
    step.pid = 0;
    orphans();
    if (op->spare != SIZE_MAX) {
        size_t used = arena_used();
        if (used > w.used) lost(); /* less: a queue found what was lost with a former one at its address */
        if (used > w.used + op->spare) flaw("%zu bytes of shared memory are lost", used - w.used);
    }
    arena_works();
    me->checking = false;
}

/* Kills the victim where it stands and lets the survivor go on. */
static void world_end(bool finished) {
    siginfo_t info;
    w.finished = finished;
    me->at = step.at;
    bool late = op->attach == NULL && me->k / 2 % 2 == 1; /* it stays a zombie meanwhile */
    kill(step.pid, SIGKILL);
    memset(&info, 0, sizeof info);
    if (late) waitid(P_PID, (id_t)step.pid, &info, WEXITED | WNOWAIT);
    else waitpid(step.pid, NULL, __WALL);
    BUMP(&score()->kills);
    world_check();
}

/* ---- A victim that is stopped ---- */

/* Stops the traced victim by SIGSTOP and lets go of it. */
static void stop_victim(void) {
    int status;
    bool slept = step_state(step.pid) != 't'; /* so it is not stopped by its tracer yet */
    kill(step.pid, SIGSTOP);
    if (slept) waitpid(step.pid, &status, __WALL);
#if STEP_BREAKPOINTS
    step_break(0, false);
#endif
    if (ptrace(PTRACE_DETACH, step.pid, NULL, (void *)(intptr_t)(slept ? SIGSTOP : 0)) != 0)
        flaw("cannot let go of the victim: %s", strerror(errno));
    EVENTUALLY(step_state(step.pid) == 'T');
}

#define A_MOMENT 0.003

/* Nobody is told that a holder died who is only stopped. */
static bool in_peace(int error) {
    bool frees = op->victim == object_end || op->victim == condition_end;
    return error == 0 || error == MPROC_ETIMEDOUT || (error == MPROC_EINVAL && frees);
}

static void carry_locks(void) {
    int error = w.lock != NULL ? mproc_lock_acquire(w.lock, A_MOMENT) : MPROC_ETIMEDOUT;
    bool left = op->setup == lock_setup_left || op->setup == lock_setup_left_condition ||
                op->setup == condition_setup_left;
    CHECK(in_peace(error) || (left && error == MPROC_EOWNERDEAD));
    if (error == MPROC_EOWNERDEAD) POKE(&me->told, 1);
    if (error != MPROC_ETIMEDOUT && w.lock != NULL && error != MPROC_EINVAL)
        CHECK_IS(mproc_lock_release(w.lock), 0);
    error = w.rlock != NULL ? mproc_rlock_acquire(w.rlock, A_MOMENT) : MPROC_ETIMEDOUT;
    CHECK(in_peace(error));
    if (error == 0) CHECK_IS(mproc_rlock_release(w.rlock), 0);
    error = w.semaphore != NULL ? mproc_semaphore_acquire(w.semaphore, A_MOMENT) : MPROC_ETIMEDOUT;
    CHECK(in_peace(error));
    if (error == 0) CHECK_IS(mproc_semaphore_release(w.semaphore), 0);
    error = w.condition != NULL ? mproc_condition_acquire(w.condition, A_MOMENT) : MPROC_ETIMEDOUT;
    CHECK(in_peace(error));
    if (error == 0) CHECK_IS(mproc_condition_release(w.condition), 0);
    if (w.event != NULL) CHECK(in_peace(mproc_event_wait(w.event, A_MOMENT)));
}

/* Puts message 800 and gets some. */
static void carry_message(int (*put)(int id), int (*get)(void)) {
    int error = put(800);
    CHECK(in_peace(error) || error == MPROC_ECLOSED);
    if (error == 0) POKE(&me->put, 800);
    bool puts = op->victim == queue_put || op->victim == queue_put_many || op->victim == ring_put ||
                op->victim == ring_put_many || op->victim == conn_send;
    for (int i = 0; i < (puts ? 3 : 1); i++) { /* as far as what the victim may be putting */
        error = get();
        CHECK(error > 0 || error == MPROC_ETIMEDOUT || error == MPROC_ECLOSED);
        if (error <= 0) return;
        POKE(&me->got[i], error);
    }
}
static int carry_queue_get(void) {
    int id = queue_get_one(A_MOMENT);
    if (id > 0) CHECK_IS(mproc_queue_task_done(w.queue), 0);
    return id;
}
static int carry_conn_send(int id) {
    char data[ROOM];
    message_make(data, op->size, id);
    return mproc_conn_send(w.ends[1], data, op->size, A_MOMENT);
}
static int carry_conn_recv(void) {
    char data[ROOM];
    ssize_t n = mproc_conn_recv(w.ends[0], data, sizeof data, A_MOMENT);
    return n < 0 ? (int)n : message_read(data, (size_t)n);
}

static void carry_pool(void) {
    job it = job_of(6, true);
    int result = 0;
    if (op->setup == pool_setup_full) {
        it.wanted = 0;
        CHECK(in_peace(mproc_pool_submit(p.pool, task, &it, JOB, A_MOMENT)));
        return;
    }
    mproc_future *f = mproc_pool_apply_async(p.pool, task, &it, JOB, sizeof result);
    if (f == NULL && op->ends) return;
    CHECK(f != NULL);
    int error = mproc_future_get(f, &result, A_MOMENT);
    CHECK(in_peace(error) || (op->ends && error == MPROC_ECANCELED));
    if (error == 0) CHECK_IS(result, 36);
    CHECK_IS(mproc_future_free(f), 0);
}

/* In a process of its own: uses what the victim uses. */
static int carry_on(void) {
    carry_locks();
    if (w.companions == 0 && (op->check == queue_check || op->check == queue_close_check))
        carry_message(queue_put_one, carry_queue_get);
    if (w.companions == 0 && op->check == ring_check) carry_message(ring_put_one, ring_get_one);
    if (op->check == conn_check) carry_message(carry_conn_send, carry_conn_recv);
    if (p.pool != NULL && op->victim != pool_free) carry_pool(); /* nobody may use what another frees */
    if (w.file != NULL) {
        int error = mproc_file_lock(w.file, A_MOMENT);
        CHECK(in_peace(error));
        if (error == 0) CHECK_IS(mproc_file_unlock(w.file), 0);
    }
    arena_works();
    return 0;
}

static void carrier_begin(void) {
    me->put = 0;
    memset(me->got, 0, sizeof me->got);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) flaw("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(0);
        _exit(carry_on());
    }
    w.carrier = pid;
}
static bool carrier_ended(void) {
    int status;
    if (w.carrier == 0) return true;
    if (waitpid(w.carrier, &status, WNOHANG) != w.carrier) return false;
    w.carrier = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == FLAW) {
        clear_up();
        _exit(FLAW);
    }
    if (status != 0) flaw("who carried on left with status %#x", (unsigned)status);
    return true;
}

/* Takes what it put and got into account. */
static void carrier_settle(void) {
    int most = (int)op->hands + (op->victim == queue_task_done);
    if (PEEK(&me->put) != 0) w.ids[w.n++] = PEEK(&me->put);
    for (int i = 0; i < 3 && PEEK(&me->got[i]) != 0; i++) {
        int at = 0, got = PEEK(&me->got[i]);
        while (at < w.n && w.ids[at] != got) at++;
        if (at == w.n && got == VICTIMS + w.early && (w.n == 0 || w.ids[0] == 800)) {
            w.early++;
            continue;
        }
        if (at == w.n || at > most) flaw("message %d was got too early", got);
        memmove(w.ids + at, w.ids + at + 1, (size_t)(w.n - at - 1) * sizeof w.ids[0]);
        w.n--;
    }
}

/* The victim was resumed: helps it on if it sleeps, until it has left. */
static void await_victim(void) {
    siginfo_t info;
    double end = patience() + 5;
    bool overtaken =
        op->check == semaphore_waiters_check; /* its companion may have got the permit meanwhile */
    for (int asleep = 0;; nap(0.0002)) {
        memset(&info, 0, sizeof info);
        if (waitid(P_PID, (id_t)step.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) break;
        if (patience() > end) flaw("the resumed victim hangs");
        asleep = step_state(step.pid) == 'S' ? asleep + 1 : 0;
        if (asleep < 10) continue;
        if (op->sleeps) kill(step.pid, SIGKILL);
        else if (op->unblock != NULL && !w.unblocked) {
            w.unblocked = true;
            op->unblock();
        } else if (overtaken && asleep > 100) {
            overtaken = false;
            semaphore_release();
        }
    }
    if (!op->sleeps && (info.si_code != CLD_EXITED || info.si_status != 0))
        flaw("the resumed victim ended with %d", info.si_status);
}

/* Stops the victim where it stands, lets others go on, and then the victim. */
static void world_stop(void) {
    me->at = step.at;
    w.stopped = true;
    w.finished = op->attach == NULL && !op->sleeps;
    stop_victim();
    BUMP(&score()->kills);
    carrier_begin();
    for (double end = patience() + 0.05; !carrier_ended() && patience() < end;) nap(0.0002);
    kill(step.pid, SIGCONT);
    EVENTUALLY(carrier_ended());
    carrier_settle();
    if (op->attach == NULL) await_victim();
    else step.pid = 0;
    world_check();
}

/* Runs through the operation once, so that what happens at a first call only is over. */
static void warm_up(void) {
    enum step what;
    world_begin();
    double since = patience();
    do {
        what = step_go(false);
        while (what == STEP_BLOCKED && world_unblock(since)) what = step_resume();
    } while (what == STEP_STOPPED);
    world_end(what != STEP_BLOCKED);
}

static void __attribute__((noreturn)) leave(void) {
    clear_up();
    me->done = true;
    _exit(0);
}

/* Steps through the operation once, noting the path; kills at the end. */
static void record(void) {
    bool through = false;
    world_begin();
    double since = patience();
    step.length = 0;
    step.path[0] = step.at;
    while (!through && step.length < STEP_MOST) {
        enum step what = step_once();
        while (what == STEP_BLOCKED && world_unblock(since)) what = step_resume();
        if (what == STEP_STOPPED) step.path[++step.length] = step.at;
        else through = true;
        me->alive = patience();
        if (board->until > 0 && step_clock() > board->until) leave(); /* the end of the sample */
    }
    if (!through) flaw("more than %d instructions", STEP_MOST);
    score()->instructions = (uint32_t)step.length;
    me->length = step.length;
    me->k = step.length;
    world_end(true);
}

/* Goes on to the k-th instruction by breakpoint. False: it was not met. */
static bool seek(size_t k, bool *ended) {
    *ended = false;
    if (k == 0) return true;
#if STEP_BREAKPOINTS
    double since = patience();
    if (k <= step.length && !step_break(step.path[k], true)) return false;
    for (size_t visits = k <= step.length ? step_visit(k) : 1; visits > 0;) {
        enum step what = step_go(false);
        while (what == STEP_BLOCKED) {
            if (k > step.length && !w.unblocked) return true; /* asleep: the point that was looked for */
            if (!world_unblock(since)) break;
            what = step_resume();
        }
        if (what == STEP_HIT) visits--;
        *ended = what != STEP_HIT && what != STEP_STOPPED;
        if (*ended) return k > step.length;
    }
    return true;
#else
    return false;
#endif
}

/* The same by steps. True: its operation ended before. */
static bool seek_by_steps(size_t k) {
    double since = patience();
    for (size_t i = 0; i < k; i++) {
        enum step what = step_once();
        while (what == STEP_BLOCKED && world_unblock(since)) what = step_resume();
        if (what != STEP_STOPPED) return true;
        me->alive = patience();
    }
    return k == step.length;
}

/* The point behind the last is the sleep in the middle of it, if there is one. */
static void kill_at(size_t k) {
    bool ended;
    me->k = k;
    world_begin();
    bool met = seek(k, &ended);
    world_end(op->sleeps ? false : op->attach == NULL ? ended || (met && k == step.length) : ended);
    if (met || k > step.length) return;
    record(); /* the path has changed: along the new one, or by steps */
    me->k = k = k < step.length ? k : step.length;
    world_begin();
    met = seek(k, &ended);
    world_end(op->sleeps ? false : op->attach == NULL ? ended || (met && k == step.length) : ended);
    if (met) return;
    world_begin();
    ended = seek_by_steps(k);
    world_end(ended);
}

static void stop_at(size_t k) {
    bool ended;
    me->k = k;
    me->stops = true;
    world_begin();
    bool met = seek(k, &ended);
    char state = step_state(step.pid);
    if ((met && !ended) || (op->attach != NULL && state != 0 && state != 'Z')) world_stop();
    else world_end(true); /* another path: it has left before */
    me->stops = false;
}

static void strike_at(size_t k) {
    if (board->stop) stop_at(k);
    else kill_at(k);
}

/* ---- Drivers ---- */

static uint64_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545F4914F6CDD1Du >> 16;
}

static bool chosen[COUNT(operations)];

/* Failures of an operation: more would tell nothing new. */
static bool enough(void) { return score()->forbidden + 4 * score()->hangs >= 20; }

static size_t last_point(void) { return step.length + (op->unblock != NULL ? 1 : 0); }

static void next_operation(driver *d) {
    d->op++;
    d->k = (size_t)(d - board->driver);
}

/* Points of one operation that fall to this driver. What victims lose adds up, so that after a thousand of
   them a new family goes on. */
static void drive_all(void) {
    size_t k = me->k, most = k + 1000 * board->drivers;
    if (op->begin != NULL) op->begin();
    warm_up();
    record();
    for (; k <= last_point() && k < most && !enough(); k += board->drivers) strike_at(k);
    if (op->end != NULL) op->end();
    me->k = k;
    if (k > last_point() || enough()) next_operation(me);
}

/* Some of them. */
static void drive_some(uint64_t *state) {
    if (op->begin != NULL) op->begin();
    warm_up();
    record();
    for (int i = 0; i < 6 && step_clock() < board->until; i++)
        strike_at((size_t)(draw(state) % (last_point() + 1)));
    if (op->end != NULL) op->end();
}

static void drive(size_t who) {
    size_t n = COUNT(operations);
    me = &board->driver[who];
    me->alive = patience();
    me->stops = false;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (mproc__init() != 0) _exit(1);
    uint64_t state = board->seed + 77777 * (who + 1) + 1000003 * (uint64_t)me->lives;
    for (int i = 0; i < 4; i++) draw(&state);
    if (board->until > 0) {
        for (size_t i = me->op; step_clock() < board->until; i = (i + 1) % n) {
            if (!chosen[i]) continue;
            me->op = i;
            op = &operations[i];
            if (!enough()) drive_some(&state);
        }
    } else {
        while (me->op < n && (!chosen[me->op] || enough())) next_operation(me);
        if (me->op < n) {
            op = &operations[me->op];
            drive_all();
            _exit(GO_ON);
        }
    }
    me->done = true;
    _exit(0);
}

static bool is_driver(pid_t pid) {
    for (size_t i = 0; i < board->drivers; i++)
        if (board->driver[i].pid == pid) return true;
    return false;
}

/* What a driver left behind that was killed: its children, wherever they stand, have become the keeper's. */
static void sweep(void) {
    char path[64], text[4096];
    for (int round = 0; round < 200; round++, nap(0.005)) {
        snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        int fd = open(path, O_RDONLY | O_CLOEXEC), others = 0;
        ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
        if (fd >= 0) close(fd);
        text[got > 0 ? got : 0] = 0;
        for (char *at = text, *next; *at != 0; at = next) {
            pid_t pid = (pid_t)strtol(at, &next, 10);
            if (next == at) break;
            if (is_driver(pid)) continue;
            kill(pid, SIGKILL);
            if (waitpid(pid, NULL, WNOHANG) != pid) others++;
        }
        if (others == 0) return;
    }
}

/* Counts on: see patience. What it slept too long itself does not count either. */
static void count_patience(void) {
    static double last;
    static int processors;
    char text[128];
    double now = step_clock(), passed = last == 0 ? 0 : now - last, clock = patience();
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC), running = 0;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    sscanf(text, "%*f %*f %*f %d", &running);
    last = now;
    if (passed > 0.02) passed = 0.02;
    if (processors == 0) processors = mproc_cpu_count();
    clock += running > processors ? passed * processors / running : passed;
    __atomic_store(&board->clock, &clock, __ATOMIC_SEQ_CST);
}

/* Whether what hangs sleeps, and in which function of the kernel, or goes round in circles. */
static void print_sleep(pid_t pid) {
    char path[64], where[128] = "";
    snprintf(path, sizeof path, "/proc/%d/wchan", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, where, sizeof where - 1) : 0;
    if (fd >= 0) close(fd);
    where[n > 0 ? n : 0] = 0;
    printf("    the survivor is in state %c, in %s\n", step_state(pid), where);
}

/* Looks after a driver: begins it, replaces it when it has failed or hangs. */
static void keep(size_t who) {
    driver *d = &board->driver[who];
    int status = 0;
    if (d->pid != 0) {
        pid_t ended = waitpid(d->pid, &status, WNOHANG);
        bool hangs = ended == 0 && patience() - d->alive > 10;
        if (ended == 0 && !hangs) return;
        op = &operations[d->op < COUNT(operations) ? d->op : 0];
        if (hangs) {
            BUMP(&board->tally[d->op].hangs);
            print_point(d, d->checking ? "a survivor hangs" : "hangs");
            print_sleep(d->pid);
            kill(d->pid, SIGKILL);
            waitpid(d->pid, &status, 0);
        } else if (!d->done && !(WIFEXITED(status) && WEXITSTATUS(status) >= GO_ON)) {
            BUMP(&board->tally[d->op].forbidden);
            print_point(d, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "the survivor has ended");
        }
        d->pid = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != GO_ON) sweep();
        if (d->done) return;
        d->lives++;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != GO_ON) {
            d->k += board->drivers;
            if (board->until > 0) d->op = (d->op + 1) % COUNT(operations);
            else if (d->k > d->length + 1) next_operation(d);
        }
    }
    if (d->done) return;
    d->alive = patience();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) drive(who);
    d->pid = pid > 0 ? pid : 0;
}

static bool ptrace_works(void) {
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(1);
        STEP_MARK();
        _exit(0);
    }
    int status;
    bool works = waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
    if (works) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return works;
}

int main(int argc, char **argv) {
    if (getenv("LD_BIND_NOW") ==
        NULL) { /* the dynamic linker's work at first calls is not wanted in the path */
        setenv("LD_BIND_NOW", "1", 1);
        execv("/proc/self/exe", argv);
    }
    uint64_t seed = (uint64_t)time(NULL);
    double seconds = 0;
    bool stop = false;
    int option;
    while ((option = getopt(argc, argv, "Ss:t:")) != -1) {
        if (option == 'S') stop = true;
        else if (option == 's') seed = strtoull(optarg, NULL, 0);
        else if (option == 't') seconds = strtod(optarg, NULL);
        else return 2;
    }
    for (size_t i = 0; i < COUNT(operations); i++) {
        chosen[i] = optind == argc;
        for (int k = optind; k < argc; k++)
            if (strncmp(operations[i].name, argv[k], strlen(argv[k])) == 0) chosen[i] = true;
    }
    if (!ptrace_works()) {
        printf("not checked: this process may not trace others\n0 passed, 0 failed\n");
        return 0;
    }
    board =
        (struct board *)mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) return 1;
    board->seed = seed;
    board->stop = stop;
    board->until = seconds > 0 ? step_clock() + seconds : 0;
    if (seconds > 0) printf("seed %llu\n", (unsigned long long)seed);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    board->drivers = stop ? DRIVERS : 2; /* stopped victims are mostly waited for */
    for (size_t i = 0; i < board->drivers; i++) {
        board->driver[i].k = i;
        if (seconds > 0) /* a short sample does not get round: each begins elsewhere */
            board->driver[i].op = (seed + COUNT(operations) * i / board->drivers) % COUNT(operations);
    }
    for (bool all_done = false; !all_done; nap(0.005)) {
        count_patience();
        all_done = true;
        for (size_t i = 0; i < board->drivers; i++) {
            keep(i);
            all_done = all_done && board->driver[i].done;
        }
    }
    int passed = 0, failed = 0;
    for (size_t i = 0; i < COUNT(operations); i++) {
        const tally *t = &board->tally[i];
        if (!chosen[i] || t->kills == 0) continue;
        printf("%-30s instructions %5u  %s %5u  hangs %u  losses %u  forbidden %u%s\n", operations[i].name,
               t->instructions, stop ? "stops" : "kills", t->kills, t->hangs, t->losses, t->forbidden,
               t->hangs + t->forbidden > 0 ? "  FAIL" : "");
        if (t->hangs + t->forbidden > 0) failed++;
        else passed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
