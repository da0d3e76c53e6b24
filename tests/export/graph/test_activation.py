"""Identify transformers' activations by their numbers, in every form."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers.activations import ACT2FN

from bertrt.export.graph.activation import activation_after, identify

GELU_NEW = """
    h = Mul(y, half)
    p = Pow(y, three)
    q = Mul(p, c)
    r = Add(y, q)
    s = Mul(r, root)
    t = Tanh(s)
    u = Add(t, one)
    z = Mul(h, u)
"""
GELU_FAST = """
    h = Mul(y, half)
    a = Mul(y, root)
    b = Mul(y, c)
    d = Mul(b, y)
    e = Add(d, one)
    f = Mul(a, e)
    t = Tanh(f)
    u = Add(one, t)
    z = Mul(h, u)
"""
GELU_PYTHON = """
    e1 = Mul(y, rsqrt)
    e2 = Erf(e1)
    u = Add(e2, one)
    h = Mul(y, half)
    z = Mul(h, u)
"""
# transformers' name, the nodes, and the name in `ACTIVATIONS`.
FORMS = [
    ("gelu", "z = Gelu(y)", "gelu"),
    ("gelu_python", GELU_PYTHON, "gelu"),
    ("gelu_pytorch_tanh", 'z = Gelu<approximate="tanh">(y)', "gelu_tanh"),
    ("gelu_new", GELU_NEW, "gelu_tanh"),
    ("gelu_fast", GELU_FAST, "gelu_tanh"),
    ("relu", "z = Relu(y)", "relu"),
    ("silu", "s = Sigmoid(y) z = Mul(y, s)", "silu"),
    ("tanh", "z = Tanh(y)", "tanh"),
    ("quick_gelu", "a = Mul(y, quick) s = Sigmoid(a) z = Mul(y, s)", None),
    ("relu6", "z = Clip(y, zero, six)", None),
    ("gelu_10", "g = Gelu(y) z = Clip(g, ten_below, ten)", None),
    ("leaky_relu", "z = LeakyRelu(y)", None),
]
NUMBERS = {
    "half": 0.5,
    "one": 1.0,
    "three": 3.0,
    "c": 0.044715,
    "root": (2 / np.pi) ** 0.5,
    "rsqrt": 0.5**0.5,
    "quick": 1.702,
    "zero": 0.0,
    "six": 6.0,
    "ten": 10.0,
    "ten_below": -10.0,
}


@pytest.fixture
def after_a_product(from_text: Callable[..., ir.Model]) -> Callable[[str], ir.Model]:
    """A factory of graphs with two products, and between them nodes that compute z from y."""

    def make(nodes: str) -> ir.Model:
        used = [name for name in NUMBERS if f"{name})" in nodes or f"{name}," in nodes]
        model = from_text(
            f"g (float[b, s, 4] x) => (float[b, s, 3] out) {{ y = MatMul(x, w) {nodes} "
            "out = MatMul(z, v) }",
            {"w": (4, 5), "v": (5, 3), **dict.fromkeys(used, ())},
        )
        for name in used:
            value = model.graph.initializers[name]
            value.const_value = ir.tensor(np.float32(NUMBERS[name]), name=name)
        return model

    return make


@pytest.mark.parametrize(("name", "nodes", "expected"), FORMS, ids=lambda part: str(part)[:12])
def test_every_form_is_identified(
    after_a_product: Callable[[str], ir.Model], name: str, nodes: str, expected: str | None
) -> None:
    model = after_a_product(nodes)
    y = next(iter(model.graph)).outputs[0]
    region = activation_after(model.graph, y)
    assert region is not None
    assert region.result.name == "z"
    assert len(region.nodes) == len(list(model.graph)) - 2
    assert identify(region, y) == expected


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "relu", "silu", "tanh"])
def test_kernels_activations_equal_transformers(name: str) -> None:
    from bertrt.kernels.ops.activations import ACTIVATIONS

    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    theirs = ACT2FN[name.replace("gelu_tanh", "gelu_new")](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](x), theirs, rtol=0, atol=2e-6)


def test_without_an_activation(after_a_product: Callable[[str], ir.Model]) -> None:
    model = after_a_product("z = Identity(y)")
    y = next(iter(model.graph)).outputs[0]
    assert activation_after(model.graph, y) is None


def test_intermediate_values_with_other_readers(
    after_a_product: Callable[[str], ir.Model],
) -> None:
    """Another node reads y, or a value inside the activation."""
    for nodes in (
        "r = Relu(y) z = Softmax(y)",
        "t = Tanh(y) r = Relu(t) z = Concat<axis=-1>(t, r)",
    ):
        model = after_a_product(nodes)
        y = next(iter(model.graph)).outputs[0]
        assert activation_after(model.graph, y) is None


def test_a_bias_is_not_part_of_an_activation(from_text: Callable[..., ir.Model]) -> None:
    model = from_text(
        "g (float[b, s, 4] x) => (float[b, s, 5] out) "
        "{ y = MatMul(x, w) z = Add(y, bias) out = Relu(z) }",
        {"w": (4, 5), "bias": (5,)},
    )
    y = next(iter(model.graph)).outputs[0]
    assert activation_after(model.graph, y) is None
