"""The embeddings and their LayerNorm to Pack and EmbedLayerNorm: from here on rows are tokens.

What follows works token by token, and so means the same on [T, H] as on [B, S, H], all but the
attention and the ends, which other fusions rewrite.
"""

import onnx_ir as ir

from bertrt.export.graph.match_embeddings import embedding_sum
from bertrt.export.graph.replace import replace_value
from bertrt.export.lowering.nodes import make

__all__ = ["pack_embeddings"]

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def pack_embeddings(model: ir.Model) -> int:
    """Replace LayerNormalization(words + types + positions), in place; returns how many."""
    graph = model.graph
    ends = {value.name: value for value in graph.inputs}
    count = 0
    for norm in list(graph):
        total = embedding_sum(norm)
        if total is None:
            continue
        pack = make("Pack", [ends[name] for name in _INPUTS], "bert")
        ids, types, positions, *_ = pack.outputs
        embed = make(
            "EmbedLayerNorm",
            [
                *(ids, types, positions),
                *(total.words, total.types, total.positions),
                *norm.inputs[1:3],
            ],
            "bert.embeddings",
            epsilon=norm.attributes.get_float("epsilon", 1e-5),
        )
        graph.insert_before(norm, [pack, embed])
        replace_value(norm.outputs[0], embed.outputs[0])
        graph.remove(norm, safe=True)
        count += 1
    return count
