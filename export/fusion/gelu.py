"""A bias and a Gelu in any form → com.microsoft BiasGelu (exact) or FastGelu (tanh)."""

import onnx_ir as ir

from bertrt.export.graph.activation import activation_after, identify
from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.values import is_stored_vector

__all__ = ["fuse_gelus"]

_OPERATORS = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}


def fuse_gelus(model: ir.Model) -> int:
    """Fuse every Gelu of a product and its bias, in place; returns the count."""
    graph = model.graph
    count = 0
    for add in list(graph):
        if add.op_type != "Add":
            continue
        biases = [index for index, value in enumerate(add.inputs) if is_stored_vector(value)]
        region = activation_after(graph, add.outputs[0])
        if len(biases) != 1 or region is None:
            continue
        operator = _OPERATORS.get(identify(region, add.outputs[0]) or "")
        if operator is None:
            continue
        fused = ir.node(
            operator,
            [add.inputs[1 - biases[0]], add.inputs[biases[0]]],
            domain="com.microsoft",
            name=f"{str(region.nodes[-1].name).rpartition('/')[0]}/{operator}",
        )
        graph.insert_before(add, fused)
        replace_value(region.result, fused.outputs[0])
        graph.remove([add, *region.nodes], safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count
