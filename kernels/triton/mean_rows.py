"""MeanRows on the GPU: a program averages some columns of one sequence."""

import torch
import triton
import triton.language as tl

__all__ = ["mean_rows"]


@triton.jit
def _mean_rows(
    x: tl.tensor,
    offsets: tl.tensor,
    y: tl.tensor,
    columns: int,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    begin = tl.load(offsets + sequence)
    end = tl.load(offsets + sequence + 1)
    total = tl.zeros((ROWS, BLOCK), tl.float32)
    for first in range(begin, end, ROWS):
        row = first + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * columns + column[None, :]
        mask = (row < end)[:, None] & inside[None, :]
        total += tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    # No tokens: zero over one, not zero over zero.
    mean = tl.sum(total, axis=0) / tl.maximum(end - begin, 1)
    tl.store(y + sequence * columns + column, mean, mask=inside)


def mean_rows(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Means over each sequence's rows.

    Args:
        x: [T, F].
        offsets: int32 [B + 1], ascending, offsets[B] ≤ T.

    Returns float32 [B, F]; zeros for a sequence without tokens.
    """
    sequences, columns = offsets.shape[0] - 1, x.shape[1]
    y = x.new_empty(sequences, columns, dtype=torch.float32)
    if y.numel() > 0:
        # Narrow programs: there are few sequences, and each column is a sum of its own.
        block = min(64, triton.next_power_of_2(columns))
        grid = (sequences, triton.cdiv(columns, block))
        _mean_rows[grid](x, offsets, y, columns, ROWS=32, BLOCK=block, num_warps=4)
    return y
