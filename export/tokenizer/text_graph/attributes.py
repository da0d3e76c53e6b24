"""Convert a tokenizer to the attributes of the operator BertTokenizer, or refuse it."""

from collections.abc import Mapping
from typing import Any

from bertrt.errors import ExportError
from bertrt.tokenizer import Tokenizer

__all__ = ["tokenizer_attributes"]


def tokenizer_attributes(state: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the attributes of onnxruntime-extensions' BertTokenizer for a tokenizer.

    Args:
        state: the contents of its tokenizer.json.
        tokenizer: the tokenizer.

    Raises ExportError for a tokenizer that is not BERT's WordPiece, that joins a pair in another
    way, or that truncates on the left.
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
            "and a graph can only have BERT's WordPiece: leave out --with-tokenizer"
        )
    cls, sep = (tokenizer.facts.special_ids[role] for role in ("cls", "sep"))
    if tokenizer.build_inputs_with_special_tokens([-1], [-2]) != [cls, -1, sep, -2, sep]:
        around = " ".join(tokenizer.encode("", "", empty_pair=True).tokens)
        raise ExportError(
            f"the tokenizer puts {around} around a pair of texts, and a graph can only "
            "join them as BERT does: leave out --with-tokenizer"
        )
    if tokenizer.facts.truncation_side == "left":
        raise ExportError(
            "the tokenizer's truncation_side is 'left', and a graph can only cut the end of a "
            "text: leave out --with-tokenizer"
        )
    lowercase = bool(normalizer["lowercase"])
    accents = normalizer["strip_accents"]
    # Not by `id_to_token`, which tokenizers 0.23 answers with the normalized name of an added token
    # that is looked for in normalized text.
    names = {id: token for token, id in tokenizer.get_vocab().items()}
    special = {
        f"{role}_token": names[id]
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
    """Return the tokens in the order of their ids, which the operator takes from line numbers."""
    by_id = {id: token for token, id in vocabulary.items()}
    # Unused ids get a line that no text can contain.
    return [by_id.get(id, f"\x00{id}") for id in range(max(by_id) + 1)]
