#include "link.h"
#include <string.h>

static int send_number(void *arg) {
    const int number = 42;
    return mproc_queue_put((mproc_queue *)arg, &number, sizeof number, 20) != 0;
}

void first_prepare(mproc_process *child, mproc_queue *queue) {
    memset(child, 0, sizeof *child);
    child->target = send_number;
    child->arg = queue;
}
