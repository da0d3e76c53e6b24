"""A weight rounded row by row, each row's error made up for by the rows that are still to come.

This is GPTQ (Frantar et al. 2022, arXiv:2210.17323) in the form of LDLQ (Chee et al. 2023,
arXiv:2307.13304), which needs no inverse: where inputs go together one weight can stand in for
another, by as much as the covariance of the inputs says. GPTQ's damping is left out, because that
covariance is shrunk as the number of its rows asks for (see `observe.py`).
"""

import numpy as np

__all__ = ["round_rows"]

# Rows whose errors are passed on to all later ones at once, as one product of matrices.
_BLOCK = 64
# The largest weight, and the most that two neighbours of one sign are together.
_MOST, _PAIR = 127, 128
# The least variance of an input, as a share of the largest: one that never changes has none.
_TINY = 1e-12


def round_rows(
    steps: np.ndarray, covariance: np.ndarray, exact: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to whole numbers of -127 to 127.

    Args:
        steps: the weight in units of its columns' scales, [K, N].
        covariance: of the inputs, [K, K].
        exact: int64 [k], the rows that are not rounded, and make up for the others.

    Returns int8 [K, N], 0 in the exact rows, and those rows, float32 [k, N]. Of two neighbouring
    rows the weights of one sign are at most 128 together, so that no product saturates.
    """
    # What varies most is rounded first, while most of the others are left to make up for it.
    order = np.argsort(-np.diag(covariance), kind="stable")
    order = np.concatenate([order[~np.isin(order, exact)], exact])
    shares = _shares(covariance[np.ix_(order, order)])
    wanted = steps[order].astype(np.float32)
    errors = np.zeros_like(wanted)
    rounded = np.zeros((len(steps) + len(steps) % 2, steps.shape[1]), dtype=np.int8)
    count = len(order) - len(exact)
    for start in range(0, len(order), _BLOCK):
        end = min(start + _BLOCK, len(order))
        asked = wanted[start:end] + shares[:start, start:end].T @ errors[:start]
        for place in range(start, end):
            answer = asked[place - start] + shares[start:place, place] @ errors[start:place]
            if place < count:
                row = order[place]
                answer = rounded[row] = _nearest(answer, rounded[row ^ 1])
            errors[place] = wanted[place] - answer
    return rounded[: len(steps)], wanted[count:] - errors[count:]


def _shares(covariance: np.ndarray) -> np.ndarray:
    """How much of row j's error each later row k makes up for, [j, k]: U of C = U D Uᵀ."""
    matrix = covariance.astype(np.float64)
    variance = np.diag(matrix)
    np.fill_diagonal(matrix, np.maximum(variance, max(_TINY * variance.max(), _TINY)))
    upper = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
    shares: np.ndarray = (upper / np.diag(upper)).astype(np.float32)
    return shares


def _nearest(row: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """The nearest whole numbers that are small enough beside a neighbour's; 0 is not yet set."""
    least = np.maximum(-_PAIR - neighbour.clip(max=0).astype(int), -_MOST)
    most = np.minimum(_PAIR - neighbour.clip(min=0).astype(int), _MOST)
    whole: np.ndarray = np.clip(np.rint(row), least, most)
    return whole
