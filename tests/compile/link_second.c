#include "link.h"

int second_receive(mproc_queue *queue, int *number) {
    ssize_t size = mproc_queue_get(queue, number, sizeof *number, 20);
    return size == (ssize_t)sizeof *number ? 0 : -1;
}
