"""Match linear layers: a product with a stored matrix, and the stored bias that is added to it."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.values import is_owned, is_read_once, is_stored, is_stored_vector

__all__ = [
    "Linear",
    "bias_after",
    "is_output_major_product",
    "linear_at",
    "linear_before",
    "stored_matrix",
]


@dataclass(frozen=True)
class Linear:
    """MatMul by a stored [K, N], then Add of a stored [N]; nothing else reads either tensor."""

    matmul: ir.Node
    add: ir.Node
    weight: ir.Value
    bias: ir.Value

    def drop_bias(self, graph: ir.Graph) -> np.ndarray:
        """Remove the Add, whose sum must not be a graph output; returns the bias, float32 [N]."""
        bias: np.ndarray = self.bias.const_value.numpy()
        self.add.outputs[0].replace_all_uses_with(self.matmul.outputs[0])
        graph.remove(self.add, safe=True)
        graph.initializers.pop(self.bias.name)
        return bias


def linear_at(matmul: ir.Node) -> Linear | None:
    """Return the linear layer that starts with this node, or None."""
    if matmul.op_type != "MatMul":
        return None
    weight = matmul.inputs[1]
    if not is_owned(weight) or weight.shape.rank() != 2:
        return None
    found = bias_after(matmul, size=weight.shape[-1])
    return None if found is None else Linear(matmul, found[0], weight, found[1])


def linear_before(value: ir.Value) -> Linear | None:
    """Return the linear layer whose output is this value, or None."""
    add = value.producer()
    for term in () if add is None else add.inputs:
        product = None if term is None else term.producer()
        found = None if product is None else linear_at(product)
        if found is not None and found.add is add:
            return found
    return None


def bias_after(product: ir.Node, *, size: int | None = None) -> tuple[ir.Node, ir.Value] | None:
    """Return the Add of a stored vector that is the only reader of a product, and the vector.

    With `size`, the vector must have that many entries and no other reader.
    """
    value = product.outputs[0]
    if not is_read_once(value):
        return None
    ((add, index),) = value.uses()
    if add.op_type != "Add":
        return None
    bias = add.inputs[1 - index]
    if not is_stored_vector(bias):
        return None
    if size is not None and not (is_owned(bias) and bias.shape == (size,)):
        return None
    return add, bias


def stored_matrix(value: ir.Value) -> tuple[ir.Value, bool] | None:
    """Return the stored matrix behind a value, and whether the value is its transpose.

    The value is the matrix itself or the output of a Transpose of it, as for tied embeddings.
    """
    node = value.producer()
    transposed = node is not None and node.op_type == "Transpose"
    if node is not None and transposed:
        if node.attributes.get_ints("perm") != (1, 0):
            return None
        value = node.inputs[0]
    if not is_stored(value) or value.shape is None or value.shape.rank() != 2:
        return None
    return value, transposed


def is_output_major_product(node: ir.Node) -> bool:
    """Whether the node is a FusedMatMul by a weight [N, K], as `store_output_major` makes it."""
    return node.op_type == "FusedMatMul" and bool(node.attributes.get_int("transB", 0))
