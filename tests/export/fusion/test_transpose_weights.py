"""Transpose(weight) → the stored transpose, unless another node reads the weight."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.transpose_weights import fold_transposed_weights

X = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
ENDS = "g (float[B, 6] x) => (float[B, 4] y)\n"


def test_folded(from_text: Callable[..., Any], check_fusion: Any) -> None:
    graph = from_text(
        ENDS + "{ t = Transpose <perm = [1, 0]> (w)  y = MatMul(x, t) }", {"w": (4, 6)}
    )
    check_fusion(graph, fold_transposed_weights, {"x": X}, count=1, after=["MatMul"])
    assert list(graph.graph.initializers) == ["w.T"]


def test_a_tied_weight_is_stored_once(from_text: Callable[..., Any], check_fusion: Any) -> None:
    graph = from_text(
        """g (int64[B] ids) => (float[B, 4] y)
        { x = Gather(w, ids)  t = Transpose <perm = [1, 0]> (w)  y = MatMul(x, t) }""",
        {"w": (4, 6)},
    )
    check_fusion(graph, fold_transposed_weights, {"ids": np.array([3, 1])}, count=0)
    assert list(graph.graph.initializers) == ["w"]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("{ t = Transpose <perm = [0, 1]> (w)  y = MatMul(x, t) }", (6, 4)),  # transposes nothing
        ("{ t = Transpose <perm = [1, 0]> (x)  y = MatMul(x, w) }", (6, 4)),  # not a weight
        ("{ t = Transpose <perm = [0, 2, 1]> (w)  y = MatMul(x, t) }", (1, 4, 6)),  # not a matrix
    ],
)
def test_not_folded(
    from_text: Callable[..., Any], check_fusion: Any, body: str, shape: tuple[int, ...]
) -> None:
    ends = ENDS.replace("float[B, 4] y", "float[1, B, 4] y") if len(shape) == 3 else ENDS
    check_fusion(from_text(ends + body, {"w": shape}), fold_transposed_weights, {"x": X}, count=0)


def test_not_folded_if_the_transpose_is_an_output(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    graph = from_text(
        """g (float[B, 6] x) => (float[B, 4] y, float[6, 4] t)
        { t = Transpose <perm = [1, 0]> (w)  y = MatMul(x, t) }""",
        {"w": (4, 6)},
    )
    check_fusion(graph, fold_transposed_weights, {"x": X}, count=0)
