"""Attention with a bool mask → com.microsoft MultiHeadAttention with an attention bias.

ONNX Runtime's CUDA provider runs MultiHeadAttention by its fast kernels if the mask is a bias on
the scores. Any mask can be written so: padding, holes, and causal masks. The operator's other forms
of a mask count tokens, and would silently give wrong answers for a mask with a hole.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, replace_value
from bertrt.export.graph.match_attention import plain_attention_heads

__all__ = ["fuse_multi_head_attention"]

# The bias of a masked score: its exponential is 0, and float16 can hold it plus any score.
_MASKED = np.float32(-30000)
_VISIBLE = np.float32(0)


def fuse_multi_head_attention(model: ir.Model) -> int:
    """Replace every Attention on [B, S, H] with a bool mask, in place; returns the count.

    Attentions with the same mask share one bias, float32 [B, 1, S, S]. An Attention without a
    number of heads, without a mask or with a cap on its scores stays as it is.
    """
    graph = model.graph
    biases: dict[ir.Value, ir.Value] = {}
    count = 0
    for node in list(graph):
        heads = plain_attention_heads(node)
        if heads is None or len(node.inputs) != 4 or node.inputs[3] is None:
            continue
        query, key, value, mask = node.inputs
        if mask not in biases:
            name = f"attention/bias_{len(biases)}"
            inputs = [mask, constant(graph, _VISIBLE), constant(graph, _MASKED)]
            where = ir.node("Where", inputs, name=name)
            where.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            where.outputs[0].shape = mask.shape
            graph.insert_before(node, where)
            biases[mask] = where.outputs[0]
        scale = node.attributes.get_float("scale")
        fused = ir.node(
            "MultiHeadAttention",
            [query, key, value, None, None, biases[mask]],
            {"num_heads": heads, **({} if scale is None else {"scale": scale})},
            domain="com.microsoft",
            name=str(node.name).replace("Attention", "MultiHeadAttention"),
        )
        graph.insert_before(node, fused)
        replace_value(node.outputs[0], fused.outputs[0])
        graph.remove(node, safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count
