"""A stream of requests put to one contender, open loop: they come when they come, answered or not.

Runs in the worker. Arrival times are fixed beforehand, and a request's latency is counted from
its arrival, so that a server that falls behind is charged for everyone who waits meanwhile (a
closed loop would stop asking, and hide that: coordinated omission).
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["capacity", "has_live", "live", "one_by_one", "poisson"]

Clock = Callable[[], float]


def poisson(rate: float, count: int, seed: int) -> np.ndarray:
    """The arrival times of `count` independent requests, `rate` a second in the mean.

    Returns float64 seconds [count], ascending, the same for equal arguments.
    """
    return np.random.default_rng(seed).exponential(1 / rate, count).cumsum()


def one_by_one(
    contender: Any,
    texts: Sequence[str],
    arrivals: np.ndarray,
    *,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Answer each request by a call of its own, in the order in which they came.

    This is a first-in-first-out queue with one server: a request that comes while an earlier one
    is being answered waits, and one that finds the server idle is answered at once.

    Args:
        contender: what answers; `answer([text])`.
        texts: request i asks for texts[i % len(texts)].
        arrivals: seconds from the start, ascending, [n].
        clock, sleep: the time, and how to let it pass; others in tests.

    Returns {"latencies": seconds [n], "answers": [n, ...], "seconds": until the last answer,
    "turned_away": []}.
    """
    latencies = np.empty(len(arrivals))
    answers = []
    began = clock()
    for i, arrival in enumerate(arrivals):
        early = arrival - (clock() - began)
        if early > 0:
            sleep(early)
        answers.append(contender.answer([texts[i % len(texts)]])[0])
        latencies[i] = clock() - began - arrival
    return _served(latencies, answers, clock() - began, [])


def live(contender: Any, texts: Sequence[str], arrivals: np.ndarray) -> dict[str, Any]:
    """Hand each request to the contender's live batcher when it comes; as `one_by_one`.

    The contender has `async live_answer(text)`, which raises OverflowError for a request that
    finds the queue full; "turned_away" has the indices of those, and the other arrays leave them
    out.
    """
    return asyncio.run(_live(contender, texts, arrivals))


def has_live(contender: Any) -> bool:
    """Whether the contender has a live batcher."""
    return hasattr(contender, "live_answer")


async def _live(contender: Any, texts: Sequence[str], arrivals: np.ndarray) -> dict[str, Any]:
    clock = time.perf_counter
    latencies: dict[int, float] = {}
    answers: dict[int, Any] = {}
    began = clock()

    async def request(i: int, arrival: float) -> None:
        try:
            answers[i] = await contender.live_answer(texts[i % len(texts)])
            latencies[i] = clock() - began - arrival
        except OverflowError:
            return

    waiting = []
    for i, arrival in enumerate(arrivals):
        # Even a late arrival gives way to the event loop once.
        await asyncio.sleep(max(0.0, arrival - (clock() - began)))
        waiting.append(asyncio.create_task(request(i, float(arrival))))
    await asyncio.gather(*waiting)
    seconds = clock() - began
    order = sorted(answers)
    return _served(
        np.array([latencies[i] for i in order]),
        [answers[i] for i in order],
        seconds,
        [i for i in range(len(arrivals)) if i not in answers],
    )


def capacity(
    contender: Any, texts: Sequence[str], seconds: float, *, clock: Clock = time.perf_counter
) -> float:
    """How many texts a second the contender answers by calls of one, when there is no pause.

    One pass over the texts at least: a part of them would have another mean length.
    """
    began = clock()
    for count in itertools.count(1):
        contender.answer([texts[(count - 1) % len(texts)]])
        passed = clock() - began
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
