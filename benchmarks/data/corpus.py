"""The mixed-lengths corpus: English texts whose lengths vary as those of real requests do.

Lengths follow a log-normal distribution, as the lengths of searched, classified and embedded texts
roughly do: many short ones and a long tail. The sentences are those that bertrt's demo model was
trained on, so most words are a single token in any English vocabulary. Queries and passages to
rerank are made of the same sentences.
"""

import re
from functools import cache

import numpy as np

from bertrt.export.demo.corpus import sentences

__all__ = [
    "LONGEST",
    "QUERY_LENGTHS",
    "SEED",
    "SHORTEST",
    "candidates",
    "mixed",
    "mixed_lengths",
]

# exp(3.03 + 0.78² / 2) is a mean of 28 tokens; among 256 texts the longest has about 183.
_LOG_MEAN = 3.03
_LOG_SPREAD = 0.78
# The shortest is [CLS], one word, a full stop and [SEP]. The longest fits the models' lowest
# limit, 256 tokens, although some words are two tokens.
SHORTEST = 4
LONGEST = 240

# With this seed 256 texts have a mean of 27 tokens, and the longest has 182.
SEED = 5

# Passages that a search has found are paragraphs: those of MS MARCO have about 75 tokens, and few
# are short. exp(4.22 + 0.45² / 2) is a mean of 75 words and punctuation marks.
_PASSAGE_LOG_MEAN = 4.22
_PASSAGE_LOG_SPREAD = 0.45
# The shortest and the longest query, in words and a full stop.
QUERY_LENGTHS = (4, 12)

_SPECIAL = 2
_TOKENS = re.compile(r"\w+|[^\w\s]")


def mixed(count: int, seed: int = SEED, *, mask: bool = False) -> list[str]:
    """Return texts of 4 to 240 words, punctuation marks and special tokens, about 28 on average.

    Args:
        count: how many.
        seed: of the lengths and of the order of the sentences.
        mask: whether one word of each text becomes `[MASK]`, for fill-mask.

    Equal arguments give equal texts.
    """
    rng = np.random.default_rng(seed)
    lengths = _lengths(count, rng, _LOG_MEAN, _LOG_SPREAD)
    return [_text(length - _SPECIAL, rng, mask) for length in lengths]


def mixed_lengths(count: int, seed: int = SEED) -> list[int]:
    """Return the numbers of words, punctuation marks and special tokens of the texts of `mixed`."""
    return _lengths(count, np.random.default_rng(seed), _LOG_MEAN, _LOG_SPREAD)


def candidates(queries: int, passages: int, seed: int = SEED) -> list[tuple[str, list[str]]]:
    """Return queries, each with passages of its own of about 75 words and punctuation marks.

    Equal arguments give equal texts.
    """
    rng = np.random.default_rng(seed)
    return [_candidates(passages, rng) for _ in range(queries)]


def _candidates(count: int, rng: np.random.Generator) -> tuple[str, list[str]]:
    shortest, longest = QUERY_LENGTHS
    query = _text(int(rng.integers(shortest, longest, endpoint=True)), rng, mask=False)
    lengths = _lengths(count, rng, _PASSAGE_LOG_MEAN, _PASSAGE_LOG_SPREAD)
    return query, [_text(length, rng, mask=False) for length in lengths]


def _lengths(count: int, rng: np.random.Generator, mean: float, spread: float) -> list[int]:
    lengths = np.rint(rng.lognormal(mean, spread, count)).clip(SHORTEST, LONGEST)
    return [int(length) for length in lengths]


def _text(length: int, rng: np.random.Generator, mask: bool) -> str:
    """Join sentences and cut them to `length` words and punctuation marks; the last is a stop."""
    known = _sentences()
    tokens: list[str] = []
    while len(tokens) < length:
        tokens += _TOKENS.findall(known[rng.integers(len(known))])
    tokens[length - 1 :] = ["."]
    if mask:
        words = [i for i, token in enumerate(tokens) if token.isalnum()]
        tokens[words[rng.integers(len(words))]] = "[MASK]"
    return re.sub(r" (?=[.,;:?!'’])|(?<=['’]) ", "", " ".join(tokens))


@cache
def _sentences() -> list[str]:
    known: list[str] = sentences(seed=0)
    return known
