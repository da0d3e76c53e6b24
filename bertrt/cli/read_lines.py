"""Read the lines of standard input in groups, without waiting for its end."""

import sys
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from typing import cast

from bertrt.errors import InputError

__all__ = ["decode_line", "read_line_groups", "read_standard_input", "read_texts"]

_BYTES = 1 << 16
# Enough for full batches, and few enough that answers come steadily and arrays stay small.
_LINES = 256


def read_texts(arguments: Sequence[str], what: str) -> Iterator[list[str]]:
    """Yield the texts of the command line, or else those of standard input in groups.

    Args:
        arguments: the texts given as arguments; none for standard input.
        what: what a person at a terminal is asked for, such as "text".

    Raises InputError, which begins with the line's number, for a line that is not UTF-8.
    """
    if arguments:
        yield list(arguments)
        return
    before = 0
    for lines in read_standard_input(what):
        texts = []
        for number, line in enumerate(lines, start=before + 1):
            try:
                texts.append(decode_line(line))
            except InputError as error:
                raise InputError(f"line {number}: {error}") from error
        before += len(lines)
        yield texts


def read_standard_input(what: str) -> Iterator[list[bytes]]:
    """Yield the lines of standard input as `read_line_groups` does, after a word to a person."""
    if sys.stdin is None:  # closed by the shell
        return
    if sys.stdin.isatty():
        print(f"bertrt: type one {what} a line; end with Ctrl-D", file=sys.stderr)
    yield from read_line_groups(cast(BufferedIOBase, sys.stdin.buffer))


def decode_line(line: str | bytes) -> str:
    """Return a line as text. Raises InputError if it is not UTF-8."""
    if isinstance(line, str):
        return line
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the text is not UTF-8 ({error}): convert it first") from error


def read_line_groups(stream: BufferedIOBase) -> Iterator[list[bytes]]:
    r"""Yield lists of at most 256 lines, each as soon as it can be read.

    Lines end with \n or \r\n, and with no other character; the ends are removed. The last line
    needs no end.
    """
    rest = bytearray()
    while data := stream.read1(_BYTES):
        start = len(rest)
        rest += data
        end = rest.rfind(b"\n", start)
        if end < 0:
            continue
        lines = bytes(rest[:end]).split(b"\n")
        del rest[: end + 1]
        for first in range(0, len(lines), _LINES):
            yield [line.removesuffix(b"\r") for line in lines[first : first + _LINES]]
    if rest:
        yield [bytes(rest)]
