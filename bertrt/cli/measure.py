"""How `bertrt bench` measures: shapes in turn, on random ids, until the time is up."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.artifact.directory import Artifact
from bertrt.cli.table import aligned
from bertrt.progress import ProgressCallback
from bertrt.runtime import Runtime

__all__ = ["Measurement", "measure", "table"]

_LEAST_ROUNDS = 3
_OF_INFO = (
    "task",
    "provider",
    "device",
    "threads",
    "threads_reason",
    "allow_spinning",
    "processor",
    "int8",
)


@dataclass(frozen=True)
class Measurement:
    """One shape's runs: their number, latencies in milliseconds, and what the median gives."""

    shape: str
    runs: int
    median_ms: float
    p20_ms: float
    p80_ms: float
    texts_per_second: float
    tokens_per_second: float


def measure(
    directory: Path,
    *,
    shapes: Sequence[tuple[int, int]] | None,
    default: Sequence[tuple[int, int]],
    seconds: float,
    threads: int | str,
    allow_spinning: bool,
    max_batch_tokens: int | str,
    report_progress: ProgressCallback,
) -> dict[str, Any]:
    """Measure an artifact's graph.

    Args:
        directory: the artifact.
        shapes: batch and sequence of each; None takes `default`, cut to the model's length.
        seconds: how long to measure; each shape is run three times at least.
        threads, allow_spinning, max_batch_tokens: as for `bertrt.load`.
        report_progress: called with how much is done, in milliseconds.

    Returns a report ready for JSON.

    Raises InputError for a shape that the model has no positions for.
    """
    started = time.perf_counter()
    artifact = Artifact.open(directory, large_files_later=True)
    with Runtime(
        artifact,
        threads=threads,
        allow_spinning=allow_spinning,
        max_batch_tokens=max_batch_tokens,
    ) as runtime:
        load_ms = _milliseconds(started)
        if shapes is None:
            longest = artifact.config.max_position_embeddings
            shapes = list(dict.fromkeys((batch, min(length, longest)) for batch, length in default))
        feeds = _random_ids(artifact, shapes)

        report_progress(0, 1, "warm up")
        first_ms = _run(runtime, feeds[0])
        for ids in feeds:
            _run(runtime, ids)
        times: list[list[float]] = [[] for _ in feeds]
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds or len(times[0]) < _LEAST_ROUNDS:
            report_progress(
                round(elapsed * 1000),
                round(seconds * 1000),
                f"measure {int(elapsed)} of {seconds:g} s",
            )
            for latencies, ids in zip(times, feeds, strict=True):
                latencies.append(_run(runtime, ids))
        info = runtime.info
    results = [_result(*shape, latencies) for shape, latencies in zip(shapes, times, strict=True)]
    return {
        "directory": str(directory),
        **{name: info[name] for name in _OF_INFO},
        "load_ms": load_ms,
        "first_run_ms": first_ms,
        "results": [dataclasses.asdict(result) for result in results],
    }


def table(report: Mapping[str, Any]) -> list[str]:
    """A report as lines."""
    head = ("shape", "median ms", "p20", "p80", "texts/s", "tokens/s", "runs")
    rows = [
        (
            one["shape"],
            *(f"{one[name]:.3f}" for name in ("median_ms", "p20_ms", "p80_ms")),
            *(f"{one[name]:.1f}" for name in ("texts_per_second", "tokens_per_second")),
            str(one["runs"]),
        )
        for one in report["results"]
    ]
    return [
        f"{report['task']} on {report['provider']} ({report['device']}), "
        f"threads: {report['threads']} "
        f"({report['threads_reason']}), {'spinning' if report['allow_spinning'] else 'sleeping'}",
        f"load {report['load_ms']:.1f} ms, first run {report['first_run_ms']:.1f} ms",
        "",
        *aligned([head, *rows], numbers=range(1, len(head))),
    ]


def _random_ids(artifact: Artifact, shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Token ids [B, S], or [B, 1, S] for multiple choice; the same ones every time."""
    random = np.random.default_rng(0)
    ids = [random.integers(0, artifact.config.vocab_size, shape) for shape in shapes]
    choices = len(artifact.manifest.graph.inputs[0].shape) == 3
    return [one[:, None] for one in ids] if choices else ids


def _run(runtime: Runtime, ids: np.ndarray) -> float:
    """Run the graph once; the time it took, in milliseconds."""
    started = time.perf_counter()
    runtime.run(input_ids=ids)
    return _milliseconds(started)


def _milliseconds(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _result(batch: int, sequence: int, latencies: Sequence[float]) -> Measurement:
    p20, median, p80 = (float(value) for value in np.percentile(latencies, (20, 50, 80)))
    return Measurement(
        shape=f"{batch}x{sequence}",
        runs=len(latencies),
        median_ms=median,
        p20_ms=p20,
        p80_ms=p80,
        texts_per_second=batch / median * 1000,
        tokens_per_second=batch * sequence / median * 1000,
    )
