"""SelectRows on the GPU: a program copies a part of one row."""

import torch
import triton
import triton.language as tl

__all__ = ["select_rows"]

_MOST = 1024


@triton.jit
def _select_rows(
    x: tl.tensor, picked: tl.tensor, y: tl.tensor, columns: int, BLOCK: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    begin = tl.load(picked + row).to(tl.int64) * columns
    tl.store(y + row * columns + column, tl.load(x + begin + column, mask=inside), mask=inside)


def select_rows(x: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
    """Rows by index.

    Args:
        x: [T, F], T at least 1 where R is.
        picked: int32 [R], indices into x: nothing checks that here.

    Returns [R, F], of x's dtype.
    """
    rows, columns = picked.shape[0], x.shape[1]
    y = x.new_empty(rows, columns)
    if y.numel() > 0:
        block = min(_MOST, triton.next_power_of_2(columns))
        grid = (rows, triton.cdiv(columns, block))
        _select_rows[grid](x, picked, y, columns, BLOCK=block, num_warps=max(1, block // 256))
    return y
