"""Match a bias of attention by the distance of two tokens, and the mask that has it, in a graph."""

from dataclasses import dataclass

import onnx_ir as ir

from bertrt.export.graph.match_attention import is_padding_mask
from bertrt.export.graph.match_embeddings import counts_from_zero
from bertrt.export.graph.values import is_stored, producer_of, with_number

__all__ = ["BiasedMask", "biased_mask", "distance_table"]


@dataclass(frozen=True)
class BiasedMask:
    """A mask float32 [B, N, S, S] that Attention adds to its scores: the sum of two values.

    Attributes:
        bias: [1, N, S, S], the same for every text.
        padding: makes [B, 1, 1, S], 0 for a token and the lowest number for padding: a Where.
    """

    bias: ir.Value
    padding: ir.Node


def biased_mask(mask: ir.Value | None) -> BiasedMask | None:
    """Return the parts of a mask; None for another value."""
    total = producer_of(mask, "Add")
    for bias, hidden in () if total is None else (total.inputs, total.inputs[::-1]):
        padding = producer_of(hidden, "Where")
        if padding is not None and is_padding_mask(padding.inputs[0]):
            return BiasedMask(bias, padding)
    return None


def distance_table(bias: ir.Value) -> ir.Value | None:
    """Return the stored table [2·F + 1, N] of a bias [1, N, S, S]; None for another bias.

    The row of query i and key j is F + (j - i), where distances beyond ±F count as that.
    """
    heads_first = producer_of(_unsqueezed(bias, 0), "Transpose")
    if heads_first is None or heads_first.attributes.get_ints("perm") != (2, 0, 1):
        return None
    gather = producer_of(heads_first.inputs[0], "Gather")
    if gather is None or gather.attributes.get_int("axis", 0) != 0:
        return None
    table, index = gather.inputs
    clip = producer_of(index, "Clip")
    if clip is None or not is_stored(table) or table.shape is None or table.shape[0] % 2 == 0:
        return None
    last = table.shape[0] - 1
    bounds = [bound.const_value for bound in clip.inputs[1:]]
    if None in bounds or [int(bound.numpy()) for bound in bounds] != [0, last]:
        return None
    return table if _is_distance(clip.inputs[0], middle=last // 2) else None


def _is_distance(value: ir.Value, *, middle: int) -> bool:
    """Whether the value is j - i + `middle` for keys j in columns and queries i in rows."""
    difference = producer_of(value, "Sub")
    if difference is None:
        return False
    keys, queries = difference.inputs
    places, number = with_number(_unsqueezed(keys, 0), "Add")
    rows = _unsqueezed(queries, 1)
    if places is None or rows is None or number != middle:
        return False
    return counts_from_zero(places) and counts_from_zero(rows)


def _unsqueezed(value: ir.Value | None, axis: int) -> ir.Value | None:
    """Return what the value is with one axis more."""
    source, number = with_number(value, "Unsqueeze")
    return source if number == axis else None
