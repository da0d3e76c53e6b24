"""Start and end logits to the most likely spans: the arithmetic of question answering.

It is that of transformers 4.57's `select_starts_ends` and `decode_spans`, step by step and in
float32, so that the same spans come out.
"""

import numpy as np

from bertrt.heads.scores import softmax

__all__ = ["Span", "best_spans", "probabilities"]

# First token, last token, probability.
Span = tuple[int, int, float]

# What stands for the logit of a token that cannot be in an answer.
_NEVER = np.float32(-10000.0)


def probabilities(
    start: np.ndarray, end: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits to the probabilities that an answer starts and ends at each token.

    Args:
        start, end: float32 logits [S] of one window.
        allowed: bool [S]; [CLS] and the tokens that an answer may be made of.

    Returns the two float32 [S], 0 at [CLS], and the probability of no answer, which is what
    both models give to [CLS].
    """
    starts = softmax(np.where(allowed, start, _NEVER))
    ends = softmax(np.where(allowed, end, _NEVER))
    null = float(starts[0] * ends[0])
    starts[0] = ends[0] = 0.0
    return starts, ends, null


def best_spans(
    starts: np.ndarray, ends: np.ndarray, allowed: np.ndarray, count: int, longest: int
) -> list[Span]:
    """The `count` most likely spans, best first; fewer where one lies outside `allowed`.

    Args:
        starts, ends: probabilities, float32 [S].
        allowed: bool [S].
        count: how many to choose before those outside `allowed` are left out.
        longest: the most tokens in a span.
    """
    scores = np.outer(starts, ends)
    # A span that ends before it starts, or is too long, has no probability.
    scores = np.tril(np.triu(scores), longest - 1)
    flat = scores.ravel()
    if count == 1:
        order = np.array([flat.argmax()])
    elif flat.size <= count:
        order = np.argsort(-flat)
    else:
        chosen = np.argpartition(-flat, count)[:count]
        order = chosen[np.argsort(-flat[chosen])]
    return [
        (int(first), int(last), float(scores[first, last]))
        for first, last in zip(*np.unravel_index(order, scores.shape), strict=True)
        if allowed[first] and allowed[last]
    ]
