"""Sentence embeddings as outputs of the graph: the tokens pooled, and scaled to length 1.

Pooling in the graph reads the hidden states where they lie, and one vector a text leaves it in
place of one a token. The pooling by "max" is no output: ONNX Runtime needs as long for it as
numpy does, and computes every output whether it is asked for or not.
"""

import numpy as np
import onnx_ir as ir

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY
from bertrt.export.graph.edit import constant

__all__ = ["add_embeddings"]

# The least length that a vector is divided by, as in bertrt.heads.pooling: zeros stay zeros.
_SHORTEST = 1e-12


def add_embeddings(model: ir.Model) -> int:
    """Add outputs float32 [B, H] of Euclidean length 1, in place; returns how many.

    `mean_embedding` is the mean over the tokens that `attention_mask` counts, `cls_embedding` the
    first token's hidden state, and `pooler_embedding`, in a graph that has one, the pooler's
    output. A graph without `last_hidden_state` is left as it is.
    """
    graph = model.graph
    ends = {value.name: value for value in graph.outputs}
    if "last_hidden_state" not in ends:
        return 0
    hidden = ends["last_hidden_state"]
    first = ir.node(
        "Gather",
        [hidden, constant(graph, 0)],
        {"axis": 1},
        name="cls_embedding/Gather",
    )
    graph.append(first)
    pooled = {"mean_embedding": _sum(graph, hidden), "cls_embedding": first.outputs[0]}
    if "pooler_output" in ends:
        pooled["pooler_embedding"] = ends["pooler_output"]
    for name, value in pooled.items():
        output = _scaled(graph, name, value)
        output.name = name
        output.shape = ir.Shape([hidden.shape[0], hidden.shape[-1]])
        output.type = hidden.type
        graph.outputs.append(output)
    return len(pooled)


def _sum(graph: ir.Graph, hidden: ir.Value) -> ir.Value:
    """The sum of each row's tokens, [B, H]: of the mean's direction, and its length is not kept."""
    scope = "mean_embedding"
    inputs = {value.name: value for value in graph.inputs}
    one = constant(graph, [1])
    mask = inputs["attention_mask"]
    if FIRST_TOKEN_ONLY in inputs:
        # As many columns as there are hidden states.
        size = ir.node("Shape", [hidden], {"start": 1, "end": 2}, name=f"{scope}/Shape")
        zero = constant(graph, [0])
        cut = ir.node("Slice", [mask, zero, size.outputs[0], one], name=f"{scope}/Slice")
        graph.extend([size, cut])
        mask = cut.outputs[0]
    weights = ir.node("Cast", [mask], {"to": ir.DataType.FLOAT}, name=f"{scope}/Cast")
    row = ir.node("Unsqueeze", [weights.outputs[0], one], name=f"{scope}/Unsqueeze")
    product = ir.node("MatMul", [row.outputs[0], hidden], name=f"{scope}/MatMul")
    total = ir.node("Squeeze", [product.outputs[0], one], name=f"{scope}/Squeeze")
    graph.extend([weights, row, product, total])
    result: ir.Value = total.outputs[0]
    return result


def _scaled(graph: ir.Graph, scope: str, vector: ir.Value) -> ir.Value:
    axis = constant(graph, [-1])
    least = constant(graph, np.array(_SHORTEST, np.float32))
    length = ir.node("ReduceL2", [vector, axis], {"keepdims": 1}, name=f"{scope}/ReduceL2")
    divisor = ir.node("Max", [length.outputs[0], least], name=f"{scope}/Max")
    scaled = ir.node("Div", [vector, divisor.outputs[0]], name=f"{scope}/Div")
    graph.extend([length, divisor, scaled])
    result: ir.Value = scaled.outputs[0]
    return result
