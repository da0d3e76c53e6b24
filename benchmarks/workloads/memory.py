"""Memory: what a contender's process holds after loading, at its peak, and idle again.

The model's export is made before, in another process. Peaks are the kernel's (VmHWM): they count
touched pages, memory-mapped files included, and never decrease.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.contenders.registry import find
from benchmarks.data.corpus import SEED, mixed
from benchmarks.data.inputs import fixed_inputs
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import Verdict, check, reference_answers_to_texts
from benchmarks.harness.rounds import speedup
from benchmarks.harness.rows import Row, refused, timed
from benchmarks.harness.worker_pool import prepare_once
from benchmarks.harness.worker_process import RefusedError, WorkerProcess

__all__ = ["NAME", "TASKS", "measure"]

NAME = "memory"
TASKS = ("embeddings",)

_SHAPES = ((1, 128), (8, 128))
_TEXTS = 256
# Allocators that return memory do so after a while.
_IDLE_SECONDS = 2.0
_REPEATS = 3
_MIB = 1 << 20


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure memory; yield a row for each contender and step, timed or refused.

    The steps are the rows' shapes: "loaded" and "idle" are what is resident then; "1x128",
    "8x128" and "256 texts" are the peak so far, after that work. `speedup` is how many times less.
    """
    texts = mixed(_TEXTS)
    expected = reference_answers_to_texts(config, model, task, texts)
    sizes: dict[str, list[dict[str, float]]] = {}
    described: dict[str, dict[str, Any]] = {}
    for name in names:
        config.report(f"  {model.name} {task} memory of {name}")
        try:
            for _ in range(1 if config.quick else _REPEATS):
                described[name], verdict, steps = _work(config, model, task, name, texts, expected)
                if verdict.wrong:
                    raise RefusedError(f"wrong answer: {verdict.wrong}")
                described[name]["error"] = verdict.error
                sizes.setdefault(name, []).append(steps)
        except RefusedError as error:
            sizes.pop(name, None)
            yield refused(NAME, model, task, name, str(error))
    for name, repeats in sizes.items():
        for step in repeats[0]:
            own = [steps[step] for steps in repeats]
            low, median, high = np.percentile(own, (20, 50, 80))
            yield timed(
                NAME,
                model,
                task,
                name,
                shape=step,
                versions=described[name]["versions"],
                error=described[name]["error"],
                metric="mib",
                median=float(median),
                p20=float(low),
                p80=float(high),
                n=len(own),
                speedup={
                    other: speedup(own, [steps[step] for steps in theirs])
                    for other, theirs in sizes.items()
                    if other != name
                },
                settings={"threads": config.threads, "corpus_seed": SEED},
            )


def _work(
    config: BenchConfig, model: Model, task: str, name: str, texts: list[str], expected: np.ndarray
) -> tuple[dict[str, Any], Verdict, dict[str, float]]:
    """Return a new worker's description, the verdict on its answers, and its MiB at every step.

    Raises RefusedError.
    """
    contender = find(name)
    if task not in contender.tasks:
        raise RefusedError(f"{contender.title} does not support {task}")
    folder = prepare_once(config, name, model, task)
    steps = {}
    with WorkerProcess(name, config) as process:
        described: dict[str, Any] = process.call("describe")
        process.call("load", model=model, task=task, folder=str(folder), threads=config.threads)
        steps["loaded"] = process.call("memory")["now"] / _MIB
        for batch, sequence in _SHAPES:
            process.call("run", inputs=fixed_inputs(model, [sequence] * batch))
            steps[f"{batch}x{sequence}"] = process.call("memory")["peak"] / _MIB
        answers = process.call("answer", texts=texts)
        steps[f"{len(texts)} texts"] = process.call("memory")["peak"] / _MIB
        time.sleep(_IDLE_SECONDS)
        steps["idle"] = process.call("memory")["now"] / _MIB
    return described, check(answers, expected, described["precision"]), steps
