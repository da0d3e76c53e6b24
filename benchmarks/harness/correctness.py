"""Correctness: every contender's answers are compared with eager PyTorch's before it is timed.

The reference is eager PyTorch in float32 on the CPU, wherever the contenders compute. Its answers
are kept on disk, because they never change. The bounds separate wrong answers from rounding and
quantization, for each precision; the row's error shows how accurate an answer is.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.registry import REFERENCE
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.worker_pool import WorkerPool, worker_pool
from benchmarks.harness.worker_process import RefusedError

__all__ = [
    "BOUNDS",
    "Bound",
    "Errors",
    "Verdict",
    "cached_reference",
    "check",
    "dismiss_wrong",
    "reference_answers",
    "reference_answers_to_texts",
]

Errors = dict[str, dict[str, float]]

# float32 on a CPU is slow for as many texts as fill a GPU: BERT-large takes minutes.
_TIMEOUT = 3600


@dataclass(frozen=True)
class Bound:
    """How far answers may be from the reference.

    Args:
        cosine: the smallest allowed cosine of any answer with its reference.
        relative: the largest allowed distance of any answer, relative to the reference's length.
    """

    cosine: float
    relative: float


# Floats: rounding through at most 24 layers; float16 has an eighth of bfloat16's error. The int8
# bound is wide enough that the tools' defaults pass on trained weights, where they reach cosines
# of 0.93; noise and bugs do not pass.
BOUNDS = {
    "float32": Bound(cosine=0.9999, relative=1e-3),
    "float16": Bound(cosine=0.999, relative=0.05),
    "bfloat16": Bound(cosine=0.99, relative=0.1),
    "int8": Bound(cosine=0.8, relative=0.6),
}


@dataclass(frozen=True)
class Verdict:
    """The error of a contender's answers, and what is wrong in one sentence, or None."""

    error: dict[str, float]
    wrong: str | None


def check(
    answers: np.ndarray, expected: np.ndarray, precision: str, *, centered: bool = False
) -> Verdict:
    """Compare answers [B, …] with the reference's.

    `centered` compares them as distances from the mean of the reference's answer, each from its
    own: a large mean would hide how the elements of an answer differ. Another mean stays an error.

    The error has the largest absolute difference, the largest distance of an answer relative to
    the reference's length, the worst cosine, and the share of answers whose largest element is at
    the same place. It is empty when the answers cannot be compared.
    """
    if answers.shape != expected.shape:
        return Verdict({}, f"the answers' shape is {answers.shape} and not {expected.shape}")
    if not np.isfinite(answers).all():
        return Verdict({}, "the answers hold values that are not finite")
    got, want = (array.reshape(len(array), -1).astype(np.float64) for array in (answers, expected))
    if centered:
        mean = want.mean(axis=1, keepdims=True)
        got, want = got - mean, want - mean
    length = np.linalg.norm(want, axis=1)
    relative = np.linalg.norm(got - want, axis=1) / length
    cosine = (got * want).sum(axis=1) / (np.linalg.norm(got, axis=1).clip(min=1e-30) * length)
    error = {
        "max_abs": float(np.abs(got - want).max()),
        "relative": float(relative.max()),
        "worst_cosine": float(cosine.min()),
        "argmax_agreement": float((got.argmax(axis=1) == want.argmax(axis=1)).mean()),
    }
    bound = BOUNDS[precision]
    if error["worst_cosine"] < bound.cosine:
        return Verdict(
            error,
            f"the worst cosine with the reference is {error['worst_cosine']:.6f}, and {precision} "
            f"has to reach {bound.cosine}",
        )
    if error["relative"] > bound.relative:
        return Verdict(
            error,
            f"an answer is {error['relative']:.2g} of its length away from the reference, and "
            f"{precision} may be {bound.relative}",
        )
    return Verdict(error, None)


def cached_reference(
    config: BenchConfig, model: Model, task: str, key: bytes, compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """Return the reference answers to the input that `key` identifies, computed if not on disk."""
    name = hashlib.sha256(key).hexdigest()[:16]
    path = config.folder / "reference" / Path(model.folder).name / task / f"{name}.npy"
    if path.is_file():
        return np.asarray(np.load(path))
    answers = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_suffix(".partial.npy")
    np.save(staging, answers)
    staging.replace(path)
    return answers


def reference_answers(
    config: BenchConfig, model: Model, task: str, key: bytes, verb: str, **arguments: Any
) -> np.ndarray:
    """Return the reference answers [n, …] float32, from disk or from a worker started for them.

    Args:
        config, model, task: of the run.
        key: identifies the input, as bytes.
        verb, arguments: the call of the worker that computes the answers.

    Raises RefusedError when they are not on disk and eager PyTorch does not run here.
    """

    def compute() -> np.ndarray:
        with worker_pool(config, model, task, [REFERENCE]) as pool:
            if REFERENCE in pool.refused:
                raise RefusedError(f"there is no reference: {pool.refused[REFERENCE]}")
            return np.asarray(pool.call(REFERENCE, verb, timeout=_TIMEOUT, **arguments))

    return cached_reference(config, model, task, key, compute)


def reference_answers_to_texts(
    config: BenchConfig, model: Model, task: str, texts: Sequence[str]
) -> np.ndarray:
    """Return the reference answers to texts; see `reference_answers`."""
    key = "\0".join(texts).encode()
    return reference_answers(config, model, task, key, "answer", texts=list(texts))


def dismiss_wrong(
    pool: WorkerPool,
    expected: np.ndarray,
    what: str,
    verb: str,
    *,
    centered: bool = False,
    **arguments: Any,
) -> Errors:
    """Have every worker answer, and dismiss those that fail or are wrong.

    Args:
        pool: the workers.
        expected: the reference's answers.
        what: what they answer, for the reason of a dismissal: "wrong answer {what}".
        verb, arguments: the call of a worker.
        centered: as for `check`.

    Returns the error of each worker that answered, the wrong ones included.
    """
    errors = {}
    for name in list(pool.workers):
        try:
            answers = pool.call(name, verb, **arguments)
        except RefusedError:
            continue
        precision = pool.described[name]["precision"]
        verdict = check(np.asarray(answers), expected, precision, centered=centered)
        errors[name] = verdict.error
        if verdict.wrong:
            pool.dismiss(name, f"wrong answer {what}: {verdict.wrong}")
    return errors
