"""Which sizes share a CUDA graph: the rule that rounds them up, and how many graphs are kept."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from bertrt.kernels.engine.plan import Plan

__all__ = ["Bucket", "Recent", "choose_bucket", "round_length", "round_rows", "round_sequences"]

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Products of matrices work on tiles of at least 16 rows, so a few more cost nothing.
_TILE = 8
_SHORTEST = 32


@dataclass(frozen=True)
class Bucket:
    """Sizes that a run is padded to.

    `sizes` are the lengths of the plan's uploads, in their order; `longest` is a bound on the
    tokens of a sequence.
    """

    sizes: tuple[int, ...]
    longest: int


def choose_bucket(plan: Plan, arrays: Mapping[str, Any], longest: int | None = None) -> Bucket:
    """The bucket of a run, by what ENTRY made.

    Args:
        plan: whose uploads they are.
        arrays: int32 [T], [R] or, for offsets, [B + 1].
        longest: the most tokens of a sequence, where the arrays are on a device; by the offsets
            when None.
    """
    sizes = (
        1 + round_sequences(len(arrays[name]) - 1)
        if name in plan.offsets
        else round_rows(len(arrays[name]))
        for name in plan.uploads
    )
    if longest is None:
        lengths = [np.diff(arrays[name]).max(initial=0) for name in plan.sequences]
        longest = int(max(lengths, default=0))
    return Bucket(tuple(sizes), round_length(longest))


def round_rows(count: int) -> int:
    """A number of tokens or of picked rows, T or R, rounded up, to 8 at least.

    Multiples of 8 up to 64; from there on, eight steps from each power of two to the next, so
    that less than an eighth is added.
    """
    step = max(_TILE, 1 << max((count - 1).bit_length() - 4, 0))
    return max(-(-count // step), 1) * step


def round_sequences(count: int) -> int:
    """A number of sequences, B, rounded up to a power of two: one without tokens costs nothing."""
    return 1 << max(count - 1, 0).bit_length()


def round_length(count: int) -> int:
    """A length of sequences rounded up to a power of two, to 32 at least."""
    return max(_SHORTEST, 1 << max(count - 1, 0).bit_length())


class Recent(Generic[Key, Value]):
    """What was used last, within a number and a room; the longest unused goes first."""

    def __init__(self, most: int, room: int) -> None:
        """Keep at most `most` values, whose sizes together are at most `room`."""
        self._most, self._room, self._used = most, room, 0
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value kept for the key, which counts as a use; None when there is none."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def fits(self, size: int) -> bool:
        """Whether a value of this size would be kept at all."""
        return size <= self._room

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keep a value of a size that fits, for a key that has none."""
        self._kept[key] = (value, size)
        self._used += size
        while len(self._kept) > self._most or self._used > self._room:
            _, (_, freed) = self._kept.popitem(last=False)
            self._used -= freed

    def __len__(self) -> int:
        return len(self._kept)
