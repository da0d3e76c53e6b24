"""Answer the texts of several requests by one call, and give each request its part."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from bertrt.errors import BertrtError, InputError
from bertrt.text_tensors import TEXT, TEXT_PAIR, pair_up

__all__ = ["Arrays", "answer_together", "read_items"]

# Outputs by name, each with a row for each text.
Arrays: TypeAlias = dict[str, np.ndarray]


def read_items(task: str, text: np.ndarray | None, pair: np.ndarray | None) -> list[Any]:
    """Return the inputs of a request as the task's head takes them.

    Args:
        task: the head's task.
        text: UTF-8 bytes [n, 1], as objects; None for none, since Triton counts a request's inputs
            and lets an optional one take the place of this one.
        pair: UTF-8 bytes [n, 1], or [n, choices]; None for none.

    Raises InputError for no text, and for bytes that are no UTF-8.
    """
    if text is None or not text.size:
        raise InputError("the request has no text: give one at least")
    texts = _decode(TEXT, text)
    return pair_up(task, texts, None if pair is None else _decode(TEXT_PAIR, pair))


def answer_together(
    requests: Sequence[list[Any] | BertrtError], answer: Callable[[list[Any]], Arrays]
) -> list[Arrays | BertrtError]:
    """Return the arrays or the error of each request.

    Args:
        requests: the inputs of each, or the error of one that could not be read.
        answer: answers a list of inputs.

    An input that cannot be answered fails its own request: the requests are answered one by one
    then.
    """
    readable = [request for request in requests if not isinstance(request, BertrtError)]
    results = iter(_answer_all(readable, answer))
    return [request if isinstance(request, BertrtError) else next(results) for request in requests]


def _answer_all(
    requests: Sequence[list[Any]], answer: Callable[[list[Any]], Arrays]
) -> list[Arrays | BertrtError]:
    if not requests:
        return []
    try:
        arrays = answer([item for request in requests for item in request])
    except BertrtError as error:
        if len(requests) == 1:
            return [error]
        return [result for request in requests for result in _answer_all([request], answer)]
    ends = np.cumsum([len(request) for request in requests])
    return [
        {name: array[end - len(request) : end] for name, array in arrays.items()}
        for request, end in zip(requests, ends, strict=True)
    ]


def _decode(name: str, values: np.ndarray) -> list[str]:
    texts = []
    for value in values.reshape(-1):
        try:
            texts.append(value.decode("utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"element {len(texts)} of input {name} is not UTF-8") from None
    return texts
