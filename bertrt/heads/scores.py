"""Functions that turn logits into scores, and pick the best of them."""

import numpy as np

__all__ = ["sigmoid", "softmax", "top_k"]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in the dtype of `logits`; -inf gets probability 0."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = exponents / exponents.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the logistic function, in the dtype of `logits`; large logits do not overflow."""
    result: np.ndarray = np.exp(-np.logaddexp(0, -logits))
    return result


def top_k(scores: np.ndarray, k: int | None = None) -> np.ndarray:
    """Return the indices of the `k` highest scores, best first, int64 [min(k, n)].

    Args:
        scores: float [n]. Equal scores keep their order.
        k: how many indices to return; all when None.
    """
    if k is not None and k < scores.size:
        # Sorting a whole vocabulary takes longer than a small model's forward pass.
        lowest = np.partition(scores, scores.size - k)[scores.size - k]
        # Not `>=`, which would drop every score if one is NaN.
        candidates = np.flatnonzero(~(scores < lowest))
    else:
        candidates = np.arange(scores.size)
    best: np.ndarray = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    return best
