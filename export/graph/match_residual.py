"""What reads a LayerNormalization between two residual sums, and a constant on its way through it.

A block of BERT is LayerNormalization(y + f(y)), where y comes of another LayerNormalization.
Whatever else reads y is a linear layer y W + b, which gives the same of y + c with b - c W for b.
So y can be moved by any vector c, which costs nothing, since its normalization adds a bias anyway.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.match_linear import Linear, linear_at, linear_before, owned

__all__ = ["ResidualBlock", "add_to", "residual_block"]

# LayerNormalization's input that is added at its end.
_BIAS = 2
# What picks tokens, where only some are read: see prune_last_layer and masked_rows. A Reshape keeps
# whole whatever a linear layer of as many columns then reads.
_PICKS = ("Slice", "Compress", "Reshape")


@dataclass(frozen=True)
class ResidualBlock:
    """What reads the normalization `norm`: the linear layers `first`, and the sum after `last`."""

    norm: ir.Node
    first: list[Linear]
    last: Linear

    def move(self, change: np.ndarray) -> None:
        """Add a vector [H] to what `norm` gives, in place; the layers `first` do not notice.

        The residual sum does: its terms have to lose as much elsewhere.
        """
        add_to(self.norm.inputs[_BIAS], change)
        for layer in self.first:
            weight = layer.weight.const_value.numpy()
            add_to(layer.bias, -change.astype(np.float64) @ weight)


def residual_block(norm: ir.Node) -> ResidualBlock | None:
    """The block after a normalization; None where something else reads that, or it is an output."""
    if len(norm.inputs) <= _BIAS or not owned(norm.inputs[_BIAS]):
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
            if node.op_type in _PICKS and index == 0:
                values.append(node.outputs[0])
                continue
            layer = linear_at(node) if index == 0 else None
            summed = linear_before(node.inputs[1 - index]) if node.op_type == "Add" else None
            if layer is not None and layer.weight.shape[0] == size:
                first.append(layer)
            elif summed is not None and _read_once(summed.add.outputs[0]):
                last.append(summed)
            elif node.op_type != "Shape":
                return None
    if len(last) != 1 or last[0].bias.shape[0] != size:
        return None
    return ResidualBlock(norm, first, last[0])


def add_to(stored: ir.Value, change: np.ndarray) -> None:
    """Add to a stored float32 tensor, in place."""
    data = (stored.const_value.numpy() + change).astype(np.float32)
    stored.const_value = ir.tensor(data, name=stored.name)


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()
