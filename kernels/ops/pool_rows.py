"""PoolRows: pool the rows of each sequence into one."""

import itertools
from collections.abc import Callable

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["POOLINGS", "pool_rows"]


def _weighted_mean(rows: np.ndarray) -> np.ndarray:
    weights = np.arange(1, len(rows) + 1, dtype=np.float32)
    return np.asarray(weights @ rows / weights.sum())


# By name, as in bertrt.heads.pooling: float32 [rows, F] → [F].
POOLINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cls": lambda rows: rows[0],
    "lasttoken": lambda rows: rows[-1],
    "max": lambda rows: rows.max(axis=0),
    "mean": lambda rows: rows.mean(axis=0),
    "mean_sqrt_len_tokens": lambda rows: rows.sum(axis=0) / np.sqrt(np.float32(len(rows))),
    "weightedmean": _weighted_mean,
}


@operator(Stage.DEVICE, "pooled")
def pool_rows(x: np.ndarray, offsets: np.ndarray, *, poolings: str) -> np.ndarray:
    """Pool the rows of each sequence, in one way or several.

    Args:
        x: [T, F].
        offsets: int32 [B + 1], from Pack.
        poolings: P keys of `POOLINGS`, separated by spaces.

    Returns float32 [B, P · F], one pooling after the other; zeros for a sequence without rows.
    """
    names, columns = poolings.split(), x.shape[1]
    pooled = np.zeros((len(offsets) - 1, len(names) * columns), np.float32)
    for b, (begin, end) in enumerate(itertools.pairwise(offsets)):
        if end > begin:
            rows = x[begin:end].astype(np.float32)
            pooled[b] = np.concatenate([POOLINGS[name](rows) for name in names])
    return pooled
