"""Columns, control characters and sizes."""

import pytest

from bertrt.cli.formatting import align_columns, escape_control, format_size


def test_align_columns() -> None:
    rows = [("a", "1", "x"), ("long", "10"), ("b", "2", "")]
    assert align_columns(rows, right_aligned=[1]) == ["a      1  x", "long  10", "b      2"]
    assert align_columns([]) == []
    assert align_columns([(), ("a",)]) == ["", "a"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 中国 🙂 e\u0301", "café 中国 🙂 e\u0301"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("two\nlines\tand\u2028more\x9b", "two\\nlines\\tand\\u2028more\\x9b"),
    ],
)
def test_escape_control(text: str, shown: str) -> None:
    assert escape_control(text) == shown


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (113_400, "113 kB"),
        (999_700, "1 MB"),
        (437_955_512, "438 MB"),
        (1_340_000_000, "1.34 GB"),
        (2 * 10**15, "2e+03 TB"),
    ],
)
def test_format_size(count: int, text: str) -> None:
    assert format_size(count) == text
