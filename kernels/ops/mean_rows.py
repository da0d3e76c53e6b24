"""MeanRows: average the rows of each sequence."""

import itertools

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["mean_rows"]


@operator(Stage.DEVICE, "mean")
def mean_rows(x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Average the rows of each sequence.

    Args:
        x: [T, F].
        offsets: int32 [B + 1], from Pack.

    Returns float32 [B, F]; zeros for a sequence without tokens.
    """
    mean = np.zeros((len(offsets) - 1, x.shape[1]), np.float32)
    for b, (begin, end) in enumerate(itertools.pairwise(offsets)):
        if end > begin:
            mean[b] = x[begin:end].astype(np.float32).mean(axis=0)
    return mean
