"""The linear layers of a fused graph: which there are, what they read, and what they cost."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

__all__ = ["Linear", "find_linears"]

# Below this many weights a layer costs next to nothing, and int8 would only add error.
_LEAST_WEIGHTS = 1 << 10


@dataclass(frozen=True)
class Linear:
    """One MatMul by a stored matrix.

    `name` is its module's, as `bert.encoder.layer.0.intermediate.dense`; `source` the name of the
    value that it reads, float32 [..., K]; `weight` is float32 [K, N].
    """

    name: str
    matmul: str
    source: str
    weight: np.ndarray

    @property
    def products(self) -> int:
        """Multiplications a token: K × N."""
        return int(self.weight.size)


def find_linears(model: ir.Model) -> dict[str, Linear]:
    """Every linear layer worth quantizing, by name, in the graph's order.

    A matrix that is stored transposed and has a Transpose of its own, as tied embeddings do, is
    one too.
    """
    found = {}
    for node in model.graph:
        if node.op_type != "MatMul" or node.domain:
            continue
        weight = stored_matrix(node.inputs[1])
        if weight is None or weight.size < _LEAST_WEIGHTS:
            continue
        name = str(node.name).rpartition("/")[0]
        found[name] = Linear(name, str(node.name), str(node.inputs[0].name), weight)
    return found


def bias_add(matmul: ir.Node) -> ir.Node | None:
    """The Add of a stored vector that is all that reads this product; None without one."""
    product = matmul.outputs[0]
    if product.is_graph_output() or len(product.uses()) != 1:
        return None
    (reader,) = product.consumers()
    if reader.op_type != "Add" or stored_bias(reader, matmul) is None:
        return None
    return reader


def stored_bias(add: ir.Node, matmul: ir.Node) -> ir.Value | None:
    """The vector [N] that an Add adds to a product; None when it adds something else."""
    left, right = add.inputs
    other: ir.Value = right if left is matmul.outputs[0] else left
    if not other.is_initializer() or other.is_graph_input() or other.const_value is None:
        return None
    return other if len(other.const_value.shape) == 1 else None


def stored_matrix(value: ir.Value) -> np.ndarray | None:
    """The float32 matrix [K, N] behind a value: an initializer, or a Transpose of one."""
    producer = value.producer()
    if producer is not None:
        if producer.op_type != "Transpose" or producer.attributes.get_ints("perm") != (1, 0):
            return None
        stored = _matrix(producer.inputs[0])
        return None if stored is None else stored.T
    return _matrix(value)


def _matrix(value: ir.Value) -> np.ndarray | None:
    if not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    if len(value.const_value.shape) != 2 or value.dtype != ir.DataType.FLOAT:
        return None
    matrix: np.ndarray = value.const_value.numpy()
    return matrix
