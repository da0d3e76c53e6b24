"""Cold start: from nothing to the first answer, in a new process each time.

A new Python starts, the contender imports its libraries, loads its model and answers one text;
exports were made before. Files are in the operating system's page cache, as they are when a
service restarts: each contender is started once before, untimed.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.registry import find
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import check, reference_answers_to_texts
from benchmarks.harness.rounds import rotations, speedups, summary
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import prepare_once
from benchmarks.harness.worker_process import RefusedError, WorkerProcess

__all__ = ["NAME", "PARTS", "TASKS", "measure"]

NAME = "cold_start"
TASKS = ("embeddings",)

TEXTS = ["The capital of France is a large city on a river."]
# The parts in order; "total" is all of them, from the start of the process.
PARTS = ("total", "start", "load", "first answer")
_REPEATS = 7
_QUICK_REPEATS = 3


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure the parts of a cold start; yield a row for each contender and part.

    `start` is Python with numpy and the benchmark's modules, the same for all contenders; `load`
    includes importing the libraries.
    """
    config.report(f"  {model.name} {task} cold start")
    expected = reference_answers_to_texts(config, model, task, TEXTS)
    runs: dict[str, list[dict[str, float]]] = {}
    described: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            described[name] = _warm(config, model, task, name, expected)
            runs[name] = []
        except RefusedError as error:
            yield refused(NAME, model, task, name, str(error))
    for order in rotations(list(runs), _QUICK_REPEATS if config.quick else _REPEATS):
        for name in order:
            if name in runs:
                try:
                    runs[name].append(_start(config, model, task, name, described[name]["folder"]))
                except RefusedError as error:
                    del runs[name]
                    yield refused(NAME, model, task, name, str(error))
    for part in PARTS:
        times = {name: [run[part] for run in own] for name, own in runs.items()}
        for name in times:
            yield timed(
                NAME,
                model,
                task,
                name,
                shape=part,
                versions=described[name]["versions"],
                error=described[name]["error"],
                speedup=speedups(times, name),
                settings={"threads": config.threads, "page_cache": "warm"},
                **summary(times[name]),
            )


def _warm(
    config: BenchConfig, model: Model, task: str, name: str, expected: np.ndarray
) -> dict[str, Any]:
    """Start a contender once, untimed, and check its answer; return its description.

    Raises RefusedError.
    """
    contender = find(name)
    if task not in contender.tasks:
        raise RefusedError(f"{contender.title} does not support {task}")
    folder = prepare_once(config, name, model, task)
    with WorkerProcess(name, config) as process:
        described: dict[str, Any] = process.call("describe")
        process.call("load", **_load_arguments(config, model, task, folder))
        verdict = check(process.call("answer", texts=TEXTS), expected, described["precision"])
    if verdict.wrong:
        raise RefusedError(f"wrong answer: {verdict.wrong}")
    return {**described, "error": verdict.error, "folder": folder}


def _start(
    config: BenchConfig, model: Model, task: str, name: str, folder: Path
) -> dict[str, float]:
    """Return the seconds of each part of one start."""
    began = time.perf_counter()
    with WorkerProcess(name, config) as process:
        # The reply does not matter; it shows that the worker now reads its pipe.
        process.call("memory")
        started = time.perf_counter()
        process.call("load", **_load_arguments(config, model, task, folder))
        loaded = time.perf_counter()
        process.call("answer", texts=TEXTS)
        answered = time.perf_counter()
    return {
        "total": answered - began,
        "start": started - began,
        "load": loaded - started,
        "first answer": answered - loaded,
    }


def _load_arguments(config: BenchConfig, model: Model, task: str, folder: Path) -> dict[str, Any]:
    return {"model": model, "task": task, "folder": str(folder), "threads": config.threads}
