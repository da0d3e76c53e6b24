"""One short text, whose layers wait for weights from memory: a second way through them, by an If.

A product of a few tokens does little with each weight that it reads. ONNX Runtime multiplies x W by
reading a block of W with the first dozen tokens and going over the rest of them while memory has
nothing to do. As W xᵀ, tokens in columns, a dozen rows of W are read side by side and each number
meets every token at once, so that memory is kept busy. More tokens gain nothing by that, and the
results have to be transposed; nor do models whose weights a cache holds.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from bertrt.export.fusion.linear import owned
from bertrt.export.fusion.replace import take_over
from bertrt.export.fusion.stored import constant, store
from bertrt.export.fusion.weights_first import copy_weights_first

__all__ = ["add_short_form", "short_lengths"]

# Less of weights than this (bytes) may stay in a third-level cache from run to run.
_LEAST_WEIGHTS = 64_000_000
# Below, W xᵀ computes mostly columns that are not there; above, reading weights is no longer what
# takes the time.
_FEWEST, _MOST = 8, 128
# ONNX Runtime computes columns by so many.
_COLUMNS = 16


def short_lengths(hidden: int, weights: int) -> list[int]:
    """The numbers of tokens of one text for which W xᵀ is the faster, as measured.

    The fewer tokens, the more there is to gain; columns that are computed in vain are paid for, and
    transposing costs more of the whole where the model is narrow.

    Args:
        hidden: the model's width H.
        weights: bytes of the layers' matrices.
    """
    if weights < _LEAST_WEIGHTS:
        return []
    found = []
    for tokens in range(_FEWEST, _MOST + 1):
        computed = -(-tokens // _COLUMNS) * _COLUMNS
        in_vain = computed - tokens
        if 6 * computed <= hidden and 3 * in_vain * computed <= 2 * hidden:
            found.append(tokens)
    return found


def add_short_form(model: ir.Model) -> int:
    """Give the layers a second form for one short text, in place; returns how many products.

    The layers' nodes move into the branches of an If, in the first with products W xᵀ, for a batch
    of one row whose length is one of `short_lengths`; a model that has none is left as it is. Both
    branches read the same matrices, stored [N, K] as PyTorch has them. In the first, attention
    keeps its padding mask. To be the last of the fusions: others do not look into branches.
    """
    graph = model.graph
    products = [node for node in graph if _is_a_layers_product(node)]
    if not products:
        return 0
    hidden = products[0].inputs[0]
    products = [node for node in products if _is_of_all_tokens(node, hidden)]
    weights = sum(node.inputs[1].const_value.nbytes for node in products)
    lengths = short_lengths(int(hidden.shape[-1]), weights)
    if not lengths:
        return 0
    products = [_read_rows(graph, product) for product in products]
    nodes = _between(graph, products)
    results = _read_elsewhere(graph, nodes)
    condition = _one_short_text(graph, hidden, lengths, before=nodes[0])
    copies, copied = copy_weights_first(graph, nodes, products, results, prefix="short/")
    choice = ir.node("If", [condition], name="layers/If", num_outputs=len(results))
    graph.insert_before(nodes[0], choice)
    graph.remove(nodes)
    for result, chosen in zip(results, choice.outputs, strict=True):
        _replace_elsewhere(graph, result, chosen)
    branches = {
        "then_branch": ir.Graph([], copied, nodes=copies, name="short"),
        "else_branch": ir.Graph([], results, nodes=nodes, name="long"),
    }
    choice.attributes.update({key: ir.AttrGraph(key, each) for key, each in branches.items()})
    graph.sort()
    model.opset_imports.setdefault("com.microsoft", 1)
    return len(products)


def _is_a_layers_product(node: ir.Node) -> bool:
    """x W of float32 [B, S, K] and a matrix that is an encoder layer's own."""
    if node.op_type != "MatMul" or not owned(node.inputs[1]):
        return False
    x, weight = node.inputs
    if weight.shape.rank() != 2 or "encoder.layer." not in str(weight.name):
        return False
    return x.shape is not None and x.shape.rank() == 3


def _is_of_all_tokens(product: ir.Node, hidden: ir.Value) -> bool:
    """Whether it is of as many rows as `hidden`, each of more than the first token."""
    batch, tokens, _ = product.inputs[0].shape
    return bool(batch == hidden.shape[0] and tokens != 1)


def _between(graph: ir.Graph, ends: Collection[ir.Node]) -> list[ir.Node]:
    """`ends` and all nodes that lie on a way from one of them to another, in order."""
    nodes = list(graph)
    after: set[ir.Node] = set()
    made: set[ir.Value] = set()
    for node in nodes:
        if node in ends or not made.isdisjoint(_reads(node)):
            after.add(node)
            made.update(node.outputs)
    before: set[ir.Node] = set()
    needed: set[ir.Value] = set()
    for node in reversed(nodes):
        if node in ends or not needed.isdisjoint(node.outputs):
            before.add(node)
            needed.update(_reads(node))
    return [node for node in nodes if node in after and node in before]


def _reads(node: ir.Node) -> set[ir.Value]:
    """What a node reads, and what its branches do."""
    values = {value for value in node.inputs if value is not None}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                values |= _reads(inner)
    return values


def _read_elsewhere(graph: ir.Graph, nodes: Collection[ir.Node]) -> list[ir.Value]:
    """What these nodes make and others read, or the graph gives."""
    inside = set(nodes)
    outside: set[ir.Value] = set(graph.outputs)
    for node in graph:
        if node not in inside:
            outside |= _reads(node)
    return [value for node in nodes for value in node.outputs if value in outside]


def _replace_elsewhere(graph: ir.Graph, result: ir.Value, chosen: ir.Value) -> None:
    """Have the nodes that are still the graph's, and its outputs, read `chosen`."""
    chosen.name, result.name = result.name, f"{result.name}/long"
    chosen.shape, chosen.type = result.shape, result.type
    remaining = set(graph.all_nodes())
    for node, index in list(result.uses()):
        if node in remaining:
            node.replace_input_with(index, chosen)
    for index, output in enumerate(graph.outputs):
        if output is result:
            graph.outputs[index] = chosen


def _read_rows(graph: ir.Graph, product: ir.Node) -> ir.Node:
    """x W with W stored [K, N] → the same with W stored [N, K], in place; the new node."""
    x, weight = product.inputs
    data = np.ascontiguousarray(weight.const_value.numpy().T)
    rows = store(graph, str(weight.name).removesuffix(".T"), data)
    fused = ir.node(
        "FusedMatMul", [x, rows], {"transB": 1}, domain="com.microsoft", name=product.name
    )
    graph.insert_before(product, fused)
    old, new = product.outputs[0], fused.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    take_over(old, new)
    graph.remove(product, safe=True)
    graph.initializers.pop(str(weight.name))
    return fused


def _one_short_text(
    graph: ir.Graph, hidden: ir.Value, lengths: Collection[int], before: ir.Node
) -> ir.Value:
    """A bool [1]: whether `hidden`, [B, S, H], is of one row with one of these lengths."""
    table = np.zeros(max(lengths) + 2, dtype=bool)  # the last is for all that are longer
    table[list(lengths)] = True
    end = constant(graph, [len(table) - 1])
    rows = ir.node("Shape", [hidden], {"start": 0, "end": 1}, name="layers/rows")
    alone = ir.node("Equal", [rows.outputs[0], constant(graph, [1])], name="layers/alone")
    tokens = ir.node("Shape", [hidden], {"start": 1, "end": 2}, name="layers/tokens")
    index = ir.node("Min", [tokens.outputs[0], end], name="layers/index")
    known = ir.node("Gather", [constant(graph, table), index.outputs[0]], name="layers/known")
    short = ir.node("And", [alone.outputs[0], known.outputs[0]], name="layers/short")
    graph.insert_before(before, [rows, alone, tokens, index, known, short])
    return short.outputs[0]
