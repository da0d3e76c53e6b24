"""Counters, histograms and gauges, in Prometheus's text format 0.0.4 and in OpenMetrics 1.0.0.

A series is made when it is first counted, or before by `expect`, so that it exists at 0. Label
values have to come from fixed sets: every combination is kept for good.
"""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = [
    "OPEN_METRICS",
    "TEXT",
    "Counter",
    "Gauge",
    "Histogram",
    "Metric",
    "Sample",
    "choose_format",
    "render",
]

# The two formats, as types of content.
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Sample(NamedTuple):
    """A number of a metric: what follows the metric's name, its labels and its value."""

    suffix: str
    labels: Mapping[str, str]
    value: float


class Metric(Protocol):
    """What can be rendered."""

    @property
    def name(self) -> str:
        """Its name; that of a counter ends in `_total`."""

    @property
    def help(self) -> str:
        """One sentence."""

    @property
    def kind(self) -> str:
        """One of counter, gauge and histogram."""

    def samples(self) -> Iterable[Sample]:
        """Yield its numbers of this moment."""


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

    def samples(self) -> Iterator[Sample]:
        """Yield the numbers."""
        with self._lock:
            values = dict(self._values)
        for series, value in values.items():
            yield Sample("", dict(zip(self.labels, series, strict=True)), value)


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

    def samples(self) -> Iterator[Sample]:
        """Yield the numbers."""
        with self._lock:
            found = [(key, list(counts), self._sums[key]) for key, counts in self._counts.items()]
        # The same in both formats, so that a series is the same whatever was asked for.
        bounds = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        for series, counts, total in found:
            labels = dict(zip(self.labels, series, strict=True))
            below = 0
            for bound, count in zip(bounds, counts, strict=True):
                below += count
                yield Sample("_bucket", {**labels, "le": bound}, below)
            yield Sample("_sum", labels, total)
            yield Sample("_count", labels, below)


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

    def samples(self) -> Iterator[Sample]:
        """Yield the numbers."""
        for series, value in self._read():
            yield Sample("", dict(zip(self.labels, series, strict=True)), value)


def choose_format(accept: str) -> str:
    """Return the type of content that an Accept header asks for: OPEN_METRICS or else TEXT."""
    wanted = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        if kind in wanted and "version=0.0.1" not in parameters:
            wanted[kind] = max(wanted[kind], _quality(parameters))
    open_metrics, text = wanted.values()
    return OPEN_METRICS if open_metrics and open_metrics >= text else TEXT


def render(metrics: Iterable[Metric], content_type: str = TEXT) -> str:
    """Return metrics in one of the formats."""
    is_open = content_type == OPEN_METRICS
    lines: list[str] = []
    for metric in metrics:
        family, kind = metric.name, metric.kind
        if is_open and kind == "counter":
            # The family is named without the ending; what has another name is no counter there.
            family = family.removesuffix("_total")
            kind = "unknown" if family == metric.name else kind
        lines += (f"# HELP {family} {metric.help}", f"# TYPE {family} {kind}")
        lines += (_line(metric.name, sample) for sample in metric.samples())
    return "\n".join([*lines, "# EOF", ""] if is_open else [*lines, ""])


def _line(name: str, sample: Sample) -> str:
    pairs = ",".join(f'{label}="{_escape(text)}"' for label, text in sample.labels.items())
    series = f"{name}{sample.suffix}"
    return (
        f"{series}{{{pairs}}} {_number(sample.value)}"
        if pairs
        else f"{series} {_number(sample.value)}"
    )


def _quality(parameters: Iterable[str]) -> float:
    """Return the weight that an entry of an Accept header has: 1 unless it says so."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
