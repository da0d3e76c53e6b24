"""The last layer for the tokens that are read only, from after its attention on.

Keys, values and queries are of all tokens: one product for the three is worth more than the
queries that it could leave out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY, MASKED_ONLY
from bertrt.export.graph.edit import add_flag
from bertrt.export.graph.replace import replace_value
from bertrt.export.lowering.nodes import find, make, only

__all__ = ["keep_first_rows", "keep_masked_rows"]

# What works row by row, and so gives the same numbers for fewer rows. Of AddLayerNorm the first
# and the last input are rows.
_ROW_WISE = {"Linear": (0,), "AddLayerNorm": (0, 4)}
_TRANSFORM = "cls.predictions.transform.dense/Linear"


@dataclass(frozen=True)
class _LastLayer:
    """Where the last layer reads its attention's context and its own input, and what it gives."""

    starts: list[tuple[ir.Node, int]]
    result: ir.Value


def keep_first_rows(model: ir.Model, *, optional: bool = False) -> int:
    """Compute the last layer for the first tokens only, in place; returns how many layers.

    Args:
        model: a graph of the dialect.
        optional: False for a graph whose outputs come of the first tokens alone. True adds an
            input `first_token_only`, one bool, by default False: the caller says whether
            `last_hidden_state` is [B, S, H] or [B, 1, H].

    A layer that more than the first token is read of is left as it is, unless `optional`.
    """
    graph = model.graph
    layer, pack = _last_layer(graph), only(graph, "Pack")
    if layer is None or pack is None:
        return 0
    *_, rows, offsets = pack.outputs
    readers = [node for node in layer.result.consumers() if node.op_type == "SelectRows"]
    first = readers[0].inputs[1] if readers else None
    others = [node for node in layer.result.consumers() if node not in readers]
    if not optional:
        if first is None or others or any(node.inputs[1] is not first for node in readers):
            return 0
        _select(graph, layer.starts, first)
        for node in readers:
            replace_value(node.outputs[0], layer.result)
            graph.remove(node, safe=True)
        return 1
    if any(node.op_type != "Unpack" for node in others):
        return 0
    flag = add_flag(graph, FIRST_TOKEN_ONLY)
    scope = FIRST_TOKEN_ONLY
    picked = make("FirstRows", [offsets, rows, flag], scope)
    # The first of the rows that are left, for what reads the first token alone.
    left = make("PickedOffsets", [picked.outputs[0], offsets], scope)
    again = make("FirstRows", [left.outputs[0], picked.outputs[0]], f"{scope}.again")
    graph.insert_after(pack, [picked, left, again])
    _select(graph, layer.starts, picked.outputs[0])
    for node in readers:
        node.replace_input_with(1, again.outputs[0])
    for node in others:
        _unpack_less(node, flag)
    return 1


def keep_masked_rows(model: ir.Model, mask_id: int) -> int:
    """Add an input `masked_only`, one bool, by default False, in place; returns how many heads.

    With True the vocabulary's logits are those of the tokens that are `mask_id`, [R, 1, V] for R
    masks in the order of the rows of `input_ids`, in place of [B, S, V]. Rows are dropped after
    the last layer's attention, or, where a pooler reads that layer too, before the head.
    """
    graph = model.graph
    layer, pack = _last_layer(graph), only(graph, "Pack")
    transform = next((node for node in graph if node.name == _TRANSFORM), None)
    if layer is None or pack is None or transform is None:
        return 0
    alone = transform.inputs[0] is layer.result and list(layer.result.consumers()) == [transform]
    starts = layer.starts if alone else [(transform, 0)]
    ends = _unpacks(starts)
    if ends is None:
        return 0
    flag = add_flag(graph, MASKED_ONLY)
    picked = make("MaskedRows", [pack.outputs[0], flag], MASKED_ONLY, mask_id=mask_id)
    graph.insert_after(pack, picked)
    _select(graph, starts, picked.outputs[0])
    for node in ends:
        _unpack_less(node, flag)
    return 1


def _last_layer(graph: ir.Graph) -> _LastLayer | None:
    """Attention output, residual, feed-forward and residual after the last PackedAttention."""
    attentions = find(graph, "PackedAttention")
    projection = attentions[-1].inputs[0].producer() if attentions else None
    if projection is None or projection.op_type != "Linear":
        return None
    context, hidden = attentions[-1].outputs[0], projection.inputs[0]
    outputs = list(context.consumers())
    residuals = [use for use in hidden.uses() if use.node is not projection]
    if len(outputs) != 1 or len(residuals) != 1:
        return None
    starts = [(outputs[0], 0), (residuals[0].node, residuals[0].idx)]
    norms = [node for node in _after(starts) if node.op_type == "AddLayerNorm"]
    return _LastLayer(starts, norms[1].outputs[0]) if len(norms) > 1 else None


def _after(starts: Iterable[tuple[ir.Node, int]]) -> list[ir.Node]:
    """The row-wise nodes that work on what `starts` read, in order; others end the search."""
    places, found = set(starts), set()
    nodes = []
    graph = next(iter(places))[0].graph
    for node in graph:
        used = tuple(
            index
            for index, value in enumerate(node.inputs)
            if (node, index) in places or (value is not None and value in found)
        )
        if used and set(used) <= set(_ROW_WISE.get(node.op_type, ())):
            nodes.append(node)
            found.update(node.outputs)
    return nodes


def _unpacks(starts: Iterable[tuple[ir.Node, int]]) -> list[ir.Node] | None:
    """The Unpacks that alone read what comes, row by row, of `starts`; None if others do too."""
    nodes = _after(starts)
    readers = {user for node in nodes for user in node.outputs[0].consumers()} - set(nodes)
    if any(node.outputs[0].is_graph_output() for node in nodes):
        return None
    return list(readers) if all(node.op_type == "Unpack" for node in readers) else None


def _select(graph: ir.Graph, starts: Iterable[tuple[ir.Node, int]], picked: ir.Value) -> None:
    """Have each of `starts` read the picked rows in place of all."""
    for node, index in starts:
        scope = str(node.name).rpartition("/")[0]
        selected = make("SelectRows", [node.inputs[index], picked], scope)
        graph.insert_before(node, selected)
        node.replace_input_with(index, selected.outputs[0])


def _unpack_less(node: ir.Node, flag: ir.Value) -> None:
    """Tell an Unpack of the flag that leaves tokens out."""
    node.resize_inputs(4)
    node.replace_input_with(3, flag)
