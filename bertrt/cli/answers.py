"""Answers for people: each task's answer as a few lines, scores first."""

from collections.abc import Callable, Mapping
from typing import Any

from bertrt.cli.table import aligned, printable
from bertrt.errors import InputError

__all__ = ["AnswerPrinter", "answer_lines"]

# Hidden states have hundreds of numbers; these say that there are some, and of what size.
_NUMBERS = 6


class AnswerPrinter:
    """Prints answers to one task; answers of more than one line get an empty line between."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._last = 0

    def __call__(self, answer: Any) -> None:
        """Print one answer; an InputError in its place is skipped."""
        if isinstance(answer, InputError):
            return
        lines = [printable(line) for line in answer_lines(self._task, answer)]
        if self._last and max(self._last, len(lines)) > 1:
            print()
        self._last = len(lines)
        print(*lines, sep="\n")


def answer_lines(task: str, answer: Any) -> list[str]:
    """One input's answer, as it stands in a list of answers, in lines."""
    return _TASKS[task](answer)


def _fill_mask(answer: Any) -> list[str]:
    if answer and isinstance(answer[0], list):  # several masks
        return [
            line
            for number, mask in enumerate(answer, start=1)
            for line in [f"mask {number}", *_fill_mask(mask)]
        ]
    return aligned([(_score(one), one["token_str"], one["sequence"]) for one in answer])


def _labels(answer: Any) -> list[str]:
    answers = [answer] if isinstance(answer, dict) else answer
    return aligned([(_score(one), one["label"]) for one in answers])


def _zero_shot(answer: Any) -> list[str]:
    pairs = zip(answer["scores"], answer["labels"], strict=True)
    return aligned([(f"{score:.4f}", label) for score, label in pairs])


def _tokens(answer: Any) -> list[str]:
    rows = [
        (
            _score(one),
            one["entity_group"] if "entity_group" in one else one["entity"],
            _span(one),
            one["word"],
        )
        for one in answer
    ]
    return aligned(rows) or ["no entities"]


def _spans(answer: Any) -> list[str]:
    answers = [answer] if isinstance(answer, dict) else answer
    rows = [(_score(one), _span(one), one["answer"] or "no answer") for one in answers]
    return aligned(rows) or ["no answer"]


def _features(answer: Any) -> list[str]:
    tokens = answer[0]
    more = " …" if len(tokens[0]) > _NUMBERS else ""
    return [
        f"[1, {len(tokens)}, {len(tokens[0])}]",
        *(" ".join(f"{value:8.4f}" for value in token[:_NUMBERS]) + more for token in tokens),
    ]


def _choices(answer: Any) -> list[str]:
    return aligned([(_score(one), str(one["choice"]), one["text"]) for one in answer])


def _pretraining(answer: Any) -> list[str]:
    lines = _fill_mask(answer["fill_mask"])
    if answer["next_sentence"] is not None:
        lines += _labels(answer["next_sentence"])
    return lines or ["no mask and no pair"]


def _generated(answer: Any) -> list[str]:
    if "generated_text" in answer[0]:
        return [one["generated_text"] for one in answer]
    return aligned([(_score(one), one["token_str"]) for one in answer])


def _score(answer: Mapping[str, Any]) -> str:
    return f"{answer['score']:.4f}"


def _span(answer: Mapping[str, Any]) -> str:
    """Where in the text: characters from start to end; words that were split have none."""
    if answer.get("start") is None:
        return ""
    return f"{answer['start']}-{answer['end']}"


_TASKS: dict[str, Callable[[Any], list[str]]] = {
    "feature-extraction": _features,
    "fill-mask": _fill_mask,
    "multiple-choice": _choices,
    "next-sentence-prediction": _labels,
    "pretraining": _pretraining,
    "question-answering": _spans,
    "text-classification": _labels,
    "text-generation": _generated,
    "token-classification": _tokens,
    "zero-shot-classification": _zero_shot,
}
