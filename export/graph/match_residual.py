"""Match a residual block, and shift its input by a constant without changing its output.

A block of BERT is LayerNormalization(y + f(y)), where y is the output of another
LayerNormalization. All other readers of y are linear layers y W + b. They give the same output for
y + c if their bias becomes b - c W. So y can be shifted by any vector c at no cost: its
LayerNormalization adds a bias anyway.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import update_stored
from bertrt.export.graph.match_linear import Linear, linear_at, linear_before
from bertrt.export.graph.values import is_owned, is_read_once

__all__ = ["ResidualBlock", "residual_block"]

# The bias among the inputs of LayerNormalization.
_BIAS = 2
# Operators that select tokens: see prune_last_layer and masked_rows. A linear layer that reads as
# many columns after a Reshape reads whole rows.
_SELECTIONS = ("Slice", "Compress", "Reshape")


@dataclass(frozen=True)
class ResidualBlock:
    """The readers of a normalization: the linear layers `first`, and the residual sum after `last`.

    Attributes:
        norm: the LayerNormalization before the block.
        first: the linear layers that read its output.
        last: the linear layer whose output is added to it.
    """

    norm: ir.Node
    first: list[Linear]
    last: Linear

    def shift(self, change: np.ndarray) -> None:
        """Add a vector [H] to the output of `norm`, and adapt the biases of `first` to it.

        The residual sum changes too: the caller must take the vector off another of its terms.
        """
        bias = self.norm.inputs[_BIAS]
        update_stored(bias, bias.const_value.numpy() + change)
        for layer in self.first:
            weight = layer.weight.const_value.numpy()
            change_of_bias = -change.astype(np.float64) @ weight
            update_stored(layer.bias, layer.bias.const_value.numpy() + change_of_bias)


def residual_block(norm: ir.Node) -> ResidualBlock | None:
    """Return the block after a LayerNormalization.

    None if the normalization is a graph output, has no bias of its own, or has any reader that is
    not part of a block.
    """
    if len(norm.inputs) <= _BIAS or not is_owned(norm.inputs[_BIAS]):
        return None
    if norm.attributes.get_int("axis", -1) != -1:
        return None
    size = norm.inputs[_BIAS].shape[0]
    first: list[Linear] = []
    last: list[Linear] = []
    values = [norm.outputs[0]]
    while values:
        value = values.pop()
        if value.is_graph_output():
            return None
        for node, index in value.uses():
            if node.op_type in _SELECTIONS and index == 0:
                values.append(node.outputs[0])
                continue
            layer = linear_at(node) if index == 0 else None
            other_term = linear_before(node.inputs[1 - index]) if node.op_type == "Add" else None
            if layer is not None and layer.weight.shape[0] == size:
                first.append(layer)
            elif other_term is not None and is_read_once(other_term.add.outputs[0]):
                last.append(other_term)
            elif node.op_type != "Shape":
                return None
    if len(last) != 1 or last[0].bias.shape[0] != size:
        return None
    return ResidualBlock(norm, first, last[0])
