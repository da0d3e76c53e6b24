"""Does each shape run, and does its CUDA graph give what the launches gave?

Each has a process of its own: kernels compile side by side, and one that crashes does so alone.
"""

import multiprocessing
import sys
from typing import Any

import numpy as np

from benchmarks.gpu.visit.inputs import make_batch, make_graph, shapes
from benchmarks.gpu.visit.run_step import prepare
from benchmarks.gpu.visit.visit import Visit

__all__ = ["run"]

_OUTPUT = "sentence_embedding"


def run(visit: Visit) -> None:
    """Run all shapes at once; exit with 1 if one of them failed."""
    make_graph(visit)  # here, because the processes would all write it
    context = multiprocessing.get_context("spawn")
    running = {
        name: context.Process(target=_run_shape, args=(visit, name, lengths))
        for name, lengths in shapes(visit).items()
    }
    for process in running.values():
        process.start()
    for name, process in running.items():
        process.join()
        if process.exitcode != 0:
            visit.add("smoke", shape=name, failure=f"the process ended with {process.exitcode}")
    if any(process.exitcode for process in running.values()):
        sys.exit(1)


def _run_shape(visit: Visit, name: str, lengths: list[int]) -> None:
    prepare(visit)
    from bertrt.kernels.engine.session import TritonSession

    def run_twice() -> dict[str, Any]:
        session, batch = TritonSession(make_graph(visit)), make_batch(lengths)
        launched, replayed = (session.run(batch, [_OUTPUT])[_OUTPUT] for _ in range(2))
        return {
            "finite": bool(np.isfinite(launched).all()),
            "replay_differs": float(np.abs(launched - replayed).max()),
            "info": session.info(),
        }

    if not visit.measure("smoke", run_twice, shape=name):
        sys.exit(1)
