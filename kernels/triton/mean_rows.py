"""MeanRows on the GPU: each program averages some columns of one sequence."""

import torch
import triton
import triton.language as tl

__all__ = ["mean_rows"]


@triton.jit
def _mean_rows_kernel(
    x_ptr: tl.tensor,  # [tokens, columns]
    offsets_ptr: tl.tensor,  # int32 [sequences + 1]
    y_ptr: tl.tensor,  # float32 [sequences, columns], the result
    columns: int,
    ROWS: tl.constexpr,  # the rows of one step
    BLOCK: tl.constexpr,  # the columns of one program
) -> None:
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask_column = column < columns
    begin = tl.load(offsets_ptr + sequence)
    end = tl.load(offsets_ptr + sequence + 1)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(begin, end, ROWS):
        row = first + tl.arange(0, ROWS)
        index = row.to(tl.int64)[:, None] * columns + column[None, :]
        mask = (row < end)[:, None] & mask_column[None, :]
        total += tl.load(x_ptr + index, mask=mask, other=0.0).to(tl.float32)
    # An empty sequence gives 0 / 1.
    mean = tl.sum(total, axis=0) / tl.maximum(end - begin, 1)
    tl.store(y_ptr + sequence * columns + column, mean, mask=mask_column)


def mean_rows(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Average the rows of each sequence.

    Args:
        x: [T, F].
        offsets: int32 [B + 1], ascending, offsets[B] ≤ T.

    Returns float32 [B, F]; zeros for a sequence without tokens.
    """
    sequences, columns = offsets.shape[0] - 1, x.shape[1]
    y = x.new_empty(sequences, columns, dtype=torch.float32)
    if y.numel() > 0:
        # Narrow blocks, because there are few sequences, and columns are independent.
        block = min(64, triton.next_power_of_2(columns))
        grid = (sequences, triton.cdiv(columns, block))
        _mean_rows_kernel[grid](x, offsets, y, columns, ROWS=32, BLOCK=block, num_warps=4)
    return y
