"""Write a directory atomically: it appears complete or not at all.

Files are written to a hidden directory beside the target, which is renamed at the end. An export
that fails removes it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bertrt.artifact.manifest import MANIFEST
from bertrt.errors import ExportError
from bertrt.staging import find_unwritable, hidden_name, remove, remove_leftovers, sync

__all__ = ["check_output", "default_output", "staged"]


def default_output(model: str, task: str) -> Path:
    """Return the default output of an export, as bert-base-uncased-fill-mask."""
    return Path(f"{Path(model).name}-{task}")


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise ExportError if `output` cannot become an artifact. Call this before the long work.

    An existing artifact is replaced only with `overwrite`. Any other directory with files is never
    replaced: it may be a checkpoint.
    """
    if (parent := find_unwritable(output)) is not None:
        raise ExportError(f"cannot write to {str(parent)!r}: choose another --output")
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir():
        raise ExportError(f"{str(output)!r} is a file: choose another --output")
    if any(output.iterdir()):
        if not (output / MANIFEST).exists():
            raise ExportError(
                f"{str(output)!r} has files and is not a bertrt artifact: choose another --output"
            )
        if not overwrite:
            raise ExportError(
                f"{str(output)!r} is already an artifact: pass --overwrite to replace it"
            )


@contextlib.contextmanager
def staged(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new directory that becomes `output` if the block ends without an exception."""
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    stage = hidden_name(output, "partial")
    stage.mkdir()
    try:
        yield stage
        for path in stage.rglob("*"):
            sync(path)
        check_output(output, overwrite=overwrite)
        _swap(stage, output)
        sync(output.parent)
    finally:
        remove(stage)


def _swap(stage: Path, output: Path) -> None:
    """Rename the stage to the output; the previous artifact is removed last."""
    if not output.exists():
        stage.rename(output)
        return
    old = hidden_name(output, "replaced")
    output.rename(old)
    try:
        stage.rename(output)
    except OSError:
        old.rename(output)
        raise
    remove(old)
