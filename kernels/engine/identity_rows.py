"""Drop the selections that select every row, which a flag of the run decides."""

from collections.abc import Collection
from dataclasses import replace

from bertrt.kernels.engine.graph import Graph, Node
from bertrt.kernels.ops.registry import OPERATORS

__all__ = ["drop_identity_rows", "row_flags"]

# These pick every row if their flag is False.
_PICKING = ("FirstRows", "MaskedRows")


def row_flags(graph: Graph) -> frozenset[str]:
    """Return the flags that decide whether the graph computes some rows or all."""
    return frozenset(flag for node in graph.nodes if (flag := _flag(node)))


def drop_identity_rows(graph: Graph, false_flags: Collection[str]) -> Graph:
    """Return the graph for runs in which these flags are False, with the same answers.

    A SelectRows of every row is a copy, and the PickedOffsets of every row are the offsets: what
    reads them reads their inputs instead. Those that are outputs of the graph are kept.
    """
    all_rows = {node.outputs[0] for node in graph.nodes if _flag(node) in false_flags}
    same: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
        dropped = None
        if node.op_type == "SelectRows" and node.inputs[1] in all_rows:
            dropped = node.inputs[0]
        elif node.op_type == "PickedOffsets" and node.inputs[0] in all_rows:
            dropped = node.inputs[1]
        if dropped is None or node.outputs[0] in graph.outputs:
            nodes.append(node)
        else:
            same[node.outputs[0]] = dropped
    return replace(graph, nodes=tuple(nodes))


def _flag(node: Node) -> str | None:
    """Return the flag of a node that picks rows; None for other nodes and without a flag."""
    if node.op_type not in _PICKING:
        return None
    inputs = dict(zip(OPERATORS[node.op_type].inputs, node.inputs, strict=False))
    return inputs.get("only") or None
