"""One vector for a text: its tokens' hidden states pooled, cut to size and scaled to length 1."""

from collections.abc import Mapping

import numpy as np

__all__ = ["POOLINGS", "finish_vector", "pool"]

POOLINGS = ("mean", "cls", "max", "pooler")


def pool(row: Mapping[str, np.ndarray], pooling: str) -> np.ndarray:
    """Pool one text's outputs to a vector, float32 [H].

    Args:
        row: `last_hidden_state` [S, H], without padding, and for "pooler" `pooler_output` [H].
        pooling: "mean" or "max" over all tokens, [CLS] and [SEP] included as in
            sentence-transformers; "cls" for the first token; "pooler" for the checkpoint's own
            pooler, a dense layer with tanh over the first token.
    """
    if pooling == "pooler":
        return row["pooler_output"]
    hidden = row["last_hidden_state"]
    if pooling == "cls":
        first: np.ndarray = hidden[0]
        return first
    pooled: np.ndarray = hidden.max(axis=0) if pooling == "max" else hidden.mean(axis=0)
    return pooled


def finish_vector(
    vector: np.ndarray, *, normalize: bool = True, dimensions: int | None = None
) -> np.ndarray:
    """Keep the first `dimensions` entries, and then scale to a Euclidean length of 1 if asked.

    In this order, because a shortened embedding (Matryoshka) must have length 1 itself. A vector
    of zeros stays one.
    """
    vector = vector[:dimensions]
    if not normalize:
        return vector
    result: np.ndarray = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return result
