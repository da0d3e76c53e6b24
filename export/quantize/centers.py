"""Shift each input column of linear layers to the middle of its range, at no cost.

A column from 6 to 12 needs as coarse a scale as one from -12 to 12, unless it is shifted by 9 (Wei
et al. 2023, arXiv:2304.09145). The output of a normalization is shifted by its bias, and the values
of an attention by theirs, since attention weights sum to 1. The biases of the layers that read
them, and of the residual sum, compensate: the function stays the same in exact numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import update_stored
from bertrt.export.graph.match_residual import residual_block
from bertrt.export.quantize.linears import QuantizableLinear
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.values import attentions

__all__ = ["center_inputs"]


def center_inputs(
    model: ir.Model, linears: Mapping[str, QuantizableLinear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Center the inputs that linear layers read from normalizations and attentions, in place.

    A normalization that is an output, or that has readers outside a residual block, stays as it is,
    and so does an attention with a projection without bias. Returns `observed` as it would be of
    the new graph.
    """
    result = dict(observed)
    names = {linear.matmul: name for name, linear in linears.items()}
    for norm in [node for node in model.graph if node.op_type == "LayerNormalization"]:
        block = residual_block(norm)
        if block is None:
            continue
        matmuls = [str(layer.matmul.name) for layer in block.first]
        readers = [names[matmul] for matmul in matmuls if matmul in names]
        if not readers:
            continue
        middle = _recenter(result, readers)
        block.shift(-middle)
        _add(block.last.bias, middle)
    for attention in attentions(model, linears):
        if attention.output_bias is None:
            continue
        middle = _recenter(result, [attention.output.name])
        change = np.zeros(attention.values.weight.shape[1])
        change[-len(middle) :] = middle
        _add(attention.values_bias, -change)
        _add(attention.output_bias, middle @ attention.output.weight)
    return result


def _recenter(observed: dict[str, Observed], names: Sequence[str]) -> np.ndarray:
    """Shift what these layers read by the middle of their common ranges, and return it.

    The middle is float64 [K].
    """
    inputs = [observed[name] for name in names]
    low = np.min([entry.low for entry in inputs], axis=0).astype(np.float64)
    high = np.max([entry.high for entry in inputs], axis=0)
    middle: np.ndarray = (low + high) / 2
    for name, entry in zip(names, inputs, strict=True):
        observed[name] = entry.shifted(-middle)
    return middle


def _add(stored: ir.Value, change: np.ndarray) -> None:
    update_stored(stored, stored.const_value.numpy() + change)
