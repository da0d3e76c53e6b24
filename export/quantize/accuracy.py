"""Compare an int8 graph's answers with the float32 graph's: cosine, agreement and distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.artifact.graph_io import MASKED_ONLY, embedding_output
from bertrt.artifact.model_config import ModelConfig
from bertrt.export.heads import HeadSpec
from bertrt.export.quantize.graph_run import RunGraph
from bertrt.export.quantize.text_batches import TextBatch

__all__ = ["Accuracy", "Answers", "answers_of", "compare", "outputs_of"]

# The answers of each output, in order. An answer is a vector: an embedding, or the logits of one
# decision.
Answers = dict[str, list[np.ndarray]]

_TOKEN_TASKS = ("token-classification", "text-generation", "fill-mask", "pretraining")
# The embeddings that are compared; the others follow from them, or are rarely used.
_EMBEDDINGS = (embedding_output("mean"), embedding_output("cls"))
# The number of endings that make one multiple-choice question.
_CHOICES = 4
# A model with a single output number (regression) agrees if the difference is at most this share of
# the numbers' standard deviation.
_CLOSE = 0.05


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of int8 against float32 on some texts.

    Answers that are not finite count as the worst possible.

    Attributes:
        cosine: the smallest cosine of any answer.
        agreement: the share of decisions that are the same, of the output where it is smallest;
            1 for embeddings.
        distance: the squared error of all answers, divided by their squares.
        answers: the number of answers that were compared.
    """

    cosine: float
    agreement: float
    distance: float
    answers: int


def outputs_of(head: HeadSpec) -> list[str]:
    """Return the names of the graph outputs that are compared."""
    return list(_EMBEDDINGS) if head.task == "feature-extraction" else list(head.outputs)


def answers_of(run: RunGraph, batches: Sequence[TextBatch], head: HeadSpec) -> Answers:
    """Run every batch and collect the answers, in the order of the texts."""
    found: dict[str, dict[int, list[np.ndarray]]] = {name: {} for name in outputs_of(head)}
    for batch in batches:
        outputs = run(batch.inputs, list(found))
        for name, by_text in found.items():
            _collect(name, outputs[name], batch, head, by_text)
    return {
        name: [vector for _, vectors in sorted(by_text.items()) for vector in vectors]
        for name, by_text in found.items()
    }


def _collect(
    name: str,
    output: np.ndarray,
    batch: TextBatch,
    head: HeadSpec,
    by_text: dict[int, list[np.ndarray]],
) -> None:
    """Add the answers in one output of a batch to those of each text."""
    by_token = head.task in _TOKEN_TASKS and name != "seq_relationship_logits"
    if by_token and batch.inputs.get(MASKED_ONLY):
        # Rows of masks only, [R, 1, V], in the order of the masks.
        output, owners = output[:, 0], np.nonzero(batch.scored)[0]
    elif by_token:
        output, owners = output[batch.scored], np.nonzero(batch.scored)[0]
    elif head.task == "question-answering":
        for row, text in enumerate(batch.texts):
            by_text[text] = [output[row][batch.scored[row]]]
        return
    else:
        owners = np.arange(len(batch.texts))
    for owner, vector in zip(owners, output, strict=True):
        by_text.setdefault(batch.texts[owner], []).append(vector.reshape(-1).copy())


def compare(answers: Answers, reference: Answers, head: HeadSpec, config: ModelConfig) -> Accuracy:
    """Compare answers with the float32 graph's answers to the same texts."""
    embeddings = head.task == "feature-extraction"
    if head.task == "multiple-choice":
        answers, reference = _by_question(answers), _by_question(reference)
    cosine, agreement, error, size, count = 1.0, 1.0, 0.0, 0.0, 0
    for name, expected in reference.items():
        vectors = answers[name]
        count += len(expected)
        if not all(np.isfinite(vector).all() for vector in vectors):
            # A comparison with NaN is False, and would count as no error.
            return Accuracy(-1.0, 0.0, np.inf, count)
        for ours, theirs in zip(vectors, expected, strict=True):
            error += float(np.square(ours - theirs, dtype=np.float64).sum())
            size += float(np.square(theirs, dtype=np.float64).sum())
            norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
            cosine = min(cosine, float(ours @ theirs) / norms if norms else 1.0)
        if not embeddings:
            agreement = min(agreement, float(_agree(vectors, expected, config).mean()))
    return Accuracy(cosine, agreement, error / size if size else error, count)


def _agree(
    vectors: list[np.ndarray], expected: list[np.ndarray], config: ModelConfig
) -> np.ndarray:
    """Return which decisions are the same, bool [n]."""
    if all(len(vector) == 1 for vector in expected):
        ours, theirs = np.concatenate(vectors), np.concatenate(expected)
        return np.asarray(np.abs(ours - theirs) <= _CLOSE * max(float(theirs.std()), 1e-6))
    pairs = list(zip(vectors, expected, strict=True))
    if config.problem_type == "multi_label_classification":
        return np.array([((a > 0) == (b > 0)).all() for a, b in pairs])
    return np.array([a.argmax() == b.argmax() for a, b in pairs])


def _by_question(answers: Answers) -> Answers:
    """Join the single logits of each question's endings to one answer."""
    return {
        name: [np.concatenate(vectors[i : i + _CHOICES]) for i in range(0, len(vectors), _CHOICES)]
        for name, vectors in answers.items()
    }
