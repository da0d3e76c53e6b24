"""The output directory of a job: what is finished, who writes to it, and when it is complete.

    OUT/.lock            held by the process that works on the job
    OUT/.plan.json       what the job is, written before anything else
    OUT/.part-00000.json counts of a shard, written before the shard
    OUT/part-00000.*     a shard, which appears complete or not at all
    OUT/_manifest.json   what the job was, written when all shards are there

So a job that was killed goes on where it stopped: shards that are there are not computed again.
"""

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bertrt.batch.disk_errors import writing
from bertrt.errors import InputError
from bertrt.staging import find_unwritable, remove, sync

__all__ = ["MANIFEST", "OutputDirectory", "staged"]

MANIFEST = "_manifest.json"
_PLAN = ".plan.json"
_LOCK = ".lock"
# How the names of working files begin, and how those of unfinished files end.
_WORKING = (_PLAN, ".part-", ".embeddings.npy")
_STAGED = re.compile(r"\.[0-9a-f]{12}\.tmp$")


class OutputDirectory:
    """A job's output directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory, which is made if it is missing.

        Raises InputError while another process holds it.
        """
        import fcntl  # Windows has none, and imports this module for other commands

        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process writes to {str(self.path)!r}: wait until it has ended, or "
                    "choose another --output"
                ) from None
            self._remove_staged()
            yield

    def check(self) -> None:
        """Raise InputError unless the directory is a job's, is empty or can be made."""
        path = self.path
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f"{str(path)!r} is not a directory: choose another --output")
        if path.is_dir():
            unwritable = None if os.access(path, os.W_OK) else path
        else:
            unwritable = find_unwritable(path)
        if unwritable is not None:
            raise InputError(f"cannot write to {str(unwritable)!r}: choose another --output")
        if not path.exists():
            return
        names = {path.name for path in self.path.iterdir()}
        # A kill may leave the lock, and a plan that is not written yet.
        foreign = [n for n in names if n != _LOCK and not n.startswith(_PLAN)]
        if foreign and not names & {_PLAN, MANIFEST}:
            raise InputError(
                f"{str(self.path)!r} has files that no job wrote: choose another --output"
            )

    def read(self) -> dict[str, Any] | None:
        """Return what the plan says, or the manifest of a complete job; None for a new one.

        Raises InputError if it is damaged, or something else.
        """
        for name in (MANIFEST, _PLAN):
            try:
                data = json.loads((self.path / name).read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except ValueError as error:
                raise InputError(
                    f"{str(self.path / name)!r} is damaged ({error}): delete the directory"
                ) from error
            if not isinstance(data, dict) or not data.keys() >= {"job", "inputs", "plan"}:
                raise InputError(
                    f"{str(self.path / name)!r} was not written by a job: choose another --output"
                )
            return data
        return None

    @property
    def is_complete(self) -> bool:
        """Whether the job is."""
        return (self.path / MANIFEST).exists()

    def write_plan(self, data: Mapping[str, Any]) -> None:
        """Write what the job is."""
        _write_json(self.path / _PLAN, data)

    def complete(self, data: Mapping[str, Any]) -> None:
        """Write the manifest, after which the job is complete, and remove what it needs no more."""
        _write_json(self.path / MANIFEST, data)
        self.remove_working_files()

    def remove_working_files(self) -> None:
        """Remove what a complete job needs no more; a kill may have left it."""
        for path in self.path.iterdir():
            if path.name.startswith(_WORKING):
                remove(path)

    def write_counts(self, name: str, counts: Mapping[str, int]) -> None:
        """Write the counts of the shard with a name, before the shard."""
        _write_json(self._counts(name), counts)

    def has_counts(self, name: str) -> bool:
        """Whether the counts of a shard are there; who removed them has to have the shard again."""
        return self._counts(name).exists()

    def read_counts(self, name: str) -> dict[str, int]:
        """Return the counts of a shard that is there."""
        counts: dict[str, int] = json.loads(self._counts(name).read_text(encoding="utf-8"))
        return counts

    def read_complete_counts(self) -> dict[str, int]:
        """Return the counts of a complete job. Raises InputError if a file of it is lost."""
        manifest = self.read() or {}
        for name in manifest["files"]:
            if not (self.path / name).exists():
                raise InputError(
                    f"{str(self.path)!r} is complete by its manifest, and lacks {name!r}: delete "
                    "the directory, and start again"
                )
        counts: dict[str, int] = manifest["counts"]
        return counts

    def _counts(self, name: str) -> Path:
        return self.path / f".{name}.json"

    def _remove_staged(self) -> None:
        """Remove what processes that were killed have left."""
        for path in self.path.iterdir():
            if _STAGED.search(path.name):
                remove(path)


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes `target`, on the disk, if nothing is raised.

    Two processes may write the same target at the same time. An error of the disk names it.
    """
    stage = target.with_name(f"{target.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with writing(target):
            yield stage
            sync(stage)
            os.replace(stage, target)
            sync(target.parent)
    finally:
        remove(stage)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with staged(path) as stage:
        stage.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
