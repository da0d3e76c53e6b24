"""The standard operators on results, for arrays of numpy and tensors alike: Split and Squeeze."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["ATTRIBUTES", "STANDARD_EXITS"]

# Their attributes and those of Cast, with defaults; None where a node has to give one.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": None},
    "Split": {"axis": 0, "num_outputs": 0},
    "Squeeze": {},
}


def split(
    x: Any, sizes: np.ndarray | None = None, *, axis: int, num_outputs: int
) -> tuple[Any, ...]:
    """Cut x along an axis in parts of the given sizes, or in `num_outputs` of one size; views.

    Of a length that `num_outputs` does not divide, the last part is the smaller one.
    """
    if sizes is None:
        part = -(-x.shape[axis] // num_outputs)
        ends = [part * (i + 1) for i in range(num_outputs)]
    else:
        ends = np.cumsum(sizes).tolist()
    before = (slice(None),) * (axis % x.ndim)
    return tuple(x[(*before, slice(begin, end))] for begin, end in pairwise([0, *ends]))


def squeeze(x: Any, axes: np.ndarray | None = None) -> Any:
    """Drop the axes named, each of length 1; every such axis when none is named."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


STANDARD_EXITS: dict[str, Callable[..., Any]] = {"Split": split, "Squeeze": squeeze}
