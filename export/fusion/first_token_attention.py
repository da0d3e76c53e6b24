"""Attention of the first token only, without computing keys and values of all tokens.

A score is q (x Wk + bk)ᵀ = (q Wkᵀ) xᵀ + q bk; the last term is the same for every token and drops
out in the softmax. The context is p (x Wv + bv) = (p x) Wv + bv, since probabilities sum to 1. So
with one query a row, its heads attend to the layer's input itself, and two products of all tokens
become two of one token for each head.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, replace_value, store
from bertrt.export.graph.match_attention import plain_attention_heads
from bertrt.export.graph.match_linear import Linear, linear_before
from bertrt.export.graph.values import is_read_once

__all__ = ["attend_to_inputs"]


def attend_to_inputs(model: ir.Model) -> int:
    """Rewrite every Attention with one query a row, in place; returns the count.

    Queries are [B, 1, H]; keys and values are [B, S, H], each the output of a linear layer on the
    same input that nothing else reads. Attention with a cache stays as it is.
    """
    graph = model.graph
    matches = [match for match in map(_match, graph) if match is not None]
    for match in matches:
        _rewrite(graph, match)
    return len(matches)


@dataclass(frozen=True)
class _SingleQuery:
    """The Attention, its number of heads, and the linear layers of its keys and values."""

    attention: ir.Node
    heads: int
    key: Linear
    value: Linear


def _match(node: ir.Node) -> _SingleQuery | None:
    heads = plain_attention_heads(node)
    if heads is None or not 3 <= len(node.inputs) <= 4:
        return None
    query = node.inputs[0].shape
    if query is None or query.rank() != 3 or query[1] != 1:
        return None
    key, value = (linear_before(projected) for projected in node.inputs[1:3])
    if key is None or value is None or key.matmul.inputs[0] is not value.matmul.inputs[0]:
        return None
    if not all(is_read_once(projected) for projected in node.inputs[1:3]):
        return None
    return _SingleQuery(node, heads, key, value)


def _rewrite(graph: ir.Graph, match: _SingleQuery) -> None:
    attention, heads = match.attention, match.heads
    name, hidden = str(attention.name), match.key.matmul.inputs[0]
    width = int(match.key.bias.shape[0])
    key = match.key.weight.const_value.numpy().T.reshape(heads, width // heads, -1)
    value = match.value.weight.const_value.numpy().reshape(-1, heads, width // heads)
    key_weight, value_weight = (
        store(graph, f"{layer.weight.name}.heads", np.ascontiguousarray(data))
        for layer, data in ((match.key, key), (match.value, value.transpose(1, 0, 2)))
    )
    nodes: list[ir.Node] = []

    def add(operator: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        node = ir.node(operator, inputs, attributes, name=f"{name}/{operator}_{len(nodes)}")
        nodes.append(node)
        output: ir.Value = node.outputs[0]
        return output

    heads_first = {"perm": [1, 0, 2]}
    split = constant(graph, [-1, heads, width // heads])
    queries = add("Transpose", [add("Reshape", [attention.inputs[0], split])], **heads_first)
    queries = add("Transpose", [add("MatMul", [queries, key_weight])], **heads_first)
    # The heads of a row become queries of one head, as wide as the layer's input.
    scale = attention.attributes.get_float("scale", (width / heads) ** -0.5)
    masks = [
        # A bias has a row for each head already.
        add("Transpose", [mask], perm=[0, 2, 1, 3])
        if mask.dtype == ir.DataType.FLOAT
        else add("Expand", [mask, constant(graph, [1, 1, heads, 1])])
        for mask in attention.inputs[3:]
    ]
    means = add(
        "Attention",
        [queries, hidden, hidden, *masks],
        q_num_heads=1,
        kv_num_heads=1,
        scale=scale,
    )
    contexts = add("MatMul", [add("Transpose", [means], **heads_first), value_weight])
    joined = constant(graph, [-1, 1, width])
    contexts = add("Reshape", [add("Transpose", [contexts], **heads_first), joined])
    result = add("Add", [contexts, match.value.bias])
    graph.insert_before(attention, nodes)
    replace_value(attention.outputs[0], result)
    graph.remove(attention, safe=True)
    for layer in (match.key, match.value):
        graph.remove([layer.add, layer.matmul], safe=True)
        graph.initializers.pop(layer.weight.name)
    graph.initializers.pop(match.key.bias.name)
