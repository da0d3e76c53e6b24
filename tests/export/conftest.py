"""Fixtures for tests of fusions: a tiny graph from text, and a check of its answers."""

import re
from collections.abc import Callable, Mapping
from types import ModuleType

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import pytest


@pytest.fixture(scope="session")
def from_text() -> Callable[..., ir.Model]:
    """A factory of graphs, given the graph's text and the shapes of its stored tensors."""

    def make(text: str, stored: Mapping[str, tuple[int, ...]] | None = None) -> ir.Model:
        random = np.random.default_rng(3)
        head = '<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]>\n'
        model = ir.from_onnx_text(head + text)
        for name, shape in (stored or {}).items():
            data = random.standard_normal(shape).astype(np.float32) * 0.5
            value = next(v for v in values_of(model) if v.name == name)
            value.const_value = ir.tensor(data, name=name)
            value.shape, value.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
            model.graph.register_initializer(value)
        for index, node in enumerate(model.graph):
            node.name = f"{node.op_type}_{index}"
        common_passes.ShapeInferencePass()(model)
        return model

    return make


@pytest.fixture(scope="session")
def of_a_layer(from_text: Callable[..., ir.Model]) -> Callable[..., ir.Model]:
    """Like `from_text`; the stored tensors are named like an encoder layer's."""

    def make(
        text: str,
        stored: Mapping[str, tuple[int, ...]],
        scope: str = "encoder.layer.0.",
        suffix: str = "",
    ) -> ir.Model:
        read = {name: shape for name, shape in stored.items() if re.search(rf"\b{name}\b", text)}
        model = from_text(text, read)
        for name in read:
            value = model.graph.initializers.pop(name)
            value.name = f"{scope}{name}{suffix}"
            model.graph.register_initializer(value)
        return model

    return make


def values_of(model: ir.Model) -> list[ir.Value]:
    return [value for node in model.graph for value in node.inputs if value is not None]


@pytest.fixture(scope="session")
def check_fusion(graphs: ModuleType) -> Callable[..., None]:
    """A check that `fuse` returns `count`, leaves the operators `after`, and changes no answer."""

    def check(
        model: ir.Model,
        fuse: Callable[[ir.Model], int],
        inputs: dict[str, np.ndarray],
        *,
        count: int,
        after: list[str] | None = None,
    ) -> None:
        before = graphs.operators(model)
        expected = graphs.run(model, inputs)
        assert fuse(model) == count
        assert graphs.operators(model) == (before if after is None else after)
        answer = graphs.run(model, inputs)
        assert list(answer) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)

    return check
