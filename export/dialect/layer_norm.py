"""LayerNormalization, with the bias and the residual before it, to AddLayerNorm."""

import onnx_ir as ir

from bertrt.export.dialect.nodes import make, take_over

__all__ = ["fuse_layer_norms", "stored_vector"]


def fuse_layer_norms(model: ir.Model) -> int:
    """Replace every LayerNormalization, in place; returns how many.

    To be asked after `pack_embeddings`. A product's bias goes along only where it is added before
    a residual: elsewhere it belongs to what makes the product, with its activation.
    """
    graph = model.graph
    count = 0
    for norm in list(graph):
        if norm.op_type != "LayerNormalization" or norm.attributes.get_int("axis", -1) != -1:
            continue
        x, bias, residual = _terms(norm.inputs[0])
        fused = make(
            "AddLayerNorm",
            [x, *norm.inputs[1:3], bias, residual],
            str(norm.name).removesuffix("/LayerNormalization"),
            epsilon=norm.attributes.get_float("epsilon", 1e-5),
        )
        graph.insert_before(norm, fused)
        take_over(norm.outputs[0], fused.outputs[0])
        graph.remove(norm, safe=True)
        count += 1
    return count


def _terms(total: ir.Value) -> tuple[ir.Value, ir.Value | None, ir.Value | None]:
    """What is normalized: x, the bias and the residual, where it is x + bias + residual."""
    outer = total.producer()
    if outer is None or outer.op_type != "Add" or not _read_once(total):
        return total, None, None
    for place, term in enumerate(outer.inputs):
        inner = term.producer()
        if inner is None or inner.op_type != "Add" or not _read_once(term):
            continue
        for index, bias in enumerate(inner.inputs):
            product = inner.inputs[1 - index]
            if stored_vector(bias) and product.producer() is not None:
                return product, bias, outer.inputs[1 - place]
    return total, None, None


def stored_vector(value: ir.Value | None) -> bool:
    """Whether this is a stored tensor with one axis."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return False
    return value.shape is not None and value.shape.rank() == 1


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()
