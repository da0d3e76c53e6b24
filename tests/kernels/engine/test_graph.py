"""Test reading a graph, and the errors for what the engine does not support."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bertrt.errors import ArtifactError
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.ops.operator import DOMAIN, Stage


def test_read_graph(tiny_path: Path) -> None:
    graph, values = read_graph(tiny_path)
    assert graph.inputs == ("input_ids", "attention_mask", "token_type_ids", "masked_only")
    assert graph.outputs == ("logits", "pooled", "unit", "start", "end")
    assert graph.optional_inputs == ["masked_only"]
    assert graph.initializers == set(values)
    nodes = {node.outputs[0]: node for node in graph.nodes}
    assert nodes["pooled"].inputs == ("cls", "w_pool", "")
    assert nodes["pooled"].attributes == {"activation": "tanh", "transposed": 0}
    assert nodes["context"].attributes == {"num_heads": 2, "causal": 0}
    assert nodes["x"].attributes["epsilon"] == pytest.approx(1e-5)
    assert [nodes[name].stage for name in ("ids", "x", "spans")] == list(Stage)


def test_attributes_are_immutable(tiny_path: Path) -> None:
    graph, _ = read_graph(tiny_path)
    with pytest.raises(TypeError):
        graph.nodes[0].attributes["num_heads"] = 3  # type: ignore[index]


def test_external_weights_and_bfloat16(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    import ml_dtypes

    half = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    tiny.graph.initializer.append(numpy_helper.from_array(half, "half"))
    onnx.save(
        tiny,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    _, values = read_graph(tmp_path / "model.onnx")
    assert values["half"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(values["half"], half)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read"):
        read_graph(tmp_path / "model.onnx")


def change(tiny: onnx.ModelProto, output: str, **fields: Any) -> None:
    node = next(node for node in tiny.graph.node if node.output[0] == output)
    for name, value in fields.items():
        setattr(node, name, value)


def other_domain(tiny: onnx.ModelProto) -> None:
    change(tiny, "x", domain="com.microsoft")


def unknown_standard_operator(tiny: onnx.ModelProto) -> None:
    change(tiny, "start", op_type="Softmax")


def newer_version(tiny: onnx.ModelProto) -> None:
    next(entry for entry in tiny.opset_import if entry.domain == DOMAIN).version = 9


def unknown_attribute(tiny: onnx.ModelProto) -> None:
    tiny.graph.node[3].attribute.append(helper.make_attribute("window", 3))


def missing_attribute(tiny: onnx.ModelProto) -> None:
    del tiny.graph.node[3].attribute[:]


def too_many_inputs(tiny: onnx.ModelProto) -> None:
    tiny.graph.node[3].input.extend(["x", "x", "x"])


def missing_input(tiny: onnx.ModelProto) -> None:
    tiny.graph.node[3].input[1] = ""


def cast_to_float16(tiny: onnx.ModelProto) -> None:
    tiny.graph.node.append(helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_domain, "'AddLayerNorm' of the domain 'com.microsoft'"),
        (unknown_standard_operator, "'Softmax' of the domain 'ai.onnx'"),
        (newer_version, "version 9 of the domain 'bertrt'"),
        (unknown_attribute, "has the attribute 'window'"),
        (missing_attribute, "lacks 'num_heads'"),
        (too_many_inputs, "PackedAttention with the inputs"),
        (missing_input, "PackedAttention with the inputs"),
        (cast_to_float16, "casts to float32 only"),
    ],
)
def test_unsupported_graphs_are_refused(
    tiny: onnx.ModelProto, tmp_path: Path, spoil: Any, message: str
) -> None:
    spoil(tiny)
    onnx.save(tiny, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match=message):
        read_graph(tmp_path / "model.onnx")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xffnot a graph")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_graph(tmp_path / "model.onnx")
