"""Timed passes over many texts: contenders take turns, and each gets a row of texts per second."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.rounds import rotations, speedups
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import WorkerPool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["measure_passes", "throughput"]

_LEAST_PASSES = 3
# Lets threads that still spin after their turn go to sleep before the next one's.
_PAUSE = 0.1


def measure_passes(
    config: BenchConfig,
    pool: WorkerPool,
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
    """Time passes over `count` texts with a worker's `verb`; yield a row for each of the group.

    `errors` are those of the correctness check. A row's `speedup` compares the times of a pass.
    """
    times = _passes(config, pool, verb, arguments)
    shape = f"{count} texts"
    for name in group:
        if name not in times:
            reason = pool.refused[name]
            error = errors.get(name, {})
            yield refused(workload, model, task, name, reason, shape=shape, error=error)
            continue
        yield throughput(
            workload,
            model,
            task,
            name,
            shape=shape,
            versions=pool.described[name]["versions"],
            error=errors[name],
            count=count,
            times=times,
            settings={"threads": config.threads, **settings},
        )


def throughput(
    workload: str,
    model: Model,
    task: str,
    contender: str,
    *,
    count: int,
    times: Mapping[str, Sequence[float]],
    **fields: Any,
) -> Row:
    """Return a contender's row of texts per second; the other fields are as for `timed`.

    `times` has the seconds of each pass over `count` texts, of all contenders; `speedup` compares
    those of a pass.
    """
    own = times[contender]
    low, median, high = np.percentile(count / np.array(own), (20, 50, 80))
    return timed(
        workload,
        model,
        task,
        contender,
        metric="texts_per_s",
        median=float(median),
        p20=float(low),
        p80=float(high),
        n=len(own),
        speedup=speedups(times, contender),
        **fields,
    )


def _passes(
    config: BenchConfig, pool: WorkerPool, verb: str, arguments: Mapping[str, Any]
) -> dict[str, list[float]]:
    """Return the seconds of each pass, for the contenders that completed all of them."""
    times: dict[str, list[float]] = {name: [] for name in pool.workers}
    start = time.perf_counter()
    for done, order in enumerate(rotations(list(times), config.rounds)):
        if done >= _LEAST_PASSES and time.perf_counter() - start > config.seconds:
            break
        for name in order:
            if name not in times:
                continue
            try:
                # No warm-up call: a pass is long, and the correctness check was one.
                calls = pool.call(name, verb, seconds=0, warm=False, **arguments)
                times[name].append(calls[0])
            except RefusedError:
                del times[name]
            time.sleep(_PAUSE)
    return times
