"""An int8 product in standard operators gives the numbers of ONNX Runtime's own operator."""

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.quantize.standard_operators import use_standard_operators

RANDOM = np.random.default_rng(8)
# Two products read the same quantized input, as those of query, key and value do.
TEXT = """
<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>
g (float[B, S, 16] x) => (float[B, S, 18] p, float[B, S, 18] q)
{
    u = QuantizeLinear(x, scale, zero)
    p = com.microsoft.MatMulIntegerToFloat (u, w, scale, weight_scale, zero, , bias)
    q = com.microsoft.MatMulIntegerToFloat (u, v, scale, weight_scale, zero, , bias)
}
"""
STORED = {
    "scale": np.array(0.03, np.float32),
    "zero": np.array(99, np.uint8),
    "w": RANDOM.integers(-60, 60, (16, 18)).astype(np.int8),
    "v": RANDOM.integers(-60, 60, (16, 18)).astype(np.int8),
    "weight_scale": RANDOM.uniform(0.01, 0.02, 18).astype(np.float32),
    "bias": RANDOM.standard_normal(18).astype(np.float32),
}


def make() -> ir.Model:
    model = ir.from_onnx_text(TEXT)
    for number, node in enumerate(model.graph):
        node.name = f"node_{number}/{node.op_type}"
        for value in node.inputs:
            if value is not None and value.name in STORED and not value.is_initializer():
                data = STORED[value.name]
                value.const_value = ir.tensor(data, name=value.name)
                value.shape = ir.Shape(data.shape)
                value.type = ir.TensorType(value.const_value.dtype)
                model.graph.register_initializer(value)
    return model


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_ALL"])
def test_same_answers(graphs: object, level: str) -> None:
    """With ONNX Runtime's fusion of the form to integers, and without it."""
    run = graphs.run  # type: ignore[attr-defined]
    model = make()
    for shape in ((1, 1), (3, 5)):
        x = RANDOM.standard_normal((*shape, 16)).astype(np.float32)
        expected = run(make(), {"x": x}, level)
        assert np.ptp(expected["p"]) > 1
        standard = model.clone()
        counts = use_standard_operators(standard)
        assert counts == {"MatMulIntegerToFloat": 0, "DequantizeLinear": 3}
        assert {node.domain for node in standard.graph} == {""}
        assert list(standard.opset_imports) == [""]
        answer = run(standard, {"x": x}, level)
        assert list(answer) == ["p", "q"]
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)


def test_other_graphs_stay() -> None:
    model = make()
    use_standard_operators(model)
    before = [node.op_type for node in model.graph]
    counts = use_standard_operators(model)
    assert counts == {"MatMulIntegerToFloat": 0, "DequantizeLinear": 0}
    assert [node.op_type for node in model.graph] == before
