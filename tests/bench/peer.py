"""The CPython peer of bench.c, which runs it as a child. A line "COMMAND COUNT PRODUCERS CONSUMERS SIZE" in; out the
seconds it took, or two figures, or "-" for what CPython
does not do, or -1 for what is wrong or unknown."""

import concurrent.futures
import fcntl
import mmap
import multiprocessing
import os
import platform
import sys
import tempfile
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


def end():
    pass


held = b""  # memory that the next process inherits


def start(count, producers, consumers, size):
    global held
    if len(held) != size:
        held = mmap.mmap(-1, size) if size else b""
        for at in range(0, size, 4096):
            held[at] = 1
    began = time.perf_counter()
    for _ in range(count):
        p = context.Process(target=end)
        p.start()
        p.join()
        p.close()
    return time.perf_counter() - began


def task(x):
    return x


def with_pool(workers, work):
    with context.Pool(workers) as pool:
        pool.map(task, range(100), 1)
        began = time.perf_counter()
        right = work(pool)
        seconds = time.perf_counter() - began
    return seconds if right else -1


def map1(count, workers, consumers, size):
    return with_pool(workers, lambda pool: sum(pool.map(task, range(count), 1)) == sum(range(count)))


def map_default(count, workers, consumers, size):
    return with_pool(workers, lambda pool: sum(pool.map(task, range(count))) == sum(range(count)))


def apply(count, workers, consumers, size):
    return with_pool(workers, lambda pool: sum(pool.apply(task, (i,)) for i in range(count)) == sum(range(count)))


def submit(count, workers, consumers, size):
    def work(pool):
        for i in range(count):
            last = pool.apply_async(task, (i,))
        while pool._cache:  # the results come as the workers give them, the last is not the last
            last.wait(0.001)
            time.sleep(0.0001)
        return True

    return with_pool(workers, work)


def executor(count, workers, consumers, size):
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(task, range(100)))
        began = time.perf_counter()
        total = sum(pool.map(task, range(count), chunksize=1))
        seconds = time.perf_counter() - began
    return seconds if total == sum(range(count)) else -1


def write_lines(path, count):
    with open(path, "ab", buffering=0) as f:
        for _ in range(count):
            fcntl.flock(f, fcntl.LOCK_EX)
            f.write(b"x" * 31 + b"\n")
            fcntl.flock(f, fcntl.LOCK_UN)


def append(count, writers, consumers, size):
    with tempfile.NamedTemporaryFile() as f:
        count = (count + writers - 1) // writers
        seconds, _ = crowd([(write_lines, (f.name, count))] * writers)
        whole = f.read() == (b"x" * 31 + b"\n") * (count * writers)
    return seconds if whole else -1


def main():
    commands = {f.__name__: f for f in (queue, pipe, trip, lock, start, map1, apply, submit, executor, append)}
    commands["map"] = map_default
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "version":
            print("CPython", platform.python_version(), flush=True)
        else:
            print(commands[command](*map(int, numbers)) if command in commands else -1, flush=True)


if __name__ == "__main__":
    main()
