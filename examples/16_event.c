/* An event as a starting gun: five runners wait for it, however long each took to get ready, and all go when
   it is set. It stays set, so who comes late does not wait. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <time.h>

#define RUNNERS 5

struct race {
    mproc_event *gun;
    mproc_queue *ready;
    double started[RUNNERS + 1]; /* when, in seconds; 0: not yet. The last is the one who comes late */
};

struct runner {
    mproc_process process;
    struct race *race;
    int number;
};

/* The monotonic clock is the same for all processes, and nobody sets it. */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_race(mproc_process *self) {
    struct runner *r = (struct runner *)self;
    struct race *race = r->race;
    if (mproc_queue_put(race->ready, &r->number, sizeof r->number, 10.0) != 0) return 1;
    if (mproc_event_wait(race->gun, 10.0) != 0) return 1;
    race->started[r->number] = now();
    return 0;
}

static bool start(struct runner *r, struct race *race, int number) {
    r->process.run = run_race;
    r->race = race;
    r->number = number;
    return mproc_process_start(&r->process) == 0;
}

static bool finished(struct runner *r) {
    return mproc_process_join(&r->process, 10.0) == 0 && r->process.exitcode == 0;
}

static bool hold_race(struct race *race) {
    static struct runner runners[RUNNERS + 1];
    bool held = true;
    int number;
    for (int i = 0; i < RUNNERS; i++)
        if (!start(&runners[i], race, i)) return false;
    for (int i = 0; i < RUNNERS; i++) { /* all are ready, in whatever order */
        if (mproc_queue_get(race->ready, &number, sizeof number, 10.0) < 0) return false;
        printf("runner %d is ready\n", number);
    }
    for (int i = 0; i < RUNNERS; i++)
        if (race->started[i] != 0) held = false; /* a false start */

    double fired = now();
    mproc_event_set(race->gun);
    for (int i = 0; i < RUNNERS; i++) {
        if (!finished(&runners[i])) return false;
        printf("runner %d started %.3f ms after the gun\n", i, (race->started[i] - fired) * 1e3);
        if (race->started[i] < fired) held = false;
    }
    bool late = start(&runners[RUNNERS], race, RUNNERS) && finished(&runners[RUNNERS]);
    printf("the late one found the event %s\n", mproc_event_is_set(race->gun) ? "set" : "clear");
    return held && late && race->started[RUNNERS] >= fired;
}

int main(void) {
    struct race *race = (struct race *)mproc_shm_new(sizeof *race);
    if (!race) return perror("mproc_shm_new"), 1;
    race->gun = mproc_event_new();
    race->ready = mproc_queue_new(0);
    if (!race->gun || !race->ready) return perror("event or queue"), 1;

    bool held = hold_race(race);
    mproc_event_clear(race->gun); /* loaded again, for the next race */
    if (mproc_event_is_set(race->gun) || mproc_event_wait(race->gun, 0) != MPROC_ETIMEDOUT) held = false;
    mproc_queue_free(race->ready);
    mproc_event_free(race->gun);
    mproc_free(race);
    return held ? 0 : 1;
}
