"""A graph of the dialect in float16 or bfloat16: its weights, and its results back in float32."""

import onnx_ir as ir

from bertrt.export.graph.cleanup import clean
from bertrt.export.half_precision.rounding import rounded
from bertrt.export.lowering.nodes import find
from bertrt.kernels.ops import OPERATORS, Place

__all__ = ["to_precision"]

# What gives float32 whatever it is given.
_FLOAT32 = ("MeanRows", "UnitRows")


def to_precision(model: ir.Model, dtype: str) -> int:
    """Store the weights in `dtype` and cast results to float32, in place; returns how many casts.

    "float32" leaves the graph as it is. A Cast stands where rows leave the device's arithmetic:
    before an Unpack or a Regroup, and at the graph's other outputs. The graph's inputs and outputs
    stay as they are.

    Raises ExportError for a weight too large for float16, which it names.
    """
    if dtype == "float32":
        return 0
    graph = model.graph
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT:
            _store(value, dtype)
    exits = [find(graph, name) for name, one in OPERATORS.items() if one.place is Place.EXIT]
    casts: dict[ir.Value, ir.Value] = {}
    for node in [node for nodes in exits for node in nodes]:
        value = node.inputs[0]
        if value not in casts:
            casts[value] = _cast(graph, value, str(node.name).rpartition("/")[0], node)
        node.replace_input_with(0, casts[value])
    count = len(casts)
    for place, output in enumerate(list(graph.outputs)):
        node = output.producer()
        device = node.op_type in OPERATORS and OPERATORS[node.op_type].place is Place.DEVICE
        if device and node.op_type not in _FLOAT32:
            name = str(output.name)
            output.name = None
            end = _cast(graph, output, name, None)
            end.name, end.shape, end.type = name, output.shape, output.type
            output.shape = output.type = None
            graph.outputs[place] = end
            count += 1
    clean(model)
    return count


def _store(value: ir.Value, dtype: str) -> None:
    data = rounded(str(value.name), value.const_value.numpy(), dtype)
    value.const_value = ir.tensor(data, name=value.name)
    # Not its dtype: a clone of the graph has the same type.
    value.type = ir.TensorType(value.const_value.dtype)


def _cast(graph: ir.Graph, value: ir.Value, scope: str, before: ir.Node | None) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=f"{scope}/Cast")
    if before is None:
        graph.append(cast)
    else:
        graph.insert_before(before, cast)
    result: ir.Value = cast.outputs[0]
    return result
