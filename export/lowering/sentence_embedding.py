"""Add the model's own vector of each text as a graph output: PoolRows, then its modules."""

import numpy as np
import onnx_ir as ir
import torch

from bertrt.artifact.graph_io import SENTENCE_EMBEDDING
from bertrt.errors import ExportError
from bertrt.export.graph.edit import store
from bertrt.export.lowering.nodes import make_node, only_node
from bertrt.export.vector_modules import Dense, Normalize, VectorModules

__all__ = ["add_sentence_embedding"]

# The activations of Linear, by PyTorch's classes. GELU's default is the exact form.
_ACTIVATIONS = {
    torch.nn.Identity: "",
    torch.nn.GELU: "gelu",
    torch.nn.ReLU: "relu",
    torch.nn.SiLU: "silu",
    torch.nn.Tanh: "tanh",
}


def add_sentence_embedding(model: ir.Model, vectors: VectorModules | None) -> int:
    """Add the output `sentence_embedding`, float32 [B, D], in place; returns 1.

    Call this after `keep_first_rows`. A graph without `last_hidden_state` stays as it is, and 0 is
    returned.

    Args:
        model: the lowered graph.
        vectors: what makes a text's vector of its hidden states; None for other heads.

    Raises ExportError for an activation or a residual that the engine has no operator for.
    """
    graph = model.graph
    outputs = {value.name: value for value in graph.outputs}
    offsets = only_node(graph, "PickedOffsets")
    if vectors is None or offsets is None or "last_hidden_state" not in outputs:
        return 0
    hidden = outputs["last_hidden_state"]
    node = make_node(
        "PoolRows",
        [hidden.producer().inputs[0], offsets.outputs[0]],
        SENTENCE_EMBEDDING,
        poolings=" ".join(vectors.pooling),
    )
    graph.append(node)
    for index, step in enumerate(vectors.steps):
        node = _lower(graph, step, node.outputs[0], f"{SENTENCE_EMBEDDING}.{index}")
        graph.append(node)
    vector = node.outputs[0]
    vector.name = SENTENCE_EMBEDDING
    vector.shape = ir.Shape([hidden.shape[0], vectors.size])
    vector.type = hidden.type
    graph.outputs.append(vector)
    return 1


def _lower(graph: ir.Graph, step: torch.nn.Module, vector: ir.Value, scope: str) -> ir.Node:
    """Return the node of one module, with its weights stored as `{scope}.weight` and so on."""
    if isinstance(step, Normalize):
        return make_node("UnitRows", [vector], scope)
    if isinstance(step, Dense):
        weight, bias, activation = _linear(step)
        stored = [store(graph, f"{scope}.weight", weight)]
        if bias is not None:
            stored.append(store(graph, f"{scope}.bias", bias))
        return make_node("Linear", [vector, *stored], scope, activation=activation)
    assert isinstance(step, torch.nn.LayerNorm)
    stored = [
        store(graph, f"{scope}.{name}", tensor.detach().numpy())
        for name, tensor in step.named_parameters()
    ]
    return make_node("AddLayerNorm", [vector, *stored], scope, epsilon=step.eps)


def _linear(step: Dense) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return a Dense as a linear layer: its weight [in, out], its bias and its activation."""
    activation = _ACTIVATIONS.get(type(step.activation_function))
    if activation is None or (activation and step.use_residual):
        name = type(step.activation_function).__name__
        residual = " and a residual" if step.use_residual else ""
        raise ExportError(
            f"the model's Dense has the activation {name}{residual}, which the Triton engine does "
            "not have: export with --engine ort"
        )
    weight = step.linear.weight.detach()
    if step.use_residual:
        # Without an activation the sum of two products is one product.
        same = torch.eye(*weight.shape)
        weight = weight + (step.residual.weight.detach() if hasattr(step, "residual") else same)
    bias = None if step.linear.bias is None else step.linear.bias.detach().numpy()
    return np.ascontiguousarray(weight.numpy().T), bias, activation
