"""Residual sums without a bias of their own: the normalization before brings it along.

A block of BERT is LayerNormalization(y + f(y) + c), where y comes of another LayerNormalization
and c is the bias of f's last linear layer. With y + c in the place of y, which costs nothing since
that normalization adds a bias too, no Add is left for c. Whatever else reads y is a linear layer
y W + b, and gets the same from (y + c) W + (b - c W).
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.fusion.linear import Linear, linear_at, linear_before, owned

__all__ = ["fold_residual_biases"]

# LayerNormalization's input that is added at its end.
_BIAS = 2
# What picks tokens, where only some are read: see prune_last_layer and masked_rows. A Reshape keeps
# whole whatever a linear layer of as many columns then reads.
_PICKS = ("Slice", "Compress", "Reshape")


@dataclass(frozen=True)
class _Block:
    """What reads a normalization: linear layers, and a sum with what the layer `last` gives."""

    first: list[Linear]
    last: Linear


def fold_residual_biases(model: ir.Model) -> int:
    """Move the bias of each residual sum into the LayerNormalization before, in place.

    The new biases are computed in float64. A normalization that is an output, or that anything but
    a block reads, is left alone. Returns how many biases were moved.
    """
    graph = model.graph
    count = 0
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        block = _block(norm)
        if block is None:
            continue
        moved = block.last.drop_bias(graph).astype(np.float64)
        _add(norm.inputs[_BIAS], moved)
        for layer in block.first:
            _add(layer.bias, -moved @ layer.weight.const_value.numpy())
        count += 1
    return count


def _block(norm: ir.Node) -> _Block | None:
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
    return _Block(first, last[0])


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _add(stored: ir.Value, change: np.ndarray) -> None:
    data = (stored.const_value.numpy() + change).astype(np.float32)
    stored.const_value = ir.tensor(data, name=stored.name)
