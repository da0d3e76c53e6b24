"""End a command that writes files as an error ends it, when it is asked to stop."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["stopped_by_sigterm"]


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raise SystemExit on SIGTERM, so that what is unfinished is removed."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
