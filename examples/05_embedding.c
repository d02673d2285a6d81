/* A process with a state of its own, as a subclass of Process has in Python: the first member of your struct
   is the mproc_process, and its function run gets a pointer to the whole. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

struct summer {
    mproc_process process; /* first, so that a pointer to the one is a pointer to the other */
    int from, to;
    long *sum; /* shared: the child writes it, the parent reads it */
};

static int sum_up(mproc_process *self) {
    struct summer *s = (struct summer *)self;
    for (int i = s->from; i <= s->to; i++) *s->sum += i;
    printf("%s: the numbers from %d to %d add up to %ld\n", self->name, s->from, s->to, *s->sum);
    return 0;
}

int main(void) {
    struct summer low = {.process = {.run = sum_up, .name = "low"}, .from = 1, .to = 50};
    struct summer high = {.process = {.run = sum_up, .name = "high"}, .from = 51, .to = 100};
    low.sum = mproc_value_new(long, 0);
    high.sum = mproc_value_new(long, 0);
    if (!low.sum || !high.sum) return perror("mproc_value_new"), 1;

    if (mproc_process_start(&low.process) != 0 || mproc_process_start(&high.process) != 0) return 1;
    if (mproc_process_join(&low.process, 10.0) != 0 || mproc_process_join(&high.process, 10.0) != 0) return 1;

    long sum = *low.sum + *high.sum;
    printf("together: %ld\n", sum);
    mproc_free(low.sum);
    mproc_free(high.sum);
    return sum == 5050 && low.process.exitcode == 0 && high.process.exitcode == 0 ? 0 : 1;
}
