"""Predicates on a value of a graph: whether it is stored, and how many nodes read it."""

import onnx_ir as ir

__all__ = ["is_owned", "is_read_once", "is_stored", "is_stored_vector"]


def is_stored(value: ir.Value | None) -> bool:
    """Whether the value is an initializer that callers cannot override."""
    return value is not None and value.is_initializer() and not value.is_graph_input()


def is_stored_vector(value: ir.Value | None) -> bool:
    """Whether the value is a stored tensor with one axis."""
    return (
        value is not None
        and is_stored(value)
        and value.shape is not None
        and value.shape.rank() == 1
    )


def is_read_once(value: ir.Value) -> bool:
    """Whether exactly one node reads the value, and it is not a graph output."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def is_owned(value: ir.Value | None) -> bool:
    """Whether the value is a stored tensor with exactly one reader, which may change it."""
    return value is not None and is_stored(value) and is_read_once(value)
