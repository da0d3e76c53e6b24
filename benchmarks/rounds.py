"""Rounds: everyone has a turn in each, so that what disturbs the machine disturbs all alike.

A turn's value is the median of its calls. A median, p20 and p80 are taken over the rounds; a
ratio is taken within each round, where both had the same machine, and then its median.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["rotations", "speedup", "speedups", "summary"]

_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)


def rotations(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """The order of each round: a place further every time, and every other time backwards.

    Rotation gives everyone every place; turning round gives everyone another predecessor.
    """
    for round in range(rounds):
        place = round % len(names) if names else 0
        order = [*names[place:], *names[:place]]
        yield order[::-1] if round % 2 else order


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, p20 and p80 in milliseconds and how many rounds they are of."""
    p20, median, p80 = (float(1000 * x) for x in np.percentile(seconds, (20, 50, 80)))
    return {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "n": len(seconds)}


def speedup(times: Sequence[float], other: Sequence[float]) -> list[float]:
    """How many times as fast as `other`: the median of the rounds' ratios and its interval.

    Args:
        times, other: seconds, a value a round, of the same rounds.

    Returns [ratio, low, high], the last two from a bootstrap over rounds, 95 %.

    Raises ValueError when the rounds are not equally many.
    """
    if len(times) != len(other) or not times:
        raise ValueError(f"{len(times)} and {len(other)} rounds have no ratio: give equally many")
    ratios = np.asarray(other, dtype=np.float64) / np.asarray(times, dtype=np.float64)
    random = np.random.default_rng(0)
    resampled = ratios[random.integers(0, len(ratios), (_RESAMPLES, len(ratios)))]
    low, high = np.percentile(np.median(resampled, axis=1), _INTERVAL)
    return [float(np.median(ratios)), float(low), float(high)]


def speedups(times: Mapping[str, Sequence[float]], name: str) -> dict[str, list[float]]:
    """`speedup` of one contender against each of the others, by their names."""
    return {other: speedup(times[name], times[other]) for other in times if other != name}
