"""Memory: what the process of a contender holds after loading, at its peak, and idle again.

The model's export is made before, in another process. Peaks are the kernel's (VmHWM): they count
what is touched, files mapped into memory too, and only ever grow.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bench import Bench
from contender import find
from corpus import SEED, mixed
from crew import prepared
from gate import Verdict, check
from models import Model
from process import Process, Refused
from proof import expected_answers
from rounds import speedup
from rows import Row, refused, timed
from texts import fixed_inputs

__all__ = ["NAME", "TASKS", "measure"]

NAME = "memory"
TASKS = ("embeddings",)

_SHAPES = ((1, 128), (8, 128))
_TEXTS = 256
# Allocators that give memory back do so after a while.
_IDLE_SECONDS = 2.0
_REPEATS = 3
_MIB = 1 << 20


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure bytes; a row for each contender and step, timed or refused.

    The steps, as the rows' shapes: "loaded" and "idle" are what is resident then; "1x128",
    "8x128" and "256 texts" the peak so far, after that work. `speedup` is how many times less.
    """
    texts = mixed(_TEXTS)
    expected = expected_answers(bench, model, task, texts)
    sizes: dict[str, list[dict[str, float]]] = {}
    described: dict[str, dict[str, Any]] = {}
    for name in names:
        bench.tell(f"  {model.name} {task} memory of {name}")
        try:
            for _ in range(1 if bench.quick else _REPEATS):
                described[name], verdict, steps = _work(bench, model, task, name, texts, expected)
                if verdict.wrong:
                    raise Refused(f"wrong answer: {verdict.wrong}")
                described[name]["error"] = verdict.error
                sizes.setdefault(name, []).append(steps)
        except Refused as reason:
            sizes.pop(name, None)
            yield refused(NAME, model, task, name, str(reason))
    for name, found in sizes.items():
        for step in found[0]:
            own = [one[step] for one in found]
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
                    other: speedup(own, [one[step] for one in theirs])
                    for other, theirs in sizes.items()
                    if other != name
                },
                settings={"threads": bench.threads, "corpus_seed": SEED},
            )


def _work(
    bench: Bench, model: Model, task: str, name: str, texts: list[str], expected: np.ndarray
) -> tuple[dict[str, Any], Verdict, dict[str, float]]:
    """What a new worker says of itself, how right it is, and its MiB at every step.

    Raises Refused.
    """
    if task not in find(name).TASKS:
        raise Refused(f"{find(name).TITLE} is not made for {task}")
    folder = prepared(bench, name, model, task)
    steps = {}
    with Process(name, bench) as process:
        described: dict[str, Any] = process.call("describe")
        process.call(
            "load", model=asdict(model), task=task, folder=str(folder), threads=bench.threads
        )
        steps["loaded"] = process.call("memory")["now"] / _MIB
        for batch, sequence in _SHAPES:
            process.call("run", inputs=fixed_inputs(model, [sequence] * batch))
            steps[f"{batch}x{sequence}"] = process.call("memory")["peak"] / _MIB
        answers = process.call("answer", texts=texts)
        steps[f"{len(texts)} texts"] = process.call("memory")["peak"] / _MIB
        time.sleep(_IDLE_SECONDS)
        steps["idle"] = process.call("memory")["now"] / _MIB
    return described, check(answers, expected, described["precision"]), steps
