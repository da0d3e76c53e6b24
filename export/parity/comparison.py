"""Compare one output of a graph with the reference: the worst errors over all runs."""

from dataclasses import dataclass

import numpy as np

from bertrt.errors import ParityError
from bertrt.export.parity.advice import TRY

__all__ = ["Comparison", "OutputErrors"]


@dataclass(frozen=True)
class OutputErrors:
    """The worst errors of one output over all runs, at positions that are not padding.

    A row lies along the last axis.

    Attributes:
        absolute_error: the largest absolute difference.
        relative_error: the largest difference divided by the largest magnitude in the same text's
            reference.
        argmax_agreement: the share of rows with the same argmax.
        cosine: the cosine of the worst row.
    """

    absolute_error: float
    relative_error: float
    argmax_agreement: float
    cosine: float


class Comparison:
    """Collects the runs of one output.

    Attributes:
        errors: for each shape that was run, the largest absolute difference in each column,
            float [n].
        largest: the largest magnitude of each column's reference, float [n].
    """

    def __init__(self, name: str, *, by_column: bool) -> None:
        """Start with no runs.

        Args:
            name: the output's name.
            by_column: whether each entry of the last axis is a column by itself; if not, the whole
                output is one column.
        """
        self.errors: dict[str, np.ndarray] = {}
        self.largest = np.zeros(1)
        self._name = name
        self._by_column = by_column
        self._relative = 0.0
        self._cosine = 1.0
        self._rows = 0
        self._agreeing = 0

    @property
    def error(self) -> np.ndarray:
        """The largest absolute difference in each column over all shapes, float [n]."""
        return np.asarray(np.max([np.zeros_like(self.largest), *self.errors.values()], axis=0))

    def add(self, answer: np.ndarray, reference: np.ndarray, valid: np.ndarray, shape: str) -> None:
        """Compare one run.

        Args:
            answer: float32 [B, …] from the graph.
            reference: the expected values, of the same shape.
            valid: bool, of the same shape: the entries to compare.
            shape: the run's shape, for messages.

        Raises ParityError if shapes differ or a value is not finite.
        """
        where = f"{self._name} at shape {shape}"
        if answer.shape != reference.shape:
            raise ParityError(
                f"{where} has shape {list(answer.shape)}, but the model's has "
                f"{list(reference.shape)}: the graph does not compute what the model does: {TRY}"
            )
        if not np.isfinite(reference[valid]).all():
            raise ParityError(
                f"{where}: the checkpoint itself gives values that are not finite, so check its "
                "weights: they may be damaged, or the training diverged"
            )
        if not np.isfinite(answer).all():
            raise ParityError(
                f"{where}: the graph gives values that are not finite, and the model none: {TRY}"
            )
        # Text by text: two texts of 512 tokens have 125 MB of logits, and so has each temporary.
        for ours, theirs, use in zip(answer, reference, valid, strict=True):
            self._add_text(np.where(use, ours, 0), np.where(use, theirs, 0), use, shape)

    def result(self) -> OutputErrors:
        """Return the worst of all runs so far."""
        return OutputErrors(
            float(self.error.max()),
            self._relative,
            self._agreeing / self._rows if self._rows else 1.0,
            self._cosine,
        )

    def _add_text(
        self, answer: np.ndarray, reference: np.ndarray, valid: np.ndarray, shape: str
    ) -> None:
        errors = self._columns(np.abs(answer - reference))
        sizes = self._columns(np.abs(reference))
        self.errors[shape] = np.maximum(self.errors.get(shape, 0.0), errors)
        self.largest = np.maximum(self.largest, sizes)
        error, largest = float(errors.max()), float(sizes.max())
        self._relative = max(self._relative, error / largest if largest else error)

        kept = valid.any(axis=-1)
        self._rows += int(kept.sum())
        same = _argmax(answer, valid) == _argmax(reference, valid)
        self._agreeing += int((same & kept).sum())
        cosine = _cosine(answer, reference)
        self._cosine = min(self._cosine, float(np.where(kept, cosine, 1.0).min()))

    def _columns(self, values: np.ndarray) -> np.ndarray:
        """Return the largest value in each column, float [n]."""
        width = values.shape[-1] if self._by_column else 1
        return np.asarray(values.reshape(-1, width).max(axis=0))


def _argmax(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(valid, values, -np.inf).argmax(axis=-1))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, computed in float64; 1 for two rows of zeros."""
    dot = np.einsum("...i,...i->...", a, b, dtype=np.float64)
    norms = np.sqrt(
        np.einsum("...i,...i->...", a, a, dtype=np.float64)
        * np.einsum("...i,...i->...", b, b, dtype=np.float64)
    )
    equal = (a == b).all(axis=-1)
    cosine = np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0)
    return np.where(equal, 1.0, np.minimum(cosine, 1.0))
