"""Smooth the input of the attention output through the values, at no cost.

Attention mixes the values of tokens, not columns, so dividing a column of the values by a factor
divides the same column of the context. The factors go into the value projection's weight and bias,
and their inverses into the output projection's rows: the function stays the same in exact numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import update_stored
from bertrt.export.graph.match_linear import bias_after
from bertrt.export.quantize.linears import QuantizableLinear
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.recipe import smoothing_divisor

__all__ = ["Attention", "attentions", "smooth_values", "with_headroom"]

_OUTPUT = ".attention.output.dense"
# The value projection comes last in a packed one. In a pruned layer the query is separate.
_PACKED = (".attention.self.query_key_value", ".attention.self.key_value")
# More would be more exact on the calibration texts, and clip values of others: see candidates.py.
_EXPONENT = 0.6
# A context is a mean of values, and texts in which a head attends to one token only are rare: "What
# was that?" had 1.5 times the range of 380 other texts, and lost most of its answer.
_HEADROOM = 1.5


@dataclass(frozen=True)
class Attention:
    """The projections around an attention, and where their weights and biases are stored.

    The values are the last columns of `values`, after those of the keys.
    """

    values: QuantizableLinear
    output: QuantizableLinear
    values_weight: ir.Value
    values_bias: ir.Value
    output_weight: ir.Value
    output_bias: ir.Value | None


def attentions(model: ir.Model, linears: Mapping[str, QuantizableLinear]) -> Iterator[Attention]:
    """Yield every attention with both projections among `linears` and a bias of the values.

    An attention whose values are graph outputs, as in a decoder with a cache, is left out: its
    values must not change.
    """
    matmuls = {str(node.name): node for node in model.graph if node.op_type == "MatMul"}
    for name, output in linears.items():
        stem = name.removesuffix(_OUTPUT)
        packed = [linears[stem + ending] for ending in _PACKED if stem + ending in linears]
        if stem == name or len(packed) != 1:
            continue
        values, context = matmuls[packed[0].matmul], matmuls[output.matmul]
        bias = _bias(values)
        if bias is not None and not _is_output(values.outputs[0]):
            yield Attention(
                packed[0], output, values.inputs[1], bias, context.inputs[1], _bias(context)
            )


def smooth_values(
    model: ir.Model, linears: Mapping[str, QuantizableLinear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Smooth the input of every attention output, in place.

    Returns `observed` as it would be of the smoothed graph.
    """
    result = dict(observed)
    for attention in attentions(model, linears):
        output, name = attention.output, attention.output.name
        inputs = observed[name]
        divisor = smoothing_divisor(output.weight, inputs, _EXPONENT)
        factors = np.ones(attention.values.weight.shape[1], dtype=np.float32)
        factors[-len(divisor) :] = 1 / divisor
        bias = attention.values_bias.const_value.numpy()
        update_stored(attention.values_weight, attention.values.weight * factors)
        update_stored(attention.values_bias, bias * factors)
        update_stored(attention.output_weight, output.weight * divisor[:, None])
        result[name] = inputs.divided(divisor)
    return result


def with_headroom(observed: Mapping[str, Observed]) -> dict[str, Observed]:
    """Widen the observed ranges of the inputs of attention outputs; others stay as they are."""
    return {
        name: inputs.widened(_HEADROOM) if name.endswith(_OUTPUT) else inputs
        for name, inputs in observed.items()
    }


def _is_output(value: ir.Value) -> bool:
    """Whether a projection is a graph output, possibly through an attention's second output."""
    if value.is_graph_output():
        return True
    for node in value.consumers():
        if node.op_type in ("Attention", "MultiHeadAttention"):
            if any(output.is_graph_output() for output in node.outputs[1:]):
                return True
        elif any(_is_output(output) for output in node.outputs):
            return True
    return False


def _bias(matmul: ir.Node) -> ir.Value | None:
    found = bias_after(matmul)
    return None if found is None else found[1]
