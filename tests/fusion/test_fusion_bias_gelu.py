"""Add + Gelu → BiasGelu: exact Gelu and a stored vector on the last axis only."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.bias_gelu import fuse_bias_gelu

X = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("terms", ["x, bias", "bias, x"])
def test_bias_and_gelu(from_text: Callable[..., Any], check_fusion: Any, terms: str) -> None:
    graph = from_text(
        f"""g (float[B, S, 5] x) => (float[B, S, 5] y)
        <float[B, S, 5] sum> {{ sum = Add({terms})  y = Gelu(sum) }}""",
        {"bias": (5,)},
    )
    check_fusion(graph, fuse_bias_gelu, {"x": X}, count=1, after=["com.microsoft::BiasGelu"])


def test_one_of_two(from_text: Callable[..., Any], check_fusion: Any) -> None:
    graph = from_text(
        """g (float[B, S, 5] x) => (float[B, S, 5] y)
        { a = Add(x, bias)  b = Gelu(a)  y = Gelu(b) }""",
        {"bias": (5,)},
    )
    after = ["com.microsoft::BiasGelu", "Gelu"]
    check_fusion(graph, fuse_bias_gelu, {"x": X}, count=1, after=after)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('{ a = Add(x, bias)  y = Gelu <approximate = "tanh"> (a) }', (5,)),  # another function
        ("{ a = Add(x, bias)  y = Gelu(a) }", (3, 5)),  # not a vector
        ("{ a = Add(x, bias)  y = Gelu(a) }", (1,)),  # not one number for each column
        ("{ a = Add(x, bias)  b = Gelu(a)  y = Mul(a, b) }", (5,)),  # the sum is used elsewhere
    ],
)
def test_not_fused(
    from_text: Callable[..., Any], check_fusion: Any, text: str, shape: tuple[int, ...]
) -> None:
    graph = from_text("g (float[2, 3, 5] x) => (float[2, 3, 5] y)\n" + text, {"bias": shape})
    check_fusion(graph, fuse_bias_gelu, {"x": X}, count=0)


def test_not_fused_when_the_sum_is_an_output(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    graph = from_text(
        """g (float[2, 3, 5] x) => (float[2, 3, 5] a, float[2, 3, 5] y)
        { a = Add(x, bias)  y = Gelu(a) }""",
        {"bias": (5,)},
    )
    check_fusion(graph, fuse_bias_gelu, {"x": X}, count=0)


def test_not_fused_without_a_stored_bias(from_text: Callable[..., Any], check_fusion: Any) -> None:
    graph = from_text(
        """g (float[2, 3, 5] x, float[5] bias) => (float[2, 3, 5] y)
        { a = Add(x, bias)  y = Gelu(a) }"""
    )
    feeds = {"x": X, "bias": np.ones(5, dtype=np.float32)}
    check_fusion(graph, fuse_bias_gelu, feeds, count=0)
