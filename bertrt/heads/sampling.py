"""From scores over the vocabulary to the next token: the adjustments, the cut-offs, and the draw.

Each function takes scores [B, V], float32 logits, and returns new ones; a score of -inf means
never. The functions are those of transformers' logits processors of like names, and belong in the
order in which they stand here.
"""

from collections.abc import Sequence

import numpy as np

from bertrt.heads.scores import softmax

__all__ = ["draw", "forbid", "keep_top_k", "keep_top_p", "penalize_repetition", "scale"]


def penalize_repetition(scores: np.ndarray, ids: np.ndarray, penalty: float) -> np.ndarray:
    """Make the tokens of `ids` [B, S] less likely for a penalty above 1, more likely below it."""
    result = scores.copy()
    seen = np.take_along_axis(scores, ids, axis=1)
    np.put_along_axis(result, ids, np.where(seen < 0, seen * penalty, seen / penalty), axis=1)
    return result


def forbid(scores: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """Rule out tokens; ids that are not in the vocabulary are passed over."""
    forbidden = np.isin(np.arange(scores.shape[1]), tokens)
    return np.where(forbidden, np.float32(-np.inf), scores)


def scale(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Divide by the temperature: below 1 favours the likely tokens, above 1 the unlikely ones."""
    result: np.ndarray = scores / temperature
    return result


def keep_top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Rule out all but the `k` best tokens; those that tie with the last of them stay too."""
    k = min(k, scores.shape[1])
    least = np.partition(scores, -k, axis=1)[:, -k, None]
    return np.where(scores < least, np.float32(-np.inf), scores)


def keep_top_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Rule out all but the fewest best tokens whose probabilities add up to `p`, at least one."""
    order = np.argsort(scores, axis=1, kind="stable")
    ascending = np.take_along_axis(scores, order, axis=1)
    # What is dropped sums to at most 1 - p: counted from the unlikely end, as transformers does,
    # so that rounding falls on the same side.
    dropped = np.cumsum(softmax(ascending), axis=1) <= 1 - p
    dropped[:, -1] = False
    ascending[dropped] = -np.inf
    result = np.empty_like(scores)
    np.put_along_axis(result, order, ascending, axis=1)
    return result


def draw(scores: np.ndarray, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Draw one token for each row, int64 [B], by the softmax of its scores.

    Each row has a generator of its own, so that what it draws does not depend on its neighbours.
    """
    cumulative = np.cumsum(softmax(scores.astype(np.float64)), axis=1)
    tokens = [
        # The sum is 1 but for rounding. The number drawn is above 0 and at most the sum, so that
        # no token of probability 0 is found.
        np.searchsorted(row, (1 - generator.random()) * row[-1])
        for row, generator in zip(cumulative, generators, strict=True)
    ]
    return np.array(tokens, dtype=np.int64)
