"""AddLayerNorm on the GPU: a program sums and normalizes one row."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import cost_model
from bertrt.kernels.triton.layer_norm import layer_norm

__all__ = ["add_layer_norm"]


@triton.jit(do_not_specialize=["rows"])
def _add_layer_norm(
    x: tl.tensor,
    gamma: tl.tensor,
    beta: tl.tensor,
    bias: tl.tensor,
    residual: tl.tensor,
    y: tl.tensor,
    rows: int,
    columns: int,
    PARTS: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    total = tl.load(x + row * columns + column, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        # Always in this order: partial sums give the same answer in every run.
        begin = (row + part * rows) * columns
        total += tl.load(x + begin + column, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        total += tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    if residual is not None:
        begin = row * columns
        total += tl.load(residual + begin + column, mask=inside, other=0.0).to(tl.float32)
    result = layer_norm(total, gamma, beta, column, columns, EPSILON)
    tl.store(y + row * columns + column, result.to(y.dtype.element_ty), mask=inside)


def add_layer_norm(
    x: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    warps: int | None = None,
) -> torch.Tensor:
    """LayerNorm(x + bias + residual), summed and normalized in float32.

    Args:
        x: [T, H]; or float32 [P, T, H], partial sums as from `linear(..., partials=True)`.
        gamma, beta: [H].
        bias: [H]; zero when left out.
        residual: [T, H]; zero when left out.
        epsilon: added to the variance.
        warps: for each row; reasoned from H when left out.

    Returns [T, H], of x's dtype; for partial sums of the residual's, or without one of gamma's.
    """
    parts = x.shape[0] if x.dim() == 3 else 1
    rows, columns = x.shape[-2:]
    whole = gamma if residual is None else residual
    y = x.new_empty(rows, columns, dtype=x.dtype if x.dim() == 2 else whole.dtype)
    if rows > 0:
        _add_layer_norm[(rows,)](
            x,
            gamma,
            beta,
            bias,
            residual,
            y,
            rows,
            columns,
            PARTS=parts,
            EPSILON=epsilon,
            BLOCK=triton.next_power_of_2(columns),
            num_warps=warps or cost_model.row_warps(columns),
        )
    return y
