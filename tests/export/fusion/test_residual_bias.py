"""The bias of a residual sum moves into the LayerNormalization before it."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.residual_bias import fold_residual_biases

X = np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)
STORED = {"w": (6, 8), "b": (8,), "v": (8, 6), "c": (6,)}
STORED |= dict.fromkeys(("scale", "bias", "scale2", "bias2"), (6,))
ENDS = "g (float[2, 5, 6] x) => (float[B, S, 6] z)\n"
BLOCK = """{
    y = LayerNormalization <axis = -1> (x, scale, bias)
    a = MatMul(y, w)  h = Add(a, b)  t = Tanh(h)
    f = MatMul(t, v)  d = Add(f, c)
    sum = Add(d, y)
    z = LayerNormalization <axis = -1> (sum, scale2, bias2)
}"""
AFTER = ["LayerNormalization", "MatMul", "Add", "Tanh", "MatMul", "Add", "LayerNormalization"]


@pytest.fixture
def from_text(from_text: Callable[..., Any]) -> Callable[..., Any]:
    """Read a graph whose weight v is of a layer of the encoder; its text cannot say that."""

    def read(text: str, stored: Any) -> Any:
        model = from_text(text, stored)
        weight = model.graph.initializers.pop("v")
        weight.name = "bert.encoder.layer.0.output.dense.weight"
        model.graph.register_initializer(weight)
        return model

    return read


def test_a_layer_behind_the_encoder_stays(from_text: Callable[..., Any]) -> None:
    model = from_text(ENDS + BLOCK, STORED)
    weight = model.graph.initializers.pop("bert.encoder.layer.0.output.dense.weight")
    weight.name = "sentence_embedding.0.linear.weight"
    model.graph.register_initializer(weight)
    assert fold_residual_biases(model) == 0
    assert "c" in model.graph.initializers


@pytest.mark.parametrize(
    ("old", "new"), [("x", "x"), ("Add(d, y)", "Add(y, d)"), ("Add(f, c)", "Add(c, f)")]
)
def test_a_block(from_text: Callable[..., Any], check_fusion: Any, old: str, new: str) -> None:
    graph = from_text(ENDS + BLOCK.replace(old, new), STORED)
    check_fusion(graph, fold_residual_biases, {"x": X}, count=1, after=AFTER)
    assert "c" not in graph.graph.initializers


def test_two_linear_layers_read_the_normalization(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    block = BLOCK.replace(
        "t = Tanh(h)", "e = MatMul(y, w2)  i = Add(e, b2)  k = Tanh(h)  t = Mul(k, i)"
    )
    graph = from_text(ENDS + block, {**STORED, "w2": (6, 8), "b2": (8,)})
    after = [*AFTER[:3], "MatMul", "Add", "Tanh", "Mul", *AFTER[4:]]
    check_fusion(graph, fold_residual_biases, {"x": X}, count=1, after=after)


def test_some_tokens_are_read(from_text: Callable[..., Any], check_fusion: Any) -> None:
    block = BLOCK.replace(
        "a = MatMul(y, w)",
        """flat = Reshape(y, rows)  picked = Compress <axis = 0> (flat, which)
        size = Shape(y)  few = Reshape(picked, kept)
        a = MatMul(few, w)""",
    ).replace("Add(d, y)", "Add(d, few)")
    block = block.replace(
        "{",
        """{ rows = Constant <value_ints = [-1, 6]> ()  kept = Constant <value_ints = [2, 2, 6]> ()
        ones = Constant <value_ints = [1, 0, 0, 1, 0, 0, 1, 1, 0, 0]> ()
        which = Cast <to = 9> (ones)""",
        1,
    )
    graph = from_text(ENDS + block, STORED)
    picks = ["Reshape", "Compress", "Shape", "Reshape"]
    after = [*["Constant"] * 3, "Cast", AFTER[0], *picks, *AFTER[1:]]
    check_fusion(graph, fold_residual_biases, {"x": X}, count=1, after=after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Add(d, y)", "Add(d, x)"),  # another residual
        ("Add(d, y)", "Sub(d, y)"),
        ("t = Tanh(h)", "t = Tanh(h)  n = Neg(y)"),  # another node reads y
        ("h = Add(a, b)", "h = Neg(a)"),  # a product without a bias to take the change
        ("d = Add(f, c)", "d = Neg(f)"),  # no bias to move
        ("d = Add(f, c)", "d = Add(f, x)"),  # the bias is not stored
        ("Tanh(h)", "Tanh(h)  m = Neg(d)"),  # another node reads the sum with the bias
        ("(x, scale, bias)", "(x, scale)"),  # the normalization has no bias
        ("(sum, scale2, bias2)", "(sum, scale2, bias)"),  # the bias has two readers
        ("scale, bias)", "scale, c)"),
    ],
)
def test_other_graphs_stay(
    from_text: Callable[..., Any], check_fusion: Any, old: str, new: str
) -> None:
    block = BLOCK.replace(old, new)
    stored = {name: shape for name, shape in STORED.items() if re.search(rf"\b{name}\b", block)}
    check_fusion(from_text(ENDS + block, stored), fold_residual_biases, {"x": X}, count=0)


def test_an_output_stays(from_text: Callable[..., Any], check_fusion: Any) -> None:
    ends = ENDS.replace("=> (", "=> (float[2, 5, 6] y, ")
    check_fusion(from_text(ends + BLOCK, STORED), fold_residual_biases, {"x": X}, count=0)
