"""A mask with a bias by distance: one for all texts of a batch without padding.

The mask is float32 [B, N, S, S], the sum of the bias, which all texts share, and of what hides a
text's padding. Without padding the first row of `attention_mask` is enough: the mask is then
[1, N, S, S], which Attention takes for every text.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant
from bertrt.export.graph.match_relative_bias import biased_mask
from bertrt.export.graph.padding import add_is_unpadded

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
    """Make the Where read the first row of the bools without padding, and all of them otherwise."""
    bools = padding.inputs[0]
    first, one, all_rows = (constant(graph, [number]) for number in (0, 1, _ALL))
    rows = [add_is_unpadded(graph, padding), one, all_rows]
    end = ir.node("Where", rows, name="attention/rows")
    cut = ir.node("Slice", [bools, first, end.outputs[0], first], name="attention/Slice")
    graph.insert_before(padding, [end, cut])
    cut.outputs[0].type = bools.type
    padding.replace_input_with(0, cut.outputs[0])
    _forget_shapes(padding)


def _forget_shapes(padding: ir.Node) -> None:
    """Remove the shapes [B, …] of what hides padding, and of the mask that is a sum with it."""
    hidden = padding.outputs[0]
    for value in (hidden, *(output for node in hidden.consumers() for output in node.outputs)):
        value.shape = None
