"""Attention between reshapes, with a padding mask → MultiHeadAttention on [B, S, H]."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.attention import fuse_attention

RANDOM = np.random.default_rng(0)
HEAD = "g (float[B, S, 8] q, float[B, S, 8] k, float[B, S, 8] v, int64[B, S] mask)"
MASK = """
    bits = Cast <to = 9> (mask)
    four = Unsqueeze(bits, axes)
    size = Shape(mask)
    one = Constant <value_ints = [1]> ()
    batch, sequence = Split <num_outputs = 2> (size)
    full = Concat <axis = 0> (batch, one, sequence, sequence)
    wide = Expand(four, full)
"""
BODY = """
    axes = Constant <value_ints = [1, 2]> ()
    split = Constant <value_ints = [0, 0, 2, 4]> ()
    merge = Constant <value_ints = [0, 0, 8]> ()
    MASK
    q4 = Reshape(q, split)  k4 = Reshape(k, split)  v4 = Reshape(v, split)
    qt = Transpose <perm = [0, 2, 1, 3]> (q4)
    kt = Transpose <perm = [0, 2, 1, 3]> (k4)
    vt = Transpose <perm = [0, 2, 1, 3]> (v4)
    at = Attention (qt, kt, vt, wide)
    a4 = Transpose <perm = [0, 2, 1, 3]> (at)
    y = Reshape(a4, merge)
"""


def text(body: str = BODY, mask: str = MASK, outputs: str = "float[B, S, 8] y") -> str:
    return f"{HEAD} => ({outputs})\n{{ {body.replace('MASK', mask)} }}"


def feeds(batch: int = 3, sequence: int = 5) -> dict[str, np.ndarray]:
    """The first row full, the others padded on the right; scores large enough to matter."""
    arrays: dict[str, np.ndarray] = {
        name: RANDOM.standard_normal((batch, sequence, 8)).astype(np.float32) * 3 for name in "qkv"
    }
    lengths = np.maximum(1, sequence - 2 * np.arange(batch))
    arrays["mask"] = (np.arange(sequence) < lengths[:, None]).astype(np.int64)
    return arrays


def fuse_and_drop_the_mask(model: Any) -> int:
    """The fusion, and the pass that removes what only the old mask needed."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    count = fuse_attention(model)
    RemoveUnusedNodesPass()(model)
    return count


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (1, 7), (3, 5), (2, 33)])
@pytest.mark.parametrize("scale", ["", " <scale = 0.7>"])
def test_fused(
    from_text: Callable[..., Any], check_fusion: Any, batch: int, sequence: int, scale: str
) -> None:
    graph = from_text(text(BODY.replace("Attention ", f"Attention{scale} ")))
    after = ["Cast", "com.microsoft::MultiHeadAttention"]
    check_fusion(graph, fuse_and_drop_the_mask, feeds(batch, sequence), count=1, after=after)


def test_padded_keys_weigh_nothing(from_text: Callable[..., Any], graphs: Any) -> None:
    graph = from_text(text())
    assert fuse_attention(graph) == 1
    arrays = feeds()
    expected = graphs.run(graph, arrays)["y"]
    padding = arrays["mask"] == 0
    arrays["k"][padding] = 1e4
    arrays["v"][padding] = 1e4
    np.testing.assert_array_equal(graphs.run(graph, arrays)["y"], expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Attention (", "Attention <is_causal = 1> ("),
        ("Attention (", "Attention <softcap = 2.0> ("),
        ("v4 = Reshape(v, split)", "s = Shape(q4)  v4 = Reshape(v, s)"),  # not a constant
        ("merge = Constant <value_ints = [0, 0, 8]>", "merge = Constant <value_ints = [0, -1, 8]>"),
        ("a4 = Transpose <perm = [0, 2, 1, 3]> (at)", "a4 = Transpose <perm = [0, 2, 1, 3]> (vt)"),
    ],
)
def test_not_fused(from_text: Callable[..., Any], check_fusion: Any, old: str, new: str) -> None:
    graph = from_text(text(BODY.replace(old, new)))
    check_fusion(graph, fuse_attention, feeds(), count=0)


@pytest.mark.parametrize(
    "mask",
    [
        # Rows in place of columns: a token that is no token looks at nothing.
        MASK.replace("four =", "rows = Constant <value_ints = [1, 3]> ()  four =").replace(
            "Unsqueeze(bits, axes)", "Unsqueeze(bits, rows)"
        ),
        MASK.replace("Cast <to = 9> (mask)", "Equal(mask, mask)"),
        MASK.replace("wide = Expand(four, full)", "e = Expand(four, full)  wide = Or(e, e)"),
    ],
)
def test_not_fused_with_another_mask(
    from_text: Callable[..., Any], check_fusion: Any, mask: str
) -> None:
    check_fusion(from_text(text(mask=mask)), fuse_attention, feeds(batch=1), count=0)


def test_not_fused_when_the_keys_are_an_output(
    from_text: Callable[..., Any], check_fusion: Any
) -> None:
    graph = from_text(text(outputs="float[B, S, 8] y, float[B, 2, S, 4] kt"))
    check_fusion(graph, fuse_attention, feeds(), count=0)
