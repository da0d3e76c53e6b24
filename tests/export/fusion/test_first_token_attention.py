"""Attention of the first token without keys and values: the same answers."""

from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.first_token_attention import attend_to_inputs
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.static_reshapes import make_reshapes_static
from bertrt.export.fusion.transpose_weights import fold_transposed_weights

HEADS = [
    ("BertForSequenceClassification", {}),
    ("BertForSequenceClassification", {"num_hidden_layers": 1, "num_attention_heads": 1}),
    ("BertForSequenceClassification", {"is_decoder": True}),
    ("BertForNextSentencePrediction", {"num_attention_heads": 8}),
    ("BertForMultipleChoice", {}),
]


def prepared(graphs: ModuleType, class_name: str, *, prune: bool, **changes: Any) -> ir.Model:
    model: ir.Model = graphs.traced(class_name, **changes)
    fold_transposed_weights(model)
    make_reshapes_static(model)
    fuse_attention(model)
    if prune:
        prune_last_layer(model, optional=class_name == "BertModel")
    return model


@pytest.mark.parametrize(("class_name", "changes"), HEADS, ids=str)
def test_same_answers(graphs: ModuleType, class_name: str, changes: dict[str, Any]) -> None:
    model = prepared(graphs, class_name, prune=True, **changes)
    last = graphs.model_of(class_name, **changes).config.num_hidden_layers - 1
    assert attend_to_inputs(model) == 1
    assert not [
        node
        for node in model.graph
        if f"layer.{last}.attention.self.key" in str(node.name)
        or f"layer.{last}.attention.self.value" in str(node.name)
    ]
    sessions = [
        graphs.open_session(model, f"ORT_{level}") for level in ("DISABLE_ALL", "ENABLE_ALL")
    ]
    plain = graphs.open_session(graphs.traced(class_name, **changes), "ORT_DISABLE_ALL")
    for batch, sequence in [(1, 1), (1, 7), (3, 33), (2, 40)]:
        inputs = graphs.random_inputs(class_name, batch, sequence, **changes)
        inputs["attention_mask"][0, ..., sequence // 2 : sequence // 2 + 1] = sequence < 3  # a hole
        (expected,) = plain.run(["logits"], inputs)
        for session in sessions:
            (answer,) = session.run(["logits"], inputs)
            np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("class_name", "prune"),
    [
        ("BertForSequenceClassification", False),  # queries of all tokens
        ("BertModel", True),  # the caller chooses between the first token and all
        ("BertLMHeadModel", False),  # with a cache
    ],
)
def test_other_attention_stays(graphs: ModuleType, class_name: str, prune: bool) -> None:
    model = prepared(graphs, class_name, prune=prune)
    before = graphs.operators(model)
    assert attend_to_inputs(model) == 0
    assert graphs.operators(model) == before


@pytest.mark.parametrize("part", ["key", "value"])
def test_keys_or_values_with_other_readers_stay(graphs: ModuleType, part: str) -> None:
    model = prepared(graphs, "BertForSequenceClassification", prune=True)
    (projected,) = [
        node.outputs[0]
        for node in model.graph
        if str(node.name).endswith(f"layer.1.attention.self.{part}/Add")
    ]
    model.graph.outputs.append(projected)
    assert attend_to_inputs(model) == 0
