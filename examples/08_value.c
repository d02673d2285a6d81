/* Four processes add 1 to a shared value, five times each. Adding is reading, then writing; what another one
   wrote in between is lost, unless a lock keeps the others out for that long. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <time.h>

/* "+= 1" with a moment between reading and writing, so that the loss shows at once and not once a month. */
static void add_slowly(int *total) {
    struct timespec moment = {0, 1000000};
    int seen = *total;
    nanosleep(&moment, NULL); /* let the others run */
    *total = seen + 1;
}

static int add_without_lock(void *arg) {
    for (int i = 0; i < 5; i++) add_slowly((int *)arg);
    return 0;
}

static int add_with_lock(void *arg) {
    int *total = (int *)arg;
    for (int i = 0; i < 5; i++)
        MPROC_WITH (mproc_lock_of(total)) add_slowly(total); /* each value has a lock */
    return 0;
}

/* The total after four processes have run add; -1 if they could not. */
static int four_processes(int (*add)(void *)) {
    mproc_process processes[4] = {{0}};
    int *total = mproc_value_new(int, 0), result = 0;
    if (!total) return -1;
    for (int i = 0; i < 4; i++) {
        processes[i].target = add;
        processes[i].arg = total;
        if (mproc_process_start(&processes[i]) != 0) result = -1;
    }
    for (int i = 0; i < 4; i++) {
        if (mproc_process_join(&processes[i], 30.0) != 0) result = -1;
        mproc_process_close(&processes[i]);
    }
    if (result == 0) result = *total;
    mproc_free(total);
    return result;
}

int main(void) {
    int with = four_processes(add_with_lock);
    printf("with the lock:    4 x 5 adds give %d\n", with);

    /* On a busy machine the four may happen to run one after another: then try again. */
    int without = 20;
    for (int i = 0; i < 100 && without == 20; i++) without = four_processes(add_without_lock);
    printf("without the lock: 4 x 5 adds give %d\n", without);
    return with == 20 && without > 0 && without < 20 ? 0 : 1;
}
