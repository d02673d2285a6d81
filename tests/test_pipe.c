/* Pipes: whole messages of every size, polling, both directions, ends that close and die, several processes
   on one end, signals, descriptors for poll(2), pipes made late. */
#define MPROC_IMPLEMENTATION
#define MPROC_ARENA_SIZE arena_bytes
static unsigned long arena_bytes = 1ul << 30; /* taken at the first use */
#include "support.h"
#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>

enum { KIB = 1024, MIB = 1024 * 1024 };
enum { WAITING, DONE, RESULT, GO, GOT, ERROR, PLACES = 64 };
static int *said;           /* what the processes of a test tell each other; 1024 numbers */
static mproc_conn *ends[2]; /* of the test that runs: one-way, ends[0] receives and ends[1] sends */

static void begin(bool duplex) {
    said = shared_ints();
    int error = mproc_pipe_new(ends, duplex);
    ck_assert_msg(error == 0, "no pipe: %s", mproc_strerror(error));
}
static void finish(void) {
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
}

static void kill_and_collect(pid_t pid) {
    kill(pid, SIGKILL);
    ck_assert_int_eq(ended(pid), -SIGKILL);
}

/* ---- Messages that can be checked -----------------------------------------------------------------------
 */

typedef struct note {
    uint32_t writer, seq;
    uint64_t size; /* of all; what follows the note is a pattern made from it */
} note;

static uint64_t pattern(uint32_t writer, uint32_t seq, size_t i) {
    return (((uint64_t)writer << 32 | seq) + i) * 0x9E3779B97F4A7C15u;
}

static void compose(void *message, uint32_t writer, uint32_t seq, size_t size) {
    note n = {writer, seq, size};
    unsigned char *bytes = message;
    memcpy(bytes, &n, sizeof n);
    for (size_t at = sizeof n; at < size; at += 8) {
        uint64_t word = pattern(writer, seq, at);
        memcpy(bytes + at, &word, size - at < 8 ? size - at : 8);
    }
}

static bool whole(const void *message, size_t size, note *n) {
    const unsigned char *bytes = message;
    if (size < sizeof *n) return false;
    memcpy(n, bytes, sizeof *n);
    if (n->size != size) return false;
    for (size_t at = sizeof *n; at < size; at += 8) {
        uint64_t word = pattern(n->writer, n->seq, at);
        if (memcmp(bytes + at, &word, size - at < 8 ? size - at : 8) != 0) return false;
    }
    return true;
}

static void *buffer_of(size_t size) {
    void *buffer = calloc(1, size != 0 ? size : 1);
    MUST(buffer != NULL);
    return buffer;
}

static int send_text(mproc_conn *conn, const char *text) {
    return mproc_conn_send(conn, text, strlen(text), 5 * SLOW);
}

/* Receives and compares; the message may not be followed by anything in the buffer. */
static void expect_text(mproc_conn *conn, const char *text) {
    char buffer[256];
    memset(buffer, '#', sizeof buffer);
    ck_assert_int_eq(mproc_conn_recv(conn, buffer, sizeof buffer, 5 * SLOW), (intmax_t)strlen(text));
    ck_assert_mem_eq(buffer, text, strlen(text));
    for (size_t i = strlen(text); i < sizeof buffer; i++) ck_assert_int_eq(buffer[i], '#');
}

static int fill(mproc_conn *conn) {
    int n = 0;
    while (mproc_conn_send(conn, &n, sizeof n, 0) == 0) n++;
    return n;
}

static bool readable(mproc_conn *conn) {
    struct pollfd p = {.fd = mproc_conn_fd(conn), .events = POLLIN};
    return p.fd >= 0 && poll(&p, 1, 0) == 1 && (p.revents & (POLLIN | POLLHUP)) != 0;
}

/* Who has said it will wait, and sleeps, can only sleep in the call. */
static pid_t blocked(int (*work)(void *arg), void *arg) {
    int before = PEEK(&said[WAITING]);
    pid_t pid = spawn(work, arg);
    EVENTUALLY(PEEK(&said[WAITING]) == before + 1 && process_state(pid) == 'S');
    return pid;
}

/* A sibling that inherits all there is and does nothing with it until told. */
static int look_on(void *arg) {
    (void)arg;
    await(&said[GO], 1);
    return 0;
}

/* ---- Messages -------------------------------------------------------------------------------------------
 */

/* Sends back what it gets, until a message of no bytes. */
static int echo(void *arg) {
    mproc_conn *conn = arg;
    size_t room = (size_t)65 * MIB;
    unsigned char *buffer = buffer_of(room);
    for (;;) {
        ssize_t n = mproc_conn_recv(conn, buffer, room, 30 * SLOW);
        MUST(n >= 0);
        if (n == 0) break;
        MUST_EQ(mproc_conn_send(conn, buffer, (size_t)n, 30 * SLOW), 0);
    }
    free(buffer);
    return 0;
}

START_TEST(pipe_01_06_x41_echo_of_every_size) {
    const size_t sizes[] = {1,
                            2,
                            111,
                            112,
                            113,
                            4095,
                            4096,
                            4097,
                            65535,
                            65536,
                            65537,
                            212991,
                            212992,
                            212993,
                            MIB - 1,
                            MIB,
                            MIB + 1,
                            16 * (size_t)MIB,
                            64 * (size_t)MIB};
    begin(true);
    unsigned char *out = buffer_of((size_t)64 * MIB), *back = buffer_of((size_t)64 * MIB + 16);
    pid_t pid = spawn(echo, ends[1]);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        if (size < sizeof(note)) memset(out, (int)size + 64, size);
        else compose(out, 1, (uint32_t)i, size);
        memset(back, 0xEE, size + 16);
        double before = now();
        ck_assert_int_eq(mproc_conn_send(ends[0], out, size, MPROC_FOREVER), 0);
        ck_assert_int_eq(mproc_conn_recv(ends[0], back, size + 16, MPROC_FOREVER), (intmax_t)size);
        if (size == (size_t)16 * MIB) ck_assert_msg(now() - before < 5 * SLOW, "%.2f s", now() - before);
        ck_assert_int_eq(memcmp(out, back, size), 0);
        for (size_t k = 0; k < 16; k++) ck_assert_int_eq(back[size + k], 0xEE); /* PIPE-02 */
    }
    ck_assert_int_eq(mproc_conn_send(ends[0], NULL, 0, 0), 0);
    ck_assert_int_eq(ended(pid), 0);
    finish();
    free(out);
    free(back);
}
END_TEST

/* How much memory is free for a test, by the system and by the group it runs in. */
static double free_gib(void) {
    double least = 0, kib = 0, limit = 0, used = 0;
    const char *line = strstr(slurp("/proc/meminfo"), "MemAvailable:");
    if (line != NULL && sscanf(line, "MemAvailable: %lf", &kib) == 1) least = kib / MIB;
    if (sscanf(slurp("/sys/fs/cgroup/memory.max"), "%lf", &limit) == 1 &&
        sscanf(slurp("/sys/fs/cgroup/memory.current"), "%lf", &used) == 1 &&
        (limit - used) / MIB / KIB < least)
        least = (limit - used) / MIB / KIB;
    return least;
}

/* Address space of so many bytes, all of it the same 64 MiB: two messages of 2 GiB would take too much memory
   and time beside the one in the pipe. */
enum { ALIAS = 64 * MIB };
static unsigned char *aliased(size_t size) {
    char path[64], name[80];
    snprintf(name, sizeof name, "%s/alias", make_folder(path));
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, ALIAS), 0);
    remove_folder(path);
    size_t turns = size / ALIAS + 1;
    unsigned char *place =
        mmap(NULL, turns * ALIAS, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t i = 0; i < turns; i++) {
        void *turn = mmap(place + i * ALIAS, ALIAS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        ck_assert(turn == place + i * ALIAS);
    }
    close(fd);
    return place;
}

/* Seconds that 2 GiB of fresh shared memory would take this machine now. */
static double seconds_of_two_gib(void) {
    double before = now(), load = 0;
    if (getloadavg(&load, 1) == 1 && load > 2 * mproc_cpu_count()) return 1000;
    char *probe = mmap(NULL, ALIAS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(probe != MAP_FAILED);
    memset(probe, 1, ALIAS);
    munmap(probe, ALIAS);
    return (now() - before) * 32;
}

START_TEST(x41_a_message_of_two_gib_and_more) {
    if (SLOW > 1 || sizeof(size_t) < 8 || free_gib() < 4 || seconds_of_two_gib() > 10) {
        printf("skipped: a message of 2 GiB (a 64-bit machine, no sanitizer, 4 GiB of memory free and the "
               "time to touch it wanted)\n");
        return;
    }
    arena_bytes = (unsigned long)5 << 30;
    size_t size = (size_t)(((uint64_t)1 << 31) + 4097);
    unsigned char *out = aliased(size), *in = aliased(size);
    compose(out, 1, 2, ALIAS);
    begin(false);
    int error = mproc_conn_send(ends[1], out, size, 0);
    ck_assert_msg(error == 0, "%zu bytes: %s", size, mproc_strerror(error));
    ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 1);
    ck_assert_int_eq(mproc_conn_recv(ends[0], in, size - 1, 0), MPROC_EMSGSIZE);
    ck_assert_int_eq(mproc_conn_recv(ends[0], in, size, 0), (intmax_t)size);
    ck_assert_int_eq(memcmp(in, out, ALIAS), 0);
    finish();
}
END_TEST

START_TEST(pipe_03_a_short_buffer_loses_nothing) {
    char buffer[256], big[300];
    begin(false);
    memset(big, 'b', sizeof big);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(send_text(ends[1], "forty-one bytes of text, or about as many"), 0);
        ck_assert_int_eq(mproc_conn_send(ends[1], big, sizeof big, 0), 0);
        ck_assert_int_eq(send_text(ends[1], "next"), 0);
        for (size_t room = 0; room < 41; room += 20) {
            memset(buffer, '#', sizeof buffer);
            ck_assert_int_eq(mproc_conn_recv(ends[0], room > 0 ? buffer : NULL, room, 5), MPROC_EMSGSIZE);
            for (size_t k = 0; k < sizeof buffer; k++) ck_assert_int_eq(buffer[k], '#');
            ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 1);
        }
        expect_text(ends[0], "forty-one bytes of text, or about as many");
        ck_assert_int_eq(mproc_conn_recv(ends[0], buffer, sizeof buffer, 5), MPROC_EMSGSIZE);
        ck_assert_int_eq(mproc_conn_recv(ends[0], buffer, sizeof buffer, MPROC_FOREVER), MPROC_EMSGSIZE);
        char large[400];
        ck_assert_int_eq(mproc_conn_recv(ends[0], large, sizeof large, 5), sizeof big);
        ck_assert_mem_eq(large, big, sizeof big);
        expect_text(ends[0], "next");
        ck_assert_int_eq(mproc_conn_recv(ends[0], buffer, sizeof buffer, 0), MPROC_ETIMEDOUT);
    }
    /* the last message is still there when the sender is gone */
    ck_assert_int_eq(mproc_conn_send(ends[1], big, sizeof big, 0), 0);
    ck_assert_int_eq(mproc_conn_recv(ends[0], buffer, sizeof buffer, 5), MPROC_EMSGSIZE);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(mproc_conn_poll(ends[0], MPROC_FOREVER), 1);
    ck_assert_int_eq(mproc_conn_recv(ends[0], buffer, sizeof buffer, MPROC_FOREVER), MPROC_EMSGSIZE);
    char large[300];
    ck_assert_int_eq(mproc_conn_recv(ends[0], large, sizeof large, MPROC_FOREVER), sizeof big);
    ck_assert_int_eq(mproc_conn_recv(ends[0], large, sizeof large, MPROC_FOREVER), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

START_TEST(pipe_03_wait_the_fd_tells_of_a_message_that_did_not_fit) {
    char small[4], large[16];
    begin(true);
    for (int k = 0; k < 2; k++) {
        ck_assert(!readable(ends[0]));
        ck_assert_int_eq(send_text(ends[1], "sixteen bytes..."), 0);
        ck_assert(readable(ends[0]));
        ck_assert_int_eq(mproc_conn_recv(ends[0], small, sizeof small, 0), MPROC_EMSGSIZE);
        ck_assert(readable(ends[0])); /* recv would not wait */
        ck_assert_int_eq(mproc_conn_recv(ends[0], large, sizeof large, 0), 16);
        ck_assert(!readable(ends[0]));
    }
    finish();
}
END_TEST

static int send_later(void *arg) {
    const char *text = arg;
    nap(0.3);
    return send_text(ends[1], text);
}

START_TEST(pipe_04_05_poll) {
    begin(false);
    TAKES(0, 0.05, ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 0));
    TAKES(0.1, 0.2, ck_assert_int_eq(mproc_conn_poll(ends[0], 0.1), 0));
    ck_assert_int_eq(send_text(ends[1], "one"), 0);
    const double any[] = {0, 0.5, 1e300, MPROC_FOREVER};
    for (size_t i = 0; i < sizeof any / sizeof *any; i++)
        TAKES(0, 0.05, ck_assert_int_eq(mproc_conn_poll(ends[0], any[i]), 1));
    expect_text(ends[0], "one");
    ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 0);
    const double for_ever[] = {MPROC_FOREVER, -100, 1e300, INFINITY};
    for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
        char late[] = "late";
        pid_t pid = spawn(send_later, late);
        TAKES(0, 0.6,
              ck_assert_int_eq(mproc_conn_poll(ends[0], for_ever[i]), 1)); /* not 0, and not too late */
        expect_text(ends[0], "late");
        ck_assert_int_eq(ended(pid), 0);
    }
    ck_assert_int_eq(mproc_conn_poll(ends[0], NAN), MPROC_EINVAL);
    finish();
}
END_TEST

START_TEST(pipe_15_16_18_zero_bytes_are_a_message) {
    const char *const texts[] = {"", "", "a", "", "b", "cd", "", "", "the last", ""};
    enum { N = sizeof texts / sizeof *texts };
    char none = '#';
    begin(true);
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < N; i++) ck_assert_int_eq(send_text(ends[1 - way], texts[i]), 0);
        for (size_t i = 0; i < N; i++) {
            for (int k = 0; k < 2; k++) ck_assert_int_eq(mproc_conn_poll(ends[way], k * 0.01), 1);
            expect_text(ends[way], texts[i]);
        }
        ck_assert_int_eq(mproc_conn_poll(ends[way], 0), 0);
        for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_conn_send(ends[1 - way], NULL, 0, 0), 0);
        ck_assert_int_eq(mproc_conn_recv(ends[way], NULL, 0, 0), 0);
        ck_assert_int_eq(mproc_conn_recv(ends[way], &none, 1, 0), 0);
        ck_assert_int_eq(none, '#');
        ck_assert_int_eq(mproc_conn_recv(ends[way], NULL, 0, 0), MPROC_ETIMEDOUT);
    }
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_conn_send(ends[1], "", 0, 0), 0);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_conn_recv(ends[0], NULL, 0, 1), 0);
    ck_assert_int_eq(mproc_conn_recv(ends[0], NULL, 0, 1), MPROC_ECLOSED); /* that is the end */
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

static int only_poll(void *arg) {
    (void)arg;
    for (int i = 0; i < 50; i++) MUST_EQ(mproc_conn_poll(ends[0], i % 2 ? 0 : 5), 1);
    return 0;
}

/* A receiver that is stopped amid a message. */
static int stop_with_the_lock(void *arg) {
    int fd[2], error = mproc__conn_enter(ends[0], fd);
    (void)arg;
    if (error == 0) mproc__queue_get_lock(ends[0]->in, fd[0], 0, &error);
    raise(SIGSTOP);
    return error;
}
START_TEST(pipe_04_poll_beside_a_stopped_receiver) {
    begin(false);
    pid_t pid = spawn(stop_with_the_lock, NULL);
    EVENTUALLY(process_state(pid) == 'T');
    TAKES(0.1, 0.3, ck_assert_int_eq(mproc_conn_poll(ends[0], 0.1), 0));
    ck_assert_int_eq(send_text(ends[1], "one"), 0);
    TAKES(0, 0.1, ck_assert_int_eq(mproc_conn_poll(ends[0], 0.1), 1));
    kill_and_collect(pid);
    finish();
}
END_TEST

START_TEST(pipe_17_polling_consumes_nothing) {
    begin(false);
    ck_assert_int_eq(send_text(ends[1], "first"), 0);
    ck_assert_int_eq(send_text(ends[1], "second"), 0);
    ck_assert_int_eq(ended(spawn(only_poll, NULL)), 0);
    expect_text(ends[0], "first");
    ck_assert_int_eq(ended(spawn(only_poll, NULL)), 0);
    expect_text(ends[0], "second");
    finish();
}
END_TEST

START_TEST(pipe_08_one_way) {
    char buffer[8];
    begin(false);
    ck_assert_int_eq(mproc_conn_send(ends[0], "x", 1, 1), MPROC_EPERM);
    ck_assert_int_eq(mproc_conn_send(ends[0], NULL, 0, 1), MPROC_EPERM);
    ck_assert_int_eq(mproc_conn_recv(ends[1], buffer, sizeof buffer, 1), MPROC_EPERM);
    ck_assert_int_eq(mproc_conn_poll(ends[1], 1), MPROC_EPERM);
    ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 0); /* nothing was sent by that */
    ck_assert_int_eq(send_text(ends[1], "right"), 0);
    expect_text(ends[0], "right");
    finish();
    begin(true);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(send_text(ends[i], i ? "left" : "right"), 0);
        ck_assert_int_eq(mproc_conn_poll(ends[i], 0), 0); /* it does not come back to its sender */
        expect_text(ends[1 - i], i ? "left" : "right");
    }
    finish();
}
END_TEST

START_TEST(pipe_10_bad_arguments_send_nothing) {
    char buffer[8];
    begin(true);
    ck_assert_int_eq(mproc_conn_send(ends[0], NULL, 1, 1), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_send(ends[0], "x", 1, NAN), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_recv(ends[1], NULL, 1, 1), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_recv(ends[1], buffer, 1, NAN), MPROC_EINVAL);
    ck_assert_int_eq(mproc_pipe_new(NULL, true), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_send(ends[0], "x", SIZE_MAX, 1), MPROC_ENOMEM);
    ck_assert_int_eq(mproc_conn_send(ends[0], "x", SIZE_MAX - 40, 1), MPROC_ENOMEM);
    ck_assert_int_eq(mproc_conn_send(ends[0], "x", SIZE_MAX / 2, 1), MPROC_ENOMEM);
    for (int i = 0; i < 2; i++) ck_assert_int_eq(mproc_conn_poll(ends[i], 0), 0);
    finish();
}
END_TEST

/* ---- Closing --------------------------------------------------------------------------------------------
 */

static void is_closed(mproc_conn *conn) {
    char buffer[8];
    ck_assert_int_eq(mproc_conn_send(conn, "x", 1, 1), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_recv(conn, buffer, sizeof buffer, 1), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_poll(conn, 1), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_fd(conn), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(conn), 0);
}

static int find_closed(void *arg) {
    (void)arg;
    MUST_EQ(mproc_conn_send(ends[0], "x", 1, 1), MPROC_ECLOSED);
    MUST_EQ(mproc_conn_fd(ends[0]), MPROC_ECLOSED);
    return 0;
}

START_TEST(pipe_14_a_closed_end_is_closed) {
    begin(true);
    int numbers[2] = {mproc_conn_fd(ends[0]), mproc_conn_fd(ends[1])}, other[2];
    ck_assert(numbers[0] > 2 && numbers[1] > 2 && numbers[0] != numbers[1]);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    ck_assert_int_eq(pipe(other), 0); /* takes the numbers that became free */
    ck_assert(other[0] == numbers[0] || other[1] == numbers[0]);
    is_closed(ends[0]);
    is_closed(ends[0]);
    ck_assert_int_eq(ended(spawn(find_closed, NULL)), 0); /* so it is in children forked later */
    ck_assert_int_eq(fcntl(other[0], F_GETFD) | fcntl(other[1], F_GETFD), 0); /* both still open */
    struct pollfd p = {.fd = other[0], .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 0), 0); /* and untouched */
    ck_assert_int_eq(mproc_conn_recv(ends[1], NULL, 0, 5), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    is_closed(ends[1]);
    close(other[0]);
    close(other[1]);
}
END_TEST

static int close_in_child(void *arg) {
    (void)arg;
    MUST_EQ(mproc_conn_close(ends[0]), 0);
    MUST_EQ(mproc_conn_close(ends[1]), 0);
    MUST_EQ(mproc_conn_send(ends[1], "x", 1, 1), MPROC_ECLOSED);
    return 0;
}

static int greet_when_told(void *arg) {
    (void)arg;
    await(&said[GO], 1);
    return send_text(ends[1], "hello");
}

START_TEST(pipe_14_both_ends_closed) {
    for (int i = 0; i < 100; i++) {
        begin(i % 2 == 0);
        if (i % 3 == 0) ck_assert_int_eq(send_text(ends[1], "nobody reads this"), 0);
        finish();
        is_closed(ends[0]);
        is_closed(ends[1]);
    }
}
END_TEST

START_TEST(pipe_14_closing_is_each_processs_own) {
    begin(false);
    ck_assert_int_eq(ended(spawn(close_in_child, NULL)), 0);
    ck_assert_int_eq(send_text(ends[1], "still here"), 0);
    expect_text(ends[0], "still here");
    pid_t pid = spawn(greet_when_told, NULL);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(mproc_conn_recv(ends[0], NULL, 0, 0.1), MPROC_ETIMEDOUT); /* the child has it yet */
    POKE(&said[GO], 1);
    expect_text(ends[0], "hello");
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_conn_recv(ends[0], NULL, 0, 5), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

static int serve(void *arg) {
    mproc_conn *conn = arg;
    char text[64];
    for (ssize_t n; (n = mproc_conn_recv(conn, text, sizeof text, MPROC_FOREVER)) != MPROC_ECLOSED;) {
        MUST(n >= 0);
        for (ssize_t i = 0; i < n; i++) text[i] = (char)toupper((unsigned char)text[i]);
        MUST_EQ(mproc_conn_send(conn, text, (size_t)n, MPROC_FOREVER), 0);
    }
    return 5;
}

START_TEST(pipe_09_the_parent_closes_the_childs_end_at_once) {
    for (int i = 0; i < 20; i++) {
        begin(true);
        mproc_process p = {.target = serve, .arg = ends[1]};
        ck_assert_int_eq(mproc_process_start(&p), 0);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        ck_assert_int_eq(send_text(ends[0], "hello"), 0);
        expect_text(ends[0], "HELLO");
        ck_assert_int_eq(send_text(ends[0], ""), 0);
        expect_text(ends[0], "");
        if (i % 2 == 0) { /* the child sees the end of this side, or this side that of the child */
            ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
            ck_assert_int_eq(mproc_process_join(&p, 5), 0);
            ck_assert_int_eq(p.exitcode, 5);
        } else {
            mproc_process_kill(&p);
            TAKES(0, 0.5, ck_assert_int_eq(mproc_conn_recv(ends[0], NULL, 0, 5), MPROC_ECLOSED));
            ck_assert_int_eq(mproc_conn_send(ends[0], "x", 1, 5), MPROC_ECLOSED);
            ck_assert_int_eq(mproc_process_join(&p, 5), 0);
            ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        }
        ck_assert_int_eq(mproc_process_close(&p), 0);
    }
}
END_TEST

static int send_some_and_end(void *arg) {
    (void)arg;
    for (uint32_t i = 0; i < 3; i++) {
        char message[1000];
        compose(message, 7, i, sizeof message);
        MUST_EQ(mproc_conn_send(ends[1], message, sizeof message, 5), 0);
    }
    return 0;
}

START_TEST(pipe_07_the_end_every_time_it_is_asked) {
    char message[1000];
    note n;
    begin(false);
    ck_assert_int_eq(ended(spawn(send_some_and_end, NULL)), 0);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    for (uint32_t i = 0; i < 3; i++) { /* first what is there */
        ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 1);
        ck_assert_int_eq(mproc_conn_recv(ends[0], message, sizeof message, 0), sizeof message);
        ck_assert(whole(message, sizeof message, &n) && n.seq == i);
    }
    const double any[] = {0, 0.5, MPROC_FOREVER};
    for (size_t i = 0; i < 3; i++) {
        TAKES(0, 0.05, ck_assert_int_eq(mproc_conn_recv(ends[0], message, 9, any[i]), MPROC_ECLOSED));
        TAKES(0, 0.05, ck_assert_int_eq(mproc_conn_recv(ends[0], NULL, 0, any[i]), MPROC_ECLOSED));
        TAKES(0, 0.05, ck_assert_int_eq(mproc_conn_poll(ends[0], any[i]), MPROC_ECLOSED));
        ck_assert(readable(ends[0])); /* recv would not wait */
    }
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

/* ---- The end although siblings have inherited it --------------------------------------------------------
 */

typedef enum way { LEAVES, IS_KILLED, CLOSES, WAYS } way;

/* Uses its end thrice, then has done with it in the way told. */
static int use_and_go(mproc_conn *conn, way how) {
    await(&said[GOT], 1);
    for (int i = 0; i < 3; i++) {
        if (conn == ends[1]) MUST_EQ(mproc_conn_send(conn, &i, sizeof i, 5), 0);
        else MUST_EQ(mproc_conn_recv(conn, &i, sizeof i, 5), sizeof i);
    }
    BUMP(&said[DONE]);
    if (how == IS_KILLED) raise(SIGKILL);
    if (how == CLOSES) MUST_EQ(mproc_conn_close(conn), 0);
    if (how == CLOSES) await(&said[GO], 1);
    return 0;
}
static way how_to_go;
static int user_by_argument(void *arg) { return use_and_go(arg, how_to_go); }
static int user_by_use(void *arg) { return use_and_go(arg, how_to_go); }

/* One process uses the end and goes; siblings made before and after it have inherited it and live on. */
enum { MANY_SIBLINGS = 40 }; /* more than an end notes that merely inherited it */
static void end_beside_siblings(int before, int side, bool by_argument, way how, bool hurry) {
    pid_t siblings[MANY_SIBLINGS + 2];
    int after = before + 2;
    mproc_process p;
    pid_t pid = 0;
    begin(false);
    how_to_go = how;
    for (int i = 0; i < before; i++) siblings[i] = spawn(look_on, NULL);
    memset(&p, 0, sizeof p);
    p.target = user_by_argument;
    p.arg = ends[side];
    if (by_argument) ck_assert_int_eq(mproc_process_start(&p), 0);
    else pid = spawn(user_by_use, ends[side]);
    for (int i = before; i < after; i++) siblings[i] = spawn(look_on, NULL);
    if (!by_argument && hurry) POKE(&said[GOT], 1); /* it may be used before this process closes it, */
    ck_assert_int_eq(mproc_conn_close(ends[side]), 0);
    if (by_argument || !hurry) { /* or after */
        if (side == 1) ck_assert_int_eq(mproc_conn_poll(ends[0], 0.15), 0);
        POKE(&said[GOT], 1);
    }
    int i = 0, error = 0;
    if (side == 1) {
        for (; i < 3; i++) {
            int n = -1;
            ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), sizeof n);
            ck_assert_int_eq(n, i);
        }
        TAKES(0, 1, ck_assert_int_eq(mproc_conn_recv(ends[0], &i, sizeof i, MPROC_FOREVER), MPROC_ECLOSED));
        TAKES(0, 1, ck_assert_int_eq(mproc_conn_poll(ends[0], MPROC_FOREVER), MPROC_ECLOSED));
        TAKES(0, 1, ck_assert_int_eq(mproc_conn_recv(ends[0], &i, sizeof i, 0), MPROC_ECLOSED));
    } else { /* what goes into the pipe yet cannot be helped; but a sender does not wait for nobody */
        for (i = 0; i < 3; i++) ck_assert_int_eq(mproc_conn_send(ends[1], &i, sizeof i, 5), 0);
        EVENTUALLY(PEEK(&said[DONE]) == 1);
        TAKES(0, 2,
              while (error == 0 && i++ < 1000000) error =
                  mproc_conn_send(ends[1], &i, sizeof i, MPROC_FOREVER));
        ck_assert_int_eq(error, MPROC_ECLOSED);
    }
    for (i = 0; i < after; i++) ck_assert(!process_gone(siblings[i]));
    POKE(&said[GO], 1);
    if (by_argument) {
        ck_assert_int_eq(mproc_process_join(&p, 5), 0);
        ck_assert_int_eq(p.exitcode, how == IS_KILLED ? -SIGKILL : 0);
        ck_assert_int_eq(mproc_process_close(&p), 0);
    } else {
        ck_assert_int_eq(ended(pid), how == IS_KILLED ? -SIGKILL : 0);
    }
    for (i = 0; i < after; i++) ck_assert_int_eq(ended(siblings[i]), 0);
    ck_assert_int_eq(mproc_conn_close(ends[1 - side]), 0);
}

START_TEST(x12_the_end_of_the_sender_beside_siblings) {
    for (int how = 0; how < WAYS; how++) {
        end_beside_siblings(1, 1, true, (way)how, true);
        end_beside_siblings(1, 1, false, (way)how, true);
        end_beside_siblings(1, 1, false, (way)how, false);
    }
}
END_TEST

START_TEST(x12_the_end_of_the_receiver_beside_siblings) {
    for (int how = 0; how < WAYS; how++) {
        end_beside_siblings(1, 0, true, (way)how, true);
        end_beside_siblings(1, 0, false, (way)how, true);
        end_beside_siblings(1, 0, false, (way)how, false);
    }
}
END_TEST

START_TEST(x12_the_end_beside_many_siblings) {
    for (int side = 0; side < 2; side++) {
        end_beside_siblings(MANY_SIBLINGS, side, true, IS_KILLED, true);
        end_beside_siblings(MANY_SIBLINGS, side, false, CLOSES, true);
    }
}
END_TEST

/* Threads that start children beside each other: none of these keeps the pipe of another thread's child open.
 */
enum { STARTERS = 8, STARTS = 8 };
static mproc_event *may_leave;
static mproc_process lingerers[STARTERS][STARTS];

static int lingers(void *arg) {
    (void)arg;
    return mproc_event_wait(may_leave, 25 * SLOW);
}
static int sends_its_pid(void *end) {
    int pid = (int)getpid();
    return mproc_conn_send(end, &pid, sizeof pid, 5 * SLOW);
}
static void *starts_senders(void *arg) {
    for (int i = 0; i < STARTS; i++) {
        int pid = 0;
        mproc_conn *pair[2];
        mproc_process sender = {.target = sends_its_pid}, *lingerer = (mproc_process *)arg + i;
        MUST_EQ(mproc_pipe_new(pair, false), 0);
        sender.arg = pair[1];
        lingerer->target = lingers;
        MUST_EQ(mproc_process_start(&sender), 0);
        MUST_EQ(mproc_process_start(lingerer), 0);
        MUST_EQ(mproc_conn_close(pair[1]), 0);
        MUST_EQ(mproc_conn_recv(pair[0], &pid, sizeof pid, 5 * SLOW), sizeof pid);
        MUST_EQ(pid, sender.pid);
        MUST_EQ(mproc_process_join(&sender, 5 * SLOW), 0);
        MUST_EQ(mproc_conn_recv(pair[0], &pid, sizeof pid, 2 * SLOW), MPROC_ECLOSED);
        MUST_EQ(mproc_conn_close(pair[0]), 0);
    }
    return NULL;
}

START_TEST(x26_the_end_of_the_sender_beside_other_threads_children) {
    pthread_t threads_[STARTERS];
    ck_assert_ptr_nonnull(may_leave = mproc_event_new());
    for (int i = 0; i < STARTERS; i++)
        ck_assert_int_eq(pthread_create(&threads_[i], NULL, starts_senders, lingerers[i]), 0);
    for (int i = 0; i < STARTERS; i++) ck_assert_int_eq(pthread_join(threads_[i], NULL), 0);
    for (int i = 0; i < STARTERS * STARTS; i++)
        ck_assert(mproc_process_is_alive(&lingerers[i / STARTS][i % STARTS]));
    ck_assert_int_eq(mproc_event_set(may_leave), 0);
    for (int i = 0; i < STARTERS * STARTS; i++) {
        mproc_process *p = &lingerers[i / STARTS][i % STARTS];
        ck_assert_int_eq(mproc_process_join(p, 5 * SLOW), 0);
        ck_assert_int_eq(p->exitcode, 0);
        ck_assert_int_eq(mproc_process_close(p), 0);
    }
    ck_assert_int_eq(mproc_event_free(may_leave), 0);
}
END_TEST

/* What the maker did with an end before it handed it to a child does not make the child a mere heir. */
START_TEST(pipe_the_makers_own_use_does_not_end_it_for_its_child) {
    int n = 1;
    begin(false);
    ck_assert_int_eq(mproc_conn_send(ends[1], &n, sizeof n, 0), 0);
    pid_t pid = spawn(greet_when_told, NULL);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 1), sizeof n);
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 0.3), MPROC_ETIMEDOUT);
    ck_assert_int_eq(mproc_conn_poll(ends[0], 0.2), 0);
    POKE(&said[GO], 1);
    expect_text(ends[0], "hello");
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

/* The fd tells what recv would: that is all an event loop looks at. */
START_TEST(wait_the_fd_tells_the_end_beside_siblings) {
    int n;
    begin(false);
    pid_t sibling = spawn(look_on, NULL), pid = spawn(send_some_and_end, NULL);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(ended(pid), 0);
    char message[1000];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(mproc_conn_recv(ends[0], message, sizeof message, 1), sizeof message);
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), MPROC_ECLOSED);
    ck_assert(readable(ends[0]));
    double took = 1; /* told once, it is told without a wait; three tries, for the machine may be busy */
    for (int k = 0; k < 3 && took > 0.03 * SLOW; k++) {
        double asked = now();
        ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, MPROC_FOREVER), MPROC_ECLOSED);
        ck_assert_int_eq(mproc_conn_poll(ends[0], MPROC_FOREVER), MPROC_ECLOSED);
        took = now() - asked;
    }
    ck_assert_msg(took <= 0.03 * SLOW, "told after %.3f s", took);
    POKE(&said[GO], 1);
    ck_assert_int_eq(ended(sibling), 0);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

/* Who inherited an end may begin to use it late: what it sends arrives. */
START_TEST(pipe_a_late_user_is_heard_after_the_end) {
    int n;
    begin(false);
    pid_t late = spawn(greet_when_told, NULL), pid = spawn(send_some_and_end, NULL);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(ended(pid), 0);
    char message[1000];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(mproc_conn_recv(ends[0], message, sizeof message, 1), sizeof message);
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), MPROC_ECLOSED);
    POKE(&said[GO], 1);
    ck_assert_int_eq(ended(late), 0);
    expect_text(ends[0], "hello");
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), MPROC_ECLOSED);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

/* A child that inherited both ends and uses one must not wait for itself when all others are gone. */
static int send_till_the_end(void *arg) {
    (void)arg;
    int error = 0;
    for (int i = 0; error == 0; i++) error = mproc_conn_send(ends[1], &i, sizeof i, MPROC_FOREVER);
    POKE(&said[ERROR], error);
    POKE(&said[DONE], 1);
    return 0;
}
static int recv_till_the_end(void *arg) {
    (void)arg;
    int n;
    ssize_t got;
    while ((got = mproc_conn_recv(ends[0], &n, sizeof n, MPROC_FOREVER)) >= 0) BUMP(&said[GOT]);
    POKE(&said[ERROR], (int)got);
    POKE(&said[DONE], 1);
    return 0;
}
static int parent_of_user(void *arg) {
    const int *sends = arg;
    int n = 5;
    fflush(NULL);
    if (mproc_pipe_new(ends, false) != 0) return 99;
    for (int k = 0; k < 2; k++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(k == 1 ? look_on(NULL) : *sends ? send_till_the_end(NULL) : recv_till_the_end(NULL));
    }
    if (*sends) MUST_EQ(mproc_conn_recv(ends[0], &n, sizeof n, 5), sizeof n);
    else MUST_EQ(mproc_conn_send(ends[1], &n, sizeof n, 5), 0);
    if (!*sends) await(&said[GOT], 1);
    raise(SIGKILL);
    return 0;
}

START_TEST(pipe_the_last_user_does_not_wait_for_itself) {
    said = shared_ints();
    for (int sends = 0; sends < 2; sends++) {
        memset(said, 0, 4096);
        ck_assert_int_eq(ended(spawn(parent_of_user, &sends)), -SIGKILL);
        TAKES(0, 2, EVENTUALLY(PEEK(&said[DONE]) == 1));
        ck_assert_int_eq(PEEK(&said[ERROR]), MPROC_ECLOSED);
        POKE(&said[GO], 1);
    }
}
END_TEST

/* Nor when the maker had done with the other end before the child began with its own. */
static int recv_when_told(void *arg) {
    await(&said[GO], 1);
    return recv_till_the_end(arg);
}
static int start_receiver_and_be_killed(void *arg) {
    (void)arg;
    mproc_process receiver = {.target = recv_when_told};
    MUST_EQ(mproc_pipe_new(ends, false), 0);
    MUST_EQ(mproc_process_start(&receiver), 0);
    raise(SIGKILL);
    return 0;
}
static int fork_receiver_and_close(void *arg) {
    const int *messages = arg;
    MUST_EQ(mproc_pipe_new(ends, false), 0);
    pid_t pid = fork();
    if (pid == 0) _exit(recv_when_told(NULL));
    MUST_EQ(mproc_conn_close(ends[0]), 0);
    for (int i = 0; i < *messages; i++) MUST_EQ(mproc_conn_send(ends[1], &i, sizeof i, 0), 0);
    return pid > 0 ? mproc_conn_close(ends[1]) : 1;
}
static void expect_end_after(int messages) {
    POKE(&said[GO], 1);
    EVENTUALLY(PEEK(&said[DONE]) == 1);
    ck_assert_int_eq(PEEK(&said[ERROR]), MPROC_ECLOSED);
    ck_assert_int_eq(PEEK(&said[GOT]), messages);
}

START_TEST(pipe_09_the_maker_is_done_before_the_child_begins) {
    for (int messages = 0; messages < 3; messages++) {
        begin(false);
        mproc_process started = {.target = recv_when_told};
        pid_t forked = messages > 0 ? spawn(recv_when_told, NULL) : 0;
        if (messages == 0) ck_assert_int_eq(mproc_process_start(&started), 0);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        for (int i = 0; i < messages; i++) ck_assert_int_eq(mproc_conn_send(ends[1], &i, sizeof i, 0), 0);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        expect_end_after(messages);
        if (messages > 0) ck_assert_int_eq(ended(forked), 0);
        else ck_assert_int_eq(mproc_process_join(&started, 5), 0);
    }
    said = shared_ints();
    ck_assert_int_eq(ended(spawn(start_receiver_and_be_killed, NULL)), -SIGKILL);
    expect_end_after(0);
    for (int messages = 0; messages < 2; messages++) {
        said = shared_ints();
        ck_assert_int_eq(ended(spawn(fork_receiver_and_close, &messages)), 0);
        expect_end_after(messages);
    }
}
END_TEST

/* A program that goes on in the child of a fork after the pipe was made has both ends, to hand them on. */
static int send_and_end(void *arg) { return mproc_conn_send(arg, "on", 2, 5); }
static int go_on_in_a_child(void *arg) {
    int error;
    (void)arg;
    MUST_EQ(mproc_pipe_new(ends, false), 0);
    pid_t maker = getpid(), pid = fork();
    if (pid != 0) _exit(pid > 0 ? 0 : 1);
    while (getppid() == maker) nap(0.001);
    MUST_EQ(mproc_conn_poll(ends[0], 0), 0);
    mproc_process sender = {.target = send_and_end, .arg = ends[1]};
    MUST_EQ(mproc_process_start(&sender), 0);
    char text[2];
    MUST_EQ(mproc_conn_recv(ends[0], text, sizeof text, 5), 2);
    error = mproc_conn_close(ends[1]);
    if (error == 0) error = (int)mproc_conn_recv(ends[0], text, sizeof text, 5);
    POKE(&said[ERROR], error);
    POKE(&said[DONE], 1);
    return 0;
}

START_TEST(pipe_a_program_that_goes_on_in_a_child) {
    said = shared_ints();
    ck_assert_int_eq(ended(spawn(go_on_in_a_child, NULL)), 0);
    EVENTUALLY(PEEK(&said[DONE]) == 1);
    ck_assert_int_eq(PEEK(&said[ERROR]), MPROC_ECLOSED);
}
END_TEST

static int threads_at_their_end;
static void *send_one(void *end) {
    __atomic_add_fetch(&threads_at_their_end, 1, __ATOMIC_SEQ_CST);
    while (PEEK(&threads_at_their_end) < 2) continue;
    return (void *)(intptr_t)mproc_conn_send(end, "x", 1, 0);
}
static int send_at_both_ends(void *arg) {
    pthread_t other;
    void *error;
    (void)arg;
    MUST_EQ(pthread_create(&other, NULL, send_one, ends[1]), 0);
    MUST(send_one(ends[0]) == NULL);
    MUST_EQ(pthread_join(other, &error), 0);
    MUST(error == NULL);
    return 0;
}

/* Whoever comes first drops the other end, which this process inherited, just when the other one uses it. */
START_TEST(pipe_both_ends_used_at_once_by_threads_of_a_child) {
    for (int i = 0; i < 100; i++) {
        begin(true);
        ck_assert_int_eq(ended(spawn(send_at_both_ends, NULL)), 0);
        for (int k = 0; k < 2; k++) ck_assert_int_eq(mproc_conn_close(ends[k]), 0);
    }
}
END_TEST

/* ---- SIGPIPE --------------------------------------------------------------------------------------------
 */

START_TEST(x02_sigpipe_never_comes) {
    struct sigaction before, after;
    sigset_t mask_before, mask_after, pending, one;
    int both = 0;
    ck_assert(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    for (int duplex = 0; duplex < 2; duplex++) {
        begin(duplex != 0);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        sigaction(SIGPIPE, NULL, &before);
        pthread_sigmask(SIG_BLOCK, NULL, &mask_before);
        char *big = buffer_of(MIB);
        for (int i = 0; i < 3; i++) { /* that would kill this process */
            ck_assert_int_eq(mproc_conn_send(ends[1], "x", 1, i - 1), MPROC_ECLOSED);
            ck_assert_int_eq(mproc_conn_send(ends[1], NULL, 0, 0), MPROC_ECLOSED);
            ck_assert_int_eq(mproc_conn_send(ends[1], big, MIB, 5), MPROC_ECLOSED);
        }
        free(big);
        sigaction(SIGPIPE, NULL, &after);
        pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
        ck_assert(after.sa_handler == before.sa_handler);
        for (int s = 1; s < 65; s++)
            ck_assert_int_eq(sigismember(&mask_after, s), sigismember(&mask_before, s));
        sigpending(&pending);
        ck_assert_int_eq(sigismember(&pending, SIGPIPE), 0);
        if (duplex) ck_assert_int_eq(mproc_conn_recv(ends[1], &both, sizeof both, 1), MPROC_ECLOSED);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    }
    /* blocked by the program: no signal of ours stays pending, and one that was stays */
    sigemptyset(&one);
    sigaddset(&one, SIGPIPE);
    ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, &one, NULL), 0);
    for (int was = 0; was < 2; was++) {
        begin(false);
        if (was) raise(SIGPIPE);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        ck_assert_int_eq(mproc_conn_send(ends[1], "x", 1, 1), MPROC_ECLOSED);
        sigpending(&pending);
        ck_assert_int_eq(sigismember(&pending, SIGPIPE), was);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    }
    struct timespec none = {0, 0};
    ck_assert_int_eq(sigtimedwait(&one, NULL, &none), SIGPIPE);
    ck_assert_int_eq(pthread_sigmask(SIG_UNBLOCK, &one, NULL), 0);
}
END_TEST

static volatile sig_atomic_t sigpipes;
static void count_sigpipe(int number) {
    (void)number;
    sigpipes++;
}

static int recv_one_and_go(void *arg) {
    (void)arg;
    int n;
    return mproc_conn_recv(ends[0], &n, sizeof n, 5) == sizeof n ? 0 : 1;
}

START_TEST(x02_a_reader_that_dies_while_we_are_blocked) {
    signal(SIGPIPE, count_sigpipe);
    for (int i = 0; i < 10; i++) {
        begin(false);
        pid_t pid = spawn(recv_one_and_go, NULL);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        int error = 0, n = 0;
        while (error == 0) error = mproc_conn_send(ends[1], &n, sizeof n, MPROC_FOREVER);
        ck_assert_int_eq(error, MPROC_ECLOSED);
        ck_assert_int_eq(ended(pid), 0);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    }
    ck_assert_int_eq(sigpipes, 0); /* nor does the program's own handler hear of it */
}
END_TEST

/* ---- Waiting --------------------------------------------------------------------------------------------
 */

typedef enum operation { RECV, POLL, SEND, OPERATIONS } operation;
static int call(operation what, double timeout) {
    int n = 0;
    if (what == RECV) return (int)mproc_conn_recv(ends[0], &n, sizeof n, timeout);
    if (what == SEND) return mproc_conn_send(ends[1], &n, sizeof n, timeout);
    int found = mproc_conn_poll(ends[0], timeout);
    return found == 0 ? MPROC_ETIMEDOUT : found;
}
static void make_it_wait(operation what) {
    begin(false);
    if (what == SEND) ck_assert_int_ge(fill(ends[1]), 100);
}

START_TEST(x59_odd_timeouts) {
    const double soon[] = {0, -0.0, 1e-300, 1e-9, 0.0004, 0.05, 0.35};
    for (operation what = RECV; what < OPERATIONS; what++) {
        make_it_wait(what);
        for (size_t i = 0; i < sizeof soon / sizeof *soon; i++)
            TAKES(soon[i], soon[i] + 0.05, ck_assert_int_eq(call(what, soon[i]), MPROC_ETIMEDOUT));
        TAKES(0, 0.05, ck_assert_int_eq(call(what, NAN), MPROC_EINVAL));
        TAKES(0, 0.05, ck_assert_int_eq(call(what, -NAN), MPROC_EINVAL));
        finish();
    }
}
END_TEST

typedef struct actor {
    operation what;
    double timeout;
} actor;
static int act(void *arg) {
    const actor *a = arg;
    BUMP(&said[WAITING]);
    int result = call(a->what, a->timeout);
    MUST(result >= 0);
    return 0;
}

static void make_it_go(operation what) {
    int n = 1;
    if (what == SEND) ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 1), sizeof n);
    else ck_assert_int_eq(mproc_conn_send(ends[1], &n, sizeof n, 1), 0);
}

START_TEST(x59_for_ever_however_said) {
    const double for_ever[] = {MPROC_FOREVER, -100, -1e-300, 1e9, 1e100, INFINITY, -INFINITY};
    for (operation what = RECV; what < OPERATIONS; what++) {
        for (size_t i = 0; i < sizeof for_ever / sizeof *for_ever; i++) {
            make_it_wait(what);
            actor a = {what, for_ever[i]};
            pid_t pid = blocked(act, &a);
            nap(0.01); /* time enough for one that would not wait */
            ck_assert(!process_gone(pid));
            if (what != SEND) make_it_go(what);
            else
                while (mproc_conn_recv(ends[0], &a, sizeof a, 0) >= 0) continue;
            TAKES(0, 0.3, ck_assert_int_eq(ended(pid), 0));
            finish();
        }
    }
}
END_TEST

static int act_in_a_storm(void *arg) {
    const actor *a = arg;
    signal_storm(10000);
    double before = now();
    MUST_EQ(call(a->what, 0.5), MPROC_ETIMEDOUT);
    MUST(now() - before >= 0.499 && now() - before < 0.6 + 2 * SLOW);
    int code = act(arg);
    signal_storm(0);
    return code;
}

START_TEST(x01_signals_neither_end_nor_stretch_a_wait) {
    for (operation what = RECV; what < OPERATIONS; what++) {
        make_it_wait(what);
        actor a = {what, MPROC_FOREVER};
        pid_t pid = spawn(act_in_a_storm, &a);
        EVENTUALLY(PEEK(&said[WAITING]) == 1);
        nap(0.2);
        ck_assert(!process_gone(pid));
        if (what != SEND) make_it_go(what);
        else
            while (mproc_conn_recv(ends[0], &a, sizeof a, 0) >= 0) continue;
        ck_assert_int_eq(ended(pid), 0);
        finish();
    }
}
END_TEST

static int wait_and_count_cpu(void *arg) {
    const actor *a = arg;
    double before = cpu_seconds();
    MUST_EQ(call(a->what, a->timeout), MPROC_ETIMEDOUT);
    double used = cpu_seconds() - before;
    if (used >= 0.02 * SLOW) fprintf(stderr, "call %d used %.1f ms of processor\n", (int)a->what, used * 1e3);
    return used >= 0.02 * SLOW;
}

START_TEST(x59_waiting_uses_no_processor) {
    pid_t pids[OPERATIONS];
    for (operation what = RECV; what < OPERATIONS; what++) { /* all at once: the pipes stay */
        make_it_wait(what);
        actor a = {what, 1};
        pids[what] = spawn(wait_and_count_cpu, &a);
    }
    for (operation what = RECV; what < OPERATIONS; what++) ck_assert_int_eq(ended(pids[what]), 0);
}
END_TEST

enum { TRANSFER = 6, TRANSFER_SIZE = 5 * MIB, SMALL = 20000 };
static int transfer(void *arg) {
    (void)arg;
    unsigned char *message = buffer_of(TRANSFER_SIZE);
    signal_storm(2000);
    for (uint32_t i = 0; i < TRANSFER; i++) {
        compose(message, 3, i, TRANSFER_SIZE);
        MUST_EQ(mproc_conn_send(ends[1], message, TRANSFER_SIZE, MPROC_FOREVER), 0);
    }
    for (uint32_t i = 0; i < SMALL; i++) MUST_EQ(mproc_conn_send(ends[1], &i, sizeof i, MPROC_FOREVER), 0);
    signal_storm(0);
    free(message);
    return 0;
}

START_TEST(pipe_20_23_signals_during_a_transfer) {
    begin(false);
    unsigned char *message = buffer_of(TRANSFER_SIZE);
    note n;
    pid_t pid = spawn(transfer, NULL);
    signal_storm(3000);
    for (uint32_t i = 0; i < TRANSFER; i++) {
        ssize_t got = mproc_conn_recv(ends[0], message, TRANSFER_SIZE, MPROC_FOREVER);
        ck_assert_int_eq(got, TRANSFER_SIZE);
        ck_assert(whole(message, TRANSFER_SIZE, &n) && n.seq == i);
    }
    for (uint32_t i = 0; i < SMALL; i++) {
        uint32_t number = 0;
        ck_assert_int_eq(mproc_conn_recv(ends[0], &number, sizeof number, MPROC_FOREVER), sizeof number);
        ck_assert_uint_eq(number, i);
    }
    signal_storm(0);
    int code = ended(pid);
    ck_assert_int_eq(code, 0);
    free(message);
    finish();
}
END_TEST

START_TEST(x49_a_send_that_timed_out_left_nothing) {
    arena_bytes = 16ul << 20;
    begin(true);
    char *big = buffer_of(MIB), *back = buffer_of(MIB);
    int n = fill(ends[1]);
    ck_assert_int_ge(n, 100);
    TAKES(0.5, 0.6, ck_assert_int_eq(mproc_conn_send(ends[1], big, MIB, 0.5), MPROC_ETIMEDOUT));
    for (int i = 0; i < 1000; i++) { /* neither in the pipe nor in memory: 1000 MiB would not fit */
        int error = mproc_conn_send(ends[1], big, MIB, 0);
        if (error != MPROC_ETIMEDOUT) ck_abort_msg("send %d: %s", i, mproc_strerror(error));
    }
    ck_assert_int_eq(send_text(ends[0], "the other way is free"), 0);
    expect_text(ends[1], "the other way is free");
    for (int i = 0; i < n; i++) {
        int number = -1;
        ck_assert_int_eq(mproc_conn_recv(ends[0], &number, sizeof number, 0), sizeof number);
        ck_assert_int_eq(number, i);
    }
    ck_assert_int_eq(mproc_conn_poll(ends[0], 0), 0);
    for (int i = 0; i < 50; i++) {
        memset(big, i + 1, MIB);
        ck_assert_int_eq(mproc_conn_send(ends[1], big, MIB, 0), 0);
        ck_assert_int_eq(mproc_conn_recv(ends[0], back, MIB, 0), MIB);
        ck_assert_int_eq(memcmp(big, back, MIB), 0);
    }
    free(big);
    free(back);
    finish();
}
END_TEST

/* ---- Killed processes -----------------------------------------------------------------------------------
 */

enum { EIGHT_MIB = 8 * MIB };
static int send_big_ones(void *arg) {
    (void)arg;
    unsigned char *message = buffer_of(EIGHT_MIB);
    for (uint32_t i = 0;; i++) {
        compose(message, 11, i, EIGHT_MIB);
        BUMP(&said[WAITING]);
        MUST_EQ(mproc_conn_send(ends[1], message, EIGHT_MIB, MPROC_FOREVER), 0);
        POKE(&said[DONE], (int)i + 1);
    }
    return 0;
}

START_TEST(x42_a_sender_killed_inside_a_large_message) {
    int rounds = (int)(40 / SLOW), received = 0;
    uint64_t seed = make_seed("sender killed");
    unsigned char *message = buffer_of(EIGHT_MIB);
    for (int round = 0; round < rounds; round++) {
        begin(false);
        memset(message, 0xAA, EIGHT_MIB); /* what is stale would show */
        pid_t pid = spawn(send_big_ones, NULL);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        EVENTUALLY(PEEK(&said[WAITING]) >= 1);
        nap((double)(draw(&seed) % 20000) * 1e-6);
        kill_and_collect(pid);
        uint32_t got = 0;
        double killed = now();
        for (;;) {
            note n;
            ssize_t size = mproc_conn_recv(ends[0], message, EIGHT_MIB, 5);
            if (size == MPROC_ECLOSED) break;
            ck_assert_int_eq(size, EIGHT_MIB);
            ck_assert(whole(message, EIGHT_MIB, &n));
            ck_assert_uint_eq(n.seq, got);
            got++;
            killed = now();
        }
        ck_assert_msg(now() - killed < 1 * SLOW, "the end was told after %.2f s", now() - killed);
        ck_assert_int_eq(mproc_conn_recv(ends[0], message, EIGHT_MIB, 5), MPROC_ECLOSED);
        ck_assert(got == (uint32_t)PEEK(&said[DONE]) || got == (uint32_t)PEEK(&said[DONE]) + 1);
        received += (int)got;
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    }
    printf("%d senders killed, %d messages of 8 MiB received whole\n", rounds, received);
    free(message);
}
END_TEST

static int recv_big_ones(void *arg) {
    (void)arg;
    unsigned char *message = buffer_of(EIGHT_MIB);
    note n;
    for (;;) {
        BUMP(&said[WAITING]);
        MUST_EQ(mproc_conn_recv(ends[0], message, EIGHT_MIB, MPROC_FOREVER), EIGHT_MIB);
        MUST(whole(message, EIGHT_MIB, &n));
    }
    return 0;
}

START_TEST(x44_a_receiver_killed_inside_a_large_message) {
    int rounds = (int)(20 / SLOW);
    uint64_t seed = make_seed("receiver killed");
    unsigned char *message = buffer_of(EIGHT_MIB);
    begin(false); /* one pipe for all rounds: what a killed one leaves is the next one's */
    uint32_t last = 0, lost = 0, sent = 0;
    for (int round = 0; round < rounds; round++) {
        POKE(&said[WAITING], 0);
        for (int i = 0; i < 4; i++) {
            compose(message, 12, sent++, EIGHT_MIB);
            ck_assert_int_eq(mproc_conn_send(ends[1], message, EIGHT_MIB, 5), 0);
        }
        pid_t pid = spawn(recv_big_ones, NULL);
        EVENTUALLY(PEEK(&said[WAITING]) >= 1);
        nap((double)(draw(&seed) % 10000) * 1e-6);
        kill_and_collect(pid);
        uint32_t took = (uint32_t)PEEK(&said[WAITING]) - 1, here = 0;
        while (mproc_conn_poll(ends[0], 0) == 1) {
            note n;
            ck_assert_int_eq(mproc_conn_recv(ends[0], message, EIGHT_MIB, 1), EIGHT_MIB);
            ck_assert(whole(message, EIGHT_MIB, &n));
            ck_assert(here == 0 || n.seq == last + 1);
            last = n.seq;
            here++;
        }
        ck_assert(took + here == 4 || took + here == 3);
        lost += 4 - took - here;
    }
    printf("%d receivers killed, %u messages lost with them\n", rounds, lost);
    free(message);
    finish();
}
END_TEST

/* ---- Several processes and threads on one end -----------------------------------------------------------
 */

enum { WRITERS = 4, READERS = 4 };
typedef struct crowd {
    int here;      /* writers and readers that use the pipe by now */
    uint32_t each; /* messages of each writer */
    size_t least, most;
    unsigned char seen[WRITERS][20000];
} crowd;
static crowd *crowded;

/* An end is gone when all who have used it are: so none may be done with it before the last has begun. */
static void use_together(mproc_conn *end) {
    MUST(mproc_conn_fd(end) >= 0);
    BUMP(&crowded->here);
    for (double late = now() + 10 * SLOW; PEEK(&crowded->here) < WRITERS + READERS; nap(0.0005))
        MUST(now() < late);
}

static int write_many(void *arg) {
    uint32_t id = *(const uint32_t *)arg;
    uint64_t seed = 77 + id;
    unsigned char *message = buffer_of(crowded->most);
    use_together(ends[1]);
    for (uint32_t i = 0; i < crowded->each; i++) {
        size_t size = crowded->least + draw(&seed) % (crowded->most - crowded->least + 1);
        compose(message, id, i, size);
        MUST_EQ(mproc_conn_send(ends[1], message, size, MPROC_FOREVER), 0);
    }
    free(message);
    return 0;
}

static int read_many(void *arg) {
    (void)arg;
    unsigned char *message = buffer_of(crowded->most);
    int64_t last[WRITERS] = {-1, -1, -1, -1};
    note n;
    ssize_t size;
    use_together(ends[0]);
    while ((size = mproc_conn_recv(ends[0], message, crowded->most, MPROC_FOREVER)) >= 0) {
        MUST(whole(message, (size_t)size, &n));
        MUST(n.writer < WRITERS && n.seq < crowded->each);
        MUST(n.seq > last[n.writer]); /* in order from each writer */
        last[n.writer] = n.seq;
        MUST_EQ(__atomic_add_fetch(&crowded->seen[n.writer][n.seq], 1, __ATOMIC_SEQ_CST), 1);
    }
    MUST_EQ(size, MPROC_ECLOSED);
    free(message);
    return 0;
}

static void *write_many_thread(void *arg) {
    write_many(arg);
    return NULL;
}
static void *read_many_thread(void *arg) {
    read_many(arg);
    return NULL;
}

static void crowd_on_one_pipe(bool with_threads, uint32_t each, size_t least, size_t most) {
    pid_t writers[WRITERS], readers[READERS];
    uint32_t id[WRITERS];
    pthread_t threads_[WRITERS + READERS];
    begin(false);
    crowded = mmap(NULL, sizeof *crowded, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(crowded != MAP_FAILED);
    crowded->each = each;
    crowded->least = least;
    crowded->most = most;
    for (int i = 0; i < READERS; i++) {
        if (!with_threads) readers[i] = spawn(read_many, NULL);
        else ck_assert_int_eq(pthread_create(&threads_[i], NULL, read_many_thread, NULL), 0);
    }
    for (uint32_t i = 0; i < WRITERS; i++) {
        id[i] = i;
        if (!with_threads) writers[i] = spawn(write_many, &id[i]);
        else ck_assert_int_eq(pthread_create(&threads_[READERS + i], NULL, write_many_thread, &id[i]), 0);
    }
    if (!with_threads) finish();
    for (int i = 0; i < WRITERS; i++) {
        if (!with_threads) ck_assert_int_eq(ended(writers[i]), 0);
        else ck_assert_int_eq(pthread_join(threads_[READERS + i], NULL), 0);
    }
    if (with_threads) ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    for (int i = 0; i < READERS; i++) { /* who read the last message, and who waits beside them */
        if (!with_threads) ck_assert_int_eq(ended(readers[i]), 0);
        else ck_assert_int_eq(pthread_join(threads_[i], NULL), 0);
    }
    if (with_threads) ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    for (uint32_t w = 0; w < WRITERS; w++)
        for (uint32_t i = 0; i < each; i++)
            if (crowded->seen[w][i] != 1) ck_abort_msg("%u of %u: %d times", i, w, crowded->seen[w][i]);
    munmap(crowded, sizeof *crowded);
}

START_TEST(x47_x48_crowds_of_processes) {
    crowd_on_one_pipe(false, 500, 20000, 20000);
    crowd_on_one_pipe(false, (uint32_t)(20000 / SLOW), 16, 200);
    crowd_on_one_pipe(false, 500, 16, 200 * KIB);
}
END_TEST

START_TEST(x48_crowds_of_threads) {
    crowd_on_one_pipe(true, 500, 20000, 20000);
    crowd_on_one_pipe(true, (uint32_t)(10000 / SLOW), 16, 200);
}
END_TEST

/* ---- Waiting for many with poll(2) ----------------------------------------------------------------------
 */

static int wait_fds(struct pollfd *fds, size_t n, double timeout) {
    double deadline = now() + timeout;
    for (;;) {
        double left = deadline - now();
        int ready = poll(fds, (nfds_t)n, timeout < 0 ? -1 : left > 0 ? (int)(left * 1000) + 1 : 0);
        if (ready >= 0 || errno != EINTR) return ready;
    }
}

typedef struct stream {
    mproc_conn *conn;
    uint64_t seed;
} stream;
static int send_ten(void *arg) {
    stream *s = arg;
    for (int i = 0; i < 10; i++) {
        int message[2] = {i, (int)getpid()};
        nap((double)(draw(&s->seed) % 3000) * 1e-6);
        MUST_EQ(mproc_conn_send(s->conn, message, sizeof message, 5), 0);
    }
    return 0;
}

START_TEST(wait_01_02_four_streams_a_socket_and_their_ends) {
    enum { N = 4 };
    mproc_conn *from[N];
    pid_t pids[N];
    int got[N] = {0}, sockets[2], lines = 0;
    struct pollfd fds[N + 1];
    said = shared_ints();
    for (int i = 0; i < N; i++) {
        mproc_conn *pair[2];
        ck_assert_int_eq(mproc_pipe_new(pair, false), 0);
        stream s = {pair[1], 99 + (uint64_t)i};
        pids[i] = spawn(send_ten, &s);
        ck_assert_int_eq(mproc_conn_close(pair[1]), 0);
        from[i] = pair[0];
        fds[i].fd = mproc_conn_fd(pair[0]);
        fds[i].events = POLLIN;
        ck_assert_int_ge(fds[i].fd, 3);
    }
    ck_assert_int_eq(pipe(sockets), 0);
    fds[N].fd = sockets[0];
    fds[N].events = POLLIN;
    for (int open_ones = N; open_ones > 0 || lines < 10;) {
        if (lines < 10) ck_assert_int_eq(write(sockets[1], "x", 1), 1);
        ck_assert_int_gt(wait_fds(fds, N + 1, 10), 0);
        char c;
        if (fds[N].revents & POLLIN) lines += read(sockets[0], &c, 1) == 1;
        for (int i = 0; i < N; i++) {
            if (fds[i].fd < 0 || fds[i].revents == 0) continue;
            int message[2];
            ssize_t size = mproc_conn_recv(from[i], message, sizeof message, 0); /* as the fd said */
            if (size == MPROC_ECLOSED) {
                fds[i].fd = -1;
                open_ones--;
                continue;
            }
            ck_assert_int_eq(size, sizeof message);
            ck_assert_int_eq(message[0], got[i]);
            ck_assert_int_eq(message[1], pids[i]);
            got[i]++;
        }
    }
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(got[i], 10);
        ck_assert_int_eq(ended(pids[i]), 0);
        ck_assert_int_eq(mproc_conn_close(from[i]), 0);
    }
    close(sockets[0]);
    close(sockets[1]);
}
END_TEST

static int end_when_told(void *arg) {
    (void)arg;
    await(&said[GO], 1);
    return 3;
}

START_TEST(wait_03_04_05_06_pipes_queues_and_processes) {
    begin(true);
    mproc_queue *queue = mproc_queue_new(4);
    mproc_process p = {.target = end_when_told};
    ck_assert_ptr_nonnull(queue);
    ck_assert_int_eq(mproc_process_start(&p), 0);
    struct pollfd fds[3];
    memset(fds, 0, sizeof fds);
    fds[0].fd = mproc_conn_fd(ends[0]);
    fds[1].fd = mproc_queue_fd(queue);
    fds[2].fd = mproc_process_fd(&p);
    for (int i = 0; i < 3; i++) fds[i].events = POLLIN;
    TAKES(0.3, 0.4, ck_assert_int_eq(wait_fds(fds, 3, 0.3), 0)); /* nothing ready */
    signal_storm(10000);
    TAKES(0.3, 0.4, ck_assert_int_eq(wait_fds(fds, 3, 0.3), 0));
    signal_storm(0);
    ck_assert_int_eq(send_text(ends[1], "a"), 0);
    ck_assert_int_eq(wait_fds(fds, 3, -1), 1);
    ck_assert_int_eq(fds[0].revents, POLLIN);
    ck_assert_int_eq(mproc_queue_put(queue, "b", 1, 0), 0);
    ck_assert_int_eq(wait_fds(fds, 3, -1), 2);
    ck_assert_int_eq(fds[1].revents, POLLIN);
    expect_text(ends[0], "a");
    POKE(&said[GO], 1);
    fds[1].fd = -1;
    TAKES(0, 0.4, ck_assert_int_eq(wait_fds(fds, 3, 5), 1));
    ck_assert_int_eq(fds[2].revents & POLLIN, POLLIN);
    ck_assert_int_eq(mproc_process_wait_any((mproc_process *const[]){&p}, 1, 0), 0);
    fds[1].fd = mproc_queue_fd(queue);
    ck_assert_int_eq(send_text(ends[1], ""), 0); /* of no bytes, and yet there */
    ck_assert_int_eq(wait_fds(fds, 3, 0), 3);
    expect_text(ends[0], "");
    char c;
    ck_assert_int_eq(mproc_queue_get(queue, &c, 1, 0), 1);
    ck_assert_int_eq(wait_fds(fds, 3, 0), 1); /* the process stays ended */
    ck_assert_int_eq(mproc_process_join(&p, 1), 0);
    ck_assert_int_eq(p.exitcode, 3);
    char late[] = "late"; /* for ever means until something comes */
    fds[2].fd = -1;
    mproc_conn *end = ends[1];
    pid_t pid = spawn(send_later, late);
    ck_assert_ptr_eq(end, ends[1]);
    TAKES(0.2, 0.6, ck_assert_int_eq(wait_fds(fds, 3, -1), 1));
    expect_text(ends[0], "late");
    ck_assert_int_eq(ended(pid), 0);
    ck_assert_int_eq(mproc_process_close(&p), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    finish();
}
END_TEST

START_TEST(wait_the_fds_of_both_kinds_of_ends) {
    begin(false);
    struct pollfd out = {.fd = mproc_conn_fd(ends[1]), .events = POLLOUT};
    ck_assert_int_eq(poll(&out, 1, 0), 1); /* a sending end shows room */
    for (int i = 0; i < 2; i++) {
        int flags = fcntl(mproc_conn_fd(ends[i]), F_GETFD);
        ck_assert(flags >= 0 && (flags & FD_CLOEXEC) != 0);
        ck_assert_int_eq(mproc_conn_fd(ends[i]), mproc_conn_fd(ends[i]));
    }
    finish();
}
END_TEST

/* ---- Pipes made late, and handed on (P5) ----------------------------------------------------------------
 */

typedef enum task { T_RECV, T_SEND, T_ECHO, T_POLL, T_CLOSE, T_END } task;
typedef struct errands {
    uint32_t turn, done;
    task what;
    mproc_conn *conn;
    int number, result;
} errands;

static int run_errands(void *arg) {
    errands *e = arg;
    for (uint32_t turn = 1;; turn++) {
        while (PEEK(&e->turn) < turn) nap(0.0005);
        int n = e->number;
        switch (e->what) {
        case T_RECV:
            e->result = (int)mproc_conn_recv(e->conn, &n, sizeof n, MPROC_FOREVER);
            e->number = n;
            break;
        case T_SEND: e->result = mproc_conn_send(e->conn, &n, sizeof n, MPROC_FOREVER); break;
        case T_ECHO:
            e->result = (int)mproc_conn_recv(e->conn, &n, sizeof n, MPROC_FOREVER);
            n *= 2;
            if (e->result == sizeof n) e->result = mproc_conn_send(e->conn, &n, sizeof n, MPROC_FOREVER);
            break;
        case T_POLL: e->result = mproc_conn_poll(e->conn, 0); break;
        case T_CLOSE: e->result = mproc_conn_close(e->conn); break;
        default: return 0;
        }
        POKE(&e->done, turn);
    }
}
static errands *new_errands(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(page != MAP_FAILED);
    return page;
}
static void send_errand(errands *e, task what, mproc_conn *conn, int number) {
    e->what = what;
    e->conn = conn;
    e->number = number;
    BUMP(&e->turn);
}
static int errand_result(errands *e) {
    EVENTUALLY(PEEK(&e->done) == e->turn);
    return e->result;
}

START_TEST(p5_pipe_made_after_the_worker) {
    mproc_event_free(mproc_event_new()); /* the family's memory exists from here on */
    errands *e = new_errands();
    pid_t worker = spawn(run_errands, e);
    for (int round = 0; round < 20; round++) {
        begin(true);
        for (int i = 0; i < 10; i++) {
            int n = i;
            send_errand(e, T_ECHO, ends[1], 0);
            ck_assert_int_eq(mproc_conn_send(ends[0], &n, sizeof n, 5), 0);
            ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), sizeof n);
            ck_assert_int_eq(n, 2 * i);
            ck_assert_int_eq(errand_result(e), 0);
        }
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        int n;
        ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 0.01), MPROC_ETIMEDOUT);
        if (round % 2 == 0) { /* it closes first, or this process does */
            send_errand(e, T_CLOSE, ends[1], 0);
            ck_assert_int_eq(errand_result(e), 0);
            TAKES(0, 1, ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), MPROC_ECLOSED));
            ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
        } else {
            send_errand(e, T_RECV, ends[1], 0);
            ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
            ck_assert_int_eq(errand_result(e), MPROC_ECLOSED);
        }
    }
    begin(false); /* one-way keeps its direction there (PIPE-22); the worker's death is the end */
    send_errand(e, T_RECV, ends[1], 0);
    ck_assert_int_eq(errand_result(e), MPROC_EPERM);
    send_errand(e, T_SEND, ends[1], 33);
    int n;
    ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), sizeof n);
    ck_assert_int_eq(n, 33);
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    kill_and_collect(worker);
    TAKES(0, 1, ck_assert_int_eq(mproc_conn_recv(ends[0], &n, sizeof n, 5), MPROC_ECLOSED));
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
}
END_TEST

static mproc_conn **made; /* in shared memory */
static int make_wait_and_be_killed(void *arg) {
    (void)arg;
    MUST_EQ(mproc_pipe_new(ends, false), 0);
    made[0] = ends[0];
    made[1] = ends[1];
    POKE(&said[DONE], 1);
    await(&said[GO], 1);
    raise(SIGKILL);
    return 0;
}

START_TEST(p5_pipe_whose_maker_has_ended) {
    said = shared_ints();
    mproc_event_free(mproc_event_new());
    made = mproc_shm_new(2 * sizeof *made);
    errands *e[2] = {new_errands(), new_errands()};
    pid_t receiver = spawn(run_errands, e[0]), sender = spawn(run_errands, e[1]);
    pid_t maker = spawn(make_wait_and_be_killed, NULL);
    EVENTUALLY(PEEK(&said[DONE]) == 1);
    send_errand(e[0], T_POLL, made[0], 0); /* each gets its end while somebody has it */
    ck_assert_int_eq(errand_result(e[0]), 0);
    send_errand(e[1], T_SEND, made[1], 0);
    ck_assert_int_eq(errand_result(e[1]), 0);
    POKE(&said[GO], 1);
    ck_assert_int_eq(ended(maker), -SIGKILL);
    for (int i = 0; i < 10; i++) {
        send_errand(e[0], T_RECV, made[0], 0);
        ck_assert_int_eq(errand_result(e[0]), sizeof(int));
        ck_assert_int_eq(e[0]->number, i);
        send_errand(e[1], T_SEND, made[1], i + 1);
        ck_assert_int_eq(errand_result(e[1]), 0);
    }
    int n = -1; /* this process never had it: it gets it from those who opened it */
    ck_assert_int_eq(mproc_conn_recv(made[0], &n, sizeof n, 5), sizeof n);
    ck_assert_int_eq(n, 10);
    ck_assert_int_eq(mproc_conn_close(made[0]), 0);
    send_errand(e[0], T_RECV, made[0], 0);
    kill_and_collect(sender);
    TAKES(0, 1, ck_assert_int_eq(errand_result(e[0]), MPROC_ECLOSED));
    send_errand(e[0], T_END, NULL, 0);
    ck_assert_int_eq(ended(receiver), 0);
    ck_assert_int_eq(mproc_free(made), 0);
}
END_TEST

/* An end travels as a plain pointer, through another pipe. */
static int serve_what_comes(void *arg) {
    mproc_conn *from = arg, *conn;
    while (mproc_conn_recv(from, &conn, sizeof(void *), MPROC_FOREVER) == sizeof(void *)) {
        if (serve(conn) != 5) return 1;
        MUST_EQ(mproc_conn_close(conn), 0);
    }
    return 6;
}

START_TEST(pipe_21_22_an_end_sent_through_a_pipe) {
    begin(false);
    mproc_process p = {.target = serve_what_comes, .arg = ends[0]};
    ck_assert_int_eq(mproc_process_start(&p), 0);
    ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    for (int i = 0; i < 20; i++) {
        mproc_conn *pair[2];
        ck_assert_int_eq(mproc_pipe_new(pair, true), 0);
        ck_assert_int_eq(mproc_conn_send(ends[1], &pair[1], sizeof(void *), 5), 0);
        ck_assert_int_eq(send_text(pair[0], "are you there"), 0);
        expect_text(pair[0], "ARE YOU THERE");
        ck_assert_int_eq(mproc_conn_close(pair[1]), 0); /* the other one has it now */
        ck_assert_int_eq(send_text(pair[0], "all is well"), 0);
        expect_text(pair[0], "ALL IS WELL");
        ck_assert_int_eq(mproc_conn_close(pair[0]), 0);
    }
    ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
    ck_assert_int_eq(mproc_process_join(&p, 5), 0);
    ck_assert_int_eq(p.exitcode, 6);
    ck_assert_int_eq(mproc_process_close(&p), 0);
}
END_TEST

/* ---- What comes back, misuse ----------------------------------------------------------------------------
 */

START_TEST(pipe_24_descriptors_and_memory_come_back) {
    arena_bytes = 64ul << 20;
    begin(true);
    finish();
    int fds = open_fds(), rounds = (int)(40000 / SLOW);
    for (int i = 0; i < rounds; i++) {
        int error = mproc_pipe_new(ends, i % 2 == 0);
        if (error != 0) ck_abort_msg("round %d: %s", i, mproc_strerror(error));
        if (mproc_conn_send(ends[1], "x", 1, 0) != 0) ck_abort_msg("round %d: send", i);
        if (mproc_conn_close(ends[i % 3 == 0]) != 0 || mproc_conn_close(ends[i % 3 != 0]) != 0)
            ck_abort_msg("round %d: close", i);
    }
    ck_assert_int_eq(open_fds(), fds);
}
END_TEST

static bool a_pipe_left_full(char *big) {
    if (mproc_pipe_new(ends, false) != 0) return false;
    bool sent = true;
    for (int i = 0; i < 3; i++) sent = sent && mproc_conn_send(ends[1], big, MIB, 0) == 0;
    finish();
    return sent;
}

START_TEST(memory_of_unread_messages_comes_back) {
    arena_bytes = 64ul << 20;
    char *big = buffer_of(MIB);
    for (int i = 0; i < 60; i++) EVENTUALLY(a_pipe_left_full(big));
    free(big);
}
END_TEST

static int leave_messages(void *arg) {
    char *big = arg;
    mproc_conn_close(ends[0]);
    for (int i = 0; i < 3; i++) MUST_EQ(mproc_conn_send(ends[1], big, MIB, 5), 0);
    raise(SIGKILL);
    return 0;
}

START_TEST(memory_of_messages_of_the_dead_comes_back) {
    arena_bytes = 64ul << 20;
    char *big = buffer_of(MIB), *back = buffer_of(MIB);
    for (int i = 0; i < 60; i++) {
        begin(false);
        pid_t pid = spawn(leave_messages, big);
        ck_assert_int_eq(mproc_conn_close(ends[1]), 0);
        for (int k = 0; k < 3; k++) ck_assert_int_eq(mproc_conn_recv(ends[0], back, MIB, 5), MIB);
        ck_assert_int_eq(mproc_conn_recv(ends[0], back, MIB, 5), MPROC_ECLOSED);
        ck_assert_int_eq(ended(pid), -SIGKILL);
        ck_assert_int_eq(mproc_conn_close(ends[0]), 0);
    }
    free(big);
    free(back);
}
END_TEST

/* A process closes the end that is the last one held. As soon as that shows another process frees the pipe,
   and the memory is used for something else. */
static int close_traced(void *arg) {
    MUST_EQ(mproc_conn_close(ends[1]), 0);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    return -mproc_conn_close(arg);
}
START_TEST(memory_of_a_pipe_that_is_just_closed) {
    begin(false);
    mproc__pair *pair = ends[0]->pair;
    uint32_t number = ends[0]->port.number;
    pid_t pid = spawn(close_traced, ends[0]);
    finish();
    do {
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        if (!mproc__conn_held(ends[0], false, false)) break;
    } while (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
    pair->touched = 0; /* long ago */
    mproc__pair_tidy(mproc__shared, number);
    unsigned char *other = mproc__alloc(sizeof *pair, false);
    ck_assert_ptr_eq(other, pair);
    memset(other, 0x55, sizeof *pair);
    ck_assert_int_eq(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    ck_assert_int_eq(ended(pid), 0);
    for (size_t i = 0; i < sizeof *pair; i++) ck_assert_msg(other[i] == 0x55, "byte %zu has changed", i);
    mproc__dealloc(other);
}
END_TEST

static int without_descriptors(void *arg) {
    (void)arg;
    struct rlimit limit;
    mproc_event_free(mproc_event_new());
    int fds = open_fds();
    getrlimit(RLIMIT_NOFILE, &limit);
    bool made_one = false;
    for (int k = 0; k < 12 && !made_one; k++) {
        limit.rlim_cur = (rlim_t)(fds - 3 + k); /* "." and ".." and the folder's own were counted */
        OR_RETURN(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        int error = mproc_pipe_new(ends, true);
        OR_RETURN(error == 0 || error == -EMFILE);
        if (error == 0) {
            char c = 0;
            made_one = true;
            OR_RETURN(mproc_conn_send(ends[0], "x", 1, 0) == 0);
            OR_RETURN(mproc_conn_recv(ends[1], &c, 1, 0) == 1 && c == 'x');
            OR_RETURN(mproc_conn_close(ends[0]) == 0 && mproc_conn_close(ends[1]) == 0);
        }
        limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
        OR_RETURN(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        OR_RETURN(open_fds() == fds);
    }
    return made_one ? 0 : 98;
}

START_TEST(x19_no_descriptors_left) { ck_assert_int_eq(ended(spawn(without_descriptors, NULL)), 0); }
END_TEST

static void refused(void *no) {
    char buffer[8];
    ck_assert_int_eq(mproc_conn_send(no, "x", 1, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_send(no, NULL, 0, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_recv(no, buffer, sizeof buffer, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_poll(no, MPROC_FOREVER), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_fd(no), MPROC_EINVAL);
    ck_assert_int_eq(mproc_conn_close(no), MPROC_EINVAL);
}

START_TEST(pipe_19_x38_what_is_not_an_end) {
    uint64_t zeros[64] = {0}, ones[64];
    memset(ones, 0xff, sizeof ones);
    refused(NULL);
    refused(zeros);
    begin(true);
    int *value = mproc_value_new(int, 1);
    unsigned char *raw = mproc_shm_new(4096);
    mproc_queue *queue = mproc_queue_new(4);
    ck_assert(value != NULL && raw != NULL && queue != NULL);
    memset(raw, 0x55, 4096);
    refused(NULL);
    refused(zeros + 8);
    refused(ones + 8);
    refused((void *)(UINTPTR_MAX - 7));
    refused((void *)(uintptr_t)44977608);
    refused(value);
    refused(queue);
    for (size_t offset = 0; offset < 4096; offset += 8) refused(raw + offset);
    for (size_t offset = 1; offset < 64; offset++) refused((char *)ends[0] + offset);
    ck_assert_int_eq(mproc_free(ends[0]), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_free((mproc_queue *)(void *)ends[0]), MPROC_EINVAL);
    ck_assert_int_eq(mproc_queue_put((mproc_queue *)(void *)ends[0], "x", 1, 0), MPROC_EINVAL);
    ck_assert_int_eq(mproc_free(value), 0);
    ck_assert_int_eq(mproc_free(raw), 0);
    ck_assert_int_eq(mproc_queue_free(queue), 0);
    finish();
}
END_TEST

SUITE_MAIN("pipe", pipe_01_06_x41_echo_of_every_size, x41_a_message_of_two_gib_and_more,
           pipe_03_a_short_buffer_loses_nothing, pipe_03_wait_the_fd_tells_of_a_message_that_did_not_fit,
           pipe_04_05_poll, pipe_04_poll_beside_a_stopped_receiver, pipe_15_16_18_zero_bytes_are_a_message,
           pipe_17_polling_consumes_nothing, pipe_08_one_way, pipe_10_bad_arguments_send_nothing,
           pipe_14_a_closed_end_is_closed, pipe_14_both_ends_closed, pipe_14_closing_is_each_processs_own,
           pipe_09_the_parent_closes_the_childs_end_at_once, pipe_07_the_end_every_time_it_is_asked,
           x12_the_end_of_the_sender_beside_siblings, x12_the_end_of_the_receiver_beside_siblings,
           x12_the_end_beside_many_siblings, pipe_the_makers_own_use_does_not_end_it_for_its_child,
           wait_the_fd_tells_the_end_beside_siblings, pipe_a_late_user_is_heard_after_the_end,
           pipe_the_last_user_does_not_wait_for_itself, pipe_09_the_maker_is_done_before_the_child_begins,
           pipe_a_program_that_goes_on_in_a_child, pipe_both_ends_used_at_once_by_threads_of_a_child,
           x02_sigpipe_never_comes, x02_a_reader_that_dies_while_we_are_blocked, x59_odd_timeouts,
           x59_for_ever_however_said, x01_signals_neither_end_nor_stretch_a_wait,
           x59_waiting_uses_no_processor, pipe_20_23_signals_during_a_transfer,
           x49_a_send_that_timed_out_left_nothing, x42_a_sender_killed_inside_a_large_message,
           x44_a_receiver_killed_inside_a_large_message, x47_x48_crowds_of_processes, x48_crowds_of_threads,
           wait_01_02_four_streams_a_socket_and_their_ends, wait_03_04_05_06_pipes_queues_and_processes,
           wait_the_fds_of_both_kinds_of_ends, p5_pipe_made_after_the_worker, p5_pipe_whose_maker_has_ended,
           pipe_21_22_an_end_sent_through_a_pipe, pipe_24_descriptors_and_memory_come_back,
           memory_of_unread_messages_comes_back, memory_of_messages_of_the_dead_comes_back,
           memory_of_a_pipe_that_is_just_closed, x19_no_descriptors_left, pipe_19_x38_what_is_not_an_end,
           x26_the_end_of_the_sender_beside_other_threads_children)
