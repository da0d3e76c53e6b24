"""The vector of each text as a graph output, against sentence-transformers' pooling in PyTorch."""

from types import ModuleType

import numpy as np
import onnx_ir as ir
import pytest
import torch

from bertrt.errors import ExportError
from bertrt.export.fusion.sentence_embedding import add_sentence_embedding
from bertrt.export.fusion.transpose_weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.vector_modules import Dense, Normalize, VectorModules

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SIZE = 32


def pool(hidden: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pool the states [tokens, H] of one text, by sentence-transformers' definitions."""
    count = len(hidden)
    weights = torch.arange(1, count + 1).unsqueeze(1)
    return {
        "cls": hidden[0],
        "max": hidden.amax(0),
        "mean": hidden.mean(0),
        "mean_sqrt_len_tokens": hidden.sum(0) / count**0.5,
        "weightedmean": (hidden * weights).sum(0) / weights.sum(),
        "lasttoken": hidden[-1],
    }[pooling]


def expected(answer: dict[str, np.ndarray], mask: np.ndarray, *pooling: str) -> torch.Tensor:
    hidden = torch.from_numpy(answer["last_hidden_state"])
    rows = zip(hidden, torch.from_numpy(mask).bool(), strict=True)
    return torch.stack([torch.cat([pool(row[use], one) for one in pooling]) for row, use in rows])


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (1, 7), (3, 33), (2, 40)])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("pooling", [*zip(POOLINGS, strict=True), POOLINGS, ("mean", "cls")])
def test_poolings(
    graphs: ModuleType, batch: int, sequence: int, scaled: bool, pooling: tuple[str, ...]
) -> None:
    model = graphs.traced("BertModel")
    fold_transposed_weights(model)
    steps = [Normalize()] if scaled else []
    assert add_sentence_embedding(model, VectorModules(pooling, steps, SIZE * len(pooling))) == 1
    clean(model)
    inputs = graphs.random_inputs("BertModel", batch, sequence)
    answer = graphs.run(model, inputs)
    assert list(answer) == ["last_hidden_state", "pooler_output", "sentence_embedding"]
    vectors = expected(answer, inputs["attention_mask"], *pooling)
    if scaled:
        vectors = torch.nn.functional.normalize(vectors, dim=1)
    assert answer["sentence_embedding"].shape == (batch, SIZE * len(pooling))
    # A sum of 40 states of size 3 has this rounding.
    np.testing.assert_allclose(answer["sentence_embedding"], vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "mean", "weightedmean", "lasttoken"])
def test_tokens_wherever_they_are(graphs: ModuleType, pooling: str) -> None:
    """A mask with padding on the left, and one with a hole."""
    model = graphs.traced("BertModel")
    add_sentence_embedding(model, VectorModules([pooling], [], SIZE))
    inputs = graphs.random_inputs("BertModel", 2, 9)
    inputs["attention_mask"] = np.array([[0] * 4 + [1] * 5, [1, 0, 1, 1, 1, 0, 1, 0, 0]])
    answer = graphs.run(model, inputs)
    vectors = expected(answer, inputs["attention_mask"], pooling)
    np.testing.assert_allclose(answer["sentence_embedding"], vectors, rtol=0, atol=1e-5)


def dense(size: int, out: int, activation: torch.nn.Module, *, residual: bool) -> Dense:
    torch.manual_seed(out)
    layer = Dense((size, out), activation, bias=not residual, residual=residual)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


@pytest.mark.parametrize(
    "steps",
    [
        [dense(SIZE, SIZE, torch.nn.Tanh(), residual=False), Normalize()],
        [dense(SIZE, 5, torch.nn.GELU(), residual=True), torch.nn.LayerNorm(5)],
        [Normalize(), dense(SIZE, SIZE, torch.nn.PReLU(), residual=True)],
        [torch.nn.LayerNorm(SIZE), dense(SIZE, 70, torch.nn.Softplus(), residual=False)],
    ],
)
def test_modules(graphs: ModuleType, steps: list[torch.nn.Module]) -> None:
    model = graphs.traced("BertModel", architectures=("bare",))
    vectors = VectorModules(["mean"], steps, 0)
    add_sentence_embedding(model, vectors)
    clean(model)
    inputs = graphs.random_inputs("BertModel", 3, 9)
    answer = graphs.run(model, inputs)
    pooled = expected(answer, inputs["attention_mask"], "mean")
    with torch.no_grad():
        for step in steps:
            pooled = step(pooled)
    np.testing.assert_allclose(answer["sentence_embedding"], pooled, rtol=0, atol=1e-5)


def test_zeros_stay_zeros(graphs: ModuleType) -> None:
    for pooling in POOLINGS:
        model = graphs.traced("BertModel", architectures=("bare",))
        for name in ("weight", "bias"):
            value = model.graph.initializers[f"encoder.layer.1.output.LayerNorm.{name}"]
            value.const_value = ir.tensor(np.zeros(SIZE, np.float32), name=value.name)
        add_sentence_embedding(model, graphs.vectors_of("BertModel", pooling))
        answer = graphs.run(model, graphs.random_inputs("BertModel", 3, 7))
        np.testing.assert_array_equal(answer["sentence_embedding"], np.zeros((3, SIZE)))


def test_other_heads_stay(graphs: ModuleType) -> None:
    model = graphs.traced("BertForSequenceClassification")
    before = graphs.operators(model)
    assert add_sentence_embedding(model, None) == 0
    assert graphs.operators(model) == before


def test_an_activation_that_cannot_be_traced(graphs: ModuleType) -> None:
    model = graphs.traced("BertModel")
    layer = Dense((SIZE, 3), torch.nn.RReLU(), bias=True, residual=False)
    with pytest.raises(ExportError, match="the model's Dense has RReLU, which PyTorch") as caught:
        add_sentence_embedding(model, VectorModules(["cls"], [layer], 3))
    assert "\n" not in str(caught.value)
