"""PickedOffsets: where each sequence begins among the rows that were picked."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["picked_offsets"]


@operator(Place.ENTRY, "offsets")
def picked_offsets(picked: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The offsets of the picked rows, for what is computed of them afterwards.

    Args:
        picked: int32 [R], indices among the T packed tokens, ascending, as from FirstRows.
        offsets: int32 [B + 1], as from Pack.

    Returns int32 [B + 1]; of the picked rows, sequence b has those from its entry to the next.
    """
    return np.searchsorted(picked, offsets).astype(np.int32)
