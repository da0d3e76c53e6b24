"""Gelu, of opset 20, → its definition."""

import math

import onnx_ir as ir

from bertrt.export.opsets.nodes import Replacement

__all__ = ["decompose_gelu"]


def decompose_gelu(model: ir.Model) -> int:
    """Replace every Gelu, in place; returns the count.

    The exact one is 0.5 x (1 + erf(x / √2)), in the order that ONNX Runtime fuses again.
    """
    gelus = [node for node in model.graph if node.op_type == "Gelu" and not node.domain]
    for node in gelus:
        new, x = Replacement(model.graph, node), node.inputs[0]
        if node.attributes.get_string("approximate", "none") == "tanh":
            inner = _tanh(new, x)
        else:
            inner = new.add("Erf", new.add("Div", x, new.number(math.sqrt(2))))
        product = new.add("Mul", x, new.add("Add", inner, new.number(1)))
        new.finish(new.add("Mul", product, new.number(0.5)))
    return len(gelus)


def _tanh(new: Replacement, x: ir.Value) -> ir.Value:
    """Return tanh(√(2/π) (x + 0.044715 x³))."""
    cube = new.add("Mul", new.add("Mul", x, x), x)
    total = new.add("Add", x, new.add("Mul", cube, new.number(0.044715)))
    return new.add("Tanh", new.add("Mul", total, new.number(math.sqrt(2 / math.pi))))
