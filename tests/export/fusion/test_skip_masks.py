"""Attention with a padding mask → If with a branch for texts without padding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.skip_masks import SHORTEST, skip_masks_without_padding

RANDOM = np.random.default_rng(0)
HEAD = "g (float[B, S, 8] q, float[B, S, 8] k, float[B, S, 8] v, int64[B, S] attention_mask)"
MASK = """
    axes = Constant <value_ints = [1, 2]> ()
    bits = Cast <to = 9> (attention_mask)
    four = Unsqueeze(bits, axes)
    size = Shape(attention_mask)
    one = Constant <value_ints = [1]> ()
    batch, sequence = Split <num_outputs = 2> (size)
    full = Concat <axis = 0> (batch, one, sequence, sequence)
    wide = Expand(four, full)
"""
ATTENTION = "y = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v, wide)"


def text(mask: str = MASK, attention: str = ATTENTION) -> str:
    return f"{HEAD} => (float[B, S, 8] y)\n{{ {mask} {attention} }}"


def inputs(batch: int, sequence: int, *, padded: bool) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        name: RANDOM.standard_normal((batch, sequence, 8)).astype(np.float32) * 3 for name in "qkv"
    }
    arrays["attention_mask"] = np.ones((batch, sequence), dtype=np.int64)
    if padded:
        arrays["attention_mask"][-1, -max(1, sequence // 3) :] = sequence < 2
    return arrays


def branches(model: Any) -> list[list[str]]:
    return [
        [inner.op_type for inner in attribute.as_graph()]
        for node in model.graph
        if node.op_type == "If"
        for attribute in node.attributes.values()
    ]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (3, 5), (1, SHORTEST), (2, SHORTEST + 1)])
@pytest.mark.parametrize("scale", ["", ", scale = 0.7"])
def test_same_answers(
    from_text: Callable[..., Any],
    graphs: Any,
    batch: int,
    sequence: int,
    padded: bool,
    scale: str,
) -> None:
    graph = from_text(text(attention=ATTENTION.replace(">", f"{scale}>")))
    arrays = inputs(batch, sequence, padded=padded)
    expected = graphs.run(graph, arrays)["y"]
    assert skip_masks_without_padding(graph) == 1
    assert branches(graph) == [["MultiHeadAttention"], ["Attention"]]
    np.testing.assert_allclose(graphs.run(graph, arrays)["y"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sequence", [5, SHORTEST])
def test_padded_keys_have_no_weight(
    from_text: Callable[..., Any], graphs: Any, sequence: int
) -> None:
    graph = from_text(text())
    assert skip_masks_without_padding(graph) == 1
    arrays = inputs(2, sequence, padded=True)
    expected = graphs.run(graph, arrays)["y"]
    padding = arrays["attention_mask"] == 0
    arrays["k"][padding] = 1e4
    arrays["v"][padding] = 1e4
    np.testing.assert_array_equal(graphs.run(graph, arrays)["y"], expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("wide = Expand(four, full)", "e = Expand(four, full)  wide = Or(e, e)"),
        ("Cast <to = 9> (attention_mask)", "Equal(attention_mask, attention_mask)"),
        ("(q, k, v, wide)", "(q, k, v)"),
        ("kv_num_heads = 2", "kv_num_heads = 2, softcap = 2.0"),
    ],
)
def test_other_attention_stays(
    from_text: Callable[..., Any], check_fusion: Any, old: str, new: str
) -> None:
    graph = from_text(text().replace(old, new))
    check_fusion(graph, skip_masks_without_padding, inputs(2, SHORTEST, padded=False), count=0)
