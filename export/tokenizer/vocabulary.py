"""Read a vocab.txt, and guess from its words whether the model is cased."""

from collections.abc import Mapping
from pathlib import Path

from bertrt.errors import ExportError

__all__ = ["looks_cased", "read_vocabulary"]

# A vocabulary with at least this share of tokens with a capital is cased. In cased ones it is a
# third; uncased ones have none, except for rare signs that lower-casing does not change.
_CASED_SHARE = 0.01


def read_vocabulary(path: Path) -> dict[str, int]:
    """Return each token of a vocab.txt and its line number from 0; of equal lines the last counts.

    Raises ExportError if the file is empty or not UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            vocabulary = {line.rstrip("\n"): number for number, line in enumerate(file)}
    except UnicodeDecodeError as error:
        raise ExportError(f"{path.name} is not UTF-8 text ({error}): download it again") from error
    if not vocabulary:
        raise ExportError(f"{path.name} is empty: download it again")
    return vocabulary


def looks_cased(vocabulary: Mapping[str, int]) -> bool:
    """Whether a vocabulary has words with capitals, apart from special tokens such as `[UNK]`."""
    words = [token for token in vocabulary if not (token.startswith("[") and token.endswith("]"))]
    capitals = sum(token != token.lower() for token in words)
    return capitals > _CASED_SHARE * len(words)
