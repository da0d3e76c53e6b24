"""Linear on the GPU: a matrix product by Triton, with bias and activation in it, or by cuBLAS.

The launch table chooses between them (`bertrt.kernels.launch.measured_table`).
Triton's is the textbook tiled product; see triton-lang.org, tutorial "Matrix Multiplication".
"""

from typing import Literal

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import measured_table
from bertrt.kernels.launch.configs import How, LinearTiles
from bertrt.kernels.triton.activations import activate
from bertrt.kernels.triton.cublas import product
from bertrt.kernels.triton.hardware import gpu_of

__all__ = ["linear", "splits"]

# Tiles go down this many rows of tiles before they go across, so that what programs at the same
# time read of x and of the weight stays in the cache.
_GROUP = 8


@triton.jit(do_not_specialize=["rows", "parts"])
def _linear(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    rows: int,
    depth: int,
    columns: int,
    parts: int,
    ACTIVATION: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN_K: tl.constexpr,
    EVEN_N: tl.constexpr,
) -> None:
    tile = tl.program_id(0)
    part = tl.program_id(1)
    across = tl.cdiv(columns, BLOCK_N)
    top = tile // (GROUP * across) * GROUP
    height = tl.minimum(tl.cdiv(rows, BLOCK_M) - top, GROUP)
    inside = tile % (GROUP * across)
    first_m = (top + inside % height) * BLOCK_M
    first_n = inside // height * BLOCK_N
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    in_m = (m < rows - first_m)[:, None]
    in_n = (n < columns - first_n)[None, :]

    # This part's share of the depth, in whole steps.
    span = tl.cdiv(tl.cdiv(depth, BLOCK_K), parts) * BLOCK_K
    begin = part * span
    end = tl.minimum(begin + span, depth)
    # The place of a tile needs 64 bits, and moves; inside one 32 are enough, and stay in registers.
    from_x = x + first_m.to(tl.int64) * depth + begin
    in_x = m[:, None] * depth + k[None, :]
    if TRANSPOSED:
        from_w = weight + first_n.to(tl.int64) * depth + begin
        in_w = n[None, :] * depth + k[:, None]
        step = BLOCK_K
    else:
        from_w = weight + begin.to(tl.int64) * columns + first_n
        in_w = k[:, None] * columns + n[None, :]
        step = BLOCK_K * columns
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for at in range(begin, end, BLOCK_K):
        if EVEN_K:
            a = tl.load(from_x + in_x, mask=in_m, other=0.0)
            b = tl.load(from_w + in_w) if EVEN_N else tl.load(from_w + in_w, mask=in_n, other=0.0)
        else:
            in_k = k < depth - at
            a = tl.load(from_x + in_x, mask=in_m & in_k[None, :], other=0.0)
            b = tl.load(from_w + in_w, mask=in_n & in_k[:, None], other=0.0)
        # float32 in full, not in the tensor cores' 19 bits.
        total = tl.dot(a, b, total, input_precision="ieee")
        from_x += BLOCK_K
        from_w += step

    if bias is not None:
        # One part adds the bias.
        in_bias = (n < columns - first_n) & (part == 0)
        addend = tl.load(bias + first_n + n, mask=in_bias, other=0.0)
        total += addend.to(tl.float32)[None, :]
    total = activate(total, ACTIVATION)
    to = y + (part.to(tl.int64) * rows + first_m) * columns + first_n
    result = total.to(y.dtype.element_ty)
    tl.store(to + m[:, None] * columns + n[None, :], result, mask=in_m & in_n)


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str = "",
    transposed: int = 0,
    partials: bool = False,
    how: How | Literal["table"] = "table",
) -> torch.Tensor:
    """activation(x · weight + bias), summed in float32 and rounded once.

    By cuBLAS, and there alone, the result is rounded before its activation too.

    Args:
        x: [T, K].
        weight: [K, N]; [N, K] when transposed is 1.
        bias: [N]; zero when left out.
        activation: one of `bertrt.kernels.ops.ACTIVATIONS`; none with `partials`.
        partials: give float32 sums over P = `splits(…)` parts of K, for `add_layer_norm` to add.
        how: a launch of Triton's, or "torch" for cuBLAS, in place of the launch table's choice.

    Returns [T, N], of x's dtype; with `partials` float32 [P, T, N], the bias in the first of P.
    """
    rows, depth = x.shape
    columns = weight.shape[0] if transposed else weight.shape[1]
    if partials and (activation or how == "torch"):
        raise ValueError("partial sums come from Triton's product, before any activation")
    if how == "table":
        at = (gpu_of(x.device), rows, depth, columns, x.element_size())
        how = (
            measured_table.split_linear(*at)
            if partials
            else measured_table.linear(*at, activation != "")
        )
    if how == "torch":
        return product(x, weight.t() if transposed else weight, bias, activation)
    parts = how.splits if partials else 1
    shape = (parts, rows, columns) if partials else (rows, columns)
    y = x.new_empty(shape, dtype=torch.float32 if partials else x.dtype)
    if y.numel() > 0:
        _launch(x, weight, bias, y, activation, bool(transposed), how, parts)
    return y


def splits(rows: int, depth: int, columns: int, dtype: torch.dtype, device: torch.device) -> int:
    """P of `linear(..., partials=True)` for a product [T, K] · [K, N] of these sizes.

    1 where splitting gains nothing: then take the whole product, which may be cuBLAS's.
    """
    return measured_table.split_linear(gpu_of(device), rows, depth, columns, dtype.itemsize).splits


def _launch(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    activation: str,
    transposed: bool,
    tiles: LinearTiles,
    parts: int,
) -> None:
    rows, depth = x.shape
    columns = y.shape[-1]
    grid = (triton.cdiv(rows, tiles.block_m) * triton.cdiv(columns, tiles.block_n), parts)
    _linear[grid](
        x,
        weight,
        bias,
        y,
        rows,
        depth,
        columns,
        parts,
        ACTIVATION=activation,
        TRANSPOSED=transposed,
        BLOCK_M=tiles.block_m,
        BLOCK_N=tiles.block_n,
        BLOCK_K=tiles.block_k,
        GROUP=_GROUP,
        EVEN_K=depth % tiles.block_k == 0,
        EVEN_N=columns % tiles.block_n == 0,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
