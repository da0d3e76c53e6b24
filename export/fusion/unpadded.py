"""Attention without a mask where nothing is padded: long texts alone, and batches of one length.

ONNX Runtime's CPU provider has a blocked kernel that never holds all scores, behind com.microsoft
MultiHeadAttention, for calls without a mask only. So each attention is given two branches, and
the graph takes the one without a mask when every token counts and the texts are long enough to
gain by it.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant

__all__ = ["SHORTEST", "skip_masks_of_unpadded"]

# The length from which the blocked kernel is as fast as Attention with a mask, or faster.
SHORTEST = 256


def skip_masks_of_unpadded(model: ir.Model) -> int:
    """Put every Attention with a padding mask in the masked branch of an If; returns how many.

    An Attention is left alone when its mask is not made of the graph's `attention_mask` alone.
    """
    graph = model.graph
    found = [node for node in graph if node.op_type == "Attention" and _only_padding(node)]
    if not found:
        return 0
    condition = _unpadded_and_long(graph, before=found[0])
    for node in found:
        _branch(graph, node, condition)
    model.opset_imports.setdefault("com.microsoft", 1)
    return len(found)


def _only_padding(node: ir.Node) -> bool:
    """Whether the mask is [B, S] integers spread over all queries: a Cast, Unsqueeze, Expand."""
    if len(node.inputs) != 4 or node.attributes.get_float("softcap", 0.0):
        return False
    value = node.inputs[3]
    if value is not None and value.producer() is not None and value.producer().op_type == "Slice":
        value = value.producer().inputs[0]  # of fewer queries: see prune_last_layer
    for operator in ("Expand", "Unsqueeze", "Cast"):
        producer = None if value is None else value.producer()
        if producer is None or producer.op_type != operator:
            return False
        value = producer.inputs[0]
    while value is not None and value.producer() is not None:  # multiple choice: [B, C, S]
        if value.producer().op_type != "Reshape":
            return False
        value = value.producer().inputs[0]
    return value is not None and value.name == "attention_mask"


def _unpadded_and_long(graph: ir.Graph, before: ir.Node) -> ir.Value:
    """A bool scalar: no entry of `attention_mask` is 0, and rows have at least SHORTEST tokens."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    length = constant(graph, np.int64(SHORTEST))
    least = ir.node("ReduceMin", [mask], {"keepdims": 0}, name="attention/least")
    full = ir.node("Cast", [least.outputs[0]], {"to": ir.DataType.BOOL}, name="attention/full")
    shape = ir.node("Shape", [mask], {"start": -1}, name="attention/shape")
    size = ir.node("ReduceMax", [shape.outputs[0]], {"keepdims": 0}, name="attention/length")
    long = ir.node("GreaterOrEqual", [size.outputs[0], length], name="attention/long")
    both = ir.node("And", [full.outputs[0], long.outputs[0]], name="attention/unpadded")
    graph.insert_before(before, [least, full, shape, size, long, both])
    return both.outputs[0]


def _branch(graph: ir.Graph, node: ir.Node, condition: ir.Value) -> None:
    name, old = str(node.name), node.outputs[0]
    scale = node.attributes.get_float("scale")
    free = ir.node(
        "MultiHeadAttention",
        list(node.inputs[:3]),
        {
            "num_heads": node.attributes.get_int("q_num_heads"),
            **({} if scale is None else {"scale": scale}),
        },
        domain="com.microsoft",
        name=f"{name}/unmasked",
    )
    masked = ir.node("Attention", list(node.inputs), dict(node.attributes), name=f"{name}/masked")
    branches = {}
    for branch, inner in (("then_branch", free), ("else_branch", masked)):
        inner.outputs[0].name = str(inner.name)
        inner.outputs[0].shape, inner.outputs[0].type = old.shape, old.type
        branches[branch] = ir.Graph([], inner.outputs, nodes=[inner], name=str(inner.name))
    choice = ir.node("If", [condition], branches, name=f"{name}/If")
    graph.insert_before(node, choice)
    new = choice.outputs[0]
    output, old.name = old.name, None
    new.name, new.shape, new.type = output, old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
