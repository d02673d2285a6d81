/* Boost's message queue, lock-free ring and mutex between processes. Also compiles as C, where there is no
   C++ compiler or no Boost: then it is a list of contenders that are not installed. */
#include "bench.h"

#if defined(__cplusplus) && __has_include(<boost/interprocess/ipc/message_queue.hpp>)
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <cstdio>
#include <cstring>
#include <new>
#include <unistd.h>

namespace ipc = boost::interprocess;

namespace {

struct Queue {
    ipc::message_queue *mq;
    size_t size;
};

void *queue_open(size_t size, int, int) {
    static int number;
    char name[64];
    size_t room = (static_cast<size_t>(16) << 20) / size;
    snprintf(name, sizeof name, "mproc-bench-%d-%d", static_cast<int>(getpid()), number++);
    Queue *q = new Queue;
    q->mq = new ipc::message_queue(ipc::create_only, name, room < 1024 ? room : 1024, size);
    q->size = size;
    ipc::message_queue::remove(name);
    return q;
}
void queue_put(void *t, const void *items, size_t n) {
    Queue *q = static_cast<Queue *>(t);
    for (size_t i = 0; i < n; i++) q->mq->send(static_cast<const char *>(items) + i * q->size, q->size, 0);
}
size_t queue_get(void *t, void *items, size_t) {
    Queue *q = static_cast<Queue *>(t);
    ipc::message_queue::size_type size;
    unsigned priority;
    q->mq->receive(items, q->size, size, priority);
    return 1;
}
void queue_close(void *t) {
    Queue *q = static_cast<Queue *>(t);
    delete q->mq;
    delete q;
}

struct Item {
    char bytes[64];
};
typedef boost::lockfree::spsc_queue<Item, boost::lockfree::capacity<1024>> Spsc;

void *spsc_open(size_t size, int producers, int consumers) {
    if (size != sizeof(Item) || producers != 1 || consumers != 1) return nullptr;
    return new (shared_memory(sizeof(Spsc))) Spsc;
}
void spsc_put(void *t, const void *items, size_t n) {
    const Item *from = static_cast<const Item *>(items);
    while (n > 0) {
        size_t put = static_cast<Spsc *>(t)->push(from, n);
        from += put;
        n -= put;
    }
}
size_t spsc_get(void *t, void *items, size_t n) {
    size_t got;
    while ((got = static_cast<Spsc *>(t)->pop(static_cast<Item *>(items), n)) == 0) continue;
    return got;
}
void spsc_close(void *t) { unshare_memory(t, sizeof(Spsc)); }

void *mutex_open() { return new (shared_memory(sizeof(ipc::interprocess_mutex))) ipc::interprocess_mutex; }
void mutex_enter(void *l) { static_cast<ipc::interprocess_mutex *>(l)->lock(); }
void mutex_leave(void *l) { static_cast<ipc::interprocess_mutex *>(l)->unlock(); }
void mutex_close(void *l) { unshare_memory(l, sizeof(ipc::interprocess_mutex)); }

} // namespace

extern const struct transport boost_queue = {
    "Boost message_queue", queue_open, nullptr, queue_put, queue_get, nullptr, queue_close};
extern const struct transport boost_spsc = {
    "Boost spsc_queue (spins)", spsc_open, nullptr, spsc_put, spsc_get, nullptr, spsc_close};
extern const struct locker boost_mutex = {
    "Boost interprocess_mutex", mutex_open, nullptr, mutex_enter, mutex_leave, mutex_close};
#else
#ifdef __cplusplus
extern "C" {
#endif
extern const struct transport boost_queue, boost_spsc;
extern const struct locker boost_mutex;
const struct transport boost_queue = {"Boost message_queue", 0, 0, 0, 0, 0, 0};
const struct transport boost_spsc = {"Boost spsc_queue (spins)", 0, 0, 0, 0, 0, 0};
const struct locker boost_mutex = {"Boost interprocess_mutex", 0, 0, 0, 0, 0};
#ifdef __cplusplus
}
#endif
#endif
