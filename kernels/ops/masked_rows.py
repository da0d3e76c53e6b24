"""MaskedRows: which packed tokens are mask tokens."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["masked_rows"]


@operator(Place.ENTRY, "picked")
def masked_rows(ids: np.ndarray, only: np.ndarray, *, mask_id: int) -> np.ndarray:
    """The mask tokens, or every token.

    Args:
        ids: int32 [T], as from Pack.
        only: bool []; where it is False every token is picked.
        mask_id: the mask token's id.

    Returns int32 [R], indices among the T packed tokens, ascending; R may be 0.
    """
    picked = ids == mask_id if only else np.ones(len(ids), bool)
    return np.flatnonzero(picked).astype(np.int32)
