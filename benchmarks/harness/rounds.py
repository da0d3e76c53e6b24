"""Rounds: each contender has one turn per round, so that a disturbance affects all alike.

The value of a turn is the median of its calls. Median, p20 and p80 are taken over the rounds. A
ratio is taken within each round, where both contenders had the same machine, and then its median.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["rotations", "speedup", "speedups", "summary"]

_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)


def rotations(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """Yield the order of each round: rotated by one each time, and every second one reversed.

    Rotation puts each contender in every position; reversal gives it other predecessors.
    """
    for round in range(rounds):
        offset = round % len(names) if names else 0
        order = [*names[offset:], *names[:offset]]
        yield order[::-1] if round % 2 else order


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, p20 and p80 in milliseconds, and the number of rounds."""
    p20, median, p80 = (float(1000 * x) for x in np.percentile(seconds, (20, 50, 80)))
    return {"median_ms": median, "p20_ms": p20, "p80_ms": p80, "n": len(seconds)}


def speedup(times: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return how many times as fast as `other`: the median of the rounds' ratios, and an interval.

    Args:
        times, other: seconds, one value per round, of the same rounds.

    Returns [ratio, low, high], with the 95 % interval of a bootstrap over rounds.

    Raises ValueError when the numbers of rounds differ.
    """
    if len(times) != len(other) or not times:
        raise ValueError(f"{len(times)} and {len(other)} rounds have no ratio: give equally many")
    ratios = np.asarray(other, dtype=np.float64) / np.asarray(times, dtype=np.float64)
    random = np.random.default_rng(0)
    resampled = ratios[random.integers(0, len(ratios), (_RESAMPLES, len(ratios)))]
    low, high = np.percentile(np.median(resampled, axis=1), _INTERVAL)
    return [float(np.median(ratios)), float(low), float(high)]


def speedups(times: Mapping[str, Sequence[float]], name: str) -> dict[str, list[float]]:
    """Return the `speedup` of one contender over each of the others, by name."""
    return {other: speedup(times[name], times[other]) for other in times if other != name}
