"""Compare an int8 graph's answers with the float32 graph's: cosine, decisions and distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.artifact.graph_io import MASKED_ONLY, SENTENCE_EMBEDDING
from bertrt.artifact.model_config import ModelConfig
from bertrt.export.heads import HeadSpec
from bertrt.export.quantize.decisions import Agreement, Answers, agreements
from bertrt.export.quantize.graph_run import RunGraph
from bertrt.export.quantize.text_batches import TextBatch

__all__ = ["Accuracy", "answers_of", "compare", "outputs_of"]

_TOKEN_TASKS = (
    "multi-vector-embedding",
    "token-classification",
    "text-generation",
    "fill-mask",
    "pretraining",
)


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of int8 against float32 on some texts.

    Answers that are not finite count as the worst possible.

    Attributes:
        cosine: the smallest cosine of any answer.
        distance: the squared error of all answers, divided by their squares.
        answers: the number of answers that were compared.
        judged: how many decisions stay the same, for each kind; empty for embeddings.
    """

    cosine: float
    distance: float
    answers: int
    judged: tuple[Agreement, ...] = ()

    @property
    def weakest(self) -> Agreement | None:
        """The kind of decision of which the smallest share stays the same; None without any."""
        return min(self.judged, key=lambda kind: kind.share, default=None)

    @property
    def agreement(self) -> float:
        """The share of decisions that stay the same, of the weakest kind; 1 for embeddings."""
        return self.weakest.share if self.weakest else 1.0


def outputs_of(head: HeadSpec) -> list[str]:
    """Return the names of the graph outputs that are compared."""
    return [SENTENCE_EMBEDDING] if head.task == "feature-extraction" else list(head.outputs)


def answers_of(run: RunGraph, batches: Sequence[TextBatch], head: HeadSpec) -> Answers:
    """Run every batch and collect the answers of each text, in the order of the texts."""
    found: dict[str, dict[int, np.ndarray]] = {name: {} for name in outputs_of(head)}
    for batch in batches:
        outputs = run(batch.inputs, list(found))
        for name, by_text in found.items():
            by_text |= zip(batch.texts, _split(name, outputs[name], batch, head), strict=True)
    return {
        name: [answers for _, answers in sorted(by_text.items(), key=lambda item: item[0])]
        for name, by_text in found.items()
    }


def _split(name: str, output: np.ndarray, batch: TextBatch, head: HeadSpec) -> list[np.ndarray]:
    """Return the answers in one output of a batch, float32 [answers, numbers] for each text."""
    if head.task == "question-answering":
        return [row[scored][None] for row, scored in zip(output, batch.scored, strict=True)]
    if head.task not in _TOKEN_TASKS or name == "seq_relationship_logits":
        return [row.reshape(1, -1).copy() for row in output]
    if batch.inputs.get(MASKED_ONLY):
        # Rows of masks only, [R, 1, V], in the order of the masks.
        ends = np.cumsum(batch.scored.sum(axis=1))[:-1]
        return [rows.copy() for rows in np.split(output[:, 0], ends)]
    return [row[scored] for row, scored in zip(output, batch.scored, strict=True)]


def compare(
    answers: Answers,
    reference: Answers,
    head: HeadSpec,
    config: ModelConfig,
    lists: Sequence[int] = (),
) -> Accuracy:
    """Compare answers with the float32 graph's answers to the same texts.

    Args:
        answers, reference: the answers of each text.
        head, config: the head and its labels and problem type.
        lists: for a reranker, how many texts make each list; an answer is then a list's scores.
    """
    if lists:
        answers, reference = _by_list(answers, lists), _by_list(reference, lists)
    count = sum(len(rows) for texts in reference.values() for rows in texts)
    if not all(np.isfinite(rows).all() for texts in answers.values() for rows in texts):
        # A comparison with NaN is False, and would count as no error.
        return Accuracy(-1.0, np.inf, count, (Agreement("finite answers", 0.0, count),))
    cosine, error, size = 1.0, 0.0, 0.0
    for name, texts in reference.items():
        for ours, theirs in zip(answers[name], texts, strict=True):
            error += float(np.square(ours - theirs, dtype=np.float64).sum())
            size += float(np.square(theirs, dtype=np.float64).sum())
            cosine = min(cosine, _cosine(ours, theirs))
    judged = tuple(agreements(answers, reference, head, config, ranked=bool(lists)))
    return Accuracy(cosine, error / size if size else error, count, judged)


def _by_list(answers: Answers, lists: Sequence[int]) -> Answers:
    """Join the single scores of each list's texts to one answer [1, texts]."""
    ends = np.cumsum(lists)
    bounds = list(zip(ends - lists, ends, strict=True))
    return {
        name: [np.concatenate(scores[start:end], axis=1) for start, end in bounds]
        for name, scores in answers.items()
    }


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the smallest cosine of two answers; 1 if one of them is all zeros."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.divide((a * b).sum(axis=1), norms, out=np.ones_like(norms), where=norms > 0)
    return float(cosines.min(initial=1.0))
