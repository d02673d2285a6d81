/* A semaphore as a limiter: of eight processes at most three are inside at any time, as downloads, licences
   or database connections are limited. It is a number of permits: acquire takes one, or waits until there is
   one; release gives it back. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <time.h>

#define PROCESSES 8
#define PERMITS   3
#define VISITS    10 /* of each process */

struct room {
    mproc_semaphore *permits;
    int inside, most, visits; /* guarded by the lock that comes with shared memory */
};

static int visit(void *arg) {
    struct room *room = (struct room *)arg;
    struct timespec moment = {0, 1000000};
    for (int i = 0; i < VISITS; i++) {
        if (mproc_semaphore_acquire(room->permits, 10.0) != 0) return 1;
        MPROC_WITH (mproc_lock_of(room)) {
            room->inside++;
            room->visits++;
            if (room->inside > room->most) room->most = room->inside;
        }
        nanosleep(&moment, NULL); /* the work */
        MPROC_WITH (mproc_lock_of(room)) room->inside--;
        if (mproc_semaphore_release(room->permits) != 0) return 1;
    }
    return 0;
}

static bool everybody_visits(struct room *room) {
    mproc_process visitors[PROCESSES] = {{0}};
    bool held = true;
    for (int i = 0; i < PROCESSES; i++) {
        visitors[i].target = visit;
        visitors[i].arg = room;
        if (mproc_process_start(&visitors[i]) != 0) return false;
    }
    for (int i = 0; i < PROCESSES; i++)
        if (mproc_process_join(&visitors[i], 30.0) != 0 || visitors[i].exitcode != 0) held = false;
    printf("%d visits of %d processes; most at the same time: %d\n", room->visits, PROCESSES, room->most);
    return held && room->visits == PROCESSES * VISITS && room->inside == 0 && room->most <= PERMITS;
}

int main(void) {
    struct room *room = (struct room *)mproc_shm_new(sizeof *room);
    if (!room) return perror("mproc_shm_new"), 1;
    room->permits = mproc_semaphore_new_bounded(PERMITS); /* bounded: never more permits than at first */
    if (!room->permits) return perror("mproc_semaphore_new_bounded"), 1;

    bool held = everybody_visits(room);
    printf("permits left: %d\n", mproc_semaphore_value(room->permits));
    if (mproc_semaphore_value(room->permits) != PERMITS) held = false;

    int error =
        mproc_semaphore_release(room->permits); /* a mistake that a plain semaphore would not notice */
    printf("one release too many: %s\n", mproc_strerror(error));
    if (error != -ERANGE) held = false;

    mproc_semaphore_free(room->permits);
    mproc_free(room);
    return held ? 0 : 1;
}
