"""Find ids that occur twice, in memory that hardly grows with their number.

Each id is hashed to 64 bits. The hashes are written to 64 files by their value, and sorted a file
at a time: 8 bytes on the disk for each id, and an eighth of a byte in memory. Equal hashes are only
a suspicion, which a second look at the ids confirms.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO

import numpy as np

from bertrt.batch.disk_errors import writing

__all__ = ["DuplicateFinder", "hash_id"]

_FILES_BITS = 6
_BUFFER = 1 << 16
# Spreads ids that are numbers in a row, or multiples of a power of two, evenly over the files.
_MIX = np.uint64(0x9E3779B97F4A7C15)
# More suspicions are not held: one duplicate is enough for an error.
_MOST = 10_000


class DuplicateFinder:
    """Takes ids, and says which hashes occur more than once. Removes its files when it is left."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._files: list[BinaryIO] = []
        self._waiting: list[np.ndarray] = []
        self._count = 0

    def add(self, ids: Sequence[int | str | None]) -> None:
        """Take ids; None is no id."""
        hashes = np.array([hash_id(id) for id in ids if id is not None], np.int64)
        self._waiting.append(hashes.view(np.uint64) * _MIX)
        self._count += len(hashes)
        if self._count >= _BUFFER:
            self._spill()

    def find(self) -> frozenset[int]:
        """Return hashes that occur more than once, as `hash_id`; at most ten thousand."""
        if not self._files:
            return _repeated(self._take())
        self._spill()
        suspicious: frozenset[int] = frozenset()
        for file in self._files:
            with writing(tempfile.gettempdir()):
                file.seek(0)  # writes what is left
            suspicious |= _repeated(np.fromfile(file, np.uint64))
            if len(suspicious) >= _MOST:
                break
        return suspicious

    def _take(self) -> np.ndarray:
        hashes = np.concatenate([np.empty(0, np.uint64), *self._waiting])
        self._waiting, self._count = [], 0
        return hashes

    def _spill(self) -> None:
        hashes = self._take()
        numbers = hashes >> np.uint64(64 - _FILES_BITS)
        with writing(tempfile.gettempdir()):
            if not self._files:
                for _ in range(1 << _FILES_BITS):
                    opened = tempfile.TemporaryFile()  # noqa: SIM115 (the stack closes it)
                    self._files.append(self._stack.enter_context(opened))
            for number, file in enumerate(self._files):
                file.write(hashes[numbers == number].tobytes())

    def __enter__(self) -> "DuplicateFinder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with writing(tempfile.gettempdir()):  # closing writes what is left
            self._stack.close()


def hash_id(id: int | str) -> int:
    """Return 64 bits of an id: a whole number itself, of which Python's `hash` keeps 61 bits."""
    return id if isinstance(id, int) else hash(id)


def _repeated(hashes: np.ndarray) -> frozenset[int]:
    """Return what occurs more than once, without the factor."""
    hashes.sort()
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])[:_MOST]
    inverse = np.uint64(pow(int(_MIX), -1, 1 << 64))
    return frozenset((repeated * inverse).view(np.int64).tolist())
