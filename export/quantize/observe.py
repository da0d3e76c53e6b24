"""What each linear layer reads on the calibration texts: ranges, and a sample of its inputs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Observed:
    """A linear layer's inputs: the least and largest of each column, [K], and some rows [R, K]."""

    low: np.ndarray
    high: np.ndarray
    sample: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """How far each column is from 0 at most, [K]."""
        widest: np.ndarray = np.maximum(self.high, -self.low)
        return widest


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
    sources = sorted({linear.source for linear in linears})
    watched = model.clone()
    values = {str(v.name): v for node in watched.graph for v in node.outputs}
    ends = {str(value.name) for value in watched.graph.outputs}
    watched.graph.outputs.extend(values[name] for name in sources if name not in ends)
    collected = {name: _Collector() for name in sources}
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
    """The ranges of all rows, and a fair sample of them."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(_SEED)
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._sample: np.ndarray | None = None
        self._seen = 0

    def add(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        low, high = rows.min(axis=0), rows.max(axis=0)
        self._low = low if self._low is None else np.minimum(self._low, low)
        self._high = high if self._high is None else np.maximum(self._high, high)
        # Reservoir sampling: the first rows fill it, and row i after them takes a place below i.
        if self._sample is None:
            self._sample = np.empty((_SAMPLE, rows.shape[1]), rows.dtype)
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
        assert self._low is not None
        assert self._high is not None
        assert self._sample is not None
        return Observed(self._low, self._high, self._sample[: self._seen])
