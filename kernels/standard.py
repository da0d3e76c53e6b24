"""The standard operators on results, in numpy: Split and Squeeze."""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["ATTRIBUTES", "ON_HOST"]

# Their attributes and those of Cast, with defaults; None where a node has to give one.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": None},
    "Split": {"axis": 0, "num_outputs": 0},
    "Squeeze": {},
}


def split(
    x: np.ndarray, sizes: np.ndarray | None = None, *, axis: int, num_outputs: int
) -> tuple[np.ndarray, ...]:
    """Cut x along an axis in parts of the given sizes, or in `num_outputs` of one size.

    Of a length that `num_outputs` does not divide, the last part is the smaller one.
    """
    if sizes is None:
        part = -(-x.shape[axis] // num_outputs)
        ends = part * np.arange(1, num_outputs)
    else:
        ends = np.cumsum(sizes)[:-1]
    return tuple(np.split(x, ends, axis=axis))


def squeeze(x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """Drop the axes named, each of length 1; every such axis when none is named."""
    return np.squeeze(x, axis=None if axes is None else tuple(axes.tolist()))


ON_HOST: dict[str, Callable[..., Any]] = {"Split": split, "Squeeze": squeeze}
