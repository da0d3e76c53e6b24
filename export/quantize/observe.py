"""Observe what each linear layer reads on calibration texts: ranges, covariance and a sample."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import QuantizableLinear

__all__ = ["Observed", "observe"]

Arrays = dict[str, np.ndarray]

# Rows of inputs that are kept of each layer: enough to compare recipes, and 150 MB in all for
# BERT-base.
_SAMPLE = 512
_SEED = 20260102
# Rows that are multiplied at a time: a K x K product takes as long for a few rows as for many.
_CHUNK = 1024


@dataclass(frozen=True)
class Observed:
    """A linear layer's inputs.

    Attributes:
        low, high: the smallest and largest value of each column, [K].
        sample: some rows, [R, K].
        covariance: of all n rows, [K, K], shrunk towards its diagonal by K / (K + n): with few rows
            most correlation is accidental.
    """

    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Observed":
        """Observe some rows [R, K]; all of them are the sample."""
        moments = _Moments(rows.shape[1])
        moments.add(rows)
        return cls(rows.min(axis=0), rows.max(axis=0), rows, moments.covariance())

    @property
    def spread(self) -> np.ndarray:
        """The largest magnitude of each column, [K]."""
        widest: np.ndarray = np.maximum(self.high, -self.low)
        return widest

    def shifted(self, change: np.ndarray) -> "Observed":
        """Return what would be observed if [K] were added to the inputs."""
        low, high, sample = (
            (part + change).astype(np.float32) for part in (self.low, self.high, self.sample)
        )
        return Observed(low, high, sample, self.covariance)

    def widened(self, factor: float) -> "Observed":
        """Return the same with ranges that are wider by a factor."""
        return replace(self, low=factor * self.low, high=factor * self.high)

    def divided(self, divisor: np.ndarray) -> "Observed":
        """Return what would be observed if the inputs were divided by [K]."""
        low, high, sample = (part / divisor for part in (self.low, self.high, self.sample))
        return Observed(low, high, sample, self.covariance / divisor / divisor[:, None])

    def ordered(self, order: np.ndarray) -> "Observed":
        """Return what would be observed with the columns in another order, int64 [K]."""
        low, high, sample = (part[..., order] for part in (self.low, self.high, self.sample))
        return Observed(low, high, sample, self.covariance[np.ix_(order, order)])


def observe(
    model: ir.Model, linears: Sequence[QuantizableLinear], batches: Iterable[Arrays], folder: Path
) -> dict[str, Observed]:
    """Run a float32 graph on calibration batches and observe what its linear layers read.

    Args:
        model: the graph. It is not changed.
        linears: the layers to observe.
        batches: the inputs of each run. Padding is not counted.
        folder: where a copy with more outputs may be written.

    Returns what each layer read, by its name.
    """
    columns = {linear.source: len(linear.weight) for linear in linears}
    sources = sorted(columns)
    copy = model.clone()
    values = {str(value.name): value for node in copy.graph for value in node.outputs}
    outputs = {str(value.name) for value in copy.graph.outputs}
    copy.graph.outputs.extend(values[name] for name in sources if name not in outputs)
    collected = {name: _Collector(columns[name]) for name in sources}
    with open_graph(copy, folder) as run:
        for inputs in batches:
            mask = inputs["attention_mask"]
            for name, value in run(inputs, sources).items():
                collected[name].add(_rows(value, mask))
    return {linear.name: collected[linear.source].result() for linear in linears}


def _rows(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a layer's inputs [..., K] as rows [R, K], without those of padding."""
    mask = mask.reshape(-1, mask.shape[-1])
    if value.shape[:-1] == mask.shape:
        rows: np.ndarray = value[mask.astype(bool)]
        return rows
    return value.reshape(-1, value.shape[-1])


class _Collector:
    """Collects the ranges and the covariance of all rows [n, K], and a uniform sample of them."""

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
        # Reservoir sampling: the first rows fill it, and row i after them takes a slot below i.
        first = rows[: max(_SAMPLE - self._seen, 0)]
        self._sample[self._seen : self._seen + len(first)] = first
        self._seen += len(first)
        rest = rows[len(first) :]
        slots = self._random.integers(self._seen + 1 + np.arange(len(rest)))
        taken = slots < _SAMPLE
        # Of two rows for one slot the later one stays, as if they came one at a time.
        self._sample[slots[taken]] = rest[taken]
        self._seen += len(rest)

    def result(self) -> Observed:
        sample = self._sample[: self._seen]
        return Observed(self._low, self._high, sample, self._moments.covariance())


class _Moments:
    """Sums of rows [n, K] and of their products, relative to near their mean for precision."""

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
        if sum(map(len, self._waiting)) >= _CHUNK:
            self._multiply()

    def covariance(self) -> np.ndarray:
        """Return the shrunk covariance [K, K], float32; see `Observed`."""
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
