"""Smoothing of what the attention output reads, folded into the values: it costs nothing.

Attention mixes the values of tokens, not columns, so a column of the values divided by a factor
is a column of the context divided by it. The factors go into the value projection's weight and
bias, and their inverses into the output projection's rows: the same function in exact numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import replace
from bertrt.export.quantize.linears import Linear, bias_add, stored_bias
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.recipe import smoothing_divisor

__all__ = ["Attention", "attentions", "smooth_values", "with_headroom"]

_OUTPUT = ".attention.output.dense"
# The value projection stands last in what it is packed with; in a pruned layer the query is apart.
_PACKED = (".attention.self.query_key_value", ".attention.self.key_value")
# More would be nearer on the calibration texts, and cut off what others hold: see ladder.py.
_EXPONENT = 0.6
# A context is a mean of values, and the texts in which a head reads one token alone are rare: "What
# was that?" came to 1.5 times the range of 380 others, and lost most of its answer by that.
_HEADROOM = 1.5


@dataclass(frozen=True)
class Attention:
    """The projections around an attention, and where their weights and biases are stored.

    The columns of the values are the last ones of `values`, with those of the keys before them.
    """

    values: Linear
    output: Linear
    values_weight: ir.Value
    values_bias: ir.Value
    output_weight: ir.Value
    output_bias: ir.Value | None


def attentions(model: ir.Model, linears: Mapping[str, Linear]) -> Iterator[Attention]:
    """Every attention whose two projections are both among `linears`, and whose values have a bias.

    One whose values the graph shows, as a decoder does that keeps them for the next token, is not
    among them, since they have to stay as they are.
    """
    matmuls = {str(node.name): node for node in model.graph if node.op_type == "MatMul"}
    for name, output in linears.items():
        stem = name.removesuffix(_OUTPUT)
        packed = [linears[stem + end] for end in _PACKED if stem + end in linears]
        if stem == name or len(packed) != 1:
            continue
        values, context = matmuls[packed[0].matmul], matmuls[output.matmul]
        bias = _bias(values)
        if bias is not None and not _shown(values.outputs[0]):
            yield Attention(
                packed[0], output, values.inputs[1], bias, context.inputs[1], _bias(context)
            )


def smooth_values(
    model: ir.Model, linears: Mapping[str, Linear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Smooth the input of every attention output, in place.

    Returns `observed` as it would be of the smoothed graph.
    """
    result = dict(observed)
    for attention in attentions(model, linears):
        output, name = attention.output, attention.output.name
        seen = observed[name]
        divisor = smoothing_divisor(output.weight, seen, _EXPONENT)
        factors = np.ones(attention.values.weight.shape[1], dtype=np.float32)
        factors[-len(divisor) :] = 1 / divisor
        replace(attention.values_weight, attention.values.weight * factors)
        replace(attention.values_bias, attention.values_bias.const_value.numpy() * factors)
        replace(attention.output_weight, output.weight * divisor[:, None])
        result[name] = seen.divided(divisor)
    return result


def with_headroom(observed: Mapping[str, Observed]) -> dict[str, Observed]:
    """Wider ranges of what attention outputs read, and of the other layers the same."""
    return {
        name: seen.widened(_HEADROOM) if name.endswith(_OUTPUT) else seen
        for name, seen in observed.items()
    }


def _shown(value: ir.Value) -> bool:
    """Whether a projection is an output of the graph, or of an attention beside its context."""
    if value.is_graph_output():
        return True
    for node in value.consumers():
        if node.op_type in ("Attention", "MultiHeadAttention"):
            if any(one.is_graph_output() for one in node.outputs[1:]):
                return True
        elif any(_shown(one) for one in node.outputs):
            return True
    return False


def _bias(matmul: ir.Node) -> ir.Value | None:
    add = bias_add(matmul)
    return None if add is None else stored_bias(add, matmul)
