"""The embeddings and their LayerNorm to Pack and EmbedLayerNorm: from here on rows are tokens.

What follows works token by token, and so means the same on [T, H] as on [B, S, H], all but the
attention and the ends, which other fusions rewrite.
"""

import onnx_ir as ir

from bertrt.export.dialect.nodes import make, take_over

__all__ = ["counts_from_zero", "pack_embeddings", "source"]

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def pack_embeddings(model: ir.Model) -> int:
    """Replace LayerNormalization(words + types + positions), in place; returns how many."""
    graph = model.graph
    ends = {value.name: value for value in graph.inputs}
    count = 0
    for norm in list(graph):
        if norm.op_type != "LayerNormalization":
            continue
        tables = _tables(norm.inputs[0])
        if tables is None or norm.attributes.get_int("axis", -1) != -1:
            continue
        pack = make("Pack", [ends[name] for name in _INPUTS], "bert")
        ids, types, positions, *_ = pack.outputs
        embed = make(
            "EmbedLayerNorm",
            [ids, types, positions, *tables, *norm.inputs[1:3]],
            "bert.embeddings",
            epsilon=norm.attributes.get_float("epsilon", 1e-5),
        )
        graph.insert_before(norm, [pack, embed])
        take_over(norm.outputs[0], embed.outputs[0])
        graph.remove(norm, safe=True)
        count += 1
    return count


def _tables(total: ir.Value) -> list[ir.Value] | None:
    """The stored tables of words, types and positions, when `total` is the sum of their rows."""
    found: dict[str, ir.Value] = {}
    terms = [total]
    while terms:
        node = terms.pop().producer()
        if node is not None and node.op_type == "Add":
            terms.extend(node.inputs)
            continue
        if node is None or node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
            return None
        table, index = node.inputs
        if not table.is_initializer() or table.shape is None or table.shape.rank() != 2:
            return None
        kind = "positions" if _is_position(index) else source(index)
        if kind is None or kind in found:
            return None
        found[kind] = table
    wanted = ("input_ids", "token_type_ids", "positions")
    return [found[name] for name in wanted] if set(found) == set(wanted) else None


def source(value: ir.Value | None) -> str | None:
    """The name of the graph input that this is, reshaped at most; None for anything else."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    return None if value is None else value.name


def _is_position(index: ir.Value) -> bool:
    """Whether this is [[0, 1, 2, …]]."""
    node = index.producer()
    return node is not None and node.op_type == "Unsqueeze" and counts_from_zero(node.inputs[0])


def counts_from_zero(value: ir.Value) -> bool:
    """Whether this is a Range from 0 in steps of 1."""
    node = value.producer()
    if node is None or node.op_type != "Range":
        return False
    first, step = (node.inputs[place].const_value for place in (0, 2))
    return first is not None and step is not None and (first.numpy(), step.numpy()) == (0, 1)
