"""A linear layer as it stands in a graph: the product with a stored matrix, and a stored bias."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.fusion.replace import take_over

__all__ = ["Linear", "linear_at", "linear_before", "owned"]


@dataclass(frozen=True)
class Linear:
    """MatMul by a stored [K, N], then Add of a stored [N], both read by nothing else."""

    matmul: ir.Node
    add: ir.Node
    weight: ir.Value
    bias: ir.Value

    def drop_bias(self, graph: ir.Graph) -> np.ndarray:
        """Leave the product alone, in place; returns the bias that it had, float32 [N]."""
        bias: np.ndarray = self.bias.const_value.numpy()
        take_over(self.add.outputs[0], self.matmul.outputs[0])
        graph.remove(self.add, safe=True)
        graph.initializers.pop(self.bias.name)
        return bias


def linear_at(matmul: ir.Node) -> Linear | None:
    """The linear layer that begins with this MatMul, if one does."""
    product = matmul.outputs[0]
    if matmul.op_type != "MatMul" or product.is_graph_output() or len(product.uses()) != 1:
        return None
    (add,) = product.consumers()
    if add.op_type != "Add":
        return None
    weight = matmul.inputs[1]
    bias = add.inputs[1] if add.inputs[0] is product else add.inputs[0]
    if not (owned(weight) and owned(bias)):
        return None
    columns = weight.shape[-1]
    if weight.shape.rank() != 2 or bias.shape != (columns,):
        return None
    return Linear(matmul, add, weight, bias)


def linear_before(value: ir.Value) -> Linear | None:
    """The linear layer that gives this value, if one does."""
    add = value.producer()
    for term in () if add is None else add.inputs:
        product = None if term is None else term.producer()
        found = None if product is None else linear_at(product)
        if found is not None and found.add is add:
            return found
    return None


def owned(value: ir.Value | None) -> bool:
    """Whether this is a stored tensor that one node reads."""
    return (
        value is not None
        and value.is_initializer()
        and not value.is_graph_input()
        and not value.is_graph_output()
        and len(value.uses()) == 1
    )
