"""Edits of a graph: replace a value, add or change stored tensors, add an optional input."""

from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["add_flag", "constant", "replace_value", "store", "update_stored"]


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Replace all uses of `old` by `new`, including as a graph output.

    `new` takes the shape and type of `old`, and its name if that is a graph output's.
    """
    is_output = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    new.shape, new.type = old.shape, old.type
    if is_output:
        name, old.name = old.name, None
        new.name = name


def store(graph: ir.Graph, name: str, data: np.ndarray) -> ir.Value:
    """Add an initializer under a name that the graph does not have yet."""
    value = _value(name, data)
    graph.register_initializer(value)
    return value


def update_stored(value: ir.Value, data: np.ndarray) -> None:
    """Give an initializer new numbers of the same shape; they are cast to its dtype."""
    dtype = value.const_value.numpy().dtype
    value.const_value = ir.tensor(np.ascontiguousarray(data, dtype=dtype), name=value.name)


def constant(graph: ir.Graph, data: Any) -> ir.Value:
    """Return a small stored tensor; equal constants share one initializer.

    The name is temporary: `bertrt.export.graph.cleanup` numbers constants.

    Args:
        graph: the graph that gets the initializer.
        data: anything that `np.asarray` takes.
    """
    array = np.asarray(data)
    name = f"constant_{array.dtype}_{list(array.shape)}_{array.tobytes().hex()}"
    known: ir.Value | None = graph.initializers.get(name)
    return store(graph, name, array) if known is None else known


def add_flag(graph: ir.Graph, name: str) -> ir.Value:
    """Add an optional graph input: one bool, shape [], False by default.

    In ONNX, an input that is also an initializer has a default value, and optimizers do not treat
    it as a constant.
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
