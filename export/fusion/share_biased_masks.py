"""A mask with a bias by distance: one for all texts of a batch without padding.

The mask is float32 [B, N, S, S], the sum of the bias, which all texts share, and of what hides a
text's padding. Without padding it is the same for all. Then the first row of `attention_mask` is
enough: the mask is [1, N, S, S], which Attention takes for every text.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant
from bertrt.export.graph.match_relative_bias import biased_mask

__all__ = ["share_biased_masks"]

# The end of a Slice that keeps everything.
_ALL = np.iinfo(np.int64).max


def share_biased_masks(model: ir.Model) -> int:
    """Make the mask of the first text only if no token is padding, in place; returns the count.

    A mask without a bias stays as it is.
    """
    graph = model.graph
    masks = [mask for node in graph if (mask := biased_mask(node.outputs[0])) is not None]
    for padding in dict.fromkeys(mask.padding for mask in masks):
        _keep_first_row(graph, padding)
    return len(masks)


def _keep_first_row(graph: ir.Graph, padding: ir.Node) -> None:
    """Make the Where read Slice(mask, 0, 1) without padding, and all of the mask otherwise."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    bools = padding.inputs[0]
    first, rows = constant(graph, [0]), constant(graph, [1])
    least = ir.node("ReduceMin", [mask], {"keepdims": 0}, name="attention/least")
    full = ir.node("Cast", [least.outputs[0]], {"to": ir.DataType.BOOL}, name="attention/full")
    choice = ir.node("Where", [full.outputs[0], rows, constant(graph, [_ALL])], name="attention/end")
    cut = ir.node("Slice", [bools, first, choice.outputs[0], first], name="attention/Slice")
    graph.insert_before(padding, [least, full, choice, cut])
    cut.outputs[0].type = bools.type
    padding.replace_input_with(0, cut.outputs[0])
    _forget_shapes(padding)


def _forget_shapes(padding: ir.Node) -> None:
    """Remove the shapes [B, …] of the mask and of what it is the sum of."""
    value = padding.outputs[0]
    for shaped in (value, *(out for node in value.consumers() for out in node.outputs)):
        shaped.shape = None
