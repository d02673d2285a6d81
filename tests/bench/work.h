/* What a CPU-bound chunk consists of: the same code in each program that is measured. */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdint.h>

#define BENCH_CHUNKS 64

__attribute__((noinline)) static uint64_t bench_work(uint64_t seed, unsigned long rounds) {
    uint64_t x = seed + 1;
    while (rounds-- > 0) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

#endif
