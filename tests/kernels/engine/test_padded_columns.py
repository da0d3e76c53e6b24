"""Test that last products are padded to whole vectors, and that answers do not change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.padded_columns import pad_columns
from bertrt.kernels.engine.runner import EagerRunner
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.ops.operator import DOMAIN

Pad = Callable[[onnx.ModelProto], tuple[dict[str, np.ndarray], dict[str, int]]]


@pytest.fixture
def pad(tmp_path: Path) -> Pad:
    def pad_model(model: onnx.ModelProto) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        onnx.save(model, tmp_path / "model.onnx")
        return pad_columns(*read_graph(tmp_path / "model.onnx"))

    return pad_model


def linear(x: str, weight: str, y: str, bias: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Linear", [x, weight, bias], [y], domain=DOMAIN, **attributes)


def add_weight(model: onnx.ModelProto, name: str, *shape: int) -> None:
    array = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(array, name))


def replace_node(model: onnx.ModelProto, output: str, *nodes: onnx.NodeProto) -> None:
    index = next(i for i, node in enumerate(model.graph.node) if node.output[0] == output)
    rest = list(model.graph.node)[index + 1 :]
    del model.graph.node[index:]
    model.graph.node.extend([*nodes, *rest])


def shapes(weights: dict[str, np.ndarray], *names: str) -> list[tuple[int, ...]]:
    return [weights[name].shape for name in names]


def test_the_vocabulary_and_the_labels(tiny: onnx.ModelProto, pad: Pad) -> None:
    """The vocabulary is the decoder's weight, transposed, and the table of the words."""
    original = {tensor.name: numpy_helper.to_array(tensor) for tensor in tiny.graph.initializer}
    weights, columns = pad(tiny)
    assert columns == {"scores": 23, "span": 2}
    assert shapes(weights, "word", "w_span") == [(24, 16), (16, 8)]
    for name, array in original.items():
        whole = tuple(map(slice, array.shape))
        np.testing.assert_array_equal(weights[name][whole], array)
        assert np.count_nonzero(weights[name]) == np.count_nonzero(array)
        assert weights[name].dtype == array.dtype
        assert weights[name].shape == array.shape or name in ("word", "w_span")


def test_a_bias_and_a_cast(tiny: onnx.ModelProto, pad: Pad) -> None:
    add_weight(tiny, "b_words", 23)
    replace_node(
        tiny,
        "scores",
        linear("chosen", "word", "half", "b_words", transposed=1),
        helper.make_node("Cast", ["half"], ["scores"], to=onnx.TensorProto.FLOAT),
    )
    weights, columns = pad(tiny)
    assert columns == {"half": 23, "span": 2}
    assert shapes(weights, "word", "b_words") == [(24, 16), (24,)]


def test_a_weight_that_a_kernel_reads_too_is_not_padded(tiny: onnx.ModelProto, pad: Pad) -> None:
    """Neither is the bias of that product, nor the weight of another with the same bias."""
    add_weight(tiny, "b_shared", 2)
    add_weight(tiny, "w_labels", 16, 2)
    replace_node(
        tiny,
        "span",
        linear("x", "w_span", "span", "b_shared"),
        linear("x", "w_labels", "labels", "b_shared"),
        linear("x", "w_span", "two"),
        helper.make_node("UnitRows", ["two"], ["unit_two"], domain=DOMAIN),
    )
    for name in ("labels", "unit_two"):
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        tiny.graph.output.append(value)
    weights, columns = pad(tiny)
    assert columns == {"scores": 23}
    assert shapes(weights, "w_span", "w_labels", "b_shared") == [(16, 2), (16, 2), (2,)]


def test_whole_vectors_are_left_alone(tiny: onnx.ModelProto, pad: Pad) -> None:
    add_weight(tiny, "w_even", 16, 24)
    replace_node(tiny, "scores", linear("chosen", "w_even", "scores"))
    weights, columns = pad(tiny)
    assert columns == {"span": 2}
    assert shapes(weights, "w_even", "word") == [(16, 24), (23, 16)]


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("on_device", [False, True])
def test_answers_do_not_change(
    tiny_path: Path,
    make_inputs: Callable[..., Any],
    expected: Callable[..., Any],
    fake_kernels: Any,
    on_device: bool,
    flag: bool,
) -> None:
    columns = []

    def record(*inputs: Any, **attributes: Any) -> torch.Tensor:
        y = fake_kernels.kernels.table["Linear"](*inputs, **attributes)
        columns.append(y.shape[1])
        return y

    kernels = replace_kernel(fake_kernels.kernels, "Linear", record)
    session = TritonSession(
        tiny_path, kernels=kernels, make_runner=lambda: EagerRunner(torch.device("cpu"))
    )
    inputs = {**make_inputs([5, 1, 3], hole=True), "masked_only": np.array(flag)}
    run = session.run_on_device if on_device else session.run
    answers, reference = run(inputs), expected(inputs)
    assert not [count for count in columns if count % 8]
    for name, value in answers.items():
        assert tuple(value.shape) == reference[name].shape
        assert not on_device or value.is_contiguous()
        np.testing.assert_allclose(np.asarray(value), reference[name], rtol=1e-5, atol=1e-5)


def replace_kernel(kernels: Any, name: str, kernel: Any) -> Any:
    return type(kernels)({**kernels.table, name: kernel})


@pytest.mark.skipif(torch.cuda.is_available(), reason="for Triton's interpreter")
def test_an_odd_vocabulary_in_half_precision(
    tiny: onnx.ModelProto,
    tmp_path: Path,
    make_inputs: Callable[..., Any],
    expected: Callable[..., Any],
) -> None:
    """The kernels compute the padded products in float16, and the casts drop the padding."""
    for tensor in tiny.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for name in ("scores", "span", "pooled"):
        node = next(node for node in tiny.graph.node if node.output[0] == name)
        half = onnx.NodeProto()
        half.CopyFrom(node)
        half.output[0] = f"{name}_half"
        cast = helper.make_node("Cast", [half.output[0]], [name], to=onnx.TensorProto.FLOAT)
        replace_node(tiny, name, half, cast)
    onnx.save(tiny, tmp_path / "half.onnx")
    inputs = make_inputs([5, 1, 3])
    reference = expected(inputs)
    for name, value in TritonSession(tmp_path / "half.onnx").run(inputs).items():
        assert value.shape == reference[name].shape
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(value, reference[name], atol=1e-2 * scale)
