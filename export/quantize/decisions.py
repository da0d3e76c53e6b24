"""What a head decides, and the share of its decisions that two graphs take alike.

Users get answers, not logits: int8 may change every logit as long as the answers stay. Each kind of
head has a function that finds the decisions in its logits, and counts those that stay. Where most
of what a head says is "no" (the labels of a multi-label head, the tokens that are in no entity),
agreement on every "no" says little, so what was found is judged as well, by its F1: twice what
both found, divided by all that either found. A reranker decides which of two passages comes first,
and its scores, which may be compared with a threshold, are judged as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.artifact.model_config import ModelConfig
from bertrt.export.heads import VECTOR_TASKS, HeadSpec
from bertrt.heads.aggregation import Token, aggregate
from bertrt.heads.question_answering import QuestionAnsweringOptions
from bertrt.heads.spans import best_spans, span_probabilities

__all__ = ["Agreement", "Answers", "agreements"]

# The answers of each output, text by text: float32 [answers, numbers]. An answer is an embedding,
# the logits of one label set or of one token, or, for questions, of the tokens of a context. For a
# reranker, list by list: the scores of its passages.
Answers = dict[str, list[np.ndarray]]

# A number of a regression stays if its difference is at most this share of its column's standard
# deviation.
_CLOSE = 0.05
_STEPS = 4
# Among so few found, one near tie would decide: one lost, or one whose end moved, is forgiven.
_FEW = 100
# The number of endings that make one multiple-choice question.
_CHOICES = 4


@dataclass(frozen=True)
class Agreement:
    """How many decisions of one kind stay the same.

    Attributes:
        what: the decisions, in the plural.
        share: the share that stays; 1 if there are none.
        count: the number of decisions.
    """

    what: str
    share: float
    count: int


def agreements(
    answers: Answers,
    reference: Answers,
    head: HeadSpec,
    config: ModelConfig,
    *,
    ranked: bool = False,
) -> list[Agreement]:
    """Compare what a head decides in two graphs' answers to the same texts.

    Args:
        answers: those of the graph to judge, all finite.
        reference: the float32 graph's.
        head, config: the head and its labels and problem type.
        ranked: whether each answer is the scores of a list to rank, [1, passages].

    Returns an agreement for each kind of decision; none for embeddings.
    """
    if head.task in VECTOR_TASKS:
        return []
    if head.task == "question-answering":
        return [_spans(answers, reference)]
    if head.task == "pretraining":
        return [
            _argmax("masked tokens", answers["prediction_logits"], reference["prediction_logits"]),
            _argmax(
                "next sentences",
                answers["seq_relationship_logits"],
                reference["seq_relationship_logits"],
            ),
        ]
    ours, theirs = answers["logits"], reference["logits"]
    if ranked:
        return [_orders(ours, theirs), _scores(ours, theirs)]
    if head.task == "token-classification":
        return [_argmax("tokens", ours, theirs), _entities(ours, theirs, config.labels)]
    if head.task == "multiple-choice":
        return [_argmax("choices", _by_question(ours), _by_question(theirs))]
    if head.task == "text-classification":
        return _LABELS[_problem_type(theirs, config)](ours, theirs)
    return [_argmax(_ARGMAX[head.task], ours, theirs)]


_ARGMAX = {
    "fill-mask": "masked tokens",
    "text-generation": "next tokens",
    "next-sentence-prediction": "next sentences",
}


def _argmax(what: str, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Agreement:
    """Compare the largest number of each answer."""
    pairs = zip(ours, theirs, strict=True)
    same = np.concatenate([a.argmax(axis=1) == b.argmax(axis=1) for a, b in pairs])
    return Agreement(what, _share(int(same.sum()), same.size), same.size)


def _by_question(logits: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Join the single logits of each question's endings to one answer [1, choices]."""
    groups = [logits[i : i + _CHOICES] for i in range(0, len(logits), _CHOICES)]
    return [np.concatenate(group, axis=1) for group in groups]


def _problem_type(logits: Sequence[np.ndarray], config: ModelConfig) -> str:
    """Return what a classifier was trained for; one number is a regression, as in transformers."""
    if config.problem_type in ("regression", "multi_label_classification"):
        return config.problem_type
    return "regression" if logits[0].shape[1] == 1 else "single_label_classification"


def _single_label(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> list[Agreement]:
    return [_argmax("labels", ours, theirs)]


def _regression(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> list[Agreement]:
    close = _close(np.concatenate(ours), np.concatenate(theirs))
    return [_worst_column("numbers", close)]


def _scores(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Agreement:
    """Compare the scores of all lists as one column of numbers."""
    answer, exact = (np.concatenate(lists, axis=1).T for lists in (ours, theirs))
    return _worst_column("scores", _close(answer, exact))


def _close(answer: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Compare numbers [n, columns] with the spread of their own column; bool [n, columns]."""
    spread = exact.std(axis=0, dtype=np.float64)
    close: np.ndarray = np.abs(answer - exact) <= np.maximum(_CLOSE * spread, _resolution(exact))
    return close


def _resolution(exact: np.ndarray) -> np.ndarray:
    """Return how far numbers [n, columns] may differ and be the same, for each column.

    Numbers that differ by less than float32 can tell, beside a large bias, are the same.
    """
    steps: np.ndarray = _STEPS * np.finfo(np.float32).eps * np.abs(exact).max(axis=0)
    return steps


def _orders(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> Agreement:
    """Compare which of two passages of a list comes first; the mean over the lists counts.

    Kendall's tau is twice this share less 1. Two that float32 cannot tell apart have no order, and
    count for nothing; two that only the other graph scores alike are half right.
    """
    shares, count = [], 0
    for answer, exact in zip(ours, theirs, strict=True):
        first, second = np.triu_indices(exact.shape[1], k=1)
        difference = exact[0, first] - exact[0, second]
        decided = np.abs(difference) > _resolution(exact.T)
        same = np.sign(answer[0, first] - answer[0, second]) * np.sign(difference)
        if decided.any():
            shares.append((1 + float(same[decided].mean(dtype=np.float64))) / 2)
            count += int(decided.sum())
    return Agreement("orders of two passages", float(np.mean(shares)) if shares else 1.0, count)


def _multi_label(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> list[Agreement]:
    """Compare each label's yes (a logit above 0, a score above 0.5), and the worst label counts."""
    answer, exact = np.concatenate(ours) > 0, np.concatenate(theirs) > 0
    both = int((answer & exact).sum())
    found = _f1("labels found", both, int(answer.sum()), int(exact.sum()))
    return [_worst_column("labels", answer == exact), found]


_LABELS: dict[str, Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], list[Agreement]]] = {
    "single_label_classification": _single_label,
    "multi_label_classification": _multi_label,
    "regression": _regression,
}


def _worst_column(what: str, same: np.ndarray) -> Agreement:
    """Return the agreement of the column, of bool [n, columns], with the smallest."""
    return Agreement(what, float(same.mean(axis=0).min()), same.size)


def _entities(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], labels: Sequence[str]
) -> Agreement:
    """Compare entities, each a label and the tokens it spans, as "simple" aggregation finds them.

    Consecutive tokens with the same label are an entity if labels have no `B-` and `I-`.
    """
    both = found = expected = 0
    for answer, exact in zip(ours, theirs, strict=True):
        one, other = _entities_of(answer, labels), _entities_of(exact, labels)
        both += len(one & other)
        found += len(one)
        expected += len(other)
    return _f1("entities", both, found, expected)


def _entities_of(logits: np.ndarray, labels: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the entities of a text, each with its first token and the one after its last."""
    tokens = [Token("", row, i, i, i + 1, False) for i, row in enumerate(logits)]
    entities = aggregate(tokens, "simple", labels, " ".join)
    return {
        (entity["entity_group"], entity["start"], entity["end"])
        for entity in entities
        if entity["entity_group"] != "O"
    }


def _spans(answers: Answers, reference: Answers) -> Agreement:
    """Compare the spans that questions are answered with; that there is no answer is one too."""
    texts = [
        [_span(*logits) for logits in zip(one["start_logits"], one["end_logits"], strict=True)]
        for one in (answers, reference)
    ]
    same = sum(a == b for a, b in zip(*texts, strict=True))
    return Agreement("answers", _share(same, len(texts[0])), len(texts[0]))


def _span(start: np.ndarray, end: np.ndarray) -> tuple[int, int] | None:
    """Return the best span of a context as the runtime picks it; None if no answer is likelier.

    A context that "no answer" fits best has spans too, but which of them is best is chance.

    Args:
        start, end: the logits of [CLS] and of the tokens of the context, float32 [1, S].
    """
    everything = np.ones(start.shape[1], bool)
    starts, ends, no_answer = span_probabilities(start[0], end[0], everything)
    longest = QuestionAnsweringOptions.max_answer_len
    first, last, score = best_spans(starts, ends, everything, 1, longest)[0]
    return None if no_answer > score else (first, last)


def _f1(what: str, both: int, found: int, expected: int) -> Agreement:
    count, either = max(found, expected), found + expected
    wrong = either - 2 * both
    if count < _FEW:
        wrong = max(0, wrong - 2)
    return Agreement(what, _share(either - wrong, either), count)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
