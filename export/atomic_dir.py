"""Write a directory atomically: it appears complete or not at all.

Files are written to a hidden directory beside the target, which is renamed at the end. An export
that fails removes it.
"""

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bertrt.artifact.manifest import MANIFEST
from bertrt.errors import ExportError
from bertrt.staging import find_unwritable, staged_directory

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


def staged(output: Path, *, overwrite: bool) -> AbstractContextManager[Path]:
    """Return a context of a new directory that becomes `output` if no exception ends its block."""
    return staged_directory(output, partial(check_output, output, overwrite=overwrite))
