/* The OpenMP peer of bench.c, which runs it as a child: a line "COMMAND COUNT WORKERS" in, the seconds it
   took out, -1 for what is wrong or unknown. */
#include "work.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define EMPTY_MAX 4000000

static uint64_t results[EMPTY_MAX];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Starts the threads before the clock does. */
static void warm_up(int workers) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
    for (int i = 0; i < 1000; i++) results[i] = 0;
}

static double empty(int workers, size_t count) {
    uint64_t sum = 0;
    if (count > EMPTY_MAX) return -1;
    warm_up(workers);
    double began = now();
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
    for (size_t i = 0; i < count; i++) results[i] = i;
    double seconds = now() - began;
    for (size_t i = 0; i < count; i++) sum += results[i];
    return sum == (uint64_t)count * (count - 1) / 2 ? seconds : -1;
}

static double work(int workers, unsigned long rounds) {
    uint64_t sum = 0, right = 0;
    warm_up(workers);
    double began = now();
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers)
    for (size_t i = 0; i < BENCH_CHUNKS; i++) results[i] = bench_work(i, rounds);
    double seconds = now() - began;
    for (size_t i = 0; i < BENCH_CHUNKS; i++) sum += results[i];
#pragma omp parallel for reduction(+ : right) num_threads(workers)
    for (size_t i = 0; i < BENCH_CHUNKS; i++) right += bench_work(i, rounds);
    return sum == right ? seconds : -1;
}

int main(void) {
    char line[80], command[16];
    while (fgets(line, sizeof line, stdin)) {
        int workers = 0;
        unsigned long count = 0;
        double seconds = -1;
        if (sscanf(line, "%15s %lu %d", command, &count, &workers) == 3 && workers > 0) {
            if (strcmp(command, "empty") == 0) seconds = empty(workers, count);
            else if (strcmp(command, "work") == 0) seconds = work(workers, count);
        }
        if (strncmp(line, "version", 7) == 0) printf("OpenMP %d\n", _OPENMP);
        else printf("%.9f\n", seconds);
        fflush(stdout);
    }
    return 0;
}
