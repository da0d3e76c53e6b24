"""Reading a graph: what the dialect knows, and one sentence for what it does not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bertrt.errors import ArtifactError
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.ops import DOMAIN, Place


def test_read(tiny_path: Path) -> None:
    graph, values = read_graph(tiny_path)
    assert graph.inputs == ("input_ids", "attention_mask", "token_type_ids", "masked_only")
    assert graph.outputs == ("logits", "pooled", "unit", "start", "end")
    assert graph.optional == ["masked_only"]
    assert graph.initializers == set(values)
    nodes = {node.outputs[0]: node for node in graph.nodes}
    assert nodes["pooled"].inputs == ("cls", "w_pool", "")
    assert nodes["pooled"].attributes == {"activation": "tanh", "transposed": 0}
    assert nodes["context"].attributes == {"num_heads": 2, "causal": 0}
    assert nodes["x"].attributes["epsilon"] == pytest.approx(1e-5)
    assert [nodes[name].place for name in ("ids", "x", "spans")] == list(Place)


def test_nothing_in_it_can_be_changed(tiny_path: Path) -> None:
    graph, _ = read_graph(tiny_path)
    with pytest.raises(TypeError):
        graph.nodes[0].attributes["num_heads"] = 3  # type: ignore[index]


def test_weights_beside_the_file_and_bfloat16(tiny: onnx.ModelProto, tmp_path: Path) -> None:
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


def foreign(tiny: onnx.ModelProto) -> None:
    change(tiny, "x", domain="com.microsoft")


def standard(tiny: onnx.ModelProto) -> None:
    change(tiny, "start", op_type="Softmax")


def newer(tiny: onnx.ModelProto) -> None:
    next(one for one in tiny.opset_import if one.domain == DOMAIN).version = 9


def attribute(tiny: onnx.ModelProto) -> None:
    tiny.graph.node[3].attribute.append(helper.make_attribute("window", 3))


def lacking(tiny: onnx.ModelProto) -> None:
    del tiny.graph.node[3].attribute[:]


def inputs(tiny: onnx.ModelProto) -> None:
    tiny.graph.node[3].input.append("x")


def left_out(tiny: onnx.ModelProto) -> None:
    tiny.graph.node[3].input[1] = ""


def half(tiny: onnx.ModelProto) -> None:
    tiny.graph.node.append(helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (foreign, "'AddLayerNorm' of the domain 'com.microsoft'"),
        (standard, "'Softmax' of the domain 'ai.onnx'"),
        (newer, "version 9 of the domain 'bertrt'"),
        (attribute, "has the attribute 'window'"),
        (lacking, "lacks 'num_heads'"),
        (inputs, "PackedAttention with the inputs"),
        (left_out, "PackedAttention with the inputs"),
        (half, "casts to float32 only"),
    ],
)
def test_what_the_dialect_does_not_know(
    tiny: onnx.ModelProto, tmp_path: Path, spoil: Any, message: str
) -> None:
    spoil(tiny)
    onnx.save(tiny, tmp_path / "model.onnx")
    with pytest.raises(ArtifactError, match=message):
        read_graph(tmp_path / "model.onnx")


def test_no_graph_at_all(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xffnot a graph")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_graph(tmp_path / "model.onnx")
