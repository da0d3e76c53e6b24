"""Convert a graph for the Triton engine to float16 or bfloat16, with outputs in float32."""

import onnx_ir as ir

from bertrt.export.graph.cleanup import clean
from bertrt.export.graph.shared_memory import by_memory
from bertrt.export.half_precision.rounding import rounded
from bertrt.export.lowering.nodes import find_nodes
from bertrt.kernels.ops.operator import Stage
from bertrt.kernels.ops.registry import OPERATORS

__all__ = ["to_half_precision"]

# Operators whose output is float32 for any input. What reads it stays in float32.
_FLOAT32_OPERATORS = ("PoolRows", "UnitRows")


def to_half_precision(model: ir.Model, dtype: str) -> int:
    """Store the weights in `dtype` and cast results to float32, in place; returns the cast count.

    "float32" leaves the graph as it is. A Cast is inserted where rows leave the device: before an
    Unpack or a Regroup, and at the graph's other outputs. The graph's inputs and outputs keep their
    dtypes.

    Raises ExportError for a weight that is too large for float16.
    """
    if dtype == "float32":
        return 0
    graph = model.graph
    kept = _float32_nodes(graph)
    weights = [
        value
        for value in graph.initializers.values()
        if value.dtype == ir.DataType.FLOAT and not kept.issuperset(value.consumers())
    ]
    for same in by_memory(weights):
        _round_weights(same, dtype)
    exits = [
        node
        for name, operator in OPERATORS.items()
        if operator.stage is Stage.EXIT
        for node in find_nodes(graph, name)
    ]
    casts: dict[ir.Value, ir.Value] = {}
    for node in exits:
        value = node.inputs[0]
        if value not in casts:
            casts[value] = _cast(graph, value, str(node.name).rpartition("/")[0], node)
        node.replace_input_with(0, casts[value])
    count = len(casts)
    for index, output in enumerate(list(graph.outputs)):
        node = output.producer()
        on_device = node.op_type in OPERATORS and OPERATORS[node.op_type].stage is Stage.DEVICE
        if on_device and node not in kept:
            name = str(output.name)
            output.name = None
            new = _cast(graph, output, name, None)
            new.name, new.shape, new.type = name, output.shape, output.type
            output.shape = output.type = None
            graph.outputs[index] = new
            count += 1
    clean(model)
    return count


def _float32_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes whose outputs are float32: those of a text's vector."""
    kept: set[ir.Node] = set()
    for node in graph:
        producers = {value.producer() for value in node.inputs if value is not None}
        if node.op_type in _FLOAT32_OPERATORS or producers & kept:
            kept.add(node)
    return kept


def _round_weights(values: list[ir.Value], dtype: str) -> None:
    """Round weights that are one in memory."""
    data = rounded(str(values[0].name), values[0].const_value.numpy(), dtype)
    for value in values:
        value.const_value = ir.tensor(data, name=value.name)
        # A new type: `value.dtype` would also change the type that a clone of the graph shares.
        value.type = ir.TensorType(value.const_value.dtype)


def _cast(graph: ir.Graph, value: ir.Value, scope: str, before: ir.Node | None) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{scope}/Cast")
    if before is None:
        graph.append(cast)
    else:
        graph.insert_before(before, cast)
    result: ir.Value = cast.outputs[0]
    return result
