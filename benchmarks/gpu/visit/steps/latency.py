"""How long a run takes from arrays to arrays, and how long its CUDA graph takes alone."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.timing import replay_us
from benchmarks.gpu.visit.graph_runner import GraphRunner
from benchmarks.gpu.visit.inputs import make_batch, make_graph, shapes
from benchmarks.gpu.visit.visit import Visit
from bertrt.kernels.engine.session import TritonSession

__all__ = ["run", "wall_times"]

_OUTPUTS = ["sentence_embedding"]
_SECONDS = 1.5
_REPLAYS = 50


def run(visit: Visit) -> None:
    """Write the times of each shape."""
    graph = make_graph(visit)
    session, runner = TritonSession(graph), GraphRunner()
    captured = TritonSession(graph, make_runner=lambda: runner)
    seconds = 0.01 if visit.dry_run else _SECONDS

    def measure(lengths: list[int]) -> dict[str, Any]:
        batch = make_batch(lengths)
        wall = wall_times(lambda: session.run(batch, _OUTPUTS), seconds)
        captured.run(batch, _OUTPUTS)
        # Weights are in the GPU's cache as far as they fit, as they are for requests in a row.
        (times,) = replay_us([runner.last.graph], _REPLAYS)
        per_second = 1e3 * len(lengths) / wall["median_ms"]
        return {**wall, "sequences_per_s": per_second, "graph_us": float(np.median(times))}

    for name, lengths in shapes(visit).items():
        sizes = {"sequences": len(lengths), "tokens": sum(lengths)}
        visit.measure("latency", lambda lengths=lengths: measure(lengths), shape=name, **sizes)


def wall_times(run: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Call a function that waits for the GPU again and again; return the call's milliseconds.

    Returns {"p20_ms", "median_ms", "p80_ms", "n"}.
    """
    for _ in range(3):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - began))
    p20, middle, p80 = np.percentile(times, (20, 50, 80)).tolist()
    return {"p20_ms": p20, "median_ms": middle, "p80_ms": p80, "n": len(times)}
