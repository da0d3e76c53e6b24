"""The first token's hidden state, as poolers read it, to FirstRows and SelectRows."""

import onnx_ir as ir

from bertrt.export.fusion.prune_last_layer import reads_the_first_token
from bertrt.export.graph.replace import replace_value
from bertrt.export.lowering.nodes import make, only

__all__ = ["select_first_tokens"]


def select_first_tokens(model: ir.Model) -> int:
    """Replace each Gather(x, 0, axis=1), in place; returns how many."""
    graph = model.graph
    pack = only(graph, "Pack")
    count = 0
    for node in list(graph):
        if pack is None or not reads_the_first_token(node):
            continue
        *_, rows, offsets = pack.outputs
        scope = str(node.name).removesuffix("/Gather")
        first = make("FirstRows", [offsets, rows], scope)
        selected = make("SelectRows", [node.inputs[0], first.outputs[0]], scope)
        graph.insert_after(pack, first)
        graph.insert_before(node, selected)
        replace_value(node.outputs[0], selected.outputs[0])
        graph.remove(node, safe=True)
        count += 1
    return count
