"""FirstRows: which packed tokens are the first of their sequences."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["first_rows"]


@operator(Place.ENTRY, "picked")
def first_rows(offsets: np.ndarray, rows: np.ndarray, only: np.ndarray | None = None) -> np.ndarray:
    """The first token of each sequence, or every token.

    Args:
        offsets, rows: as from Pack.
        only: bool []; where it is False every token is picked. True when left out.

    Returns int32 [R], indices among the T packed tokens. A sequence without tokens has the index
    of the next one's first, or T - 1 if there is none: its answer means nothing, and does no harm.
    """
    if only is not None and not only:
        return np.arange(len(rows), dtype=np.int32)
    first: np.ndarray = np.minimum(offsets[:-1], max(len(rows) - 1, 0))
    return first.astype(np.int32)
