"""Round a weight row by row, and let the later rows compensate for each row's error.

This is GPTQ (Frantar et al. 2022, arXiv:2210.17323) in the form of LDLQ (Chee et al. 2023,
arXiv:2307.13304), which needs no inverse: where inputs are correlated, one weight can compensate
for another, as much as the covariance of the inputs allows. GPTQ's damping is left out, because
that covariance is already shrunk according to the number of its rows (see `observe.py`).
"""

import numpy as np

__all__ = ["round_rows"]

# Rows whose errors are passed on to all later ones at once, as one matrix product.
_BLOCK = 64
# The largest weight, and the largest sum of two adjacent ones of the same sign.
_MOST, _PAIR = 127, 128
# The smallest variance of an input, relative to the largest: a constant input has none.
_TINY = 1e-12


def round_rows(
    steps: np.ndarray, covariance: np.ndarray, exact: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to integers from -127 to 127.

    Args:
        steps: the weight in units of its columns' scales, [K, N].
        covariance: of the inputs, [K, K].
        exact: int64 [k], the rows that are not rounded, and compensate for the others.

    Returns int8 [K, N], 0 in the exact rows, and those rows, float32 [k, N]. In two adjacent rows
    the weights of one sign sum to at most 128, so that no product saturates.
    """
    # Rows of the inputs that vary most come first, while most others are left to compensate.
    order = np.argsort(-np.diag(covariance), kind="stable")
    order = np.concatenate([order[~np.isin(order, exact)], exact])
    shares = _shares(covariance[np.ix_(order, order)])
    targets = steps[order].astype(np.float32)
    errors = np.zeros_like(targets)
    rounded = np.zeros((len(steps) + len(steps) % 2, steps.shape[1]), dtype=np.int8)
    count = len(order) - len(exact)
    for start in range(0, len(order), _BLOCK):
        end = min(start + _BLOCK, len(order))
        block = targets[start:end] + shares[:start, start:end].T @ errors[:start]
        for i in range(start, end):
            values = block[i - start] + shares[start:i, i] @ errors[start:i]
            if i < count:
                row = order[i]
                values = rounded[row] = _nearest(values, rounded[row ^ 1])
            errors[i] = targets[i] - values
    return rounded[: len(steps)], targets[count:] - errors[count:]


def _shares(covariance: np.ndarray) -> np.ndarray:
    """Return how much of row j's error each later row k takes on, [j, k]: U of C = U D Uᵀ."""
    matrix = covariance.astype(np.float64)
    variance = np.diag(matrix)
    np.fill_diagonal(matrix, np.maximum(variance, max(_TINY * variance.max(), _TINY)))
    upper = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
    shares: np.ndarray = (upper / np.diag(upper)).astype(np.float32)
    return shares


def _nearest(row: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """Round to the nearest integers that keep the sums with the adjacent row small enough.

    `neighbour` is 0 as long as that row is not rounded.
    """
    least = np.maximum(-_PAIR - neighbour.clip(max=0).astype(int), -_MOST)
    most = np.minimum(_PAIR - neighbour.clip(min=0).astype(int), _MOST)
    whole: np.ndarray = np.clip(np.rint(row), least, most)
    return whole
