"""Workers: how many there are, when they pay off, and results in the order of the calls."""

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from bertrt.errors import BertrtError, InputError
from bertrt.scheduling.workers import Workers, choose_workers, finish_together, run_in_order


def test_choose_workers() -> None:
    assert choose_workers("auto", threads=1) == 1
    assert choose_workers("auto", threads=6) == 6
    assert choose_workers("auto", threads=6, device="cuda") == 1
    assert choose_workers(4, threads=6) == 4
    assert choose_workers(1, threads=6, device="cuda") == 1


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [
        (0, "cpu", "workers is 0: give a whole number of at least 1"),
        (True, "cpu", "workers is True"),
        ("many", "cpu", "workers is 'many'"),
        (3, "cpu", "workers is 3, and threads are 2: give at most 2, or 'auto'"),
        (2, "cuda", "workers is 2, and a GPU runs one batch at a time: give at most 1"),
    ],
)
def test_wrong_numbers_of_workers_are_refused(workers: Any, device: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_workers(workers, threads=2, device=device)


@pytest.mark.parametrize(
    ("sizes", "workers", "expected"),
    [
        ([], 2, True),  # no work, so no worker waits
        ([5], 2, False),
        ([5, 5], 2, True),
        ([5, 5], 3, False),
        ([8, 7], 2, True),  # one waits for 1/16 of the time of both
        ([8, 6], 2, False),  # for 1/8
        ([5, 5, 5], 2, False),
        ([4, 4, 3, 3, 3, 3], 2, True),
        ([1, 1, 8], 2, False),
        ([8, 4, 4], 2, True),
    ],
)
def test_finish_together(sizes: list[int], workers: int, expected: bool) -> None:
    assert finish_together(sizes, workers) is expected


@pytest.mark.parametrize("workers", [None, Workers(2), Workers(5)])
def test_results_come_in_the_order_of_the_calls(workers: Workers | None) -> None:
    def call(number: int) -> int:
        threading.Event().wait(0.002 * (number % 3))
        return number

    assert list(run_in_order((partial(call, i) for i in range(40)), workers)) == list(range(40))
    assert list(run_in_order([], workers)) == []


def test_without_workers_a_call_runs_when_its_result_is_requested() -> None:
    ran: list[int] = []
    results = run_in_order((partial(ran.append, i) for i in range(3)), None)
    assert ran == []
    next(results)
    assert ran == [0]


def test_all_workers_run_and_few_calls_are_read_ahead() -> None:
    lock, calls_read = threading.Lock(), 0
    running = most = 0
    together = threading.Barrier(3, timeout=60)  # breaks unless three run at a time

    def calls() -> Iterator[Callable[[], int]]:
        nonlocal calls_read
        for number in range(30):
            calls_read += 1
            yield partial(call, number)

    def call(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return number

    results = run_in_order(calls(), Workers(3))
    for number in range(30):
        assert next(results) == number
        assert calls_read <= number + 2 * 3 + 1
    assert most == 3


def test_no_more_calls_run_ahead_than_asked_for() -> None:
    lock = threading.Lock()
    unfinished = most = 0

    def calls() -> Iterator[Callable[[], int]]:
        nonlocal unfinished, most
        for number in range(20):
            with lock:
                unfinished += 1
                most = max(most, unfinished)
            yield partial(int, number)

    for number, result in enumerate(run_in_order(calls(), Workers(2, most_ahead=1))):
        assert result == number
        with lock:
            unfinished -= 1
    assert most == 2


@pytest.mark.parametrize("workers", [None, Workers(3)])
def test_an_error_is_raised_in_place_of_its_result(workers: Workers | None) -> None:
    ran: list[int] = []

    def call(number: int) -> int:
        ran.append(number)
        if number == 4:
            raise ValueError("the fourth")
        return number

    results = run_in_order((partial(call, i) for i in range(1000)), workers)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert len(ran) <= 4 + 2 * (workers.count if workers else 0) + 1


def test_abandoned_results_are_not_computed() -> None:
    ran: list[int] = []
    workers = Workers(2)
    results = run_in_order((partial(ran.append, i) for i in range(1000)), workers)
    next(results)
    results.close()
    assert len(ran) <= 1 + 2 * 2
    workers.submit(lambda: None).result(60)  # runs after all that were submitted
    assert len(ran) <= 1 + 2 * 2


def test_callers_share_the_workers() -> None:
    """No more calls run at a time than there are workers."""
    workers, lock = Workers(2), threading.Lock()
    running = most = 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: list(run_in_order([call] * 20, workers)), range(8)))
    assert most == 2


def test_close_ends_the_threads() -> None:
    workers = Workers(2)
    assert list(run_in_order([lambda: 1, lambda: 2], workers)) == [1, 2]
    copy = pickle.loads(pickle.dumps(workers))
    threads = set(workers._pool.get()._threads)
    workers.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    with pytest.raises(BertrtError, match="closed"):
        list(run_in_order([lambda: 1], workers))
    assert list(run_in_order([lambda: 3], copy)) == [3]
    copy.close()
