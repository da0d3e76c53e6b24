"""What the models read: batches of token ids and corpora of texts, the same ones in every run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models import Model

__all__ = ["RAGGED", "Inputs", "fixed_inputs"]

# Odd lengths in one batch: what an answer is when there is padding beside it.
RAGGED = (37, 5, 19, 3, 28)
# The first ids of a BERT vocabulary are special or unused.
_FIRST_WORD = 1000


class Inputs(NamedTuple):
    """A padded batch of token ids, int64 [B, S] each, in the order of a BERT's arguments."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray


def fixed_inputs(model: Model, lengths: Sequence[int], *, seed: int = 0) -> Inputs:
    """Rows of these lengths, padded to the longest: [CLS], random words with one [MASK], [SEP].

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
