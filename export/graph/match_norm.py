"""Match the sum before a LayerNormalization: x + bias + residual."""

import onnx_ir as ir

from bertrt.export.graph.values import is_read_once, is_stored_vector

__all__ = ["norm_terms"]


def norm_terms(total: ir.Value) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """Split the input of a LayerNormalization into x, bias and residual.

    x is the output of a node. A sum of another form is returned whole as x, with None for the
    bias and the residual.
    """
    outer = total.producer()
    if outer is None or outer.op_type != "Add" or not is_read_once(total):
        return total, None, None
    for position, term in enumerate(outer.inputs):
        inner = term.producer()
        if inner is None or inner.op_type != "Add" or not is_read_once(term):
            continue
        for index, bias in enumerate(inner.inputs):
            product = inner.inputs[1 - index]
            if is_stored_vector(bias) and product.producer() is not None:
                return product, bias, outer.inputs[1 - position]
    return total, None, None
