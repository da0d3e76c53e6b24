"""A BERT tokenizer out of a vocab.txt, for checkpoints from before tokenizer.json."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from bertrt.errors import ExportError

__all__ = ["from_vocabulary", "looks_cased", "read_vocabulary"]

# The least share of tokens with a capital for a vocabulary to be cased. Cased ones have a third;
# uncased ones have none, but for the odd sign that lower-casing leaves alone.
_CASED_SHARE = 0.01

_log = logging.getLogger(__name__)


def read_vocabulary(path: Path) -> dict[str, int]:
    """Each token of a vocab.txt and its line's number from 0; of equal lines the last counts.

    Raises ExportError when the file is empty or no UTF-8 text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            vocabulary = {line.rstrip("\n"): number for number, line in enumerate(file)}
    except UnicodeDecodeError as error:
        raise ExportError(f"{path.name} is no UTF-8 text ({error}): fetch it again") from error
    if not vocabulary:
        raise ExportError(f"{path.name} is empty: fetch it again")
    return vocabulary


def looks_cased(vocabulary: Mapping[str, int]) -> bool:
    """Whether a vocabulary was made from text with its capitals, `[UNK]` and its like aside."""
    words = [token for token in vocabulary if not (token.startswith("[") and token.endswith("]"))]
    capitals = sum(token != token.lower() for token in words)
    return capitals > _CASED_SHARE * len(words)


def from_vocabulary(vocabulary: dict[str, int], settings: Mapping[str, Any], unk: str) -> Tokenizer:
    """BERT's tokenizer over a vocabulary; special tokens and their template are not yet in it.

    `settings` is a tokenizer_config.json. When it does not say whether to lower-case, the
    vocabulary decides: transformers would lower-case in silence, and turn each capitalised word
    of a cased checkpoint into another.
    """
    lowercase = settings.get("do_lower_case")
    if lowercase is None:
        lowercase = not looks_cased(vocabulary)
        _log.warning(
            "nothing says whether the tokenizer lower-cases; by its vocabulary it is %s",
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
