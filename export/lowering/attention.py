"""Attention on the packed QKV projection to PackedAttention."""

import math

import onnx_ir as ir

from bertrt.export.graph.match_embeddings import counts_from_zero, source
from bertrt.export.graph.replace import replace_value
from bertrt.export.lowering.nodes import make, only

__all__ = ["pack_attention"]


def pack_attention(model: ir.Model) -> int:
    """Replace Split and Attention, in place; returns how many.

    To be asked after `pack_embeddings`, `fuse_attention` and `pack_qkv`. An Attention with a mask
    that is neither the padding's nor that and the causal one, with another scale than 1 / √D, or
    with a cap on its scores, is left as it is.
    """
    graph = model.graph
    pack = only(graph, "Pack")
    count = 0
    for node in list(graph):
        if node.op_type != "Attention" or pack is None:
            continue
        qkv, causal = _packed_projection(node), _causal(node)
        if qkv is None or causal is None or not _is_plain(node, qkv):
            continue
        attention = make(
            "PackedAttention",
            [qkv, pack.outputs[-1]],
            str(node.name).removesuffix("/Attention"),
            num_heads=node.attributes.get_int("q_num_heads"),
            causal=int(causal),
        )
        split = node.inputs[0].producer()
        graph.insert_before(node, attention)
        replace_value(node.outputs[0], attention.outputs[0])
        graph.remove([node, split], safe=True)
        count += 1
    return count


def _packed_projection(node: ir.Node) -> ir.Value | None:
    """What is split into this attention's queries, keys and values, in thirds."""
    split = node.inputs[0].producer()
    if split is None or split.op_type != "Split" or list(split.outputs) != list(node.inputs[:3]):
        return None
    thirds = split.attributes.get_int("num_outputs", 0) == 3
    last = split.attributes.get_int("axis", 0) == -1
    return split.inputs[0] if thirds and last else None


def _is_plain(node: ir.Node, qkv: ir.Value) -> bool:
    heads = node.attributes.get_int("q_num_heads", 0)
    if not heads or node.attributes.get_int("kv_num_heads", 0) != heads:
        return False
    if node.attributes.get_float("softcap", 0.0) or node.attributes.get_int("is_causal", 0):
        return False
    scale = node.attributes.get_float("scale")
    if scale is None:
        return True
    width = node.outputs[0].shape[-1] if node.outputs[0].shape is not None else None
    return isinstance(width, int) and math.isclose(scale, (width / heads) ** -0.5, rel_tol=1e-6)


def _causal(node: ir.Node) -> bool | None:
    """Whether tokens see only those before them; None for a mask that is not known."""
    mask = node.inputs[3] if len(node.inputs) == 4 else None
    producer = None if mask is None else mask.producer()
    if producer is None:
        return None
    if producer.op_type == "Expand":
        return False if _is_padding(producer.inputs[0]) else None
    if producer.op_type != "And":
        return None
    one, other = producer.inputs
    either = _is_padding(one) and _is_triangle(other), _is_padding(other) and _is_triangle(one)
    return True if any(either) else None


def _is_padding(value: ir.Value) -> bool:
    """Whether this is `attention_mask` as truth values, with axes before the last."""
    for operator in ("Unsqueeze", "Cast"):
        node = value.producer()
        if node is None or node.op_type != operator:
            return False
        value = node.inputs[0]
    return source(value) == "attention_mask"


def _is_triangle(value: ir.Value) -> bool:
    """Whether this is [[0, 1, …]] <= [[0], [1], …]: true on and below the diagonal."""
    node = value.producer()
    if node is None or node.op_type != "LessOrEqual":
        return False
    keys, queries = node.inputs
    column = queries.producer()
    if column is None or column.op_type != "Unsqueeze" or column.inputs[1].const_value is None:
        return False
    axes = column.inputs[1].const_value.numpy().ravel().tolist()
    return axes in ([1], [-1]) and counts_from_zero(keys) and counts_from_zero(column.inputs[0])
