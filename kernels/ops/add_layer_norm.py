"""AddLayerNorm: add a bias and a residual, then normalize each row."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["add_layer_norm", "layer_norm"]


@operator(Stage.DEVICE, "hidden")
def add_layer_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    *,
    epsilon: float = 1e-12,
) -> np.ndarray:
    """Compute LayerNorm(x + bias + residual), summed and normalized in float32.

    Args:
        x: [T, H].
        gamma, beta: [H].
        bias: [H]; zero if omitted.
        residual: [T, H]; zero if omitted.
        epsilon: added to the variance.

    Returns [T, H], in x's dtype.
    """
    total = x.astype(np.float32)
    for addend in (bias, residual):
        if addend is not None:
            total = total + addend.astype(np.float32)
    return layer_norm(total, gamma, beta, epsilon).astype(x.dtype)


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    """Scale x, float32 [T, H], to mean 0 and variance 1 along H, times gamma, plus beta."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt(variance + np.float32(epsilon))
    result: np.ndarray = scaled * gamma.astype(np.float32) + beta.astype(np.float32)
    return result
