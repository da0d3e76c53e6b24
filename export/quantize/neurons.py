"""Sort a feed-forward's neurons by their range, so that outlier columns are adjacent.

The activation between the two linear layers works on each number alone, so the first layer's
columns may be in any order if the second layer's rows are too: the function stays the same. With
the widest last, a Slice cuts off the columns that a recipe keeps in float32, and copies each
token's in one piece. A Gather copies them one by one.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import update_stored
from bertrt.export.graph.match_linear import bias_after
from bertrt.export.graph.values import is_owned, is_read_once
from bertrt.export.quantize.linears import QuantizableLinear
from bertrt.export.quantize.observe import Observed

__all__ = ["sort_neurons"]

_ACTIVATIONS = ("Gelu", "Relu", "Tanh", "Sigmoid", "Elu", "HardSwish", "Mish", "Softplus")


def sort_neurons(
    model: ir.Model, linears: Mapping[str, QuantizableLinear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Sort the neurons of every feed-forward by their range, in place.

    A layer stays as it is unless its input is an activation, one operator, of a linear layer that
    nothing else reads. Returns `observed` as it would be of the new graph.
    """
    matmuls = {str(node.name): node for node in model.graph if node.op_type == "MatMul"}
    result = dict(observed)
    for name, linear in linears.items():
        second = matmuls[linear.matmul]
        first = _first_layer(second)
        if first is None:
            continue
        inputs = observed[name]
        order = np.argsort(inputs.spread, kind="stable")
        found = bias_after(first)
        if found is not None:
            _, bias = found
            update_stored(bias, bias.const_value.numpy()[order])
        update_stored(first.inputs[1], first.inputs[1].const_value.numpy()[:, order])
        update_stored(second.inputs[1], second.inputs[1].const_value.numpy()[order])
        result[name] = inputs.ordered(order)
    return result


def _first_layer(second: ir.Node) -> ir.Node | None:
    """Return the MatMul of the first layer of a feed-forward, given that of the second."""
    activation = second.inputs[0].producer()
    if activation is None or activation.op_type not in _ACTIVATIONS:
        return None
    values = [second.inputs[0], activation.inputs[0]]
    node = values[1].producer()
    if node is not None and node.op_type == "Add":
        for term in node.inputs:
            product = term.producer()
            found = None if product is None else bias_after(product)
            if found is not None and found[0] is node:
                values.append(term)
                node = product
                break
    if node is None or node.op_type != "MatMul":
        return None
    read_once = all(is_read_once(value) for value in values)
    owned = all(is_owned(matmul.inputs[1]) for matmul in (node, second))
    return node if read_once and owned else None
