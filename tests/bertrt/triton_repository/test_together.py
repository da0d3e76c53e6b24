"""Requests that run together: each gets its part of the answers, or its own error."""

from typing import Any

import numpy as np
import pytest

from bertrt.errors import BertrtError, DeviceError, InputError
from bertrt.triton_repository.together import answer_together, read_items


class Doubler:
    """Answers numbers, and counts its calls."""

    def __init__(self, refuses: tuple[int, ...] = ()) -> None:
        self.refuses = refuses
        self.calls: list[list[int]] = []

    def __call__(self, items: list[int]) -> dict[str, np.ndarray]:
        self.calls.append(items)
        for item in items:
            if item in self.refuses:
                raise InputError(f"{item} is refused")
        return {"double": np.array(items) * 2, "pair": np.array([[item, 0] for item in items])}


def show(results: list[Any]) -> list[Any]:
    return [str(one) if isinstance(one, BertrtError) else one["double"].tolist() for one in results]


def test_one_call_for_all() -> None:
    answer = Doubler()
    results = answer_together([[1], [2, 3, 4], [5, 6]], answer)
    assert show(results) == [[2], [4, 6, 8], [10, 12]]
    assert [one["pair"].tolist() for one in results if isinstance(one, dict)][1][2] == [4, 0]
    assert answer.calls == [[1, 2, 3, 4, 5, 6]]


def test_a_request_that_could_not_be_read_keeps_its_error() -> None:
    answer = Doubler()
    results = answer_together([InputError("first"), [2], InputError("last")], answer)
    assert show(results) == ["first", [4], "last"]
    assert answer.calls == [[2]]
    answer = Doubler()
    assert show(answer_together([InputError("only")], answer)) == ["only"]
    assert answer.calls == []


def test_a_wrong_input_fails_its_own_request() -> None:
    answer = Doubler(refuses=(3,))
    results = answer_together([[1], [2, 3], [4]], answer)
    assert show(results) == [[2], "3 is refused", [8]]
    # Together, and then each alone.
    assert answer.calls == [[1, 2, 3, 4], [1], [2, 3], [4]]
    answer = Doubler(refuses=(3,))
    assert show(answer_together([[3]], answer)) == ["3 is refused"]
    assert answer.calls == [[3]]


def test_other_errors_are_raised() -> None:
    def fail(items: list[Any]) -> dict[str, np.ndarray]:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        answer_together([[1]], fail)


def test_an_engine_that_fails_fails_all() -> None:
    def fail(items: list[Any]) -> dict[str, np.ndarray]:
        raise DeviceError("gone")

    assert show(answer_together([[1], [2]], fail)) == ["gone", "gone"]


def column(*values: Any) -> np.ndarray:
    return np.array([[value] for value in values], object)


def test_inputs_of_heads() -> None:
    texts = column(b"a", "é🙂".encode(), b"")
    assert read_items("fill-mask", texts, None) == ["a", "é🙂", ""]
    assert read_items("text-classification", texts, column(b"x", b"", b"y")) == [
        ("a", "x"),
        ("é🙂", ""),
        ("", "y"),
    ]
    assert read_items("question-answering", column(b"who?"), column(b"me")) == [
        {"question": "who?", "context": "me"}
    ]
    choices = np.array([[b"a", b"b"], [b"c", b"d"]], object)
    assert read_items("multiple-choice", column(b"p", b"q"), choices) == [
        {"prompt": "p", "choices": ["a", "b"]},
        {"prompt": "q", "choices": ["c", "d"]},
    ]


def test_what_is_no_text() -> None:
    with pytest.raises(InputError, match=r"^element 1 of input text is not UTF-8$"):
        read_items("fill-mask", column(b"a", b"\xff"), None)
    with pytest.raises(InputError, match=r"^element 0 of input text_pair is not UTF-8$"):
        read_items("text-classification", column(b"a"), column(b"\xc3"))
    with pytest.raises(InputError, match=r"^the request has no text"):
        read_items("fill-mask", np.empty((0, 1), object), None)
    with pytest.raises(InputError, match=r"^the request has no text"):
        read_items("text-classification", None, column(b"a pair alone"))
