"""The parity check in float16 and bfloat16: at most twice as far from float32 as PyTorch.

A graph in half precision cannot give the checkpoint's answers to 1e-4, and how close it can come
depends on the checkpoint. So eager PyTorch in the same precision is the measure: it rounds the
output of every layer, as the graph does, and is what a user would have run.

Each column of an output is held to PyTorch's error in it too, by the wider rule of
`bertrt.export.parity.bound`, since PyTorch may be right by chance in the few numbers of a column.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertrt.errors import ParityError
from bertrt.export.heads import HeadSpec
from bertrt.export.parity.advice import REPORT
from bertrt.export.parity.bound import rounding_bound
from bertrt.export.parity.comparison import Comparison
from bertrt.export.parity.harness import (
    Shapes,
    has_columns,
    open_session,
    random_inputs,
    run_graph,
    run_model,
    shape_name,
    valid_positions,
)
from bertrt.export.parity.optional_paths import optional_paths
from bertrt.export.vector_modules import VectorModules

__all__ = ["HalfOutput", "HalfReport", "check_half"]

# Many rows, since one or two numbers a row may be right by chance. No long ones: PyTorch is slow in
# half precision on a CPU, and would take minutes.
_SHAPES: Shapes = ((1, 1), (1, 7), (3, 33), (8, 20), (2, 128))
_RATIO = 2.0


@dataclass(frozen=True)
class HalfOutput:
    """The worst errors of one output over all shapes, against PyTorch in float32.

    Attributes:
        name: the output's name.
        absolute_error: the graph's error; it was at most `bound`.
        eager_error: the error of PyTorch in the same precision.
        bound: the largest error allowed.
        relative_error, argmax_agreement, cosine: the graph's, as in `OutputParity`.
    """

    name: str
    absolute_error: float
    eager_error: float
    bound: float
    relative_error: float
    argmax_agreement: float
    cosine: float


@dataclass(frozen=True)
class HalfReport:
    """The precision, the shapes that were run, and each output's errors."""

    dtype: str
    shapes: tuple[str, ...]
    outputs: tuple[HalfOutput, ...]


class _OutputErrors:
    """Collects the runs of one output: the errors of the graph and of PyTorch."""

    def __init__(self, name: str, dtype: str, *, by_column: bool) -> None:
        self._name = name
        self._dtype = dtype
        self._graph = Comparison(name, by_column=by_column)
        self._eager = Comparison(name, by_column=by_column)

    def add(
        self,
        answer: np.ndarray,
        eager: np.ndarray,
        exact: np.ndarray,
        valid: np.ndarray,
        shape: str,
    ) -> None:
        """Compare the graph's answer and eager PyTorch's with the exact one in float32."""
        if not np.isfinite(eager[valid]).all():
            raise ParityError(
                f"{self._name} at shape {shape}: PyTorch's own answers in {self._dtype} are not "
                "finite, so this checkpoint's values are too large for it: export with "
                "--dtype bfloat16 or float32"
            )
        self._graph.add(answer, exact, valid, shape)
        self._eager.add(np.where(valid, eager, 0), exact, valid, shape)

    def result(self) -> HalfOutput:
        """Return the errors; raises ParityError if one is too large for its column or output."""
        graph, eager = self._graph.result(), self._eager.result()
        eps = float(torch.finfo(getattr(torch, self._dtype)).eps)
        largest = self._graph.largest
        # One rounding of the answer is allowed even where PyTorch is exact by chance.
        bound = _RATIO * eager.absolute_error + eps * float(largest.max())
        if graph.absolute_error > bound:
            raise self._failure(graph.absolute_error, eager.absolute_error, bound)
        bounds = rounding_bound(self._eager.error, largest, eps)
        excess = self._graph.error - bounds
        column = int(excess.argmax())
        if excess[column] > 0:
            raise self._failure(
                self._graph.error[column], self._eager.error[column], bounds[column], column
            )
        return HalfOutput(
            self._name,
            graph.absolute_error,
            eager.absolute_error,
            bound,
            graph.relative_error,
            graph.argmax_agreement,
            graph.cosine,
        )

    def _failure(
        self, error: float, eager_error: float, bound: float, column: int | None = None
    ) -> ParityError:
        where = self._name if column is None else f"column {column} of {self._name}"
        other = "bfloat16 or float32" if self._dtype == "float16" else "float32"
        return ParityError(
            f"{where} in {self._dtype} differs from the model's answer in float32 by {error:.3g}, "
            f"where PyTorch's in {self._dtype} differs by {eager_error:.3g}, and at most "
            f"{bound:.3g} is allowed: export with --dtype {other}, and {REPORT}"
        )


def check_half(
    model: torch.nn.Module,
    head: HeadSpec,
    graph: Path,
    dtype: str,
    *,
    engine: str,
    optimization_level: str,
    mask_id: int | None = None,
    vectors: VectorModules | None = None,
    reference: torch.nn.Module | None = None,
) -> HalfReport:
    """Compare the graph's error in half precision with that of eager PyTorch.

    Every output, also of every optional path, may differ from float32 by at most twice as much as
    PyTorch's in the same precision on the same inputs, plus one rounding of its largest value, and
    each of its columns by at most eight times as much as PyTorch's, plus one rounding of its own.

    Args:
        model: the model that was traced, float32, in eval mode, with eager attention.
        head: which head it is.
        graph: the ONNX file, as it will be shipped.
        dtype: its precision, "float16" or "bfloat16".
        engine, optimization_level, mask_id, vectors, reference: as for `check_parity`. The modules
            run in float32 on hidden states in half precision, in PyTorch as in the graph.

    Raises ParityError if an output differs by more, or is not finite.
    """
    right = model if reference is None else reference
    half = copy.deepcopy(right).to(getattr(torch, dtype))
    session = open_session(graph, engine, optimization_level)
    outputs: dict[str, _OutputErrors] = {}
    shapes = []

    def errors_of(name: str) -> _OutputErrors:
        by_column = has_columns(head, name)
        return outputs.setdefault(name, _OutputErrors(name, dtype, by_column=by_column))

    try:
        defaults = session.inputs_with_defaults()
        for inputs in random_inputs(model, head, mask_id, _SHAPES):
            shape = shape_name(inputs)
            shapes.append(shape)
            exact, eager = run_model(right, head, inputs), run_model(half, head, inputs)
            answer = run_graph(session, inputs, shape)
            for name, expected in exact.items():
                valid = valid_positions(head, name, inputs["attention_mask"], expected)
                errors_of(name).add(answer[name], eager[name], expected, valid, shape)
            exact_paths, eager_paths = (
                optional_paths(defaults, set(answer), inputs, reference, mask_id, vectors)
                for reference in (exact, eager)
            )
            for path, eager_path in zip(exact_paths, eager_paths, strict=True):
                answer = run_graph(session, inputs | path.inputs, shape) if path.inputs else answer
                for name, expected in path.expected.items():
                    errors_of(path.output_name(name)).add(
                        answer[name],
                        eager_path.expected[name],
                        expected,
                        np.ones(expected.shape, bool),
                        shape,
                    )
    finally:
        session.close()
    results = tuple(errors.result() for errors in outputs.values())
    return HalfReport(dtype, tuple(shapes), results)
