"""Lines of a stream, in groups: as many as have come, so that nobody waits for the end."""

from collections.abc import Iterator
from io import BufferedIOBase

__all__ = ["line_groups"]

_BYTES = 1 << 16
# Enough to batch well; few enough that answers keep coming and their arrays stay small.
_LINES = 256


def line_groups(stream: BufferedIOBase) -> Iterator[list[bytes]]:
    """Yield lists of lines without their ends, each as soon as it can be read.

    A line ends with a line feed, or a carriage return and one; no other character ends it. A last
    line without an end counts too.
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
