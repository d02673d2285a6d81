/* ZeroMQ and nng over their ipc transports: each consumer listens, each producer connects to all of them.
   What is not installed has no open function and shows so in the table. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE 50 /* milliseconds without a message after which a consumer asks whether all have come */

#if __has_include(<zmq.h>)
#include <zmq.h>

struct zmq {
    size_t size;
    int consumers, number;
    pid_t owner;
    void *context, *socket; /* of this process */
};

static void *zmq_open(size_t size, int producers, int consumers) {
    static int number;
    struct zmq *z = (struct zmq *)calloc(1, sizeof *z);
    (void)producers;
    *z = (struct zmq){size, consumers, number++, getpid(), NULL, NULL};
    return z;
}
static void zmq_enter(void *t, bool producer, int index) {
    struct zmq *z = (struct zmq *)t;
    char address[80];
    int patience = PATIENCE, soon = 1, error = 0;
    z->context = zmq_ctx_new();
    z->socket = zmq_socket(z->context, producer ? ZMQ_PUSH : ZMQ_PULL);
    zmq_setsockopt(z->socket, ZMQ_RECONNECT_IVL, &soon, sizeof soon);
    for (int i = producer ? 0 : index; i < (producer ? z->consumers : index + 1); i++) {
        snprintf(address, sizeof address, "ipc://@mproc-bench-%d-%d-%d", (int)z->owner, z->number, i);
        error |= producer ? zmq_connect(z->socket, address) : zmq_bind(z->socket, address);
    }
    if (!producer) zmq_setsockopt(z->socket, ZMQ_RCVTIMEO, &patience, sizeof patience);
    if (error) die("ZeroMQ", 0);
    if (producer) usleep(20000); /* its own thread connects */
}
static void zmq_put(void *t, const void *items, size_t n) {
    const struct zmq *z = (const struct zmq *)t;
    for (size_t i = 0; i < n; i++)
        if (zmq_send(z->socket, (const char *)items + i * z->size, z->size, 0) < 0) die("zmq_send", 0);
}
static size_t zmq_get(void *t, void *items, size_t n) {
    const struct zmq *z = (const struct zmq *)t;
    (void)n;
    return zmq_recv(z->socket, items, z->size, 0) == (int)z->size;
}
static void zmq_leave(void *t) {
    const struct zmq *z = (const struct zmq *)t;
    int none = 0;
    zmq_setsockopt(z->socket, ZMQ_LINGER, &none, sizeof none);
    zmq_close(z->socket);
    zmq_ctx_term(z->context);
}
const struct transport zmq_ipc = {"ZeroMQ ipc", zmq_open, zmq_enter, zmq_put, zmq_get, zmq_leave, free};
#else
const struct transport zmq_ipc = {"ZeroMQ ipc", NULL, NULL, NULL, NULL, NULL, NULL};
#endif

#if __has_include(<nng/nng.h>)
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

struct nng {
    size_t size;
    int consumers, number;
    pid_t owner;
    nng_socket socket; /* of this process */
};

static void *nng_begin(size_t size, int producers, int consumers) {
    static int number;
    struct nng *z = (struct nng *)calloc(1, sizeof *z);
    (void)producers;
    z->size = size;
    z->consumers = consumers;
    z->number = number++;
    z->owner = getpid();
    return z;
}
static void nng_enter(void *t, bool producer, int index) {
    struct nng *z = (struct nng *)t;
    char address[80];
    int error = producer ? nng_push0_open(&z->socket) : nng_pull0_open(&z->socket);
    for (int i = producer ? 0 : index; i < (producer ? z->consumers : index + 1) && !error; i++) {
        snprintf(address, sizeof address, "abstract://mproc-bench-%d-%d-%d", (int)z->owner, z->number, i);
        if (!producer) error = nng_listen(z->socket, address, NULL, 0);
        while (producer && (error = nng_dial(z->socket, address, NULL, 0)) == NNG_ECONNREFUSED) usleep(1000);
    }
    if (!error && !producer) error = nng_socket_set_ms(z->socket, NNG_OPT_RECVTIMEO, PATIENCE);
    if (!error) nng_socket_set_size(z->socket, NNG_OPT_RECVMAXSZ, 0);
    if (error) die(nng_strerror(error), 0);
}
static void nng_put(void *t, const void *items, size_t n) {
    struct nng *z = (struct nng *)t;
    for (size_t i = 0; i < n; i++) {
        char *item = (char *)(uintptr_t)items + i * z->size;
        int error = nng_send(z->socket, item, z->size, 0);
        if (error) die(nng_strerror(error), 0);
    }
}
static size_t nng_get(void *t, void *items, size_t n) {
    struct nng *z = (struct nng *)t;
    size_t size = z->size;
    (void)n;
    return nng_recv(z->socket, items, &size, 0) == 0;
}
static void nng_leave(void *t) { nng_close(((struct nng *)t)->socket); }
const struct transport nng_ipc = {"nng ipc", nng_begin, nng_enter, nng_put, nng_get, nng_leave, free};
#else
const struct transport nng_ipc = {"nng ipc", NULL, NULL, NULL, NULL, NULL, NULL};
#endif
