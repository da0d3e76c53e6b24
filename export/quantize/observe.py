"""What each linear layer reads on the calibration texts: ranges, what goes together, a sample."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import Linear

__all__ = ["Observed", "observe"]

Arrays = dict[str, np.ndarray]

# Rows of inputs that are kept of each layer: enough to tell recipes apart, and 150 MB in all for
# BERT-base.
_SAMPLE = 512
_SEED = 20260102
# Rows that are multiplied at a time: a K x K product costs as much for a few as for many.
_TOGETHER = 1024


@dataclass(frozen=True)
class Observed:
    """A linear layer's inputs: the least and largest of each column, [K], and some rows [R, K].

    `covariance` [K, K] is that of all rows n, shrunk towards its diagonal by K / (K + n): of few
    rows most of what goes together does so by accident.
    """

    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Observed":
        """What there is to see in some rows [R, K]."""
        moments = _Moments(rows.shape[1])
        moments.add(rows)
        return cls(rows.min(axis=0), rows.max(axis=0), rows, moments.covariance())

    @property
    def spread(self) -> np.ndarray:
        """How far each column is from 0 at most, [K]."""
        widest: np.ndarray = np.maximum(self.high, -self.low)
        return widest

    def moved(self, change: np.ndarray) -> "Observed":
        """As it would be of inputs to which [K] is added."""
        low, high, sample = (
            (part + change).astype(np.float32) for part in (self.low, self.high, self.sample)
        )
        return Observed(low, high, sample, self.covariance)

    def widened(self, factor: float) -> "Observed":
        """With ranges that are wider by a factor."""
        return replace(self, low=factor * self.low, high=factor * self.high)

    def divided(self, divisor: np.ndarray) -> "Observed":
        """As it would be of inputs divided by [K]."""
        low, high, sample = (part / divisor for part in (self.low, self.high, self.sample))
        return Observed(low, high, sample, self.covariance / divisor / divisor[:, None])

    def ordered(self, order: np.ndarray) -> "Observed":
        """As it would be of inputs with their columns in another order, int64 [K]."""
        low, high, sample = (part[..., order] for part in (self.low, self.high, self.sample))
        return Observed(low, high, sample, self.covariance[np.ix_(order, order)])


def observe(
    model: ir.Model, linears: Sequence[Linear], feeds: Iterable[Arrays], folder: Path
) -> dict[str, Observed]:
    """Run a float32 graph on calibration feeds and watch what its linear layers read.

    Args:
        model: the graph; left as it is.
        linears: the layers to watch.
        feeds: the arrays of each run, padded batches among them; padding is not counted.
        folder: where a copy with more outputs may be written.

    Returns what each layer read, by its name.
    """
    columns = {linear.source: len(linear.weight) for linear in linears}
    sources = sorted(columns)
    watched = model.clone()
    values = {str(v.name): v for node in watched.graph for v in node.outputs}
    ends = {str(value.name) for value in watched.graph.outputs}
    watched.graph.outputs.extend(values[name] for name in sources if name not in ends)
    collected = {name: _Collector(columns[name]) for name in sources}
    with open_graph(watched, folder) as run:
        for arrays in feeds:
            mask = arrays["attention_mask"]
            for name, value in run(arrays, sources).items():
                collected[name].add(_rows(value, mask))
    return {linear.name: collected[linear.source].result() for linear in linears}


def _rows(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Inputs [..., K] as rows [R, K], without those of padding."""
    mask = mask.reshape(-1, mask.shape[-1])
    if value.shape[:-1] == mask.shape:
        rows: np.ndarray = value[mask.astype(bool)]
        return rows
    return value.reshape(-1, value.shape[-1])


class _Collector:
    """The ranges and the covariance of all rows [n, K], and a fair sample of them."""

    def __init__(self, columns: int) -> None:
        self._random = np.random.default_rng(_SEED)
        self._low = np.full(columns, np.inf, np.float32)
        self._high = np.full(columns, -np.inf, np.float32)
        self._sample = np.empty((_SAMPLE, columns), np.float32)
        self._moments = _Moments(columns)
        self._seen = 0

    def add(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        self._low = np.minimum(self._low, rows.min(axis=0))
        self._high = np.maximum(self._high, rows.max(axis=0))
        self._moments.add(rows)
        # Reservoir sampling: the first rows fill it, and row i after them takes a place below i.
        first = rows[: max(_SAMPLE - self._seen, 0)]
        self._sample[self._seen : self._seen + len(first)] = first
        self._seen += len(first)
        rest = rows[len(first) :]
        places = self._random.integers(self._seen + 1 + np.arange(len(rest)))
        taken = places < _SAMPLE
        # Of two rows for one place the later one stays, as if they came one at a time.
        self._sample[places[taken]] = rest[taken]
        self._seen += len(rest)

    def result(self) -> Observed:
        sample = self._sample[: self._seen]
        return Observed(self._low, self._high, sample, self._moments.covariance())


class _Moments:
    """Sums of rows [n, K] and of their products, from near their middle, where none are large."""

    def __init__(self, columns: int) -> None:
        self._count = 0
        self._middle = np.zeros(columns, np.float32)
        self._sum = np.zeros(columns, np.float64)
        self._products = np.zeros((columns, columns), np.float32)
        self._waiting: list[np.ndarray] = []

    def add(self, rows: np.ndarray) -> None:
        if not self._count:
            self._middle = rows.mean(axis=0)
        rows = rows - self._middle
        self._count += len(rows)
        self._sum += rows.sum(axis=0)
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _TOGETHER:
            self._multiply()

    def covariance(self) -> np.ndarray:
        """The shrunk covariance [K, K], float32; see `Observed`."""
        self._multiply()
        mean = (self._sum / self._count).astype(np.float32)
        result = self._products / self._count - np.outer(mean, mean)
        variance = np.diag(result).copy()
        result *= self._count / (self._count + len(mean))
        np.fill_diagonal(result, variance)
        return result

    def _multiply(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting)
            self._products += rows.T @ rows
            self._waiting.clear()
