"""Embeddings as graph outputs, against torch's pooling and normalization."""

from types import ModuleType

import numpy as np
import pytest
import torch

from bertrt.export.fusion.embedding_outputs import add_embedding_outputs
from bertrt.export.fusion.transpose_weights import fold_transposed_weights


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (1, 7), (3, 33), (2, 40)])
def test_against_torch(graphs: ModuleType, batch: int, sequence: int) -> None:
    model = graphs.traced("BertModel")
    fold_transposed_weights(model)
    assert add_embedding_outputs(model) == 3
    inputs = graphs.random_inputs("BertModel", batch, sequence)
    answer = graphs.run(model, inputs)
    hidden = torch.from_numpy(answer["last_hidden_state"])
    mask = torch.from_numpy(inputs["attention_mask"])
    expected = {
        "mean_embedding": torch.stack(
            [row[use].mean(0) for row, use in zip(hidden, mask.bool(), strict=True)]
        ),
        "cls_embedding": hidden[:, 0],
        "pooler_embedding": torch.from_numpy(answer["pooler_output"]),
    }
    assert list(answer)[2:] == list(expected)
    for name, vectors in expected.items():
        normalized = torch.nn.functional.normalize(vectors, dim=1).numpy()
        assert answer[name].shape == (batch, 32)
        np.testing.assert_allclose(answer[name], normalized, rtol=0, atol=1e-6)


def test_without_a_pooler(graphs: ModuleType) -> None:
    model = graphs.traced("BertModel", architectures=("bare",))
    assert add_embedding_outputs(model) == 2
    assert [value.name for value in model.graph.outputs] == [
        "last_hidden_state",
        "mean_embedding",
        "cls_embedding",
    ]


def test_zeros_stay_zeros(graphs: ModuleType) -> None:
    import onnx_ir as ir

    model = graphs.traced("BertModel", architectures=("bare",))
    for name in ("weight", "bias"):
        value = model.graph.initializers[f"encoder.layer.1.output.LayerNorm.{name}"]
        value.const_value = ir.tensor(np.zeros(32, np.float32), name=value.name)
    assert add_embedding_outputs(model) == 2
    answer = graphs.run(model, graphs.random_inputs("BertModel", 3, 7))
    for name in ("mean_embedding", "cls_embedding"):
        np.testing.assert_array_equal(answer[name], np.zeros((3, 32)))


def test_other_heads_stay(graphs: ModuleType) -> None:
    model = graphs.traced("BertForSequenceClassification")
    before = graphs.operators(model)
    assert add_embedding_outputs(model) == 0
    assert graphs.operators(model) == before
