"""The Triton kernels: one file for each operator of the DEVICE stage.

A kernel's launcher has the name, arguments and meaning of the operator's reference in
`bertrt.kernels.ops`, on contiguous tensors of float16, bfloat16 or float32, and int32. It launches
on the current device, allocates its result and never waits for the device, so a CUDA graph can
capture it. If the buffers are larger than the number of tokens, the rows from offsets[-1] on are
padding: they may hold any values, and do not affect other rows.
"""

from collections.abc import Callable

import torch

from bertrt.kernels.triton.add_layer_norm import add_layer_norm
from bertrt.kernels.triton.embed_layer_norm import embed_layer_norm
from bertrt.kernels.triton.linear import choose_splits, linear, takes_residual
from bertrt.kernels.triton.packed_attention import packed_attention
from bertrt.kernels.triton.pool_rows import pool_rows
from bertrt.kernels.triton.select_rows import select_rows
from bertrt.kernels.triton.unit_rows import unit_rows

__all__ = ["KERNELS", "choose_splits", "takes_residual"]

# By the operator's ONNX name.
KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    "EmbedLayerNorm": embed_layer_norm,
    "Linear": linear,
    "PackedAttention": packed_attention,
    "AddLayerNorm": add_layer_norm,
    "SelectRows": select_rows,
    "PoolRows": pool_rows,
    "UnitRows": unit_rows,
}
