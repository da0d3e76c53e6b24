"""Stand-ins for the parts of `torch.cuda` that the steps use, for dry runs on a CPU.

A captured graph remembers how long its capture took, and a replay only moves the clock of the
events on by as much. The times mean nothing; the code that takes them runs.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

__all__ = ["CLOCK", "install", "stand_ins"]


class _Clock:
    """The events' clock in seconds; replays move it on by `replayed`."""

    replayed = 0.0

    def now(self) -> float:
        return time.perf_counter() + self.replayed


CLOCK = _Clock()


class _Event:
    def __init__(self, enable_timing: bool = False) -> None:
        self._at = 0.0

    def record(self) -> None:
        self._at = CLOCK.now()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "_Event") -> float:
        return 1e3 * (end._at - self._at)


class _Graph:
    seconds = 0.0

    def replay(self) -> None:
        CLOCK.replayed += self.seconds


@contextmanager
def _capture(graph: _Graph) -> Iterator[None]:
    begin = CLOCK.now()
    yield
    graph.seconds = CLOCK.now() - begin


def install() -> None:
    """Replace these parts of `torch.cuda` in this process, for good."""
    for name, stand_in in stand_ins().items():
        setattr(torch.cuda, name, stand_in)


def stand_ins() -> dict[str, Any]:
    """Return the stand-ins by their names in `torch.cuda`."""
    properties = SimpleNamespace(
        name="none: a dry run", major=0, minor=0, total_memory=0, L2_cache_size=1024
    )
    return {
        "CUDAGraph": _Graph,
        "Event": _Event,
        "get_device_properties": lambda device=None: properties,
        "graph": _capture,
        "synchronize": lambda device=None: None,
    }
