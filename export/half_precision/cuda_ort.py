"""Convert a graph for ONNX Runtime to float16; inputs, outputs and what reads outputs keep theirs.

Nodes that read an output, such as those of embeddings, stay in float32: a sum over 512 tokens is
too large for float16, and the smallest length of a vector is 0 in it.
"""

import onnx_ir as ir

from bertrt.export.graph.cleanup import clean
from bertrt.export.graph.edit import store
from bertrt.export.half_precision.rounding import rounded

__all__ = ["to_float16"]


def to_float16(model: ir.Model) -> int:
    """Store weights in float16 and cast outputs to float32, in place; returns the number of casts.

    Raises ExportError for a weight that is too large for float16.
    """
    graph = model.graph
    kept = _float32_nodes(graph)
    halves: dict[ir.Value, ir.Value] = {}
    for node in graph:
        if node in kept:
            continue
        for index, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.dtype != ir.DataType.FLOAT:
                continue
            if value not in halves:
                data = rounded(str(value.name), value.const_value.numpy(), "float16")
                halves[value] = store(graph, f"{value.name}.float16", data)
            node.replace_input_with(index, halves[value])
        if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(ir.DataType.FLOAT16)
    for value, half in halves.items():
        _swap_names(graph, value, half)
    count = _cast_outputs(graph, kept)
    clean(model)
    return count


def _float32_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that compute from an output, and the nodes that only these read."""
    kept: set[ir.Node] = set()
    values = set(graph.outputs)
    for node in graph:
        if any(value in values for value in node.inputs):
            kept.add(node)
            values.update(node.outputs)
    for node in reversed(list(graph)):
        readers = [user for value in node.outputs for user in value.consumers()]
        is_output = any(value.is_graph_output() for value in node.outputs)
        if readers and not is_output and all(user in kept for user in readers):
            kept.add(node)
    return kept


def _swap_names(graph: ir.Graph, value: ir.Value, half: ir.Value) -> None:
    """Give the stored half the name of its original, and remove the original if it is unused."""
    name = str(value.name)
    graph.initializers.pop(name)
    graph.initializers.pop(str(half.name))
    half.name = name
    graph.register_initializer(half)
    if value.uses():
        value.name = f"{name}.float32"
        graph.register_initializer(value)


def _cast_outputs(graph: ir.Graph, kept: set[ir.Node]) -> int:
    """Cast the outputs that are float16 now to float32; returns the number of casts."""
    count = 0
    for index, output in enumerate(list(graph.outputs)):
        if output.producer() in kept:
            continue
        name = str(output.name)
        cast = ir.node("Cast", [output], {"to": ir.DataType.FLOAT}, name=f"{name}/Cast")
        graph.insert_after(output.producer(), cast)
        new = cast.outputs[0]
        for node, input_index in list(output.uses()):
            if node in kept:
                node.replace_input_with(input_index, new)
        output.name, new.name = None, name
        new.shape, new.type = output.shape, ir.TensorType(ir.DataType.FLOAT)
        graph.outputs[index] = new
        count += 1
    return count
