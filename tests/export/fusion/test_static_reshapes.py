"""Reshape to a computed shape → Reshape to a constant, where the known shapes determine it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.fusion.static_reshapes import make_reshapes_static

X = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)


def reshape(from_text: Callable[..., Any], result: str, shape: str) -> Any:
    """A graph that reshapes x [B, S, 8] to an int64 input; the result's shape is known."""
    return from_text(
        f"""g (float[B, S, 8] x, int64[{shape.count(",") + 1}] shape) => (float[{result}] y)
        {{ y = Reshape <allowzero = 1> (x, shape) }}"""
    )


@pytest.mark.parametrize(
    ("result", "target"),
    [
        ("B, S, 2, 4", [0, 0, 2, 4]),  # split into heads
        ("B, S, 8", [0, 0, 8]),
        ("T, 8", [-1, 8]),  # batch and sequence joined
        ("B, S, 1, 8", [0, 0, 1, 8]),
    ],
)
def test_constant(
    from_text: Callable[..., Any], check_fusion: Any, result: str, target: list[int]
) -> None:
    graph = reshape(from_text, result, result)
    sizes = {"B": 2, "S": 3, "T": 6}
    shape = [int(sizes.get(size, size)) for size in result.split(", ")]
    inputs = {"x": X, "shape": np.array(shape)}
    check_fusion(graph, make_reshapes_static, inputs, count=1, after=["Reshape"])
    node = graph.graph.node(0)
    assert node.inputs[1].const_value.numpy().tolist() == target
    assert node.attributes["allowzero"].value == 0


def test_a_shape_with_two_unknown_sizes_stays(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    graph = reshape(from_text, "S, B, 8", "S, B, 8")
    inputs = {"x": X, "shape": np.array([3, 2, 8])}
    check_fusion(graph, make_reshapes_static, inputs, count=0)


def test_an_unknown_result_stays(from_text: Callable[..., Any]) -> None:
    graph = reshape(from_text, "B, S, 8", "B, S, 8")
    graph.graph.node(0).outputs[0].shape = None
    assert make_reshapes_static(graph) == 0


def test_unnamed_sizes_are_not_equal(from_text: Callable[..., Any]) -> None:
    graph = reshape(from_text, "B, S, 8", "B, S, 8")
    graph.graph.inputs[0].shape = ir.Shape([None, None, 8])
    graph.graph.node(0).outputs[0].shape = ir.Shape([None, None, 8])
    assert make_reshapes_static(graph) == 0
