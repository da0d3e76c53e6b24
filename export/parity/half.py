"""The gate of float16 and bfloat16: no further from float32 than PyTorch is in the same precision.

A graph in half precision cannot give the checkpoint's numbers to 1e-4, and how near it can come
depends on the checkpoint. So eager PyTorch is the measure: it rounds what every layer gives, as
the graph does, and is what a user would have run.
"""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertrt.errors import ParityError
from bertrt.export.heads import Head
from bertrt.export.parity.comparison import Comparison
from bertrt.export.parity.harness import (
    Shapes,
    all_feeds,
    open_session,
    promised,
    run_graph,
    run_model,
)
from bertrt.export.parity.optional_paths import optional_paths

__all__ = ["HalfOutput", "HalfReport", "check_half"]

# Many rows, since a head's one or two numbers a row may be right by luck, and none so long that
# PyTorch, which is slow in half precision on a CPU, needs minutes.
_SHAPES: Shapes = ((1, 1), (1, 7), (3, 33), (8, 20), (2, 128))
_RATIO = 2.0


@dataclass(frozen=True)
class HalfOutput:
    """One output's worst case over all shapes, against PyTorch in float32.

    `absolute_error` is the graph's, `eager_error` that of PyTorch in the same precision, and
    `bound` what the first had to meet. The rest is the graph's, as in `OutputParity`.
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
    """The precision, the shapes that were run, and each output."""

    dtype: str
    shapes: tuple[str, ...]
    outputs: tuple[HalfOutput, ...]


class _Output:
    """Collects the runs of one output: the graph's and PyTorch's errors, and its magnitude."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ours = Comparison(name, math.inf)
        self.eager = Comparison(name, math.inf)
        self.largest = 0.0

    def add(
        self,
        answer: np.ndarray,
        eager: np.ndarray,
        exact: np.ndarray,
        valid: np.ndarray,
        shape: str,
        dtype: str,
    ) -> None:
        if not np.isfinite(eager[valid]).all():
            raise ParityError(
                f"{self.name} at shape {shape}: PyTorch's own answers in {dtype} are not finite, "
                "so this checkpoint's numbers are too large for it: export with --dtype bfloat16 "
                "or float32"
            )
        self.ours.add(answer, exact, valid, shape)
        self.eager.add(np.where(valid, eager, 0), exact, valid, shape)
        self.largest = max(self.largest, float(np.abs(exact[valid]).max(initial=0)))

    def result(self, dtype: str) -> HalfOutput:
        ours, eager = self.ours.result(), self.eager.result()
        # Where PyTorch is right by luck: the answer itself may be rounded once.
        floor = float(torch.finfo(getattr(torch, dtype)).eps) * self.largest
        return HalfOutput(
            self.name,
            ours.absolute_error,
            eager.absolute_error,
            _RATIO * eager.absolute_error + floor,
            ours.relative_error,
            ours.argmax_agreement,
            ours.cosine,
        )


def check_half(
    model: torch.nn.Module,
    head: Head,
    graph: Path,
    dtype: str,
    *,
    engine: str,
    optimization_level: str,
    mask_id: int | None = None,
) -> HalfReport:
    """Compare the graph's error in half precision with that of eager PyTorch.

    Args:
        model: the checkpoint, float32, in eval mode, with eager attention.
        head: which head it is.
        graph: the ONNX file, as it will be shipped.
        dtype: its precision, "float16" or "bfloat16".
        engine, optimization_level, mask_id: as for `check_parity`.

    Every output, and every optional path, may be at most twice as far from float32 as PyTorch's
    in the same precision on the same arrays, and one rounding of its largest number.

    Raises ParityError when one is further off, or not finite.
    """
    half = copy.deepcopy(model).to(getattr(torch, dtype))
    session = open_session(graph, engine, optimization_level)
    outputs: dict[str, _Output] = {}
    shapes = []
    try:
        names = session.inputs_with_defaults()
        for feeds in all_feeds(model, head, mask_id, _SHAPES):
            shape = "x".join(str(size) for size in feeds["input_ids"].shape)
            shapes.append(shape)
            exact, eager = run_model(model, head, feeds), run_model(half, head, feeds)
            answer = run_graph(session, feeds, shape)
            for name, expected in exact.items():
                valid = promised(head, name, feeds["attention_mask"], expected)
                one = outputs.setdefault(name, _Output(name))
                one.add(answer[name], eager[name], expected, valid, shape, dtype)
            paths = [
                optional_paths(names, set(answer), feeds, reference, mask_id)
                for reference in (exact, eager)
            ]
            for path, rounded in zip(*paths, strict=True):
                answer = run_graph(session, feeds | path.feeds, shape) if path.feeds else answer
                for name, expected in path.expected.items():
                    full = f"{name} ({path.name})" if path.name else name
                    one = outputs.setdefault(full, _Output(full))
                    valid = np.ones(expected.shape, bool)
                    one.add(answer[name], rounded.expected[name], expected, valid, shape, dtype)
    finally:
        session.close()
    results = tuple(one.result(dtype) for one in outputs.values())
    for result in results:
        _check(result, dtype)
    return HalfReport(dtype, tuple(shapes), results)


def _check(result: HalfOutput, dtype: str) -> None:
    if result.absolute_error > result.bound:
        raise ParityError(
            f"{result.name} in {dtype} is {result.absolute_error:.3g} away from the model's answer "
            f"in float32, where PyTorch's in {dtype} is {result.eager_error:.3g} away and at most "
            f"{result.bound:.3g} is allowed"
        )
