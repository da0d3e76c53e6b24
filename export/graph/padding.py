"""Ask in a graph whether a batch has padding."""

import onnx_ir as ir

__all__ = ["add_is_unpadded"]


def add_is_unpadded(graph: ir.Graph, before: ir.Node) -> ir.Value:
    """Return a bool scalar, computed before a node: `attention_mask` has no 0."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    least = ir.node("ReduceMin", [mask], {"keepdims": 0}, name="attention/least")
    full = ir.node("Cast", [least.outputs[0]], {"to": ir.DataType.BOOL}, name="attention/full")
    graph.insert_before(before, [least, full])
    result: ir.Value = full.outputs[0]
    return result
