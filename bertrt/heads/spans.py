"""Find the most likely spans from start and end logits, for question answering.

Does the same as transformers 4.57's `select_starts_ends` and `decode_spans`, step by step and in
float32, so that the spans are the same.
"""

import numpy as np

from bertrt.heads.scores import softmax

__all__ = ["Span", "best_spans", "span_probabilities"]

# First token, last token, probability.
Span = tuple[int, int, float]

# Replaces the logits of tokens that cannot be in an answer.
_MASKED_LOGIT = np.float32(-10000.0)


def span_probabilities(
    start: np.ndarray, end: np.ndarray, allowed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the probabilities that an answer starts and ends at each token.

    Args:
        start, end: float32 logits [S] of one window.
        allowed: bool [S]; [CLS] and the tokens that an answer may consist of.

    Returns the start and end probabilities, float32 [S], set to 0 at [CLS], and the probability
    that there is no answer, which is the product of both at [CLS].
    """
    starts = softmax(np.where(allowed, start, _MASKED_LOGIT))
    ends = softmax(np.where(allowed, end, _MASKED_LOGIT))
    null_score = float(starts[0] * ends[0])
    starts[0] = ends[0] = 0.0
    return starts, ends, null_score


def best_spans(
    starts: np.ndarray, ends: np.ndarray, allowed: np.ndarray, count: int, max_length: int
) -> list[Span]:
    """Return the `count` most likely spans, best first, without those outside `allowed`.

    Args:
        starts, ends: probabilities, float32 [S].
        allowed: bool [S]; the tokens at which a span may start or end.
        count: how many spans to choose; those outside `allowed` are dropped afterwards.
        max_length: the maximum length of a span in tokens.
    """
    scores = np.outer(starts, ends)
    # Spans that end before they start, or are too long, get the probability 0.
    scores = np.tril(np.triu(scores), max_length - 1)
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
