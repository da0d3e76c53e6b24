"""Slices of stored rows become tensors at the same place in the file of weights."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bertrt.export.shared_slices import share_slices

ROWS, WIDTH = 70, 48
ROUNDING = 1e-5  # of products of 48 numbers about 1, whose order may change


def write(
    path: Path, bounds: list[tuple[int, int, int, int]], *, external: bool = True, read: int = 1
) -> np.ndarray:
    """Write a graph of x @ slice.T for each slice; returns the sliced matrix."""
    weight = np.random.default_rng(5).standard_normal((ROWS, WIDTH), dtype=np.float32)
    first = np.ones(1000, np.float32)  # so that the matrix does not start the file
    stored = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(weight, "weight")]
    nodes = [helper.make_node("Add", ["x", "zero"], ["moved"], name="add")]
    stored.append(numpy_helper.from_array(np.float32(0), "zero"))
    for i, numbers in enumerate(bounds):
        names = [f"bound{i}_{j}" for j in range(4)]
        stored += [
            numpy_helper.from_array(np.array([number]), name)
            for number, name in zip(numbers, names, strict=True)
        ]
        nodes.append(helper.make_node("Slice", ["weight", *names], [f"slice{i}"], name=f"slice{i}"))
        nodes.append(
            helper.make_node("Transpose", [f"slice{i}"], [f"turned{i}"], f"turn{i}", perm=[1, 0])
        )
        nodes += [
            helper.make_node("MatMul", ["moved", f"turned{i}"], [name], name)
            for name in (f"y{i}{'again' * k}" for k in range(read))
        ]
    outputs = [name for node in nodes if node.op_type == "MatMul" for name in node.output]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "s", f"n_{name}"])
        for name in outputs
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", "width"])
    graph = helper.make_graph(nodes, "graph", [x], values, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(
        model,
        path,
        save_as_external_data=external,
        location=f"{path.name}_data",
        size_threshold=1000,
    )
    return weight


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def answer(path: Path, x: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def test_slices_become_parts_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weight = write(path, [(0, 32, 0, 1), (32, 64, 0, 1), (64, 2**62, 0, 1)])
    data = path.with_name("model.onnx_data")
    x = np.random.default_rng(6).standard_normal((2, 3, WIDTH), dtype=np.float32)
    expected, before = answer(path, x), data.read_bytes()
    assert share_slices(path) == 3
    assert operators(path) == ["Add", *["FusedMatMul"] * 3]
    assert data.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path, data]
    assert share_slices(path) == 0
    for found, y, start in zip(answer(path, x), expected, (0, 32, 64), strict=True):
        np.testing.assert_allclose(found, y, atol=ROUNDING)
        np.testing.assert_allclose(found, x @ weight[start : start + 32].T, atol=ROUNDING)
    onnx.checker.check_model(path)


@pytest.mark.parametrize(
    "bounds",
    [(0, 32, 1, 1), (0, 32, 0, 2), (-6, 70, 0, 1), (9, 9, 0, 1)],
    ids=["columns", "every second row", "from the end", "no row"],
)
def test_other_slices_stay(tmp_path: Path, bounds: tuple[int, int, int, int]) -> None:
    path = tmp_path / "model.onnx"
    write(path, [bounds])
    before = path.read_bytes()
    assert share_slices(path) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("options", [{"external": False}, {"read": 2}])
def test_slices_of_inline_weights_or_with_two_readers_stay(
    tmp_path: Path, options: dict[str, int]
) -> None:
    path = tmp_path / "model.onnx"
    write(path, [(0, 32, 0, 1)], **options)
    assert share_slices(path) == 0
    assert "Slice" in operators(path)
