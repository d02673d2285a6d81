/* bench [ROW...] - measures the header beside its peers; each ROW is a part of a row's title, none means all

   Everything that is compared is measured in the same run, in turns, REPEATS times; the table has the median,
   the smallest and the largest, how many times as fast as the peer the first line of the row is, and what it
   is meant to be. All of it is printed as Markdown, to be kept as tests/bench/RESULTS.md. */
#define _GNU_SOURCE
#include "tasks.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REPEATS  5
#define RUN_TIME 0.04 /* seconds of a run whose count is not fixed */

/* ---- Peers that are programs --------------------------------------------------------------------------- */

static struct peer {
    const char *argv[3];
    FILE *to, *from; /* NULL: not there */
    char version[80];
} peers[PEERS] = {
    {{"python3", "tests/bench/peer.py", NULL}, NULL, NULL, ""},
    {{"build/bench/openmp", NULL, NULL}, NULL, NULL, ""},
};

/* Starts a program that answers lines; one that cannot be started or does not answer is not there. */
static void start_peer(struct peer *peer) {
    int to[2], from[2];
    char *argv[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 2 && peer->argv[i]; i++) argv[i] = strdup(peer->argv[i]);
    if (pipe(to) != 0 || pipe(from) != 0) die("pipe", -errno);
    pid_t pid = fork();
    if (pid < 0) die("fork", -errno);
    if (pid == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        for (int fd = 3; fd < 64; fd++) close(fd);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer->to = fdopen(to[1], "w");
    peer->from = fdopen(from[0], "r");
    if (fputs("version\n", peer->to) < 0 || fflush(peer->to) != 0 ||
        !fgets(peer->version, sizeof peer->version, peer->from)) {
        peer->to = NULL;
        strcpy(peer->version, "not installed\n");
    }
}

struct figure ask_peer(int peer, const char *question) {
    struct figure f = {NOT_INSTALLED, -1, -1};
    char line[160];
    if (!peers[peer].to) return f;
    fprintf(peers[peer].to, "%s\n", question);
    fflush(peers[peer].to);
    if (!fgets(line, sizeof line, peers[peer].from)) die(question, -EPIPE);
    if (line[0] == '-' && line[1] == '\n') return (struct figure){CANNOT, -1, -1};
    if (sscanf(line, "%lf %lf", &f.value, &f.second) < 1 || f.value <= 0) die(question, -EBADMSG);
    return f;
}

/* The answer is the seconds that `count` took, or (with a second number) the figures themselves. */
static struct figure run_peer(int peer, const struct row *row, const struct entry *e, size_t count) {
    char question[160];
    snprintf(question, sizeof question, "%s %zu %d %d %zu", e->ask, count, row->producers, row->consumers,
             row->size);
    return ask_peer(peer, question);
}
static struct figure run_python(const struct row *row, const struct entry *e, size_t count) {
    return run_peer(PYTHON, row, e, count);
}

static struct figure run_openmp(const struct row *row, const struct entry *e, size_t count) {
    return run_peer(OPENMP, row, e, count);
}
static struct figure run_openmp_work(const struct row *row, const struct entry *e, size_t count) {
    char question[80];
    (void)e, (void)count;
    snprintf(question, sizeof question, "work %lu %d", work_rounds(), row->producers);
    struct figure f = ask_peer(OPENMP, question);
    if (f.value > 0) f.value *= 1e3;
    return f;
}

/* ---- The rows ------------------------------------------------------------------------------------------ */

#define MESSAGES(t) \
    { NULL, run_messages, &t, 0, NULL }
#define TRIPS(t) \
    { NULL, run_round_trip, &t, 0, NULL }
#define LOCKS(l) \
    { NULL, run_lock, &l, 0, NULL }
#define ASK(name, command, count) \
    { name, run_python, NULL, count, command }

static const struct entry queue_peers[] = {MESSAGES(our_queue),
                                           MESSAGES(raw_pipe),
                                           MESSAGES(boost_queue),
                                           MESSAGES(raw_packet),
                                           MESSAGES(raw_mqueue),
                                           MESSAGES(zmq_ipc),
                                           MESSAGES(nng_ipc),
                                           ASK("CPython Queue", "queue", 0),
                                           ASK("CPython Pipe", "pipe", 0),
                                           {0}};
static const struct entry batch_peers[] = {MESSAGES(our_queue), MESSAGES(raw_pipe), {0}};
static const struct entry ring_peers[] = {MESSAGES(our_ring),   MESSAGES(hand_spsc),   MESSAGES(hand_mpmc),
                                          MESSAGES(boost_spsc), MESSAGES(boost_queue), {0}};
static const struct entry trip_peers[] = {TRIPS(our_ring),   TRIPS(our_queue),
                                          TRIPS(our_pipe),   TRIPS(our_events),
                                          TRIPS(raw_futex),  TRIPS(raw_pipe),
                                          TRIPS(raw_mqueue), TRIPS(zmq_ipc),
                                          TRIPS(nng_ipc),    ASK("CPython Pipe", "trip", 0),
                                          TRIPS(raw_spin),   {0}};
static const struct entry trip_one_peers[] = {TRIPS(our_ring),   TRIPS(our_queue),  TRIPS(our_pipe),
                                              TRIPS(our_events), TRIPS(raw_futex),  TRIPS(raw_futex_timed),
                                              TRIPS(raw_pipe),   TRIPS(raw_mqueue), {0}};
static const struct entry lock_peers[] = {LOCKS(our_lock),
                                          LOCKS(raw_robust),
                                          LOCKS(raw_mutex),
                                          LOCKS(raw_sem),
                                          LOCKS(boost_mutex),
                                          LOCKS(raw_flock),
                                          ASK("CPython Value", "lock", 0),
                                          LOCKS(raw_add),
                                          {0}};

static const size_t one = 1, some = 64, many = 256; /* tasks in a write */
static const struct entry start_peers[] = {{"mproc_process", run_our_start, NULL, 0, NULL},
                                           {"fork + waitpid", run_fork, NULL, 0, NULL},
                                           {"posix_spawn /bin/true", run_spawn, NULL, 0, NULL},
                                           ASK("CPython Process", "start", 0),
                                           {0}};
static const struct entry process_peers[] = {
    {"mproc_process", run_our_process_each, NULL, 256, NULL},
    {"GNU parallel", run_shell, NULL, 32, "parallel -j2 true {} 2>/dev/null"},
    {"xargs -P", run_shell, NULL, 256, "xargs -P2 -n1 true"},
    {0}};
static const struct entry single_peers[] = {
    {"mproc map, items one by one", run_our_single_map, NULL, 0, NULL},
    {"hand-written over pipes", run_pipe_map, &one, 0, NULL},
    {"hand-written, 64 tasks a write", run_pipe_map, &some, 0, NULL},
    ASK("CPython Pool.map(chunksize=1)", "map1", 0),
    ASK("CPython ProcessPoolExecutor.map", "executor", 0),
    {"OpenMP dynamic,1 (threads)", run_openmp, NULL, 2000000, "empty"},
    {0}};
static const struct entry map_peers[] = {{"mproc map", run_our_map, NULL, 0, NULL},
                                         {"hand-written, 256 tasks a write", run_pipe_map, &many, 0, NULL},
                                         ASK("CPython Pool.map", "map", 0),
                                         {0}};
static const struct entry apply_peers[] = {{"mproc apply", run_our_apply, NULL, 0, NULL},
                                           {"hand-written over pipes", run_pipe_apply, NULL, 0, NULL},
                                           TRIPS(raw_futex),
                                           ASK("CPython Pool.apply, mean", "apply", 0),
                                           {0}};
static const struct entry submit_peers[] = {
    {"mproc submit", run_our_submit, NULL, 0, NULL}, ASK("CPython Pool.apply_async", "submit", 0), {0}};
static const struct entry work_peers[] = {{"mproc map", run_our_work_map, NULL, 1, NULL},
                                          {"mproc parallel_for", run_our_work_for, NULL, 1, NULL},
                                          {"OpenMP dynamic,1", run_openmp_work, NULL, 1, NULL},
                                          {"one process alone", run_work_alone, NULL, 1, NULL},
                                          {0}};
static const struct entry append_peers[] = {
    {"mproc append", run_our_append, NULL, 0, NULL},
    {"open, flock, write, close", run_append, &append_reopening, 0, NULL},
    {"kept open: flock, write", run_append, &append_kept_open, 0, NULL},
    ASK("CPython fcntl.flock", "append", 0),
    {"limit: O_APPEND, no lock", run_append, &append_without_lock, 0, NULL},
    {0}};

#define QUEUE(title, size, from, to, ...)                                                           \
    {                                                                                               \
        title, "messages/s", queue_peers, size, 1, from, to, TWO_CPUS, false, NULL, { __VA_ARGS__ } \
    }
#define RING(title, batch, from, to, ...)                                                            \
    {                                                                                                \
        title, "messages/s", ring_peers, 64, batch, from, to, TWO_CPUS, false, NULL, { __VA_ARGS__ } \
    }
#define LOCK(title, n, ...)                                                                       \
    {                                                                                             \
        title, "pairs/s", lock_peers, 0, 0, n, 0, TWO_CPUS, false, "least share", { __VA_ARGS__ } \
    }

static const struct row rows[] = {
    QUEUE("Queue 1 -> 1, 64 B", 64, 1, 1, 0, 0.85),
    QUEUE("Queue 1 -> 1, 1 KiB", 1024, 1, 1, 0),
    QUEUE("Queue 1 -> 1, 64 KiB", 65536, 1, 1, 0),
    QUEUE("Queue 1 -> 1, 1 MiB", 1048576, 1, 1, 0, 2.5, 1),
    QUEUE("Queue 4 -> 1, 64 B", 64, 4, 1, 0),
    QUEUE("Queue 4 -> 4, 64 B", 64, 4, 4, 0),
    {"Queue 1 -> 1, 64 B, batches of 64",
     "messages/s",
     batch_peers,
     64,
     64,
     1,
     1,
     TWO_CPUS,
     false,
     NULL,
     {0, 0.5}},
    RING("Ring 1 -> 1, 64 B", 1, 1, 1, 0, 0.75),
    RING("Ring 4 -> 1, 64 B", 1, 4, 1, 0),
    RING("Ring 4 -> 4, 64 B", 1, 4, 4, 0, 0, 1),
    RING("Ring 1 -> 1, 64 B, batches of 64", 64, 1, 1, 0, 0.5),
    RING("Ring 4 -> 1, 64 B, batches of 64", 64, 4, 1, 0),
    RING("Ring 4 -> 4, 64 B, batches of 64", 64, 4, 4, 0, 0, 0.5),
    {"Round trip 64 B, two CPUs",
     "us, median",
     trip_peers,
     64,
     1,
     1,
     1,
     TWO_CPUS,
     true,
     "p99",
     {0, 0, 0, 0, 1}},
    {"Round trip 64 B, both on one CPU",
     "us, median",
     trip_one_peers,
     64,
     1,
     1,
     1,
     ONE_CPU,
     true,
     "p99",
     {0}},
    {"Lock pair, uncontended", "ns", lock_peers, 0, 0, 1, 0, TWO_CPUS, true, NULL, {0, 1 / 1.1}},
    LOCK("Lock pair, 2 processes contend", 2, 0, 1),
    LOCK("Lock pair, 4 processes contend", 4, 0, 1),
    {"Process start + join", "us", start_peers, 0, 0, 0, 0, ANYWHERE, true, NULL, {0, 1 / 1.15}},
    {"Process start + join, 1 GiB of touched shared memory",
     "us",
     start_peers,
     (size_t)1 << 30,
     0,
     0,
     0,
     ANYWHERE,
     true,
     NULL,
     {0, 1 / 1.15}},
    {"A process for each task, 2 at a time",
     "tasks/s",
     process_peers,
     0,
     0,
     2,
     0,
     ANYWHERE,
     false,
     NULL,
     {0, 1, 1}},
    {"Pool: empty tasks by map, single items, 2 workers",
     "tasks/s",
     single_peers,
     0,
     0,
     2,
     0,
     ANYWHERE,
     false,
     NULL,
     {0, 1, 0, 40}},
    {"Pool: empty tasks by map, default chunks, 2 workers",
     "tasks/s",
     map_peers,
     0,
     0,
     2,
     0,
     ANYWHERE,
     false,
     NULL,
     {0}},
    {"Pool: apply round trip, two CPUs",
     "us, median",
     apply_peers,
     8,
     0,
     1,
     1,
     TWO_CPUS,
     true,
     "p99",
     {0, 1 / 1.2}},
    {"Pool: apply round trip, one CPU",
     "us, median",
     apply_peers,
     8,
     0,
     1,
     1,
     ONE_CPU,
     true,
     "p99",
     {0, 1 / 1.2}},
    {"Pool: submit until all is done, 2 workers",
     "tasks/s",
     submit_peers,
     0,
     0,
     2,
     0,
     ANYWHERE,
     false,
     NULL,
     {0, 50}},
    {"Pool: 64 CPU-bound chunks of 5 ms, 1 worker",
     "ms",
     work_peers,
     0,
     0,
     1,
     0,
     ANYWHERE,
     true,
     NULL,
     {0, 0, 0.97}},
    {"Pool: 64 CPU-bound chunks of 5 ms, 2 workers",
     "ms",
     work_peers,
     0,
     0,
     2,
     0,
     ANYWHERE,
     true,
     NULL,
     {0, 0, 0.97}},
    {"File append, 4 processes, lines of 32 B",
     "lines/s",
     append_peers,
     0,
     0,
     4,
     0,
     ANYWHERE,
     false,
     NULL,
     {0, 1.8}},
};

/* ---- Measuring and printing ---------------------------------------------------------------------------- */

static const char *name_of(const struct entry *e) {
    if (e->name) return e->name;
    return e->run == run_lock ? ((const struct locker *)e->what)->name
                              : ((const struct transport *)e->what)->name;
}

/* The figure is the seconds that the operations took. */
static bool gives_seconds(const struct entry *e, struct figure f) {
    return (e->run == run_python || e->run == run_openmp) && f.value >= 0 && f.second < 0;
}

/* As many operations as take RUN_TIME. */
static size_t calibrate(const struct row *row, const struct entry *e, struct figure *first) {
    if (e->count != 0) return e->count;
    for (size_t count = 4 * row->batch + 16;; count *= 4) {
        double began = now();
        struct figure f = e->run(row, e, count);
        double seconds = now() - began;
        *first = f;
        if (f.value < 0) return 0;
        if (gives_seconds(e, f)) seconds = f.value; /* without the start of its processes */
        else if (!row->smaller_is_better) seconds = (double)count / f.value;
        if (seconds > RUN_TIME / 5) return (size_t)((double)count * RUN_TIME / seconds) + 1;
    }
}

static struct figure measure_once(const struct row *row, const struct entry *e, size_t count) {
    struct figure f = e->run(row, e, count);
    if (!gives_seconds(e, f)) return f;
    if (!row->smaller_is_better) f.value = (double)count / f.value;
    else f.value = f.value / (double)count * (row->unit[0] == 'n' ? 1e9 : row->unit[0] == 'u' ? 1e6 : 1e3);
    return f;
}

static int by_value(const void *a, const void *b) {
    double x = ((const struct figure *)a)->value, y = ((const struct figure *)b)->value;
    return (x > y) - (x < y);
}
static int by_second(const void *a, const void *b) {
    double x = ((const struct figure *)a)->second, y = ((const struct figure *)b)->second;
    return (x > y) - (x < y);
}

static const char *number(double value) {
    static char text[8][32];
    static unsigned next;
    char *to = text[next++ % 8];
    if (value >= 1e6) snprintf(to, sizeof text[0], "%.2f M", value * 1e-6);
    else if (value >= 1e4) snprintf(to, sizeof text[0], "%.1f k", value * 1e-3);
    else snprintf(to, sizeof text[0], "%.2f", value);
    return to;
}

static void print_entry(const struct row *row, int i, struct figure *f, double ours) {
    qsort(f, REPEATS, sizeof *f, by_value);
    double median = f[REPEATS / 2].value;
    printf("| %s | ", name_of(&row->entry[i]));
    if (median < 0) {
        printf("%s | | | | |\n", median == CANNOT ? "cannot" : "not installed");
        return;
    }
    printf("%s | %s .. %s | ", number(median), number(f[0].value), number(f[REPEATS - 1].value));
    double ratio = row->smaller_is_better ? median / ours : ours / median;
    qsort(f, REPEATS, sizeof *f, by_second);
    if (f[REPEATS / 2].second >= 0) printf("%s", number(f[REPEATS / 2].second));
    if (i == 0) puts(" | | |");
    else if (row->target[i] == 0) printf(" | %.2f x | |\n", ratio);
    else
        printf(" | %.2f x | %.2f x: %s |\n", ratio, row->target[i],
               ratio >= row->target[i] ? "met" : "**missed**");
}

static void measure(const struct row *row) {
    static struct figure figure[BENCH_MAX_ENTRIES][REPEATS];
    struct figure first[BENCH_MAX_ENTRIES];
    size_t count[BENCH_MAX_ENTRIES];
    int n = 0;
    for (; row->entry[n].run; n++) count[n] = calibrate(row, &row->entry[n], &first[n]);
    for (int k = 0; k < REPEATS; k++)
        for (int i = 0; i < n; i++)
            figure[i][k] = count[i] ? measure_once(row, &row->entry[i], count[i]) : first[i];
    printf("\n### %s\n\n| | %s | smallest .. largest | %s | ours is | target |\n|---|---|---|---|---|---|\n",
           row->title, row->unit, row->second ? row->second : "");
    qsort(figure[0], REPEATS, sizeof figure[0][0], by_value);
    double ours = figure[0][REPEATS / 2].value;
    for (int i = 0; i < n; i++) print_entry(row, i, figure[i], ours);
    fflush(stdout);
}

/* The median of three runs; its seconds are of the order of RUN_TIME. */
static struct figure median_of_three(const struct row *row) {
    struct figure first, f[3];
    size_t count = calibrate(row, row->entry, &first);
    for (int k = 0; k < 3; k++) f[k] = measure_once(row, row->entry, count);
    qsort(f, 3, sizeof f[0], by_value);
    return f[1];
}

static void scaling_table(void) {
    static const struct entry queue[] = {MESSAGES(our_queue), {0}}, ring[] = {MESSAGES(our_ring), {0}};
    struct row row = {"", "messages/s", queue, 64, 1, 1, 1, TWO_CPUS, false, NULL, {0}};
    puts("\n### Producers and consumers, 64 B\n\n| | queue, messages/s | ring |\n|---|---|---|");
    for (int n = 1; n <= 64; n *= n < 16 ? 2 : 4) {
        row.producers = row.consumers = n;
        row.entry = queue;
        printf("| %d -> %d | %s ", n, n, number(median_of_three(&row).value));
        row.entry = ring;
        printf("| %s |\n", number(median_of_three(&row).value));
        fflush(stdout);
    }
    puts("\n### A message through the queue, by its size\n\n| bytes | ns | ns per KiB |\n|---|---|---|");
    row.producers = row.consumers = 1;
    row.entry = queue;
    row.size = 0;
    printf("| 0 | %.0f | |\n", 1e9 / median_of_three(&row).value);
    for (row.size = 8; row.size <= (size_t)64 << 20; row.size *= row.size == (size_t)16 << 20 ? 4 : 8) {
        double ns = 1e9 / median_of_three(&row).value;
        printf("| %zu | %.0f | %.1f |\n", row.size, ns, ns / (double)row.size * 1024);
        fflush(stdout);
    }
}

/* Round trips while every CPU is kept busy by another process. */
static void load_table(void) {
    static const struct entry trips[] = {TRIPS(our_queue),
                                         TRIPS(our_ring),
                                         TRIPS(our_pipe),
                                         TRIPS(our_events),
                                         TRIPS(raw_pipe),
                                         {"mproc pool, apply", run_our_apply, NULL, 0, NULL},
                                         {"hand-written pool over pipes", run_pipe_apply, NULL, 0, NULL},
                                         {0}};
    static pid_t busy[256];
    struct row row = {"", "us", trips, 64, 1, 1, 1, TWO_CPUS, true, NULL, {0}};
    struct sched_param ordinary = {0};
    int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    fflush(stdout);
    sched_setscheduler(0, SCHED_OTHER, &ordinary); /* however the benchmark was started */
    for (int i = 0; i < cpus && i < 256; i++)
        if ((busy[i] = fork()) == 0)
            for (alarm(60);;) continue;
    puts("\n### Round trip with every CPU busy, us\n\n| | p50 | p99 | p99.9 |\n|---|---|---|---|");
    for (row.entry = trips; row.entry->run; row.entry++) {
        struct figure f = row.entry->run(&row, row.entry, 1000);
        printf("| %s | %.1f | %.1f | %.1f |\n", name_of(row.entry), f.value, f.second, f.third);
    }
    for (int i = 0; i < cpus && i < 256; i++) {
        kill(busy[i], SIGKILL);
        waitpid(busy[i], NULL, 0);
    }
}

static void print_machine(void) {
    struct utsname u;
    char line[200], model[120] = "unknown CPU";
    double load[3] = {-1, 0, 0};
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':'))
            snprintf(model, sizeof model, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"),
                     strchr(line, ':') + 2);
    if (f) fclose(f);
    uname(&u);
    getloadavg(load, 3);
    printf("- machine: %s, %ld CPUs, load before %.1f\n", model, sysconf(_SC_NPROCESSORS_ONLN), load[0]);
    printf("- kernel: %s %s %s\n", u.sysname, u.release, u.machine);
#ifdef __clang__
    printf("- compiler: %s\n", __VERSION__);
#else
    printf("- compiler: gcc %s\n", __VERSION__);
#endif
    printf("- peers: %.*s, %.*s\n", (int)strcspn(peers[PYTHON].version, "\n"), peers[PYTHON].version,
           (int)strcspn(peers[OPENMP].version, "\n"), peers[OPENMP].version);
    printf("- median of %d turns; \"ours is\": how many times as fast as this line the first line of the "
           "table is\n",
           REPEATS);
    fflush(stdout);
}

static bool wanted(const char *title, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strstr(title, argv[i])) return true;
    return argc < 2;
}

int main(int argc, char **argv) {
    double began = now();
    signal(SIGPIPE, SIG_IGN); /* a peer that is not there shows in what it does not answer */
    for (int i = 0; i < PEERS; i++) start_peer(&peers[i]);
    puts("# Results\n");
    print_machine();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (wanted(rows[i].title, argc, argv)) {
            hold_memory(rows[i].entry == start_peers ? rows[i].size : 0); /* before the first run is timed */
            measure(&rows[i]);
        }
    hold_memory(0);
    if (wanted("CPU time of a wait", argc, argv)) idle_table();
    if (wanted("Scaling", argc, argv)) scaling_table();
    if (wanted("Growth", argc, argv)) growth_tables();
    if (wanted("Load", argc, argv)) load_table();
    printf("\nAll of it took %.0f s.\n", now() - began);
    return 0;
}
