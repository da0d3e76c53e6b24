"""UnitRows: scale each row to Euclidean length 1."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["unit_rows"]

# The least length to divide by, as in bertrt.heads.pooling, so that zeros stay zeros.
_MIN_LENGTH = 1e-12


@operator(Stage.DEVICE, "unit")
def unit_rows(x: np.ndarray) -> np.ndarray:
    """Divide each row of x [R, F] by its Euclidean length; returns float32 [R, F]."""
    x = x.astype(np.float32)
    length = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
    unit: np.ndarray = x / np.maximum(length, np.float32(_MIN_LENGTH))
    return unit
