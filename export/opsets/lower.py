"""Rewrite a graph in the operators of an older opset."""

import onnx
import onnx_ir as ir

from bertrt.errors import ExportError
from bertrt.export.graph.cleanup import clean
from bertrt.export.opsets.attention import decompose_attention
from bertrt.export.opsets.gelu import decompose_gelu
from bertrt.export.tracing.torch_export import OPSET

__all__ = ["lower_opset"]

# The version of ONNX's file format that came with each opset: a runtime of its time reads no newer.
_IR_VERSION = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
# The opsets in which these operators appeared.
_ATTENTION, _GELU = 23, 20
# Attributes that newer versions of an operator have, and whose defaults are what older ones do.
_DEFAULTS = ("num_outputs", "saturate", "block_size", "output_dtype", "precision")


def lower_opset(model: ir.Model, opset: int) -> dict[str, int]:
    """Rewrite a graph of opset 23 for another one, in place.

    Args:
        model: the graph, in standard operators.
        opset: 17 to 23; 23 changes nothing.

    Returns the number of operators that were decomposed, by name.

    Raises ExportError for an operator that the opset lacks.
    """
    if opset == OPSET:
        return {}
    counts = {"Attention": decompose_attention(model) if opset < _ATTENTION else 0}
    counts["Gelu"] = decompose_gelu(model) if opset < _GELU else 0
    model.opset_imports[""] = opset
    model.ir_version = _IR_VERSION[opset]
    for node in model.graph:
        if not node.domain:
            _adapt(node, opset)
    clean(model)
    return {name: count for name, count in counts.items() if count}


def _adapt(node: ir.Node, opset: int) -> None:
    """Give a node the inputs and attributes that its operator has in an opset.

    Raises ExportError if there is no such operator, or it cannot take them.
    """
    if not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        first = min(
            schema.since_version
            for schema in onnx.defs.get_all_schemas_with_history()
            if schema.name == node.op_type and not schema.domain
        )
        raise ExportError(
            f"the graph has the operator {node.op_type}, which opset {opset} lacks: pass --opset "
            f"{first} or newer"
        )
    schema = onnx.defs.get_schema(node.op_type, opset)
    # The axes of reductions became an input in opset 13 or 18.
    if "axes" in schema.attributes and len(node.inputs) == 2:
        axes = node.inputs[1].const_value.numpy().ravel()
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in axes])
        node.resize_inputs(1)
    for name in _DEFAULTS:
        if name in node.attributes and name not in schema.attributes:
            node.attributes.pop(name)
    unknown = next((name for name in node.attributes if name not in schema.attributes), None)
    if unknown is not None or len(node.inputs) > schema.max_input:
        raise ExportError(
            f"the graph has {node.op_type} in a form that opset {opset} lacks: pass --opset {OPSET}"
        )
