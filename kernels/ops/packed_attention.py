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
    *,
    num_heads: int,
    causal: int = 0,
) -> np.ndarray:
    """Compute softmax(Q · Kᵀ / √D + bias) · V per sequence and head; all but V in float32.

    Args:
        qkv: [T, 3·H], each token's query, key and value side by side, each with N heads of
            size D = H / N.
        offsets: int32 [B + 1], from Pack.
        bias: [N, 2·F + 1], by distance: column F + (j - i) for the j-th token as key and the i-th
            as query of a sequence, where distances beyond ±F count as that; zero if omitted.
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
        if bias is not None:
            scores = scores + bias.astype(np.float32)[:, _columns(end - begin, bias.shape[1])]
        if causal:
            scores = np.where(np.tri(end - begin, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        context[begin:end] = (weights @ value).transpose(1, 0, 2).reshape(-1, num_heads * size)
    return context.astype(qkv.dtype)


def _columns(length: int, columns: int) -> np.ndarray:
    """Return the column of the bias for each query and key, int64 [length, length]."""
    places, farthest = np.arange(length), columns // 2
    return np.clip(places - places[:, None], -farthest, farthest) + farthest
