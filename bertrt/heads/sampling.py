"""Sample the next token from scores over the vocabulary.

All functions but `sample` take scores [B, V], float32 logits, and return new ones; a token with a
score of -inf is never sampled. They do the same as transformers' logits processors, which apply in
the order in which the functions are defined here.
"""

from collections.abc import Sequence

import numpy as np

from bertrt.heads.scores import softmax

__all__ = [
    "apply_temperature",
    "keep_top_k",
    "keep_top_p",
    "penalize_repetition",
    "sample",
    "suppress_tokens",
]


def penalize_repetition(scores: np.ndarray, ids: np.ndarray, penalty: float) -> np.ndarray:
    """Make the tokens in `ids` [B, S] less likely with a penalty above 1, more likely below 1."""
    result = scores.copy()
    seen = np.take_along_axis(scores, ids, axis=1)
    np.put_along_axis(result, ids, np.where(seen < 0, seen * penalty, seen / penalty), axis=1)
    return result


def suppress_tokens(scores: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
    """Set the scores of tokens to -inf; ids outside the vocabulary are ignored."""
    suppressed = np.isin(np.arange(scores.shape[1]), tokens)
    return np.where(suppressed, np.float32(-np.inf), scores)


def apply_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Divide by the temperature: below 1 favours likely tokens, above 1 unlikely ones."""
    result: np.ndarray = scores / temperature
    return result


def keep_top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Keep the `k` most likely tokens, and those that tie with the last of them."""
    k = min(k, scores.shape[1])
    lowest = np.partition(scores, -k, axis=1)[:, -k, None]
    return np.where(scores < lowest, np.float32(-np.inf), scores)


def keep_top_p(scores: np.ndarray, p: float) -> np.ndarray:
    """Keep the fewest most likely tokens whose probabilities add up to `p`; at least one."""
    order = np.argsort(scores, axis=1, kind="stable")
    ascending = np.take_along_axis(scores, order, axis=1)
    # Drop tokens that sum to at most 1 - p, from the least likely one on, as transformers does:
    # then rounding has the same effect.
    dropped = np.cumsum(softmax(ascending), axis=1) <= 1 - p
    dropped[:, -1] = False
    ascending[dropped] = -np.inf
    result = np.empty_like(scores)
    np.put_along_axis(result, order, ascending, axis=1)
    return result


def sample(scores: np.ndarray, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """Sample one token for each sequence, int64 [B], from the softmax of its scores [B, V].

    Each sequence has its own generator, so that its token does not depend on the others.
    """
    cumulative = np.cumsum(softmax(scores.astype(np.float64)), axis=1)
    tokens = [
        # The total is 1 except for rounding. The random number is above 0 and at most the total,
        # so that a token with probability 0 is never sampled.
        np.searchsorted(row, (1 - generator.random()) * row[-1])
        for row, generator in zip(cumulative, generators, strict=True)
    ]
    return np.array(tokens, dtype=np.int64)
