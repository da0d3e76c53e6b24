"""Write a file or directory under a hidden name beside its own, from which it is renamed.

So it appears complete or not at all. What a killed process leaves behind is removed by the next
one with the same target.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = [
    "find_unwritable",
    "hidden_name",
    "remove",
    "remove_leftovers",
    "staged_directory",
    "sync",
]


@contextlib.contextmanager
def staged_directory(target: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yield a new directory that becomes `target` if the block ends without an exception.

    `check` is called after the block. It raises an error if `target` has to stay as it is; a
    directory that it lets pass is replaced.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    stage = hidden_name(target, "partial")
    stage.mkdir()
    try:
        yield stage
        for path in stage.rglob("*"):
            sync(path)
        check()
        _swap(stage, target)
        sync(target.parent)
    finally:
        remove(stage)


def find_unwritable(target: Path) -> Path | None:
    """Return the path above `target` in which it cannot be made; None if it can be.

    Directories that do not exist can be made below one that does.
    """
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    return None if parent.is_dir() and os.access(parent, os.W_OK) else parent


def hidden_name(target: Path, kind: str) -> Path:
    """Return this process's hidden name beside `target`; `kind` is "partial" or "replaced"."""
    return target.parent / f".{target.name}.{kind}-{os.getpid()}"


def remove_leftovers(target: Path) -> None:
    """Remove what processes that have ended left beside `target`."""
    for path in target.parent.iterdir():
        name, _, pid = path.name.rpartition("-")
        ours = name in (f".{target.name}.partial", f".{target.name}.replaced")
        if ours and pid.isdecimal() and not _is_alive(int(pid)):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or directory, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(stage: Path, target: Path) -> None:
    """Rename the stage to the target; what was there is removed last."""
    if not os.path.lexists(target):  # a link to nowhere is there as well
        stage.rename(target)
        return
    old = hidden_name(target, "replaced")
    target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        old.rename(target)
        raise
    remove(old)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
