"""The measurement of `bertrt bench`: run shapes in turn, on random ids, until the time is up."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.artifact.directory import Artifact
from bertrt.cli.formatting import align_columns
from bertrt.progress import ProgressCallback
from bertrt.runtime import Runtime

__all__ = ["Measurement", "format_report", "measure"]

_MIN_ROUNDS = 3
# The keys of `Runtime.info` that a report has.
_INFO_KEYS = (
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
    """The result of one shape. Throughputs are those at the median latency."""

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
    default_shapes: Sequence[tuple[int, int]],
    seconds: float,
    threads: int | str,
    allow_spinning: bool,
    max_batch_tokens: int | str,
    progress: ProgressCallback,
) -> dict[str, Any]:
    """Measure an artifact's graph, and return a report that is ready for JSON.

    Args:
        directory: the artifact.
        shapes: (batch size, sequence length) of each; `default_shapes` when None.
        default_shapes: as `shapes`, but shortened to the model's length.
        seconds: how long to measure; each shape runs at least three times.
        threads, allow_spinning, max_batch_tokens: as for `bertrt.load`.
        progress: called as `progress(done, total, what)`, in milliseconds.

    Raises InputError for a shape that is longer than the model's positions.
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
            limit = artifact.config.max_position_embeddings
            shapes = list(
                dict.fromkeys((batch, min(length, limit)) for batch, length in default_shapes)
            )
        ids_by_shape = _random_ids(artifact, shapes)

        progress(0, 1, "warm up")
        first_ms = _run(runtime, ids_by_shape[0])
        for ids in ids_by_shape:
            _run(runtime, ids)
        latencies: list[list[float]] = [[] for _ in shapes]
        started = time.perf_counter()
        elapsed = 0.0
        while elapsed < seconds or len(latencies[0]) < _MIN_ROUNDS:
            progress(
                round(elapsed * 1000),
                round(seconds * 1000),
                f"measure {int(elapsed)} of {seconds:g} s",
            )
            for shape_latencies, ids in zip(latencies, ids_by_shape, strict=True):
                shape_latencies.append(_run(runtime, ids))
            elapsed = time.perf_counter() - started
        info = runtime.info
    results = [_result(*shape, times) for shape, times in zip(shapes, latencies, strict=True)]
    return {
        "directory": str(directory),
        **{name: info[name] for name in _INFO_KEYS},
        "load_ms": load_ms,
        "first_run_ms": first_ms,
        "results": [dataclasses.asdict(result) for result in results],
    }


def format_report(report: Mapping[str, Any]) -> list[str]:
    """Return a report as lines, with a table of the results."""
    header = ("shape", "median ms", "p20", "p80", "texts/s", "tokens/s", "runs")
    rows = [
        (
            result["shape"],
            *(f"{result[name]:.3f}" for name in ("median_ms", "p20_ms", "p80_ms")),
            *(f"{result[name]:.1f}" for name in ("texts_per_second", "tokens_per_second")),
            str(result["runs"]),
        )
        for result in report["results"]
    ]
    return [
        f"{report['task']} on {report['provider']} ({report['device']}), "
        f"threads: {report['threads']} "
        f"({report['threads_reason']}), {'spinning' if report['allow_spinning'] else 'sleeping'}",
        f"load {report['load_ms']:.1f} ms, first run {report['first_run_ms']:.1f} ms",
        "",
        *align_columns([header, *rows], right_aligned=range(1, len(header))),
    ]


def _random_ids(artifact: Artifact, shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Return token ids [B, S] for each shape, [B, 1, S] for multiple choice; always the same."""
    random = np.random.default_rng(0)
    ids = [random.integers(0, artifact.config.vocab_size, shape) for shape in shapes]
    has_choices = len(artifact.manifest.graph.inputs[0].shape) == 3
    return [array[:, None] for array in ids] if has_choices else ids


def _run(runtime: Runtime, ids: np.ndarray) -> float:
    """Run the graph once, and return the time in milliseconds."""
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
