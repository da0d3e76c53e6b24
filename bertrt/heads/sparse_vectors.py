"""Sparse vectors: the tokens of the vocabulary that stand for a text, each with a weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.errors import InputError
from bertrt.heads.similarity import similarity

__all__ = ["SparseVector", "is_sparse", "sparse_similarity", "to_sparse"]


@dataclass(frozen=True, eq=False)
class SparseVector:
    """A text's vector, of which only the entries that are not 0 are held, the largest first.

    Attributes:
        ids: token ids of the vocabulary, int32 [n]; of equal weights the smaller id is first.
        weights: their weights, float32 [n].
    """

    ids: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def to_sparse(row: np.ndarray, top_k: int | None = None) -> SparseVector:
    """Return the entries of a vector that are not 0; the result is no view of it.

    Args:
        row: float32 [V].
        top_k: keep so many that are the farthest from 0; all when None.
    """
    ids = np.flatnonzero(row)
    if top_k is not None and top_k < len(ids):
        # A stable sort, so that equal weights stay in the order of their ids; also below.
        ids = np.sort(ids[np.argsort(-np.abs(row[ids]), kind="stable")[:top_k]])
    ids = ids[np.argsort(-row[ids], kind="stable")]
    return SparseVector(ids.astype(np.int32), row[ids].astype(np.float32))


def is_sparse(vectors: Any) -> bool:
    """Whether a value is a sparse vector, or a list of them."""
    if isinstance(vectors, (list, tuple)):
        return any(isinstance(vector, SparseVector) for vector in vectors)
    return isinstance(vectors, SparseVector)


def sparse_similarity(a: Any, b: Any, name: str) -> np.ndarray:
    """Return the similarity of each sparse vector in `a` to each in `b`, float32 [n, m].

    Args:
        a, b: lists of sparse vectors, or single ones.
        name: as for `bertrt.heads.similarity.similarity`.

    Raises InputError for anything else than sparse vectors.
    """
    first, second = _as_list(a), _as_list(b)
    # Tokens that no vector has change no similarity. Few are left of a vocabulary of thousands.
    none = np.empty(0, np.int32)
    ids = np.unique(np.concatenate([none, *(vector.ids for vector in (*first, *second))]))
    return similarity(_dense(first, ids), _dense(second, ids), name)


def _as_list(vectors: Any) -> Sequence[SparseVector]:
    found = [vectors] if isinstance(vectors, SparseVector) else vectors
    if not isinstance(found, (list, tuple)) or not all(
        isinstance(vector, SparseVector) for vector in found
    ):
        raise InputError(
            f"sparse vectors are compared with {type(vectors).__name__}: give SparseVectors, as "
            "embed_sparse returns them, or lists of them"
        )
    return found


def _dense(vectors: Sequence[SparseVector], ids: np.ndarray) -> np.ndarray:
    """Return the weights of some tokens, float32 [n, ids]; `ids` are sorted and have all."""
    rows = np.zeros((len(vectors), len(ids)), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[np.searchsorted(ids, vector.ids)] = vector.weights
    return rows
