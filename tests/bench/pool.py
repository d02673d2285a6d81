"""The CPython peer of pool.c, which runs it as a child: a line "COMMAND WORKERS COUNT" in, the seconds it took
out, -1 for what is wrong or unknown."""

import concurrent.futures
import multiprocessing
import platform
import sys
import time


def task(x):
    return x


def pool_map(pool, count, chunksize):
    items = range(count)
    began = time.perf_counter()
    results = pool.map(task, items, chunksize)
    seconds = time.perf_counter() - began
    return seconds if sum(results) == sum(items) else -1


def executor_map(executor, count):
    began = time.perf_counter()
    total = sum(executor.map(task, range(count), chunksize=1))
    seconds = time.perf_counter() - began
    return seconds if total == sum(range(count)) else -1


def apply(pool, count):
    began = time.perf_counter()
    total = sum(pool.apply(task, (i,)) for i in range(count))
    seconds = time.perf_counter() - began
    return seconds if total == sum(range(count)) else -1


def apply_async(pool, count):
    began = time.perf_counter()
    for i in range(count):
        last = pool.apply_async(task, (i,))
    while pool._cache:  # the results come as the workers give them, the last is not the last
        last.wait(0.001)
        time.sleep(0.0001)
    return time.perf_counter() - began


def answer(pools, executor, command, workers, count):
    pool = pools[workers]
    if command == "map1":
        return pool_map(pool, count, 1)
    if command == "map":
        return pool_map(pool, count, None)
    if command == "executor":
        return executor_map(executor, count)
    if command == "apply":
        return apply(pool, count)
    if command == "submit":
        return apply_async(pool, count)
    return -1


def main():
    context = multiprocessing.get_context("fork")
    pools = {workers: context.Pool(workers) for workers in (1, 2)}
    executor = concurrent.futures.ProcessPoolExecutor(2, context)
    for pool in pools.values():
        pool.map(task, range(100), 1)
    list(executor.map(task, range(100)))
    for line in sys.stdin:
        command, workers, count = line.split()
        if command == "version":
            print("CPython", platform.python_version(), flush=True)
        else:
            print("%.9f" % answer(pools, executor, command, int(workers), int(count)), flush=True)
    executor.shutdown()
    for pool in pools.values():
        pool.terminate()


if __name__ == "__main__":
    main()
