"""A linear layer as it stands in a graph: the product with a stored matrix, and a stored bias."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.replace import replace_value

__all__ = ["Linear", "bias_after", "linear_at", "linear_before", "owned"]


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
        replace_value(self.add.outputs[0], self.matmul.outputs[0])
        graph.remove(self.add, safe=True)
        graph.initializers.pop(self.bias.name)
        return bias


def linear_at(matmul: ir.Node) -> Linear | None:
    """The linear layer that begins with this MatMul, if one does."""
    if matmul.op_type != "MatMul":
        return None
    weight = matmul.inputs[1]
    if not owned(weight) or weight.shape.rank() != 2:
        return None
    found = bias_after(matmul, weight.shape[-1])
    return None if found is None else Linear(matmul, found[0], weight, found[1])


def bias_after(product: ir.Node, size: int) -> tuple[ir.Node, ir.Value] | None:
    """The Add of a stored [size] that alone reads a product, and what it adds, if there is one."""
    value = product.outputs[0]
    if value.is_graph_output() or len(value.uses()) != 1:
        return None
    (add,) = value.consumers()
    if add.op_type != "Add":
        return None
    bias = add.inputs[1] if add.inputs[0] is value else add.inputs[0]
    return (add, bias) if owned(bias) and bias.shape == (size,) else None


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
