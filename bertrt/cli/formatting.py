"""Format text for a terminal: align columns, escape control characters, write sizes in bytes."""

import re
from collections.abc import Sequence

__all__ = ["align_columns", "escape_control", "format_size"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def align_columns(rows: Sequence[Sequence[str]], *, right_aligned: Sequence[int] = ()) -> list[str]:
    """Return a line for each row, with columns aligned and two spaces apart.

    Args:
        rows: the cells of each row; rows may have different lengths.
        right_aligned: the indices of the columns to align on the right.
    """
    count = max(map(len, rows), default=0)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(count)]
    return [
        "  ".join(
            cell.rjust(widths[i]) if i in right_aligned else cell.ljust(widths[i])
            for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def escape_control(text: str) -> str:
    r"""Return a text on one line, with control characters and line breaks as escapes such as \n.

    Texts may come from anywhere, and control characters could change the terminal.
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def format_size(count: int) -> str:
    """Return a number of bytes with its unit, such as 438 MB, in powers of 1000."""
    number = float(count)
    for unit in _UNITS[:-1]:
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} {_UNITS[-1]}"
