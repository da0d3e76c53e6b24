"""Decide which special tokens a tokenizer has where no file names them."""

from collections.abc import Collection

from bertrt.errors import ExportError
from bertrt.export.tokenizer.classes import GENERIC
from bertrt.export.tokenizer.settings import TokenizerSettings

__all__ = ["special_token_options"]

# The tokens without which no text can be read.
_NEEDED = ("unk", "cls", "sep")
# What else files call the first and the separating token of a text.
_ALIASES = {"cls": "bos", "sep": "eos"}


def special_token_options(
    settings: TokenizerSettings, vocabulary: Collection[str], *, as_file: bool
) -> dict[str, str | None]:
    """Return the options of transformers' class about special tokens, such as `mask_token`.

    They leave out the special tokens that transformers would invent, and name those that it would
    not know.

    Args:
        settings: the tokenizer's settings.
        vocabulary: all tokens.
        as_file: whether the generic class opens a tokenizer.json, which knows no names.

    Raises ExportError if the unknown, the first or the separating token is missing.
    """
    kind = settings.kind
    options: dict[str, str | None] = {}

    def has(name: str | None) -> bool:
        return name in vocabulary or name in settings.added

    for role, default in kind.special_tokens.items():
        given = settings.token(role)
        if has(given or default):
            if as_file and kind is not GENERIC and not settings.names(role):
                options[f"{role}_token"] = default
            continue
        alias = settings.token(_ALIASES.get(role, role))
        if kind is GENERIC and not given and has(alias):
            options[f"{role}_token"] = alias
            continue
        if role in _NEEDED and (role == "unk" or not given):
            raise ExportError(
                f'the vocabulary has no {given or default!r}: set "{role}_token" in '
                f"tokenizer_config.json to its {role} token"
            )
        if not settings.names(role):
            options[f"{role}_token"] = None
    return options
