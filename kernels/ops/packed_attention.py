"""PackedAttention: self-attention over packed tokens, straight from the packed QKV projection."""

import itertools

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["packed_attention"]


@operator(Place.DEVICE, "context")
def packed_attention(
    qkv: np.ndarray, offsets: np.ndarray, *, num_heads: int, causal: int = 0
) -> np.ndarray:
    """softmax(Q · Kᵀ / √D) · V of each sequence and head, with scores and softmax in float32.

    Args:
        qkv: [T, 3·H], each token's query, key and value beside each other, each of N heads of
            size D = H / N.
        offsets: int32 [B + 1], as from Pack.
        num_heads: N.
        causal: 1 where a token sees itself and those before it only.

    Returns [T, H], of qkv's dtype.
    """
    tokens, width = qkv.shape
    size = width // 3 // num_heads
    context = np.zeros((tokens, width // 3), np.float32)
    for begin, end in itertools.pairwise(offsets):
        heads = qkv[begin:end].astype(np.float32).reshape(-1, 3, num_heads, size)
        query, key, value = heads.transpose(1, 2, 0, 3)
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(size))
        if causal:
            scores = np.where(np.tri(end - begin, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        context[begin:end] = (weights @ value).transpose(1, 0, 2).reshape(-1, num_heads * size)
    return context.astype(qkv.dtype)
