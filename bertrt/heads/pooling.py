"""Pool the hidden states of a text's tokens into one vector, and shorten and normalize it."""

from collections.abc import Mapping

import numpy as np

__all__ = ["POOLINGS", "finish_vector", "pool"]

POOLINGS = (
    "mean",
    "cls",
    "max",
    "pooler",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken",
)


def pool(sample: Mapping[str, np.ndarray], pooling: str, skip: int = 0) -> np.ndarray:
    """Pool the outputs of one text into a vector, float32 [H].

    Args:
        sample: `last_hidden_state` [S, H], without padding, and for "pooler" `pooler_output` [H].
        pooling: as in sentence-transformers, over all tokens, including [CLS] and [SEP]: "mean" and
            "max"; "cls" and "lasttoken" for the first and the last token's hidden state;
            "mean_sqrt_len_tokens" for the sum divided by the square root of the number of tokens;
            "weightedmean" for a mean in which the token at position i counts i times, from 1. And
            "pooler" for the output of the checkpoint's pooler, a dense layer with tanh on the first
            token.
        skip: the number of leading tokens that are not pooled, those of a prompt. Positions count
            from the text's first token all the same.
    """
    if pooling == "pooler":
        return sample["pooler_output"]
    hidden = sample["last_hidden_state"][skip:]
    if pooling == "cls":
        pooled: np.ndarray = hidden[0]
    elif pooling == "lasttoken":
        pooled = hidden[-1]
    elif pooling == "max":
        pooled = hidden.max(axis=0)
    elif pooling == "mean_sqrt_len_tokens":
        pooled = hidden.sum(axis=0) / np.float32(np.sqrt(len(hidden)))
    elif pooling == "weightedmean":
        weights = np.arange(skip + 1, skip + 1 + len(hidden), dtype=np.float32)
        pooled = weights @ hidden / weights.sum()
    else:
        pooled = hidden.mean(axis=0)
    return pooled


def finish_vector(
    vector: np.ndarray, *, normalize: bool = True, dimensions: int | None = None
) -> np.ndarray:
    """Keep the first `dimensions` entries, then scale to a Euclidean length of 1.

    Shortening comes first, so that a shortened embedding (Matryoshka) has length 1 too. A vector
    of zeros stays zero.

    Args:
        vector: float32 [H].
        normalize: whether to scale.
        dimensions: how many entries to keep; all when None.
    """
    vector = vector[:dimensions]
    if not normalize:
        return vector
    result: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return result
