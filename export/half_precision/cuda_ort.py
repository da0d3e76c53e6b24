"""A graph for ONNX Runtime in float16: inputs and outputs stay, and so does what reads an output.

What is computed of an output, an embedding of the hidden states, stays in float32: a sum over 512
tokens is too large for float16, and the least length of a vector too small.
"""

import onnx_ir as ir

from bertrt.export.graph.cleanup import clean
from bertrt.export.graph.edit import store
from bertrt.export.half_precision.rounding import rounded

__all__ = ["to_float16"]


def to_float16(model: ir.Model) -> int:
    """Store weights in float16, and cast outputs to float32, in place; returns how many casts.

    Raises ExportError for a weight too large for float16, which it names.
    """
    graph = model.graph
    exact = _after_outputs(graph)
    halves: dict[ir.Value, ir.Value] = {}
    for node in graph:
        if node in exact:
            continue
        for place, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.dtype != ir.DataType.FLOAT:
                continue
            if value not in halves:
                data = rounded(str(value.name), value.const_value.numpy(), "float16")
                halves[value] = store(graph, f"{value.name}.float16", data)
            node.replace_input_with(place, halves[value])
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)
    for value, half in halves.items():
        _swap_names(graph, value, half)
    count = _cast_outputs(graph, exact)
    clean(model)
    return count


def _after_outputs(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that lead to an output by way of another output, and what only they read."""
    after: set[ir.Node] = set()
    values = set(graph.outputs)
    for node in graph:
        if any(value in values for value in node.inputs):
            after.add(node)
            values.update(node.outputs)
    for node in reversed(list(graph)):
        readers = [user for value in node.outputs for user in value.consumers()]
        ends = any(value.is_graph_output() for value in node.outputs)
        if readers and not ends and all(user in after for user in readers):
            after.add(node)
    return after


def _swap_names(graph: ir.Graph, value: ir.Value, half: ir.Value) -> None:
    """Give the stored half the name of what it was made of; drop that where nobody reads it."""
    name = str(value.name)
    graph.initializers.pop(name)
    graph.initializers.pop(str(half.name))
    half.name = name
    graph.register_initializer(half)
    if value.uses():
        value.name = f"{name}.float32"
        graph.register_initializer(value)


def _cast_outputs(graph: ir.Graph, exact: set[ir.Node]) -> int:
    count = 0
    for place, output in enumerate(list(graph.outputs)):
        if output.producer() in exact:
            continue
        name = str(output.name)
        cast = ir.node("Cast", [output], {"to": ir.DataType.FLOAT}, name=f"{name}/Cast")
        graph.insert_after(output.producer(), cast)
        end = cast.outputs[0]
        for node, index in list(output.uses()):
            if node in exact:
                node.replace_input_with(index, end)
        output.name, end.name = None, name
        end.shape, end.type = output.shape, ir.TensorType(ir.DataType.FLOAT)
        graph.outputs[place] = end
        count += 1
    return count
