"""The last layer computed for the first token only: the same answers."""

from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.pack_qkv import pack_qkv
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.static_reshapes import make_reshapes_static
from bertrt.export.fusion.transpose_weights import fold_transposed_weights

SHAPES = [(1, 1), (1, 7), (3, 33), (2, 40), (3, 33)]
FIRST_TOKEN_HEADS = [
    ("BertForSequenceClassification", {}),
    ("BertForSequenceClassification", {"num_hidden_layers": 1}),
    ("BertForSequenceClassification", {"is_decoder": True}),
    ("BertForNextSentencePrediction", {}),
    ("BertForMultipleChoice", {}),
]


def prepared(graphs: ModuleType, class_name: str, **changes: Any) -> ir.Model:
    model = graphs.traced(class_name, **changes)
    fold_transposed_weights(model)
    make_reshapes_static(model)
    fuse_attention(model)
    return model


@pytest.mark.parametrize(("class_name", "changes"), FIRST_TOKEN_HEADS, ids=str)
def test_heads_that_read_the_first_token(
    graphs: ModuleType, class_name: str, changes: dict[str, Any]
) -> None:
    model = prepared(graphs, class_name, **changes)
    assert prune_last_layer(model) == 1
    assert pack_qkv(model) == graphs.model_of(class_name, **changes).config.num_hidden_layers
    assert [value.name for value in model.graph.inputs] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    plain = graphs.open_session(graphs.traced(class_name, **changes), "ORT_DISABLE_ALL")
    sessions = [
        graphs.open_session(model, f"ORT_{level}") for level in ("DISABLE_ALL", "ENABLE_BASIC")
    ]
    for batch, sequence in SHAPES:
        inputs = graphs.random_inputs(class_name, batch, sequence, **changes)
        (expected,) = plain.run(["logits"], inputs)
        for session in sessions:
            (answer,) = session.run(["logits"], inputs)
            np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "prelu", "xielu"])
def test_any_activation(graphs: ModuleType, activation: str) -> None:
    changes = {"hidden_act": activation, "num_hidden_layers": 1}
    model = prepared(graphs, "BertForSequenceClassification", **changes)
    assert prune_last_layer(model) == 1
    inputs = graphs.random_inputs("BertForSequenceClassification", 3, 9, **changes)
    expected = graphs.run(graphs.traced("BertForSequenceClassification", **changes), inputs)
    answer = graphs.run(model, inputs)
    np.testing.assert_allclose(answer["logits"], expected["logits"], rtol=0, atol=1e-5)


def test_unread_rows_are_not_computed(graphs: ModuleType) -> None:
    model = prepared(graphs, "BertForSequenceClassification")
    assert prune_last_layer(model) == 1
    name = "bert.encoder.layer.1.output.LayerNorm/LayerNormalization"
    last = next(node for node in model.graph if node.name == name)
    last.outputs[0].name = "last"
    model.graph.outputs.append(last.outputs[0])
    inputs = graphs.random_inputs("BertForSequenceClassification", 3, 33)
    assert graphs.run(model, inputs)["last"].shape == (3, 1, 32)


def test_one_graph_for_all_tokens_and_for_the_first(graphs: ModuleType) -> None:
    """The caller may alternate between them, although ONNX Runtime keeps memory plans."""
    model = prepared(graphs, "BertModel")
    weights = sum(value.const_value.size for value in model.graph.initializers.values())
    assert prune_last_layer(model, optional=True) == 1
    after = sum(value.const_value.size for value in model.graph.initializers.values())
    assert after - weights < 10  # the weights are stored once
    session = graphs.open_session(model, "ORT_ENABLE_BASIC")
    plain = graphs.open_session(graphs.traced("BertModel"), "ORT_DISABLE_ALL")
    names = ["last_hidden_state", "pooler_output"]
    for batch, sequence in SHAPES:
        inputs = graphs.random_inputs("BertModel", batch, sequence)
        hidden, pooled = plain.run(names, inputs)
        for flag in (None, True, False, True, None):
            flags = {} if flag is None else {"first_token_only": np.array(flag)}
            answer = session.run(names, inputs | flags)
            expected = hidden[:, :1] if flag else hidden
            np.testing.assert_allclose(answer[0], expected, rtol=0, atol=1e-5)
            np.testing.assert_allclose(answer[1], pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "class_name", ["BertModel", "BertForTokenClassification", "BertForQuestionAnswering"]
)
def test_heads_that_read_every_token_stay(graphs: ModuleType, class_name: str) -> None:
    model = prepared(graphs, class_name)
    before = graphs.operators(model)
    assert prune_last_layer(model) == 0
    assert graphs.operators(model) == before


def test_a_pooler_of_another_token_stays(graphs: ModuleType) -> None:
    model = prepared(graphs, "BertForSequenceClassification")
    pooler = next(node for node in model.graph if node.name == "bert.pooler/Gather")
    pooler.replace_input_with(1, _stored(model, 2))
    assert prune_last_layer(model) == 0


def test_attention_that_is_not_fused_yet_stays(graphs: ModuleType) -> None:
    model = graphs.traced("BertForSequenceClassification")
    fold_transposed_weights(model)
    assert prune_last_layer(model) == 0


def _stored(model: ir.Model, number: int) -> ir.Value:
    value = ir.Value(
        name="number",
        shape=ir.Shape([]),
        type=ir.TensorType(ir.DataType.INT64),
        const_value=ir.tensor(np.array(number), name="number"),
    )
    model.graph.register_initializer(value)
    return value
