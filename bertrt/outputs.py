"""What comes out of the graph: which outputs, and of a batch which part is each text's own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bertrt.artifact import TensorSpec
from bertrt.errors import InputError

__all__ = ["FLAGS", "answers", "choose_outputs", "gather", "split_rows"]

# Outputs that a graph has one of for each layer, `hidden_states.0` and so on, if it was made so.
_INSIDE = ("hidden_states", "attentions")

# Which tokens' outputs a head reads, to the graph's input that leaves out the others, if it has it.
FLAGS: dict[str, str | None] = {
    "all": None,
    "first": "first_token_only",
    "masks": "masked_only",
}


def gather(values: Mapping[str, Any], wanted: Sequence[str] | None) -> dict[str, Any]:
    """A run's outputs as they were asked for: what a graph has one of for each layer as a tuple.

    Args:
        values: the outputs by their names in the graph.
        wanted: the names that `choose_outputs` was given.
    """
    gathered: dict[str, Any] = {}
    for name, value in values.items():
        kind = name.partition(".")[0]
        if kind in _INSIDE and name not in (wanted or ()):
            gathered[kind] = tuple(values[one] for one in _members(kind, values))
        elif wanted is None or name in wanted:
            gathered[name] = value
    return gathered


def _members(kind: str, names: Collection[str]) -> list[str]:
    """Of the names of a graph's outputs, those of one kind of `_INSIDE`, layer by layer.

    A BertModel's last hidden states are its `last_hidden_state`.
    """
    found = [name for name in names if name.startswith(f"{kind}.")]
    if found and kind == "hidden_states" and "last_hidden_state" in names:
        found.append("last_hidden_state")
    return found


def answers(specs: Sequence[TensorSpec]) -> list[str]:
    """The names of the outputs that answers are made of: the head's own."""
    return [
        one.name for one in specs if not one.optional and one.name.partition(".")[0] not in _INSIDE
    ]


def choose_outputs(
    wanted: Any, specs: Sequence[TensorSpec], feeds: Mapping[str, np.ndarray]
) -> list[str]:
    """The names of the outputs to fetch.

    Args:
        wanted: a list of names, or None for those that transformers' model has. `hidden_states`
            and `attentions` mean those of every layer.
        specs: the graph's outputs.
        feeds: the arrays that it will run on.

    Raises InputError for what is no list of the graph's outputs, and for a mean over tokens that
    are left out.
    """
    if wanted is None:
        return [one.name for one in specs if not one.optional]
    known = [one.name for one in specs]
    if not isinstance(wanted, (list, tuple)) or not wanted:
        raise InputError(f"outputs is {wanted!r:.60}: give a list of {', '.join(known)}")
    chosen: list[str] = []
    for name in wanted:
        inside = _members(name, known) if name in _INSIDE else []
        chosen += inside or [name]
        if not inside and name not in known:
            raise InputError(f"unknown output {name!r:.60}: this graph gives {', '.join(known)}")
    if "mean_embedding" in wanted and feeds.get("first_token_only"):
        raise InputError("mean_embedding is of all tokens: leave first_token_only out")
    return list(dict.fromkeys(chosen))


def split_rows(
    outputs: Mapping[str, np.ndarray],
    by_token: Collection[str],
    lengths: Sequence[int],
    masks: np.ndarray,
    *,
    tokens: str,
    left_out: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Each text's own part of the outputs.

    Args:
        outputs: name to array, float32 [B, …].
        by_token: the names of those that are [B, S, …].
        lengths: each text's length in tokens.
        masks: bool [B, S], true for each mask token.
        tokens: "all", "first" or "masks": whose outputs are wanted of those that are by token.
        left_out: whether the graph has left out the other tokens: then those outputs are
            [B, 1, …] for "first", and [R, 1, …] for R masks in row-major order.

    Yields name to array: [S, …] without padding, [1, …] for "first", [M, …] for a text's M masks,
    and whatever one text has of the other outputs.
    """
    ends = masks.sum(axis=1).cumsum() if tokens == "masks" else None
    for row, length in enumerate(lengths):
        place: Any = (row, slice(length if tokens == "all" else 1))
        if ends is not None:
            own = np.flatnonzero(masks[row])
            place = (slice(ends[row] - own.size, ends[row]), 0) if left_out else (row, own)
        yield {name: value[place if name in by_token else row] for name, value in outputs.items()}
