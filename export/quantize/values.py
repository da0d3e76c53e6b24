"""Smoothing of what the attention output reads, folded into the values: it costs nothing.

Attention mixes the values of tokens, not columns, so a column of the values divided by a factor
is a column of the context divided by it. The factors go into the value projection's weight and
bias, and their inverses into the output projection's rows: the same function in exact numbers.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bertrt.export.fusion.stored import replace
from bertrt.export.quantize.linears import Linear, bias_add, stored_bias
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.recipe import smoothing_divisor

__all__ = ["smooth_values"]

_OUTPUT = ".attention.output.dense"
# The value projection stands last in what it is packed with; in a pruned layer the query is apart.
_PACKED = (".attention.self.query_key_value", ".attention.self.key_value")
# More would be nearer on the calibration texts, and cut off what others hold: see ladder.py.
_EXPONENT = 0.6


def smooth_values(
    model: ir.Model, linears: Mapping[str, Linear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Smooth the input of every attention output, in place.

    Returns `observed` as it would be of the smoothed graph. A layer whose two projections are not
    both among `linears` is left as it is.
    """
    matmuls = {str(node.name): node for node in model.graph if node.op_type == "MatMul"}
    result = dict(observed)
    for name, output in linears.items():
        stem = name.removesuffix(_OUTPUT)
        packed = [linears[stem + end] for end in _PACKED if stem + end in linears]
        if stem == name or len(packed) != 1 or packed[0].bias is None:
            continue
        seen = observed[name]
        divisor = smoothing_divisor(output.weight, seen, _EXPONENT)
        factors = np.ones(packed[0].weight.shape[1], dtype=np.float32)
        factors[-len(divisor) :] = 1 / divisor
        values, context = matmuls[packed[0].matmul], matmuls[output.matmul]
        add = bias_add(values)
        assert add is not None
        bias = stored_bias(add, values)
        assert bias is not None
        replace(values.inputs[1], packed[0].weight * factors)
        replace(bias, packed[0].bias * factors)
        replace(context.inputs[1], output.weight * divisor[:, None])
        result[name] = Observed(seen.low / divisor, seen.high / divisor, seen.sample / divisor)
    return result
