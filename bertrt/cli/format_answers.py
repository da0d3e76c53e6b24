"""Format answers as lines of text, scores first; one function for each task."""

from collections.abc import Callable, Mapping
from typing import Any

from bertrt.cli.formatting import align_columns, escape_control
from bertrt.errors import InputError

__all__ = ["AnswerPrinter", "format_answer"]

# How many numbers of each hidden state are shown, of hundreds.
_NUMBERS = 6


class AnswerPrinter:
    """Prints the answers of one task, with an empty line around those of more than one line."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._lines_before = 0

    def __call__(self, answer: Any) -> None:
        """Print an answer; an InputError in its place is skipped."""
        if isinstance(answer, InputError):
            return
        lines = [escape_control(line) for line in format_answer(self._task, answer)]
        if self._lines_before and max(self._lines_before, len(lines)) > 1:
            print()
        self._lines_before = len(lines)
        print(*lines, sep="\n")


def format_answer(task: str, answer: Any) -> list[str]:
    """Return the lines of one input's answer, in the form that it has in a list of answers."""
    return _FORMATTERS[task](answer)


def _fill_mask(answer: Any) -> list[str]:
    if answer and isinstance(answer[0], list):  # several masks
        return [
            line
            for number, mask in enumerate(answer, start=1)
            for line in [f"mask {number}", *_fill_mask(mask)]
        ]
    return align_columns(
        [(_score(token), token["token_str"], token["sequence"]) for token in answer]
    )


def _labels(answer: Any) -> list[str]:
    answers = [answer] if isinstance(answer, dict) else answer
    return align_columns([(_score(label), label["label"]) for label in answers])


def _zero_shot(answer: Any) -> list[str]:
    pairs = zip(answer["scores"], answer["labels"], strict=True)
    return align_columns([(f"{score:.4f}", label) for score, label in pairs])


def _tokens(answer: Any) -> list[str]:
    rows = [
        (
            _score(entity),
            entity["entity_group"] if "entity_group" in entity else entity["entity"],
            _span(entity),
            entity["word"],
        )
        for entity in answer
    ]
    return align_columns(rows) or ["no entities"]


def _spans(answer: Any) -> list[str]:
    answers = [answer] if isinstance(answer, dict) else answer
    rows = [(_score(span), _span(span), span["answer"] or "no answer") for span in answers]
    return align_columns(rows) or ["no answer"]


def _features(answer: Any) -> list[str]:
    tokens = answer[0]
    more = " …" if len(tokens[0]) > _NUMBERS else ""
    return [
        f"[1, {len(tokens)}, {len(tokens[0])}]",
        *(" ".join(f"{value:8.4f}" for value in token[:_NUMBERS]) + more for token in tokens),
    ]


def _choices(answer: Any) -> list[str]:
    return align_columns(
        [(_score(choice), str(choice["choice"]), choice["text"]) for choice in answer]
    )


def _pretraining(answer: Any) -> list[str]:
    lines = _fill_mask(answer["fill_mask"])
    if answer["next_sentence"] is not None:
        lines += _labels(answer["next_sentence"])
    return lines or ["no mask and no pair"]


def _generated(answer: Any) -> list[str]:
    if "generated_text" in answer[0]:
        return [text["generated_text"] for text in answer]
    return align_columns([(_score(token), token["token_str"]) for token in answer])


def _token_vectors(answer: Any) -> list[str]:
    """Show the first numbers of each token's vector."""
    return _features([answer])


def _weights(answer: Any) -> list[str]:
    return align_columns([(f"{token['weight']:.4f}", token["token_str"]) for token in answer])


def _score(answer: Mapping[str, Any]) -> str:
    return f"{answer['score']:.4f}"


def _span(answer: Mapping[str, Any]) -> str:
    """Return the position in the text, start-end in characters; "" if it is not known."""
    if answer.get("start") is None:
        return ""
    return f"{answer['start']}-{answer['end']}"


_FORMATTERS: dict[str, Callable[[Any], list[str]]] = {
    "feature-extraction": _features,
    "fill-mask": _fill_mask,
    "multi-vector-embedding": _token_vectors,
    "multiple-choice": _choices,
    "next-sentence-prediction": _labels,
    "pretraining": _pretraining,
    "question-answering": _spans,
    "sparse-embedding": _weights,
    "text-classification": _labels,
    "text-generation": _generated,
    "token-classification": _tokens,
    "zero-shot-classification": _zero_shot,
}
