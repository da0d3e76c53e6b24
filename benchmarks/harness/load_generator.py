"""An open-loop load generator: requests arrive on schedule, whether or not earlier ones are done.

Runs in the worker. Arrival times are fixed beforehand, and latency counts from the arrival, so a
server that falls behind is charged for every request that waits meanwhile. A closed loop would
stop sending and hide that (coordinated omission).
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["has_batcher", "measure_capacity", "poisson_arrivals", "serve_live", "serve_one_by_one"]

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
    "turned_away": []}.
    """
    latencies = np.empty(len(arrivals))
    answers = []
    start = clock()
    for i, arrival in enumerate(arrivals):
        early = arrival - (clock() - start)
        if early > 0:
            sleep(early)
        answers.append(loaded.answer([texts[i % len(texts)]])[0])
        latencies[i] = clock() - start - arrival
    return _served(latencies, answers, clock() - start, [])


def serve_live(loaded: Any, texts: Sequence[str], arrivals: np.ndarray) -> dict[str, Any]:
    """Pass each request to the model's live batcher as it arrives; see `serve_one_by_one`.

    The model has `async live_answer(text)`, which raises OverflowError for a request that finds
    the queue full. "turned_away" has the indices of these requests; the arrays omit them.
    """
    return asyncio.run(_serve_live(loaded, texts, arrivals))


def has_batcher(loaded: Any) -> bool:
    """Return whether the model has a live batcher."""
    return hasattr(loaded, "live_answer")


async def _serve_live(loaded: Any, texts: Sequence[str], arrivals: np.ndarray) -> dict[str, Any]:
    clock = time.perf_counter
    latencies: dict[int, float] = {}
    answers: dict[int, Any] = {}
    start = clock()

    async def request(i: int, arrival: float) -> None:
        try:
            answers[i] = await loaded.live_answer(texts[i % len(texts)])
            latencies[i] = clock() - start - arrival
        except OverflowError:
            return

    requests = []
    for i, arrival in enumerate(arrivals):
        # Sleeps even if the arrival is late, to yield to the event loop.
        await asyncio.sleep(max(0.0, arrival - (clock() - start)))
        requests.append(asyncio.create_task(request(i, float(arrival))))
    await asyncio.gather(*requests)
    seconds = clock() - start
    order = sorted(answers)
    return _served(
        np.array([latencies[i] for i in order]),
        [answers[i] for i in order],
        seconds,
        [i for i in range(len(arrivals)) if i not in answers],
    )


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


def _served(
    latencies: np.ndarray, answers: Sequence[Any], seconds: float, turned_away: list[int]
) -> dict[str, Any]:
    return {
        "latencies": latencies,
        "answers": np.asarray(answers, dtype=np.float32),
        "seconds": seconds,
        "turned_away": turned_away,
    }
