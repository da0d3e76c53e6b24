"""How near an int8 graph's answers are to the float32 graph's: cosines, agreement, distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.artifact.model_config import ModelConfig
from bertrt.export.heads import Head
from bertrt.export.quantize.graph_run import Run
from bertrt.export.quantize.text_feeds import Batch

__all__ = ["Accuracy", "Answers", "answers_of", "compare", "outputs_of"]

# Each answer is a vector: an embedding, or the logits of one decision. By output, in order.
Answers = dict[str, list[np.ndarray]]

_TOKEN_TASKS = ("token-classification", "text-generation", "fill-mask", "pretraining")
# Poolings whose embeddings have to be near; the others follow them, or are rarely used.
_EMBEDDINGS = ("mean_embedding", "cls_embedding")
# Endings that make one multiple-choice question.
_CHOICES = 4
# A model of one number (regression) agrees when it is off by less than this share of the numbers'
# standard deviation.
_CLOSE = 0.05


@dataclass(frozen=True)
class Accuracy:
    """int8 against float32 on some texts.

    `cosine` is the worst cosine of any answer; `agreement` the share of decisions that are the
    same, of the output where it is least (1 for embeddings); `distance` the squared error of all
    answers as a share of their square; `answers` how many were compared. Answers that are not
    finite are as far off as can be.
    """

    cosine: float
    agreement: float
    distance: float
    answers: int


def outputs_of(head: Head) -> list[str]:
    """The graph outputs that are compared."""
    return list(_EMBEDDINGS) if head.task == "feature-extraction" else list(head.outputs)


def answers_of(run: Run, batches: Sequence[Batch], head: Head) -> Answers:
    """Run every batch and pick out the answers, in the texts' order."""
    found: dict[str, dict[int, list[np.ndarray]]] = {name: {} for name in outputs_of(head)}
    for batch in batches:
        outputs = run(batch.feeds, list(found))
        for name, by_text in found.items():
            _pick(name, outputs[name], batch, head, by_text)
    return {
        name: [vector for _, vectors in sorted(by_text.items()) for vector in vectors]
        for name, by_text in found.items()
    }


def _pick(
    name: str, output: np.ndarray, batch: Batch, head: Head, by_text: dict[int, list[np.ndarray]]
) -> None:
    by_token = head.task in _TOKEN_TASKS and name != "seq_relationship_logits"
    if by_token and batch.feeds.get("masked_only"):
        # Rows of masks only, [R, 1, V], in the order of the masks.
        output, owners = output[:, 0], np.nonzero(batch.asked)[0]
    elif by_token:
        output, owners = output[batch.asked], np.nonzero(batch.asked)[0]
    elif head.task == "question-answering":
        for row, text in enumerate(batch.texts):
            by_text[text] = [output[row][batch.asked[row]]]
        return
    else:
        owners = np.arange(len(batch.texts))
    for owner, vector in zip(owners, output, strict=True):
        by_text.setdefault(batch.texts[owner], []).append(vector.reshape(-1).copy())


def compare(answers: Answers, reference: Answers, head: Head, config: ModelConfig) -> Accuracy:
    """Compare answers with the float32 graph's to the same texts."""
    embeddings = head.task == "feature-extraction"
    if head.task == "multiple-choice":
        answers, reference = _by_question(answers), _by_question(reference)
    cosine, agreement, error, size, count = 1.0, 1.0, 0.0, 0.0, 0
    for name, expected in reference.items():
        given = answers[name]
        count += len(expected)
        if not all(np.isfinite(one).all() for one in given):
            # A comparison with NaN is False, and would pass for no error at all.
            return Accuracy(-1.0, 0.0, np.inf, count)
        for ours, theirs in zip(given, expected, strict=True):
            error += float(np.square(ours - theirs, dtype=np.float64).sum())
            size += float(np.square(theirs, dtype=np.float64).sum())
            norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
            cosine = min(cosine, float(ours @ theirs) / norms if norms else 1.0)
        if not embeddings:
            agreement = min(agreement, float(_agree(given, expected, config).mean()))
    return Accuracy(cosine, agreement, error / size if size else error, count)


def _agree(given: list[np.ndarray], expected: list[np.ndarray], config: ModelConfig) -> np.ndarray:
    """Which decisions are the same, bool [n]."""
    if len(expected[0]) == 1 and all(len(one) == 1 for one in expected):
        ours, theirs = np.concatenate(given), np.concatenate(expected)
        return np.asarray(np.abs(ours - theirs) <= _CLOSE * max(float(theirs.std()), 1e-6))
    if config.problem_type == "multi_label_classification":
        return np.array([((a > 0) == (b > 0)).all() for a, b in zip(given, expected, strict=True)])
    return np.array([a.argmax() == b.argmax() for a, b in zip(given, expected, strict=True)])


def _by_question(answers: Answers) -> Answers:
    """One logit a text to the logits of each question's endings."""
    return {
        name: [np.concatenate(vectors[i : i + _CHOICES]) for i in range(0, len(vectors), _CHOICES)]
        for name, vectors in answers.items()
    }
