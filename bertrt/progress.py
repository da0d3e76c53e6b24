"""How far long work is: told to the caller's function, or drawn as a bar on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bertrt.errors import InputError

__all__ = ["Show", "Tell", "WatchedModel", "check_progress", "progress", "telling"]

# Takes how much is done, 0 to 1, or None where the whole is not known, and what is being done.
Show = Callable[[float | None, str], None]
# Takes how many inputs are done, and of how many; None: an iterator, whose end is not known.
Tell = Callable[[int, int | None], None]

_WIDTH = 20
_CLEAR = "\r\x1b[K"
_SECONDS = 0.1


@contextlib.contextmanager
def progress() -> Iterator[Show]:
    """Yield a function that draws the bar; it is wiped away at the end, whatever the end is.

    On a standard error that is no terminal, nothing is drawn at all.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, what: None
        return
    last = ""

    def show(done: float | None, what: str) -> None:
        nonlocal last
        line = what
        if done is not None:
            filled = round(min(max(done, 0), 1) * _WIDTH)
            line = f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {what}"
        if line != last:
            last = line
            print(_CLEAR + line, end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        print(_CLEAR, end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def telling(wanted: bool | Tell) -> Iterator[Tell]:
    """Yield a function to be told of inputs done.

    Args:
        wanted: True draws a bar, ten times a second at most; a callable is called itself; False
            does nothing.
    """
    if callable(wanted):
        yield wanted
    elif wanted is True:
        with progress() as show:
            drawn = 0.0

            def tell(done: int, total: int | None) -> None:
                nonlocal drawn
                now = time.monotonic()
                if now - drawn >= _SECONDS:
                    drawn = now
                    whole = "" if total is None else f" of {total:,}"
                    show(None if total is None else done / total, f"{done:,}{whole} inputs")

            yield tell
    else:
        yield lambda done, total: None


def check_progress(wanted: object) -> None:
    """Raise InputError for what is neither a truth value nor a function."""
    if not (isinstance(wanted, bool) or callable(wanted)):
        raise InputError(
            f"progress is {wanted!r}: give True for a bar, or a function of (done, total)"
        )


class WatchedModel:
    """A head's model that tells how many of a call's inputs are done, until all of them are.

    An input may be several rows (windows, labels, choices), so the inputs done are the share of
    the rows that are.
    """

    def __init__(self, model: Any, inputs: int, tell: Callable[[int], None]) -> None:
        """Watch a model answer so many inputs, telling `tell` each time one more is done."""
        self._model = model
        self._inputs = inputs
        self._tell = tell

    def rows(self, encodings: Sequence[Any], **options: Any) -> Iterator[tuple[int, Any]]:
        """The model's rows."""
        before = 0
        for count, row in enumerate(self._model.rows(encodings, **options), start=1):
            yield row
            done = self._inputs * count // len(encodings)
            if before < done < self._inputs:
                before = done
                self._tell(done)

    def run(self, **arrays: Any) -> Any:
        """The model's run."""
        return self._model.run(**arrays)
