"""How a call says that a text may be cut: as options, or in the dict that transformers takes."""

from collections.abc import Mapping
from typing import Any

from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options

__all__ = ["check_tokenizer_kwargs", "truncation_of"]

_NAMES = {"truncation", "max_length"}


def check_tokenizer_kwargs(name: str, value: Any) -> None:
    """Raise InputError unless `value` is None or a dict of truncation and max_length.

    `name` is what the option is called: pipelines differ in it.
    """
    if value is not None and not (isinstance(value, Mapping) and set(value) <= _NAMES):
        raise InputError(f"{name} is {shorten(value)}: give a dict of truncation and max_length")


def truncation_of(options: Options, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The arguments `truncation` and `max_length` of `Tokenizer.encode`; `given` goes first."""
    own = {"truncation": options.truncation, "max_length": options.max_length}
    return {**own, **(given or {})}
