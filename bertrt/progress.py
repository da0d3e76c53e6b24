"""Progress of long work: reported to the caller's function, or drawn as a bar on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bertrt.errors import InputError

__all__ = [
    "ProgressCallback",
    "ProgressRunner",
    "check_progress",
    "progress_bar",
    "progress_steps",
    "report_inputs",
]

# Called with how much is done, of how much (None: not known), and what is going on, in words.
ProgressCallback = Callable[[int, int | None, str], None]

_WIDTH = 20
_CLEAR = "\r\x1b[K"
_SECONDS = 0.1


@contextlib.contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Yield a function that draws a bar; the bar is cleared at the end, also after an error.

    Draws nothing if standard error is not a terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    last = ""

    def draw(done: int, total: int | None, what: str) -> None:
        nonlocal last
        line = what
        if total is not None:
            share = done / total if total else 1.0
            filled = round(min(max(share, 0), 1) * _WIDTH)
            line = f"[{'#' * filled}{'-' * (_WIDTH - filled)}] {what}"
        if line != last:
            last = line
            print(_CLEAR + line, end="", file=sys.stderr, flush=True)

    try:
        yield draw
    finally:
        print(_CLEAR, end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_steps() -> Iterator[ProgressCallback]:
    """Yield a function that draws a bar, and leaves a line with the seconds of each step.

    A step lasts until another is reported; what follows a colon is a detail of it. Draws nothing if
    standard error is not a terminal.
    """
    step, began = "", 0.0

    def end_step() -> None:
        if step and sys.stderr is not None and sys.stderr.isatty():
            seconds = time.monotonic() - began
            print(f"{_CLEAR}{seconds:6.1f} s  {step}", file=sys.stderr, flush=True)

    with progress_bar() as draw:

        def report(done: int, total: int | None, what: str) -> None:
            nonlocal step, began
            name = what.partition(":")[0]
            if name != step:
                end_step()
                step, began = name, time.monotonic()
            draw(done, total, what)

        yield report
        end_step()


@contextlib.contextmanager
def report_inputs(
    progress: bool | ProgressCallback,
) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function to call with how many inputs are done, and of how many (None: not known).

    Args:
        progress: True draws a bar, at most ten times a second; a function is called each time;
            False does nothing.
    """
    if callable(progress):
        yield lambda done, total: progress(done, total, _inputs(done, total))
    elif progress is True:
        with progress_bar() as draw:
            drawn = 0.0

            def report(done: int, total: int | None) -> None:
                nonlocal drawn
                now = time.monotonic()
                if now - drawn >= _SECONDS:
                    drawn = now
                    draw(done, total, _inputs(done, total))

            yield report
    else:
        yield lambda done, total: None


def _inputs(done: int, total: int | None) -> str:
    return f"{done:,} inputs" if total is None else f"{done:,} of {total:,} inputs"


def check_progress(progress: object) -> None:
    """Raise InputError unless `progress` is True, False or a function."""
    if not (isinstance(progress, bool) or callable(progress)):
        raise InputError(
            f"progress is {progress!r}: give True for a bar, or a function of (done, total, what)"
        )


class ProgressRunner:
    """A head's `GraphRunner` that reports how many of a call's inputs are done.

    One input may be several encodings (windows, labels, choices), so the share of encodings that
    are done is taken for the share of inputs.
    """

    def __init__(self, runner: Any, inputs: int, report: Callable[[int], None]) -> None:
        """Call `report` with the number of inputs done, each time one more of `inputs` is."""
        self._runner = runner
        self._inputs = inputs
        self._report = report

    def run_encodings(self, encodings: Sequence[Any], **options: Any) -> Iterator[tuple[int, Any]]:
        """As `GraphRunner.run_encodings`."""
        reported = 0
        samples = self._runner.run_encodings(encodings, **options)
        for count, sample in enumerate(samples, start=1):
            yield sample
            done = self._inputs * count // len(encodings)
            if reported < done < self._inputs:
                reported = done
                self._report(done)

    def run(self, **arrays: Any) -> Any:
        """As `GraphRunner.run`."""
        return self._runner.run(**arrays)
