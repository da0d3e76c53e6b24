"""Transpose(weight) → the stored transpose, where nothing else reads the weight.

A PyTorch Linear stores its weight as [out, in]; MatMul needs [in, out]. A weight with other
readers, such as word embeddings that are tied to a decoder, keeps its Transpose: a stored
transposed copy would add V x H floats to the file (94 MB for BERT-base).
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import store
from bertrt.export.graph.values import is_owned

__all__ = ["fold_transposed_weights"]


def fold_transposed_weights(model: ir.Model) -> int:
    """Replace Transpose(weight) by a stored `{weight}.T`, in place; returns the count."""
    graph = model.graph
    count = 0
    for node in list(graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not is_owned(weight) or len(weight.const_value.shape) != 2:
            continue
        if node.outputs[0].is_graph_output() or node.attributes.get_ints("perm") != (1, 0):
            continue
        data = np.ascontiguousarray(weight.const_value.numpy().T)
        stored = store(graph, f"{weight.name}.T", data)
        node.outputs[0].replace_all_uses_with(stored)
        graph.remove(node, safe=True)
        graph.initializers.pop(weight.name)
        count += 1
    return count
