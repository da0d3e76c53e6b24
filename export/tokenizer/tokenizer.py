"""Write the checkpoint's tokenizer to the artifact: one tokenizer.json, and facts about it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from bertrt.artifact.manifest import TokenizerFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.tokenizer.wordpiece import from_vocabulary, read_vocabulary
from bertrt.tokenizer import write_vocabulary

__all__ = ["write_tokenizer"]

_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

# Classes that use the BERT tokenizer of the tokenizers library, and classes that use any
# tokenizer.json.
_WORDPIECE_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_GENERIC_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend")
# Splits words with a Japanese dictionary, which a tokenizer.json cannot express.
_REFUSED_CLASSES = ("BertJapaneseTokenizer",)

# The normalizer's fields, by their names in tokenizer_config.json.
_NORMALIZER_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

# Sentences that a changed tokenizer splits differently: case, accents, CJK, punctuation, unknown
# words.
_GOLDEN = (
    "Plants create [MASK] through a process known as photosynthesis.",
    "Café NAÏVE, don't! 3.14%",
    "中国人 한국어 🙂 e\u0301\u200b",
    "Donaudampfschifffahrt\t(un)believable\u00a0…",
    "",
)


def write_tokenizer(checkpoint: Checkpoint, directory: Path) -> TokenizerFacts:
    """Write tokenizer.json, tokenizer_config.json and vocab.txt; returns what the runtime needs.

    The tokenizer is the folder's tokenizer.json; as in transformers, tokenizer_config.json
    overrides its treatment of case, accents and Chinese characters. Without a tokenizer.json it is
    built from vocab.txt. The written tokenizer has no truncation and no padding.

    Raises ExportError if there is no tokenizer, if the tokenizers library has no such tokenizer, if
    it lacks a token that BERT needs, or if it has more tokens than the model.
    """
    settings = _settings(checkpoint.folder)
    names = {role: _content(settings.get(f"{role}_token")) or _ROLES[role] for role in _ROLES}
    try:
        tokenizer, special = _build(checkpoint, settings, names)
    except (AttributeError, TypeError, ValueError) as error:
        raise ExportError(
            f"the checkpoint's tokenizer settings cannot be used ({error}): correct its "
            "tokenizer_config.json"
        ) from error

    positions = checkpoint.config.get("max_position_embeddings", 512)
    facts = TokenizerFacts(
        max_length=min(_stated_length(settings) or positions, positions),
        padding_side="right",
        special_ids={role: special.get(role) for role in _ROLES},
        clean_up_tokenization_spaces=bool(settings.get("clean_up_tokenization_spaces", False)),
        golden=tuple((text, tuple(tokenizer.encode(text).ids)) for text in _GOLDEN),
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_config(tokenizer, names, special, facts, directory / "tokenizer_config.json")
    write_vocabulary(tokenizer, directory / "vocab.txt")
    return facts


def _build(
    checkpoint: Checkpoint, settings: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[Tokenizer, dict[str, int]]:
    """Return the tokenizer with special and added tokens, and the special tokens' ids by role."""
    folder = checkpoint.folder
    tokenizer = _open(folder, settings, _class_name(settings, checkpoint.config), names["unk"])
    special = _special_ids(tokenizer, names)
    _add_tokens(tokenizer, settings, folder, [names[role] for role in special])
    if tokenizer.post_processor is None:
        tokenizer.post_processor = _template(names, special)
    _check_size(tokenizer, checkpoint.config)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, special


def _settings(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json, and special_tokens_map.json if the former lists no tokens."""
    settings: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").is_file():
        settings = read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in settings and (folder / "special_tokens_map.json").is_file():
        settings |= read_json(folder / "special_tokens_map.json")
    return settings


def _class_name(settings: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the tokenizer's class, without the 'Fast' of older versions; BERT's by default."""
    name = settings.get("tokenizer_class") or config.get("tokenizer_class") or "BertTokenizer"
    if name in _REFUSED_CLASSES:
        raise ExportError(f"the checkpoint's tokenizer is a {name}, which bertrt cannot export")
    return str(name).removesuffix("Fast")


def _content(token: Any) -> str | None:
    """Return the text of a token that is given as a string or as a dictionary of properties."""
    return token.get("content") if isinstance(token, dict) else token


def _open(folder: Path, settings: Mapping[str, Any], class_name: str, unk: str) -> Tokenizer:
    """Open the folder's tokenizer.json, or build a tokenizer from its vocab.txt."""
    if (folder / "tokenizer.json").is_file():
        data = read_json(folder / "tokenizer.json")
        normalizer = data.get("normalizer") or {}
        # Other classes use tokenizer.json as it is.
        if class_name in _WORDPIECE_CLASSES and normalizer.get("type") == "BertNormalizer":
            for setting, field in _NORMALIZER_FIELDS.items():
                if setting in settings:
                    normalizer[field] = settings[setting]
        try:
            return Tokenizer.from_str(json.dumps(data))
        except Exception as error:
            # The library raises a plain Exception for a JSON that it cannot use.
            raise ExportError(f"tokenizer.json cannot be used: {error}") from error
    if not (folder / "vocab.txt").is_file():
        raise ExportError(f"{folder.name!r} has no tokenizer: add its tokenizer.json or vocab.txt")
    if class_name not in _WORDPIECE_CLASSES + _GENERIC_CLASSES:
        raise ExportError(
            f"the checkpoint's tokenizer is a {class_name} without a tokenizer.json: save it with "
            "transformers as a fast tokenizer"
        )
    return from_vocabulary(read_vocabulary(folder / "vocab.txt"), settings, unk)


def _special_ids(tokenizer: Tokenizer, names: Mapping[str, str]) -> dict[str, int]:
    """Return the ids of the special tokens by role; raises ExportError without unk, cls or sep."""
    found = {role: tokenizer.token_to_id(name) for role, name in names.items()}
    for role in ("unk", "cls", "sep"):
        if found[role] is None:
            raise ExportError(
                f'the vocabulary has no {names[role]!r}: set "{role}_token" in '
                f"tokenizer_config.json to its {role} token"
            )
    return {role: id for role, id in found.items() if id is not None}


def _add_tokens(
    tokenizer: Tokenizer, settings: Mapping[str, Any], folder: Path, special: Sequence[str]
) -> None:
    """Make the tokenizer recognize special and added tokens inside a text.

    Those that tokenizer.json already has stay as they are. Raises ExportError if a token would get
    another id than in the checkpoint.
    """
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for id, token in sorted(_listed_tokens(settings, folder, special).items()):
        if token.content not in known:
            tokenizer.add_tokens([token])
            known.add(token.content)
        found = tokenizer.token_to_id(token.content)
        if found != id:
            raise ExportError(
                f"the added token {token.content!r} has the id {id} in the checkpoint, and {found} "
                "with this vocabulary: it was added to another vocabulary"
            )
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    listed = [_content(entry) for entry in (extra.values() if isinstance(extra, dict) else extra)]
    tokenizer.add_special_tokens(
        [
            AddedToken(name, special=True, normalized=False)
            for name in [*special, *listed]
            if name not in known
        ]
    )


def _listed_tokens(
    settings: Mapping[str, Any], folder: Path, special: Sequence[str]
) -> dict[int, AddedToken]:
    """Return the added tokens by id, from tokenizer_config.json or the older added_tokens.json."""
    if "added_tokens_decoder" in settings:
        table = settings["added_tokens_decoder"]
        return {int(id): AddedToken(**properties) for id, properties in table.items()}
    if not (folder / "added_tokens.json").is_file():
        return {}
    return {
        id: AddedToken(name, special=name in special, normalized=name not in special)
        for name, id in read_json(folder / "added_tokens.json").items()
    }


def _template(names: Mapping[str, str], special: Mapping[str, int]) -> TemplateProcessing:
    """Return the template `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`; `B [SEP]` has type 1."""
    cls, sep = names["cls"], names["sep"]
    return TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, special["cls"]), (sep, special["sep"])],
    )


def _check_size(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    count = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    size = config.get("vocab_size", 30522)
    if count > size:
        raise ExportError(
            f"the tokenizer has {count} tokens and the model's vocab_size is {size}: they are from "
            "different checkpoints"
        )


def _stated_length(settings: Mapping[str, Any]) -> int | None:
    """Return the tokenizer's own limit in tokens; None if it has none, or an invalid one."""
    length = settings.get("model_max_length", settings.get("max_len"))
    if isinstance(length, bool) or not isinstance(length, (int, float)) or length < 1:
        return None
    return int(min(length, 10**9))


def _write_config(
    tokenizer: Tokenizer,
    names: Mapping[str, str],
    special: Mapping[str, int],
    facts: TokenizerFacts,
    path: Path,
) -> None:
    """Write a tokenizer_config.json that gives transformers the same tokenizer."""
    state = json.loads(tokenizer.to_str())
    normalizer = state["normalizer"] or {}
    config: dict[str, Any] = {
        # BERT's class builds its own normalizer, which would replace any other.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "model_max_length": facts.max_length,
        "padding_side": facts.padding_side,
        "clean_up_tokenization_spaces": facts.clean_up_tokenization_spaces,
        **{f"{role}_token": names[role] for role in special},
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in state["added_tokens"]
        },
    }
    if state["model"]["type"] == "WordPiece" and normalizer.get("type") == "BertNormalizer":
        config["tokenizer_class"] = "BertTokenizer"
        config |= {name: normalizer[field] for name, field in _NORMALIZER_FIELDS.items()}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
