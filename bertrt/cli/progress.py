"""A progress bar on standard error, when that is a terminal; otherwise nothing at all."""

import contextlib
import sys
from collections.abc import Callable, Iterator

__all__ = ["Show", "progress"]

# Takes how much is done, 0 to 1, and what is being done.
Show = Callable[[float, str], None]

_WIDTH = 20
_CLEAR = "\r\x1b[K"


@contextlib.contextmanager
def progress() -> Iterator[Show]:
    """Yield a function that draws the bar; it is wiped away at the end, whatever the end is."""
    if not sys.stderr.isatty():
        yield lambda done, what: None
        return
    last = ""

    def show(done: float, what: str) -> None:
        nonlocal last
        filled = round(min(max(done, 0), 1) * _WIDTH)
        line = f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {what}"
        if line != last:
            last = line
            print(_CLEAR + line, end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print(_CLEAR, end="", file=sys.stderr, flush=True)
