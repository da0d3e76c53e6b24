"""Add sentence embeddings as graph outputs: the tokens pooled, and scaled to length 1.

Pooling in the graph reads the hidden states where they are, and one vector a text leaves the graph
instead of one a token. There is no output for the pooling "max": ONNX Runtime takes as long for it
as numpy does, and computes every output whether it is requested or not.
"""

import numpy as np
import onnx_ir as ir

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY, embedding_output
from bertrt.export.graph.edit import constant

__all__ = ["add_embedding_outputs"]

# The smallest divisor of a vector, as in bertrt.heads.pooling: zeros stay zeros.
_SHORTEST = 1e-12


def add_embedding_outputs(model: ir.Model) -> int:
    """Add outputs float32 [B, H] of Euclidean length 1, in place; returns the count.

    `mean_embedding` is the mean over the tokens that `attention_mask` counts, `cls_embedding` the
    first token's hidden state, and `pooler_embedding`, in a graph that has one, the pooler's
    output. A graph without `last_hidden_state` stays as it is.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.outputs}
    if "last_hidden_state" not in outputs:
        return 0
    hidden = outputs["last_hidden_state"]
    mean, cls, pooler = map(embedding_output, ("mean", "cls", "pooler"))
    first = ir.node("Gather", [hidden, constant(graph, 0)], {"axis": 1}, name=f"{cls}/Gather")
    graph.append(first)
    pooled = {mean: _sum(graph, mean, hidden), cls: first.outputs[0]}
    if "pooler_output" in outputs:
        pooled[pooler] = outputs["pooler_output"]
    for name, value in pooled.items():
        output = _normalized(graph, name, value)
        output.name = name
        output.shape = ir.Shape([hidden.shape[0], hidden.shape[-1]])
        output.type = hidden.type
        graph.outputs.append(output)
    return len(pooled)


def _sum(graph: ir.Graph, scope: str, hidden: ir.Value) -> ir.Value:
    """Sum each row's tokens, [B, H]: the direction is the mean's, and the length is lost anyway."""
    inputs = {value.name: value for value in graph.inputs}
    one = constant(graph, [1])
    mask = inputs["attention_mask"]
    if FIRST_TOKEN_ONLY in inputs:
        # Cut the mask to as many columns as there are hidden states.
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


def _normalized(graph: ir.Graph, scope: str, vector: ir.Value) -> ir.Value:
    """Divide each vector [B, H] by its Euclidean length."""
    axis = constant(graph, [-1])
    shortest = constant(graph, np.array(_SHORTEST, np.float32))
    length = ir.node("ReduceL2", [vector, axis], {"keepdims": 1}, name=f"{scope}/ReduceL2")
    divisor = ir.node("Max", [length.outputs[0], shortest], name=f"{scope}/Max")
    normalized = ir.node("Div", [vector, divisor.outputs[0]], name=f"{scope}/Div")
    graph.extend([length, divisor, normalized])
    result: ir.Value = normalized.outputs[0]
    return result
