"""A packed int8 product and Split → one product for each part, of the same integers."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.unpack import unpack_products

RANDOM = np.random.default_rng(8)
TEXT = """
<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
g (float[B, S, 16] x) => (float[B, S, 6] p, float[B, S, 6] q, float[B, S, 6] r)
{
    u = QuantizeLinear(x, scale, zero)
    y = com.microsoft.MatMulIntegerToFloat (u, w, scale, weight_scale, zero, , bias)
    p, q, r = Split <axis = -1, num_outputs = 3> (y)
}
"""
BETWEEN = "z = Identity(y)  p, q, r = Split <axis = -1, num_outputs = 3> (z)"
STORED = {
    "scale": np.array(0.03, np.float32),
    "zero": np.array(99, np.uint8),
    "w": RANDOM.integers(-60, 60, (16, 18)).astype(np.int8),
    "weight_scale": RANDOM.uniform(0.01, 0.02, 18).astype(np.float32),
    "bias": RANDOM.standard_normal(18).astype(np.float32),
}


def make(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    for number, node in enumerate(model.graph):
        node.name = f"node_{number}"
        for value in node.inputs:
            if value is not None and value.name in STORED and not value.is_initializer():
                data = STORED[value.name]
                value.const_value = ir.tensor(data, name=value.name)
                value.shape, value.type = (
                    ir.Shape(data.shape),
                    ir.TensorType(value.const_value.dtype),
                )
                model.graph.register_initializer(value)
    return model


def run(model: ir.Model, folder: Any, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((*shape, 16)).astype(np.float32)
    with open_graph(model, folder) as opened:
        return opened({"x": x}, ["p", "q", "r"])


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 33)])
def test_same_answers(tmp_path: Any, shape: tuple[int, int]) -> None:
    model = make(TEXT)
    expected = run(model, tmp_path, shape)
    assert unpack_products(model) == 1
    operators = [node.op_type for node in model.graph]
    assert operators == ["QuantizeLinear"] + ["MatMulIntegerToFloat"] * 3
    assert [value.name for value in model.graph.outputs] == ["p", "q", "r"]
    sizes = {name: value.const_value.shape for name, value in model.graph.initializers.items()}
    assert sizes["w.1"] == (16, 6)
    assert not {"w", "weight_scale", "bias"} & set(sizes)
    for name, value in run(model, tmp_path, shape).items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Another node between them, as for outlier columns.
        ("p, q, r = Split <axis = -1, num_outputs = 3> (y)", BETWEEN),
        ("<axis = -1", "<axis = 1"),
        ("float[B, S, 6] r)", "float[B, S, 6] r, float[B, S, 18] y)"),
        ("(y)", "(y)  n = Neg(y)"),
    ],
)
def test_other_graphs_stay(old: str, new: str) -> None:
    model = make(TEXT.replace(old, new))
    before = [node.op_type for node in model.graph]
    assert unpack_products(model) == 0
    assert [node.op_type for node in model.graph] == before
