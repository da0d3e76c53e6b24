"""Edit the contents of a tokenizer.json, so that every reader of the file gives the same ids.

Settings that transformers keeps outside the file (token types, split special tokens) become part of
it. Each function returns a new state or changes the one it is given, as it says.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from bertrt.errors import ExportError

__all__ = [
    "bert_template",
    "is_plain_bert",
    "remove_surplus",
    "split_special_tokens",
    "use_one_token_type",
]

State = dict[str, Any]


def bert_template(cls: str, sep: str, ids: Mapping[str, int], *, second_type: int = 1) -> State:
    """Return the post-processor `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`.

    Args:
        cls, sep: the special tokens.
        ids: their ids.
        second_type: the token type of `B [SEP]`.
    """

    def special(token: str, type: int) -> State:
        return {"SpecialToken": {"id": token, "type_id": type}}

    def text(part: str, type: int) -> State:
        return {"Sequence": {"id": part, "type_id": type}}

    single = [special(cls, 0), text("A", 0), special(sep, 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", second_type), special(sep, second_type)],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (cls, sep)
        },
    }


def use_one_token_type(state: State) -> None:
    """Give both texts of a pair token type 0, in place.

    Raises ExportError for a post-processor whose token types cannot be changed.
    """
    state["post_processor"] = _with_one_type(state["post_processor"])


def _with_one_type(processor: State) -> State:
    kind = processor["type"]
    if kind in ("RobertaProcessing", "ByteLevel"):  # which set no other type
        return processor
    if kind == "BertProcessing":
        (cls, cls_id), (sep, sep_id) = processor["cls"], processor["sep"]
        return bert_template(cls, sep, {cls: cls_id, sep: sep_id}, second_type=0)
    if kind == "TemplateProcessing":
        for piece in (*processor["single"], *processor["pair"]):
            next(iter(piece.values()))["type_id"] = 0
        return processor
    if kind == "Sequence":
        return {**processor, "processors": [_with_one_type(p) for p in processor["processors"]]}
    raise ExportError(
        f"model_input_names has no token_type_ids, and the post-processor in tokenizer.json is "
        f"a {kind}, which sets them: use a TemplateProcessing"
    )


def split_special_tokens(state: State) -> None:
    """Make special tokens inside a text plain text, in place, as `split_special_tokens` says.

    They stay in the vocabulary, and the template still adds them by their ids.

    Raises ExportError for a model whose vocabulary cannot hold them.
    """
    vocabulary = state["model"]["vocab"]
    special = {token["content"]: token["id"] for token in state["added_tokens"] if token["special"]}
    if isinstance(vocabulary, dict):
        vocabulary.update(special)
    # A list has a score for each token, and a new one has none.
    elif not special.items() <= {piece: id for id, (piece, _) in enumerate(vocabulary)}.items():
        raise ExportError(
            f"split_special_tokens is true, which a tokenizer.json with a "
            f"{state['model'].get('type')} model cannot express: remove it from "
            "tokenizer_config.json"
        )
    state["added_tokens"] = [token for token in state["added_tokens"] if not token["special"]]


def remove_surplus(state: State, size: int) -> tuple[State, list[str]]:
    """Remove the tokens for which a model has no embedding, if no text reaches them.

    Such are an empty last line of a vocab.txt, and an added token in capitals behind a normalizer
    that lower-cases.

    Args:
        state: the contents of tokenizer.json; not changed.
        size: the number of the model's embeddings.

    Returns the new contents, and the tokens that were removed.

    Raises ExportError if a text can reach one of them.
    """
    vocabulary, added = state["model"]["vocab"], state["added_tokens"]
    ids = vocabulary if isinstance(vocabulary, dict) else {}
    surplus = {token: id for token, id in ids.items() if id >= size}
    surplus |= {token["content"]: token["id"] for token in added if token["id"] >= size}
    beyond = len(vocabulary) > size and not isinstance(vocabulary, dict)
    if not surplus and not beyond:
        return state, []
    tokenizer = Tokenizer.from_str(json.dumps(state))
    prefix = state["model"].get("continuing_subword_prefix") or "\0"
    # What reaches a token of merged pieces is no text that its name says.
    merged = set(ids) if "merges" in state["model"] else set()
    merged -= {token["content"] for token in added}
    reached = [
        token
        for token, id in surplus.items()
        if token.startswith(prefix)
        or token in merged
        or id in tokenizer.encode(token, add_special_tokens=False).ids
    ]
    if beyond or reached:
        count = max([*ids.values(), *(token["id"] for token in added), len(vocabulary) - 1]) + 1
        example = f" (such as {reached[0]!r})" if reached else ""
        raise ExportError(
            f"the tokenizer has {count} tokens{example} and the model's vocab_size is {size}: they "
            "are from different checkpoints, or the model's embeddings were not resized for added "
            "tokens"
        )
    model = {**state["model"], "vocab": {k: v for k, v in ids.items() if k not in surplus}}
    kept = [token for token in added if token["content"] not in surplus]
    return {**state, "model": model, "added_tokens": kept}, list(surplus)


def is_plain_bert(state: State, cls: str, sep: str) -> bool:
    """Whether transformers' BertTokenizer would build the same tokenizer from the vocabulary.

    Token types are not compared: transformers returns none if `model_input_names` has none.
    """
    model, normalizer = state["model"], state["normalizer"] or {}
    processor = state["post_processor"]
    return (
        model.get("type") == "WordPiece"
        and model["continuing_subword_prefix"] == "##"
        and model["max_input_chars_per_word"] == 100
        and normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and (state["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
        and (
            processor["type"] == "BertProcessing"
            or _pieces(processor) == _pieces(bert_template(cls, sep, {cls: 0, sep: 0}))
        )
    )


def _pieces(processor: State) -> list[list[str]]:
    """Return the tokens and texts of a template in order, without token types."""
    return [
        [next(iter(piece.values()))["id"] for piece in processor.get(kind, ())]
        for kind in ("single", "pair")
    ]
