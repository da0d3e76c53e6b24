"""Outputs of the graph: which to fetch, and how a batch's outputs split into each text's."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bertrt.artifact.graph_io import (
    FIRST_TOKEN_ONLY,
    HIDDEN_STATES,
    LAYER_OUTPUTS,
    SENTENCE_EMBEDDING,
)
from bertrt.artifact.manifest import EmbeddingFacts, TensorSpec
from bertrt.errors import InputError

__all__ = ["choose_outputs", "group_layer_outputs", "head_outputs", "split_rows"]


def group_layer_outputs(
    values: Mapping[str, Any], requested: Sequence[str] | None
) -> dict[str, Any]:
    """Return a run's outputs as requested, with outputs of every layer grouped into tuples.

    Args:
        values: the outputs by their names in the graph.
        requested: the names that `choose_outputs` was given.
    """
    grouped: dict[str, Any] = {}
    for name, value in values.items():
        kind = name.partition(".")[0]
        if kind in LAYER_OUTPUTS and name not in (requested or ()):
            grouped[kind] = tuple(values[layer] for layer in _layers(kind, values))
        elif requested is None or name in requested:
            grouped[name] = value
    return grouped


def _layers(kind: str, names: Collection[str]) -> list[str]:
    """Return the names of one kind of `LAYER_OUTPUTS`, layer by layer.

    The last hidden states of a BertModel are its `last_hidden_state`.
    """
    found = [name for name in names if name.startswith(f"{kind}.")]
    if found and kind == HIDDEN_STATES and "last_hidden_state" in names:
        found.append("last_hidden_state")
    return found


def head_outputs(specs: Sequence[TensorSpec]) -> list[str]:
    """Return the names of the head's own outputs, which answers are made of."""
    return [
        spec.name
        for spec in specs
        if not spec.optional and spec.name.partition(".")[0] not in LAYER_OUTPUTS
    ]


def choose_outputs(
    requested: Any,
    specs: Sequence[TensorSpec],
    inputs: Mapping[str, np.ndarray],
    embedding: EmbeddingFacts | None = None,
) -> list[str]:
    """Return the names of the outputs to fetch.

    Args:
        requested: a list of names, or None for the outputs of transformers' model.
            `hidden_states` and `attentions` mean those of every layer.
        specs: the graph's outputs.
        inputs: the arrays of the run.
        embedding: how the model makes its vectors, if it gives any.

    Raises InputError unless `requested` is a list of the graph's outputs, and for a vector of
    tokens that the run skips.
    """
    if requested is None:
        return [spec.name for spec in specs if not spec.optional]
    known = [spec.name for spec in specs]
    if not isinstance(requested, (list, tuple)) or not requested:
        raise InputError(f"outputs is {requested!r:.60}: give a list of {', '.join(known)}")
    chosen: list[str] = []
    for name in requested:
        layers = _layers(name, known) if name in LAYER_OUTPUTS else []
        chosen += layers or [name]
        if not layers and name not in known:
            raise InputError(f"unknown output {name!r:.60}: this graph gives {', '.join(known)}")
    of_all = embedding is not None and embedding.pooling != ("cls",)
    if SENTENCE_EMBEDDING in requested and of_all and inputs.get(FIRST_TOKEN_ONLY):
        raise InputError("sentence_embedding is of all tokens: leave first_token_only out")
    return list(dict.fromkeys(chosen))


def split_rows(
    outputs: Mapping[str, np.ndarray],
    by_token: Collection[str],
    lengths: Sequence[int],
    masks: np.ndarray,
    *,
    tokens: str,
    skips_tokens: bool,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield each text's own part of a batch's outputs.

    Args:
        outputs: name to array, float32 [B, …].
        by_token: the names of the outputs that are [B, S, …].
        lengths: each text's length in tokens.
        masks: bool [B, S], true for each mask token.
        tokens: "all", "first" or "masks": whose outputs to keep of those that are by token.
        skips_tokens: whether the graph skipped the other tokens: then those outputs are
            [B, 1, …] for "first", and [R, 1, …] for R masks in row-major order.

    Yields name to array: [S, …] without padding, [1, …] for "first", [M, …] for a text's M masks,
    and the text's row of the other outputs.
    """
    mask_stops = masks.sum(axis=1).cumsum() if tokens == "masks" else None
    for row, length in enumerate(lengths):
        index: Any = (row, slice(length if tokens == "all" else 1))
        if mask_stops is not None:
            positions = np.flatnonzero(masks[row])
            stop = mask_stops[row]
            index = (slice(stop - positions.size, stop), 0) if skips_tokens else (row, positions)
        yield {name: value[index if name in by_token else row] for name, value in outputs.items()}
