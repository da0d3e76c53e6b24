"""Passes over many texts at once: everyone in turn, and a row of texts per second for each."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench import Bench
from crew import Crew
from models import Model
from process import Refused
from rounds import rotations, speedups
from rows import Row, refused, timed

__all__ = ["measure_passes"]

_LEAST_PASSES = 3
# So that threads which still spin after their turn do not take time from the next.
_PAUSE = 0.1


def measure_passes(
    bench: Bench,
    running: Crew,
    errors: Mapping[str, Mapping[str, float]],
    *,
    workload: str,
    model: Model,
    task: str,
    group: Sequence[str],
    count: int,
    settings: Mapping[str, Any],
    verb: str,
    **arguments: Any,
) -> Iterator[Row]:
    """Time passes over `count` texts, asked for by a worker's `verb`; a row for each of a group.

    `errors` are those of the proof. A row's `speedup` is of the time of a pass.
    """
    times = _passes(bench, running, verb, arguments)
    shape = f"{count} texts"
    for name in group:
        if name not in times:
            reason = running.refused[name]
            error = errors.get(name, {})
            yield refused(workload, model, task, name, reason, shape=shape, error=error)
            continue
        low, median, high = np.percentile(count / np.array(times[name]), (20, 50, 80))
        yield timed(
            workload,
            model,
            task,
            name,
            shape=shape,
            versions=running.described[name]["versions"],
            error=errors[name],
            metric="texts_per_s",
            median=float(median),
            p20=float(low),
            p80=float(high),
            n=len(times[name]),
            speedup=speedups(times, name),
            settings={"threads": bench.threads, **settings},
        )


def _passes(
    bench: Bench, running: Crew, verb: str, arguments: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Seconds of each pass, of those who stayed to the end."""
    times: dict[str, list[float]] = {name: [] for name in running.workers}
    began = time.perf_counter()
    for done, order in enumerate(rotations(list(times), bench.rounds)):
        if done >= _LEAST_PASSES and time.perf_counter() - began > bench.seconds:
            break
        for name in order:
            if name not in times:
                continue
            try:
                # A pass is long, and the proof was one: no call before it to warm up.
                calls = running.call(name, verb, seconds=0, warm=False, **arguments)
                times[name].append(calls[0])
            except Refused:
                del times[name]
            time.sleep(_PAUSE)
    return times
