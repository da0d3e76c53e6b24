"""Calls on the GPU thread: errors reach the caller, and no two calls run at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bertrt.engines.gpu_thread import on_gpu_thread


def test_results_and_errors_reach_the_caller() -> None:
    def fail() -> None:
        raise ValueError(threading.current_thread().name)

    with pytest.raises(ValueError, match="MainThread"):
        on_gpu_thread(fail)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="bertrt-gpu"):
        pool.submit(on_gpu_thread, fail).result()
    assert on_gpu_thread(lambda number: number + 1, 1) == 2


def test_one_call_runs_at_a_time_on_at_most_two_threads() -> None:
    lock = threading.Lock()
    running = most = 0
    threads: set[str] = set()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threads.add(threading.current_thread().name.partition("_")[0])
        threading.Event().wait(0.001)
        with lock:
            running -= 1

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(on_gpu_thread, call) for _ in range(40)]
        for _ in range(10):
            on_gpu_thread(call)
        for future in futures:
            future.result(60)
    assert most == 1
    assert threads == {"MainThread", "bertrt-gpu"}
