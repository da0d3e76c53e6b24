"""Checks of option values, with one error message for each kind."""

from typing import Any

from bertrt.errors import InputError, shorten

__all__ = [
    "check_flag",
    "check_number",
    "check_strings",
    "check_top_k",
    "check_truncation",
    "check_whole",
    "check_whole_or_auto",
]


_STRATEGIES = ("longest_first", "only_first", "only_second")
_SIDES = ("left", "right")


def check_truncation(truncation: Any, side: Any) -> None:
    """Raise InputError for what is no truncation, and for a side that is none and not None."""
    if not isinstance(truncation, bool) and truncation not in _STRATEGIES:
        raise InputError(
            f"truncation is {shorten(truncation)}: use true, false or {', '.join(_STRATEGIES)}"
        )
    if side is not None and side not in _SIDES:
        raise InputError(f"truncation_side is {shorten(side)}: use {' or '.join(_SIDES)}")


def check_top_k(top_k: Any) -> None:
    """Raise InputError unless `top_k` is a whole number of at least 1."""
    check_whole("top_k", top_k, least=1)


def check_strings(name: str, value: Any) -> tuple[str, ...]:
    """A list or tuple of strings, as a tuple; `name` is what a message calls it.

    Raises InputError for anything else, and for an empty one.
    """
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{name} is {shorten(value)}: give a list of strings")
    if not value:
        raise InputError(f"{name} is empty: give at least one string")
    for one in value:
        if not isinstance(one, str):
            raise InputError(f"{name} holds {shorten(one)}: give strings")
    return tuple(value)


def check_flag(name: str, value: Any) -> None:
    """Raise InputError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {shorten(value)}: give true or false")


def check_whole(name: str, value: Any, *, least: int) -> None:
    """Raise InputError unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {shorten(value)}: give a whole number of at least {least}")


def check_whole_or_auto(name: str, value: Any) -> None:
    """Raise InputError unless `value` is "auto" or a whole number of at least 1."""
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(
            f"{name} is {shorten(value)}: give a whole number of at least 1, or 'auto'"
        )


def check_number(name: str, value: Any, *, least: float, most: float = float("inf")) -> None:
    """Raise InputError unless `value` is a finite number from `least` to `most`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and least <= value <= most and value != float("inf")):
        upper = "" if most == float("inf") else f" and at most {most:g}"
        raise InputError(f"{name} is {shorten(value)}: give a number of at least {least:g}{upper}")
