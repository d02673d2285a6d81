/* Contenders for processes, pools and files: each is a run of its own. */
#ifndef BENCH_TASKS_H
#define BENCH_TASKS_H
#include "bench.h"

#define RUN(name) struct figure name(const struct row *, const struct entry *, size_t count)
RUN(run_our_start);
RUN(run_our_process_each);
RUN(run_our_map);
RUN(run_our_single_map);
RUN(run_our_apply);
RUN(run_our_submit);
RUN(run_our_work_for);
RUN(run_our_work_map);
RUN(run_our_append);
RUN(run_fork);
RUN(run_spawn);
RUN(run_pipe_map); /* what: tasks in one write */
RUN(run_pipe_apply);
RUN(run_shell); /* ask: the command */
RUN(run_work_alone);
RUN(run_append); /* what: one of: */
extern const int append_reopening, append_kept_open, append_without_lock;
#undef RUN

void append_open(char path[64]);
void append_check(const char *path, size_t lines);
#define APPEND_LINE 32
void append_line(char line[APPEND_LINE], int writer, size_t number);

unsigned long work_rounds(void);                 /* of a CPU-bound chunk, about 5 ms */
void work_check(const uint64_t *out, int error); /* are these the results of all chunks? */
void hold_memory(size_t size);                   /* keeps so much shared memory touched; 0: none */
void growth_tables(void);                        /* what things cost when there are many, or they are large */
void idle_table(void);                           /* what waiting costs */
#endif
