"""Results in the shape that callers expect: Unpack for those of each token, Regroup for choices."""

import onnx_ir as ir

from bertrt.export.lowering.nodes import make, only

__all__ = ["restore_shapes"]


def restore_shapes(model: ir.Model) -> int:
    """Give the graph's outputs their padded shape, in place; returns how many operators it took.

    What is [B, S, F] by the traced graph is [T, F] now, and unpacked; what is [B, C], one number
    a choice, is regrouped. Outputs that are cut of the same rows, as a question's start and end
    are, are cut after one Unpack.
    """
    graph = model.graph
    pack = only(graph, "Pack")
    if pack is None:
        return 0
    ids, rows = pack.inputs[0], pack.outputs[3]
    cuts: set[ir.Node] = set()
    count = 0
    for place, output in enumerate(list(graph.outputs)):
        node, name = output.producer(), str(output.name)
        cut = _cut(node)
        if cut is not None:
            if cut not in cuts:
                cuts.add(cut)
                restored = make("Unpack", [cut.inputs[0], ids, rows], name)
                graph.insert_before(cut, restored)
                cut.replace_input_with(0, restored.outputs[0])
                count += 1
            continue
        if len(ids.shape) == 3 and node is not None and node.op_type == "Reshape":
            restored = make("Regroup", [node.inputs[0], ids], name)
        elif output.shape is not None and output.shape.rank() == 3:
            restored = make("Unpack", [output, ids, rows], name)
        else:
            continue
        graph.append(restored)
        end = restored.outputs[0]
        output.name, end.name = None, name
        end.shape, end.type = output.shape, output.type
        graph.outputs[place] = end
        count += 1
    return count


def _cut(node: ir.Node | None) -> ir.Node | None:
    """The Split of which this node squeezes a part."""
    if node is None or node.op_type != "Squeeze":
        return None
    split = node.inputs[0].producer()
    return split if split is not None and split.op_type == "Split" else None
