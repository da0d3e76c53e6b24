"""LayerNormalization, with the bias and the residual before it → AddLayerNorm."""

import onnx_ir as ir

from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.match_norm import norm_terms
from bertrt.export.lowering.nodes import make_node

__all__ = ["fuse_layer_norms"]


def fuse_layer_norms(model: ir.Model) -> int:
    """Replace every LayerNormalization, in place; returns the count.

    Call this after `pack_embeddings`. The bias of a product is fused only if a residual is added
    too; otherwise it belongs to the Linear that makes the product, with its activation.
    """
    graph = model.graph
    count = 0
    for norm in list(graph):
        if norm.op_type != "LayerNormalization" or norm.attributes.get_int("axis", -1) != -1:
            continue
        x, bias, residual = norm_terms(norm.inputs[0])
        fused = make_node(
            "AddLayerNorm",
            [x, *norm.inputs[1:3], bias, residual],
            str(norm.name).removesuffix("/LayerNormalization"),
            epsilon=norm.attributes.get_float("epsilon", 1e-5),
        )
        graph.insert_before(norm, fused)
        replace_value(norm.outputs[0], fused.outputs[0])
        graph.remove(norm, safe=True)
        count += 1
    return count
