"""PoolRows on the GPU: each program pools some columns of one sequence."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor

__all__ = ["pool_rows"]


@triton.jit
def _pool_rows_kernel(
    x_ptr: tl.tensor,  # [tokens, columns]
    offsets_ptr: tl.tensor,  # int32 [sequences + 1]
    y_ptr: tl.tensor,  # float32 [sequences, stride], the result
    columns: int,
    stride: int,
    POOLING: tl.constexpr,  # a name, as in bertrt.kernels.ops.pool_rows
    ROWS: tl.constexpr,  # the rows of one step
    BLOCK: tl.constexpr,  # the columns of one program
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask_column = column < columns
    begin = tl.load(offsets_ptr + sequence)
    end = tl.load(offsets_ptr + sequence + 1)
    if POOLING == "cls":
        end = tl.minimum(end, begin + 1)
    if POOLING == "lasttoken":
        begin = tl.maximum(begin, end - 1)
    neutral: tl.constexpr = float("-inf") if POOLING == "max" else 0.0
    pooled = tl.full((ROWS, BLOCK), neutral, tl.float32)
    for first in range(begin, end, ROWS):
        row = first + tl.arange(0, ROWS)
        index = row.to(tl.int64)[:, None] * columns + column[None, :]
        mask = (row < end)[:, None] & mask_column[None, :]
        values = tl.load(x_ptr + index, mask=mask, other=neutral).to(tl.float32)
        if POOLING == "max":
            pooled = tl.maximum(pooled, values)
        elif POOLING == "weightedmean":
            pooled += values * (row - begin + 1).to(tl.float32)[:, None]
        else:
            pooled += values
    # An empty sequence gives 0, not the neutral element or 0 / 0.
    count = tl.maximum(end - begin, 1).to(tl.float32)
    if POOLING == "max":
        result = tl.where(end > begin, tl.max(pooled, axis=0), 0.0)
    elif POOLING == "weightedmean":
        result = tl.sum(pooled, axis=0) / (count * (count + 1) / 2)
    elif POOLING == "mean_sqrt_len_tokens":
        result = tl.sum(pooled, axis=0) / tl.sqrt(count)
    else:
        result = tl.sum(pooled, axis=0) / count
    tl.store(y_ptr + sequence * stride + column, result, mask=mask_column)


def pool_rows(x: torch.Tensor, offsets: torch.Tensor, *, poolings: str) -> torch.Tensor:
    """Pool the rows of each sequence, in one way or several.

    Args:
        x: [T, F].
        offsets: int32 [B + 1], ascending, offsets[B] ≤ T.
        poolings: P names, separated by spaces, as in `bertrt.kernels.ops.pool_rows`.

    Returns float32 [B, P · F]; zeros for a sequence without rows.
    """
    names = poolings.split()
    sequences, columns = offsets.shape[0] - 1, x.shape[1]
    stride = len(names) * columns
    y = x.new_empty(sequences, stride, dtype=torch.float32)
    if y.numel() == 0:
        return y
    # Narrow blocks, because there are few sequences, and columns are independent.
    block = min(64, triton.next_power_of_2(columns))
    grid = (sequences, triton.cdiv(columns, block))
    for index, name in enumerate(names):
        part = y[:, index * columns :]
        _pool_rows_kernel[grid](
            x,
            offsets,
            part,
            columns,
            stride,
            POOLING=name,
            ROWS=32,
            BLOCK=block,
            num_warps=4,
            **launch_options(),
        )
    return y
