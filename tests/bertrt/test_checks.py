"""Checks of option values: what passes, and the sentence that says what to give instead."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bertrt.checks import (
    check_flag,
    check_number,
    check_strings,
    check_top_k,
    check_whole,
    check_whole_or_auto,
)
from bertrt.errors import InputError, shorten

at_least_two = partial(check_whole, least=2)
from_zero_to_one = partial(check_number, least=0, most=1)
above_zero = partial(check_number, least=0.5)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_flag, True),
        (check_flag, False),
        (at_least_two, 2),
        (check_whole_or_auto, "auto"),
        (check_whole_or_auto, 1),
        (from_zero_to_one, 0),
        (from_zero_to_one, 0.25),
        (from_zero_to_one, 1),
        (above_zero, 10**30),
        (check_strings, ["a", ""]),
        (check_strings, ("a",)),
    ],
)
def test_right_values_pass(check: Callable[[str, Any], Any], value: Any) -> None:
    check("option", value)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (check_flag, 1, "option is 1: give true or false"),
        (check_flag, None, "option is None: give true or false"),
        (at_least_two, 1, "option is 1: give a whole number of at least 2"),
        (at_least_two, 2.0, "option is 2.0: give a whole number of at least 2"),
        (at_least_two, True, "option is True: give a whole number of at least 2"),
        (check_whole_or_auto, 0, "option is 0: give a whole number of at least 1, or 'auto'"),
        (check_whole_or_auto, True, "option is True: give a whole number of at least 1, or 'auto'"),
        (
            check_whole_or_auto,
            "all",
            "option is 'all': give a whole number of at least 1, or 'auto'",
        ),
        (from_zero_to_one, 1.5, "option is 1.5: give a number of at least 0 and at most 1"),
        (from_zero_to_one, False, "option is False: give a number of at least 0 and at most 1"),
        (from_zero_to_one, "1", "option is '1': give a number of at least 0 and at most 1"),
        (above_zero, 0, "option is 0: give a number of at least 0.5"),
        (above_zero, float("inf"), "option is inf: give a number of at least 0.5"),
        (above_zero, float("nan"), "option is nan: give a number of at least 0.5"),
        (check_strings, "a", "option is 'a': give a list of strings"),
        (check_strings, [], "option is empty: give at least one string"),
        (check_strings, ["a", 3], "option holds 3: give strings"),
    ],
)
def test_wrong_values_are_refused(
    check: Callable[[str, Any], Any], value: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        check("option", value)
    assert str(caught.value) == message


def test_strings_become_a_tuple() -> None:
    assert check_strings("option", ["a", "b"]) == ("a", "b")


def test_top_k() -> None:
    check_top_k(1)
    with pytest.raises(InputError, match="top_k is 0: give a whole number of at least 1"):
        check_top_k(0)


def test_long_values_are_shortened_to_one_line() -> None:
    assert shorten("x" * 58) == repr("x" * 58)
    assert shorten("x" * 59) == "'" + "x" * 56 + "..."
    assert "\n" not in shorten("a\nb")
