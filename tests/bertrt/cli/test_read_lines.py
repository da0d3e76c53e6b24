"""Reading the lines of a pipe in groups, and texts from arguments or standard input."""

import io
import sys

import pytest

from bertrt.cli.read_lines import read_line_groups, read_texts
from bertrt.errors import InputError


def test_read_line_groups() -> None:
    class Pipe(io.BytesIO):
        """Returns what one write wrote at each read, as a pipe does."""

        def read1(self, size: int | None = -1, /) -> bytes:
            return next(writes, b"")

    writes = iter([b"a\nb", b"c", b"\r\n\n", b"\x0b\x85\n" * 514, b"end"])
    groups = list(read_line_groups(Pipe()))
    assert groups[:2] == [[b"a"], [b"bc", b""]]
    assert [len(group) for group in groups[2:]] == [256, 256, 2, 1]
    assert groups[-1] == [b"end"]
    assert list(read_line_groups(io.BytesIO(b""))) == []
    assert list(read_line_groups(io.BytesIO(b"\n"))) == [[b""]]


def test_texts_of_arguments_or_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "caf\u00e9\n\n".encode() * 200 + "a\x85b\r\n".encode() + b"\xff\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert list(read_texts(["a", "-"], "text")) == [["a", "-"]]
    groups = read_texts([], "text")
    assert next(groups) == ["caf\u00e9", ""] * 128
    with pytest.raises(InputError, match=r"^line 402: the text is not UTF-8 \(.*0xff"):
        next(groups)
    monkeypatch.setattr(sys, "stdin", None)
    assert list(read_texts([], "text")) == []
