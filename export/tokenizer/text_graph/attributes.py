"""What a BertTokenizer operator has to be told of a tokenizer, or why it cannot do its work."""

from collections.abc import Mapping
from typing import Any

from bertrt.errors import ExportError
from bertrt.tokenizer import Tokenizer

__all__ = ["tokenizer_attributes"]


def tokenizer_attributes(state: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """The attributes of onnxruntime-extensions' BertTokenizer for a fast tokenizer.

    Args:
        state: the contents of its tokenizer.json.
        tokenizer: the same, opened.

    Raises ExportError for a tokenizer that is no BERT WordPiece.
    """
    model, normalizer = state["model"], state["normalizer"] or {}
    splitter = (state["pre_tokenizer"] or {}).get("type")
    if (
        model.get("type") != "WordPiece"
        or normalizer.get("type") != "BertNormalizer"
        or splitter != "BertPreTokenizer"
    ):
        raise ExportError(
            f"the tokenizer is a {model.get('type')} with {normalizer.get('type')} and {splitter}, "
            "and a graph can only hold BERT's WordPiece: leave --with-tokenizer out"
        )
    lowercase = bool(normalizer["lowercase"])
    accents = normalizer["strip_accents"]
    special = {
        f"{role}_token": tokenizer.id_to_token(id)
        for role, id in tokenizer.facts.special_ids.items()
        if id is not None
    }
    return {
        "vocab_file": "\n".join(_lines(model["vocab"])),
        "do_lower_case": int(lowercase),
        "strip_accents": int(lowercase if accents is None else accents),
        "tokenize_chinese_chars": int(normalizer["handle_chinese_chars"]),
        "suffix_indicator": model["continuing_subword_prefix"],
        **special,
    }


def _lines(vocabulary: Mapping[str, int]) -> list[str]:
    """The tokens in the order of their ids; the operator counts lines."""
    by_id = {id: token for token, id in vocabulary.items()}
    # A line for an id that no token has, which no text can be split into.
    return [by_id.get(id, f"\x00{id}") for id in range(max(by_id) + 1)]
