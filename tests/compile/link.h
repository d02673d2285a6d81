#ifndef LINK_H
#define LINK_H
#include "../../mproc.h"

void first_prepare(mproc_process *child, mproc_queue *queue);
int second_receive(mproc_queue *queue, int *number);

#endif
