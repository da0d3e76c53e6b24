"""Compute the vocabulary's logits at mask tokens only, if the caller asks for no others.

The projection to the vocabulary is the largest matrix product of a BERT with few layers, and
fill-mask reads only the rows of mask tokens.
"""

import onnx_ir as ir

from bertrt.artifact.graph_io import MASKED_ONLY
from bertrt.export.graph.edit import add_flag, constant
from bertrt.export.graph.row_wise import (
    PICKED_BATCH,
    PICKED_SEQUENCE,
    Use,
    internal_values,
    last_layer,
    row_wise_values,
    set_token_axis,
)

__all__ = ["keep_masked_rows"]

_TRANSFORM = "cls.predictions.transform.dense/MatMul"


def keep_masked_rows(model: ir.Model, mask_id: int) -> int:
    """Add an input `masked_only`, one bool, False by default, in place; returns 1 or 0.

    With True the logits are those of the tokens equal to `mask_id`, float32 [R, 1, V] for R masks
    in the order of the rows of `input_ids`, instead of [B, S, V]. The weights are stored once.

    Other tokens are dropped as early as possible: after the last layer's attention, or, if a pooler
    reads that layer's first token, before the head. A graph without such a head stays as it is.
    """
    graph = model.graph
    for starts in _candidate_starts(graph):
        values = row_wise_values(graph, starts, lambda node: False)
        if values is not None and any(value.is_graph_output() for value in values):
            _drop_other_tokens(graph, starts, mask_id)
            set_token_axis(internal_values(values), tokens=PICKED_SEQUENCE, batch=PICKED_BATCH)
            return 1
    return 0


def _candidate_starts(graph: ir.Graph) -> list[list[Use]]:
    """Return where tokens may be dropped, the earliest first."""
    transform = next((node for node in graph if node.name == _TRANSFORM), None)
    layer = last_layer(graph)
    if transform is None:
        return []
    starts: list[list[Use]] = [[(transform, 0)]]
    if layer is not None:
        starts.insert(0, [(layer.output, 0), layer.residual_use])
    return starts


def _drop_other_tokens(graph: ir.Graph, starts: list[Use], mask_id: int) -> None:
    """Make each of `starts` read the kept rows only."""
    ids = next(value for value in graph.inputs if value.name == "input_ids")
    first = starts[0][0]
    flag = add_flag(graph, MASKED_ONLY)
    flat_shape = constant(graph, [-1])
    mask = constant(graph, mask_id)
    masked = ir.node("Equal", [ids, mask], name=f"{MASKED_ONLY}/Equal")
    keep_all = ir.node("Not", [flag], name=f"{MASKED_ONLY}/Not")
    kept = ir.node("Or", [masked.outputs[0], keep_all.outputs[0]], name=f"{MASKED_ONLY}/Or")
    flat = ir.node("Reshape", [kept.outputs[0], flat_shape], name=f"{MASKED_ONLY}/Reshape")
    graph.insert_before(first, [masked, keep_all, kept, flat])
    for number, (node, index) in enumerate(starts):
        value = node.inputs[index]
        scope = f"{MASKED_ONLY}.{number}"
        size = value.shape[-1]
        matrix = constant(graph, [-1, size])
        one_token_rows = constant(graph, [-1, 1, size])
        rows = ir.node("Reshape", [value, matrix], name=f"{scope}/Reshape")
        picked = ir.node(
            "Compress", [rows.outputs[0], flat.outputs[0]], {"axis": 0}, name=f"{scope}/Compress"
        )
        shape = ir.node("Shape", [value], name=f"{scope}/Shape")
        target = ir.node("Where", [flag, one_token_rows, shape.outputs[0]], name=f"{scope}/Where")
        # Back to three axes: [B, S, H] as before, or one batch row for each mask.
        restored = ir.node(
            "Reshape", [picked.outputs[0], target.outputs[0]], name=f"{scope}/Reshape_back"
        )
        graph.insert_before(first, [rows, picked, shape, target, restored])
        restored.outputs[0].type = value.type
        node.replace_input_with(index, restored.outputs[0])
