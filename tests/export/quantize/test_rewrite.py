"""MatMul and Add → QuantizeLinear and MatMulIntegerToFloat, against the definition."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import find_linears
from bertrt.export.quantize.recipe import Recipe, quantize_linear
from bertrt.export.quantize.rewrite import write_int8

RANDOM = np.random.default_rng(5)
WITH_BIAS = """
<ir_version: 10, opset_import: ["": 23]>
g (float[B, S, 40] x) => (float[B, S, 30] y)
{ p = MatMul(x, w)  y = Add(p, b) }
"""
WITHOUT_BIAS = WITH_BIAS.replace("p = MatMul(x, w)  y = Add(p, b)", "y = MatMul(x, w)")
TIED = WITH_BIAS.replace("p = MatMul(x, w)", "t = Transpose <perm = [1, 0]> (w)  p = MatMul(x, t)")


def make(text: str) -> ir.Model:
    model = ir.from_onnx_text(text)
    shapes = {"w": (30, 40) if "Transpose" in text else (40, 30), "b": (30,)}
    for node in model.graph:
        node.name = f"dense/{node.op_type}"
        for value in node.inputs:
            if value.name in shapes and not value.is_initializer():
                data = RANDOM.standard_normal(shapes[value.name]).astype(np.float32)
                value.const_value = ir.tensor(data, name=value.name)
                value.shape, value.type = ir.Shape(data.shape), ir.TensorType(ir.DataType.FLOAT)
                model.graph.register_initializer(value)
    return model


def integers(linear: Any, inputs: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Compute the definition in 64-bit integers and floats."""
    inputs = inputs if linear.divisor is None else inputs * (1 / linear.divisor)
    steps = np.clip(np.rint(inputs / linear.scale) + int(linear.zero), 0, 255).astype(np.int64)
    product = (steps - int(linear.zero)) @ linear.weight.astype(np.int64)
    answer = product * (np.float64(linear.scale) * linear.weight_scale)
    answer += inputs[..., linear.outliers].astype(np.float64) @ linear.outlier_weight
    return answer + linear.correction + bias


@pytest.mark.parametrize("text", [WITH_BIAS, WITHOUT_BIAS, TIED])
@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(smoothing=0.5), Recipe(outliers=4), Recipe("int8", 0.5, 4)]
)
@pytest.mark.parametrize("widest", ["first", "last"])
def test_the_graph_computes_the_definition(
    observed: Any, tmp_path: Any, text: str, recipe: Recipe, widest: str
) -> None:
    model = make(text)
    (linear,) = find_linears(model).values()
    assert linear.products == 40 * 30
    bias = np.zeros(30, np.float32)
    if "b" in model.graph.initializers:
        bias = model.graph.initializers["b"].const_value.numpy()
    seen = observed(columns=40, wide=4)
    if widest == "last":
        seen = seen.ordered(np.arange(40)[::-1])
    quantized = quantize_linear(linear.weight, seen, recipe)
    write_int8(model, {"dense": quantized})
    operators = [node.op_type for node in model.graph]
    assert operators.count("QuantizeLinear") == operators.count("MatMulIntegerToFloat") == 1
    assert operators.count("MatMul") == (1 if recipe.outliers else 0)
    if recipe == Recipe(outliers=4):
        cut = {"first": "Gather", "last": "Slice"}[widest]
        assert {"Gather", "Slice"} & set(operators) == {cut}
    assert not {"w", "b"} & set(model.graph.initializers)
    # Inputs beyond the observed range are clipped to 0 and 255, and no sum may overflow, in the
    # kernels for one row and for many.
    with open_graph(model, tmp_path) as run:
        for shape in ((2, 7, 40), (1, 1, 40), (5, 64, 40)):
            x = RANDOM.standard_normal(shape).astype(np.float32) * 60
            answer = run({"x": x}, ["y"])["y"]
            expected = integers(quantized, x, bias)
            np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-3)
    assert not list(tmp_path.iterdir())


def test_other_products_stay() -> None:
    model = make(WITH_BIAS.replace("MatMul(x, w)", "MatMul(x, x)").replace("40", "30"))
    assert find_linears(model) == {}


def test_layers_without_tensors_stay_float32() -> None:
    model = make(WITH_BIAS)
    write_int8(model, {})
    assert [node.op_type for node in model.graph] == ["MatMul", "Add"]
