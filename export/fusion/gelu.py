"""A bias and a Gelu, however it is written, to com.microsoft BiasGelu or FastGelu.

BiasGelu is the exact one, FastGelu the one by tanh.
"""

import onnx_ir as ir

from bertrt.export.graph.activation import activation_after, identify
from bertrt.export.graph.match_norm import stored_vector
from bertrt.export.graph.replace import replace_value

__all__ = ["fuse_gelus"]

_OPERATORS = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu"}


def fuse_gelus(model: ir.Model) -> int:
    """Replace every Gelu of a product and its bias, in place; returns how many."""
    graph = model.graph
    count = 0
    for add in list(graph):
        if add.op_type != "Add":
            continue
        biases = [place for place, value in enumerate(add.inputs) if stored_vector(value)]
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
        old, new = region.result, fused.outputs[0]
        new.shape, new.type = old.shape, old.type
        graph.insert_before(add, fused)
        replace_value(old, new)
        graph.remove([add, *region.nodes], safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count
