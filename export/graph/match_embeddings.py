"""Match BERT's embeddings in a traced graph: a LayerNormalization of three gathered rows."""

from dataclasses import dataclass

import onnx_ir as ir

from bertrt.export.graph.values import producer_of, with_number

__all__ = [
    "EmbeddingSum",
    "counted_padding",
    "counts_from_zero",
    "embedding_sum",
    "graph_input_name",
]


@dataclass(frozen=True)
class EmbeddingSum:
    """The embedding tables of words, types and positions, and what indexes them.

    `word_ids` and `type_ids` are graph inputs, int64 [B, S], possibly reshaped. `position_ids` are
    counted by tokens other than `padding_id`, from the row after it; if that is None, they are
    [[0, 1, 2, …]].
    """

    words: ir.Value
    types: ir.Value
    positions: ir.Value
    word_ids: ir.Value
    type_ids: ir.Value
    position_ids: ir.Value
    padding_id: int | None


def embedding_sum(norm: ir.Node) -> EmbeddingSum | None:
    """Return the embeddings that a LayerNormalization normalizes, or None if it is another."""
    if norm.op_type != "LayerNormalization" or norm.attributes.get_int("axis", -1) != -1:
        return None
    found: dict[str, tuple[ir.Value, ir.Value]] = {}
    terms = [norm.inputs[0]]
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
        is_position = _counts_places(index) or counted_padding(index) is not None
        kind = "positions" if is_position else graph_input_name(index)
        if kind is None or kind in found:
            return None
        found[kind] = table, index
    if set(found) != {"input_ids", "token_type_ids", "positions"}:
        return None
    words, word_ids = found["input_ids"]
    types, type_ids = found["token_type_ids"]
    positions, position_ids = found["positions"]
    return EmbeddingSum(
        words, types, positions, word_ids, type_ids, position_ids, counted_padding(position_ids)
    )


def graph_input_name(value: ir.Value | None) -> str | None:
    """Return the name of the graph input that this is, possibly reshaped; None otherwise."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    return None if value is None else value.name


def counts_from_zero(value: ir.Value) -> bool:
    """Whether the value is a Range from 0 in steps of 1."""
    node = value.producer()
    if node is None or node.op_type != "Range":
        return False
    first, step = (node.inputs[index].const_value for index in (0, 2))
    return first is not None and step is not None and (first.numpy(), step.numpy()) == (0, 1)


def counted_padding(index: ir.Value) -> int | None:
    """Return the padding id of positions that are counted by tokens; None for other values.

    These are CumSum(c) · c + padding id, where c is whether a token is not padding.
    """
    (count, padding_id) = with_number(index, "Add")
    product = None if count is None else producer_of(count, "Mul")
    if product is None or padding_id is None:
        return None
    for total, factor in (product.inputs, product.inputs[::-1]):
        cumulated = producer_of(total, "CumSum")
        if cumulated is None or cumulated.inputs[0] is not factor:
            continue
        is_other = producer_of(_uncast(factor), "Not")
        ids, number = (None, None) if is_other is None else with_number(is_other.inputs[0], "Equal")
        if graph_input_name(ids) == "input_ids" and number == padding_id:
            return padding_id
    return None


def _counts_places(index: ir.Value) -> bool:
    """Whether the value is [[0, 1, 2, …]]."""
    node = index.producer()
    return node is not None and node.op_type == "Unsqueeze" and counts_from_zero(node.inputs[0])


def _uncast(value: ir.Value) -> ir.Value:
    node = producer_of(value, "Cast")
    return value if node is None else node.inputs[0]
