"""What a value of a graph is: stored or made by an operator, and how many nodes read it."""

import onnx_ir as ir

__all__ = [
    "is_owned",
    "is_read_once",
    "is_stored",
    "is_stored_vector",
    "producer_of",
    "with_number",
]


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


def producer_of(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that makes a value, if it is of this operator."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def with_number(value: ir.Value | None, op_type: str) -> tuple[ir.Value | None, int | None]:
    """Return the two inputs of the operator that makes a value, the second a stored integer.

    Both are None if it is another operator, or the second input no such number.
    """
    node = producer_of(value, op_type)
    number = None if node is None else node.inputs[1].const_value
    if node is None or number is None or number.size != 1:
        return None, None
    return node.inputs[0], int(number.numpy().item())
