"""An open-loop load generator: requests arrive on schedule, whether or not earlier ones are done.

Runs in the worker. Arrival times are fixed beforehand, and latency counts from the arrival, so a
server that falls behind is charged for every request that waits meanwhile. A closed loop would
stop sending and hide that (coordinated omission).
"""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness import process_usage

__all__ = [
    "has_batcher",
    "measure_capacity",
    "measure_saturated",
    "memory_bytes",
    "poisson_arrivals",
    "serve_live",
    "serve_one_by_one",
]

Clock = Callable[[], float]


def poisson_arrivals(rate: float, count: int, seed: int) -> np.ndarray:
    """Return the arrival times of `count` independent requests, `rate` per second on average.

    Returns float64 seconds [count], ascending, the same for equal arguments.
    """
    return np.random.default_rng(seed).exponential(1 / rate, count).cumsum()


def serve_one_by_one(
    loaded: Any,
    texts: Sequence[str],
    arrivals: np.ndarray,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Answer each request by its own call, in the order of arrival.

    This is a first-in-first-out queue with one server: a request that arrives while an earlier one
    is being answered waits, and one that finds the server idle is answered at once.

    Args:
        loaded: the `LoadedModel` that answers.
        texts: request i asks for texts[i % len(texts)].
        arrivals: seconds from the start, ascending, [n].
        clock, sleep: the time and how to let it pass; replaced in tests.

    Returns {"latencies": seconds [n], "answers": [n, ...], "seconds": until the last answer,
    "turned_away": [], "cpu": CPU seconds of what answers, "lag": seconds that the 99th percentile
    of the requests was sent late}. A request is late only where the generator sends it, which is
    not here.
    """
    latencies = np.empty(len(arrivals))
    answers = []
    cpu = _cpu_seconds(loaded)
    start = clock()
    for i, arrival in enumerate(arrivals):
        early = arrival - (clock() - start)
        if early > 0:
            sleep(early)
        answers.append(loaded.answer([texts[i % len(texts)]])[0])
        latencies[i] = clock() - start - arrival
    return {
        "latencies": latencies,
        "answers": np.asarray(answers, np.float32),
        "seconds": clock() - start,
        "turned_away": [],
        "cpu": _cpu_seconds(loaded) - cpu,
        "lag": 0.0,
    }


def serve_live(loaded: Any, texts: Sequence[str], arrivals: np.ndarray) -> dict[str, Any]:
    """Pass each request to the model's live batcher as it arrives; see `serve_one_by_one`.

    The model has `async live_answer(text)`, which raises OverflowError for a request that finds
    the queue full. "turned_away" has the indices of these requests; the arrays omit them. A model
    that is a server of its own also has `live_close()`, which ends its connections, and
    `cpu_seconds()`; the CPU time is this process's otherwise.
    """
    return asyncio.run(_serve_live(loaded, texts, arrivals))


def has_batcher(loaded: Any) -> bool:
    """Return whether the model has a live batcher."""
    return hasattr(loaded, "live_answer")


async def _serve_live(loaded: Any, texts: Sequence[str], arrivals: np.ndarray) -> dict[str, Any]:
    clock = time.perf_counter
    latencies: dict[int, float] = {}
    answers: dict[int, Any] = {}
    lags = np.empty(len(arrivals))
    cpu = _cpu_seconds(loaded)
    start = clock()

    async def request(i: int, arrival: float) -> None:
        lags[i] = clock() - start - arrival
        try:
            answers[i] = await loaded.live_answer(texts[i % len(texts)])
            latencies[i] = clock() - start - arrival
        except OverflowError:
            return

    requests = []
    try:
        for i, arrival in enumerate(arrivals):
            # Sleeps even if the arrival is late, to yield to the event loop.
            await asyncio.sleep(max(0.0, arrival - (clock() - start)))
            requests.append(asyncio.create_task(request(i, float(arrival))))
        await asyncio.gather(*requests)
    finally:
        _close(loaded)
    order = sorted(answers)
    return {
        "latencies": np.array([latencies[i] for i in order]),
        "answers": np.asarray([answers[i] for i in order], np.float32),
        "seconds": clock() - start,
        "turned_away": [i for i in range(len(arrivals)) if i not in answers],
        "cpu": _cpu_seconds(loaded) - cpu,
        "lag": float(np.percentile(lags, 99)),
    }


def measure_saturated(
    loaded: Any, texts: Sequence[str], seconds: float, *, size: int = 1, in_flight: int = 64
) -> dict[str, float]:
    """Keep a server busy: so many requests at a time, each with `size` texts.

    The model has `async live_answers(texts)`, which answers texts as one request. A request that is
    turned away is sent again after 10 ms. Requests that run at the end are answered and counted. A
    server's `async live_open(count)` connects before that, as busy clients have long done.

    Returns {"rate": texts answered per second, "cpu": CPU seconds for each text}.
    """
    return asyncio.run(_saturate(loaded, texts, seconds, size, in_flight))


async def _saturate(
    loaded: Any, texts: Sequence[str], seconds: float, size: int, in_flight: int
) -> dict[str, float]:
    starts = itertools.count(step=size)
    answered = 0
    if hasattr(loaded, "live_open"):
        await loaded.live_open(in_flight)
    cpu = _cpu_seconds(loaded)
    start = time.perf_counter()

    async def client() -> None:
        nonlocal answered
        while time.perf_counter() - start < seconds:
            first = next(starts)
            request = [texts[i % len(texts)] for i in range(first, first + size)]
            try:
                await loaded.live_answers(request)
                answered += size
            except OverflowError:
                await asyncio.sleep(0.01)

    try:
        await asyncio.gather(*(client() for _ in range(in_flight)))
    finally:
        _close(loaded)
    passed = time.perf_counter() - start
    return {"rate": answered / passed, "cpu": (_cpu_seconds(loaded) - cpu) / max(1, answered)}


def measure_capacity(
    loaded: Any, texts: Sequence[str], seconds: float, *, clock: Clock = time.perf_counter
) -> float:
    """Return how many texts per second the model answers one at a time, without pauses.

    Makes whole passes over the texts: part of them would have another mean length.
    """
    start = clock()
    for count in itertools.count(1):
        loaded.answer([texts[(count - 1) % len(texts)]])
        passed = clock() - start
        if count % len(texts) == 0 and passed >= seconds:
            break
    return count / passed


def _cpu_seconds(loaded: Any) -> float:
    """Return the CPU seconds of what answers: a server's processes, or this one."""
    return float(getattr(loaded, "cpu_seconds", time.process_time)())


def _close(loaded: Any) -> None:
    getattr(loaded, "live_close", lambda: None)()


def memory_bytes(loaded: Any) -> int:
    """Return the bytes in memory of what answers: a server's processes, or this one."""
    if hasattr(loaded, "memory_bytes"):
        return int(loaded.memory_bytes())
    return process_usage.memory_bytes([os.getpid()])
