"""Find the linear layers of a fused graph that are worth quantizing."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.match_linear import stored_matrix

__all__ = ["QuantizableLinear", "find_linears", "find_products"]

# A layer with fewer weights costs next to nothing, and int8 would only add error.
_LEAST_WEIGHTS = 1 << 10


@dataclass(frozen=True)
class QuantizableLinear:
    """One MatMul by a stored matrix.

    Attributes:
        name: the module's name, as `bert.encoder.layer.0.intermediate.dense`.
        matmul: the node's name.
        source: the name of the value that it reads, float32 [..., K].
        weight: float32 [K, N].
    """

    name: str
    matmul: str
    source: str
    weight: np.ndarray

    @property
    def products(self) -> int:
        """The multiplications per token: K × N."""
        return int(self.weight.size)


def find_products(model: ir.Model) -> dict[str, ir.Node]:
    """Return each MatMul by a stored matrix of float32, by its linear layer's name, in order.

    A layer has the name of its module; a product that is not the only one of its module, or that
    no module makes, has its own.
    """
    products = [
        node
        for node in model.graph
        if node.op_type == "MatMul"
        and not node.domain
        and (matrix := stored_matrix(node.inputs[1])) is not None
        and matrix[0].dtype == ir.DataType.FLOAT
    ]
    modules = [str(node.name).rpartition("/")[0] for node in products]
    return {
        module if module and modules.count(module) == 1 else str(node.name): node
        for module, node in zip(modules, products, strict=True)
    }


def find_linears(model: ir.Model) -> dict[str, QuantizableLinear]:
    """Return every linear layer worth quantizing, by name, in the graph's order.

    This includes layers that read a stored matrix through a Transpose, as with tied embeddings.
    """
    found = {}
    for name, node in find_products(model).items():
        matrix = stored_matrix(node.inputs[1])
        assert matrix is not None
        stored, transposed = matrix
        weight = stored.const_value.numpy()
        if weight.size < _LEAST_WEIGHTS:
            continue
        found[name] = QuantizableLinear(
            name,
            str(node.name),
            str(node.inputs[0].name),
            weight.T if transposed else weight,
        )
    return found
