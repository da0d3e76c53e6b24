"""LayerNormalization(x + bias + residual) → com.microsoft SkipLayerNormalization."""

import onnx_ir as ir

from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.match_norm import norm_terms

__all__ = ["fuse_skip_layer_norms"]


def fuse_skip_layer_norms(model: ir.Model) -> int:
    """Fuse each LayerNormalization with the sum before it, in place; returns the count."""
    graph = model.graph
    count = 0
    for norm in list(graph):
        if norm.op_type != "LayerNormalization" or norm.attributes.get_int("axis", -1) != -1:
            continue
        x, bias, residual = norm_terms(norm.inputs[0])
        if residual is None:
            continue
        fused = ir.node(
            "SkipLayerNormalization",
            [x, residual, *norm.inputs[1:3], bias],
            {"epsilon": norm.attributes.get_float("epsilon", 1e-5)},
            domain="com.microsoft",
            name=str(norm.name).replace("/LayerNormalization", "/SkipLayerNormalization"),
        )
        graph.insert_before(norm, fused)
        replace_value(norm.outputs[0], fused.outputs[0])
        graph.remove(norm, safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count
