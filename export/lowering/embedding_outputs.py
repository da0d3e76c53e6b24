"""Sentence embeddings as outputs: the tokens' mean, the first token and the pooler, at length 1."""

import onnx_ir as ir

from bertrt.export.lowering.nodes import find, make, only

__all__ = ["add_vectors"]


def add_vectors(model: ir.Model) -> int:
    """Add outputs float32 [B, H] of Euclidean length 1, in place; returns how many.

    `mean_embedding`, `cls_embedding` and, where there is a pooler, `pooler_embedding`, as
    `bertrt.export.fusion.embeddings` defines them. To be asked after `keep_first_rows`, in a graph
    with `last_hidden_state`.
    """
    graph = model.graph
    ends = {value.name: value for value in graph.outputs}
    left = only(graph, "PickedOffsets")
    if left is None or "last_hidden_state" not in ends:
        return 0
    unpack = ends["last_hidden_state"].producer()
    hidden, offsets = unpack.inputs[0], left.outputs[0]
    first = next(node for node in find(graph, "FirstRows") if node.inputs[0] is offsets)
    mean = make("MeanRows", [hidden, offsets], "mean_embedding")
    cls = make("SelectRows", [hidden, first.outputs[0]], "cls_embedding")
    graph.extend([mean, cls])
    pooled = {"mean_embedding": mean.outputs[0], "cls_embedding": cls.outputs[0]}
    if "pooler_output" in ends:
        pooled["pooler_embedding"] = ends["pooler_output"]
    batch, _, size = ends["last_hidden_state"].shape
    for name, value in pooled.items():
        unit = make("UnitRows", [value], name)
        graph.append(unit)
        output = unit.outputs[0]
        output.name, output.shape = name, ir.Shape([batch, size])
        output.type = ends["last_hidden_state"].type
        graph.outputs.append(output)
    return len(pooled)
