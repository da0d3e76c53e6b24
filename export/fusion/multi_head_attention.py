"""Attention with a mask of truth values to com.microsoft MultiHeadAttention with a bias of numbers.

ONNX Runtime's CUDA provider runs MultiHeadAttention by its fast kernels with a bias on the scores,
which any mask can be made into: padding, holes, and what a decoder may not look at. Its other
forms of a mask count tokens, and would answer wrongly, in silence, where a mask has a hole.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant
from bertrt.export.graph.replace import replace_value

__all__ = ["fuse_multi_head_attention"]

# What a score that may not count gets: its exponential is 0, and float16 has numbers for it and
# for any score beside it.
_HIDDEN = np.float32(-30000)
_NOTHING = np.float32(0)


def fuse_multi_head_attention(model: ir.Model) -> int:
    """Replace every Attention on [B, S, H] with a mask of truth values, in place; returns how many.

    One bias, float32 [B, 1, S, S], is shared by all that had the same mask. An Attention without a
    number of heads, without a mask or with a cap on its scores is left as it is.
    """
    graph = model.graph
    biases: dict[ir.Value, ir.Value] = {}
    count = 0
    for node in list(graph):
        if node.op_type != "Attention" or not _fits(node):
            continue
        query, key, value, mask = node.inputs
        if mask not in biases:
            name = f"attention/bias_{len(biases)}"
            inputs = [mask, constant(graph, _NOTHING), constant(graph, _HIDDEN)]
            where = ir.node("Where", inputs, name=name)
            where.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            where.outputs[0].shape = mask.shape
            graph.insert_before(node, where)
            biases[mask] = where.outputs[0]
        scale = node.attributes.get_float("scale")
        fused = ir.node(
            "MultiHeadAttention",
            [query, key, value, None, None, biases[mask]],
            {
                "num_heads": node.attributes.get_int("q_num_heads"),
                **({} if scale is None else {"scale": scale}),
            },
            domain="com.microsoft",
            name=str(node.name).replace("Attention", "MultiHeadAttention"),
        )
        old, new = node.outputs[0], fused.outputs[0]
        new.shape, new.type = old.shape, old.type
        graph.insert_before(node, fused)
        replace_value(old, new)
        graph.remove(node, safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count


def _fits(node: ir.Node) -> bool:
    if len(node.inputs) != 4 or node.inputs[3] is None:
        return False
    if node.attributes.get_float("softcap", 0.0) or node.attributes.get_int("is_causal", 0):
        return False
    heads = node.attributes.get_int("q_num_heads", 0)
    return bool(heads) and heads == node.attributes.get_int("kv_num_heads", 0)
