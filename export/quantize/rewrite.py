"""Linear layers of a graph to int8: QuantizeLinear and MatMulIntegerToFloat in place of MatMul."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, store
from bertrt.export.quantize.linears import bias_add, stored_bias
from bertrt.export.quantize.recipe import Quantized
from bertrt.export.quantize.unpack import unpack_products

__all__ = ["finish_int8", "write_int8"]

# Where a Slice ends that goes on to the last column.
_END = np.iinfo(np.int64).max


def write_int8(model: ir.Model, linears: Mapping[str, Quantized]) -> None:
    """Replace linear layers by their int8 form, in place.

    Args:
        model: a fused cpu graph.
        linears: each layer's tensors, by its name.

    A layer becomes (Mul by the inverse divisor →) QuantizeLinear → com.microsoft
    MatMulIntegerToFloat with the bias in it (→ Add of Slice or Gather →
    MatMul for the outlier columns).
    """
    graph = model.graph
    matmuls = {
        str(node.name).rpartition("/")[0]: node for node in graph if node.op_type == "MatMul"
    }
    for name, tensors in linears.items():
        _replace(graph, matmuls[name], name, tensors)
    model.opset_imports.setdefault("com.microsoft", 1)
    _drop_unused(graph)


def finish_int8(model: ir.Model) -> dict[str, int]:
    """Unpack products, in place; returns how many of each operator there are."""
    unpack_products(model)
    found = Counter(node.op_type for node in model.graph)
    counts = {name: found[name] for name in ("MatMulIntegerToFloat", "QuantizeLinear")}
    # What outlier columns keep packed; nothing else is split in these graphs.
    return {**counts, "PackedQKV": found["Split"]}


def _replace(graph: ir.Graph, matmul: ir.Node, name: str, tensors: Quantized) -> None:
    add = bias_add(matmul)
    last = matmul if add is None else add
    bias = tensors.correction
    if add is not None:
        bias = bias + stored_bias(add, matmul).const_value.numpy()  # type: ignore[union-attr]
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
        rest = node("MatMul", [columns, stored("outlier_weight", tensors.outlier_weight)])
        product = node("Add", [product, rest])
    graph.insert_before(last, nodes)
    old = last.outputs[0]
    output, old.name = old.name, None
    product.name, product.shape, product.type = output, old.shape, old.type
    old.replace_all_uses_with(product, replace_graph_outputs=True)
    graph.remove([matmul] if add is None else [matmul, add], safe=True)


def _drop_unused(graph: ir.Graph) -> None:
    """Remove what only the float32 layers read: their weights, and Transposes of them."""
    for node in list(graph):
        if node.op_type == "Transpose" and not node.outputs[0].uses():
            graph.remove(node, safe=True)
    outputs = set(graph.outputs)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and value not in outputs and not value.is_graph_input():
            graph.initializers.pop(name)
