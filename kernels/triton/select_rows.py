"""SelectRows on the GPU: each program copies a part of one row."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor

__all__ = ["select_rows"]

_MAX_BLOCK = 1024


@triton.jit
def _select_rows_kernel(
    x_ptr: tl.tensor,  # [tokens, columns]
    picked_ptr: tl.tensor,  # int32 [rows]
    y_ptr: tl.tensor,  # [rows, columns], the result
    columns: int,
    BLOCK: tl.constexpr,  # the columns of one program
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < columns
    source_ptr = x_ptr + tl.load(picked_ptr + row).to(tl.int64) * columns
    tl.store(y_ptr + row * columns + column, tl.load(source_ptr + column, mask=mask), mask=mask)


def select_rows(x: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
    """Return the picked rows of x.

    Args:
        x: [T, F], with T at least 1 if R is.
        picked: int32 [R], valid indices into x; this is not checked.

    Returns [R, F], in x's dtype.
    """
    rows, columns = picked.shape[0], x.shape[1]
    y = x.new_empty(rows, columns)
    if y.numel() > 0:
        block = min(_MAX_BLOCK, triton.next_power_of_2(columns))
        grid = (rows, triton.cdiv(columns, block))
        warps = max(1, block // 256)
        _select_rows_kernel[grid](
            x, picked, y, columns, BLOCK=block, num_warps=warps, **launch_options()
        )
    return y
