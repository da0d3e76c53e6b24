"""The mixed-lengths corpus: English texts whose lengths vary as those of real requests do.

Lengths are drawn from a log-normal distribution, as the lengths of searched, classified and
embedded texts roughly are: many short ones and a long tail. The sentences are those that bertrt's
demo model was trained on, so that words are mostly one token each in any English vocabulary.
"""

import re
from functools import cache

import numpy as np

from bertrt.export.demo.corpus import sentences

__all__ = ["SEED", "mixed", "mixed_lengths"]

# exp(3.03 + 0.78² / 2) is a mean of 28 tokens; among 256 texts the longest has about 183.
_LOG_MEAN = 3.03
_LOG_SPREAD = 0.78
# [CLS] and [SEP] with one word and a full stop; and what the models' shortest limit, 256, holds
# even where some words are two tokens.
SHORTEST = 4
LONGEST = 240

# 256 texts of this seed have a mean of 27 tokens, and the longest has 182.
SEED = 5

_SPECIAL = 2
_PIECES = re.compile(r"\w+|[^\w\s]")


def mixed(count: int, seed: int = SEED, *, mask: bool = False) -> list[str]:
    """The texts, the same for equal arguments.

    Args:
        count: how many.
        seed: of the lengths and of the sentences' order.
        mask: whether one word of each text becomes `[MASK]`, for fill-mask.

    Returns texts of 4 to 240 words, signs and special tokens, about 28 in the mean.
    """
    rng = np.random.default_rng(seed)
    return [_text(length - _SPECIAL, rng, mask) for length in _lengths(count, rng)]


def mixed_lengths(count: int, seed: int = SEED) -> list[int]:
    """How many words, signs and special tokens the texts of `mixed` have."""
    return _lengths(count, np.random.default_rng(seed))


def _lengths(count: int, rng: np.random.Generator) -> list[int]:
    lengths = np.rint(rng.lognormal(_LOG_MEAN, _LOG_SPREAD, count)).clip(SHORTEST, LONGEST)
    return [int(length) for length in lengths]


def _text(length: int, rng: np.random.Generator, mask: bool) -> str:
    """Sentences in a row, cut to `length` words and signs, the last of them a full stop."""
    known = _sentences()
    pieces: list[str] = []
    while len(pieces) < length:
        pieces += _PIECES.findall(known[rng.integers(len(known))])
    pieces[length - 1 :] = ["."]
    if mask:
        words = [i for i, piece in enumerate(pieces) if piece.isalnum()]
        pieces[words[rng.integers(len(words))]] = "[MASK]"
    return re.sub(r" (?=[.,;:?!'’])|(?<=['’]) ", "", " ".join(pieces))


@cache
def _sentences() -> list[str]:
    known: list[str] = sentences(seed=0)
    return known
