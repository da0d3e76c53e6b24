"""Reshape, Transpose, Attention, Transpose, Reshape → Attention on [B, S, H]."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.attention import fuse_attention

RANDOM = np.random.default_rng(0)
HEAD = "g (float[B, S, 8] q, float[B, S, 8] k, float[B, S, 8] v, bool[B, 1, S, S] mask)"
BODY = """
    split = Constant <value_ints = [0, 0, 2, 4]> ()
    merge = Constant <value_ints = [0, 0, 8]> ()
    q4 = Reshape(q, split)  k4 = Reshape(k, split)  v4 = Reshape(v, split)
    qt = Transpose <perm = [0, 2, 1, 3]> (q4)
    kt = Transpose <perm = [0, 2, 1, 3]> (k4)
    vt = Transpose <perm = [0, 2, 1, 3]> (v4)
    at = Attention (qt, kt, vt, mask)
    a4 = Transpose <perm = [0, 2, 1, 3]> (at)
    y = Reshape(a4, merge)
"""


def text(body: str = BODY, outputs: str = "float[B, S, 8] y") -> str:
    return f"{HEAD} => ({outputs})\n{{ {body} }}"


def inputs(batch: int = 3, sequence: int = 5) -> dict[str, np.ndarray]:
    """Random inputs with large scores; masks leave each query at least one key."""
    arrays: dict[str, np.ndarray] = {
        name: RANDOM.standard_normal((batch, sequence, 8)).astype(np.float32) * 3 for name in "qkv"
    }
    mask = RANDOM.random((batch, 1, sequence, sequence)) < 0.6
    arrays["mask"] = mask | np.eye(sequence, dtype=bool)
    return arrays


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (1, 7), (3, 5), (2, 33)])
@pytest.mark.parametrize("attribute", ["", " <scale = 0.7>", " <softcap = 2.0>"])
def test_fused(
    from_text: Callable[..., Any], check_fusion: Any, batch: int, sequence: int, attribute: str
) -> None:
    graph = from_text(text(BODY.replace("Attention ", f"Attention{attribute} ")))
    after = ["Constant", "Constant", "Attention"]
    check_fusion(graph, fuse_attention, inputs(batch, sequence), count=1, after=after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Attention (", "Attention <is_causal = 1> ("),
        ("v4 = Reshape(v, split)", "s = Shape(q4)  v4 = Reshape(v, s)"),  # not a constant
        ("merge = Constant <value_ints = [0, 0, 8]>", "merge = Constant <value_ints = [0, -1, 8]>"),
        ("a4 = Transpose <perm = [0, 2, 1, 3]> (at)", "a4 = Transpose <perm = [0, 2, 1, 3]> (vt)"),
    ],
)
def test_not_fused(from_text: Callable[..., Any], check_fusion: Any, old: str, new: str) -> None:
    graph = from_text(text(BODY.replace(old, new)))
    check_fusion(graph, fuse_attention, inputs(), count=0)


def test_not_fused_if_keys_are_an_output(from_text: Callable[..., Any], check_fusion: Any) -> None:
    graph = from_text(text(outputs="float[B, S, 8] y, float[B, 2, S, 4] kt"))
    check_fusion(graph, fuse_attention, inputs(), count=0)
