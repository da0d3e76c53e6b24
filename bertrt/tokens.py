"""The tokens of a text, and batches of them, padded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["GivenTokens", "Tokens", "pad"]


class Tokens(Protocol):
    """What the graph reads of an encoded text; an `Encoding` has it, and more for heads."""

    @property
    def ids(self) -> Sequence[int]:
        """The token ids."""

    @property
    def type_ids(self) -> Sequence[int]:
        """The token type of each token."""

    @property
    def overflowing(self) -> Sequence[Any]:
        """What was cut off; empty if nothing was."""

    def __len__(self) -> int:
        """Return the number of tokens."""


@dataclass(frozen=True)
class GivenTokens:
    """Token ids of one text that no tokenizer gave as they are: its `Tokens`.

    Attributes:
        ids: the token ids.
        overflowing: what was cut off.
        attended: how many of the first tokens all tokens attend to; None for all.
    """

    ids: Sequence[int]
    overflowing: Sequence[Any] = ()
    attended: int | None = None

    @property
    def type_ids(self) -> Sequence[int]:
        return [0] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def pad(
    encodings: Sequence[Tokens], pad_id: int, *, one_token_type: bool = False
) -> dict[str, np.ndarray]:
    """Return encodings as arrays, padded on the right to the longest.

    The arrays are int64 [B, S]: input_ids, attention_mask (1 for tokens that are attended to, 0 for
    others and for padding) and token_type_ids.
    """
    lengths = np.array([len(encoding) for encoding in encodings])
    shape = (len(encodings), lengths.max())
    ids = np.full(shape, pad_id, dtype=np.int64)
    attended = np.array([_count_attended(encoding) for encoding in encodings])
    mask = (np.arange(shape[1]) < attended[:, None]).astype(np.int64)
    types = np.zeros(shape, dtype=np.int64)
    for row, (length, encoding) in enumerate(zip(lengths, encodings, strict=True)):
        ids[row, :length] = encoding.ids
        # The library does not apply the template's types to the windows after the first.
        if not one_token_type:
            types[row, :length] = encoding.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _count_attended(encoding: Tokens) -> int:
    if isinstance(encoding, GivenTokens) and encoding.attended is not None:
        return encoding.attended
    return len(encoding)
