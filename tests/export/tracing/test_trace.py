"""Tracing: dynamic axes, names, and the model's own answers at any shape."""

import logging
import re
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bertrt.export.heads import HEADS
from bertrt.export.tracing import torch_export
from bertrt.export.tracing.trace import trace

CLASSES = [head.class_name for head in HEADS]
SHAPES = [(1, 1), (1, 7), (3, 33), (2, 40)]


def axes(values: Any) -> dict[str, list[Any]]:
    return {value.name: [str(size) for size in value.shape] for value in values}


@pytest.mark.parametrize("class_name", CLASSES)
def test_the_models_own_answers_at_any_shape(graphs: ModuleType, class_name: str) -> None:
    graph = graphs.traced(class_name)
    for batch, sequence in SHAPES:
        arrays = graphs.random_inputs(class_name, batch, sequence)
        answers, expected = graphs.run(graph, arrays), graphs.eager(class_name, arrays)
        for name in graphs.head_of(class_name).outputs:
            assert answers[name].shape == expected[name].shape
            np.testing.assert_allclose(answers[name], expected[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", CLASSES)
def test_names_and_axes(graphs: ModuleType, class_name: str) -> None:
    graph = graphs.traced(class_name).graph
    lead = ["batch", "choices"] if class_name == "BertForMultipleChoice" else ["batch"]
    inputs, outputs = axes(graph.inputs), axes(graph.outputs)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert list(inputs)[:3] == names
    assert (
        tuple(outputs)[: len(graphs.head_of(class_name).outputs)]
        == graphs.head_of(class_name).outputs
    )
    for name in names:
        last = "sequence"
        if class_name == "BertLMHeadModel" and name == "attention_mask":
            last = "total_sequence"
        assert inputs[name] == [*lead, last]
    if class_name == "BertLMHeadModel":
        for layer in range(2):
            for part in ("key", "value"):
                past = inputs[f"past_key_values.{layer}.{part}"]
                present = outputs[f"present.{layer}.{part}"]
                assert past == ["batch", "4", "past_sequence", "8"]
                assert present == ["batch", "4", "total_sequence", "8"]
    else:
        assert list(inputs) == names


@pytest.mark.parametrize("class_name", CLASSES)
def test_a_valid_file_without_local_paths(graphs: ModuleType, class_name: str) -> None:
    model = graphs.traced(class_name)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert {(opset.domain, opset.version) for opset in proto.opset_import} == {("", 23)}
    assert (proto.producer_name, proto.ir_version) == ("bertrt", 10)
    assert not model.functions
    data = proto.SerializeToString()
    for path_part in (b"site-packages", b".py", b"pkg.", b"Users", b"/home"):
        assert path_part not in data
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)
    assert all(names)


def test_attention_layer_norm_and_gelu_stay_one_operator(graphs: ModuleType) -> None:
    found = graphs.operators(graphs.traced("BertForMaskedLM"))
    assert found.count("Attention") == 2
    assert found.count("LayerNormalization") == 6
    assert found.count("Gelu") == 3
    assert not {"Softmax", "Erf", "ReduceMean", "GatherND", "Identity", "Constant"} & set(found)


def test_parameters_keep_their_names_and_values(graphs: ModuleType) -> None:
    model, graph = graphs.model_of("BertForMaskedLM"), graphs.traced("BertForMaskedLM").graph
    stored = {name: value for name, value in graph.initializers.items() if "." in name}
    parameters = dict(model.named_parameters())
    assert set(stored) == set(parameters)  # named_parameters lists tied weights once
    for name, value in stored.items():
        np.testing.assert_array_equal(value.const_value.numpy(), parameters[name].detach())


def test_untied_decoder_is_stored_beside_the_embeddings(graphs: ModuleType) -> None:
    graph = graphs.traced("BertForMaskedLM", tie_word_embeddings=False, num_hidden_layers=1).graph
    assert "cls.predictions.decoder.weight" in graph.initializers
    assert "bert.embeddings.word_embeddings.weight" in graph.initializers


def test_without_a_pooler_there_is_no_pooler_output(graphs: ModuleType) -> None:
    graph = graphs.traced("BertModel", architectures=("bare",), num_hidden_layers=1).graph
    assert [value.name for value in graph.outputs] == ["last_hidden_state"]


def test_a_language_model_that_is_not_a_decoder_is_bidirectional(graphs: ModuleType) -> None:
    changes = {"is_decoder": False, "num_hidden_layers": 1}
    graph = graphs.traced("BertLMHeadModel", **changes)
    assert len(graph.graph.inputs) == 3
    arrays = graphs.random_inputs("BertLMHeadModel", 2, 9, **changes)
    expected = graphs.eager("BertLMHeadModel", arrays, **changes)
    np.testing.assert_allclose(graphs.run(graph, arrays)["logits"], expected["logits"], atol=1e-5)


def test_generation_token_by_token_equals_one_pass(graphs: ModuleType) -> None:
    graph = graphs.traced("BertLMHeadModel")
    arrays = graphs.random_inputs("BertLMHeadModel", 2, 5)
    arrays["attention_mask"][:] = 1
    expected = graphs.eager("BertLMHeadModel", arrays)["logits"]
    past = {name: array for name, array in arrays.items() if name.startswith("past")}
    for step in range(5):
        token = {name: arrays[name][:, step : step + 1] for name in ("input_ids", "token_type_ids")}
        mask = arrays["attention_mask"][:, : step + 1]
        answer = graphs.run(graph, {**token, "attention_mask": mask, **past})
        np.testing.assert_allclose(answer["logits"][:, 0], expected[:, step], atol=1e-5)
        past = {name: answer[name.replace("past_key_values", "present")] for name in past}


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh"])
def test_other_activations(graphs: ModuleType, activation: str) -> None:
    changes = {"hidden_act": activation, "num_hidden_layers": 1, "type_vocab_size": 1}
    arrays = graphs.random_inputs("BertForTokenClassification", 2, 9, **changes)
    answer = graphs.run(graphs.traced("BertForTokenClassification", **changes), arrays)
    expected = graphs.eager("BertForTokenClassification", arrays, **changes)
    np.testing.assert_allclose(answer["logits"], expected["logits"], atol=1e-5)


def test_tracing_is_silent_and_does_not_change_the_model(
    graphs: ModuleType,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No trace of another test's.
    monkeypatch.setattr("bertrt.export.tracing.trace.export_graph", torch_export.export_graph)
    model = graphs.model_of("BertModel", num_hidden_layers=1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    arrays = graphs.random_inputs("BertModel", 2, 9, num_hidden_layers=1)
    expected = graphs.eager("BertModel", arrays, num_hidden_layers=1)
    with caplog.at_level(logging.WARNING):
        trace(model, graphs.head_of("BertModel"))
    out, err = capfd.readouterr()
    assert (out, re.sub(r"\s", "", err), caplog.records) == ("", "", [])
    assert "forward" not in vars(model)
    assert not model._forward_pre_hooks
    for name, parameter in model.named_parameters():
        assert bool((parameter == before[name]).all())
    after = graphs.eager("BertModel", arrays, num_hidden_layers=1)
    np.testing.assert_array_equal(after["last_hidden_state"], expected["last_hidden_state"])
