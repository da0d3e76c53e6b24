"""Sparse vectors: the tokens of the vocabulary that stand for a text, each with a weight."""

from dataclasses import dataclass

import numpy as np

__all__ = ["SparseVector", "to_sparse"]


@dataclass(frozen=True, eq=False)
class SparseVector:
    """A text's vector, of which only the entries above 0 are held, the largest first.

    Attributes:
        ids: token ids of the vocabulary, int32 [n]; of equal weights the smaller id is first.
        weights: their weights, float32 [n].
    """

    ids: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def to_sparse(row: np.ndarray, top_k: int | None = None) -> SparseVector:
    """Return the entries of a vector that are not 0.

    Args:
        row: float32 [V].
        top_k: keep so many of the largest; all when None.
    """
    ids = np.flatnonzero(row)
    weights = row[ids]
    # A stable sort, so that equal weights stay in the order of their ids.
    order = np.argsort(-weights, kind="stable")[:top_k]
    return SparseVector(ids[order].astype(np.int32), weights[order].astype(np.float32))
