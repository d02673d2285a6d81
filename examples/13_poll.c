/* Waiting for several things at once: messages in a queue, messages in a pipe, the end of processes. Each has
   a descriptor, and poll(2) waits for any number of descriptors; so they fit into one event loop, beside
   sockets and timers. For processes alone there is mproc_process_wait_any. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <poll.h>
#include <string.h>

#define MESSAGES 4

static int count(void *arg) {
    mproc_queue *queue = (mproc_queue *)arg;
    for (int i = 1; i <= MESSAGES; i++)
        if (mproc_queue_put(queue, &i, sizeof i, 10.0) != 0) return 1;
    return 0;
}

static int spell(void *arg) {
    static const char *const words[MESSAGES] = {"alpha", "bravo", "charlie", "delta"};
    mproc_conn *conn = (mproc_conn *)arg;
    for (int i = 0; i < MESSAGES; i++)
        if (mproc_conn_send(conn, words[i], strlen(words[i]), 10.0) != 0) return 1;
    return 0;
}

/* Each takes what is there now: with a timeout of 0 a call never waits. */
static void take_numbers(mproc_queue *queue, int *messages) {
    int number;
    while (mproc_queue_get(queue, &number, sizeof number, 0) >= 0) {
        printf("queue:   %d\n", number);
        ++*messages;
    }
}

static bool take_words(mproc_conn *conn, int *messages) {
    char word[16];
    ssize_t size;
    while ((size = mproc_conn_recv(conn, word, sizeof word, 0)) >= 0) {
        printf("pipe:    %.*s\n", (int)size, word);
        ++*messages;
    }
    return size != MPROC_ECLOSED; /* false: that was all */
}

static bool ended_well(mproc_process *p) {
    mproc_process_join(p, 10.0); /* does not wait: it has ended */
    printf("process: %s has ended, exit code %d\n", p->name, p->exitcode);
    return p->exitcode == 0;
}

static bool event_loop(void) {
    mproc_queue *queue = mproc_queue_new(0);
    mproc_conn *ends[2]; /* ends[0] receives, ends[1] sends */
    if (!queue || mproc_pipe_new(ends, false) != 0) return false;
    mproc_process counter = {.target = count, .arg = queue, .name = "counter"};
    mproc_process speller = {.target = spell, .arg = ends[1], .name = "speller"};
    if (mproc_process_start(&counter) != 0 || mproc_process_start(&speller) != 0) return false;
    mproc_conn_close(ends[1]); /* the speller's, not ours */

    enum { NUMBERS, WORDS, COUNTER, SPELLER, SOURCES };
    struct pollfd fds[SOURCES] = {[NUMBERS] = {.fd = mproc_queue_fd(queue), .events = POLLIN},
                                  [WORDS] = {.fd = mproc_conn_fd(ends[0]), .events = POLLIN},
                                  [COUNTER] = {.fd = mproc_process_fd(&counter), .events = POLLIN},
                                  [SPELLER] = {.fd = mproc_process_fd(&speller), .events = POLLIN}};
    int messages = 0, good_ends = 0;
    while (fds[WORDS].fd >= 0 || fds[COUNTER].fd >= 0 || fds[SPELLER].fd >= 0) {
        if (poll(fds, SOURCES, 10000) <= 0) return false; /* it passes over negative ones */
        if (fds[NUMBERS].revents) take_numbers(queue, &messages);
        if (fds[WORDS].revents && !take_words(ends[0], &messages)) fds[WORDS].fd = -1;
        if (fds[COUNTER].revents) good_ends += ended_well(&counter), fds[COUNTER].fd = -1;
        if (fds[SPELLER].revents) good_ends += ended_well(&speller), fds[SPELLER].fd = -1;
    }
    take_numbers(queue, &messages); /* what the counter put after our last look, before it ended */
    mproc_conn_close(ends[0]);
    mproc_queue_free(queue);
    return messages == 2 * MESSAGES && good_ends == 2;
}

static int wait_for_event(void *arg) { return mproc_event_wait((mproc_event *)arg, 10.0) == 0 ? 0 : 1; }
static int end_at_once(void *arg) { return arg ? 0 : 1; }

static bool wait_any(void) {
    mproc_event *event = mproc_event_new();
    if (!event) return false;
    mproc_process a = {.target = wait_for_event, .arg = event, .name = "a"};
    mproc_process b = {.target = end_at_once, .arg = event, .name = "b"};
    mproc_process *both[2] = {&a, &b};
    if (mproc_process_start(&a) != 0 || mproc_process_start(&b) != 0) return false;

    int first = mproc_process_wait_any(both, 2, 10.0);
    if (first < 0) return false;
    printf("first to end: %s\n", both[first]->name);
    mproc_event_set(event); /* now the other may end too */
    if (mproc_process_join(&a, 10.0) != 0 || mproc_process_join(&b, 10.0) != 0) return false;
    mproc_event_free(event);
    return first == 1 && a.exitcode == 0 && b.exitcode == 0;
}

int main(void) {
    bool held = event_loop();
    held = wait_any() && held;
    return held ? 0 : 1;
}
