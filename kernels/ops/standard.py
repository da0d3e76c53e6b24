"""The standard ONNX operators that a graph may have: Cast, Split and Squeeze.

Split and Squeeze work on numpy arrays and on tensors alike.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["cast", "split", "squeeze"]


@operator(Stage.DEVICE, "output")
def cast(x: np.ndarray, *, to: int) -> np.ndarray:
    """Cast x to float32: `to` is always `onnx.TensorProto.FLOAT`."""
    return x.astype(np.float32)


@operator(Stage.EXIT, "outputs")
def split(
    x: Any, sizes: np.ndarray | None = None, *, axis: int = 0, num_outputs: int = 0
) -> tuple[Any, ...]:
    """Split x along an axis into parts of the given sizes, or into `num_outputs` equal parts.

    If `num_outputs` does not divide the length, the last part is smaller. Returns views.
    """
    if sizes is None:
        size = -(-x.shape[axis] // num_outputs)
        ends = [size * (i + 1) for i in range(num_outputs)]
    else:
        ends = np.cumsum(sizes).tolist()
    before = (slice(None),) * (axis % x.ndim)
    return tuple(x[(*before, slice(begin, end))] for begin, end in pairwise([0, *ends]))


@operator(Stage.EXIT, "squeezed")
def squeeze(x: Any, axes: np.ndarray | None = None) -> Any:
    """Remove the given axes, each of length 1; without `axes`, all axes of length 1."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))
