"""What a graph can do beside transformers' model, and what must come of it.

The gate runs each of these too: an input that leaves tokens out, an output that the model lacks.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from bertrt.artifact.graph_io import EMBEDDINGS, FIRST_TOKEN_ONLY, MASKED_ONLY
from bertrt.heads.pooling import finish_vector, pool

__all__ = ["OptionalPath", "optional_paths"]

Arrays = dict[str, np.ndarray]

_LOGITS = ("logits", "prediction_logits")


@dataclass(frozen=True)
class OptionalPath:
    """Inputs to add to a run, and the outputs that it must give; the name is for reports."""

    expected: Arrays
    name: str = ""
    feeds: Arrays = field(default_factory=dict)


def optional_paths(
    inputs: Collection[str],
    outputs: Collection[str],
    feeds: Arrays,
    reference: Arrays,
    mask_id: int | None,
) -> Iterator[OptionalPath]:
    """The paths that a graph has beside the plain one.

    Args:
        inputs: the graph's inputs that have a default.
        outputs: all its outputs.
        feeds: `input_ids` and `attention_mask`, int64 [B, S], of one run.
        reference: the model's own outputs for them.
        mask_id: the mask token's id, None where there is none.
    """
    embeddings = {name: array for name, array in _embeddings(feeds, reference) if name in outputs}
    if embeddings:
        yield OptionalPath(embeddings)
    if FIRST_TOKEN_ONLY in inputs:
        first = {name: array for name, array in embeddings.items() if name != "mean_embedding"}
        first |= reference
        first["last_hidden_state"] = reference["last_hidden_state"][:, :1]
        yield _flagged(FIRST_TOKEN_ONLY, first)
    if MASKED_ONLY in inputs:
        masks = feeds["input_ids"] == mask_id
        yield _flagged(
            MASKED_ONLY,
            {
                name: array[masks][:, None] if name in _LOGITS else array
                for name, array in reference.items()
            },
        )


def _flagged(name: str, expected: Arrays) -> OptionalPath:
    return OptionalPath(expected, name, {name: np.array(True)})


def _embeddings(feeds: Arrays, reference: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Each embedding as the runtime's own numpy code makes it of the model's outputs."""
    if "last_hidden_state" not in reference:
        return
    lengths = feeds["attention_mask"].sum(axis=1)
    for name in EMBEDDINGS:
        pooling = name.removesuffix("_embedding")
        if pooling == "pooler" and "pooler_output" not in reference:
            continue
        vectors = []
        for row, length in enumerate(lengths):
            text = {key: array[row] for key, array in reference.items()}
            text["last_hidden_state"] = text["last_hidden_state"][:length]
            vectors.append(finish_vector(pool(text, pooling)))
        yield name, np.stack(vectors)
