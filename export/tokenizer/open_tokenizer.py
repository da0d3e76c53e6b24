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
from bertrt.export.tokenizer.class_options import (
    NORMALIZER_FIELDS,
    class_options,
    generic_options,
)
from bertrt.export.tokenizer.settings import TokenizerSettings
from bertrt.export.tokenizer.special_tokens import special_token_options
from bertrt.export.tokenizer.vocabulary import read_tokens, tokens_of_json

__all__ = ["open_tokenizer"]

# Settings that only the tokenizers written in Python honoured, which transformers 5 dropped.
_SLOW = (
    "only the slow tokenizers of transformers 4 honour: remove it from tokenizer_config.json to "
    "export what the fast tokenizers give"
)

_log = logging.getLogger(__name__)


def open_tokenizer(settings: TokenizerSettings) -> Any:
    """Open the tokenizer, a transformers `PreTrainedTokenizerFast`.

    The files are believed in transformers' order, with three exceptions. If tokenizer_config.json
    does not say whether to lower-case, tokenizer.json and else the vocabulary decide: transformers
    would silently lower-case, and turn each capitalized word of a cased checkpoint into another. A
    special token that no file names and the vocabulary lacks stays absent. A tokenizer.json with
    other parts than those of its class is used as it is: transformers 5 would replace them.

    Raises ExportError for files that cannot be used, for a vocabulary without a token that BERT
    needs, for a token whose id differs from the one in the files, for one that versions of
    transformers look for in different texts, and for a setting that changes ids and that the
    tokenizers library cannot express.
    """
    kind = settings.kind
    data = read_json(settings.folder / "tokenizer.json") if settings.has_tokenizer_json else None
    vocabulary = _vocabulary(settings, data)
    as_file = data is not None and not kind.builds(data)
    options: dict[str, Any] = special_token_options(settings, vocabulary, as_file=as_file)
    if as_file:
        assert data is not None
        options |= generic_options(data)
    else:
        options |= class_options(settings, data, vocabulary)
    tokenizer = _open(settings, "PreTrainedTokenizer" if as_file else kind.name, options)
    _check_added_ids(settings, tokenizer.backend_tokenizer)
    if kind.model == "WordPiece" and not as_file:
        _check_normalized_tokens(data, tokenizer.backend_tokenizer)
    _check_slow_settings(settings, tokenizer.backend_tokenizer)
    if data is None and kind.mask_takes_space:
        _warn_of_mask(tokenizer)
    return tokenizer


def _vocabulary(settings: TokenizerSettings, data: Mapping[str, Any] | None) -> set[str]:
    """Return all tokens of tokenizer.json, or of the vocabulary without one."""
    if data is not None:
        return tokens_of_json(data)
    kind = settings.kind
    tokens = read_tokens(settings.folder / kind.files[0])
    if kind.adds_special_tokens:
        tokens.update(settings.token(role) or name for role, name in kind.special_tokens.items())
    return tokens


def _open(settings: TokenizerSettings, class_name: str, options: Mapping[str, Any]) -> Any:
    opener = getattr(transformers, f"{class_name}Fast")
    try:
        tokenizer = opener.from_pretrained(settings.folder, local_files_only=True, **options)
        tokenizer.backend_tokenizer.encode("a", "b")
    except Exception as error:
        # transformers and the tokenizers library raise errors of many classes for files that they
        # cannot use, also plain Exceptions.
        files = "tokenizer.json if there is one"
        if not settings.has_tokenizer_json and settings.kind.model != "WordPiece":
            files = " and ".join(settings.kind.files)
        raise ExportError(
            f"the tokenizer's files cannot be used ({error_reason(error)}): correct "
            f"tokenizer_config.json, or {files}"
        ) from error
    return tokenizer


def _warn_of_mask(tokenizer: Any) -> None:
    """Warn if the mask leaves the space before it, as transformers 5 has it and 4 has not."""
    mask = tokenizer.added_tokens_decoder.get(tokenizer.mask_token_id)
    if mask is not None and not mask.lstrip:
        _log.warning(
            "no file says whether the mask token %r takes the space before it: transformers %s "
            "leaves the space, and transformers 4, with which such models were trained, did not; "
            'to take it, set "lstrip" in the "mask_token" of special_tokens_map.json',
            mask.content,
            transformers.__version__,
        )


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
    names = ("clean_text", *NORMALIZER_FIELDS.values())
    fields = {name: in_file[name] for name in names if name in in_file}
    normalizers = (BertNormalizer(**fields), tokenizer.normalizer)
    for token in tokenizer.get_added_tokens_decoder().values():
        first, second = (normalizer.normalize_str(token.content) for normalizer in normalizers)
        if token.normalized and first != second:
            raise ExportError(
                f"the added token {token.content!r} is normalized, and versions of transformers "
                "look for it in different texts, because the normalizer in tokenizer.json "
                f"contradicts {', '.join(NORMALIZER_FIELDS)} in tokenizer_config.json: make them "
                "agree"
            )


def _check_slow_settings(settings: TokenizerSettings, tokenizer: Tokenizer) -> None:
    """Raise ExportError for a setting that changes ids with a slow tokenizer only."""
    if settings.config.get("do_basic_tokenize") is False:
        raise ExportError(f"do_basic_tokenize is false, which {_SLOW}")
    unknown = tokenizer.token_to_id(settings.token("unk") or settings.kind.special_tokens["unk"])
    for word in settings.config.get("never_split") or ():
        whole = tokenizer.token_to_id(str(word))
        ids = tokenizer.encode(str(word), add_special_tokens=False).ids
        if ids != [unknown if whole is None else whole]:
            raise ExportError(
                f"never_split names {word!r}, which {_SLOW}, or list the word in "
                "added_tokens_decoder instead"
            )
