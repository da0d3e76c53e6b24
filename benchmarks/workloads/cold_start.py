"""Cold start: from nothing to the first answer, in a new process each time.

A new Python starts, the contender imports its libraries and loads its model, and answers one
text; exports were made before. The files are in the operating system's page cache, as they are
when a service restarts: everyone is started once beforehand, untimed.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench import Bench
from contender import find
from crew import prepared
from gate import check
from models import Model
from process import Process, Refused
from proof import expected_answers
from rounds import rotations, speedups, summary
from rows import Row, refused, timed

__all__ = ["NAME", "TASKS", "measure"]

NAME = "cold_start"
TASKS = ("embeddings",)

TEXTS = ["The capital of France is a large city on a river."]
# The parts in their order; "total" is all of them, from the start of the process.
PARTS = ("total", "start", "load", "first answer")
_REPEATS = 7
_QUICK_REPEATS = 3


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure the parts of a cold start; a row for each contender and part, timed or refused.

    `start` is Python with numpy and the benchmark's own modules, the same for everyone; `load`
    has the libraries' imports in it.
    """
    bench.tell(f"  {model.name} {task} cold start")
    expected = expected_answers(bench, model, task, TEXTS)
    runs: dict[str, list[dict[str, float]]] = {}
    described: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            described[name] = _warm(bench, model, task, name, expected)
            runs[name] = []
        except Refused as reason:
            yield refused(NAME, model, task, name, str(reason))
    for order in rotations(list(runs), _QUICK_REPEATS if bench.quick else _REPEATS):
        for name in order:
            if name in runs:
                try:
                    runs[name].append(_start(bench, model, task, name, described[name]["folder"]))
                except Refused as reason:
                    del runs[name]
                    yield refused(NAME, model, task, name, str(reason))
    for part in PARTS:
        times = {name: [run[part] for run in found] for name, found in runs.items()}
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
                settings={"threads": bench.threads, "page_cache": "warm"},
                **summary(times[name]),
            )


def _warm(bench: Bench, model: Model, task: str, name: str, expected: np.ndarray) -> dict[str, Any]:
    """Start a contender once, untimed, and prove its answer; what it says of itself.

    Raises Refused.
    """
    if task not in find(name).TASKS:
        raise Refused(f"{find(name).TITLE} is not made for {task}")
    folder = prepared(bench, name, model, task)
    with Process(name, bench) as process:
        described: dict[str, Any] = process.call("describe")
        process.call("load", **_loading(bench, model, task, folder))
        verdict = check(process.call("answer", texts=TEXTS), expected, described["precision"])
    if verdict.wrong:
        raise Refused(f"wrong answer: {verdict.wrong}")
    return {**described, "error": verdict.error, "folder": folder}


def _start(bench: Bench, model: Model, task: str, name: str, folder: Path) -> dict[str, float]:
    """Seconds of each part of one start."""
    began = time.perf_counter()
    with Process(name, bench) as process:
        # Whatever it replies: the worker reads its pipe now.
        process.call("memory")
        started = time.perf_counter()
        process.call("load", **_loading(bench, model, task, folder))
        loaded = time.perf_counter()
        process.call("answer", texts=TEXTS)
        answered = time.perf_counter()
    return {
        "total": answered - began,
        "start": started - began,
        "load": loaded - started,
        "first answer": answered - loaded,
    }


def _loading(bench: Bench, model: Model, task: str, folder: Path) -> dict[str, Any]:
    return {
        "model": asdict(model),
        "task": task,
        "folder": str(folder),
        "threads": bench.threads,
    }
