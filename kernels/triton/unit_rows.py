"""UnitRows on the GPU: each program scales one row."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import cost_model
from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor

__all__ = ["unit_rows"]

# The least length to divide by, as in `bertrt.kernels.ops.unit_rows`.
_MIN_LENGTH = 1e-12


@triton.jit
def _unit_rows_kernel(
    x_ptr: tl.tensor,  # [rows, columns]
    y_ptr: tl.tensor,  # float32 [rows, columns], the result
    columns: int,
    MIN_LENGTH: tl.constexpr,
    BLOCK: tl.constexpr,  # a power of two, at least columns
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    values = tl.load(x_ptr + row * columns + column, mask=mask, other=0.0).to(tl.float32)
    length = tl.sqrt(tl.sum(values * values, axis=0))
    tl.store(y_ptr + row * columns + column, values / tl.maximum(length, MIN_LENGTH), mask=mask)


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    """Divide each row of x [R, F] by its Euclidean length, at least 1e-12; float32 [R, F]."""
    rows, columns = x.shape
    y = x.new_empty(rows, columns, dtype=torch.float32)
    if y.numel() > 0:
        _unit_rows_kernel[(rows,)](
            x,
            y,
            columns,
            MIN_LENGTH=_MIN_LENGTH,
            BLOCK=triton.next_power_of_2(columns),
            num_warps=cost_model.row_warps(columns),
            **launch_options(),
        )
    return y
