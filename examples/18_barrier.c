/* Work in phases: heat spreads along a rod. In each phase every process computes its part of the new
   temperatures from the old ones, and reads its neighbours' parts for that. So none may begin a phase before
   all have ended the one before: the barrier lets them through only together. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <string.h>

#define PARTIES 4
#define CELLS   32
#define PHASES  100

struct rod {
    mproc_barrier *barrier;
    double cells[2][CELLS]; /* even phases read the first and write the second, odd ones the other way */
    int leaders;            /* how many phases had one; guarded by the rod's lock */
};

struct party {
    mproc_process process;
    struct rod *rod;
    int number;
};

static double spread(const double *old, int i) {
    double left = i > 0 ? old[i - 1] : old[i], right = i < CELLS - 1 ? old[i + 1] : old[i];
    return (left + 2 * old[i] + right) / 4;
}

static int heat(mproc_process *self) {
    struct party *p = (struct party *)self;
    struct rod *rod = p->rod;
    int first = p->number * (CELLS / PARTIES), end = first + CELLS / PARTIES;
    for (int phase = 0; phase < PHASES; phase++) {
        const double *old = rod->cells[phase % 2];
        double *new_cells = rod->cells[(phase + 1) % 2];
        for (int i = first; i < end; i++) new_cells[i] = spread(old, i);

        int place = mproc_barrier_wait(rod->barrier, 10.0);
        if (place < 0) return fprintf(stderr, "barrier: %s\n", mproc_strerror(place)), 1;
        if (place > 0) continue;
        /* Each phase gives one of them 0, whichever: what is to be done once per phase is done here. */
        MPROC_WITH (mproc_lock_of(rod)) rod->leaders++;
        if ((phase + 1) % 25 == 0)
            printf("phase %3d ended, says party %d: %.3f in the middle\n", phase + 1, p->number,
                   new_cells[CELLS / 2]);
    }
    return 0;
}

static bool in_phases(struct rod *rod) {
    static struct party parties[PARTIES];
    bool held = true;
    for (int i = 0; i < PARTIES; i++) {
        parties[i].process.run = heat;
        parties[i].rod = rod;
        parties[i].number = i;
        if (mproc_process_start(&parties[i].process) != 0) return false;
    }
    for (int i = 0; i < PARTIES; i++)
        if (mproc_process_join(&parties[i].process, 30.0) != 0 || parties[i].process.exitcode != 0)
            held = false;
    return held && rod->leaders == PHASES;
}

int main(void) {
    double alone[2][CELLS] = {{0}};   /* the same, computed by one process */
    setvbuf(stdout, NULL, _IOLBF, 0); /* each line at once, or they would come in the order of the ends */
    struct rod *rod = (struct rod *)mproc_shm_new(sizeof *rod);
    if (!rod) return perror("mproc_shm_new"), 1;
    rod->barrier = mproc_barrier_new(PARTIES);
    if (!rod->barrier) return perror("mproc_barrier_new"), 1;

    rod->cells[0][CELLS / 2] = alone[0][CELLS / 2] = 100; /* hot in the middle, cold elsewhere */
    bool held = in_phases(rod);
    for (int phase = 0; phase < PHASES; phase++)
        for (int i = 0; i < CELLS; i++) alone[(phase + 1) % 2][i] = spread(alone[phase % 2], i);
    bool same = memcmp(rod->cells[PHASES % 2], alone[PHASES % 2], sizeof alone[0]) == 0;
    printf("%d processes and one alone come to %s\n", PARTIES, same ? "the same" : "different results");

    mproc_barrier_free(rod->barrier);
    mproc_free(rod);
    return held && same ? 0 : 1;
}
