"""Whether an answer can be compared and written as JSON, which a NaN cannot."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

__all__ = ["is_finite"]


def is_finite(answer: Any) -> bool:
    """Return whether all numbers of an answer of the runtime are finite, however it is nested."""
    if isinstance(answer, np.ndarray):
        return bool(np.isfinite(answer).all())
    if is_dataclass(answer):  # a sparse vector
        return all(is_finite(getattr(answer, field.name)) for field in fields(answer))
    if isinstance(answer, Mapping):
        return all(map(is_finite, answer.values()))
    if isinstance(answer, (list, tuple)):
        return all(map(is_finite, answer))
    return not isinstance(answer, float) or math.isfinite(answer)
