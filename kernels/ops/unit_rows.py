"""UnitRows: rows scaled to a Euclidean length of 1."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["unit_rows"]

# What a row's length is taken for at least, as in bertrt.heads.pooling: zeros stay zeros.
SHORTEST = 1e-12


@operator(Place.DEVICE, "unit")
def unit_rows(x: np.ndarray) -> np.ndarray:
    """Each row of x [R, F] over its length; float32 [R, F]."""
    x = x.astype(np.float32)
    length = np.sqrt(np.square(x).sum(axis=-1, keepdims=True))
    unit: np.ndarray = x / np.maximum(length, np.float32(SHORTEST))
    return unit
