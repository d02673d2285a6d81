/* A pipe joins two processes. It carries messages, not bytes: what is sent in one call is received in one.
   One-way it has an end that sends and one that receives; duplex, both ends do both. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <string.h>

#define ROUNDS 1000

static int tell(void *arg) {
    mproc_conn *conn = (mproc_conn *)arg;
    static const char *const messages[] = {"one message", "", "another one"};
    for (int i = 0; i < 3; i++)
        if (mproc_conn_send(conn, messages[i], strlen(messages[i]), 10.0) != 0) return 1;
    return 0; /* its end of the pipe is closed with it */
}

static bool one_way(void) {
    mproc_conn *ends[2]; /* ends[0] receives, ends[1] sends */
    if (mproc_pipe_new(ends, false) != 0) return false;
    mproc_process teller = {.target = tell, .arg = ends[1]};
    if (mproc_process_start(&teller) != 0) return false;
    mproc_conn_close(ends[1]); /* ours; otherwise we would wait for messages from ourselves */

    char text[32];
    int messages = 0;
    ssize_t size;
    while ((size = mproc_conn_recv(ends[0], text, sizeof text, 10.0)) >= 0) {
        printf("received %2d bytes: \"%.*s\"\n", (int)size, (int)size, text); /* 0 bytes are a message too */
        messages++;
    }
    printf("then: %s\n", mproc_strerror((int)size));
    mproc_conn_close(ends[0]);
    return mproc_process_join(&teller, 10.0) == 0 && teller.exitcode == 0 && messages == 3 &&
           size == MPROC_ECLOSED;
}

static int pong(void *arg) {
    mproc_conn *conn = (mproc_conn *)arg;
    int ball;
    ssize_t size;
    while ((size = mproc_conn_recv(conn, &ball, sizeof ball, 10.0)) == (ssize_t)sizeof ball) {
        ball++;
        if (mproc_conn_send(conn, &ball, sizeof ball, 10.0) != 0) return 1;
    }
    return size == MPROC_ECLOSED ? 0 : 1; /* the other player went home */
}

static bool ping_pong(void) {
    mproc_conn *ends[2];
    if (mproc_pipe_new(ends, true) != 0) return false; /* true: duplex */
    mproc_process player = {.target = pong, .arg = ends[1]};
    if (mproc_process_start(&player) != 0) return false;
    mproc_conn_close(ends[1]);

    int ball = 0;
    for (int i = 0; i < ROUNDS; i++) {
        if (mproc_conn_send(ends[0], &ball, sizeof ball, 10.0) != 0) return false;
        if (mproc_conn_recv(ends[0], &ball, sizeof ball, 10.0) != (ssize_t)sizeof ball) return false;
        if (ball != i + 1) return false;
    }
    mproc_conn_close(ends[0]); /* the player is told so, and ends */
    int error = mproc_process_join(&player, 10.0);
    printf("the ball went to and fro %d times; the player ended with exit code %d\n", ball, player.exitcode);
    return error == 0 && player.exitcode == 0 && ball == ROUNDS;
}

int main(void) {
    bool held = one_way();
    held = ping_pong() && held;
    return held ? 0 : 1;
}
