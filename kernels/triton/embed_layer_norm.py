"""EmbedLayerNorm on the GPU: each program adds up and normalizes one token's embeddings."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import cost_model
from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor
from bertrt.kernels.triton.layer_norm import layer_norm

__all__ = ["embed_layer_norm"]


@triton.jit
def _embed_layer_norm_kernel(
    ids_ptr: tl.tensor,  # int32 [rows]
    types_ptr: tl.tensor,  # int32 [rows]
    positions_ptr: tl.tensor,  # int32 [rows]
    word_table_ptr: tl.tensor,  # [vocabulary, columns]
    type_table_ptr: tl.tensor,  # [types, columns]
    position_table_ptr: tl.tensor,  # [positions, columns]
    gamma_ptr: tl.tensor,  # [columns]
    beta_ptr: tl.tensor,  # [columns]
    y_ptr: tl.tensor,  # [rows, columns], the result
    columns: int,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,  # a power of two, at least columns
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < columns
    word_ptr = word_table_ptr + tl.load(ids_ptr + row).to(tl.int64) * columns
    type_ptr = type_table_ptr + tl.load(types_ptr + row).to(tl.int64) * columns
    position_ptr = position_table_ptr + tl.load(positions_ptr + row).to(tl.int64) * columns
    total = tl.load(word_ptr + column, mask=mask, other=0.0).to(tl.float32)
    total += tl.load(type_ptr + column, mask=mask, other=0.0).to(tl.float32)
    total += tl.load(position_ptr + column, mask=mask, other=0.0).to(tl.float32)
    result = layer_norm(total, gamma_ptr, beta_ptr, column, columns, EPSILON)
    tl.store(y_ptr + row * columns + column, result.to(y_ptr.dtype.element_ty), mask=mask)


def embed_layer_norm(
    ids: torch.Tensor,
    types: torch.Tensor,
    positions: torch.Tensor,
    word_table: torch.Tensor,
    type_table: torch.Tensor,
    position_table: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    *,
    epsilon: float = 1e-12,
) -> torch.Tensor:
    """Compute LayerNorm(word + type + position embedding) of each token, in float32.

    Args:
        ids, types, positions: int32 [T], valid indices into their tables; this is not checked.
        word_table, type_table, position_table: [V, H], [types, H] and [positions, H].
        gamma, beta: [H].
        epsilon: added to the variance.

    Returns [T, H], in the tables' dtype.
    """
    rows, columns = ids.shape[0], word_table.shape[1]
    y = word_table.new_empty(rows, columns)
    if rows > 0:
        _embed_layer_norm_kernel[(rows,)](
            ids,
            types,
            positions,
            word_table,
            type_table,
            position_table,
            gamma,
            beta,
            y,
            columns,
            EPSILON=epsilon,
            BLOCK=triton.next_power_of_2(columns),
            num_warps=cost_model.row_warps(columns),
            **launch_options(),
        )
    return y
