"""PickedOffsets: find where each sequence begins among the picked rows."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["picked_offsets"]


@operator(Stage.ENTRY, "offsets")
def picked_offsets(picked: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the offsets of the picked rows, for operators that run on those rows.

    Args:
        picked: int32 [R], ascending indices into the T packed tokens, from FirstRows.
        offsets: int32 [B + 1], from Pack.

    Returns int32 [B + 1]; sequence b has the picked rows from entry b to entry b + 1.
    """
    return np.searchsorted(picked, offsets).astype(np.int32)
