"""MatMul by an encoder layer's [K, N] → com.microsoft FusedMatMul by [N, K].

PyTorch stores a row for each output, [N, K]. FusedMatMul reads that matrix transposed, and a
convolution reads it as it is: a graph of products and a graph of convolutions share one copy.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import store
from bertrt.export.graph.row_wise import PICKED_BATCH
from bertrt.export.graph.shared_memory import by_memory
from bertrt.export.graph.values import is_owned

__all__ = ["store_output_major"]

# The products of encoder layers, except the one after attention: as a convolution it would have no
# neighbour to share the blocking of its input or output with.
_LAYERS = "encoder.layer."
_ALONE = ".attention.output."


def store_output_major(model: ir.Model) -> int:
    """Replace the MatMuls that may become convolutions, in place; returns the count.

    These are MatMuls of float32 [B, S, K] by an encoder layer's stored [K, N]. Products of picked
    rows stay as they are: there may be no such row, and ONNX Runtime's convolutions refuse that.
    """
    graph = model.graph
    products = {node.inputs[1]: node for node in graph if _is_layer_product(node)}
    count = len(products)
    for weights in by_memory(list(products)):
        data = np.ascontiguousarray(weights[0].const_value.numpy().T)
        for weight in weights:
            product = products.pop(weight)
            graph.initializers.pop(str(weight.name))
            stored = store(graph, str(weight.name).removesuffix(".T"), data)
            product.replace_input_with(1, stored)
            product.op_type, product.domain = "FusedMatMul", "com.microsoft"
            product.attributes["transB"] = ir.AttrInt64("transB", 1)
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count


def _is_layer_product(node: ir.Node) -> bool:
    if node.op_type != "MatMul" or not is_owned(node.inputs[1]):
        return False
    x, weight = node.inputs
    name = str(weight.name)
    if weight.shape.rank() != 2 or _LAYERS not in name or _ALONE in name:
        return False
    return x.shape is not None and x.shape.rank() == 3 and str(x.shape[0]) != PICKED_BATCH
