"""The embeddings and their LayerNorm to com.microsoft EmbedLayerNormalization."""

import onnx_ir as ir

from bertrt.export.graph.match_embeddings import embedding_sum
from bertrt.export.graph.replace import replace_value

__all__ = ["fuse_embed_layer_norm"]


def fuse_embed_layer_norm(model: ir.Model) -> int:
    """Replace LayerNormalization(words + types + positions), in place; returns how many.

    The operator takes ids as int32, and counts positions from 0 itself.
    """
    graph = model.graph
    count = 0
    for norm in list(graph):
        total = embedding_sum(norm)
        if total is None:
            continue
        casts = [
            ir.node("Cast", [value], {"to": ir.DataType.INT32}, name=f"bert.embeddings/{name}")
            for name, value in (("ids", total.word_ids), ("types", total.type_ids))
        ]
        embed = ir.node(
            "EmbedLayerNormalization",
            [
                *(cast.outputs[0] for cast in casts),
                *(total.words, total.positions, total.types),
                *norm.inputs[1:3],
            ],
            {"epsilon": norm.attributes.get_float("epsilon", 1e-5)},
            num_outputs=2,
            domain="com.microsoft",
            name="bert.embeddings/EmbedLayerNormalization",
        )
        old, new = norm.outputs[0], embed.outputs[0]
        new.shape, new.type = old.shape, old.type
        graph.insert_before(norm, [*casts, embed])
        replace_value(old, new)
        graph.remove(norm, safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count
