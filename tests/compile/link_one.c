/* The program that run.sh links from files which only use the header: link_first.c, link_second.c, and with
   the implementation in this one. */
#define MPROC_IMPLEMENTATION
#include "link.h"
#include <stdio.h>

int main(void) {
    mproc_queue *queue = mproc_queue_new(4);
    mproc_process child;
    int number = 0;
    first_prepare(&child, queue);
    if (queue == NULL || mproc_process_start(&child) != 0) return 1;
    if (second_receive(queue, &number) != 0 || number != 42) return 2;
    if (mproc_process_join(&child, 20) != 0 || child.exitcode != 0) return 3;
    puts("linked");
    return mproc_queue_free(queue) != 0;
}
