"""The vocabulary's logits at the masked positions only, when a caller asks for no others.

The projection to the vocabulary is the largest matrix product of a BERT with few layers, and all
of it but the masks' rows is thrown away by fill-mask.
"""

import onnx_ir as ir

from bertrt.artifact.graph_io import MASKED_ONLY
from bertrt.export.graph.edit import add_flag, constant
from bertrt.export.graph.row_wise import Use, inner, last_layer, narrow, row_wise

__all__ = ["PICKED_ROWS", "keep_masked_rows"]


_TRANSFORM = "cls.predictions.transform.dense/MatMul"
# The axes' names where only masks may be left: they are the batch's and the sequence's no more.
PICKED_ROWS, _TOKENS = "kept_batch", "kept_sequence"


def keep_masked_rows(model: ir.Model, mask_id: int) -> int:
    """Add an input `masked_only`, one bool, by default False, in place; returns how many heads.

    With True the logits are those of the tokens that are `mask_id`, float32 [R, 1, V] for R masks
    in the order of the rows of `input_ids`, in place of [B, S, V]. There is one copy of the
    weights either way.

    Tokens are dropped as early as nothing else reads them: after the last layer's attention, or,
    where a pooler reads the layer's first token, before the head.
    """
    graph = model.graph
    for starts in _places(graph):
        values = row_wise(graph, starts, lambda node: False)
        if values is not None and any(value.is_graph_output() for value in values):
            _drop(graph, starts, mask_id)
            narrow(inner(values), tokens=_TOKENS, batch=PICKED_ROWS)
            return 1
    return 0


def _places(graph: ir.Graph) -> list[list[Use]]:
    """Where tokens may be dropped, the earliest first."""
    transform = next((node for node in graph if node.name == _TRANSFORM), None)
    layer = last_layer(graph)
    if transform is None:
        return []
    places: list[list[Use]] = [[(transform, 0)]]
    if layer is not None:
        places.insert(0, [(layer.output, 0), layer.residual_use])
    return places


def _drop(graph: ir.Graph, starts: list[Use], mask_id: int) -> None:
    """Have each of `starts` read the kept rows in place of all."""
    ids = next(value for value in graph.inputs if value.name == "input_ids")
    first = starts[0][0]
    flag = add_flag(graph, MASKED_ONLY)
    rows = constant(graph, [-1])
    mask = constant(graph, mask_id)
    masked = ir.node("Equal", [ids, mask], name="masked_only/Equal")
    everything = ir.node("Not", [flag], name="masked_only/Not")
    kept = ir.node("Or", [masked.outputs[0], everything.outputs[0]], name="masked_only/Or")
    flat = ir.node("Reshape", [kept.outputs[0], rows], name="masked_only/Reshape")
    graph.insert_before(first, [masked, everything, kept, flat])
    for number, (node, index) in enumerate(starts):
        value = node.inputs[index]
        scope = f"masked_only.{number}"
        size = value.shape[-1]
        matrix = constant(graph, [-1, size])
        alone = constant(graph, [-1, 1, size])
        listed = ir.node("Reshape", [value, matrix], name=f"{scope}/Reshape")
        picked = ir.node(
            "Compress", [listed.outputs[0], flat.outputs[0]], {"axis": 0}, name=f"{scope}/Compress"
        )
        shape = ir.node("Shape", [value], name=f"{scope}/Shape")
        target = ir.node("Where", [flag, alone, shape.outputs[0]], name=f"{scope}/Where")
        # Back to three axes: [B, S, H] as before, or the masks' rows, each a batch of its own.
        folded = ir.node(
            "Reshape", [picked.outputs[0], target.outputs[0]], name=f"{scope}/Reshape_back"
        )
        graph.insert_before(first, [listed, picked, shape, target, folded])
        folded.outputs[0].type = value.type
        node.replace_input_with(index, folded.outputs[0])
