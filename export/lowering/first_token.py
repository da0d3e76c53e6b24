"""Gather(x, 0, axis=1), the first token's hidden state → FirstRows and SelectRows."""

import onnx_ir as ir

from bertrt.export.graph.edit import replace_value
from bertrt.export.graph.match_first_token import gathers_first_token
from bertrt.export.lowering.nodes import make_node, only_node

__all__ = ["select_first_tokens"]


def select_first_tokens(model: ir.Model) -> int:
    """Replace each Gather of the first token, in place; returns the count.

    Call this after `pack_embeddings`.
    """
    graph = model.graph
    pack = only_node(graph, "Pack")
    count = 0
    for node in list(graph):
        if pack is None or not gathers_first_token(node):
            continue
        *_, rows, offsets = pack.outputs
        scope = str(node.name).removesuffix("/Gather")
        first = make_node("FirstRows", [offsets, rows], scope)
        selected = make_node("SelectRows", [node.inputs[0], first.outputs[0]], scope)
        graph.insert_after(pack, first)
        graph.insert_before(node, selected)
        replace_value(node.outputs[0], selected.outputs[0])
        graph.remove(node, safe=True)
        count += 1
    return count
