"""Write a directory atomically: it appears complete or not at all.

Files are written to a hidden directory beside the target, which is renamed at the end. An export
that fails removes it. What a killed export leaves behind is removed by the next export to the same
target, once the process that made it has ended.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bertrt.artifact.manifest import MANIFEST
from bertrt.errors import ExportError

__all__ = ["check_output", "default_output", "staged"]


def default_output(model: str, task: str) -> Path:
    """Return the default output of an export, as bert-base-uncased-fill-mask."""
    return Path(f"{Path(model).name}-{task}")


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise ExportError if `output` cannot become an artifact. Call this before the long work.

    An existing artifact is replaced only with `overwrite`. Any other directory with files is never
    replaced: it may be a checkpoint.
    """
    parent = output.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
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
    _remove_leftovers(output)
    stage = output.parent / f".{output.name}.partial-{os.getpid()}"
    stage.mkdir()
    try:
        yield stage
        for path in stage.iterdir():
            _sync(path)
        check_output(output, overwrite=overwrite)
        _swap(stage, output)
        _sync(output.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, output: Path) -> None:
    """Rename the stage to the output; the previous artifact is removed last."""
    if not output.exists():
        stage.rename(output)
        return
    old = output.parent / f".{output.name}.replaced-{os.getpid()}"
    output.rename(old)
    try:
        stage.rename(output)
    except OSError:
        old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(output: Path) -> None:
    """Remove the directories of exports whose processes have ended."""
    for kind in ("partial", "replaced"):
        for path in output.parent.glob(f".{output.name}.{kind}-*"):
            pid = path.name.rpartition("-")[2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
