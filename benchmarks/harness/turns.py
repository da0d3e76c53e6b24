"""Timed turns at one shape: contenders take turns, and each gets a row of milliseconds per call."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.rounds import rotations, speedups, summary
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import WorkerPool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["measure_turns"]

_LEAST_ROUNDS = 3
# ONNX Runtime's threads spin for 25 ms after a run, which would take time from the next turn.
_PAUSE = 0.05
# A call slower than this needs no untimed one before it.
_SLOW = 0.3


def measure_turns(
    config: BenchConfig,
    pool: WorkerPool,
    errors: Mapping[str, Mapping[str, float]],
    *,
    workload: str,
    model: Model,
    task: str,
    group: Sequence[str],
    shape: str,
    verb: str,
    **arguments: Any,
) -> Iterator[Row]:
    """Time calls of a worker's `verb`; yield a row for each of the group, timed or refused.

    `errors` are those of the correctness check.
    """
    # Over the last minute: how busy the machine was otherwise.
    load = round(os.getloadavg()[0], 2)
    times = _turns(config, pool, [name for name in group if name in pool.workers], verb, arguments)
    for name in group:
        if name not in times:
            reason = pool.refused[name]
            error = errors.get(name, {})
            yield refused(workload, model, task, name, reason, shape=shape, error=error)
            continue
        yield timed(
            workload,
            model,
            task,
            name,
            shape=shape,
            versions=pool.described[name]["versions"],
            error=errors[name],
            speedup=speedups(times, name),
            settings={"threads": config.threads, "turn_s": config.turn, "load": load},
            **summary(times[name]),
        )


def _turns(
    config: BenchConfig,
    pool: WorkerPool,
    names: Sequence[str],
    verb: str,
    arguments: Mapping[str, Any],
) -> dict[str, list[float]]:
    """Return the seconds of each round, for the contenders that completed all of them."""
    times: dict[str, list[float]] = {name: [] for name in names}
    start = time.perf_counter()
    for done, order in enumerate(rotations(names, config.rounds)):
        if done >= _LEAST_ROUNDS and time.perf_counter() - start > config.seconds:
            break
        for name in order:
            if name not in times:
                continue
            warm = not times[name] or times[name][-1] < _SLOW
            try:
                calls = pool.call(name, verb, seconds=config.turn, warm=warm, **arguments)
                times[name].append(float(np.median(calls)))
            except RefusedError:
                del times[name]
            time.sleep(_PAUSE)
    return times
