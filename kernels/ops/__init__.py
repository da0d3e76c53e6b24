"""The dialect: the operators of the domain `bertrt`, in which graphs for the Triton engine are.

A graph packs the tokens of its batch, so that padding reaches no arithmetic: rows of T tokens,
whose sequences the offsets [B + 1] tell apart. Each operator is a file with its definition, which
is a numpy function too: `onnx.reference` runs a graph with `REFERENCES` on any machine. The
kernels of the same names are in `bertrt.kernels.triton`.

Beside them a graph has three standard operators: Cast to float32 on the device, and Split and
Squeeze on results.
"""

from bertrt.kernels.ops.add_layer_norm import add_layer_norm
from bertrt.kernels.ops.embed_layer_norm import embed_layer_norm
from bertrt.kernels.ops.first_rows import first_rows
from bertrt.kernels.ops.linear import ACTIVATIONS, linear
from bertrt.kernels.ops.masked_rows import masked_rows
from bertrt.kernels.ops.mean_rows import mean_rows
from bertrt.kernels.ops.operator import DOMAIN, VERSION, Operator, Place
from bertrt.kernels.ops.pack import pack
from bertrt.kernels.ops.packed_attention import packed_attention
from bertrt.kernels.ops.picked_offsets import picked_offsets
from bertrt.kernels.ops.regroup import regroup
from bertrt.kernels.ops.select_rows import select_rows
from bertrt.kernels.ops.unit_rows import unit_rows
from bertrt.kernels.ops.unpack import unpack

__all__ = [
    "ACTIVATIONS",
    "DOMAIN",
    "OPERATORS",
    "REFERENCES",
    "STANDARD",
    "VERSION",
    "Operator",
    "Place",
]

OPERATORS = {
    one.name: one
    for one in (
        pack,
        first_rows,
        masked_rows,
        picked_offsets,
        embed_layer_norm,
        linear,
        packed_attention,
        add_layer_norm,
        select_rows,
        mean_rows,
        unit_rows,
        unpack,
        regroup,
    )
}
REFERENCES = [one.op_run() for one in OPERATORS.values()]

# The operators of ONNX itself that a graph may have, and where they stand.
STANDARD = {"Cast": Place.DEVICE, "Split": Place.EXIT, "Squeeze": Place.EXIT}
