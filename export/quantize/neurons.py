"""A feed-forward's neurons in the order of their range, so that outlier columns lie side by side.

The activation between the two linear layers takes each number by itself, so the first layer's
columns may be in any order if the second layer's rows are too: the same function. With the widest
last, the columns that a recipe keeps in float32 are cut off by a Slice, which copies each token's
in one piece. A Gather takes them one by one.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import replace
from bertrt.export.graph.match_linear import owned
from bertrt.export.quantize.linears import Linear, bias_add, stored_bias
from bertrt.export.quantize.observe import Observed

__all__ = ["sort_neurons"]

_ACTIVATIONS = ("Gelu", "Relu", "Tanh", "Sigmoid", "Elu", "HardSwish", "Mish", "Softplus")


def sort_neurons(
    model: ir.Model, linears: Mapping[str, Linear], observed: Mapping[str, Observed]
) -> dict[str, Observed]:
    """Order the neurons of every feed-forward by their range, in place.

    Returns `observed` as it would be of the new graph. A layer whose input is not an activation,
    one operator, of a linear layer that is read by nothing else is left as it is.
    """
    matmuls = {str(node.name): node for node in model.graph if node.op_type == "MatMul"}
    result = dict(observed)
    for name, linear in linears.items():
        second = matmuls[linear.matmul]
        before = _linear_before(second)
        if before is None:
            continue
        seen = observed[name]
        order = np.argsort(seen.spread, kind="stable")
        add = bias_add(before)
        bias = None if add is None else stored_bias(add, before)
        if bias is not None:
            replace(bias, bias.const_value.numpy()[order])
        replace(before.inputs[1], before.inputs[1].const_value.numpy()[:, order])
        replace(second.inputs[1], second.inputs[1].const_value.numpy()[order])
        result[name] = seen.ordered(order)
    return result


def _linear_before(matmul: ir.Node) -> ir.Node | None:
    """The MatMul whose product, with its bias, an activation turns into what this one reads."""
    activation = matmul.inputs[0].producer()
    if activation is None or activation.op_type not in _ACTIVATIONS:
        return None
    values = [matmul.inputs[0], activation.inputs[0]]
    node = values[1].producer()
    if node is not None and node.op_type == "Add":
        for term in node.inputs:
            product = term.producer()
            if product is not None and bias_add(product) is node:
                values.append(term)
                node = product
                break
    if node is None or node.op_type != "MatMul":
        return None
    alone = all(len(value.uses()) == 1 and not value.is_graph_output() for value in values)
    own = all(owned(one.inputs[1]) for one in (node, matmul))
    return node if alone and own else None
