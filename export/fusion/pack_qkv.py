"""Query, key and value projections → one matrix product and a Split."""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import replace_value, store
from bertrt.export.graph.match_linear import Linear, linear_at

__all__ = ["pack_qkv"]


def pack_qkv(model: ir.Model) -> int:
    """Pack the linear layers on one input into one, in place; returns the number of inputs.

    Weights float32 [H, K] are joined to [H, 3K] and biases [K] to [3K]: the same products and sums
    in fewer and larger calls. If the query reads fewer tokens, key and value are packed as a pair.
    An input stays as it is unless two or three products read it, all of them linear layers of the
    same size.
    """
    graph = model.graph
    count = 0
    for value in [*graph.inputs, *(output for node in graph for output in node.outputs)]:
        products = [
            node
            for node in value.consumers()
            if node.op_type == "MatMul" and node.inputs[0] is value
        ]
        layers = [layer for layer in map(linear_at, products) if layer is not None]
        if len(products) not in (2, 3) or len(layers) != len(products):
            continue
        if len({layer.bias.shape[0] for layer in layers}) == 1:
            _pack(graph, value, layers)
            count += 1
    return count


def _pack(graph: ir.Graph, source: ir.Value, layers: list[Linear]) -> None:
    layers = sorted(layers, key=lambda layer: list(graph).index(layer.matmul))
    weight = _join(graph, [layer.weight for layer in layers])
    bias = _join(graph, [layer.bias for layer in layers])
    scope = _join_names([str(layer.matmul.name).partition("/")[0] for layer in layers])
    matmul = ir.node("MatMul", [source, weight], name=f"{scope}/MatMul")
    add = ir.node("Add", [matmul.outputs[0], bias], name=f"{scope}/Add")
    split = ir.node(
        "Split",
        [add.outputs[0]],
        {"axis": -1, "num_outputs": len(layers)},
        num_outputs=len(layers),
        name=f"{scope}/Split",
    )
    graph.insert_before(layers[0].matmul, [matmul, add, split])
    for layer, part in zip(layers, split.outputs, strict=True):
        replace_value(layer.add.outputs[0], part)
    for layer in layers:
        graph.remove([layer.matmul, layer.add], safe=True)
        graph.initializers.pop(layer.weight.name)
        graph.initializers.pop(layer.bias.name)


def _join(graph: ir.Graph, values: list[ir.Value]) -> ir.Value:
    """Concatenate stored tensors along their last axis to a new initializer."""
    data = np.concatenate([value.const_value.numpy() for value in values], axis=-1)
    return store(graph, _join_names([str(value.name) for value in values]), data)


def _join_names(names: list[str]) -> str:
    """`a.query.weight`, `a.key.weight`, `a.value.weight` → `a.query_key_value.weight`."""
    parts = [name.split(".") for name in names]
    if len({len(part) for part in parts}) != 1:
        return "_".join(names)
    return ".".join(
        column[0] if len(set(column)) == 1 else "_".join(column)
        for column in zip(*parts, strict=True)
    )
