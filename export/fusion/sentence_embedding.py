"""Add the model's own vector of each text as a graph output.

Pooling in the graph reads the hidden states where they are, and one vector a text leaves the graph
instead of one a token. Most poolings are a product of weights [B, 1, S] with the hidden states
[B, S, H].
"""

import numpy as np
import onnx_ir as ir
import torch

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY, SENTENCE_EMBEDDING
from bertrt.errors import ExportError
from bertrt.export.graph.edit import constant
from bertrt.export.tracing.torch_export import export_graph
from bertrt.export.vector_modules import Normalize, VectorModules

__all__ = ["add_sentence_embedding"]

# The smallest divisor of a vector, as in bertrt.heads.pooling: zeros stay zeros.
_SHORTEST = 1e-12


def add_sentence_embedding(model: ir.Model, vectors: VectorModules | None) -> int:
    """Add the output `sentence_embedding`, float32 [B, D], in place; returns 1.

    A graph without `last_hidden_state` stays as it is, and 0 is returned. Equal nodes are left to
    `bertrt.export.graph.cleanup` to merge.

    Args:
        model: the graph.
        vectors: what makes a text's vector of its hidden states; None for other heads.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.outputs}
    if vectors is None or "last_hidden_state" not in outputs:
        return 0
    hidden = outputs["last_hidden_state"]
    # A length of 1 undoes what a mean divides by.
    scaled = len(vectors.pooling) == 1 and vectors.names[:1] == ("Normalize",)
    nodes = _Nodes(graph)
    pooled = [_pool(nodes, hidden, name, scaled=scaled) for name in vectors.pooling]
    vector = pooled[0] if len(pooled) == 1 else nodes.add("Concat", *pooled, axis=-1)
    for index, step in enumerate(vectors.steps):
        if isinstance(step, Normalize):
            vector = _normalize(nodes, vector)
        else:
            vector = _trace(graph, step, vector, f"{SENTENCE_EMBEDDING}.{index}")
    vector.name = SENTENCE_EMBEDDING
    vector.shape = ir.Shape([hidden.shape[0], vectors.size])
    vector.type = hidden.type
    graph.outputs.append(vector)
    return 1


class _Nodes:
    """Appends nodes to a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._count = 0

    def add(self, operator: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        """Append a node and return its output."""
        name = f"{SENTENCE_EMBEDDING}/{operator}_{self._count}"
        node = ir.node(operator, inputs, attributes, name=name)
        self.graph.append(node)
        self._count += 1
        output: ir.Value = node.outputs[0]
        return output

    def constant(self, data: object) -> ir.Value:
        """Return a stored constant."""
        return constant(self.graph, data)


def _pool(nodes: _Nodes, hidden: ir.Value, pooling: str, *, scaled: bool) -> ir.Value:
    """Pool the hidden states [B, S, H] of the tokens that `attention_mask` counts into [B, H].

    Tokens are numbered from 1 within their row, wherever they are in it. With `scaled` the result
    is scaled to length 1 next, so that its length does not count.
    """
    if pooling == "cls":
        return nodes.add("Gather", hidden, nodes.constant(0), axis=1)
    mask, along = _mask(nodes, hidden), nodes.constant([1])
    if pooling == "max":
        counted = nodes.add("Cast", mask, to=ir.DataType.BOOL)
        counted = nodes.add("Unsqueeze", counted, nodes.constant([2]))
        lowest = nodes.constant(np.array(-np.inf, np.float32))
        return nodes.add(
            "ReduceMax", nodes.add("Where", counted, hidden, lowest), along, keepdims=0
        )
    weights = nodes.add("Cast", mask, to=ir.DataType.FLOAT)
    if pooling in ("weightedmean", "lasttoken"):
        numbers = nodes.add("Mul", nodes.add("CumSum", weights, nodes.constant(1)), weights)
        if pooling == "lasttoken":
            count = nodes.add("ReduceSum", weights, along, keepdims=1)
            last = nodes.add("Equal", numbers, count)
            return _weigh(nodes, hidden, nodes.add("Cast", last, to=ir.DataType.FLOAT))
        weights = numbers
    if not scaled:
        divisor = nodes.add("ReduceSum", weights, along, keepdims=1)
        if pooling == "mean_sqrt_len_tokens":
            divisor = nodes.add("Sqrt", divisor)
        # A row without tokens gives 0.
        divisor = nodes.add("Max", divisor, nodes.constant(np.array(1, np.float32)))
        weights = nodes.add("Div", weights, divisor)
    return _weigh(nodes, hidden, weights)


def _weigh(nodes: _Nodes, hidden: ir.Value, weights: ir.Value) -> ir.Value:
    """Return the sums [B, H] of the hidden states [B, S, H] times their weights [B, S]."""
    along = nodes.constant([1])
    product = nodes.add("MatMul", nodes.add("Unsqueeze", weights, along), hidden)
    return nodes.add("Squeeze", product, along)


def _mask(nodes: _Nodes, hidden: ir.Value) -> ir.Value:
    """Return `attention_mask` with as many columns as there are hidden states."""
    inputs = {value.name: value for value in nodes.graph.inputs}
    mask = inputs["attention_mask"]
    if FIRST_TOKEN_ONLY not in inputs:
        return mask
    size = nodes.add("Shape", hidden, start=1, end=2)
    return nodes.add("Slice", mask, nodes.constant([0]), size, nodes.constant([1]))


def _normalize(nodes: _Nodes, vector: ir.Value) -> ir.Value:
    """Divide each vector [B, D] by its Euclidean length."""
    length = nodes.add("ReduceL2", vector, nodes.constant([-1]), keepdims=1)
    shortest = nodes.constant(np.array(_SHORTEST, np.float32))
    return nodes.add("Div", vector, nodes.add("Max", length, shortest))


def _trace(graph: ir.Graph, layer: torch.nn.Module, vector: ir.Value, scope: str) -> ir.Value:
    """Append a layer of PyTorch, traced on vectors [B, D], and return its output.

    Raises ExportError for a layer that PyTorch cannot trace.
    """
    size = next(iter(layer.parameters())).shape[-1]
    try:
        traced = export_graph(layer, (torch.zeros(2, size),), ({0: "batch"},)).graph
    except torch.onnx.OnnxExporterError as error:
        name = type(getattr(layer, "activation_function", layer)).__name__
        raise ExportError(
            f"the model's {type(layer).__name__} has {name}, which PyTorch cannot put into an ONNX "
            f"graph: remove modules.json to export the hidden states alone"
        ) from error
    result: ir.Value = traced.outputs[0]
    traced.outputs.clear()
    traced.inputs[0].replace_all_uses_with(vector)
    for value in list(traced.initializers.values()):
        traced.initializers.pop(value.name)
        value.name = f"{scope}.{value.name}"
        graph.register_initializer(value)
    for index, node in enumerate(list(traced)):
        traced.remove(node)
        node.name = f"{scope}/{node.op_type}_{index}"
        graph.append(node)
    return result
