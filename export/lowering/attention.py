"""Split of the packed QKV projection, and Attention → PackedAttention."""

import math

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import replace_value, store
from bertrt.export.graph.match_attention import is_padding_mask, plain_attention_heads
from bertrt.export.graph.match_embeddings import counts_from_zero
from bertrt.export.graph.match_relative_bias import biased_mask, distance_table
from bertrt.export.lowering.nodes import make_node, only_node

__all__ = ["pack_attention"]


def pack_attention(model: ir.Model) -> int:
    """Replace each Split and Attention, in place; returns the count.

    Call this after `fuse_attention`, `pack_qkv` and `pack_embeddings`. An Attention stays as it is
    if its mask is neither the padding mask, nor that and the causal mask or a bias by distance, if
    its scale is not 1 / √D, or if its scores have a cap.
    """
    graph = model.graph
    pack = only_node(graph, "Pack")
    biases: dict[ir.Value, ir.Value] = {}
    count = 0
    for node in list(graph):
        heads = plain_attention_heads(node)
        if heads is None or pack is None:
            continue
        *_, rows, offsets = pack.outputs
        qkv, causal, table = _packed_projection(node), _is_causal(node), _bias_table(node)
        if qkv is None or not _has_usual_scale(node, heads) or causal is table is None:
            continue
        if table is not None and table not in biases:
            name = "bert.encoder.relative_attention_bias.by_distance"
            data = np.ascontiguousarray(table.const_value.numpy().T)
            biases[table] = store(graph, name, data)
        attention = make_node(
            "PackedAttention",
            [qkv, offsets, *([] if table is None else [biases[table], rows])],
            str(node.name).removesuffix("/Attention"),
            num_heads=heads,
            causal=int(bool(causal)),
        )
        split = node.inputs[0].producer()
        graph.insert_before(node, attention)
        replace_value(node.outputs[0], attention.outputs[0])
        graph.remove([node, split], safe=True)
        count += 1
    return count


def _packed_projection(node: ir.Node) -> ir.Value | None:
    """Return the value whose thirds are this attention's queries, keys and values."""
    split = node.inputs[0].producer()
    if split is None or split.op_type != "Split" or list(split.outputs) != list(node.inputs[:3]):
        return None
    thirds = split.attributes.get_int("num_outputs", 0) == 3
    last = split.attributes.get_int("axis", 0) == -1
    return split.inputs[0] if thirds and last else None


def _has_usual_scale(node: ir.Node, heads: int) -> bool:
    """Whether scores are scaled by 1 / √D, which is also the operator's default."""
    scale = node.attributes.get_float("scale")
    if scale is None:
        return True
    width = node.outputs[0].shape[-1] if node.outputs[0].shape is not None else None
    return isinstance(width, int) and math.isclose(scale, (width / heads) ** -0.5, rel_tol=1e-6)


def _is_causal(node: ir.Node) -> bool | None:
    """Whether tokens attend only to earlier ones; None for an unknown mask."""
    mask = node.inputs[3] if len(node.inputs) == 4 else None
    producer = None if mask is None else mask.producer()
    if producer is None:
        return None
    if producer.op_type == "Expand":
        return False if is_padding_mask(producer.inputs[0]) else None
    if producer.op_type != "And":
        return None
    left, right = producer.inputs
    for padding, triangle in ((left, right), (right, left)):
        if is_padding_mask(padding) and _is_triangle(triangle):
            return True
    return None


def _bias_table(node: ir.Node) -> ir.Value | None:
    """Return the table [2·F + 1, N] of the bias that the mask has; None for another mask."""
    found = biased_mask(node.inputs[3]) if len(node.inputs) == 4 else None
    return None if found is None else distance_table(found.bias)


def _is_triangle(value: ir.Value) -> bool:
    """Whether the value is [[0, 1, …]] <= [[0], [1], …]: true on and below the diagonal."""
    node = value.producer()
    if node is None or node.op_type != "LessOrEqual":
        return False
    keys, queries = node.inputs
    column = queries.producer()
    if column is None or column.op_type != "Unsqueeze" or column.inputs[1].const_value is None:
        return False
    axes = column.inputs[1].const_value.numpy().ravel().tolist()
    return axes in ([1], [-1]) and counts_from_zero(keys) and counts_from_zero(column.inputs[0])
