"""MatMul and Add of linear layers → QuantizeLinear and com.microsoft MatMulIntegerToFloat."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, store
from bertrt.export.graph.match_linear import bias_after
from bertrt.export.quantize.linears import find_products
from bertrt.export.quantize.recipe import Quantized
from bertrt.export.quantize.unpack import unpack_products

__all__ = ["finish_int8", "write_int8"]

# The end of a Slice up to the last column.
_END = np.iinfo(np.int64).max


def write_int8(model: ir.Model, linears: Mapping[str, Quantized]) -> None:
    """Replace linear layers by their int8 form, in place.

    A layer becomes (Mul by the inverse divisor →) QuantizeLinear → MatMulIntegerToFloat, which adds
    the bias (→ Add of Slice or Gather → MatMul for the outlier columns).

    Args:
        model: a fused cpu graph.
        linears: each layer's tensors, by its name.
    """
    graph = model.graph
    matmuls = find_products(model)
    for name, tensors in linears.items():
        _replace(graph, matmuls[name], name, tensors)
    model.opset_imports.setdefault("com.microsoft", 1)
    _remove_unused(graph)


def finish_int8(model: ir.Model) -> dict[str, int]:
    """Unpack products, in place; returns the number of each int8 operator in the graph."""
    unpack_products(model)
    found = Counter(node.op_type for node in model.graph)
    counts = {name: found[name] for name in ("MatMulIntegerToFloat", "QuantizeLinear")}
    # The projections that stay packed because of outlier columns; these graphs have no other Split.
    return {**counts, "PackedQKV": found["Split"]}


def _replace(graph: ir.Graph, matmul: ir.Node, name: str, tensors: Quantized) -> None:
    found = bias_after(matmul)
    last, bias = matmul, tensors.correction
    if found is not None:
        last, stored_bias = found
        bias = bias + stored_bias.const_value.numpy()
    nodes: list[ir.Node] = []

    def node(operator: str, inputs: list[ir.Value | None], domain: str = "") -> ir.Value:
        new = ir.node(operator, inputs, domain=domain, name=f"{name}/{operator}")
        new.outputs[0].name = str(new.name)
        nodes.append(new)
        return new.outputs[0]

    def stored(part: str, data: np.ndarray) -> ir.Value:
        return store(graph, f"{name}.{part}", data)

    source = matmul.inputs[0]
    if tensors.divisor is not None:
        source = node("Mul", [source, stored("input_factor", 1 / tensors.divisor)])
        source.shape, source.type = matmul.inputs[0].shape, matmul.inputs[0].type
    scale = stored("input_scale", np.array(tensors.scale))
    zero = stored("input_zero_point", np.array(tensors.zero))
    product = node(
        "MatMulIntegerToFloat",
        [
            node("QuantizeLinear", [source, scale, zero]),
            stored("weight_int8", tensors.weight),
            scale,
            stored("weight_scale", tensors.weight_scale),
            zero,
            None,
            stored("bias_corrected", bias.astype(np.float32)),
        ],
        domain="com.microsoft",
    )
    if len(tensors.outliers):
        if tensors.outliers_are_last:
            first, end, axis = (constant(graph, [n]) for n in (tensors.outliers[0], _END, -1))
            columns = node("Slice", [source, first, end, axis])
        else:
            columns = node("Gather", [source, stored("outlier_columns", tensors.outliers)])
            nodes[-1].attributes["axis"] = ir.AttrInt64("axis", -1)
        outlier_product = node(
            "MatMul", [columns, stored("outlier_weight", tensors.outlier_weight)]
        )
        product = node("Add", [product, outlier_product])
    graph.insert_before(last, nodes)
    # Not `replace_value`: no later pass names values, so the new one takes the old one's name.
    old = last.outputs[0]
    output_name, old.name = old.name, None
    product.name, product.shape, product.type = output_name, old.shape, old.type
    old.replace_all_uses_with(product, replace_graph_outputs=True)
    graph.remove([matmul] if last is matmul else [matmul, last], safe=True)


def _remove_unused(graph: ir.Graph) -> None:
    """Remove what only the float32 layers read: their weights, and Transposes of them."""
    for node in list(graph):
        if node.op_type == "Transpose" and not node.outputs[0].uses():
            graph.remove(node, safe=True)
    outputs = set(graph.outputs)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in outputs and not value.is_graph_input():
            graph.initializers.pop(name)
