"""PackedAttention: self-attention on packed tokens, from the packed QKV projection."""

import itertools

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["packed_attention"]


@operator(Stage.DEVICE, "context")
def packed_attention(
    qkv: np.ndarray,
    offsets: np.ndarray,
    bias: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    *,
    num_heads: int,
    causal: int = 0,
) -> np.ndarray:
    """Compute softmax(Q · Kᵀ / √D + bias) · V per sequence and head; all but V in float32.

    Args:
        qkv: [T, 3·H], each token's query, key and value side by side, each with N heads of
            size D = H / N.
        offsets: int32 [B + 1], from Pack.
        bias: [N, 2·F + 1], what is added to a score by the distance d of the key's place from the
            query's: column F + d, where distances beyond ±F count as that. Zero if omitted.
        rows: int32 [T], from Pack: the tokens' places in the padded batch. With a bias only.
        num_heads: N.
        causal: 1 if a token attends only to itself and to earlier tokens.

    Returns [T, H], in qkv's dtype.
    """
    tokens, width = qkv.shape
    size = width // 3 // num_heads
    context = np.zeros((tokens, width // 3), np.float32)
    for begin, end in itertools.pairwise(offsets):
        heads = qkv[begin:end].astype(np.float32).reshape(-1, 3, num_heads, size)
        query, key, value = heads.transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(size))
        if bias is not None and rows is not None:
            scores = scores + _by_distance(bias, rows[begin:end])
        if causal:
            scores = np.where(np.tri(end - begin, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        context[begin:end] = (weights @ value).transpose(1, 0, 2).reshape(-1, num_heads * size)
    return context.astype(qkv.dtype)


def _by_distance(bias: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the bias of each head, query and key at places [S], float32 [N, S, S]."""
    farthest = bias.shape[1] // 2
    distances = np.clip(places - places[:, None], -farthest, farthest)
    by_distance: np.ndarray = bias.astype(np.float32)[:, farthest + distances]
    return by_distance
