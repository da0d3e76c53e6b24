"""UnitRows on the GPU: a program scales one row."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import cost_model

__all__ = ["unit_rows"]


@triton.jit
def _unit_rows(
    x: tl.tensor, y: tl.tensor, columns: int, SHORTEST: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    values = tl.load(x + row * columns + column, mask=inside, other=0.0).to(tl.float32)
    length = tl.sqrt(tl.sum(values * values, axis=0))
    tl.store(y + row * columns + column, values / tl.maximum(length, SHORTEST), mask=inside)


def unit_rows(x: torch.Tensor) -> torch.Tensor:
    """Each row of x [R, F] over its length, of at least 1e-12; float32 [R, F]."""
    rows, columns = x.shape
    y = x.new_empty(rows, columns, dtype=torch.float32)
    if y.numel() > 0:
        _unit_rows[(rows,)](
            x,
            y,
            columns,
            SHORTEST=1e-12,
            BLOCK=triton.next_power_of_2(columns),
            num_warps=cost_model.row_warps(columns),
        )
    return y
