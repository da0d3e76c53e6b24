"""Pool the hidden states of a text's tokens into one vector, and shorten and normalize it."""

from collections.abc import Mapping

import numpy as np

__all__ = ["POOLINGS", "finish_vector", "pool"]

POOLINGS = ("mean", "cls", "max", "pooler")


def pool(sample: Mapping[str, np.ndarray], pooling: str) -> np.ndarray:
    """Pool the outputs of one text into a vector, float32 [H].

    Args:
        sample: `last_hidden_state` [S, H], without padding, and for "pooler" `pooler_output` [H].
        pooling: "mean" or "max" over all tokens, including [CLS] and [SEP] as in
            sentence-transformers; "cls" for the first token's hidden state; "pooler" for the
            output of the checkpoint's pooler, a dense layer with tanh on the first token.
    """
    if pooling == "pooler":
        return sample["pooler_output"]
    hidden = sample["last_hidden_state"]
    if pooling == "cls":
        first: np.ndarray = hidden[0]
        return first
    pooled: np.ndarray = hidden.max(axis=0) if pooling == "max" else hidden.mean(axis=0)
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
