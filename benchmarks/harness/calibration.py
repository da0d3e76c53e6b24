"""How fast the machine is at this moment, so that rounds it disturbed can be told from others.

A virtual machine shares its processor, and its speed can halve for minutes. Turns of one round are
minutes apart where servers are measured, so a round counts only if the machine was equally fast
in all of its turns.
"""

import time
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["EQUAL", "machine_speed", "steadiest"]

# How much faster the fastest turn of a round may have found the machine than the slowest.
EQUAL = 1.1
_SIZE, _REPEATS = 256, 40

T = TypeVar("T")


def machine_speed() -> float:
    """Return the speed of a fixed product of matrices on this process's CPUs, in GFLOP/s.

    It takes about 20 ms; the best of a few parts counts, which a short interruption spares.
    """
    square = np.ones((_SIZE, _SIZE), np.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(_REPEATS // 5):
            square @ square
        best = min(best, time.perf_counter() - start)
    return 2 * _SIZE**3 * (_REPEATS // 5) / best / 1e9


def steadiest(rounds: Sequence[tuple[float, T]], least: int) -> list[T]:
    """Return the rounds in which the machine was equally fast, or the steadiest `least`.

    Args:
        rounds: each round's spread, the fastest speed of its turns by the slowest, and what it
            found.
        least: how many are needed.
    """
    ordered = sorted(rounds, key=lambda one: one[0])
    steady = sum(spread <= EQUAL for spread, _ in ordered)
    return [found for _, found in ordered[: max(steady, least)]]
