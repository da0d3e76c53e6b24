"""The optional paths of a graph: inputs that leave tokens out, and outputs that the model lacks.

The parity check runs each of these too, and compares it with the expected outputs.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY, MASKED_ONLY, embedding_output
from bertrt.heads.pooling import finish_vector, pool

__all__ = ["OptionalPath", "optional_paths"]

Arrays = dict[str, np.ndarray]

_LOGITS = ("logits", "prediction_logits")
_POOLINGS = ("mean", "cls", "pooler")


@dataclass(frozen=True)
class OptionalPath:
    """One optional path.

    Attributes:
        expected: the outputs that the run must give.
        name: for reports; "" if the path needs no further inputs.
        inputs: the inputs to add to the run.
    """

    expected: Arrays
    name: str = ""
    inputs: Arrays = field(default_factory=dict)

    def output_name(self, name: str) -> str:
        """Return an output's name in reports: `logits (masked_only)`."""
        return f"{name} ({self.name})" if self.name else name


def optional_paths(
    graph_inputs: Collection[str],
    graph_outputs: Collection[str],
    inputs: Arrays,
    reference: Arrays,
    mask_id: int | None,
) -> Iterator[OptionalPath]:
    """Yield the optional paths that a graph has.

    Args:
        graph_inputs: the graph's inputs that have a default.
        graph_outputs: all its outputs.
        inputs: `input_ids` and `attention_mask`, int64 [B, S], of one run.
        reference: the model's own outputs for them.
        mask_id: the mask token's id, None if there is none.
    """
    embeddings = {
        name: array for name, array in _embeddings(inputs, reference) if name in graph_outputs
    }
    if embeddings:
        yield OptionalPath(embeddings)
    if FIRST_TOKEN_ONLY in graph_inputs:
        mean = embedding_output("mean")
        first = {name: array for name, array in embeddings.items() if name != mean}
        first |= reference
        first["last_hidden_state"] = reference["last_hidden_state"][:, :1]
        yield _with_flag(FIRST_TOKEN_ONLY, first)
    if MASKED_ONLY in graph_inputs:
        masks = inputs["input_ids"] == mask_id
        yield _with_flag(
            MASKED_ONLY,
            {
                name: array[masks][:, None] if name in _LOGITS else array
                for name, array in reference.items()
            },
        )


def _with_flag(name: str, expected: Arrays) -> OptionalPath:
    return OptionalPath(expected, name, {name: np.array(True)})


def _embeddings(inputs: Arrays, reference: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each embedding as the runtime's numpy code computes it from the model's outputs."""
    if "last_hidden_state" not in reference:
        return
    lengths = inputs["attention_mask"].sum(axis=1)
    for pooling in _POOLINGS:
        if pooling == "pooler" and "pooler_output" not in reference:
            continue
        vectors = []
        for row, length in enumerate(lengths):
            text = {key: array[row] for key, array in reference.items()}
            text["last_hidden_state"] = text["last_hidden_state"][:length]
            vectors.append(finish_vector(pool(text, pooling)))
        yield embedding_output(pooling), np.stack(vectors)
