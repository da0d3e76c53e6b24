"""Compare a client's answer with the runtime's."""

from collections.abc import Sequence
from typing import Any

import pytest

__all__ = ["best_first", "same"]

# Batches of other sizes and lengths add in another order: a few units in float32's last place, of
# values around 1. Two texts, or two rows, differ a thousand times more.
TOLERANCE = 1e-5


def same(answer: Any, expected: Any) -> None:
    """Check that an answer is what was expected, with numbers within TOLERANCE."""
    if isinstance(expected, dict):
        assert answer.keys() == expected.keys()
        for name, value in expected.items():
            same(answer[name], value)
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for got, value in zip(answer, expected, strict=True):
            same(got, value)
    elif isinstance(expected, float):
        assert float(answer) == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    else:
        assert answer == expected


def best_first(scores: Sequence[float], things: Sequence[Any] | None = None) -> list[list[Any]]:
    """Return `[thing, score]` for each score, best first; a thing is its index without others."""
    pairs = zip(range(len(scores)) if things is None else things, scores, strict=True)
    return sorted(map(list, pairs), key=lambda pair: -pair[1])
