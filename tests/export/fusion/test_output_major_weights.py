"""MatMul by an encoder layer's [K, N] → FusedMatMul by [N, K]."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.fusion.output_major_weights import store_output_major
from bertrt.export.graph.match_linear import is_output_major_product

X = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
ENDS = "g (float[B, S, 6] x) => (float[B, S, 6] y)\n"
STORED = {"w": (6, 7), "v": (7, 6)}
FUSED = "com.microsoft::FusedMatMul"
BLOCK = "{ p = MatMul(x, w)  q = MatMul(p, v)  y = Add(q, x) }"


def test_weights_are_transposed(of_a_layer: Callable[..., ir.Model], check_fusion: Any) -> None:
    model = of_a_layer(ENDS + BLOCK, STORED, suffix=".T")
    weight = model.graph.initializers["encoder.layer.0.w.T"].const_value.numpy()
    after = [FUSED, FUSED, "Add"]
    check_fusion(model, store_output_major, {"x": X}, count=2, after=after)
    assert all(is_output_major_product(node) for node in list(model.graph)[:2])
    stored = model.graph.initializers
    assert sorted(stored) == ["encoder.layer.0.v", "encoder.layer.0.w"]
    np.testing.assert_array_equal(stored["encoder.layer.0.w"].const_value.numpy(), weight.T)


@pytest.mark.parametrize("scope", ["pooler.", "encoder.layer.0.attention.output."])
def test_other_modules_stay(
    of_a_layer: Callable[..., ir.Model], check_fusion: Any, scope: str
) -> None:
    check_fusion(
        of_a_layer(ENDS + BLOCK, STORED, scope, suffix=".T"), store_output_major, {"x": X}, count=0
    )


def test_shared_and_computed_weights_stay(
    of_a_layer: Callable[..., ir.Model], check_fusion: Any
) -> None:
    twice = "{ p = MatMul(x, w)  r = Transpose <perm=[1, 0]> (w)  y = MatMul(p, r) }"
    check_fusion(
        of_a_layer(ENDS + twice, STORED, suffix=".T"), store_output_major, {"x": X}, count=0
    )
    computed = "{ r = Transpose <perm=[0, 2, 1]> (x)  p = MatMul(x, r)  y = MatMul(p, x) }"
    check_fusion(
        of_a_layer(ENDS + computed, STORED, suffix=".T"), store_output_major, {"x": X}, count=0
    )


def test_products_of_picked_rows_stay(
    of_a_layer: Callable[..., ir.Model], check_fusion: Any
) -> None:
    """There may be no such rows, and convolutions refuse that."""
    model = of_a_layer(ENDS + BLOCK, STORED, suffix=".T")
    model.graph.inputs[0].shape = ir.Shape(["kept_batch", "S", 6])
    check_fusion(model, store_output_major, {"x": X}, count=1, after=["MatMul", FUSED, "Add"])
