"""All operators that a graph for the Triton engine may have, by ONNX name."""

from bertrt.kernels.ops.add_layer_norm import add_layer_norm
from bertrt.kernels.ops.embed_layer_norm import embed_layer_norm
from bertrt.kernels.ops.first_rows import first_rows
from bertrt.kernels.ops.linear import linear
from bertrt.kernels.ops.masked_rows import masked_rows
from bertrt.kernels.ops.pack import pack
from bertrt.kernels.ops.packed_attention import packed_attention
from bertrt.kernels.ops.picked_offsets import picked_offsets
from bertrt.kernels.ops.pool_rows import pool_rows
from bertrt.kernels.ops.regroup import regroup
from bertrt.kernels.ops.select_rows import select_rows
from bertrt.kernels.ops.standard import cast, split, squeeze
from bertrt.kernels.ops.unit_rows import unit_rows
from bertrt.kernels.ops.unpack import unpack

__all__ = ["OPERATORS", "REFERENCES", "STANDARD_OPERATORS"]

# The operators of the domain `bertrt`.
OPERATORS = {
    op.name: op
    for op in (
        pack,
        first_rows,
        masked_rows,
        picked_offsets,
        embed_layer_norm,
        linear,
        packed_attention,
        add_layer_norm,
        select_rows,
        pool_rows,
        unit_rows,
        unpack,
        regroup,
    )
}

# For `onnx.reference.ReferenceEvaluator(new_ops=REFERENCES)`, which runs a graph on any machine.
REFERENCES = [op.op_run() for op in OPERATORS.values()]

# The operators of ONNX's own domain.
STANDARD_OPERATORS = {op.name: op for op in (cast, split, squeeze)}
