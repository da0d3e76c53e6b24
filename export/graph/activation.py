"""Identify the activation after a linear layer by its numbers.

transformers writes an activation as one operator or as ten, and this differs between versions. So
the nodes that work on one value elementwise are run together on a grid, and the result is compared
with each activation that the Triton kernels have.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bertrt.export.graph.row_wise import ELEMENTWISE
from bertrt.kernels.ops.activations import ACTIVATIONS

__all__ = ["Region", "activation_after", "identify"]

# Wide enough for activations that are clipped at 6 or 10. Exact and tanh GELU are 5e-4 apart, and
# two formulas of one activation in float32 are within 2e-6.
_GRID = np.linspace(-12, 12, 385, dtype=np.float32)
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Region:
    """Nodes that compute one value, `result`, from another, element by element."""

    nodes: list[ir.Node]
    result: ir.Value


def activation_after(graph: ir.Graph, value: ir.Value) -> Region | None:
    """Return the elementwise nodes that read only `value`, each other and single numbers.

    None if there are none, or if nodes outside read more than one of their values.
    """
    values, nodes = {value}, []
    for node in graph:
        inputs = [entry for entry in node.inputs if entry is not None]
        if (
            node.op_type in ELEMENTWISE
            and any(entry in values for entry in inputs)
            and all(entry in values or _is_number(entry) for entry in inputs)
        ):
            nodes.append(node)
            values.update(node.outputs)
    region = set(nodes)
    results = [
        entry
        for entry in values
        if entry.is_graph_output() or any(user not in region for user in entry.consumers())
    ]
    if not nodes or len(results) != 1 or results[0] is value:
        return None
    return Region(nodes, results[0])


def identify(region: Region, source: ir.Value) -> str | None:
    """Return the activation's name in `ACTIVATIONS`: "" for none, None for an unknown one."""
    if not region.nodes:
        return ""
    numbers = _run(region, source)
    for name, activation in ACTIVATIONS.items():
        if np.allclose(numbers, activation(_GRID), rtol=0, atol=_TOLERANCE):
            return name
    return None


def _is_number(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None and value.const_value.size == 1


def _run(region: Region, source: ir.Value) -> np.ndarray:
    """Return the region's result on the grid."""
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
        [onnx.numpy_helper.from_array(value.const_value.numpy(), value.name) for value in numbers],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)])
    result: np.ndarray = ReferenceEvaluator(model).run(None, {source.name: _GRID})[0]
    return result
