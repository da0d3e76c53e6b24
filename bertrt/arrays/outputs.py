"""What comes out of the graph: which outputs, and of a batch which part is each text's own."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bertrt.artifact.graph_io import (
    FIRST_TOKEN_ONLY,
    HIDDEN_STATES,
    LAYER_OUTPUTS,
    embedding_output,
)
from bertrt.artifact.manifest import TensorSpec
from bertrt.errors import InputError

__all__ = ["answers", "choose_outputs", "group_layer_outputs", "split_rows"]


def group_layer_outputs(values: Mapping[str, Any], wanted: Sequence[str] | None) -> dict[str, Any]:
    """A run's outputs as they were asked for: what a graph has one of for each layer as a tuple.

    Args:
        values: the outputs by their names in the graph.
        wanted: the names that `choose_outputs` was given.
    """
    gathered: dict[str, Any] = {}
    for name, value in values.items():
        kind = name.partition(".")[0]
        if kind in LAYER_OUTPUTS and name not in (wanted or ()):
            gathered[kind] = tuple(values[one] for one in _members(kind, values))
        elif wanted is None or name in wanted:
            gathered[name] = value
    return gathered


def _members(kind: str, names: Collection[str]) -> list[str]:
    """Of the names of a graph's outputs, those of one kind of `LAYER_OUTPUTS`, layer by layer.

    A BertModel's last hidden states are its `last_hidden_state`.
    """
    found = [name for name in names if name.startswith(f"{kind}.")]
    if found and kind == HIDDEN_STATES and "last_hidden_state" in names:
        found.append("last_hidden_state")
    return found


def answers(specs: Sequence[TensorSpec]) -> list[str]:
    """The names of the outputs that answers are made of: the head's own."""
    return [
        one.name
        for one in specs
        if not one.optional and one.name.partition(".")[0] not in LAYER_OUTPUTS
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
        inside = _members(name, known) if name in LAYER_OUTPUTS else []
        chosen += inside or [name]
        if not inside and name not in known:
            raise InputError(f"unknown output {name!r:.60}: this graph gives {', '.join(known)}")
    if embedding_output("mean") in wanted and feeds.get(FIRST_TOKEN_ONLY):
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
