"""Sorted neurons: the same function, with the widest columns last."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import find_linears
from bertrt.export.quantize.neurons import sort_neurons
from bertrt.export.quantize.observe import Observed, observe

SECOND_LAYER = ".output.dense"


@pytest.mark.parametrize("class_name", ["BertModel", "BertForMaskedLM"])
def test_the_same_function(
    fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any, class_name: str
) -> None:
    model = fused(class_name)
    linears = find_linears(model)
    batches = [graphs.random_inputs(class_name, *shape) for shape in ((3, 33), (2, 7), (1, 1))]
    output = model.graph.outputs[0].name
    with open_graph(model, tmp_path) as run:
        expected = [run(inputs, [output])[output] for inputs in batches]
    seen = observe(model, list(linears.values()), batches, tmp_path)
    sorted_ = sort_neurons(model, linears, seen)
    with open_graph(model, tmp_path) as run:
        for inputs, before in zip(batches, expected, strict=True):
            np.testing.assert_allclose(run(inputs, [output])[output], before, rtol=0, atol=1e-5)
    # Only the second layers of feed-forwards read something else, as the function returned.
    again = observe(model, list(linears.values()), batches, tmp_path)
    changed = [name for name in linears if sorted_[name] is not seen[name]]
    assert changed == [n for n in linears if n.endswith(SECOND_LAYER) and "attention" not in n]
    assert len(changed) == 2
    for name in linears:
        np.testing.assert_allclose(again[name].low, sorted_[name].low, atol=1e-5)
        np.testing.assert_allclose(again[name].sample, sorted_[name].sample, atol=1e-5)
        np.testing.assert_allclose(again[name].covariance, sorted_[name].covariance, atol=1e-5)
    for name in changed:
        assert (np.diff(sorted_[name].spread) >= 0).all()
        assert not (np.diff(seen[name].spread) >= 0).all()


TEXT = """
<ir_version: 10, opset_import: ["": 23]>
g (float[B, S, 40] x) => (float[B, S, 40] y)
{ p = MatMul(x, w)  s = Add(p, b)  a = Relu(s)  y = MatMul(a, v) }
"""


def make(text: str) -> ir.Model:
    random = np.random.default_rng(2)
    model = ir.from_onnx_text(text)
    shapes = {"w": (40, 48), "b": (48,), "v": (48, 40)}
    for number, node in enumerate(model.graph):
        node.name = f"{node.outputs[0].name}/{number}"
        for value in node.inputs:
            if value.name in shapes and not value.is_initializer():
                data = random.standard_normal(shapes[value.name]).astype(np.float32)
                value.const_value = ir.tensor(data, name=value.name)
                value.shape, value.type = ir.Shape(data.shape), ir.TensorType(ir.DataType.FLOAT)
                model.graph.register_initializer(value)
    return model


@pytest.mark.parametrize(
    ("old", "new", "is_sorted"),
    [
        ("", "", True),
        ("s = Add(p, b)  a = Relu(s)", "a = Relu(p)", True),  # no bias
        ("a = Relu(s)", "a = Softmax(s)", False),  # neurons depend on each other
        ("a = Relu(s)", "c = Relu(s)  a = Add(c, s)", False),
        ("y = MatMul(a, v)", "y = MatMul(a, v)  n = Neg(p)", False),
        ("float[B, S, 40] y)", "float[B, S, 40] y, float[B, S, 48] a)", False),
    ],
)
def test_only_feed_forwards_are_sorted(tmp_path: Any, old: str, new: str, is_sorted: bool) -> None:
    model = make(TEXT.replace(old, new))
    linears = find_linears(model)
    x = np.random.default_rng(3).standard_normal((2, 5, 40)).astype(np.float32)
    stored = model.graph.initializers["w"].const_value.numpy()
    with open_graph(model, tmp_path) as run:
        before = run({"x": x}, ["y"])["y"]
    hidden = np.random.default_rng(4).standard_normal((9, 48)).astype(np.float32)
    seen = {
        name: Observed.of(rows)
        for name, linear in linears.items()
        for rows in [hidden[:, : len(linear.weight)]]
    }
    result = sort_neurons(model, linears, seen)
    assert any(result[name] is not seen[name] for name in linears) == is_sorted
    same = np.array_equal(model.graph.initializers["w"].const_value.numpy(), stored)
    assert same != is_sorted
    with open_graph(model, tmp_path) as run:
        np.testing.assert_allclose(run({"x": x}, ["y"])["y"], before, atol=1e-4)
