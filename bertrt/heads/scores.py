"""Softmax, which heads turn logits into probabilities with."""

import numpy as np

__all__ = ["softmax"]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in the dtype given; -inf is probability 0."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = exponents / exponents.sum(axis=-1, keepdims=True)
    return result
