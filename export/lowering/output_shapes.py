"""Restore the shapes of graph outputs: Unpack for one result a token, Regroup for choices."""

import onnx_ir as ir

from bertrt.export.lowering.nodes import make_node, only_node

__all__ = ["restore_shapes"]


def restore_shapes(model: ir.Model) -> int:
    """Give the graph's outputs their padded shapes, in place; returns the number of new nodes.

    Call this after `pack_embeddings`. An output that was traced as [B, S, F] is [T, F] now, and is
    unpacked; [B, C], one number a choice, is regrouped. Outputs that are split from the same rows,
    as a question's start and end are, share one Unpack before the Split.
    """
    graph = model.graph
    pack = only_node(graph, "Pack")
    if pack is None:
        return 0
    ids, rows = pack.inputs[0], pack.outputs[3]
    splits: set[ir.Node] = set()
    count = 0
    for position, output in enumerate(list(graph.outputs)):
        node, name = output.producer(), str(output.name)
        split = _split_before(node)
        if split is not None:
            if split not in splits:
                splits.add(split)
                restored = make_node("Unpack", [split.inputs[0], ids, rows], name)
                graph.insert_before(split, restored)
                split.replace_input_with(0, restored.outputs[0])
                count += 1
            continue
        if len(ids.shape) == 3 and node is not None and node.op_type == "Reshape":
            restored = make_node("Regroup", [node.inputs[0], ids], name)
        elif output.shape is not None and output.shape.rank() == 3:
            restored = make_node("Unpack", [output, ids, rows], name)
        else:
            continue
        graph.append(restored)
        new = restored.outputs[0]
        output.name, new.name = None, name
        new.shape, new.type = output.shape, output.type
        graph.outputs[position] = new
        count += 1
    return count


def _split_before(node: ir.Node | None) -> ir.Node | None:
    """Return the Split of which this node squeezes a part, or None."""
    if node is None or node.op_type != "Squeeze":
        return None
    split = node.inputs[0].producer()
    return split if split is not None and split.op_type == "Split" else None
