"""MaskedRows: find the mask tokens."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["masked_rows"]


@operator(Stage.ENTRY, "picked")
def masked_rows(ids: np.ndarray, only: np.ndarray, *, mask_id: int) -> np.ndarray:
    """Return the index of each mask token, or of every token.

    Args:
        ids: int32 [T], from Pack.
        only: bool []; False picks every token.
        mask_id: the mask token's id.

    Returns int32 [R], ascending indices into the T packed tokens; R may be 0.
    """
    picked = ids == mask_id if only else np.ones(len(ids), bool)
    return np.flatnonzero(picked).astype(np.int32)
