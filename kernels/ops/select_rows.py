"""SelectRows: some of the packed rows."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["select_rows"]


@operator(Place.DEVICE, "selected")
def select_rows(x: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Rows by index.

    Args:
        x: [T, F].
        picked: int32 [R], indices into x.

    Returns [R, F], of x's dtype.
    """
    selected: np.ndarray = x[picked]
    return selected
