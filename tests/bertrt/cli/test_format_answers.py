"""Answers as lines of text."""

from typing import Any

import pytest

from bertrt.cli.format_answers import AnswerPrinter, format_answer
from bertrt.errors import InputError
from bertrt.heads import HEADS


def prediction(token: str, score: float = 0.5) -> dict[str, Any]:
    return {"score": score, "token": 7, "token_str": token, "sequence": f"the {token}"}


@pytest.mark.parametrize(
    ("task", "answer", "lines"),
    [
        (
            "fill-mask",
            [prediction("oxygen", 0.98), prediction("a", 0.01)],
            ["0.9800  oxygen  the oxygen", "0.0100  a       the a"],
        ),
        (
            "fill-mask",
            [[prediction("a")], [prediction("b")]],
            ["mask 1", "0.5000  a  the a", "mask 2", "0.5000  b  the b"],
        ),
        ("text-classification", {"label": "good", "score": 1.0}, ["1.0000  good"]),
        (
            "text-classification",
            [{"label": "good", "score": 0.75}, {"label": "bad", "score": 0.25}],
            ["0.7500  good", "0.2500  bad"],
        ),
        (
            "zero-shot-classification",
            {"sequence": "x", "labels": ["sports", "art"], "scores": [0.9, 0.1]},
            ["0.9000  sports", "0.1000  art"],
        ),
        (
            "token-classification",
            [{"entity_group": "PER", "score": 0.9, "word": "john", "start": 0, "end": 4}],
            ["0.9000  PER  0-4  john"],
        ),
        (
            "token-classification",
            [{"entity": "B", "score": 0.9, "index": 1, "word": "j", "start": None, "end": None}],
            ["0.9000  B    j"],
        ),
        ("token-classification", [], ["no entities"]),
        (
            "question-answering",
            {"score": 0.5, "start": 3, "end": 9, "answer": "London"},
            ["0.5000  3-9  London"],
        ),
        (
            "question-answering",
            [{"score": 0.5, "start": 0, "end": 0, "answer": ""}],
            ["0.5000  0-0  no answer"],
        ),
        ("question-answering", [], ["no answer"]),
        ("next-sentence-prediction", {"label": "is_next", "score": 0.5}, ["0.5000  is_next"]),
        (
            "multiple-choice",
            [{"choice": 1, "text": "b", "score": 0.75}, {"choice": 0, "text": "a", "score": 0.25}],
            ["0.7500  1  b", "0.2500  0  a"],
        ),
        (
            "pretraining",
            {"fill_mask": [prediction("a")], "next_sentence": {"label": "is_next", "score": 0.5}},
            ["0.5000  a  the a", "0.5000  is_next"],
        ),
        ("pretraining", {"fill_mask": [], "next_sentence": None}, ["no mask and no pair"]),
        ("text-generation", [{"generated_text": "a"}, {"generated_text": "b"}], ["a", "b"]),
        ("text-generation", [{"score": 0.5, "token": 3, "token_str": "x"}], ["0.5000  x"]),
        (
            "feature-extraction",
            [[[0.5, -1.0]]],
            ["[1, 1, 2]", "  0.5000  -1.0000"],
        ),
        (
            "feature-extraction",
            [[[1.0] * 7]],
            ["[1, 1, 7]", "  1.0000" + "   1.0000" * 5 + " …"],
        ),
    ],
)
def test_format_answer(task: str, answer: Any, lines: list[str]) -> None:
    assert format_answer(task, answer) == lines


def test_every_task_has_a_formatter() -> None:
    from bertrt.cli.format_answers import _FORMATTERS

    assert set(_FORMATTERS) == set(HEADS)


def test_printer(capsys: pytest.CaptureFixture[str]) -> None:
    """Empty lines surround long answers, errors are skipped, and control characters are escaped."""
    print_answer = AnswerPrinter("text-generation")
    for texts in (["a"], ["b"], ["c", "d"], None, ["\x1b[2J\n"]):
        answer = InputError("no") if texts is None else [{"generated_text": t} for t in texts]
        print_answer(answer)
    assert capsys.readouterr().out == "a\nb\n\nc\nd\n\n\\x1b[2J\\n\n"
