"""The truncation options of a call, which may also come in a dict, as transformers takes them."""

from collections.abc import Mapping
from typing import Any

from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options
from bertrt.tokenizer import Tokenizer

__all__ = ["check_room", "check_tokenizer_kwargs", "truncation_kwargs"]

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
    """Return the arguments of `Tokenizer.encode` that say whether, where and how it cuts.

    Values in `tokenizer_kwargs` take precedence over the options.
    """
    own = {name: getattr(options, name) for name in ("truncation", "max_length", "truncation_side")}
    return {**own, **(tokenizer_kwargs or {})}


def check_room(
    tokenizer: Tokenizer, second: str, truncation: Mapping[str, Any], *, what: str, remedy: str
) -> None:
    """Raise InputError if a second text leaves no room for a first one, which alone is truncated.

    To be called after an encoding failed: it says where no truncation of the first text helps.

    Args:
        tokenizer: the tokenizer.
        second: the second text.
        truncation: the arguments `truncation` and `max_length` of the encoding.
        what: what the second text is, with its value.
        remedy: what to do about it.
    """
    if truncation["truncation"] not in (False, "only_first"):
        return
    max_length = truncation["max_length"]
    special = len(tokenizer.encode("", "", empty_pair=True, truncation=True, max_length=max_length))
    windows = tokenizer.encode(second, truncation=True, special_tokens=False)
    count = sum(len(window) for window in (windows, *windows.overflowing))
    limit = tokenizer.max_length if max_length is None else max_length
    if count + special >= limit:
        raise InputError(
            f"{what} has {count} tokens, which leaves no room for a text: with {special} special "
            f"tokens the limit is {limit}: {remedy}"
        )
