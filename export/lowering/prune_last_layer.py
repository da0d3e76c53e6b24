"""Compute the last layer, from after its attention on, for the tokens that are read only.

Queries, keys and values are computed for all tokens: one product for the three gains more than
leaving out queries would.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY, MASKED_ONLY
from bertrt.export.graph.edit import add_flag, replace_value
from bertrt.export.graph.row_wise import Use
from bertrt.export.lowering.nodes import find_nodes, make_node, only_node

__all__ = ["keep_first_rows", "keep_masked_rows"]

# Operators that process each row independently, and which of their inputs are rows.
_ROW_INPUTS = {"Linear": (0,), "AddLayerNorm": (0, 4)}
_TRANSFORM = "cls.predictions.transform.dense/Linear"


@dataclass(frozen=True)
class _LastLayer:
    """The uses of the last layer's attention context and of its input, and the layer's output."""

    starts: list[Use]
    result: ir.Value


def keep_first_rows(model: ir.Model, *, optional: bool = False) -> int:
    """Compute the last layer for first tokens only, in place; returns the number of layers.

    Without `optional`, a layer whose other tokens are read too stays as it is.

    Args:
        model: the lowered graph.
        optional: False if the graph's outputs depend on the first tokens only. True adds an input
            `first_token_only`, one bool, False by default: the caller chooses whether
            `last_hidden_state` is [B, S, H] or [B, 1, H].
    """
    graph = model.graph
    layer, pack = _last_layer(graph), only_node(graph, "Pack")
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
    picked = make_node("FirstRows", [offsets, rows, flag], scope)
    # Of the picked rows, the first of each text, for nodes that read the first token only.
    picked_offsets = make_node("PickedOffsets", [picked.outputs[0], offsets], scope)
    first_picked = make_node(
        "FirstRows", [picked_offsets.outputs[0], picked.outputs[0]], f"{scope}.again"
    )
    graph.insert_after(pack, [picked, picked_offsets, first_picked])
    _select(graph, layer.starts, picked.outputs[0])
    for node in readers:
        node.replace_input_with(1, first_picked.outputs[0])
    for node in others:
        _add_flag_input(node, flag)
    return 1


def keep_masked_rows(model: ir.Model, mask_id: int) -> int:
    """Add an input `masked_only`, one bool, False by default, in place; returns 1 or 0.

    With True the vocabulary's logits are those of the tokens equal to `mask_id`, [R, 1, V] for R
    masks in the order of the rows of `input_ids`, instead of [B, S, V]. Rows are dropped after the
    last layer's attention, or, if a pooler reads that layer too, before the head.
    """
    graph = model.graph
    layer, pack = _last_layer(graph), only_node(graph, "Pack")
    transform = next((node for node in graph if node.name == _TRANSFORM), None)
    if layer is None or pack is None or transform is None:
        return 0
    only_reader = transform.inputs[0] is layer.result and list(layer.result.consumers()) == [
        transform
    ]
    starts = layer.starts if only_reader else [(transform, 0)]
    unpacks = _unpacks_after(starts)
    if unpacks is None:
        return 0
    flag = add_flag(graph, MASKED_ONLY)
    picked = make_node("MaskedRows", [pack.outputs[0], flag], MASKED_ONLY, mask_id=mask_id)
    graph.insert_after(pack, picked)
    _select(graph, starts, picked.outputs[0])
    for node in unpacks:
        _add_flag_input(node, flag)
    return 1


def _last_layer(graph: ir.Graph) -> _LastLayer | None:
    """Find attention output, residual, feed-forward and residual after the last PackedAttention."""
    attentions = find_nodes(graph, "PackedAttention")
    projection = attentions[-1].inputs[0].producer() if attentions else None
    if projection is None or projection.op_type != "Linear":
        return None
    context, hidden = attentions[-1].outputs[0], projection.inputs[0]
    outputs = list(context.consumers())
    residuals = [use for use in hidden.uses() if use.node is not projection]
    if len(outputs) != 1 or len(residuals) != 1:
        return None
    starts = [(outputs[0], 0), (residuals[0].node, residuals[0].idx)]
    norms = [node for node in _row_wise_nodes(starts) if node.op_type == "AddLayerNorm"]
    return _LastLayer(starts, norms[1].outputs[0]) if len(norms) > 1 else None


def _row_wise_nodes(starts: Iterable[Use]) -> list[ir.Node]:
    """Return the row-wise nodes that compute from what `starts` read, in order.

    Any other node ends the search.
    """
    first, found = set(starts), set()
    nodes = []
    graph = next(iter(first))[0].graph
    for node in graph:
        used = tuple(
            index
            for index, value in enumerate(node.inputs)
            if (node, index) in first or (value is not None and value in found)
        )
        if used and set(used) <= set(_ROW_INPUTS.get(node.op_type, ())):
            nodes.append(node)
            found.update(node.outputs)
    return nodes


def _unpacks_after(starts: Iterable[Use]) -> list[ir.Node] | None:
    """Return the Unpacks that read the row-wise results of `starts`; None if other nodes do too."""
    nodes = _row_wise_nodes(starts)
    readers = {user for node in nodes for user in node.outputs[0].consumers()} - set(nodes)
    if any(node.outputs[0].is_graph_output() for node in nodes):
        return None
    return list(readers) if all(node.op_type == "Unpack" for node in readers) else None


def _select(graph: ir.Graph, starts: Iterable[Use], picked: ir.Value) -> None:
    """Make each of `starts` read the picked rows only."""
    for node, index in starts:
        scope = str(node.name).rpartition("/")[0]
        selected = make_node("SelectRows", [node.inputs[index], picked], scope)
        graph.insert_before(node, selected)
        node.replace_input_with(index, selected.outputs[0])


def _add_flag_input(unpack: ir.Node, flag: ir.Value) -> None:
    """Give an Unpack the flag that leaves tokens out."""
    unpack.resize_inputs(4)
    unpack.replace_input_with(3, flag)
