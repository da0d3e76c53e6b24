"""Whether an answer can be compared and written as JSON, which a NaN cannot."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bertrt.heads.sparse_vectors import SparseVector

__all__ = ["is_finite"]


def is_finite(answer: Any) -> bool:
    """Return whether all numbers of an answer of the runtime are finite, however it is nested."""
    if isinstance(answer, np.ndarray):
        return bool(np.isfinite(answer).all())
    if isinstance(answer, SparseVector):
        return is_finite(answer.weights)
    if isinstance(answer, Mapping):
        return all(map(is_finite, answer.values()))
    if isinstance(answer, (list, tuple)):
        return all(map(is_finite, answer))
    return not isinstance(answer, float) or math.isfinite(answer)
