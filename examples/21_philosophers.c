/* The dining philosophers: five at a round table, five forks between them, and to eat takes the fork on the
   left and the one on the right. If each took the left one first, all could sit there with one fork and wait
   for ever. So each takes the fork with the lower number first.

   One of them is killed with both forks in his hands. Nobody starves: the next to reach for them gets them,
   and is told that the last holder died. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <signal.h>

#define SEATS 5
#define MEALS 50

struct table {
    mproc_event *served; /* set when the one who is to die has his forks: no neighbour is done before that */
    mproc_lock *forks[SEATS];
    bool in_use[SEATS]; /* each guarded by the fork it tells of */
    int meals[SEATS];   /* of each philosopher; written by nobody else */
    int inherited;      /* forks taken over from the dead; guarded by the table's own lock */
};

struct philosopher {
    mproc_process process;
    struct table *table;
    int seat;
    bool dies; /* before his first bite */
};

static bool pick_up(struct table *t, int fork) {
    int error = mproc_lock_acquire(t->forks[fork], 10.0);
    if (error ==
        MPROC_EOWNERDEAD) { /* it is ours, but may lie there as the dead one left it: put that right */
        t->in_use[fork] = false;
        MPROC_WITH (mproc_lock_of(t)) t->inherited++;
    } else if (error) return false;
    if (t->in_use[fork]) return false; /* two would have it: the lock has failed */
    t->in_use[fork] = true;
    return true;
}

static void put_down(struct table *t, int fork) {
    t->in_use[fork] = false;
    mproc_lock_release(t->forks[fork]);
}

static int dine(mproc_process *self) {
    struct philosopher *p = (struct philosopher *)self;
    int left = p->seat, right = (p->seat + 1) % SEATS;
    int lower = left < right ? left : right, higher = left + right - lower;
    if (!p->dies && mproc_event_wait(p->table->served, 10.0) != 0) return 1;
    for (int i = 0; i < MEALS; i++) {
        if (!pick_up(p->table, lower) || !pick_up(p->table, higher)) return 1;
        if (p->dies) {
            mproc_event_set(p->table->served);
            raise(SIGKILL);
        }
        p->table->meals[p->seat]++;
        put_down(p->table, higher);
        put_down(p->table, lower);
    }
    return 0;
}

static bool dinner(struct table *t) {
    static struct philosopher guests[SEATS];
    bool held = true;
    for (int i = 0; i < SEATS; i++) {
        guests[i].process.run = dine;
        guests[i].table = t;
        guests[i].seat = i;
        guests[i].dies = i == 2;
        if (mproc_process_start(&guests[i].process) != 0) return false;
    }
    for (int i = 0; i < SEATS; i++) {
        if (mproc_process_join(&guests[i].process, 30.0) != 0) return false;
        int code = guests[i].process.exitcode;
        printf("philosopher %d: %2d meals, exit code %d\n", i, t->meals[i], code);
        if (guests[i].dies ? code != -SIGKILL || t->meals[i] != 0 : code != 0 || t->meals[i] != MEALS)
            held = false;
    }
    return held;
}

int main(void) {
    struct table *t = (struct table *)mproc_shm_new(sizeof *t);
    if (!t) return perror("mproc_shm_new"), 1;
    if (!(t->served = mproc_event_new())) return perror("mproc_event_new"), 1;
    for (int i = 0; i < SEATS; i++)
        if (!(t->forks[i] = mproc_lock_new())) return perror("mproc_lock_new"), 1;

    bool held = dinner(t) && t->inherited == 2;
    printf("forks taken over from the dead: %d\n", t->inherited);
    for (int i = 0; i < SEATS; i++)
        if (mproc_lock_free(t->forks[i]) != 0) held = false;
    mproc_event_free(t->served);
    mproc_free(t);
    return held ? 0 : 1;
}
