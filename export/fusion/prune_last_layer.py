"""Compute the last encoder layer for the first token only, if the head reads no other.

Keys and values still need every token. Query, attention output, both normalizations and the
feed-forward, three quarters of a layer and more, run on [B, 1, H] instead of [B, S, H].
"""

import numpy as np
import onnx_ir as ir

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY
from bertrt.export.graph.edit import add_flag, constant
from bertrt.export.graph.match_first_token import gathers_first_token
from bertrt.export.graph.row_wise import (
    PICKED_SEQUENCE,
    Use,
    internal_values,
    last_layer,
    row_wise_values,
    set_token_axis,
)

__all__ = ["prune_last_layer"]

# The mask among the inputs of Attention, [B, 1, S, S]: it has a row for each query.
_MASK = 3
# The end of a Slice that keeps everything.
_ALL = np.iinfo(np.int64).max


def prune_last_layer(model: ir.Model, *, optional: bool = False) -> int:
    """Slice the last layer's input to the tokens that are read, in place; returns 1 or 0.

    Call this after `fuse_attention` and before `pack_qkv`. Without `optional`, a layer with other
    readers than Gather(x, 0, axis=1) stays as it is.

    Args:
        model: the graph, with Attention on [B, S, H].
        optional: False if the graph's outputs depend on the first token only. True adds an input
            `first_token_only`, one bool, False by default: the caller chooses whether the outputs
            [B, S, H] are [B, 1, H]. The layer's weights are stored once.
    """
    graph = model.graph
    layer = last_layer(graph)
    if layer is None or layer.attention is None:
        return 0
    attention = layer.attention
    starts = [(layer.query, 0), layer.residual_use]
    if len(attention.inputs) > _MASK and attention.inputs[_MASK] is not None:
        starts.append((attention, _MASK))
    values = row_wise_values(graph, starts, gathers_first_token)
    if values is None or attention.outputs[0] not in values:
        return 0
    if any(value.is_graph_output() for value in values) and not optional:
        return 0
    slices = _slice(graph, starts, optional=optional)
    set_token_axis([*slices, *internal_values(values)], tokens=PICKED_SEQUENCE if optional else 1)
    return 1


def _slice(graph: ir.Graph, starts: list[Use], *, optional: bool) -> list[ir.Value]:
    """Make each of `starts` read Slice(value, 0, end) along its queries.

    Returns the slices. Those of hidden states get the shape of the whole value.
    """
    query = starts[0][0]
    scope = str(query.name).partition(".attention")[0]
    zero, one = constant(graph, [0]), constant(graph, [1])
    end = one
    if optional:
        flag = add_flag(graph, FIRST_TOKEN_ONLY)
        choice = ir.node("Where", [flag, one, constant(graph, [_ALL])], name=f"{scope}/Where")
        graph.insert_before(query, choice)
        end = choice.outputs[0]
    slices: dict[ir.Value, ir.Value] = {}
    for node, index in starts:
        value = node.inputs[index]
        if value not in slices:
            is_mask = node.op_type == "Attention"
            axis = constant(graph, [2]) if is_mask else one
            name = f"{scope}/Slice_mask" if is_mask else f"{scope}/Slice"
            cut = ir.node("Slice", [value, zero, end, axis], name=name)
            graph.insert_before(query, cut)
            cut.outputs[0].type = value.type
            cut.outputs[0].shape = None if is_mask else value.shape
            slices[value] = cut.outputs[0]
        node.replace_input_with(index, slices[value])
    return list(slices.values())
