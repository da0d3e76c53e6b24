"""Read the lines of a stream in groups, without waiting for the end of the stream."""

from collections.abc import Iterator
from io import BufferedIOBase

__all__ = ["read_line_groups"]

_BYTES = 1 << 16
# Enough for full batches, and few enough that answers come steadily and arrays stay small.
_LINES = 256


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
