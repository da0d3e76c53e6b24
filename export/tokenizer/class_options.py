"""Decide what to tell a tokenizer's class about letters and spaces where it would guess."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from bertrt.export.tokenizer.classes import parts_of
from bertrt.export.tokenizer.settings import TokenizerSettings
from bertrt.export.tokenizer.vocabulary import looks_cased

__all__ = ["NORMALIZER_FIELDS", "class_options", "generic_options"]

# The fields of BERT's normalizer in a tokenizer.json, by their names in tokenizer_config.json.
NORMALIZER_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

_log = logging.getLogger(__name__)


def class_options(
    settings: TokenizerSettings, data: Mapping[str, Any] | None, vocabulary: Collection[str]
) -> dict[str, Any]:
    """Return how to treat case, accents and Chinese characters where transformers would guess.

    Args:
        settings: the tokenizer's settings, which are believed.
        data: the contents of tokenizer.json, which is believed after them; None without one.
        vocabulary: all tokens, which decide on the case where no file does.
    """
    if settings.kind.model == "WordPiece":
        return _of_wordpiece(settings.config, data, vocabulary)
    if "Lowercase" in settings.kind.normalizers and data is not None:
        kinds = {part["type"] for part in parts_of(data.get("normalizer"))}
        found = {
            "do_lower_case": "Lowercase" in kinds,
            "keep_accents": "StripAccents" not in kinds,
        }
        return {name: value for name, value in found.items() if name not in settings.config}
    return {}


def generic_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps the generic class of transformers 4 from changing a tokenizer.json."""
    splitter = data.get("pre_tokenizer") or {}
    return {name: value for name, value in splitter.items() if name == "add_prefix_space"}


def _of_wordpiece(
    config: Mapping[str, Any], data: Mapping[str, Any] | None, vocabulary: Collection[str]
) -> dict[str, Any]:
    stated = {name: config.get(name) for name in NORMALIZER_FIELDS}
    in_file = (data or {}).get("normalizer") or {}
    if in_file.get("type") == "BertNormalizer":
        for name, field in NORMALIZER_FIELDS.items():
            if name not in config:
                stated[name] = in_file.get(field)
    if stated["do_lower_case"] is None:
        stated["do_lower_case"] = not looks_cased(vocabulary)
        _log.warning(
            "no file says whether the tokenizer lower-cases; by its vocabulary it is %s",
            "uncased" if stated["do_lower_case"] else "cased",
        )
    if stated["tokenize_chinese_chars"] is None:
        stated["tokenize_chinese_chars"] = True
    return stated
