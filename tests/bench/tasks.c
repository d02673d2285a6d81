/* Processes, pools and files without the header. */
#define _GNU_SOURCE
#include "tasks.h"
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Processes ---- */

void hold_memory(size_t size) {
    static char *held;
    static size_t holds;
    if (size == holds) return;
    if (held) unshare_memory(held, holds);
    held = size ? (char *)shared_memory(size) : NULL;
    if (held) memset(held, 1, size);
    holds = size;
}

struct figure run_fork(const struct row *row, const struct entry *entry, size_t count) {
    int status;
    (void)entry;
    hold_memory(row->size);
    double began = now();
    for (size_t i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0) _exit(7);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 7) die("fork", -errno);
    }
    return (struct figure){(now() - began) / (double)count * 1e6, -1, -1};
}

struct figure run_spawn(const struct row *row, const struct entry *entry, size_t count) {
    char name[] = "true", *argv[] = {name, NULL}, *envp[] = {NULL};
    int status;
    (void)entry;
    hold_memory(row->size);
    double began = now();
    for (size_t i = 0; i < count; i++) {
        pid_t pid;
        int error = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, envp);
        if (error || waitpid(pid, &status, 0) != pid || status != 0) die("posix_spawn", -error);
    }
    return (struct figure){(now() - began) / (double)count * 1e6, -1, -1};
}

/* A program that runs count processes, two at a time. */
struct figure run_shell(const struct row *row, const struct entry *entry, size_t count) {
    char command[200], tool[40];
    (void)row;
    snprintf(tool, sizeof tool, "command -v %.*s >/dev/null", (int)strcspn(entry->ask, " "), entry->ask);
    if (system(tool) != 0) return (struct figure){NOT_INSTALLED, -1, -1};
    snprintf(command, sizeof command, "seq %zu | %s", count, entry->ask);
    double began = now();
    if (system(command) != 0) die(command, 0);
    return (struct figure){(double)count / (now() - began), -1, -1};
}

/* ---- A hand-written pool over pipes ---- */

/* Tasks go to the workers through one pipe, results come back through another; all writes and reads are
   multiples of a struct and within PIPE_BUF, so none is torn. Nobody notices a worker that dies. */
struct task {
    int (*run)(const void *, void *);
    uint64_t value;
};
#define TASKS  (PIPE_BUF / sizeof(struct task))
#define WINDOW 1024 /* tasks given and not yet answered: their results fit into the pipe */

struct pipe_pool {
    int tasks[2], results[2];
    pid_t pid[8];
    int workers;
};

static int give_back(const void *arg, void *result) {
    *(uint64_t *)result = *(const uint64_t *)arg;
    return 0;
}

static void pipe_worker(const struct pipe_pool *p, size_t batch) {
    struct task m[TASKS];
    ssize_t size;
    while ((size = read(p->tasks[0], m, batch * sizeof m[0])) > 0) {
        for (size_t i = 0; i < (size_t)size / sizeof m[0]; i++) {
            uint64_t result;
            if (m[i].run(&m[i].value, &result) != 0) _exit(1);
            m[i].value = result;
        }
        if (write(p->results[1], m, (size_t)size) != size) _exit(1);
    }
    _exit(0);
}

static void pipe_pool_open(struct pipe_pool *p, const struct row *row, size_t batch) {
    p->workers = row->producers;
    if (pipe2(p->tasks, O_CLOEXEC) != 0 || pipe2(p->results, O_CLOEXEC) != 0) die("pipe", -errno);
    for (int i = 0; i < p->workers; i++) {
        p->pid[i] = fork();
        if (p->pid[i] < 0) die("fork", -errno);
        if (p->pid[i] > 0) continue;
        close(p->tasks[1]);
        take_place(row->place, i + 1);
        pipe_worker(p, batch);
    }
    take_place(row->place, 0);
}

static void pipe_pool_close(struct pipe_pool *p) {
    take_place(ANYWHERE, 0);
    close(p->tasks[0]);
    close(p->tasks[1]);
    close(p->results[0]);
    close(p->results[1]);
    for (int i = 0; i < p->workers; i++)
        if (waitpid(p->pid[i], NULL, 0) < 0) die("wait", -errno);
}

static uint64_t pipe_map(const struct pipe_pool *p, size_t count, size_t batch) {
    struct task m[TASKS];
    uint64_t sum = 0;
    for (size_t given = 0, taken = 0; taken < count;) {
        while (given < count && given - taken + batch <= WINDOW) {
            size_t n = count - given < batch ? count - given : batch;
            for (size_t i = 0; i < n; i++) m[i].run = give_back, m[i].value = given + i;
            if (write(p->tasks[1], m, n * sizeof m[0]) < 0) die("write", -errno);
            given += n;
        }
        ssize_t size = read(p->results[0], m, sizeof m);
        if (size <= 0) die("read", size < 0 ? -errno : -EPIPE);
        for (size_t i = 0; i < (size_t)size / sizeof m[0]; i++) sum += m[i].value;
        taken += (size_t)size / sizeof m[0];
    }
    return sum;
}

struct figure run_pipe_map(const struct row *row, const struct entry *entry, size_t count) {
    struct pipe_pool p;
    size_t batch = *(const size_t *)entry->what;
    pipe_pool_open(&p, row, batch);
    double began = now();
    uint64_t sum = pipe_map(&p, count, batch);
    double seconds = now() - began;
    pipe_pool_close(&p);
    if (sum != (uint64_t)count * (count - 1) / 2) die("pool over pipes", 0);
    return (struct figure){(double)count / seconds, -1, -1};
}

struct figure run_pipe_apply(const struct row *row, const struct entry *entry, size_t count) {
    struct pipe_pool p;
    uint64_t sum = 0;
    double *trip = (double *)calloc(count + 1, sizeof *trip), began = 0;
    (void)entry;
    if (!trip) die("memory", -errno);
    pipe_pool_open(&p, row, 1);
    for (uint64_t i = 0; i <= count; i++, began = now()) { /* the first one waits for the worker's start */
        struct task m = {give_back, i};
        if (write(p.tasks[1], &m, sizeof m) < 0 || read(p.results[0], &m, sizeof m) < 0) die("pipe", -errno);
        sum += m.value;
        if (i > 0) trip[i - 1] = now() - began;
    }
    struct figure f = trip_figure(trip, count);
    free(trip);
    pipe_pool_close(&p);
    if (sum != (uint64_t)count * (count + 1) / 2) die("pool over pipes", 0);
    return f;
}

/* ---- CPU-bound chunks ---- */

static uint64_t work_sum; /* of all chunks: the right one */

unsigned long work_rounds(void) {
    static unsigned long rounds;
    unsigned long trial = 1000000;
    double best = 1;
    if (rounds) return rounds;
    for (int i = 0; i < 9; i++) {
        double began = now();
        if (bench_work((uint64_t)i, trial) == 0) die("work", 0);
        if (now() - began < best) best = now() - began;
    }
    rounds = (unsigned long)((double)trial * 0.005 / best);
    for (uint64_t i = 0; i < BENCH_CHUNKS; i++) work_sum += bench_work(i, rounds);
    return rounds;
}

void work_check(const uint64_t *out, int error) {
    uint64_t sum = 0;
    for (int i = 0; i < BENCH_CHUNKS; i++) sum += out[i];
    if (error || sum != work_sum) die("chunks", error);
}

struct figure run_work_alone(const struct row *row, const struct entry *entry, size_t count) {
    uint64_t out[BENCH_CHUNKS];
    unsigned long rounds = work_rounds();
    (void)row, (void)entry, (void)count;
    double began = now();
    for (uint64_t i = 0; i < BENCH_CHUNKS; i++) out[i] = bench_work(i, rounds);
    double seconds = now() - began;
    work_check(out, 0);
    return (struct figure){seconds * 1e3, -1, -1};
}

/* ---- Lines at the end of a file ---- */

const int append_reopening = 0, append_kept_open = 1, append_without_lock = 2;

void append_open(char path[64]) {
    strcpy(path, "/tmp/mproc-bench-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) die("mkstemp", -errno);
    close(fd);
}
void append_line(char line[APPEND_LINE], int writer, size_t number) {
    snprintf(line, APPEND_LINE, "%c %-29zu", 'a' + writer, number);
    line[APPEND_LINE - 1] = '\n';
}

/* Every line is whole, and those of a writer stand in order. Removes the file. */
void append_check(const char *path, size_t lines) {
    FILE *f = fopen(path, "re");
    size_t next[26] = {0}, n = 0;
    char line[80], right[APPEND_LINE + 1];
    while (f && fgets(line, sizeof line, f)) {
        int writer = line[0] - 'a';
        if (writer < 0 || writer > 25) die("append", 0);
        append_line(right, writer, next[writer]++);
        if (memcmp(line, right, APPEND_LINE) != 0) die("append", 0);
        n++;
    }
    if (n != lines) die("append", 0);
    fclose(f);
    unlink(path);
}

struct append_job {
    char path[64];
    size_t share;
    int way;
};
static void append_work(void *ctx, int i) {
    const struct append_job *j = (const struct append_job *)ctx;
    char line[APPEND_LINE];
    int how = O_WRONLY | O_APPEND | O_CLOEXEC, fd = open(j->path, how);
    for (size_t k = 0; k < j->share; k++) {
        append_line(line, i, k);
        if (j->way == append_reopening) fd = open(j->path, how);
        if (j->way != append_without_lock && flock(fd, LOCK_EX) != 0) die("flock", -errno);
        if (write(fd, line, sizeof line) != sizeof line) die("write", -errno);
        if (j->way == append_reopening) close(fd);
        else if (j->way == append_kept_open) flock(fd, LOCK_UN);
    }
}

struct figure run_append(const struct row *row, const struct entry *entry, size_t count) {
    struct append_job j = {.way = *(const int *)entry->what, .share = count / (size_t)row->producers + 1};
    append_open(j.path);
    double seconds = run_crowd(row->producers, row->place, NULL, append_work, NULL, &j);
    size_t lines = j.share * (size_t)row->producers;
    append_check(j.path, lines);
    return (struct figure){(double)lines / seconds, -1, -1};
}
