"""Three linear layers on one input → one linear layer and a Split."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.pack_qkv import pack_qkv

X = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
STORED = {"qw": (6, 4), "kw": (6, 4), "vw": (6, 4), "qb": (4,), "kb": (4,), "vb": (4,)}
ENDS = "g (float[B, S, 6] x) => (float[B, S, 4] q, float[B, S, 4] k, float[B, S, 4] v)\n"
LAYERS = """{
    a = MatMul(x, qw)  q = Add(a, qb)
    b = MatMul(x, kw)  k = Add(kb, b)
    c = MatMul(x, vw)  v = Add(c, vb)
}"""


def test_packed(from_text: Callable[..., Any], check_fusion: Any) -> None:
    graph = from_text(ENDS + LAYERS, STORED)
    check_fusion(graph, pack_qkv, {"x": X}, count=1, after=["MatMul", "Add", "Split"])
    shapes = sorted(tuple(value.shape) for value in graph.graph.initializers.values())
    assert shapes == [(6, 12), (12,)]


def test_a_pair_if_the_query_reads_another_value(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    graph = from_text(
        ENDS + LAYERS.replace("MatMul(x, qw)", "MatMul(y, qw)").replace("{", "{ y = Neg(x)"), STORED
    )
    after = ["Neg", "MatMul", "Add", "MatMul", "Add", "Split"]
    check_fusion(graph, pack_qkv, {"x": X}, count=1, after=after)
    assert {"qw", "qb", "kw_vw", "kb_vb"} == set(graph.graph.initializers)


def test_differing_parts_of_names_are_joined(from_text: Callable[..., Any]) -> None:
    graph = from_text(ENDS + LAYERS, STORED)
    for name in list(graph.graph.initializers):
        value = graph.graph.initializers.pop(name)
        value.name = f"layer.{name[0]}.{name[1]}"
        graph.graph.register_initializer(value)
    assert pack_qkv(graph) == 1
    assert sorted(graph.graph.initializers) == ["layer.q_k_v.b", "layer.q_k_v.w"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v = Add(c, vb)", "v = Neg(c)"),  # no bias
        ("v = Add(c, vb)", "d = Add(c, vb)  v = Mul(c, d)"),  # the product is used elsewhere
        ("MatMul(x, vw)", "MatMul(x, kw)"),  # a weight is used twice
        ("v = Add(c, vb)", "v = Add(c, kb)"),  # a bias is used twice
    ],
)
def test_not_packed(from_text: Callable[..., Any], check_fusion: Any, old: str, new: str) -> None:
    layers = LAYERS.replace(old, new)
    stored = {name: shape for name, shape in STORED.items() if name in layers}
    check_fusion(from_text(ENDS + layers, stored), pack_qkv, {"x": X}, count=0)


def test_not_packed_if_a_product_is_an_output(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    ends = ENDS.replace("=> (", "=> (float[B, S, 4] a, ")
    check_fusion(from_text(ends + LAYERS, STORED), pack_qkv, {"x": X}, count=0)


def test_not_packed_if_sizes_differ(from_text: Callable[..., Any], check_fusion: Any) -> None:
    ends = ENDS.replace("4] v", "5] v")
    graph = from_text(ends + LAYERS, {**STORED, "vw": (6, 5), "vb": (5,)})
    check_fusion(graph, pack_qkv, {"x": X}, count=0)
