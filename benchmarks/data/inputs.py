"""Batches of token ids, the same in every run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.data.models import Model

__all__ = ["RAGGED", "Inputs", "fixed_inputs"]

# Uneven lengths in one batch, to check answers that have padding beside them.
RAGGED = (37, 5, 19, 3, 28)
# The first ids of a BERT vocabulary are special or unused.
_FIRST_WORD = 1000


class Inputs(NamedTuple):
    """A padded batch of token ids, int64 [B, S] each, in the order of a BERT's arguments."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray


def fixed_inputs(model: Model, lengths: Sequence[int], *, seed: int = 0) -> Inputs:
    """Return rows of these lengths, padded to the longest: [CLS], random words, a [MASK], [SEP].

    Raises ValueError for a length below 3, which has no room for a [MASK].
    """
    if min(lengths) < 3:
        raise ValueError(f"a row of {min(lengths)} tokens has no room for a [MASK]: use 3 or more")
    random = np.random.default_rng([seed, *lengths])
    shape = (len(lengths), max(lengths))
    ids = np.full(shape, model.pad, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = random.integers(_FIRST_WORD, model.vocabulary, length)
        ids[row, random.integers(1, length - 1)] = model.mask
        ids[row, 0], ids[row, length - 1] = model.cls, model.sep
        mask[row, :length] = 1
    return Inputs(ids, mask, np.zeros(shape, dtype=np.int64))
