"""FirstRows: find the first token of each sequence."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["first_rows"]


@operator(Stage.ENTRY, "picked")
def first_rows(offsets: np.ndarray, rows: np.ndarray, only: np.ndarray | None = None) -> np.ndarray:
    """Return the index of each sequence's first token, or of every token.

    Args:
        offsets: int32 [B + 1], from Pack.
        rows: int32 [T], from Pack.
        only: bool []; False picks every token. True if omitted.

    Returns int32 [R], indices into the T packed tokens. A sequence without tokens gets the index
    of the next sequence's first token, or T - 1 at the end: a valid index, but a meaningless
    result.
    """
    if only is not None and not only:
        return np.arange(len(rows), dtype=np.int32)
    first: np.ndarray = np.minimum(offsets[:-1], max(len(rows) - 1, 0))
    return first.astype(np.int32)
