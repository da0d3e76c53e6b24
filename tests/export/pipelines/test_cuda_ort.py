"""The pipeline for ONNX Runtime's CUDA provider: its operators, and its answers on the CPU."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bertrt.errors import ExportError
from bertrt.export.half_precision.cuda_ort import to_float16
from bertrt.export.heads import HEADS
from bertrt.export.parity.half import check_half
from bertrt.export.pipelines.cuda_ort import fuse_for_cuda_ort

NAMES = [head.class_name for head in HEADS]
# For two layers. Heads with a dense layer and a LayerNormalization before the vocabulary have more.
EVERY = {
    "PackedQKV": 2,
    "EmbedLayerNormalization": 1,
    "MultiHeadAttention": 2,
    "SkipLayerNormalization": 4,
}
TRANSFORM = {**EVERY, "BiasGelu": 3, "LayerNormalization": 1}
COUNTS = {
    "BertModel": {**EVERY, "BiasGelu": 2, "SentenceEmbedding": 1},
    "BertForPreTraining": TRANSFORM,
    "BertLMHeadModel": TRANSFORM,
    "BertForMaskedLM": TRANSFORM,
    "BertForNextSentencePrediction": {**EVERY, "BiasGelu": 2, "PrunedLayer": 1},
    "BertForSequenceClassification": {**EVERY, "BiasGelu": 2, "PrunedLayer": 1},
    "BertForMultipleChoice": {**EVERY, "BiasGelu": 2, "PrunedLayer": 1},
    "BertForTokenClassification": {**EVERY, "BiasGelu": 2},
    "BertForQuestionAnswering": {**EVERY, "BiasGelu": 2},
}


@pytest.fixture(scope="module")
def fused(graphs: ModuleType) -> Callable[..., ir.Model]:
    """A factory of a head's graph for the CUDA provider, in float32."""

    def make(class_name: str, **changes: object) -> ir.Model:
        model = graphs.traced(class_name, cached=False, **changes)
        config = graphs.model_of(class_name, **changes).config
        counts = fuse_for_cuda_ort(
            model, config, graphs.head_of(class_name), vectors=graphs.vectors_of(class_name)
        )
        assert changes or counts == COUNTS[class_name]
        return model

    return make


@pytest.mark.parametrize("class_name", NAMES)
def test_same_answers_as_the_traced_graph(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    model = fused(class_name)
    for batch, sequence in [(1, 1), (3, 33), (2, 40)]:
        inputs = graphs.random_inputs(class_name, batch, sequence, cached=False)
        expected = graphs.run(graphs.traced(class_name, cached=False), inputs)
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            answer = graphs.run(model, inputs, level)
            for name, value in expected.items():
                np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", NAMES)
def test_structure(fused: Callable[..., ir.Model], class_name: str) -> None:
    model = fused(class_name)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert len(model.graph.inputs) == 3  # no flag, whose value a CUDA graph would freeze
    operators = Counter(node.op_type for node in model.graph)
    # No results whose sizes only the device knows, and no branches.
    assert not {"Compress", "NonZero", "If", "Loop"} & set(operators)
    assert not {"Attention", "Gelu", "Softmax"} & set(operators)
    assert operators["MultiHeadAttention"] == 2
    # One bias for all layers, and one for the first token's row if the last layer is pruned.
    assert operators["Where"] == 1 + COUNTS[class_name].get("PrunedLayer", 0)


@pytest.mark.parametrize("class_name", ["BertForTokenClassification", "BertLMHeadModel"])
def test_a_mask_with_holes(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    inputs = graphs.random_inputs(class_name, 2, 13, cached=False)
    inputs["attention_mask"][:, [3, 4, 8]] = 0
    expected = graphs.run(graphs.traced(class_name, cached=False), inputs)["logits"]
    answer = graphs.run(fused(class_name), inputs)["logits"]
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", NAMES)
def test_padding_tokens_have_no_influence(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    model = fused(class_name)
    inputs = graphs.random_inputs(class_name, 4, 11, cached=False)
    mask = inputs["attention_mask"] != 0
    others = {**inputs, "input_ids": np.where(mask, inputs["input_ids"], 9)}
    answer, changed = graphs.run(model, inputs), graphs.run(model, others)
    for name, value in answer.items():
        valid = np.ones(value.shape[:1], bool)
        if value.shape[:2] == mask.shape and class_name != "BertForMultipleChoice":
            valid = mask if not name.startswith(("pooler", "seq_", "mean", "cls")) else valid
        np.testing.assert_array_equal(value[valid], changed[name][valid])


@pytest.mark.parametrize(
    ("act", "expected"), [("gelu_new", {"FastGelu": 1}), ("quick_gelu", {}), ("silu", {})]
)
def test_other_activations(
    graphs: ModuleType, fused: Callable[..., ir.Model], act: str, expected: dict[str, int]
) -> None:
    changes = {"hidden_act": act, "num_hidden_layers": 1}
    model = fused("BertForTokenClassification", **changes)
    found = Counter(node.op_type for node in model.graph)
    assert {name: found[name] for name in ("FastGelu", "BiasGelu") if found[name]} == expected
    inputs = graphs.random_inputs("BertForTokenClassification", 3, 9, **changes)
    reference = graphs.run(graphs.traced("BertForTokenClassification", **changes), inputs)
    answer = graphs.run(model, inputs)
    np.testing.assert_allclose(answer["logits"], reference["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", NAMES)
def test_float16(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str, tmp_path: Path
) -> None:
    model = fused(class_name)
    to_float16(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    head = graphs.head_of(class_name)
    assert {str(value.dtype) for value in model.graph.inputs} == {"INT64"}
    assert {str(value.dtype) for value in model.graph.outputs} == {"FLOAT"}
    contrib = [node for node in model.graph if node.domain == "com.microsoft"]
    for node in contrib:
        stored = [value for value in node.inputs if value is not None and value.is_initializer()]
        assert {str(value.dtype) for value in stored} <= {"FLOAT16"}
    size = {str(v.name): v.const_value.nbytes for v in model.graph.initializers.values()}
    full = {
        str(v.name): v.const_value.nbytes for v in fused(class_name).graph.initializers.values()
    }
    assert sum(size.values()) < 0.6 * sum(full.values())
    ir.save(model, tmp_path / "g.onnx")
    report = check_half(
        graphs.model_of(class_name),
        head,
        tmp_path / "g.onnx",
        "float16",
        engine="ort",
        optimization_level="all",
    )
    assert all(0 < output.absolute_error <= output.bound for output in report.outputs)


def test_embeddings_are_computed_in_float32(fused: Callable[..., ir.Model]) -> None:
    """A sum of 512 hidden states overflows float16, and the smallest length is 0 in it."""
    model = fused("BertModel")
    to_float16(model)
    for node in model.graph:
        if str(node.name).startswith("sentence_embedding"):
            stored = [value for value in node.inputs if value.is_initializer()]
            assert not any(value.dtype == ir.DataType.FLOAT16 for value in stored)
    last = next(value for value in model.graph.outputs if value.name == "last_hidden_state")
    assert last.producer().op_type == "Cast"
    assert "MatMul" in {node.op_type for node in last.consumers()}


def test_a_weight_too_large_for_float16(fused: Callable[..., ir.Model]) -> None:
    model = fused("BertForTokenClassification")
    bias = model.graph.initializers["classifier.bias"]
    bias.const_value = ir.tensor(np.array([1e6, 0], np.float32), name=bias.name)
    with pytest.raises(
        ExportError, match=r"classifier\.bias has the value 1e\+06, .* too large for float16"
    ):
        to_float16(model)


def test_fewer_operators_than_the_config_requires_is_an_error(graphs: ModuleType) -> None:
    model = graphs.traced("BertForTokenClassification")
    attention = next(node for node in model.graph if node.op_type == "Attention")
    attention.attributes["softcap"] = ir.AttrFloat32("softcap", 50.0)
    config = graphs.model_of("BertForTokenClassification").config
    head = graphs.head_of("BertForTokenClassification")
    with pytest.raises(
        ExportError, match=r"cuda graph .* has 1 x MultiHeadAttention, .* requires 2"
    ):
        fuse_for_cuda_ort(model, config, head)
    other = SimpleNamespace(**{**vars(config), "num_hidden_layers": 3})
    with pytest.raises(ExportError, match="requires 3"):
        fuse_for_cuda_ort(graphs.traced("BertForTokenClassification"), other, head)
