"""EmbedLayerNorm on the GPU: a program gathers, sums and normalizes one token's embeddings."""

import torch
import triton
import triton.language as tl

from bertrt.kernels.launch import cost_model
from bertrt.kernels.triton.layer_norm import layer_norm

__all__ = ["embed_layer_norm"]


@triton.jit
def _embed_layer_norm(
    ids: tl.tensor,
    types: tl.tensor,
    positions: tl.tensor,
    word_table: tl.tensor,
    type_table: tl.tensor,
    position_table: tl.tensor,
    gamma: tl.tensor,
    beta: tl.tensor,
    y: tl.tensor,
    columns: int,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    word = word_table + tl.load(ids + row).to(tl.int64) * columns
    kind = type_table + tl.load(types + row).to(tl.int64) * columns
    position = position_table + tl.load(positions + row).to(tl.int64) * columns
    total = tl.load(word + column, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(kind + column, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(position + column, mask=inside, other=0.0).to(tl.float32)
    result = layer_norm(total, gamma, beta, column, columns, EPSILON)
    tl.store(y + row * columns + column, result.to(y.dtype.element_ty), mask=inside)


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
    """LayerNorm of the sum of a token's three embeddings, in float32.

    Args:
        ids, types, positions: int32 [T], each inside its table: nothing checks that here.
        word_table, type_table, position_table: [V, H], [types, H] and [positions, H].
        gamma, beta: [H].
        epsilon: added to the variance.

    Returns [T, H], of the tables' dtype.
    """
    rows, columns = ids.shape[0], word_table.shape[1]
    y = word_table.new_empty(rows, columns)
    if rows > 0:
        _embed_layer_norm[(rows,)](
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
        )
    return y
