"""Proof of answers: what eager PyTorch says to the same, and whose answers are too far off."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import Bench
from contender import REFERENCE
from crew import Crew, crew
from gate import check
from models import Model
from process import Refused
from reference import kept

__all__ = ["expected_answers", "expected_of", "prove"]

Errors = dict[str, dict[str, float]]

# float32 on a CPU is slow with as many texts as fill a GPU: BERT-large takes minutes.
_TIMEOUT = 3600


def expected_answers(bench: Bench, model: Model, task: str, texts: Sequence[str]) -> np.ndarray:
    """The reference's answers to texts; see `expected_of`."""
    asked = "\0".join(texts).encode()
    return expected_of(bench, model, task, asked, "answer", texts=list(texts))


def expected_of(
    bench: Bench, model: Model, task: str, asked: bytes, verb: str, **arguments: Any
) -> np.ndarray:
    """The reference's answers, [n, …] float32, from disk where they are kept.

    Args:
        bench, model, task: of the run.
        asked: what the answers are to, as bytes.
        verb, arguments: how a worker is asked for them.

    Raises Refused when they are not on disk, and eager PyTorch does not run here.
    """

    def ask() -> np.ndarray:
        with crew(bench, model, task, [REFERENCE]) as running:
            if REFERENCE in running.refused:
                raise Refused(f"there is no reference: {running.refused[REFERENCE]}")
            return np.asarray(running.call(REFERENCE, verb, timeout=_TIMEOUT, **arguments))

    return kept(bench, model, task, asked, ask)


def prove(running: Crew, expected: np.ndarray, what: str, verb: str, **arguments: Any) -> Errors:
    """Let everyone answer; who is wrong or fails leaves the crew, for that reason.

    Args:
        running: the crew.
        expected: the reference's answers.
        what: what was asked, in the words of a reason.
        verb, arguments: how a worker is asked.

    Returns the error of each, of the wrong ones too.
    """
    errors = {}
    for name in list(running.workers):
        try:
            answers = running.call(name, verb, **arguments)
        except Refused:
            continue
        verdict = check(answers, expected, running.described[name]["precision"])
        errors[name] = verdict.error
        if verdict.wrong:
            running.dismiss(name, f"wrong answer to {what}: {verdict.wrong}")
    return errors
