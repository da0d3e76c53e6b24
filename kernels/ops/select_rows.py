"""SelectRows: select packed rows by index."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["select_rows"]


@operator(Stage.DEVICE, "selected")
def select_rows(x: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Return the picked rows of x.

    Args:
        x: [T, F].
        picked: int32 [R], indices into x.

    Returns [R, F], in x's dtype.
    """
    selected: np.ndarray = x[picked]
    return selected
