"""Linear on the GPU: a matrix product with bias and activation, by Triton or by cuBLAS.

The launch table (`bertrt.kernels.launch.measured_table`) chooses between them. Triton's kernel is
the tiled product of Triton's tutorial "Matrix Multiplication" (triton-lang.org).
"""

from typing import Literal

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import measured_table
from bertrt.kernels.launch.configs import LinearLaunch, LinearTiles
from bertrt.kernels.triton.activations import activate
from bertrt.kernels.triton.cublas import matmul
from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor
from bertrt.kernels.triton.hardware import get_gpu

__all__ = ["choose_splits", "linear", "takes_residual"]

# Programs go down this many rows of tiles before they go to the next column, so that what
# concurrent programs read of x and of the weight stays in the cache.
_GROUP = 8


@triton.jit(do_not_specialize=["rows", "splits"])
def _linear_kernel(
    x_ptr: tl.tensor,  # [rows, depth]
    weight_ptr: tl.tensor,  # [depth, columns], or [columns, depth] if TRANSPOSED
    bias_ptr: tl.tensor,  # [columns], or None
    y_ptr: tl.tensor,  # [splits, rows, columns], the result
    rows: int,
    depth: int,
    columns: int,
    splits: int,
    ACTIVATION: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    EVEN_K: tl.constexpr,  # depth is a multiple of BLOCK_K
    EVEN_N: tl.constexpr,  # columns is a multiple of BLOCK_N
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    # The tile of this program.
    tile = tl.program_id(0)
    tiles_n = tl.cdiv(columns, BLOCK_N)
    group_start = tile // (GROUP * tiles_n) * GROUP
    group_height = tl.minimum(tl.cdiv(rows, BLOCK_M) - group_start, GROUP)
    tile_in_group = tile % (GROUP * tiles_n)
    first_m = (group_start + tile_in_group % group_height) * BLOCK_M
    first_n = tile_in_group // group_height * BLOCK_N
    m = tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    mask_m = (m < rows - first_m)[:, None]
    mask_n = (n < columns - first_n)[None, :]

    # This split's share of the depth, in whole steps.
    split = tl.program_id(1)
    share = tl.cdiv(tl.cdiv(depth, BLOCK_K), splits) * BLOCK_K
    begin = split * share
    end = tl.minimum(begin + share, depth)

    # A tile's address needs 64 bits, and moves along the depth. Inside a tile 32-bit offsets are
    # enough, and stay in registers.
    x_tile_ptr = x_ptr + first_m.to(tl.int64) * depth + begin
    x_offsets = m[:, None] * depth + k[None, :]
    if TRANSPOSED:
        weight_tile_ptr = weight_ptr + first_n.to(tl.int64) * depth + begin
        weight_offsets = n[None, :] * depth + k[:, None]
        weight_step = BLOCK_K
    else:
        weight_tile_ptr = weight_ptr + begin.to(tl.int64) * columns + first_n
        weight_offsets = k[:, None] * columns + n[None, :]
        weight_step = BLOCK_K * columns
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for at in range(begin, end, BLOCK_K):
        if EVEN_K:
            a = tl.load(x_tile_ptr + x_offsets, mask=mask_m, other=0.0)
            if EVEN_N:
                b = tl.load(weight_tile_ptr + weight_offsets)
            else:
                b = tl.load(weight_tile_ptr + weight_offsets, mask=mask_n, other=0.0)
        else:
            mask_k = k < depth - at
            a = tl.load(x_tile_ptr + x_offsets, mask=mask_m & mask_k[None, :], other=0.0)
            b = tl.load(weight_tile_ptr + weight_offsets, mask=mask_n & mask_k[:, None], other=0.0)
        # "ieee": float32 in full precision, not TF32.
        total = tl.dot(a, b, total, input_precision="ieee")
        x_tile_ptr += BLOCK_K
        weight_tile_ptr += weight_step

    if bias_ptr is not None:
        # Only the first split adds the bias. The condition is part of the bound, because a block
        # mask combined with a scalar by `&` is no mask for Triton 3.9's interpreter.
        bias_columns = tl.where(split == 0, columns - first_n, 0)
        bias = tl.load(bias_ptr + first_n + n, mask=n < bias_columns, other=0.0)
        total += bias.to(tl.float32)[None, :]
    total = activate(total, ACTIVATION, y_ptr.dtype.element_ty)
    y_tile_ptr = y_ptr + (split.to(tl.int64) * rows + first_m) * columns + first_n
    result = total.to(y_ptr.dtype.element_ty)
    tl.store(y_tile_ptr + m[:, None] * columns + n[None, :], result, mask=mask_m & mask_n)


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str = "",
    transposed: int = 0,
    partials: bool = False,
    residual: torch.Tensor | None = None,
    launch: LinearLaunch | Literal["table"] = "table",
) -> torch.Tensor:
    """Compute activation(x · weight + bias), summed in float32 and rounded once.

    With cuBLAS, the result is also rounded before its activation.

    Args:
        x: [T, K].
        weight: [K, N]; or [N, K] if `transposed` is 1.
        bias: [N]; zero if omitted.
        activation: a key of `bertrt.kernels.ops.activations.ACTIVATIONS`; "" with `partials`.
        partials: return P partial sums over parts of K, for `add_layer_norm` to add up; P is
            given by `choose_splits`.
        residual: [T, N], overwritten by its sum with the product, and returned; see
            `takes_residual`.
        launch: tiles for Triton, "torch" for cuBLAS, or "table" for the launch table's choice.

    Returns [T, N], in x's dtype; with `partials` float32 [P, T, N], with the bias in the first.

    Raises ValueError for `partials` with an activation or with cuBLAS, and for a residual with a
    bias, an activation or Triton's tiles.
    """
    rows, depth = x.shape
    columns = weight.shape[0] if transposed else weight.shape[1]
    if partials and (activation or launch == "torch"):
        raise ValueError(
            "partial sums are computed by Triton, before any activation: pass neither an "
            "activation nor launch='torch'"
        )
    if residual is not None:
        if bias is not None or activation or partials or isinstance(launch, LinearTiles):
            raise ValueError(
                "cuBLAS adds a residual to a product alone: pass neither a bias, an activation, "
                "partials nor tiles"
            )
        launch = "torch"
    if launch == "table":
        sizes = (get_gpu(x.device), rows, depth, columns, x.element_size())
        launch = (
            measured_table.choose_split_linear(*sizes)
            if partials
            else measured_table.choose_linear(*sizes, activation != "")
        )
    if launch == "torch":
        return matmul(x, weight.t() if transposed else weight, bias, activation, residual)
    splits = launch.splits if partials else 1
    shape = (splits, rows, columns) if partials else (rows, columns)
    y = x.new_empty(shape, dtype=torch.float32 if partials else x.dtype)
    if y.numel() > 0:
        _launch_kernel(x, weight, bias, y, activation, bool(transposed), launch, splits)
    return y


def choose_splits(
    rows: int, depth: int, columns: int, dtype: torch.dtype, device: torch.device
) -> int:
    """Return P of `linear(..., partials=True)` for a product [T, K] · [K, N].

    If it is 1, splitting gains nothing: compute the whole product, which cuBLAS may do.
    """
    gpu = get_gpu(device)
    return measured_table.choose_split_linear(gpu, rows, depth, columns, dtype.itemsize).splits


def takes_residual(
    rows: int, depth: int, columns: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Return whether a residual is best added by a product [T, K] · [K, N]: if it is cuBLAS's.

    What reads the product then has one array less to read.
    """
    sizes = (get_gpu(device), rows, depth, columns, dtype.itemsize)
    return measured_table.choose_linear(*sizes, has_activation=False) == "torch"


def _launch_kernel(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
    activation: str,
    transposed: bool,
    tiles: LinearTiles,
    splits: int,
) -> None:
    rows, depth = x.shape
    columns = y.shape[-1]
    grid = (triton.cdiv(rows, tiles.block_m) * triton.cdiv(columns, tiles.block_n), splits)
    _linear_kernel[grid](
        x,
        weight,
        bias,
        y,
        rows,
        depth,
        columns,
        splits,
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
        **launch_options(),
    )
