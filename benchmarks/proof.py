"""Proof of answers to texts: what eager PyTorch says to them, and whose answers are too far off."""

from collections.abc import Sequence

import numpy as np

from bench import Bench
from contender import BASELINE
from crew import Crew, crew
from gate import check
from models import Model
from process import Refused
from reference import kept

__all__ = ["expected_answers", "prove"]

Errors = dict[str, dict[str, float]]


def expected_answers(bench: Bench, model: Model, task: str, texts: Sequence[str]) -> np.ndarray:
    """The reference's answers to the texts, [n, …] float32, from disk where they are kept.

    Raises Refused when they are not, and eager PyTorch does not run here.
    """

    def ask() -> np.ndarray:
        with crew(bench, model, task, [BASELINE]) as running:
            if BASELINE in running.refused:
                raise Refused(f"there is no reference: {running.refused[BASELINE]}")
            return np.asarray(running.call(BASELINE, "answer", texts=list(texts)))

    return kept(bench, model, task, "\0".join(texts).encode(), ask)


def prove(running: Crew, texts: Sequence[str], expected: np.ndarray) -> Errors:
    """Let everyone answer the texts; who is wrong or fails leaves the crew, for that reason.

    Returns the error of each, of the wrong ones too.
    """
    errors = {}
    for name in list(running.workers):
        try:
            answers = running.call(name, "answer", texts=list(texts))
        except Refused:
            continue
        verdict = check(answers, expected, running.described[name]["precision"])
        errors[name] = verdict.error
        if verdict.wrong:
            running.dismiss(name, f"wrong answer to {len(texts)} texts: {verdict.wrong}")
    return errors
