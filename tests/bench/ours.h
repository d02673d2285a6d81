/* The runs of the header's own contenders that are not messages or locks. */
#ifndef BENCH_OURS_H
#define BENCH_OURS_H
#include "bench.h"
#endif
