"""PackedAttention on the GPU: each program computes a block of queries of one sequence and head.

It is FlashAttention-2's online softmax (Dao, arXiv:2307.08691), on the packed QKV projection. The
number of programs follows from sizes that the host knows; programs without queries end at once.
"""

import math

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import measured_table
from bertrt.kernels.launch.configs import AttentionTiles
from bertrt.kernels.triton.block_map import BlockMaps, map_blocks
from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor
from bertrt.kernels.triton.hardware import get_gpu

__all__ = ["packed_attention"]

_LOG2_E = tl.constexpr(math.log2(math.e))


@triton.jit(do_not_specialize=["blocks"])
def _packed_attention_kernel(
    qkv_ptr: tl.tensor,  # [tokens, 3 * HEADS * HEAD_SIZE]: query, key and value of all heads
    offsets_ptr: tl.tensor,  # int32 [sequences + 1]
    bias_ptr: tl.tensor,  # [HEADS, 2 * FARTHEST + 1], added to scores by distance; None without
    rows_ptr: tl.tensor,  # int32 [tokens], the tokens' places; None without a bias
    map_ptr: tl.tensor,  # int32, each block's sequence; None if each sequence has `blocks` blocks
    context_ptr: tl.tensor,  # [tokens, HEADS * HEAD_SIZE], the result
    blocks: int,
    HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    SCALE: tl.constexpr,  # log2(e) / √HEAD_SIZE
    CAUSAL: tl.constexpr,
    FARTHEST: tl.constexpr,  # the largest distance in the bias
    ONE_STEP: tl.constexpr,  # no sequence has more than BLOCK_N tokens
    BLOCK_M: tl.constexpr,  # queries of a program
    BLOCK_N: tl.constexpr,  # keys of a step
    BLOCK_D: tl.constexpr,  # a power of two, at least HEAD_SIZE
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    head = tl.program_id(0) % HEADS
    block = tl.program_id(0) // HEADS
    if map_ptr is not None:
        sequence = tl.load(map_ptr + block)
        begin = tl.load(offsets_ptr + sequence)
        first = (block - (begin // BLOCK_M + sequence)) * BLOCK_M
    else:
        sequence = block // blocks
        begin = tl.load(offsets_ptr + sequence)
        first = block % blocks * BLOCK_M
    length = tl.load(offsets_ptr + sequence + 1) - begin
    if first >= length:
        return

    HIDDEN: tl.constexpr = HEADS * HEAD_SIZE
    ROW: tl.constexpr = 3 * HIDDEN
    # A sequence's address needs 64 bits; inside a sequence 32-bit offsets are enough.
    query_ptr = qkv_ptr + begin.to(tl.int64) * ROW + head * HEAD_SIZE
    row = first + tl.arange(0, BLOCK_M)
    dim = tl.arange(0, BLOCK_D)
    mask = (row < length)[:, None] & (dim < HEAD_SIZE)[None, :]
    q = tl.load(query_ptr + row[:, None] * ROW + dim[None, :], mask=mask, other=0.0)

    if bias_ptr is not None:
        bias_ptr += head * (2 * FARTHEST + 1) + FARTHEST
        rows_ptr += begin

    # Per query: the largest score so far, the sum of the weights, and the weighted sum of values.
    row_max = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    row_sum = tl.zeros((BLOCK_M,), tl.float32)
    total = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    if ONE_STEP:
        p, v, row_max = _softmax_weights(
            query_ptr, bias_ptr, rows_ptr, q, row, 0, length, row_max,
            HIDDEN, HEAD_SIZE, SCALE, CAUSAL, FARTHEST, True, BLOCK_N,
        )  # fmt: skip
        row_sum = tl.sum(p, axis=1)
        total = tl.dot(p.to(v.dtype), v, input_precision="ieee")
    else:
        # Keys before `unmasked_end` are visible to all queries of the block, and keys from
        # `visible_end` on to none: only the steps between them need a mask.
        unmasked_end = (tl.minimum(first + 1, length) if CAUSAL else length) // BLOCK_N * BLOCK_N
        visible_end = tl.minimum(first + BLOCK_M, length) if CAUSAL else length
        for at in range(0, unmasked_end, BLOCK_N):
            p, v, new_max = _softmax_weights(
                query_ptr, bias_ptr, rows_ptr, q, row, at, length, row_max,
                HIDDEN, HEAD_SIZE, SCALE, CAUSAL, FARTHEST, False, BLOCK_N,
            )  # fmt: skip
            row_max, row_sum, total = _accumulate(p, v, row_max, new_max, row_sum, total, SCALE)
        for at in range(unmasked_end, visible_end, BLOCK_N):
            p, v, new_max = _softmax_weights(
                query_ptr, bias_ptr, rows_ptr, q, row, at, length, row_max,
                HIDDEN, HEAD_SIZE, SCALE, CAUSAL, FARTHEST, True, BLOCK_N,
            )  # fmt: skip
            row_max, row_sum, total = _accumulate(p, v, row_max, new_max, row_sum, total, SCALE)

    out_ptr = context_ptr + begin.to(tl.int64) * HIDDEN + head * HEAD_SIZE
    result = (total / row_sum[:, None]).to(context_ptr.dtype.element_ty)
    tl.store(out_ptr + row[:, None] * HIDDEN + dim[None, :], result, mask=mask)


@triton.jit
def _softmax_weights(  # type: ignore[no-untyped-def]
    query_ptr: tl.tensor,  # the sequence's first query of this head
    bias_ptr: tl.tensor,  # this head's bias of distance 0; None without
    rows_ptr: tl.tensor,  # the place of the sequence's first token; None without a bias
    q: tl.tensor,  # [BLOCK_M, BLOCK_D]
    row: tl.tensor,  # int32 [BLOCK_M], the queries' positions
    at: tl.tensor,  # the first key's position
    length: tl.tensor,  # the sequence's number of tokens
    row_max: tl.tensor,  # float32 [BLOCK_M], each query's largest score so far
    HIDDEN: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    SCALE: tl.constexpr,
    CAUSAL: tl.constexpr,
    FARTHEST: tl.constexpr,
    MASKED: tl.constexpr,  # some of the keys may not exist or not be visible
    BLOCK_N: tl.constexpr,
):
    """Load BLOCK_N keys and values, and compute the keys' unnormalized weights.

    Returns the weights relative to the new largest scores, float32 [BLOCK_M, BLOCK_N]; the values,
    [BLOCK_N, BLOCK_D]; and the new largest scores, float32 [BLOCK_M].
    """
    column = at + tl.arange(0, BLOCK_N)
    dim = tl.arange(0, q.shape[1])
    key_ptr = query_ptr + HIDDEN + column[:, None] * (3 * HIDDEN) + dim[None, :]
    if MASKED:
        mask = (column < length)[:, None] & (dim < HEAD_SIZE)[None, :]
        k = tl.load(key_ptr, mask=mask, other=0.0)
        v = tl.load(key_ptr + HIDDEN, mask=mask, other=0.0)
    elif q.shape[1] == HEAD_SIZE:
        k = tl.load(key_ptr)
        v = tl.load(key_ptr + HIDDEN)
    else:
        k = tl.load(key_ptr, mask=(dim < HEAD_SIZE)[None, :], other=0.0)
        v = tl.load(key_ptr + HIDDEN, mask=(dim < HEAD_SIZE)[None, :], other=0.0)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    if bias_ptr is not None:
        # The sum is scaled below by log2(e) / √HEAD_SIZE, of which the bias must only get log2(e).
        bias = _load_bias(bias_ptr, rows_ptr, row, column, length, FARTHEST)
        scores += bias * (_LOG2_E / SCALE)
    if MASKED:
        visible = (column < length)[None, :]
        if CAUSAL:
            visible = visible & (column[None, :] <= row[:, None])
        scores = tl.where(visible, scores, float("-inf"))
    # Every query sees the first key, so new_max is finite. Subtract before scaling: a fused
    # score * SCALE - (new_max * SCALE) could be positive by rounding, and its power infinite.
    new_max = tl.maximum(row_max, tl.max(scores, axis=1))
    return tl.math.exp2((scores - new_max[:, None]) * SCALE), v, new_max


@triton.jit
def _load_bias(  # type: ignore[no-untyped-def]
    bias_ptr: tl.tensor,  # this head's bias of distance 0
    rows_ptr: tl.tensor,  # the place of the sequence's first token
    row: tl.tensor,  # int32 [BLOCK_M], the queries
    column: tl.tensor,  # int32 [BLOCK_N], the keys
    length: tl.tensor,  # the sequence's number of tokens
    FARTHEST: tl.constexpr,
):
    """Load the bias of each query and key, float32 [BLOCK_M, BLOCK_N]."""
    query = tl.load(rows_ptr + row, mask=row < length, other=0)
    key = tl.load(rows_ptr + column, mask=column < length, other=0)
    distance = tl.minimum(tl.maximum(key[None, :] - query[:, None], -FARTHEST), FARTHEST)
    return tl.load(bias_ptr + distance).to(tl.float32)


@triton.jit
def _accumulate(  # type: ignore[no-untyped-def]
    p: tl.tensor,  # float32 [BLOCK_M, BLOCK_N], weights relative to new_max
    v: tl.tensor,  # [BLOCK_N, BLOCK_D]
    row_max: tl.tensor,  # float32 [BLOCK_M], which row_sum and total are relative to
    new_max: tl.tensor,  # float32 [BLOCK_M]
    row_sum: tl.tensor,  # float32 [BLOCK_M]
    total: tl.tensor,  # float32 [BLOCK_M, BLOCK_D]
    SCALE: tl.constexpr,
):
    """Rescale the sums to the new largest scores and add the step; returns all three."""
    factor = tl.math.exp2((row_max - new_max) * SCALE)
    row_sum = row_sum * factor + tl.sum(p, axis=1)
    total = tl.dot(p.to(v.dtype), v, total * factor[:, None], input_precision="ieee")
    return new_max, row_sum, total


def packed_attention(
    qkv: torch.Tensor,
    offsets: torch.Tensor,
    bias: torch.Tensor | None = None,
    rows: torch.Tensor | None = None,
    *,
    num_heads: int,
    causal: int = 0,
    max_length: int | None = None,
    tiles: AttentionTiles | None = None,
    block_maps: BlockMaps | None = None,
) -> torch.Tensor:
    """Compute softmax(Q · Kᵀ / √D + bias) · V per sequence and head; all but V in float32.

    Args:
        qkv: [T, 3·H], each token's query, key and value side by side.
        offsets: int32 [B + 1], ascending from 0, offsets[B] ≤ T. Rows from offsets[B] on are not
            read.
        bias: [N, 2·F + 1], what is added to a score by the distance d of the key's place from the
            query's: column F + d, where distances beyond ±F count as that. Zero if omitted.
        rows: int32 [T], the tokens' places in the padded batch. With a bias only.
        num_heads: N.
        causal: 1 if a token attends only to itself and to earlier tokens.
        max_length: no sequence has more tokens; T if omitted. A tight bound saves programs
            without queries, and steps for short sequences.
        tiles: block sizes in place of the launch table's.
        block_maps: shared by all calls with the same offsets in a run: the first call that needs
            a map of blocks to sequences makes it, and the others read it.

    Returns [T, H], in qkv's dtype; rows from offsets[B] on are not written.
    """
    tokens, width = qkv.shape
    sequences = offsets.shape[0] - 1
    head_size = width // 3 // num_heads
    context = qkv.new_empty(tokens, width // 3)
    if tokens == 0 or sequences == 0:
        return context
    max_length = tokens if max_length is None else max(1, min(max_length, tokens))
    if tiles is None:
        tiles = measured_table.choose_attention(
            get_gpu(qkv.device),
            tokens,
            sequences,
            num_heads,
            head_size,
            max_length,
            qkv.element_size(),
        )
    # Either every sequence gets the blocks of the longest one, or, if that is more than all blocks
    # that can exist, there are that many, and a map says which sequence each belongs to.
    blocks = triton.cdiv(max_length, tiles.block_m)
    count, most = sequences * blocks, tokens // tiles.block_m + sequences
    block_map = None
    if count > most:
        count = most
        block_map = map_blocks(
            offsets, tiles.block_m, count, {} if block_maps is None else block_maps
        )
    _packed_attention_kernel[(count * num_heads,)](
        qkv,
        offsets,
        bias,
        rows,
        block_map,
        context,
        blocks,
        HEADS=num_heads,
        HEAD_SIZE=head_size,
        SCALE=math.log2(math.e) / math.sqrt(head_size),
        CAUSAL=bool(causal),
        FARTHEST=0 if bias is None else bias.shape[1] // 2,
        ONE_STEP=max_length <= tiles.block_n,
        BLOCK_M=tiles.block_m,
        BLOCK_N=tiles.block_n,
        BLOCK_D=max(16, triton.next_power_of_2(head_size)),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **launch_options(),
    )
    return context
