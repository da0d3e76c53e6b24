"""What a LayerNormalization after a residual connection sums: x + bias + residual."""

import onnx_ir as ir

__all__ = ["norm_terms", "stored_vector"]


def norm_terms(total: ir.Value) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """What is normalized: x, the bias and the residual, where it is x + bias + residual."""
    outer = total.producer()
    if outer is None or outer.op_type != "Add" or not _read_once(total):
        return total, None, None
    for place, term in enumerate(outer.inputs):
        inner = term.producer()
        if inner is None or inner.op_type != "Add" or not _read_once(term):
            continue
        for index, bias in enumerate(inner.inputs):
            product = inner.inputs[1 - index]
            if stored_vector(bias) and product.producer() is not None:
                return product, bias, outer.inputs[1 - place]
    return total, None, None


def stored_vector(value: ir.Value | None) -> bool:
    """Whether this is a stored tensor with one axis."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return False
    return value.shape is not None and value.shape.rank() == 1


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()
