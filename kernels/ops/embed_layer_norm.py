"""EmbedLayerNorm: look up and add the embeddings of packed tokens, then normalize them."""

import numpy as np

from bertrt.kernels.ops.add_layer_norm import layer_norm
from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["embed_layer_norm"]


@operator(Stage.DEVICE, "hidden")
def embed_layer_norm(
    ids: np.ndarray,
    types: np.ndarray,
    positions: np.ndarray,
    word_table: np.ndarray,
    type_table: np.ndarray,
    position_table: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    *,
    epsilon: float = 1e-12,
) -> np.ndarray:
    """Compute LayerNorm(word + type + position embedding) of each token, in float32.

    Args:
        ids, types, positions: int32 [T], from Pack.
        word_table, type_table, position_table: [V, H], [types, H] and [positions, H].
        gamma, beta: [H].
        epsilon: added to the variance.

    Returns [T, H], in the tables' dtype.
    """
    total = (
        word_table[ids].astype(np.float32)
        + type_table[types].astype(np.float32)
        + position_table[positions].astype(np.float32)
    )
    return layer_norm(total, gamma, beta, epsilon).astype(word_table.dtype)
