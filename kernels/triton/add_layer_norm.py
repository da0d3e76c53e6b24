"""AddLayerNorm on the GPU: each program adds up and normalizes one row."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import cost_model
from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor
from bertrt.kernels.triton.layer_norm import layer_norm

__all__ = ["add_layer_norm"]


@triton.jit(do_not_specialize=["rows"])
def _add_layer_norm_kernel(
    x_ptr: tl.tensor,  # [PARTS, rows, columns]
    gamma_ptr: tl.tensor,  # [columns]
    beta_ptr: tl.tensor,  # [columns]
    bias_ptr: tl.tensor,  # [columns], or None
    residual_ptr: tl.tensor,  # [rows, columns], or None
    y_ptr: tl.tensor,  # [rows, columns], the result
    rows: int,
    columns: int,
    PARTS: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,  # a power of two, at least columns
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    total = tl.load(x_ptr + row * columns + column, mask=mask, other=0.0).to(tl.float32)
    # Always in this order, so that partial sums give the same result in every run.
    for part in tl.static_range(1, PARTS):
        start = (row + part * rows) * columns
        total += tl.load(x_ptr + start + column, mask=mask, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        total += tl.load(bias_ptr + column, mask=mask, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        start = row * columns
        total += tl.load(residual_ptr + start + column, mask=mask, other=0.0).to(tl.float32)
    result = layer_norm(total, gamma_ptr, beta_ptr, column, columns, EPSILON)
    tl.store(y_ptr + row * columns + column, result.to(y_ptr.dtype.element_ty), mask=mask)


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
    """Compute LayerNorm(x + bias + residual), summed and normalized in float32.

    Args:
        x: [T, H]; or float32 [P, T, H], the partial sums of `linear(..., partials=True)`.
        gamma, beta: [H].
        bias: [H]; zero if omitted.
        residual: [T, H]; zero if omitted.
        epsilon: added to the variance.
        warps: the warps for each row; chosen by H if omitted.

    Returns [T, H], in x's dtype. For partial sums the dtype is the residual's, or gamma's if there
    is no residual.
    """
    parts = x.shape[0] if x.dim() == 3 else 1
    rows, columns = x.shape[-2:]
    in_model_dtype = gamma if residual is None else residual
    y = x.new_empty(rows, columns, dtype=x.dtype if x.dim() == 2 else in_model_dtype.dtype)
    if rows > 0:
        _add_layer_norm_kernel[(rows,)](
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
            **launch_options(),
        )
    return y
