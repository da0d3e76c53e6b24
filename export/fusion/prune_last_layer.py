"""The last encoder layer computed for the first token only, where a head reads no other.

Keys and values are still made of every token. Query, attention output, both normalizations and
the feed-forward, three quarters of a layer and more, are run on [B, 1, H] in place of [B, S, H].
"""

import numpy as np
import onnx_ir as ir

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY
from bertrt.export.graph.edit import add_flag, constant
from bertrt.export.graph.row_wise import Use, inner, last_layer, narrow, row_wise

__all__ = ["prune_last_layer", "reads_the_first_token"]


# Attention's input with a row for each query: [B, 1, S, S].
_MASK = 3
# Where a Slice ends that keeps everything.
_ALL = np.iinfo(np.int64).max


def prune_last_layer(model: ir.Model, *, optional: bool = False) -> int:
    """Cut the last layer's input to the tokens that are read, in place; returns how many layers.

    Args:
        model: a graph with Attention on [B, S, H], its query not yet packed with key and value.
        optional: False for a graph whose outputs come of the first token alone. True adds an input
            `first_token_only`, one bool, by default False: the caller says whether the outputs
            [B, S, H] are to be [B, 1, H]. There is one copy of the layer's weights either way.

    A layer that more than the first token is read of is left as it is, unless `optional`.
    """
    graph = model.graph
    layer = last_layer(graph)
    if layer is None or layer.attention is None:
        return 0
    attention = layer.attention
    starts = [(layer.query, 0), layer.residual_use]
    if len(attention.inputs) > _MASK and attention.inputs[_MASK] is not None:
        starts.append((attention, _MASK))
    values = row_wise(graph, starts, reads_the_first_token)
    if values is None or attention.outputs[0] not in values:
        return 0
    if any(value.is_graph_output() for value in values) and not optional:
        return 0
    pieces = _cut(graph, starts, optional=optional)
    narrow([*pieces, *inner(values)], tokens="kept_sequence" if optional else 1)
    return 1


def reads_the_first_token(node: ir.Node) -> bool:
    """Gather(x, 0, axis=1), as poolers begin."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 1:
        return False
    index = node.inputs[1].const_value
    return index is not None and index.numpy().tolist() == 0


def _cut(graph: ir.Graph, starts: list[Use], *, optional: bool) -> list[ir.Value]:
    """Have each of `starts` read Slice(value, 0, end) along its queries in place of the value.

    Returns the slices, those of hidden states with the shape that these had.
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
    cut: dict[ir.Value, ir.Value] = {}
    for node, index in starts:
        value = node.inputs[index]
        if value not in cut:
            is_mask = node.op_type == "Attention"
            axis = constant(graph, [2]) if is_mask else one
            name = f"{scope}/Slice_mask" if is_mask else f"{scope}/Slice"
            piece = ir.node("Slice", [value, zero, end, axis], name=name)
            graph.insert_before(query, piece)
            piece.outputs[0].type = value.type
            piece.outputs[0].shape = None if is_mask else value.shape
            cut[value] = piece.outputs[0]
        node.replace_input_with(index, cut[value])
    return list(cut.values())
