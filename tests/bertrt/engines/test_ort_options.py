"""Session options: each setting reaches ONNX Runtime, and slower fusions are off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bertrt.engines import ort_options
from bertrt.engines.ort import onnxruntime
from bertrt.engines.ort_options import OrtOptions, open_session

OPERATORS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
ROWS, INNER, COLUMNS = 5, 64, 8


def config_entry(native: Any, name: str) -> str | None:
    """Return a config entry; None if it is not set."""
    try:
        return str(native.get_session_config_entry(name))
    except Exception:
        return None


@pytest.mark.parametrize(("allow_spinning", "expected"), [(True, None), (False, "0")])
def test_allow_spinning_and_threads_are_set(
    make_artifact: Callable[..., Path], allow_spinning: bool, expected: str | None
) -> None:
    graph = make_artifact("BertForMaskedLM") / "model.onnx"
    session = open_session(graph, OrtOptions("basic", threads=2, allow_spinning=allow_spinning))
    native = session.get_session_options()
    assert config_entry(native, "session.intra_op.allow_spinning") == expected
    assert native.intra_op_num_threads == 2
    assert native.enable_mem_pattern is False


def test_slower_fusions_are_off(tmp_path: Path) -> None:
    """Add and LayerNormalization stay two nodes; by default the level fuses them."""
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
    for slower in ("off", "on"):
        native = ort_options._native(OrtOptions("extended", threads=1))
        native.optimized_model_filepath = str(tmp_path / f"{slower}.onnx")
        onnxruntime().InferenceSession(
            str(tmp_path / "norm.onnx"),
            native,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=ort_options._SLOWER if slower == "off" else None,
        )
        written = onnx.load(tmp_path / f"{slower}.onnx")
        kept[slower] = [node.op_type for node in written.graph.node]
    assert kept == {"off": ["Add", "LayerNormalization"], "on": ["SkipLayerNormalization"]}
