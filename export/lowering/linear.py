"""Matrix products by a stored weight, with their bias and activation, to Linear."""

import onnx_ir as ir

from bertrt.errors import ExportError
from bertrt.export.graph.activation import Region, activation_after, identify
from bertrt.export.graph.match_norm import stored_vector
from bertrt.export.graph.replace import replace_value
from bertrt.export.lowering.nodes import make
from bertrt.kernels.ops import ACTIVATIONS

__all__ = ["fuse_linears"]


def fuse_linears(model: ir.Model, hidden_act: str) -> int:
    """Replace every MatMul and Gemm by a stored matrix, in place; returns how many.

    A weight that is read through a Transpose, as tied word embeddings are, or by a Gemm is used as
    it is stored, with `transposed`. `hidden_act` is the config's name for the activation.

    Raises ExportError for an activation that no kernel has, which it names by `hidden_act`.
    """
    graph = model.graph
    count = 0
    for node in list(graph):
        weight = _weight(node)
        if weight is None:
            continue
        bias, result = _bias(node)
        region = activation_after(graph, result) or Region([], result)
        linear = make(
            "Linear",
            [node.inputs[0], weight[0], *([] if bias is None else [bias])],
            str(node.name).rpartition("/")[0],
            activation=_activation(region, result, hidden_act),
            transposed=weight[1],
        )
        graph.insert_before(node, linear)
        replace_value(region.result, linear.outputs[0])
        between = [] if result is node.outputs[0] else [result.producer()]
        graph.remove([node, *between, *region.nodes], safe=True)
        count += 1
    return count


def _activation(region: Region, source: ir.Value, hidden_act: str) -> str:
    name = identify(region, source)
    if name is None:
        known = ", ".join(one for one in ACTIVATIONS if one)
        raise ExportError(
            f"the config's hidden_act is {hidden_act!r}, which the engine triton has no kernel for "
            f"(it has {known}): export with --engine ort"
        )
    return name


def _weight(node: ir.Node) -> tuple[ir.Value, int] | None:
    """The stored matrix that this node multiplies by, and whether it is transposed."""
    if node.op_type == "Gemm":
        plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        if not plain or node.attributes.get_int("transA", 0):
            return None
        weight, transposed = node.inputs[1], node.attributes.get_int("transB", 0)
    elif node.op_type == "MatMul":
        weight, transposed = node.inputs[1], 0
        turn = weight.producer()
        if turn is not None and turn.op_type == "Transpose":
            weight, transposed = turn.inputs[0], 1
    else:
        return None
    stored = weight.is_initializer() and not weight.is_graph_input() and weight.shape is not None
    return (weight, int(transposed)) if stored and weight.shape.rank() == 2 else None


def _bias(node: ir.Node) -> tuple[ir.Value | None, ir.Value]:
    """The stored bias that is added to this product, and the sum; None, and the product itself."""
    product = node.outputs[0]
    if node.op_type == "Gemm":
        return (node.inputs[2] if len(node.inputs) > 2 else None), product
    uses = product.uses()
    if len(uses) == 1 and not product.is_graph_output():
        ((add, index),) = uses
        if add.op_type == "Add" and stored_vector(add.inputs[1 - index]):
            return add.inputs[1 - index], add.outputs[0]
    return None, product
