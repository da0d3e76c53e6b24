"""Attention, of opset 23, → the products and the Softmax that it stands for."""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant
from bertrt.export.opsets.nodes import Replacement

__all__ = ["decompose_attention"]

_SPLIT_HEADS = (0, 2, 1, 3)
# The same with the last two axes exchanged, and that exchange alone.
_SPLIT_KEYS, _TRANSPOSE = (0, 2, 3, 1), (0, 1, 3, 2)


def decompose_attention(model: ir.Model) -> int:
    """Replace every Attention with a mask, in place; returns the count.

    Queries, keys and values are [B, N, S, D]. Nodes with other features of the operator, which
    BERT does not have, stay.
    """
    graph = model.graph
    biases: dict[ir.Value, ir.Value] = {}
    count = 0
    for node in list(graph):
        if node.op_type != "Attention" or not _is_plain(node):
            continue
        mask = node.inputs[3]
        if mask not in biases:
            biases[mask] = _bias(graph, node, mask)
        _decompose(graph, node, biases[mask])
        count += 1
    return count


def _is_plain(node: ir.Node) -> bool:
    flags = ("is_causal", "q_num_heads", "qk_matmul_output_mode")
    plain = not any(node.attributes.get_int(flag, 0) for flag in flags)
    plain &= not node.attributes.get_float("softcap", 0.0)
    return plain and len(node.inputs) == 4 and None not in node.inputs and len(node.outputs) == 1


def _bias(graph: ir.Graph, node: ir.Node, mask: ir.Value) -> ir.Value:
    """Return what is added to scores: 0 where the mask is True, the lowest float32 elsewhere.

    A mask of floats is added itself. Not minus infinity, of which the Softmax of a row without
    tokens would be NaN. The bools of an encoder are the same for every query, and are read before
    they are expanded to them.
    """
    if mask.dtype == ir.DataType.FLOAT:
        return mask
    producer = mask.producer()
    if producer is not None and producer.op_type == "Expand":
        mask = producer.inputs[0]
    lowest = np.array(np.finfo(np.float32).min)
    where = ir.node(
        "Where",
        [mask, constant(graph, np.array(0, np.float32)), constant(graph, lowest)],
        name="attention_bias",
    )
    graph.insert_before(node, where)
    bias: ir.Value = where.outputs[0]
    return bias


def _decompose(graph: ir.Graph, node: ir.Node, bias: ir.Value) -> None:
    query, key, value, _ = node.inputs
    new = Replacement(graph, node)
    scale = node.attributes.get_float("scale", int(query.shape[3]) ** -0.5)
    product = new.add("MatMul", query, _transposed(new, key))
    scores = new.add("Add", new.add("Mul", product, new.number(scale)), bias)
    new.finish(new.add("MatMul", new.add("Softmax", scores, axis=-1), value))


def _transposed(new: Replacement, key: ir.Value) -> ir.Value:
    """Return keys [B, N, S, D] as [B, N, D, S]; a Transpose that made them is not repeated."""
    producer = key.producer()
    if producer is not None and producer.op_type == "Transpose":
        perm = tuple(producer.attributes["perm"].as_ints())
        if perm == _SPLIT_HEADS:
            return new.add("Transpose", producer.inputs[0], perm=_SPLIT_KEYS)
    return new.add("Transpose", key, perm=_TRANSPOSE)
