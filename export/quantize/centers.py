"""Inputs moved to the middle of their ranges, column by column: it costs nothing.

A column from 6 to 12 needs as coarse a scale as one from -12 to 12, unless it is moved by 9 (Wei
et al. 2023, arXiv:2304.09145). What a normalization gives is moved by its bias, and the values of
an attention by theirs, since its weights add up to 1; the biases of the layers that read them, and
of the residual sum, make up for it: the same function in exact numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.match_residual import add_to, residual_block
from bertrt.export.quantize.linears import Linear
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.values import attentions

__all__ = ["center_inputs"]


def center_inputs(
    model: ir.Model, linears: Mapping[str, Linear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Center what linear layers read of normalizations and of attentions, in place.

    Returns `observed` as it would be of the new graph. A normalization that is an output, or that
    anything but a residual block reads, is left as it is, and so is an attention one of whose
    projections has no bias.
    """
    result = dict(observed)
    names = {linear.matmul: name for name, linear in linears.items()}
    for norm in [node for node in model.graph if node.op_type == "LayerNormalization"]:
        block = residual_block(norm)
        if block is None:
            continue
        matmuls = [str(layer.matmul.name) for layer in block.first]
        readers = [names[one] for one in matmuls if one in names]
        if not readers:
            continue
        middle = _recenter(result, readers)
        block.move(-middle)
        add_to(block.last.bias, middle)
    for attention in attentions(model, linears):
        if attention.output_bias is None:
            continue
        middle = _recenter(result, [attention.output.name])
        change = np.zeros(attention.values.weight.shape[1])
        change[-len(middle) :] = middle
        add_to(attention.values_bias, -change)
        add_to(attention.output_bias, middle @ attention.output.weight)
    return result


def _recenter(observed: dict[str, Observed], names: Sequence[str]) -> np.ndarray:
    """The middle [K] of what these layers read, float64, which is taken off all of them."""
    seen = [observed[name] for name in names]
    low = np.min([one.low for one in seen], axis=0).astype(np.float64)
    high = np.max([one.high for one in seen], axis=0)
    middle: np.ndarray = (low + high) / 2
    for name, one in zip(names, seen, strict=True):
        observed[name] = one.moved(-middle)
    return middle
