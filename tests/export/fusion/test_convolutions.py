"""FusedMatMul → Conv: the same answers at every optimization level of ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bertrt.engines.ort import onnxruntime
from bertrt.engines.ort_options import _SLOWER
from bertrt.export.fusion.convolutions import make_convolutions
from bertrt.export.fusion.output_major_weights import store_output_major
from bertrt.export.heads import HEADS
from bertrt.export.pipelines.cpu import fuse_for_cpu

X = np.random.default_rng(0).standard_normal((2, 3, 6)).astype(np.float32)
ENDS = "g (float[B, S, 6] x) => (float[B, S, 6] y)\n"
STORED = {"w": (6, 7), "b": (7,), "v": (7, 6), "c": (6,)}
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL")
BLOCK = """{
    p = MatMul(x, w)  q = Add(p, b)  r = Gelu(q)
    s = MatMul(r, v)  t = Add(s, c)  y = Add(t, x)
}"""


def convolve(model: ir.Model) -> int:
    store_output_major(model)
    return make_convolutions(model)


def test_an_activation_between_convolutions_is_not_transposed(
    of_a_layer: Callable[..., ir.Model], check_fusion: Any
) -> None:
    into, out = ["Unsqueeze", "Transpose"], ["Transpose", "Squeeze"]
    after = [*into, "Conv", "Gelu", "Conv", *out, "Add"]
    model = of_a_layer(ENDS + BLOCK, STORED)
    check_fusion(model, convolve, {"x": X}, count=2, after=after)
    shapes = {name: tuple(value.shape) for name, value in model.graph.initializers.items()}
    assert shapes["encoder.layer.0.w"] == (7, 6, 1, 1)
    assert shapes["encoder.layer.0.v"] == (6, 7, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        # An activation of several nodes that reads its input twice.
        BLOCK.replace("r = Gelu(q)", "z = Sigmoid(q)  r = Mul(z, q)"),
        BLOCK.replace("q = Add(p, b)", "q = Add(b, p)"),
        BLOCK.replace("q = Add(p, b)", "q = Neg(p)"),  # without a bias
        BLOCK.replace("y = Add(t, x)", "n = ReduceSum(q)  u = Add(t, n)  y = Add(u, x)"),
    ],
    ids=["sigmoid", "bias first", "no bias", "read elsewhere"],
)
def test_same_answers(of_a_layer: Callable[..., ir.Model], graphs: ModuleType, text: str) -> None:
    expected = graphs.run(of_a_layer(ENDS + text, STORED), {"x": X})
    model = of_a_layer(ENDS + text, STORED)
    assert convolve(model) == 2
    for level in LEVELS:
        answer = graphs.run(model, {"x": X}, level)
        np.testing.assert_allclose(answer["y"], expected["y"], rtol=0, atol=1e-5)


def test_other_products_stay(of_a_layer: Callable[..., ir.Model], check_fusion: Any) -> None:
    check_fusion(of_a_layer(ENDS + BLOCK, STORED), make_convolutions, {"x": X}, count=0)
    # The first factor is transposed, not the second.
    model = of_a_layer(
        ENDS + "{ p = com.microsoft.FusedMatMul <transA=1> (x, x)  y = MatMul(x, p) }", {}
    )
    check_fusion(model, make_convolutions, {"x": X}, count=0)


def test_external_weights_stay_in_their_file(
    of_a_layer: Callable[..., ir.Model], graphs: ModuleType, tmp_path: Path
) -> None:
    """The graphs of products and of convolutions share one copy."""
    model = of_a_layer(ENDS + BLOCK, STORED)
    expected = graphs.run(model, {"x": X})
    store_output_major(model)
    ir.save(model, tmp_path / "a.onnx", external_data="weights", size_threshold_bytes=0)
    before = (tmp_path / "weights").read_bytes()
    loaded = ir.load(tmp_path / "a.onnx")
    assert make_convolutions(loaded) == 2
    ir.save(loaded, tmp_path / "b.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "weights"]
    assert (tmp_path / "weights").read_bytes() == before
    ort = onnxruntime()
    for name in ("a.onnx", "b.onnx"):
        (answer,) = ort.InferenceSession(tmp_path / name).run(["y"], {"x": X})
        np.testing.assert_allclose(answer, expected["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_any_number_of_masks(graphs: ModuleType, batch: int) -> None:
    """Fill-mask with `masked_only`, with masks in some texts or in none."""
    model = graphs.traced("BertForMaskedLM")
    config, head = graphs.model_of("BertForMaskedLM").config, graphs.head_of("BertForMaskedLM")
    counts = fuse_for_cpu(model, config, head, "cpu", mask_id=4)
    assert counts["FusedMatMul"] == 2 * 5 - 2
    assert make_convolutions(model) == 2 * 5 - 2
    inputs = graphs.random_inputs("BertForMaskedLM", 3, 9)
    inputs["input_ids"][inputs["input_ids"] == 4] = 5
    inputs["input_ids"][:batch, 1] = 4
    expected = graphs.run(graphs.traced("BertForMaskedLM"), inputs)["logits"]
    for level in LEVELS:
        answer = graphs.run(model, {**inputs, "masked_only": np.array(True)}, level)["logits"]
        assert answer.shape == (batch, 1, config.vocab_size)
        np.testing.assert_allclose(answer[:, 0], expected[:batch, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
@pytest.mark.parametrize("sizes", [(32, 37), (24, 96), (48, 64)], ids=str)
@pytest.mark.parametrize("class_name", ["BertModel", "BertForSequenceClassification"])
def test_sizes_that_are_not_multiples_of_a_block(
    graphs: ModuleType, class_name: str, sizes: tuple[int, int], activation: str
) -> None:
    hidden, intermediate = sizes
    changes = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "hidden_act": activation,
        "num_hidden_layers": 1,
    }
    traced = graphs.traced(class_name, **changes)
    model = traced.clone()
    config = graphs.model_of(class_name, **changes).config
    counts = fuse_for_cpu(model, config, graphs.head_of(class_name), "cpu")
    products = model.clone()
    assert (
        make_convolutions(model) == counts["FusedMatMul"] == (5 if class_name == "BertModel" else 3)
    )
    for batch, sequence in [(1, 1), (3, 33), (2, 40)]:
        inputs = graphs.random_inputs(class_name, batch, sequence, **changes)
        expected = graphs.run(traced, inputs)
        for level in LEVELS:
            for graph in (products, model):
                answer = graphs.run(graph, inputs, level)
                for name, value in expected.items():
                    np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", [head.class_name for head in HEADS])
def test_onnx_runtime_blocks_chains(graphs: ModuleType, class_name: str, tmp_path: Path) -> None:
    """ONNX Runtime blocks the convolutions, and features stay blocked between them."""
    sizes = {"hidden_size": 32, "intermediate_size": 64}
    model = graphs.traced(class_name, **sizes)
    config = graphs.model_of(class_name, **sizes).config
    fuse_for_cpu(model, config, graphs.head_of(class_name), "cpu")
    count = make_convolutions(model)
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.onnx")
    options.log_severity_level = 3
    data = ir.to_proto(model).SerializeToString()
    ort.InferenceSession(data, options, disabled_optimizers=_SLOWER)
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    found = [node for node in nodes if node.op_type == "Conv"]
    assert len(found) == count
    if {node.domain for node in found} == {""}:
        pytest.skip("this processor has no blocked convolutions in ONNX Runtime")
    assert {node.domain for node in found} == {"com.microsoft.nchwc"}
    read = {name for node in found for name in node.input}
    between = [node for node in nodes if read & set(node.output)]
    assert {node.op_type for node in between} == {"ReorderInput", "Gelu"}
