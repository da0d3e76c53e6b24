"""Which activation follows a linear layer, told by its numbers.

transformers writes an activation as one operator or as ten, and other versions write it otherwise.
So the nodes that work on one value alone are taken together, run on a grid, and compared with each
activation that the kernels have.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bertrt.export.graph.row_wise import ELEMENTWISE
from bertrt.kernels.ops import ACTIVATIONS

__all__ = ["Region", "activation_after", "identify"]

# Wide enough for those that are cut off at 6 or 10; exact and tanh GELU are 5e-4 apart, and one
# formula in float32 is within 2e-6 of another.
_GRID = np.linspace(-12, 12, 385, dtype=np.float32)
_SAME = 1e-5


@dataclass(frozen=True)
class Region:
    """Nodes that compute one value from another, element by element."""

    nodes: list[ir.Node]
    result: ir.Value


def activation_after(graph: ir.Graph, value: ir.Value) -> Region | None:
    """The elementwise nodes that read `value`, each other and single numbers, and nothing else.

    None where there are none, or where more than one value of theirs is read by others.
    """
    values, nodes = {value}, []
    for node in graph:
        reads = [one for one in node.inputs if one is not None]
        if (
            node.op_type in ELEMENTWISE
            and any(one in values for one in reads)
            and all(one in values or _is_number(one) for one in reads)
        ):
            nodes.append(node)
            values.update(node.outputs)
    inside = set(nodes)
    ends = [
        one
        for one in values
        if one.is_graph_output() or any(user not in inside for user in one.consumers())
    ]
    return Region(nodes, ends[0]) if nodes and len(ends) == 1 and ends[0] is not value else None


def identify(region: Region, source: ir.Value) -> str | None:
    """The activation's name in the dialect, "" for no activation, None for one that it lacks."""
    if not region.nodes:
        return ""
    numbers = _run(region, source)
    for name, activation in ACTIVATIONS.items():
        if np.allclose(numbers, activation(_GRID), rtol=0, atol=_SAME):
            return name
    return None


def _is_number(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None and value.const_value.size == 1


def _run(region: Region, source: ir.Value) -> np.ndarray:
    """The region's result on the grid."""
    numbers = {
        value
        for node in region.nodes
        for value in node.inputs
        if value is not None and value.is_initializer()
    }
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [ir.serde.serialize_node(node) for node in region.nodes],
        "activation",
        [onnx.helper.make_tensor_value_info(source.name, kind, [len(_GRID)])],
        [onnx.helper.make_tensor_value_info(region.result.name, kind, [len(_GRID)])],
        [onnx.numpy_helper.from_array(one.const_value.numpy(), one.name) for one in numbers],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    result: np.ndarray = ReferenceEvaluator(model).run(None, {source.name: _GRID})[0]
    return result
