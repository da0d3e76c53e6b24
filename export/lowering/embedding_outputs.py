"""Add sentence embeddings as graph outputs: MeanRows or SelectRows, then UnitRows."""

import onnx_ir as ir

from bertrt.artifact.graph_io import embedding_output
from bertrt.export.lowering.nodes import find_nodes, make_node, only_node

__all__ = ["add_embedding_outputs"]


def add_embedding_outputs(model: ir.Model) -> int:
    """Add outputs float32 [B, H] of Euclidean length 1, in place; returns the count.

    Call this after `keep_first_rows`. The outputs are `mean_embedding`, `cls_embedding` and, if
    there is a pooler, `pooler_embedding`, as `bertrt.export.fusion.embedding_outputs` defines them.
    A graph without `last_hidden_state` stays as it is.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.outputs}
    offsets_node = only_node(graph, "PickedOffsets")
    if offsets_node is None or "last_hidden_state" not in outputs:
        return 0
    mean_name, cls_name, pooler_name = map(embedding_output, ("mean", "cls", "pooler"))
    unpack = outputs["last_hidden_state"].producer()
    hidden, offsets = unpack.inputs[0], offsets_node.outputs[0]
    first = next(node for node in find_nodes(graph, "FirstRows") if node.inputs[0] is offsets)
    mean = make_node("MeanRows", [hidden, offsets], mean_name)
    cls = make_node("SelectRows", [hidden, first.outputs[0]], cls_name)
    graph.extend([mean, cls])
    pooled = {mean_name: mean.outputs[0], cls_name: cls.outputs[0]}
    if "pooler_output" in outputs:
        pooled[pooler_name] = outputs["pooler_output"]
    batch, _, size = outputs["last_hidden_state"].shape
    for name, value in pooled.items():
        unit = make_node("UnitRows", [value], name)
        graph.append(unit)
        output = unit.outputs[0]
        output.name, output.shape = name, ir.Shape([batch, size])
        output.type = outputs["last_hidden_state"].type
        graph.outputs.append(output)
    return len(pooled)
