"""Write a file so that it appears complete or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bertrt.errors import InputError
from bertrt.staging import find_unwritable, hidden_name, remove, remove_leftovers, sync

__all__ = ["staged_file"]


@contextlib.contextmanager
def staged_file(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path to write to, which becomes `output` if the block ends without an exception.

    Through a link, the file that it leads to is replaced. Raises InputError before the block, and
    again after it, if `output` cannot be written, or exists and `overwrite` is False.
    """
    _check(output, overwrite=overwrite)
    target = Path(os.path.realpath(output))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    stage = hidden_name(target, "partial")
    try:
        yield stage
        sync(stage)
        _check(output, overwrite=overwrite)
        stage.replace(target)
        sync(target.parent)
    finally:
        remove(stage)


def _check(output: Path, *, overwrite: bool) -> None:
    if (parent := find_unwritable(output)) is not None:
        raise InputError(f"cannot write to {str(parent)!r}: choose another --output")
    if output.exists() and not output.is_file():
        raise InputError(f"{str(output)!r} is not a file: choose another --output")
    if output.exists() and not overwrite:
        raise InputError(f"{str(output)!r} exists: pass --overwrite to replace it")
