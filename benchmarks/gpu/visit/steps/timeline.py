"""A replay kernel by kernel: how long each takes, and how long nothing runs between them."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.batches import MIXED
from benchmarks.gpu.visit.inputs import make_batch, make_graph, shapes
from benchmarks.gpu.visit.visit import Visit
from bertrt.kernels.engine.session import TritonSession

__all__ = ["run", "summarize"]

_SHAPES = ("1x128", "128x128", MIXED)
_OUTPUTS = ["sentence_embedding"]
_RUNS = 3
# Nothing runs for longer than this between two runs, while the host prepares the next one.
_LONGEST_GAP_US = 20.0
# Triton's and cuBLAS's names of kernels differ within these.
_NAME = 90

Event = Mapping[str, Any]


def run(visit: Visit) -> None:
    """Write rows of a few shapes."""
    session = TritonSession(make_graph(visit))
    for name in shapes(visit):
        if name not in _SHAPES:
            continue
        batch = make_batch(shapes(visit)[name])
        for _ in range(5):
            session.run(batch, _OUTPUTS)
        # The CPU has operators in place of kernels.
        activity = ProfilerActivity.CPU if visit.dry_run else ProfilerActivity.CUDA
        with profile(activities=[activity]) as profiler:
            for _ in range(_RUNS):
                session.run(batch, _OUTPUTS)
        trace = visit.work / "trace.json"
        profiler.export_chrome_trace(str(trace))
        for row in summarize(_read(trace, "cpu_op" if visit.dry_run else "kernel"), _RUNS):
            visit.add("timeline", shape=name, **row)


def summarize(events: Sequence[Event], runs: int) -> Iterator[dict[str, Any]]:
    """Yield a row for all kernels of a run and then one for each kernel, the longest first.

    Args:
        events: the kernels of `runs` equal runs, {"name", "ts", "dur"} in microseconds.
        runs: how many.
    """
    ordered = sorted(events, key=lambda event: event["ts"])
    gaps = [after["ts"] - before["ts"] - before["dur"] for before, after in pairwise(ordered)]
    between = [gap for gap in gaps if gap < _LONGEST_GAP_US]
    yield {
        "kernels": len(ordered) / runs,
        "busy_us": sum(event["dur"] for event in ordered) / runs,
        "gap_us": median(between) if between else None,
    }
    durations = defaultdict(list)
    for event in ordered:
        durations[event["name"][:_NAME]].append(event["dur"])
    for kernel, times in sorted(durations.items(), key=lambda item: -sum(item[1])):
        yield {
            "kernel": kernel,
            "n": len(times) / runs,
            "us": sum(times) / len(times),
            "run_us": sum(times) / runs,
        }


def _read(trace: Path, category: str) -> list[Event]:
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    return [event for event in events if event.get("cat") == category]
