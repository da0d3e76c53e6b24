"""The optional paths of a graph: inputs that leave tokens out, and outputs that the model lacks.

The parity check runs each of these too, and compares it with the expected outputs.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from bertrt.artifact.graph_io import FIRST_TOKEN_ONLY, MASKED_ONLY, SENTENCE_EMBEDDING
from bertrt.export.vector_modules import VectorModules

__all__ = ["OptionalPath", "optional_paths"]

Arrays = dict[str, np.ndarray]

_LOGITS = ("logits", "prediction_logits")


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
    vectors: VectorModules | None,
) -> Iterator[OptionalPath]:
    """Yield the optional paths that a graph has.

    Args:
        graph_inputs: the graph's inputs that have a default.
        graph_outputs: all its outputs.
        inputs: `input_ids` and `attention_mask`, int64 [B, S], of one run.
        reference: the model's own outputs for them.
        mask_id: the mask token's id, None if there is none.
        vectors: what makes a text's vector of its hidden states; None for other heads.
    """
    embedding: Arrays = {}
    if vectors is not None and SENTENCE_EMBEDDING in graph_outputs:
        lengths = inputs["attention_mask"].sum(axis=1)
        embedding[SENTENCE_EMBEDDING] = vectors.vectors(reference["last_hidden_state"], lengths)
        yield OptionalPath(embedding)
    if FIRST_TOKEN_ONLY in graph_inputs:
        first = dict(reference)
        first["last_hidden_state"] = reference["last_hidden_state"][:, :1]
        if vectors is not None and vectors.pooling == ("cls",):
            first |= embedding
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
