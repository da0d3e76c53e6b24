"""The last layer's attention for the first token alone, without keys and values of all the others.

A score is q (x Wk + bk)ᵀ = (q Wkᵀ) xᵀ + q bk, and the last term, the same for every token, drops
out in the softmax. The context is p (x Wv + bv) = (p x) Wv + bv, since probabilities sum to 1. So
with one query a row, its heads attend to the layer's input itself, and two products of all tokens
become two of one token for each head.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, store
from bertrt.export.graph.match_linear import Linear, linear_before
from bertrt.export.graph.replace import replace_value

__all__ = ["attend_to_inputs"]


def attend_to_inputs(model: ir.Model) -> int:
    """Rewrite every Attention of one query a row, in place; returns how many.

    Such is an Attention on [B, 1, H] and keys and values [B, S, H], both of them linear layers'
    of the same input, without a cache.
    """
    graph = model.graph
    found = [each for each in map(_single_query, graph) if each is not None]
    for each in found:
        _rewrite(graph, each)
    return len(found)


@dataclass(frozen=True)
class _SingleQuery:
    """The Attention, its number of heads, and the linear layers of its keys and values."""

    attention: ir.Node
    heads: int
    key: Linear
    value: Linear


def _single_query(node: ir.Node) -> _SingleQuery | None:
    if node.op_type != "Attention" or not 3 <= len(node.inputs) <= 4:
        return None
    if node.attributes.get_int("is_causal", 0) or node.attributes.get_float("softcap", 0.0):
        return None
    heads = node.attributes.get_int("q_num_heads", 0)
    if not heads or node.attributes.get_int("kv_num_heads", 0) != heads:
        return None
    query = node.inputs[0].shape
    if query is None or query.rank() != 3 or query[1] != 1:
        return None
    key, value = (linear_before(one) for one in node.inputs[1:3])
    if key is None or value is None or key.matmul.inputs[0] is not value.matmul.inputs[0]:
        return None
    if any(len(one.uses()) > 1 or one.is_graph_output() for one in node.inputs[1:3]):
        return None
    return _SingleQuery(node, heads, key, value)


def _rewrite(graph: ir.Graph, found: _SingleQuery) -> None:
    attention, heads = found.attention, found.heads
    name, hidden = str(attention.name), found.key.matmul.inputs[0]
    width = int(found.key.bias.shape[0])
    key = found.key.weight.const_value.numpy().T.reshape(heads, width // heads, -1)
    value = found.value.weight.const_value.numpy().reshape(-1, heads, width // heads)
    stored = [
        store(graph, f"{layer.weight.name}.heads", np.ascontiguousarray(data))
        for layer, data in ((found.key, key), (found.value, value.transpose(1, 0, 2)))
    ]

    def add(operator: str, inputs: list[ir.Value], **attributes: object) -> ir.Value:
        node = ir.node(operator, inputs, attributes, name=f"{name}/{operator}_{len(added)}")
        added.append(node)
        output: ir.Value = node.outputs[0]
        return output

    added: list[ir.Node] = []
    by_head = {"perm": [1, 0, 2]}
    split = constant(graph, [-1, heads, width // heads])
    queries = add("Transpose", [add("Reshape", [attention.inputs[0], split])], **by_head)
    queries = add("Transpose", [add("MatMul", [queries, stored[0]])], **by_head)
    # A row's heads are as many queries of one head, as wide as the layer's input.
    scale = attention.attributes.get_float("scale", (width / heads) ** -0.5)
    masks = [
        add("Expand", [mask, constant(graph, [1, 1, heads, 1])]) for mask in attention.inputs[3:]
    ]
    means = add(
        "Attention",
        [queries, hidden, hidden, *masks],
        q_num_heads=1,
        kv_num_heads=1,
        scale=scale,
    )
    contexts = add("MatMul", [add("Transpose", [means], **by_head), stored[1]])
    joined = constant(graph, [-1, 1, width])
    contexts = add("Reshape", [add("Transpose", [contexts], **by_head), joined])
    result = add("Add", [contexts, found.value.bias])
    graph.insert_before(attention, added)
    old = attention.outputs[0]
    result.name, result.shape, result.type = old.name, old.shape, old.type
    replace_value(old, result)
    graph.remove(attention, safe=True)
    for layer in (found.key, found.value):
        graph.remove([layer.add, layer.matmul], safe=True)
        graph.initializers.pop(layer.weight.name)
    graph.initializers.pop(found.key.bias.name)
