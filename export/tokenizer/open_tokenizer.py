"""Open a checkpoint's tokenizer with transformers, whose reading of the files is the reference."""

import logging
from collections.abc import Mapping
from typing import Any

import transformers
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer

from bertrt.errors import ExportError
from bertrt.export.checkpoints.error_reason import error_reason
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.tokenizer.settings import DEFAULT_TOKENS, TokenizerSettings
from bertrt.export.tokenizer.vocabulary import looks_cased, read_vocabulary

__all__ = ["open_tokenizer"]

# Settings that only the tokenizers written in Python honoured, which transformers 5 dropped.
_SLOW = (
    "only the slow tokenizers of transformers 4 honour: remove it from tokenizer_config.json to "
    "export what the fast tokenizers give"
)

# The normalizer's fields in a tokenizer.json, by their names in tokenizer_config.json.
_NORMALIZER_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

_log = logging.getLogger(__name__)


def open_tokenizer(settings: TokenizerSettings) -> Any:
    """Open the tokenizer, a transformers `PreTrainedTokenizerFast`.

    The files are believed in transformers' order, with two exceptions. If tokenizer_config.json
    does not say whether to lower-case, tokenizer.json and else the vocabulary decide: transformers
    would silently lower-case, and turn each capitalized word of a cased checkpoint into another. A
    special token that no file names and the vocabulary lacks stays absent.

    Raises ExportError for files that cannot be used, for a vocabulary without a token that BERT
    needs, for a token whose id differs from the one in the files, for one that versions of
    transformers look for in different texts, and for a setting that changes ids and that the
    tokenizers library cannot express.
    """
    data = read_json(settings.folder / "tokenizer.json") if settings.has_tokenizer_json else None
    vocabulary = _vocabulary(settings, data)
    is_bert = data is None or (settings.is_bert and _is_wordpiece(data))
    name = settings.class_name if settings.is_bert else "BertTokenizer"
    options: dict[str, Any] = _absent_tokens(settings, vocabulary)
    if is_bert:
        options |= _normalizer(settings, data, vocabulary)
    opener = getattr(transformers, f"{name if is_bert else 'PreTrainedTokenizer'}Fast")
    try:
        tokenizer = opener.from_pretrained(settings.folder, local_files_only=True, **options)
        tokenizer.backend_tokenizer.encode("a", "b")
    except Exception as error:
        # transformers and the tokenizers library raise errors of many classes for files that they
        # cannot use, also plain Exceptions.
        raise ExportError(
            f"the tokenizer's files cannot be used ({error_reason(error)}): correct "
            "tokenizer_config.json, or tokenizer.json if there is one"
        ) from error
    _check_added_ids(settings, tokenizer.backend_tokenizer)
    _check_normalized_tokens(data if is_bert else None, tokenizer.backend_tokenizer)
    _check_slow_settings(settings, tokenizer.backend_tokenizer)
    return tokenizer


def _vocabulary(settings: TokenizerSettings, data: Mapping[str, Any] | None) -> set[str]:
    """Return all tokens of tokenizer.json, or of vocab.txt without one."""
    if data is None:
        return set(read_vocabulary(settings.folder / "vocab.txt"))
    try:
        # A Unigram model lists each token with its score.
        vocabulary = data["model"]["vocab"]
        tokens = vocabulary if isinstance(vocabulary, dict) else [token for token, _ in vocabulary]
        return {*tokens, *(token["content"] for token in data.get("added_tokens") or ())}
    except (KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"tokenizer.json cannot be used ({error!r}): download it again"
        ) from error


def _is_wordpiece(data: Mapping[str, Any]) -> bool:
    # Older files do not name the model's type.
    return bool(data["model"].get("type", "WordPiece") == "WordPiece")


def _absent_tokens(settings: TokenizerSettings, vocabulary: set[str]) -> dict[str, None]:
    """Return options without the special tokens that transformers would invent.

    Raises ExportError if the unknown, the first or the separating token is one of them.
    """
    absent: dict[str, None] = {}
    for role, default in DEFAULT_TOKENS.items():
        name = settings.token(role) or default
        if name in vocabulary or name in settings.added:
            continue
        needed = role in ("unk", "cls", "sep")
        if needed and (role == "unk" or not settings.token(role)):
            raise ExportError(
                f'the vocabulary has no {name!r}: set "{role}_token" in '
                f"tokenizer_config.json to its {role} token"
            )
        if not settings.names(role):
            absent[f"{role}_token"] = None
    return absent


def _normalizer(
    settings: TokenizerSettings, data: Mapping[str, Any] | None, vocabulary: set[str]
) -> dict[str, Any]:
    """Return how to treat case, accents and Chinese characters where transformers would guess."""
    stated = {name: settings.config.get(name) for name in _NORMALIZER_FIELDS}
    in_file = (data or {}).get("normalizer") or {}
    if in_file.get("type") == "BertNormalizer":
        for name, field in _NORMALIZER_FIELDS.items():
            if name not in settings.config:
                stated[name] = in_file.get(field)
    if stated["do_lower_case"] is None:
        stated["do_lower_case"] = not looks_cased(dict.fromkeys(vocabulary, 0))
        _log.warning(
            "no file says whether the tokenizer lower-cases; by its vocabulary it is %s",
            "uncased" if stated["do_lower_case"] else "cased",
        )
    if stated["tokenize_chinese_chars"] is None:
        stated["tokenize_chinese_chars"] = True
    return stated


def _check_added_ids(settings: TokenizerSettings, tokenizer: Tokenizer) -> None:
    for name, id in settings.added.items():
        found = tokenizer.token_to_id(name)
        if found != id:
            raise ExportError(
                f"the added token {name!r} has the id {id} in the checkpoint, and {found} with "
                "this vocabulary: it was added to another vocabulary"
            )


def _check_normalized_tokens(data: Mapping[str, Any] | None, tokenizer: Tokenizer) -> None:
    """Raise ExportError for an added token that two normalizers give two forms.

    Its form is looked for in normalized text. transformers 4 makes the form with tokenizer.json's
    normalizer and then replaces that by the settings' one; transformers 5 uses the latter for both.
    """
    in_file = (data or {}).get("normalizer") or {}
    if in_file.get("type") != "BertNormalizer":
        return
    names = ("clean_text", *_NORMALIZER_FIELDS.values())
    fields = {name: in_file[name] for name in names if name in in_file}
    normalizers = (BertNormalizer(**fields), tokenizer.normalizer)
    for token in tokenizer.get_added_tokens_decoder().values():
        first, second = (normalizer.normalize_str(token.content) for normalizer in normalizers)
        if token.normalized and first != second:
            raise ExportError(
                f"the added token {token.content!r} is normalized, and versions of transformers "
                "look for it in different texts, because the normalizer in tokenizer.json "
                f"contradicts {', '.join(_NORMALIZER_FIELDS)} in tokenizer_config.json: make them "
                "agree"
            )


def _check_slow_settings(settings: TokenizerSettings, tokenizer: Tokenizer) -> None:
    """Raise ExportError for a setting that changes ids with a slow tokenizer only."""
    if settings.config.get("do_basic_tokenize") is False:
        raise ExportError(f"do_basic_tokenize is false, which {_SLOW}")
    unknown = tokenizer.token_to_id(settings.token("unk") or DEFAULT_TOKENS["unk"])
    for word in settings.config.get("never_split") or ():
        whole = tokenizer.token_to_id(str(word))
        ids = tokenizer.encode(str(word), add_special_tokens=False).ids
        if ids != [unknown if whole is None else whole]:
            raise ExportError(
                f"never_split names {word!r}, which {_SLOW}, or list the word in "
                "added_tokens_decoder instead"
            )
