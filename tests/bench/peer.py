"""The CPython peer of bench.c, which runs it as a child. A line "COMMAND COUNT PRODUCERS CONSUMERS SIZE" in; out the
seconds it took, or two figures, or "-" for what CPython
does not do, or -1 for what is wrong or unknown."""

import concurrent.futures
import fcntl
import multiprocessing
import os
import platform
import sys
import time

context = multiprocessing.get_context("fork")


def crowd(works):
    """Runs each (function, arguments) in a process; seconds from their common start to the last one's end."""
    start, ends = context.Barrier(len(works)), context.SimpleQueue()

    def member(number, work, args):
        os.sched_setaffinity(0, {cpus[number % len(cpus)]})
        start.wait()
        began = time.perf_counter()
        result = work(*args)
        ends.put((began, time.perf_counter(), result))

    processes = [context.Process(target=member, args=(i, *w)) for i, w in enumerate(works)]
    for p in processes:
        p.start()
    answers = [ends.get() for p in processes]
    for p in processes:
        p.join()
    seconds = max(a[1] for a in answers) - min(a[0] for a in answers)
    return seconds, [a[2] for a in answers if a[2] is not None]


cpus = sorted(os.sched_getaffinity(0))


def put(put, message, count):
    for _ in range(count):
        put(message)


def get(get, size, count):
    total = 0
    for _ in range(count):
        total += len(get())
    return total


def queue(count, producers, consumers, size):
    q, message = context.Queue(), b"x" * size
    count = (count + 15) // 16 * 16
    works = [(put, (q.put, message, count // producers))] * producers
    works += [(get, (q.get, size, count // consumers))] * consumers
    seconds, got = crowd(works)
    return seconds if sum(got) == count * size else -1


def pipe(count, producers, consumers, size):
    if producers > 1:
        return "-"
    receiver, sender = context.Pipe(False)
    seconds, got = crowd([(put, (sender.send_bytes, b"x" * size, count)), (get, (receiver.recv_bytes, size, count))])
    return seconds if sum(got) == count * size else -1


def bounce(conn, size, count):
    message, trips = b"x" * size, []
    for _ in range(count):
        began = time.perf_counter()
        conn.send_bytes(message)
        if len(conn.recv_bytes()) != size:
            return [-1]
        trips.append(time.perf_counter() - began)
    return sorted(trips)


def echo(conn, count):
    for _ in range(count):
        conn.send_bytes(conn.recv_bytes())


def trip(count, producers, consumers, size):
    a, b = context.Pipe()
    trips = crowd([(bounce, (a, size, count)), (echo, (b, count))])[1][0]
    return "%f %f" % (trips[count // 2] * 1e6, trips[count - 1 - count // 100] * 1e6)


def increment(value, count):
    if count:
        for _ in range(count):
            with value.get_lock():
                value.value += 1
        return count
    end, n = time.perf_counter() + 0.05, 0
    while time.perf_counter() < end:
        with value.get_lock():
            value.value += 1
        n += 1
    return n


def lock(count, producers, consumers, size):
    value = context.Value("q", 0)
    seconds, pairs = crowd([(increment, (value, count if producers == 1 else 0)) for _ in range(producers)])
    if value.value != sum(pairs):
        return -1
    if producers == 1:
        return seconds
    return "%f %f" % (sum(pairs) / seconds, min(pairs) * producers / sum(pairs))


def main():
    commands = {f.__name__: f for f in (queue, pipe, trip, lock)}
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "version":
            print("CPython", platform.python_version(), flush=True)
        else:
            print(commands[command](*map(int, numbers)) if command in commands else -1, flush=True)


if __name__ == "__main__":
    main()
