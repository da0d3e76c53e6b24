"""Linear: a matrix product with what follows it, the bias and the activation."""

import math
from collections.abc import Callable

import numpy as np

from bertrt.kernels.ops.erf import erf
from bertrt.kernels.ops.operator import Place, operator

__all__ = ["ACTIVATIONS", "linear"]

# All of float32 arrays. "gelu" is the exact one, by the error function.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda x: x,
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: (
        x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    ),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * 0.5 * (1 + np.tanh(x * 0.5)),
    "tanh": np.tanh,
}


@operator(Place.DEVICE, "y")
def linear(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    activation: str = "",
    transposed: int = 0,
) -> np.ndarray:
    """activation(x · weight + bias), summed in float32 and rounded once.

    Args:
        x: [T, K].
        weight: [K, N]; [N, K] when transposed is 1, as a vocabulary is whose embeddings are tied.
        bias: [N]; zero when left out.
        activation: one of `ACTIVATIONS`.

    Returns [T, N], of x's dtype.
    """
    matrix = weight.T if transposed else weight
    y = x.astype(np.float32) @ matrix.astype(np.float32)
    if bias is not None:
        y = y + bias.astype(np.float32)
    return ACTIVATIONS[activation](y).astype(x.dtype)
