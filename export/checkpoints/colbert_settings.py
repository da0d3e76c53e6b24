"""How a ColBERT model takes texts, whichever library saved it, and checks of what was saved."""

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bertrt.errors import ExportError

__all__ = [
    "DEFAULT_LENGTH",
    "PUNCTUATION",
    "ColbertSettings",
    "Expansion",
    "read_flag",
    "read_length",
]

# What ColBERT's own code leaves out of documents, and the length to which it expands queries.
PUNCTUATION = tuple(string.punctuation)
DEFAULT_LENGTH = 32

# The shortest length: [CLS], a token and [SEP].
_LEAST = 3


@dataclass(frozen=True)
class Expansion:
    """What fills up a query; see `bertrt.artifact.manifest.QueryExpansion`.

    Attributes:
        length, fixed, attend: as there.
        token: the name of the token; None for the tokenizer's mask token.
    """

    length: int
    fixed: bool
    attend: bool
    token: str | None = None


@dataclass(frozen=True)
class ColbertSettings:
    """How a model of a vector for each token takes texts.

    Attributes:
        prompts: what is put before a text, by "query", "document" and other names.
        markers: those of the prompts that begin with a token of their own, such as "[unused0] ".
        needs_markers: whether a marker that the vocabulary lacks is an error, and not plain text.
        query_length, document_length: the limits in tokens; None for that of all texts.
        expansion: what fills up a query; None for nothing.
        skipped_words: the tokens without a vector, by "query" and "document".
        similarity: "maxsim" or "meanmaxsim".
    """

    prompts: Mapping[str, str]
    markers: tuple[str, ...] = ()
    needs_markers: bool = False
    query_length: int | None = None
    document_length: int | None = None
    expansion: Expansion | None = None
    skipped_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    similarity: str = "maxsim"


def read_length(settings: Mapping[str, Any], key: str, where: str) -> int | None:
    """Return a length in tokens; None without one.

    Raises ExportError unless it is a whole number of at least 3. `where` is the file.
    """
    length = settings.get(key)
    if length is None:
        return None
    if isinstance(length, bool) or not isinstance(length, int) or length < _LEAST:
        raise ExportError(
            f"{key} in {where} is {length!r}: it must be a whole number of at least {_LEAST}"
        )
    return length


def read_flag(settings: Mapping[str, Any], key: str, where: str, *, default: bool) -> bool:
    """Return a setting that is true or false; raises ExportError for another."""
    flag = settings.get(key)
    if flag is None:
        return default
    if not isinstance(flag, bool):
        raise ExportError(f"{key} in {where} is {flag!r}: it must be true or false")
    return flag
