"""Attention → If, with a branch without a mask for long texts without padding.

ONNX Runtime's CPU provider has a blocked kernel that never holds all scores. It is behind
com.microsoft MultiHeadAttention, for calls without a mask only. So each attention gets two
branches, and the graph takes the one without a mask if no token is padding and the texts are long
enough for it to be faster.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, replace_value
from bertrt.export.graph.match_attention import is_padding_mask
from bertrt.export.graph.padding import add_is_unpadded

__all__ = ["SHORTEST", "skip_masks_without_padding"]

# From this length on, the blocked kernel is at least as fast as Attention with a mask.
SHORTEST = 256


def skip_masks_without_padding(model: ir.Model) -> int:
    """Put every Attention with a padding mask into a branch of an If, in place; returns the count.

    An Attention stays as it is if its mask depends on anything but `attention_mask`, as a causal
    one does, or if it has a cap on its scores.
    """
    graph = model.graph
    attentions = [node for node in graph if _has_padding_mask(node)]
    if not attentions:
        return 0
    condition = _unpadded_and_long(graph, before=attentions[0])
    for node in attentions:
        _branch(graph, node, condition)
    model.opset_imports.setdefault("com.microsoft", 1)
    return len(attentions)


def _has_padding_mask(node: ir.Node) -> bool:
    """Whether the node is an Attention whose mask is `attention_mask`, expanded to all queries."""
    if node.op_type != "Attention" or len(node.inputs) != 4:
        return False
    if node.attributes.get_float("softcap", 0.0):
        return False
    mask = node.inputs[3]
    producer = None if mask is None else mask.producer()
    if producer is not None and producer.op_type == "Slice":
        producer = producer.inputs[0].producer()  # fewer queries: see prune_last_layer
    return (
        producer is not None
        and producer.op_type == "Expand"
        and is_padding_mask(producer.inputs[0])
    )


def _unpadded_and_long(graph: ir.Graph, before: ir.Node) -> ir.Value:
    """Return a bool scalar: `attention_mask` has no 0, and rows have at least SHORTEST tokens."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    shortest = constant(graph, np.int64(SHORTEST))
    full = add_is_unpadded(graph, before)
    shape = ir.node("Shape", [mask], {"start": -1}, name="attention/shape")
    size = ir.node("ReduceMax", [shape.outputs[0]], {"keepdims": 0}, name="attention/length")
    long = ir.node("GreaterOrEqual", [size.outputs[0], shortest], name="attention/long")
    both = ir.node("And", [full, long.outputs[0]], name="attention/unpadded")
    graph.insert_before(before, [shape, size, long, both])
    return both.outputs[0]


def _branch(graph: ir.Graph, node: ir.Node, condition: ir.Value) -> None:
    """Replace an Attention by an If on `condition`."""
    name, old = str(node.name), node.outputs[0]
    scale = node.attributes.get_float("scale")
    unmasked = ir.node(
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
    for branch, inner in (("then_branch", unmasked), ("else_branch", masked)):
        inner.outputs[0].name = str(inner.name)
        inner.outputs[0].shape, inner.outputs[0].type = old.shape, old.type
        branches[branch] = ir.Graph([], inner.outputs, nodes=[inner], name=str(inner.name))
    choice = ir.node("If", [condition], branches, name=f"{name}/If")
    graph.insert_before(node, choice)
    replace_value(old, choice.outputs[0])
    graph.remove(node, safe=True)
