"""Reshape by a computed shape → by a constant one, where the known shapes say what it must be."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.fusion.reshape import make_reshapes_static

X = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)


def reshape(from_text: Callable[..., Any], result: str, shape: str) -> Any:
    """Reshape of x [B, S, 8] by an int64 input, to what is known to be `result`."""
    return from_text(
        f"""g (float[B, S, 8] x, int64[{shape.count(",") + 1}] shape) => (float[{result}] y)
        {{ y = Reshape <allowzero = 1> (x, shape) }}"""
    )


@pytest.mark.parametrize(
    ("result", "target"),
    [
        ("B, S, 2, 4", [0, 0, 2, 4]),  # split into heads
        ("B, S, 8", [0, 0, 8]),
        ("T, 8", [-1, 8]),  # rows and columns joined
        ("B, S, 1, 8", [0, 0, 1, 8]),
    ],
)
def test_constant(
    from_text: Callable[..., Any], check_fusion: Any, result: str, target: list[int]
) -> None:
    graph = reshape(from_text, result, result)
    sizes = {"B": 2, "S": 3, "T": 6}
    shape = [int(sizes.get(size, size)) for size in result.split(", ")]
    feeds = {"x": X, "shape": np.array(shape)}
    check_fusion(graph, make_reshapes_static, feeds, count=1, after=["Reshape"])
    node = graph.graph.node(0)
    assert node.inputs[1].const_value.numpy().tolist() == target
    assert node.attributes["allowzero"].value == 0


def test_a_shape_with_two_unknown_sizes_is_left(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    graph = reshape(from_text, "S, B, 8", "S, B, 8")
    feeds = {"x": X, "shape": np.array([3, 2, 8])}
    check_fusion(graph, make_reshapes_static, feeds, count=0)


def test_an_unknown_result_is_left(from_text: Callable[..., Any]) -> None:
    graph = reshape(from_text, "B, S, 8", "B, S, 8")
    graph.graph.node(0).outputs[0].shape = None
    assert make_reshapes_static(graph) == 0


def test_an_unnamed_size_is_not_taken_for_the_same(from_text: Callable[..., Any]) -> None:
    graph = reshape(from_text, "B, S, 8", "B, S, 8")
    graph.graph.inputs[0].shape = ir.Shape([None, None, 8])
    graph.graph.node(0).outputs[0].shape = ir.Shape([None, None, 8])
    assert make_reshapes_static(graph) == 0
