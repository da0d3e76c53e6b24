"""Transposed weights stored as MatMul reads them: no Transpose left where a weight has one reader.

A PyTorch Linear holds its weight [out, in]; MatMul wants [in, out]. A weight that something else
reads too, as the word embeddings tied to a decoder are, keeps its Transpose: storing the
transposed copy as well would add V x H floats to the file (94 MB for BERT-base).
"""

import numpy as np
import onnx_ir as ir

__all__ = ["fold_transposed_weights"]


def fold_transposed_weights(model: ir.Model) -> int:
    """Replace Transpose(weight) by a stored `{weight}.T`, in place; returns how many."""
    count = 0
    for node in list(model.graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or not _only_read_here(weight, model.graph):
            continue
        if node.outputs[0].is_graph_output() or node.attributes.get_ints("perm") != (1, 0):
            continue
        transposed = np.ascontiguousarray(weight.const_value.numpy().T)
        stored = ir.Value(
            name=f"{weight.name}.T",
            shape=ir.Shape(transposed.shape),
            type=ir.TensorType(weight.dtype),
            const_value=ir.tensor(transposed, name=f"{weight.name}.T"),
        )
        model.graph.register_initializer(stored)
        node.outputs[0].replace_all_uses_with(stored)
        model.graph.remove(node, safe=True)
        model.graph.initializers.pop(weight.name)
        count += 1
    return count


def _only_read_here(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether `value` is a stored matrix with one reader."""
    return (
        value.is_initializer()
        and value not in graph.inputs
        and not value.is_graph_output()
        and value.const_value is not None
        and len(value.const_value.shape) == 2
        and len(value.uses()) == 1
    )
