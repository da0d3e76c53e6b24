"""Build a BERT tokenizer from a vocab.txt, for checkpoints without a tokenizer.json."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from bertrt.errors import ExportError

__all__ = ["from_vocabulary", "looks_cased", "read_vocabulary"]

# A vocabulary with at least this share of tokens with a capital is cased. In cased ones it is a
# third; uncased ones have none, except for rare signs that lower-casing does not change.
_CASED_SHARE = 0.01

_log = logging.getLogger(__name__)


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


def from_vocabulary(vocabulary: dict[str, int], settings: Mapping[str, Any], unk: str) -> Tokenizer:
    """Build BERT's tokenizer over a vocabulary, without special tokens and their template.

    Args:
        vocabulary: each token's id.
        settings: the contents of tokenizer_config.json. If it does not say whether to lower-case,
            the vocabulary decides: transformers would silently lower-case, and turn each
            capitalized word of a cased checkpoint into another.
        unk: the unknown token.
    """
    lowercase = settings.get("do_lower_case")
    if lowercase is None:
        lowercase = not looks_cased(vocabulary)
        _log.warning(
            "no file says whether the tokenizer lower-cases; by its vocabulary it is %s",
            "uncased" if lowercase else "cased",
        )
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=unk))
    chinese = settings.get("tokenize_chinese_chars")
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True if chinese is None else chinese,
        strip_accents=settings.get("strip_accents"),
        lowercase=lowercase,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer
