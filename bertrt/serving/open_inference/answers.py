"""From tensors of texts to what a head takes, and from its answers to tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from bertrt.serving.open_inference.tensors import OutputTensor

__all__ = ["pair_up", "write_answers"]


def pair_up(task: str, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Any]:
    """Return a head's inputs: texts, or each with its pair, in the form that the head takes.

    Args:
        task: the head's task.
        texts: n texts.
        pairs: n texts, or None; for multiple choice n times the number of choices.
    """
    if pairs is None:
        return list(texts)
    return _PAIRED.get(task, _tuples)(texts, pairs)


def write_answers(task: str, answers: Any) -> list[OutputTensor]:
    """Return the tensors of a head's answers to n inputs, of which there is one at least.

    These are `embedding` [n, D]; `label` and `score` [n, labels], best first; and for other heads
    `answer` [n], the JSON of each answer.
    """
    if task == "feature-extraction":
        return [OutputTensor.of_numbers("embedding", answers)]
    if task == "text-classification":
        labels = [entry["label"] for answer in answers for entry in answer]
        scores = np.array([[entry["score"] for entry in answer] for answer in answers], np.float32)
        return [
            OutputTensor("label", "BYTES", scores.shape, labels),
            OutputTensor.of_numbers("score", scores),
        ]
    written = [orjson.dumps(answer).decode() for answer in answers]
    return [OutputTensor("answer", "BYTES", (len(written),), written)]


def _tuples(texts: Sequence[str], pairs: Sequence[str]) -> list[Any]:
    return list(zip(texts, pairs, strict=True))


def _questions(texts: Sequence[str], contexts: Sequence[str]) -> list[Any]:
    pairs = zip(texts, contexts, strict=True)
    return [{"question": question, "context": context} for question, context in pairs]


def _prompts(texts: Sequence[str], choices: Sequence[str]) -> list[Any]:
    count = len(choices) // len(texts)
    return [
        {"prompt": text, "choices": list(choices[count * row : count * (row + 1)])}
        for row, text in enumerate(texts)
    ]


_PAIRED: dict[str, Callable[[Sequence[str], Sequence[str]], list[Any]]] = {
    "question-answering": _questions,
    "multiple-choice": _prompts,
}
