"""New stored tensors and new graph inputs, for fusions that need one."""

from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["add_flag", "constant", "replace", "store"]


def store(graph: ir.Graph, name: str, data: np.ndarray) -> ir.Value:
    """A new initializer of the graph, by a name that it does not have yet."""
    value = _value(name, data)
    graph.register_initializer(value)
    return value


def replace(value: ir.Value, data: np.ndarray) -> None:
    """Have an initializer hold other numbers, of the same shape and dtype."""
    dtype = value.const_value.numpy().dtype
    value.const_value = ir.tensor(np.ascontiguousarray(data, dtype=dtype), name=value.name)


def constant(graph: ir.Graph, data: Any) -> ir.Value:
    """A small stored tensor, shared by all that need the same; `data` is what numpy makes one of.

    Its name says nothing that lasts: `bertrt.export.graph.cleanup` numbers constants.
    """
    array = np.asarray(data)
    name = f"constant_{array.dtype}_{list(array.shape)}_{array.tobytes().hex()}"
    known: ir.Value | None = graph.initializers.get(name)
    return store(graph, name, array) if known is None else known


def add_flag(graph: ir.Graph, name: str) -> ir.Value:
    """A new graph input: one bool, shape [], False for callers that leave it out.

    An ONNX input that is an initializer too has a default, and is no constant to the optimizers.
    """
    value = _value(name, np.array(False))
    graph.inputs.append(value)
    graph.register_initializer(value)
    return value


def _value(name: str, data: np.ndarray) -> ir.Value:
    tensor = ir.tensor(data, name=name)
    return ir.Value(
        name=name,
        shape=ir.Shape(data.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
