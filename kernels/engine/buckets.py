"""Round the sizes of a run up to a bucket, so that many runs share one CUDA graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bertrt.kernels.engine.plan import Plan

__all__ = ["Bucket", "choose_bucket", "round_length", "round_rows", "round_sequences"]

# Matrix products work on tiles of at least 16 rows, so a few more rows cost nothing.
_ROW_STEP = 8
_MIN_LENGTH = 32
_REMEMBERED = 1024


@dataclass(frozen=True)
class Bucket:
    """The sizes that a run is padded to.

    `sizes` are the lengths of the plan's uploads, in order. No sequence has more than
    `max_length` tokens.
    """

    sizes: tuple[int, ...]
    max_length: int


def choose_bucket(plan: Plan, arrays: Mapping[str, Any], max_length: int | None = None) -> Bucket:
    """Return the bucket of a run.

    Args:
        plan: the run's plan.
        arrays: the plan's uploads, made by ENTRY: int32 [T], [R] or, for offsets, [B + 1].
        max_length: the number of tokens of the longest sequence; computed from the offsets if
            None, which needs arrays on the host.
    """
    if max_length is None:
        longest = [_longest(arrays[name]) for name in plan.attention_offsets]
        max_length = max(longest, default=0)
    counts = tuple([(len(arrays[name]), name in plan.offsets) for name in plan.uploads])
    return _round(counts, max_length)


# Looking a bucket up takes the host less time than rounding, and most runs repeat few sizes.
@lru_cache(_REMEMBERED)
def _round(counts: tuple[tuple[int, bool], ...], max_length: int) -> Bucket:
    """Round lengths of uploads, of which some are offsets."""
    sizes = [
        1 + round_sequences(count - 1) if is_offsets else round_rows(count)
        for count, is_offsets in counts
    ]
    return Bucket(tuple(sizes), round_length(max_length))


def _longest(offsets: np.ndarray) -> int:
    """Return the number of tokens of the longest sequence."""
    return int((offsets[1:] - offsets[:-1]).max(initial=0))


def round_rows(count: int) -> int:
    """Round up a number of tokens or picked rows, T or R.

    Returns a multiple of 8, at least 8. From 64 on there are eight sizes per power of two, so that
    less than an eighth is added.
    """
    step = max(_ROW_STEP, 1 << max((count - 1).bit_length() - 4, 0))
    return max(-(-count // step), 1) * step


def round_sequences(count: int) -> int:
    """Round up a number of sequences, B, to a power of two: empty sequences cost nothing."""
    return 1 << max(count - 1, 0).bit_length()


def round_length(count: int) -> int:
    """Round up a sequence length to a power of two, at least 32."""
    return max(_MIN_LENGTH, 1 << max(count - 1, 0).bit_length())
