"""A matrix product by a stored weight, its bias and its activation → Linear."""

import onnx_ir as ir

from bertrt.errors import ExportError
from bertrt.export.graph.activation import Region, activation_after, identify
from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.match_linear import bias_after, stored_matrix
from bertrt.export.lowering.nodes import make_node
from bertrt.kernels.ops.activations import ACTIVATIONS

__all__ = ["fuse_linears"]


def fuse_linears(model: ir.Model) -> int:
    """Replace every MatMul and Gemm by a stored matrix, in place; returns the count.

    A weight that is read through a Transpose, as tied word embeddings are, or by a Gemm with
    `transB` is used as it is stored, with `transposed`.

    Raises ExportError for an activation that no kernel has.
    """
    graph = model.graph
    count = 0
    for node in list(graph):
        weight = _weight(node)
        if weight is None:
            continue
        bias, result = _bias(node)
        region = activation_after(graph, result) or Region([], result)
        layer = str(node.name).rpartition("/")[0]
        linear = make_node(
            "Linear",
            [node.inputs[0], weight[0], *([] if bias is None else [bias])],
            layer,
            activation=_activation(region, result, layer),
            transposed=int(weight[1]),
        )
        graph.insert_before(node, linear)
        replace_value(region.result, linear.outputs[0])
        add = [] if result is node.outputs[0] else [result.producer()]
        graph.remove([node, *add, *region.nodes], safe=True)
        count += 1
    return count


def _activation(region: Region, source: ir.Value, layer: str) -> str:
    name = identify(region, source)
    if name is None:
        known = ", ".join(activation for activation in ACTIVATIONS if activation)
        raise ExportError(
            f"the activation after {layer} is one for which the engine triton has no kernel (it "
            f"has {known}): export with --engine ort"
        )
    return name


def _weight(node: ir.Node) -> tuple[ir.Value, bool] | None:
    """Return the stored matrix that this node multiplies by, and whether it is transposed."""
    if node.op_type == "MatMul":
        return stored_matrix(node.inputs[1])
    if node.op_type != "Gemm":
        return None
    unscaled = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    weight = stored_matrix(node.inputs[1])
    if not unscaled or node.attributes.get_int("transA", 0) or weight is None or weight[1]:
        return None
    return weight[0], bool(node.attributes.get_int("transB", 0))


def _bias(node: ir.Node) -> tuple[ir.Value | None, ir.Value]:
    """Return the stored bias of this product, or None, and the product with the bias added."""
    if node.op_type == "Gemm":
        return (node.inputs[2] if len(node.inputs) > 2 else None), node.outputs[0]
    found = bias_after(node)
    if found is None:
        return None, node.outputs[0]
    add, bias = found
    return bias, add.outputs[0]
