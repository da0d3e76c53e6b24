"""The truncation options of a call, which may also come in a dict, as transformers takes them."""

from collections.abc import Mapping
from typing import Any

from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options

__all__ = ["check_tokenizer_kwargs", "truncation_kwargs"]

_NAMES = {"truncation", "max_length"}


def check_tokenizer_kwargs(name: str, value: Any) -> None:
    """Raise InputError unless `value` is None or a dict of truncation and max_length.

    `name` is the option's name, which differs between transformers' pipelines.
    """
    if value is not None and not (isinstance(value, Mapping) and set(value) <= _NAMES):
        raise InputError(f"{name} is {shorten(value)}: give a dict of truncation and max_length")


def truncation_kwargs(
    options: Options, tokenizer_kwargs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the arguments `truncation` and `max_length` of `Tokenizer.encode`.

    Values in `tokenizer_kwargs` take precedence over the options.
    """
    defaults = {"truncation": options.truncation, "max_length": options.max_length}
    return {**defaults, **(tokenizer_kwargs or {})}
