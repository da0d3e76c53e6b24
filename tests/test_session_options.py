"""Session options: each setting reaches ONNX Runtime, and int8 products are exact where asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bertrt import session_options
from bertrt.errors import ArtifactError
from bertrt.ort import onnxruntime
from bertrt.processor import read_processor
from bertrt.session_options import SessionOptions, open_session

OPERATORS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
ROWS, INNER, COLUMNS = 5, 64, 8


def entry(native: Any, name: str) -> str | None:
    """A config entry that was set; None: it was not."""
    try:
        return str(native.get_session_config_entry(name))
    except Exception:
        return None


@pytest.mark.parametrize(("spinning", "expected"), [(True, None), (False, "0")])
def test_spinning_reaches_the_session(
    make_artifact: Callable[..., Path], spinning: bool, expected: str | None
) -> None:
    graph = make_artifact("BertForMaskedLM") / "model.onnx"
    session = open_session(graph, SessionOptions("basic", threads=2, spinning=spinning))
    native = session.get_session_options()
    assert entry(native, "session.intra_op.allow_spinning") == expected
    assert entry(native, "session.x64quantprecision") is None
    assert native.intra_op_num_threads == 2
    assert native.enable_mem_pattern is False


@pytest.mark.parametrize(
    ("level", "native_level"),
    [
        ("disabled", "ORT_ENABLE_EXTENDED"),
        ("basic", "ORT_ENABLE_EXTENDED"),
        ("extended", "ORT_ENABLE_EXTENDED"),
        ("all", "ORT_ENABLE_ALL"),
    ],
)
def test_exact_int8_raises_the_level(level: str, native_level: str) -> None:
    native = session_options._native(SessionOptions(level, threads=1, exact_int8=True))
    assert entry(native, "session.x64quantprecision") == "1"
    levels = onnxruntime().GraphOptimizationLevel
    assert native.graph_optimization_level == getattr(levels, native_level)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ArtifactError, match="session_level is 'fast', none of disabled, basic"):
        SessionOptions("fast", threads=1)


def product(path: Path, operator: str) -> Path:
    """A graph that multiplies unsigned activations by weights that are all 127."""
    arrays = {
        "weight": np.full((INNER, COLUMNS), 127, np.int8),
        "scale": np.array(1, np.float32),
        "weight_scale": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "weight_zero": np.array(0, np.int8),
    }
    names, domain, given, made = {
        "MatMulInteger": (
            ["a", "weight", "zero", "weight_zero"],
            "",
            TensorProto.UINT8,
            TensorProto.INT32,
        ),
        "MatMulIntegerToFloat": (
            ["a", "weight", "scale", "weight_scale", "zero", "weight_zero"],
            "com.microsoft",
            TensorProto.UINT8,
            TensorProto.FLOAT,
        ),
        "DynamicQuantizeMatMul": (
            ["a", "weight", "weight_scale", "weight_zero"],
            "com.microsoft",
            TensorProto.FLOAT,
            TensorProto.FLOAT,
        ),
    }[operator]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], domain=domain)],
        "product",
        [helper.make_tensor_value_info("a", given, ["B", INNER])],
        [helper.make_tensor_value_info("y", made, ["B", COLUMNS])],
        [numpy_helper.from_array(arrays[name], name) for name in names[1:]],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def multiply(path: Path, operator: str, options: SessionOptions) -> float:
    dtype = np.float32 if operator == "DynamicQuantizeMatMul" else np.uint8
    values = open_session(path, options).run(None, {"a": np.full((ROWS, INNER), 255, dtype)})[0]
    assert values.shape == (ROWS, COLUMNS)
    assert (values == values[0, 0]).all()
    return float(values[0, 0])


@pytest.mark.parametrize("level", ["basic", "all"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_int8_products(tmp_path: Path, operator: str, level: str) -> None:
    """255 times 127 over 64 terms: two such products do not fit into 16 bits."""
    path = product(tmp_path / "product.onnx", operator)
    exact = 255.0 * 127 * INNER
    assert multiply(path, operator, SessionOptions(level, 1, exact_int8=True)) == exact
    plain = multiply(path, operator, SessionOptions(level, 1))
    assert (plain == exact) is not read_processor().int8_saturates


def test_exact_int8_brings_no_slower_fusion(tmp_path: Path) -> None:
    """Add and LayerNormalization stay two nodes, although the level fuses them."""
    size = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3, 4]) for name in "aby"]
    ones = numpy_helper.from_array(np.ones(4, np.float32), "ones")
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "ones", "ones"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "norm", size[:2], size[2:], [ones])
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "norm.onnx")
    kept = {}
    for exact in (True, False):
        options = SessionOptions("extended", 1, exact_int8=exact)
        native = session_options._native(options)
        native.optimized_model_filepath = str(tmp_path / f"{exact}.onnx")
        onnxruntime().InferenceSession(
            str(tmp_path / "norm.onnx"),
            native,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=session_options._SLOWER if exact else None,
        )
        written = onnx.load(tmp_path / f"{exact}.onnx")
        kept[exact] = [node.op_type for node in written.graph.node]
    assert kept == {True: ["Add", "LayerNormalization"], False: ["SkipLayerNormalization"]}
