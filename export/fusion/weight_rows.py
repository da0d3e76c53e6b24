"""Encoder layers' weights as PyTorch stores them, a row for each output.

A product reads such a matrix transposed, and a convolution reads it as it is: one copy is enough
for a graph of products and a graph of convolutions.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.fusion.masked_rows import PICKED_ROWS
from bertrt.export.graph.edit import store
from bertrt.export.graph.match_linear import owned

__all__ = ["reads_rows", "store_rows"]

# An encoder layer's products; but for the one after attention, which has no neighbour that it could
# share the blocking of its input or its output with.
_LAYERS = "encoder.layer."
_ALONE = ".attention.output."


def store_rows(model: ir.Model) -> int:
    """Make FusedMatMul by [N, K] of the products that may be convolutions, in place.

    Those are the MatMuls of float32 [B, S, K] by an encoder layer's stored [K, N]. Left are those
    of rows that were picked of the batch, since there may be none, and ONNX Runtime's convolutions
    refuse that.

    Returns how many there are.
    """
    graph = model.graph
    products = [node for node in graph if _is_a_layers_product(node)]
    for product in products:
        weight = product.inputs[1]
        rows = np.ascontiguousarray(weight.const_value.numpy().T)
        graph.initializers.pop(str(weight.name))
        stored = store(graph, str(weight.name).removesuffix(".T"), rows)
        product.replace_input_with(1, stored)
        product.op_type, product.domain = "FusedMatMul", "com.microsoft"
        product.attributes["transB"] = ir.AttrInt64("transB", 1)
    if products:
        model.opset_imports.setdefault("com.microsoft", 1)
    return len(products)


def reads_rows(node: ir.Node) -> bool:
    """Whether this is a product that `store_rows` made."""
    return node.op_type == "FusedMatMul" and bool(node.attributes.get_int("transB", 0))


def _is_a_layers_product(node: ir.Node) -> bool:
    if node.op_type != "MatMul" or not owned(node.inputs[1]):
        return False
    x, weight = node.inputs
    name = str(weight.name)
    if weight.shape.rank() != 2 or _LAYERS not in name or _ALONE in name:
        return False
    return x.shape is not None and x.shape.rank() == 3 and str(x.shape[0]) != PICKED_ROWS
