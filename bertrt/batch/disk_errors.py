"""Say which file an error of the disk is of: the system's own errors often leave it out."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bertrt.errors import BertrtError, InputError

__all__ = ["reading", "writing"]


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Raise InputError, which names the file, for an OSError of the block."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({_reason(error)}): make it readable, and start again"
        ) from error


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raise BertrtError, which names the file, for an OSError of the block."""
    try:
        yield
    except OSError as error:
        raise BertrtError(
            f"{str(path)!r} cannot be written ({_reason(error)}): make room or mend the "
            "disk, and give the same command again"
        ) from error


def _reason(error: OSError) -> str:
    """Return what the system calls an error; pyarrow has a text of its own around it."""
    return str(error) if error.errno is None else os.strerror(error.errno)
