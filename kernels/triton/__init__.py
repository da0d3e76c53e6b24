"""The Triton kernels: for each operator of the dialect that runs on the device, one file.

A kernel's function has the name, the arguments and the meaning of the operator's reference in
`bertrt.kernels.ops`, on contiguous tensors of float16, bfloat16 or float32 and int32. It
allocates its result and never waits for the device, so a CUDA graph can hold it. Where buffers are
larger than the tokens in them, the rows from offsets[-1] on mean nothing: they are computed from
whatever is there, and touch no others. It launches on the current device.
"""

from collections.abc import Callable

import torch

from bertrt.kernels.triton.add_layer_norm import add_layer_norm
from bertrt.kernels.triton.embed_layer_norm import embed_layer_norm
from bertrt.kernels.triton.linear import linear, splits
from bertrt.kernels.triton.mean_rows import mean_rows
from bertrt.kernels.triton.packed_attention import packed_attention
from bertrt.kernels.triton.select_rows import select_rows
from bertrt.kernels.triton.unit_rows import unit_rows

__all__ = ["KERNELS", "splits"]

# By the operator's ONNX name.
KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    "EmbedLayerNorm": embed_layer_norm,
    "Linear": linear,
    "PackedAttention": packed_attention,
    "AddLayerNorm": add_layer_norm,
    "SelectRows": select_rows,
    "MeanRows": mean_rows,
    "UnitRows": unit_rows,
}
