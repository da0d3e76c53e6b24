"""Logits of mask tokens only, in order, if requested; all logits by default."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bertrt.export.fusion.masked_rows import keep_masked_rows
from bertrt.export.fusion.transpose_weights import fold_transposed_weights

MASK = 4
CASES = [
    ("BertForMaskedLM", "logits", {}),
    ("BertForMaskedLM", "logits", {"num_hidden_layers": 1, "hidden_act": "gelu_new"}),
    ("BertForPreTraining", "prediction_logits", {}),
]


def feeds_with_masks(
    graphs: ModuleType, class_name: str, batch: int, sequence: int, masks: str, **changes: Any
) -> dict[str, np.ndarray]:
    inputs: dict[str, np.ndarray] = graphs.random_inputs(class_name, batch, sequence, **changes)
    ids = inputs["input_ids"]
    ids[ids == MASK] = 5
    if masks == "ragged":  # none, one, several; first, last, and in padding
        for row in range(batch):
            ids[row, sequence - row :] = MASK
        ids[-1, 0] = MASK
    elif masks == "all":
        ids[:] = MASK
    return inputs


@pytest.mark.parametrize(("class_name", "logits", "changes"), CASES, ids=str)
def test_masked_only(
    graphs: ModuleType, class_name: str, logits: str, changes: dict[str, Any]
) -> None:
    traced = graphs.traced(class_name, **changes)
    model = graphs.traced(class_name, **changes)
    fold_transposed_weights(model)
    assert keep_masked_rows(model, MASK) == 1
    sessions = [
        graphs.open_session(model, f"ORT_{level}") for level in ("DISABLE_ALL", "ENABLE_BASIC")
    ]
    plain = graphs.open_session(traced, "ORT_DISABLE_ALL")
    names = [value.name for value in model.graph.outputs]
    for batch, sequence in [(1, 1), (1, 7), (3, 33), (2, 40), (3, 33)]:
        for masks in ("ragged", "none", "all"):
            inputs = feeds_with_masks(graphs, class_name, batch, sequence, masks, **changes)
            expected = dict(zip(names, plain.run(names, inputs), strict=True))
            chosen = inputs["input_ids"] == MASK
            for session in sessions:
                for flag in (None, True, False, True):
                    flags = {} if flag is None else {"masked_only": np.array(flag)}
                    answer = dict(zip(names, session.run(names, inputs | flags), strict=True))
                    for name, value in expected.items():
                        rows = value[chosen][:, None] if flag and name == logits else value
                        assert answer[name].shape == rows.shape
                        np.testing.assert_allclose(answer[name], rows, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("class_name", "reader", "reads_picked_rows"),
    [
        # Nothing else reads the last layer, so most of it runs on the masks only.
        ("BertForMaskedLM", "bert.encoder.layer.1.attention.output.dense/MatMul", True),
        # The pooler reads the last layer's first token.
        ("BertForPreTraining", "bert.encoder.layer.1.attention.output.dense/MatMul", False),
        ("BertForPreTraining", "cls.predictions.transform.dense/MatMul", True),
    ],
)
def test_rows_are_dropped_as_early_as_possible(
    graphs: ModuleType, class_name: str, reader: str, reads_picked_rows: bool
) -> None:
    model = graphs.traced(class_name)
    fold_transposed_weights(model)
    assert keep_masked_rows(model, MASK) == 1
    node = next(node for node in model.graph if node.name == reader)
    picked = str(node.inputs[0].producer().name).startswith("masked_only")
    assert picked is reads_picked_rows


def test_tied_embeddings_stay_stored_once(graphs: ModuleType) -> None:
    model = graphs.traced("BertForMaskedLM")
    fold_transposed_weights(model)
    before = {value.name for value in model.graph.initializers.values() if "." in value.name}
    assert keep_masked_rows(model, MASK) == 1
    after = {value.name for value in model.graph.initializers.values() if "." in value.name}
    assert after == before


@pytest.mark.parametrize("class_name", ["BertModel", "BertForTokenClassification"])
def test_heads_without_a_vocabulary_stay(graphs: ModuleType, class_name: str) -> None:
    model = graphs.traced(class_name)
    before = graphs.operators(model)
    assert keep_masked_rows(model, MASK) == 0
    assert graphs.operators(model) == before
    assert len(model.graph.inputs) == 3
