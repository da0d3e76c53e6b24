"""The answers to many inputs that were one request, and what they took."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Answered"]


@dataclass(frozen=True)
class Answered:
    """The answers to a list of inputs, from `DynamicBatcher.submit_many` and `amany`.

    The three times add up to the time from admission to the answer.

    Attributes:
        answers: what the runtime answers to the list: a list, or for embed and score an array
            [n, …].
        tokens: the tokens of all inputs, after cutting, special tokens included. Each window, label
            or choice that an input is run with counts.
        truncated: how many inputs were cut to fit the model.
        tokenization: seconds spent encoding the inputs.
        queue: seconds spent waiting, to be encoded and then for the first batch to begin.
        inference: seconds from then until the last batch ended. Other requests may have had their
            turn in between.
    """

    answers: Any
    tokens: int
    truncated: int
    tokenization: float
    queue: float
    inference: float
