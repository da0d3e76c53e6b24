"""Transpose(weight) → the stored transpose, where nothing else reads the weight.

A PyTorch Linear stores its weight as [out, in]; MatMul needs [in, out]. A weight with other
readers, such as word embeddings that are tied to a decoder, keeps its Transpose: a stored
transposed copy would add V x H floats to the file (94 MB for BERT-base).
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import store
from bertrt.export.graph.shared_memory import by_memory
from bertrt.export.graph.values import is_owned

__all__ = ["fold_transposed_weights"]


def fold_transposed_weights(model: ir.Model) -> int:
    """Replace Transpose(weight) by a stored `{weight}.T`, in place; returns the count."""
    graph = model.graph
    nodes = {node.inputs[0]: node for node in graph if _is_transposed_weight(node)}
    count = len(nodes)
    for weights in by_memory(list(nodes)):
        data = np.ascontiguousarray(weights[0].const_value.numpy().T)
        for weight in weights:
            node = nodes.pop(weight)
            stored = store(graph, f"{weight.name}.T", data)
            node.outputs[0].replace_all_uses_with(stored)
            graph.remove(node, safe=True)
            graph.initializers.pop(weight.name)
    return count


def _is_transposed_weight(node: ir.Node) -> bool:
    if node.op_type != "Transpose" or node.attributes.get_ints("perm") != (1, 0):
        return False
    weight = node.inputs[0]
    if not is_owned(weight) or len(weight.const_value.shape) != 2:
        return False
    return not node.outputs[0].is_graph_output()
