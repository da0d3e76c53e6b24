"""Text for people: aligned columns, sizes in bytes, and control characters made visible."""

import re
from collections.abc import Sequence

__all__ = ["aligned", "printable", "size"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def aligned(rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> list[str]:
    """Rows as lines with aligned columns, two spaces apart.

    Args:
        rows: the cells; the rows may differ in length.
        numbers: the columns to align on the right.
    """
    count = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(count)]
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in numbers else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def printable(text: str) -> str:
    """A text on one line: control characters and line ends as escapes.

    A text may come from anywhere, and a terminal acts on what it is sent.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def size(count: int) -> str:
    """A number of bytes as people read it: 438 MB, in powers of 1000."""
    number = float(count)
    for unit in _UNITS[:-1]:
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} {_UNITS[-1]}"
