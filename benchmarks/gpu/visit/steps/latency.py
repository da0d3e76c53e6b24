"""How long a run takes from arrays to arrays, and how long its CUDA graph takes alone."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.gpu.timing import capture, kernel_device, replay_us
from benchmarks.gpu.visit.inputs import make_batch, make_graph, shapes
from benchmarks.gpu.visit.visit import Visit
from bertrt.kernels.engine.buckets import Bucket
from bertrt.kernels.engine.program import Program, remove_padding
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.engine.upload_buffer import UploadBuffer

__all__ = ["GraphTimer", "run", "wall_times"]

Result = TypeVar("Result")

_OUTPUTS = ["sentence_embedding"]
_SECONDS = 1.5
_REPLAYS = 50


class GraphTimer:
    """A `ProgramRunner` that captures every run and measures the graph: `graph_us`, its median.

    The weights are in the GPU's cache as far as they fit, as they are for requests in a row.
    """

    def __init__(self) -> None:
        """Run on the device of the kernels."""
        self.device = kernel_device()
        self.graph_us = float("nan")

    def info(self) -> dict[str, Any]:
        """Return nothing; see `ProgramRunner.info`."""
        return {}

    def run(
        self,
        program: Program,
        bucket: Bucket,
        arrays: Mapping[str, Any],
        consume: Callable[[dict[str, torch.Tensor]], Result],
        *,
        on_device: bool,
    ) -> Result:
        """Run a program; see `ProgramRunner.run`."""
        with torch.inference_mode(), np.errstate(all="ignore"):
            buffer = UploadBuffer(program.plan, bucket, self.device)
            buffer.fill(arrays, on_device=on_device)
            results = program.launch(buffer.tensors, bucket.max_length)
            graph = capture(lambda: program.launch(buffer.tensors, bucket.max_length))
            (times,) = replay_us([graph], _REPLAYS)
            self.graph_us = float(np.median(times))
        return consume(remove_padding(program.plan, results, arrays))


def run(visit: Visit) -> None:
    """Write the times of each shape."""
    graph = make_graph(visit)
    session, timer = TritonSession(graph), GraphTimer()
    timed = TritonSession(graph, make_runner=lambda: timer)
    seconds = 0.01 if visit.dry_run else _SECONDS

    def measure(lengths: list[int]) -> dict[str, Any]:
        batch = make_batch(lengths)
        wall = wall_times(lambda: session.run(batch, _OUTPUTS), seconds)
        timed.run(batch, _OUTPUTS)
        per_second = 1e3 * len(lengths) / wall["median_ms"]
        return {**wall, "sequences_per_s": per_second, "graph_us": timer.graph_us}

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
