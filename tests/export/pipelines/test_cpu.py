"""The pipeline for ONNX Runtime's CPU provider: the traced graph's answers, in its operators."""

from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bertrt.artifact.targets import OPTIMIZATION_LEVEL
from bertrt.engines import ort_options
from bertrt.engines.ort_options import OrtOptions, open_session
from bertrt.errors import ExportError
from bertrt.export.heads import HEADS
from bertrt.export.pipelines.cpu import fuse_for_cpu

LEVELS = {"basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}


@pytest.mark.parametrize("target", ["any", "cpu"])
@pytest.mark.parametrize("class_name", [head.class_name for head in HEADS])
def test_same_answers_as_the_traced_graph(graphs: ModuleType, class_name: str, target: str) -> None:
    traced, fused = graphs.traced(class_name), graphs.traced(class_name)
    fuse_for_cpu(fused, graphs.model_of(class_name).config, graphs.head_of(class_name), target)
    for batch, sequence in [(1, 1), (3, 33), (2, 40)]:
        inputs = graphs.random_inputs(class_name, batch, sequence)
        expected = graphs.run(traced, inputs)
        for level in ("ORT_DISABLE_ALL", LEVELS[OPTIMIZATION_LEVEL[target]]):
            answer = graphs.run(fused, inputs, level)
            # The cpu target may have further outputs after the model's.
            assert list(answer)[: len(expected)] == list(expected)
            assert target == "cpu" or len(answer) == len(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)


def test_counts_and_operators_of_cpu(graphs: ModuleType) -> None:
    model = graphs.traced("BertForMaskedLM")
    counts = fuse_for_cpu(
        model,
        graphs.model_of("BertForMaskedLM").config,
        graphs.head_of("BertForMaskedLM"),
        "cpu",
    )
    assert counts == {
        "LayerNormalization": 6,
        "UnmaskedAttention": 2,
        "ResidualBias": 4,
        "FusedMatMul": 10,
    }
    found = graphs.operators(model)
    assert found.count("MatMul") == 2 + 2
    assert found.count("com.microsoft::FusedMatMul") == 2 * 5
    assert found.count("Gelu") == 3
    assert not {"Attention", "Split"} & set(found)
    assert found.count("Expand") == 1  # one padding mask for all layers
    assert found.count("If") == 2


def test_layers_to_quantize_are_packed_and_keep_their_biases(graphs: ModuleType) -> None:
    model = graphs.traced("BertForMaskedLM")
    config, head = graphs.model_of("BertForMaskedLM").config, graphs.head_of("BertForMaskedLM")
    counts = fuse_for_cpu(model, config, head, "cpu", to_quantize=True)
    assert counts == {"PackedQKV": 2, "LayerNormalization": 6, "UnmaskedAttention": 2}
    names = [node.name for node in model.graph]
    assert "bert.encoder.layer.1.attention.self.query_key_value/MatMul" in names
    stored = model.graph.initializers
    assert "bert.encoder.layer.1.attention.self.query_key_value.weight.T" in stored


@pytest.mark.parametrize("class_name", ["BertForMaskedLM", "BertLMHeadModel"])
def test_any_has_standard_operators_only(graphs: ModuleType, class_name: str) -> None:
    model = graphs.traced(class_name)
    counts = fuse_for_cpu(
        model, graphs.model_of(class_name).config, graphs.head_of(class_name), "any"
    )
    assert counts == {"LayerNormalization": 6, "Attention": 2}
    assert {node.domain for node in model.graph} == {""}
    assert set(model.opset_imports) == {""}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_causal_attention_stays_standard(graphs: ModuleType) -> None:
    model = graphs.traced("BertLMHeadModel")
    counts = fuse_for_cpu(
        model,
        graphs.model_of("BertLMHeadModel").config,
        graphs.head_of("BertLMHeadModel"),
        "cpu",
    )
    assert counts["Attention"] == 2
    assert "UnmaskedAttention" not in counts


@pytest.mark.parametrize("target", ["any", "cpu"])
def test_tied_embeddings_are_stored_once(graphs: ModuleType, target: str) -> None:
    config = graphs.model_of("BertForMaskedLM").config
    model = graphs.traced("BertForMaskedLM")
    fuse_for_cpu(model, config, graphs.head_of("BertForMaskedLM"), target)
    size = config.vocab_size * config.hidden_size
    sizes = [value.const_value.size for value in model.graph.initializers.values()]
    assert sizes.count(size) == 1


def test_onnx_runtime_does_not_fuse_to_slower_operators(
    graphs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = graphs.traced("BertForMaskedLM")
    config = graphs.model_of("BertForMaskedLM").config
    fuse_for_cpu(model, config, graphs.head_of("BertForMaskedLM"), "cpu")
    ir.save(model, tmp_path / "model.onnx")

    def optimized() -> list[onnx.NodeProto]:
        settings = OrtOptions(OPTIMIZATION_LEVEL["cpu"], threads=1)
        native = ort_options._native(settings)
        native.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        with monkeypatch.context() as patch:
            patch.setattr(ort_options, "_native", lambda options: native)
            open_session(tmp_path / "model.onnx", settings)
        return list(onnx.load(tmp_path / "optimized.onnx").graph.node)

    nodes = optimized()
    found = [node.op_type for node in nodes]
    assert not {"SkipLayerNormalization", "BiasGelu"} & set(found)
    assert found.count("LayerNormalization") == 6
    assert "Transpose" not in found
    # ONNX Runtime folds the transpose of the tied decoder.
    (decoder,) = [
        node for node in nodes if "predictions.decoder" in node.name and "MatMul" in node.op_type
    ]
    assert not [node for node in nodes if decoder.input[1] in node.output]
    # With its optimizers, ONNX Runtime fuses these; if this fails, it has renamed the optimizers.
    monkeypatch.setattr(ort_options, "_SLOWER", ())
    assert {"SkipLayerNormalization", "BiasGelu"} <= {node.op_type for node in optimized()}


OPTIONAL = [
    ("BertModel", 4, {"PrunedLayer": 1, "SentenceEmbedding": 1}, ["first_token_only"]),
    ("BertForSequenceClassification", 4, {"PrunedLayer": 1}, []),
    ("BertForNextSentencePrediction", 4, {"PrunedLayer": 1}, []),
    ("BertForMultipleChoice", 4, {"PrunedLayer": 1}, []),
    ("BertForMaskedLM", 4, {"MaskedRows": 1}, ["masked_only"]),
    ("BertForPreTraining", 4, {"MaskedRows": 1}, ["masked_only"]),
    ("BertForMaskedLM", None, {}, []),
    ("BertForTokenClassification", 4, {}, []),
]


@pytest.mark.parametrize(("class_name", "mask_id", "expected", "flags"), OPTIONAL, ids=str)
def test_optional_inputs_and_outputs(
    graphs: ModuleType,
    class_name: str,
    mask_id: int | None,
    expected: dict[str, int],
    flags: list[str],
) -> None:
    config, head = graphs.model_of(class_name).config, graphs.head_of(class_name)
    model = graphs.traced(class_name)
    vectors = graphs.vectors_of(class_name)
    counts = fuse_for_cpu(model, config, head, "cpu", mask_id=mask_id, vectors=vectors)
    optional = ("PrunedLayer", "MaskedRows", "SentenceEmbedding")
    assert {name: counts[name] for name in optional if name in counts} == expected
    assert [value.name for value in model.graph.inputs[3:]] == flags
    assert all(model.graph.initializers[name].const_value.numpy() == False for name in flags)  # noqa: E712
    plain = graphs.traced(class_name)
    assert not set(optional) & set(fuse_for_cpu(plain, config, head, "any", mask_id=mask_id))
    assert len(plain.graph.inputs) == 3


def test_fewer_operators_than_the_config_requires_is_an_error(graphs: ModuleType) -> None:
    head = graphs.head_of("BertForMaskedLM")
    fields = vars(graphs.model_of("BertForMaskedLM").config)
    config = SimpleNamespace(**{**fields, "num_hidden_layers": 3})
    for target in ("any", "cpu"):
        with pytest.raises(ExportError, match=r"6 x LayerNormalization, .* requires 8"):
            fuse_for_cpu(graphs.traced("BertForMaskedLM"), config, head, target)


def test_a_fusion_that_does_not_match_is_an_error(graphs: ModuleType) -> None:
    model = graphs.traced("BertForMaskedLM")
    attention = next(node for node in model.graph if node.op_type == "Attention")
    attention.attributes["softcap"] = ir.AttrFloat32("softcap", 50.0)
    config = graphs.model_of("BertForMaskedLM").config
    with pytest.raises(ExportError, match="1 x Attention, but its config requires 0"):
        fuse_for_cpu(model, config, graphs.head_of("BertForMaskedLM"), "cpu")


def test_other_activations(graphs: ModuleType) -> None:
    changes = {"hidden_act": "gelu_pytorch_tanh", "num_hidden_layers": 1, "type_vocab_size": 1}
    model = graphs.traced("BertForTokenClassification", **changes)
    config = graphs.model_of("BertForTokenClassification", **changes).config
    counts = fuse_for_cpu(model, config, graphs.head_of("BertForTokenClassification"), "cpu")
    assert counts == {
        "LayerNormalization": 3,
        "UnmaskedAttention": 1,
        "ResidualBias": 2,
        "FusedMatMul": 5,
    }
