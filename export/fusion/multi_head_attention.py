"""Attention with a mask → com.microsoft MultiHeadAttention with an attention bias.

ONNX Runtime's CUDA provider runs MultiHeadAttention by its fast kernels if the mask is a bias on
the scores. Any mask can be written so: padding, holes, and causal masks. The operator's other forms
of a mask count tokens, and would silently give wrong answers for a mask with a hole. A mask that is
the sum of a bias by distance and of what hides padding is one already.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, replace_value
from bertrt.export.graph.match_attention import plain_attention_heads
from bertrt.export.graph.match_relative_bias import biased_mask

__all__ = ["fuse_multi_head_attention"]

# The bias of a masked score: its exponential is 0, and float16 can hold it plus any score.
_MASKED = np.float32(-30000)
_VISIBLE = np.float32(0)


def fuse_multi_head_attention(model: ir.Model) -> int:
    """Replace every Attention on [B, S, H] with a mask, in place; returns the count.

    Attentions with the same bool mask share one bias, float32 [B, 1, S, S]. An Attention without a
    number of heads, without a mask or with a cap on its scores stays as it is.
    """
    graph = model.graph
    _limit_biased_masks(graph)
    biases: dict[ir.Value, ir.Value] = {}
    count = 0
    for node in list(graph):
        heads = plain_attention_heads(node)
        if heads is None or len(node.inputs) != 4 or node.inputs[3] is None:
            continue
        query, key, value, mask = node.inputs
        if mask not in biases:
            biases[mask] = _bias(graph, mask, number=len(biases), before=node)
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


def _limit_biased_masks(graph: ir.Graph) -> None:
    """Hide padding by the same number as in bool masks where a mask has a bias by distance."""
    for node in graph:
        found = biased_mask(node.outputs[0])
        if found is not None:
            found.padding.replace_input_with(2, constant(graph, _MASKED))


def _bias(graph: ir.Graph, mask: ir.Value, *, number: int, before: ir.Node) -> ir.Value:
    """Return what is added to scores for a mask; `number` names it."""
    if mask.dtype == ir.DataType.FLOAT:
        return mask
    inputs = [mask, constant(graph, _VISIBLE), constant(graph, _MASKED)]
    where = ir.node("Where", inputs, name=f"attention/bias_{number}")
    where.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    where.outputs[0].shape = mask.shape
    graph.insert_before(before, where)
    bias: ir.Value = where.outputs[0]
    return bias
