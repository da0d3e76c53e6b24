"""LayerNormalization(words + types + positions) → com.microsoft EmbedLayerNormalization."""

import onnx_ir as ir

from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.match_embeddings import embedding_sum

__all__ = ["fuse_embed_layer_norm"]


def fuse_embed_layer_norm(model: ir.Model) -> int:
    """Fuse the embeddings with their LayerNormalization, in place; returns the count.

    The operator takes ids as int32, and counts positions from 0 itself, unless it gets them.
    """
    graph = model.graph
    count = 0
    for norm in list(graph):
        found = embedding_sum(norm)
        if found is None:
            continue
        integers = {"ids": found.word_ids, "types": found.type_ids}
        if found.padding_id is not None:
            integers["positions"] = found.position_ids
        casts = [
            ir.node("Cast", [value], {"to": ir.DataType.INT32}, name=f"bert.embeddings/{name}")
            for name, value in integers.items()
        ]
        ids, types, *positions = (cast.outputs[0] for cast in casts)
        embed = ir.node(
            "EmbedLayerNormalization",
            [
                *(ids, types),
                *(found.words, found.positions, found.types),
                *norm.inputs[1:3],
                *([None, *positions] if positions else []),  # without a mask
            ],
            {"epsilon": norm.attributes.get_float("epsilon", 1e-5)},
            num_outputs=2,
            domain="com.microsoft",
            name="bert.embeddings/EmbedLayerNormalization",
        )
        graph.insert_before(norm, [*casts, embed])
        replace_value(norm.outputs[0], embed.outputs[0])
        graph.remove(norm, safe=True)
        count += 1
    if count:
        model.opset_imports.setdefault("com.microsoft", 1)
    return count
