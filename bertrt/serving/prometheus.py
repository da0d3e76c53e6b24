"""Counters, histograms and gauges, and Prometheus's text format 0.0.4 of them.

A series is made when it is first counted, or before by `expect`, so that it exists at 0. Label
values have to come from fixed sets: every combination is kept for good.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counter:
    """Numbers that only grow, one for each combination of label values. Thread-safe."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        """Count under a name, which ends in `_total`."""
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def expect(self, *values: str) -> None:
        """Make the series of some label values, at 0."""
        self.add(0, *values)

    def add(self, amount: float, *values: str) -> None:
        """Add to the series of some label values."""
        with self._lock:
            self._values[values] = self._values.get(values, 0) + amount

    def samples(self) -> Iterator[str]:
        """Yield the lines."""
        with self._lock:
            values = dict(self._values)
        for series, value in values.items():
            yield _sample(self.name, zip(self.labels, series, strict=True), value)


class Histogram:
    """How often values fell into buckets with fixed bounds. Thread-safe."""

    kind = "histogram"

    def __init__(
        self, name: str, help: str, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        """Count under a name; `bounds` are the buckets' upper bounds, which belong to them."""
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._bounds = tuple(bounds)
        # Of each series a count for each bucket, the last one without a bound; and the sum.
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def expect(self, *values: str) -> None:
        """Make the series of some label values, at 0."""
        with self._lock:
            self._make(values)

    def observe(self, value: float, *values: str) -> None:
        """Count one value in the series of some label values."""
        with self._lock:
            self._make(values)
            self._counts[values][bisect_left(self._bounds, value)] += 1
            self._sums[values] += value

    def _make(self, values: tuple[str, ...]) -> None:
        if values not in self._counts:
            self._counts[values] = [0] * (len(self._bounds) + 1)
            self._sums[values] = 0

    def samples(self) -> Iterator[str]:
        """Yield the lines."""
        with self._lock:
            found = [(key, list(counts), self._sums[key]) for key, counts in self._counts.items()]
        bounds = [*(_number(bound) for bound in self._bounds), "+Inf"]
        for series, counts, total in found:
            labels = list(zip(self.labels, series, strict=True))
            below = 0
            for bound, count in zip(bounds, counts, strict=True):
                below += count
                yield _sample(f"{self.name}_bucket", [*labels, ("le", bound)], below)
            yield _sample(f"{self.name}_sum", labels, total)
            yield _sample(f"{self.name}_count", labels, below)


class Gauge:
    """Numbers that a function reads when they are asked for."""

    kind = "gauge"

    def __init__(
        self,
        name: str,
        help: str,
        read: Callable[[], Iterable[tuple[tuple[str, ...], float]]],
        labels: Sequence[str] = (),
    ) -> None:
        """Show what `read` returns: for each series its label values, and the number."""
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._read = read

    def samples(self) -> Iterator[str]:
        """Yield the lines."""
        for series, value in self._read():
            yield _sample(self.name, zip(self.labels, series, strict=True), value)


def render(metrics: Iterable[Counter | Histogram | Gauge]) -> str:
    """Return metrics in the text format."""
    lines: list[str] = []
    for metric in metrics:
        lines += (f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}")
        lines += metric.samples()
    return "\n".join([*lines, ""])


def _sample(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    pairs = ",".join(f'{label}="{_escape(text)}"' for label, text in labels)
    return f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
