"""Linear: a matrix product, with bias and activation."""

import numpy as np

from bertrt.kernels.ops.activations import ACTIVATIONS
from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["linear"]


@operator(Stage.DEVICE, "y")
def linear(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    activation: str = "",
    transposed: int = 0,
) -> np.ndarray:
    """Compute activation(x · weight + bias), summed in float32 and rounded once.

    Args:
        x: [T, K].
        weight: [K, N]; or [N, K] if `transposed` is 1, as for a decoder tied to the embeddings.
        bias: [N]; zero if omitted.
        activation: a key of `ACTIVATIONS`.

    Returns [T, N], in x's dtype.
    """
    matrix = weight.T if transposed else weight
    y = x.astype(np.float32) @ matrix.astype(np.float32)
    if bias is not None:
        y = y + bias.astype(np.float32)
    return ACTIVATIONS[activation](y).astype(x.dtype)
