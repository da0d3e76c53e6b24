"""Compare one output of a graph with the reference: the worst errors over all runs, and a bound."""

from dataclasses import dataclass

import numpy as np

from bertrt.errors import ParityError

__all__ = ["Comparison", "OutputParity"]


@dataclass(frozen=True)
class OutputParity:
    """The worst errors of one output over all shapes, at positions that are not padding.

    A row lies along the last axis.

    Attributes:
        name: the output's name.
        absolute_error: the largest absolute difference; it was at most `bound`.
        relative_error: the largest difference divided by the largest magnitude in the same text's
            reference.
        argmax_agreement: the share of rows with the same argmax.
        cosine: the cosine of the worst row.
        bound: the largest absolute difference allowed.
    """

    name: str
    absolute_error: float
    relative_error: float
    argmax_agreement: float
    cosine: float
    bound: float


class Comparison:
    """Collects the runs of one output; `result` returns the worst of them."""

    def __init__(self, name: str, bound: float) -> None:
        """Start with no runs.

        Args:
            name: the output's name.
            bound: the largest absolute difference allowed.
        """
        self._name = name
        self._bound = bound
        self._absolute = 0.0
        self._relative = 0.0
        self._cosine = 1.0
        self._rows = 0
        self._agreeing = 0

    def add(self, answer: np.ndarray, reference: np.ndarray, valid: np.ndarray, shape: str) -> None:
        """Compare one run.

        Args:
            answer: float32 [B, …] from the graph.
            reference: the expected values, of the same shape.
            valid: bool, of the same shape: the entries to compare.
            shape: the run's shape, for messages.

        Raises ParityError if shapes differ, a value is not finite, or a difference is too large.
        """
        where = f"{self._name} at shape {shape}"
        if answer.shape != reference.shape:
            raise ParityError(
                f"{where} has shape {list(answer.shape)}, but the model's has "
                f"{list(reference.shape)}: the graph does not compute what the model does"
            )
        if not np.isfinite(reference[valid]).all():
            raise ParityError(
                f"{where}: the checkpoint itself gives values that are not finite, so check its "
                "weights"
            )
        if not np.isfinite(answer).all():
            raise ParityError(f"{where}: the graph gives values that are not finite")
        # Text by text: two texts of 512 tokens have 125 MB of logits, and so has each temporary.
        for ours, theirs, use in zip(answer, reference, valid, strict=True):
            self._add_text(ours, theirs, use, where)

    def result(self) -> OutputParity:
        """Return the worst of all runs so far."""
        return OutputParity(
            self._name,
            self._absolute,
            self._relative,
            self._agreeing / self._rows if self._rows else 1.0,
            self._cosine,
            self._bound,
        )

    def _add_text(
        self, answer: np.ndarray, reference: np.ndarray, valid: np.ndarray, where: str
    ) -> None:
        answer = np.where(valid, answer, 0)
        reference = np.where(valid, reference, 0)
        error = float(np.abs(answer - reference).max())
        if error > self._bound:
            raise ParityError(
                f"{where} differs from the model's answer by {error:.3g}, and at most "
                f"{self._bound:g} is allowed"
            )
        self._absolute = max(self._absolute, error)
        largest = float(np.abs(reference).max())
        self._relative = max(self._relative, error / largest if largest else error)

        kept = valid.any(axis=-1)
        self._rows += int(kept.sum())
        same = _argmax(answer, valid) == _argmax(reference, valid)
        self._agreeing += int((same & kept).sum())
        cosine = _cosine(answer, reference)
        self._cosine = min(self._cosine, float(np.where(kept, cosine, 1.0).min()))


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
