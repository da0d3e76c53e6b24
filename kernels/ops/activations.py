"""The activations of Linear, on float32 arrays."""

import math
from collections.abc import Callable

import numpy as np

from bertrt.kernels.ops.erf import erf

__all__ = ["ACTIVATIONS"]

# By the value of Linear's attribute `activation`. "gelu" is the exact form, with erf.
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
