"""Similarities of vectors, by sentence-transformers' names; larger is more similar."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bertrt.errors import InputError

__all__ = ["SIMILARITIES", "similarity"]


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _dot(_unit(a), _unit(b))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = a @ b.T
    return result


def _euclidean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _negative_distances(a, b, 2)


def _manhattan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _negative_distances(a, b, 1)


SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}


def similarity(a: Any, b: Any, name: str) -> np.ndarray:
    """Return the similarity of each vector in `a` to each in `b`, float32 [n, m].

    Args:
        a, b: vectors, float [n, H] and [m, H], or single ones [H].
        name: "cosine", "dot", or the negative "euclidean" or "manhattan" distance.

    Raises InputError for arrays that are no vectors of one size.
    """
    first, second = (np.atleast_2d(np.asarray(array, np.float32)) for array in (a, b))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InputError(
            f"the vectors have shapes {list(np.shape(a))} and {list(np.shape(b))}: give [n, H] and "
            "[m, H]"
        )
    return SIMILARITIES[name](first, second)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return result


def _negative_distances(a: np.ndarray, b: np.ndarray, order: int) -> np.ndarray:
    # Row by row: all differences at once would take n * m * H numbers.
    rows = [-np.linalg.norm(b - row, ord=order, axis=1) for row in a]
    return np.stack(rows) if rows else np.empty((0, len(b)), np.float32)
