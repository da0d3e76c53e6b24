"""PackedAttention on the GPU: a program computes a block of one sequence's queries for one head.

FlashAttention-2's online softmax (Dao, arXiv:2307.08691), straight from the packed projection.
The number of programs follows from sizes that the host knows; those without queries end at once.
"""

import math

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import measured_table
from bertrt.kernels.launch.configs import AttentionTiles
from bertrt.kernels.triton.hardware import gpu_of

__all__ = ["packed_attention"]


@triton.jit(do_not_specialize=["sequences", "blocks"])
def _packed_attention(
    qkv: tl.tensor,
    offsets: tl.tensor,
    context: tl.tensor,
    sequences: int,
    blocks: int,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    CAUSAL: tl.constexpr,
    SEARCH: tl.constexpr,
    ONE_STEP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    head = tl.program_id(0) % HEADS
    tile = tl.program_id(0) // HEADS
    if SEARCH:
        sequence, block = _find(offsets, sequences, tile, BLOCK_M)
    else:
        sequence, block = tile // blocks, tile % blocks
    begin = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - begin
    first = block * BLOCK_M
    if first >= length:
        return

    WIDTH: tl.constexpr = HEADS * SIZE
    ROW: tl.constexpr = 3 * WIDTH
    # The place of a sequence needs 64 bits; inside one 32 are enough.
    query = qkv + begin.to(tl.int64) * ROW + head * SIZE
    row = first + tl.arange(0, BLOCK_M)
    dim = tl.arange(0, BLOCK_D)
    inside = (row < length)[:, None] & (dim < SIZE)[None, :]
    q = tl.load(query + row[:, None] * ROW + dim[None, :], mask=inside, other=0.0)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    mass = tl.zeros((BLOCK_M,), tl.float32)
    total = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    if ONE_STEP:
        p, v, top = _weigh(query, q, row, 0, length, top, WIDTH, SIZE, SCALE, CAUSAL, True, BLOCK_N)
        mass = tl.sum(p, axis=1)
        total = tl.dot(p.to(v.dtype), v, input_precision="ieee")
    else:
        # All of the block's queries see the keys before `whole`, none those from `seen` on.
        whole = (tl.minimum(first + 1, length) if CAUSAL else length) // BLOCK_N * BLOCK_N
        seen = tl.minimum(first + BLOCK_M, length) if CAUSAL else length
        for at in range(0, whole, BLOCK_N):
            p, v, now = _weigh(
                query, q, row, at, length, top, WIDTH, SIZE, SCALE, CAUSAL, False, BLOCK_N
            )
            top, mass, total = _add(p, v, top, now, mass, total, SCALE)
        for at in range(whole, seen, BLOCK_N):
            p, v, now = _weigh(
                query, q, row, at, length, top, WIDTH, SIZE, SCALE, CAUSAL, True, BLOCK_N
            )
            top, mass, total = _add(p, v, top, now, mass, total, SCALE)

    to = context + begin.to(tl.int64) * WIDTH + head * SIZE
    result = (total / mass[:, None]).to(context.dtype.element_ty)
    tl.store(to + row[:, None] * WIDTH + dim[None, :], result, mask=inside)


@triton.jit
def _find(  # type: ignore[no-untyped-def]
    offsets: tl.tensor, sequences: tl.tensor, tile: tl.tensor, BLOCK_M: tl.constexpr
):
    """The sequence that a tile is of, and which of its blocks.

    Sequence b has the tiles from offsets[b] // BLOCK_M + b on: at least as many as its blocks
    before the next sequence's begin, and at most one too many.
    """
    AT_ONCE: tl.constexpr = 256
    begun = 0
    for at in range(0, sequences, AT_ONCE):
        b = at + tl.arange(0, AT_ONCE)
        start = tl.load(offsets + b, mask=b < sequences, other=0) // BLOCK_M + b
        begun += tl.sum(((start <= tile) & (b < sequences)).to(tl.int32), axis=0)
    sequence = begun - 1
    return sequence, tile - (tl.load(offsets + sequence) // BLOCK_M + sequence)


@triton.jit
def _weigh(  # type: ignore[no-untyped-def]
    query: tl.tensor,
    q: tl.tensor,
    row: tl.tensor,
    at: tl.tensor,
    length: tl.tensor,
    top: tl.tensor,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The weights of BLOCK_N keys from `at` on, before their division, and the values.

    SCALE is what scores are multiplied by for powers of two. Returns float32 [BLOCK_M, BLOCK_N],
    relative to the third result, each query's largest score up to now; and [BLOCK_N, BLOCK_D].
    """
    column = at + tl.arange(0, BLOCK_N)
    dim = tl.arange(0, q.shape[1])
    key = query + WIDTH + column[:, None] * (3 * WIDTH) + dim[None, :]
    if MASKED:
        inside = (column < length)[:, None] & (dim < SIZE)[None, :]
        k = tl.load(key, mask=inside, other=0.0)
        v = tl.load(key + WIDTH, mask=inside, other=0.0)
    elif q.shape[1] == SIZE:
        k = tl.load(key)
        v = tl.load(key + WIDTH)
    else:
        k = tl.load(key, mask=(dim < SIZE)[None, :], other=0.0)
        v = tl.load(key + WIDTH, mask=(dim < SIZE)[None, :], other=0.0)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    if MASKED:
        visible = (column < length)[None, :]
        if CAUSAL:
            visible = visible & (column[None, :] <= row[:, None])
        scores = tl.where(visible, scores, float("-inf"))
    # The first key is visible to all, so `now` is finite. Subtract, then scale: a fused product
    # less the rounded product of the largest can be positive, and its power infinite.
    now = tl.maximum(top, tl.max(scores, axis=1))
    return tl.math.exp2((scores - now[:, None]) * SCALE), v, now


@triton.jit
def _add(  # type: ignore[no-untyped-def]
    p: tl.tensor,
    v: tl.tensor,
    top: tl.tensor,
    now: tl.tensor,
    mass: tl.tensor,
    total: tl.tensor,
    SCALE: tl.constexpr,
):
    """Sums that were relative to the score `top`, made relative to `now`, and p's added."""
    factor = tl.math.exp2((top - now) * SCALE)
    mass = mass * factor + tl.sum(p, axis=1)
    total = tl.dot(p.to(v.dtype), v, total * factor[:, None], input_precision="ieee")
    return now, mass, total


def packed_attention(
    qkv: torch.Tensor,
    offsets: torch.Tensor,
    *,
    num_heads: int,
    causal: int = 0,
    longest: int | None = None,
    tiles: AttentionTiles | None = None,
) -> torch.Tensor:
    """softmax(Q · Kᵀ / √D) · V of each sequence and head, with scores and softmax in float32.

    Args:
        qkv: [T, 3·H], each token's query, key and value beside each other.
        offsets: int32 [B + 1], ascending from 0, offsets[B] ≤ T. Rows from there on are not read.
        num_heads: N.
        causal: 1 where a token sees itself and those before it only.
        longest: no sequence has more tokens than this; T when left out. Fewer programs start
            empty with it, and fewer steps are taken for short sequences.
        tiles: block sizes in place of the launch table's.

    Returns [T, H], of qkv's dtype; rows from offsets[B] on are not written.
    """
    tokens, width = qkv.shape
    sequences = offsets.shape[0] - 1
    size = width // 3 // num_heads
    context = qkv.new_empty(tokens, width // 3)
    if tokens == 0 or sequences == 0:
        return context
    longest = tokens if longest is None else max(1, min(longest, tokens))
    if tiles is None:
        gpu = gpu_of(qkv.device)
        tiles = measured_table.attention(gpu, tokens, num_heads, size, longest, qkv.element_size())
    # A block for each that the longest sequence may have, in every sequence; or, where that is
    # more, as many as there can be in all, which have to search for their sequence.
    blocks = triton.cdiv(longest, tiles.block_m)
    at_most = tokens // tiles.block_m + sequences
    search = sequences * blocks > at_most
    _packed_attention[((at_most if search else sequences * blocks) * num_heads,)](
        qkv,
        offsets,
        context,
        sequences,
        blocks,
        HEADS=num_heads,
        SIZE=size,
        SCALE=math.log2(math.e) / math.sqrt(size),
        CAUSAL=bool(causal),
        SEARCH=search,
        ONE_STEP=longest <= tiles.block_n,
        BLOCK_M=tiles.block_m,
        BLOCK_N=tiles.block_n,
        BLOCK_D=max(16, triton.next_power_of_2(size)),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return context
