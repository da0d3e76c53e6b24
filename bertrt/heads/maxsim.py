"""MaxSim: how well the tokens of a document answer those of a query (late interaction, ColBERT).

For each vector of a query the best dot product with a vector of the document counts, and these are
added up. As in sentence-transformers 6, "meanmaxsim" divides the sum by the number of the query's
vectors, and a document without vectors ranks below every other.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertrt.errors import InputError

__all__ = ["MAXSIMS", "maxsim"]

# The names of the two sums in sentence-transformers.
MAXSIMS = ("maxsim", "meanmaxsim")

# sentence-transformers' score of a document without vectors.
_EMPTY = -1e9
# The most vectors of a block of queries and of one of documents: their products take 16 MB.
_QUERY_VECTORS, _DOCUMENT_VECTORS = 512, 8192


def maxsim(queries: Any, documents: Any, *, mean: bool = False) -> np.ndarray:
    """Return the MaxSim of each query with each document, float32 [n, m].

    Blocks of queries and documents are compared at a time, so that the memory that this takes does
    not grow with their number.

    Args:
        queries: the vectors of texts, a list of n arrays, float [tokens, D]; or a single array.
        documents: as `queries`, m of them with the same D.
        mean: divide each score by the number of the query's vectors.

    Raises InputError for anything else.
    """
    first, second = _read("queries", queries), _read("documents", documents)
    sizes = sorted({array.shape[1] for array in (*first, *second)})
    if len(sizes) > 1:
        raise InputError(
            f"the vectors have sizes {', '.join(map(str, sizes))}: give queries and documents of "
            "one model"
        )
    scores = np.zeros((len(first), len(second)), dtype=np.float32)
    scores[:, [len(document) == 0 for document in second]] = _EMPTY
    for columns in _blocks(second, _DOCUMENT_VECTORS):
        of_documents, document_starts = _join(second, columns)
        for rows in _blocks(first, _QUERY_VECTORS):
            of_queries, query_starts = _join(first, rows)
            products = of_documents @ of_queries.T
            best = np.maximum.reduceat(products, document_starts, axis=0)
            sums = np.add.reduceat(best, query_starts, axis=1)
            scores[np.ix_(rows, columns)] = sums.T
    if mean:
        scores /= np.array([[max(len(query), 1)] for query in first], np.float32).reshape(-1, 1)
    return scores


def _read(name: str, value: Any) -> list[np.ndarray]:
    """Return the vectors of texts, float32 [tokens, D] each. Raises InputError for others."""
    given = value if isinstance(value, (list, tuple)) else [value]
    arrays = [np.asarray(one) for one in given]
    if len(arrays) == 1 and arrays[0].ndim == 3:
        arrays = list(arrays[0])
    for array in arrays:
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise InputError(
                f"{name} has an array of shape {list(array.shape)} and dtype {array.dtype}: give a "
                "list of arrays [tokens, D], as embed_tokens returns them"
            )
    return [array.astype(np.float32, copy=False) for array in arrays]


def _blocks(arrays: Sequence[np.ndarray], most: int) -> Iterator[list[int]]:
    """Yield the indices of arrays with at most so many rows together, or of a single array.

    Arrays without rows are left out.
    """
    block: list[int] = []
    rows = 0
    for index, array in enumerate(arrays):
        if len(array) == 0:
            continue
        if block and rows + len(array) > most:
            yield block
            block, rows = [], 0
        block.append(index)
        rows += len(array)
    if block:
        yield block


def _join(arrays: Sequence[np.ndarray], block: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a block's arrays one below the other, and where each array starts."""
    chosen = [arrays[index] for index in block]
    return np.concatenate(chosen), np.cumsum([0, *map(len, chosen[:-1])])
