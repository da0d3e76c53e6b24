"""LayerNormalization(words + types + positions) → Pack and EmbedLayerNorm.

From here on a row is a token. The nodes that follow process each token independently, so they mean
the same on [T, H] as on [B, S, H]. Other lowerings rewrite the exceptions: attention and outputs.
"""

import onnx_ir as ir

from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.match_embeddings import embedding_sum
from bertrt.export.lowering.nodes import make_node

__all__ = ["pack_embeddings"]

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def pack_embeddings(model: ir.Model) -> int:
    """Replace the embeddings and their LayerNormalization, in place; returns the count."""
    graph = model.graph
    inputs = {value.name: value for value in graph.inputs}
    count = 0
    for norm in list(graph):
        found = embedding_sum(norm)
        if found is None:
            continue
        padding = {} if found.padding_id is None else {"padding_id": found.padding_id}
        pack = make_node("Pack", [inputs[name] for name in _INPUTS], "bert", **padding)
        ids, types, positions, *_ = pack.outputs
        embed = make_node(
            "EmbedLayerNorm",
            [
                *(ids, types, positions),
                *(found.words, found.types, found.positions),
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
