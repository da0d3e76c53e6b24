"""A task as named tensors: the texts that it takes, and the arrays that its answers are.

`bertrt serve` and Triton Inference Server both speak the Open Inference Protocol. Here is what a
model's inputs and outputs are called there, so that a client of one is a client of the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.artifact.manifest import EmbeddingFacts

__all__ = [
    "NEEDS_PAIR",
    "TEXT",
    "TEXT_PAIR",
    "TensorType",
    "answer_arrays",
    "choose_call",
    "pair_up",
    "text_inputs",
    "text_outputs",
]

# The inputs of texts. A question's pair is its context, and a prompt's are its choices.
TEXT = "text"
TEXT_PAIR = "text_pair"
NEEDS_PAIR = frozenset({"multiple-choice", "next-sentence-prediction", "question-answering"})
_TAKES_PAIR = NEEDS_PAIR | {"feature-extraction", "pretraining", "text-classification"}

# Heads whose calls have no truncation to switch on.
_CUT_THEMSELVES = ("question-answering", "text-generation")


@dataclass(frozen=True)
class TensorType:
    """An input or output: its datatype, and its shape with -1 for a size that varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def text_inputs(task: str) -> tuple[TensorType, ...]:
    """Return the inputs of a task, for n texts: `text` [n] and perhaps `text_pair`."""
    inputs = [TensorType(TEXT, "BYTES", (-1,))]
    if task in _TAKES_PAIR:
        shape = (-1, -1) if task == "multiple-choice" else (-1,)
        inputs.append(TensorType(TEXT_PAIR, "BYTES", shape))
    return tuple(inputs)


def text_outputs(
    task: str, labels: Sequence[str], embedding: EmbeddingFacts | None
) -> tuple[TensorType, ...]:
    """Return the outputs of a task, for n texts.

    These are `embedding` [n, D]; `label` and `score` [n, labels]; and for other heads `answer` [n].
    """
    if task == "feature-extraction":
        size = (
            -1 if embedding is None else min(embedding.size, embedding.dimensions or embedding.size)
        )
        return (TensorType("embedding", "FP32", (-1, size)),)
    if task == "text-classification":
        shape = (-1, len(labels))
        return TensorType("label", "BYTES", shape), TensorType("score", "FP32", shape)
    return (TensorType("answer", "BYTES", (-1,)),)


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


def choose_call(task: str, truncation: bool) -> tuple[str, dict[str, Any]]:
    """Return the runtime's method that answers texts, "call" or "embed", and its options.

    Args:
        task: the head's task.
        truncation: whether a text that is too long is cut, rather than an error.
    """
    options: dict[str, Any] = {} if task in _CUT_THEMSELVES else {"truncation": truncation}
    if task == "text-classification":
        options["top_k"] = None
    return "embed" if task == "feature-extraction" else "call", options


def answer_arrays(task: str, answers: Any, to_json: Callable[[Any], str]) -> dict[str, np.ndarray]:
    """Return what a head answers to n texts, at least one, as arrays by the names of its outputs.

    They are float32, or texts as Python objects; labels and scores come best first.

    Args:
        task: the head's task.
        answers: what the call of `choose_call` returned.
        to_json: writes the JSON of one answer.
    """
    if task == "feature-extraction":
        return {"embedding": answers}
    if task == "text-classification":
        labels = [[entry["label"] for entry in answer] for answer in answers]
        scores = [[entry["score"] for entry in answer] for answer in answers]
        return {"label": np.array(labels, object), "score": np.array(scores, np.float32)}
    return {"answer": np.array([to_json(answer) for answer in answers], object)}


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
