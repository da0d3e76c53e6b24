"""The layers' second form for one short text: the same numbers, and taken when it should be."""

from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bertrt.export.fusion import short_texts
from bertrt.export.fusion.pipeline import fuse
from bertrt.export.fusion.short_texts import short_lengths
from bertrt.export.heads import HEADS
from bertrt.export.internals import internals
from bertrt.export.trace import trace

SHORT, SHORTER = 24, 5
SHAPES = [(1, SHORT), (1, SHORTER), (1, 1), (1, SHORT + 1), (1, 40), (3, SHORT)]


@pytest.fixture
def two_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have models of any size take the second form, for two lengths."""
    monkeypatch.setattr(short_texts, "short_lengths", lambda hidden, weights: [SHORTER, SHORT])


def branches(model: ir.Model) -> tuple[list[str], list[str]]:
    """The operators of the two forms."""
    (choice,) = [node for node in model.graph if node.name == "layers/If"]
    short, long = (choice.attributes[f"{key}_branch"].as_graph() for key in ("then", "else"))
    return [node.op_type for node in short], [node.op_type for node in long]


def fused(graphs: ModuleType, class_name: str, **changes: Any) -> tuple[ir.Model, dict[str, int]]:
    model = graphs.traced(class_name, **changes)
    config = graphs.model_of(class_name, **changes).config
    return model, fuse(model, config, graphs.head_of(class_name), "cpu", mask_id=3)


@pytest.mark.usefixtures("two_lengths")
@pytest.mark.parametrize("class_name", [head.class_name for head in HEADS])
def test_same_numbers(graphs: ModuleType, class_name: str) -> None:
    model, counts = fused(graphs, class_name)
    for batch, sequence in SHAPES:
        feeds = graphs.feeds_of(class_name, batch, sequence)
        if batch == 1:
            if class_name == "BertForMultipleChoice":
                feeds = {name: feed[:, :1] for name, feed in feeds.items()}
            feeds["attention_mask"][..., -2:] = sequence < 3  # padding, where there is no other
        expected = graphs.run(graphs.traced(class_name), feeds)
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC"):
            answer = graphs.run(model, feeds, level)
            for name, value in expected.items():
                np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)
    # Two layers of six products; of the last, only some may be of all tokens.
    products = {"first": 8, "masks": 9, "all": 12}
    of = {"BertForMaskedLM": "masks", "BertForSequenceClassification": "first"}
    of |= dict.fromkeys(("BertForNextSentencePrediction", "BertForMultipleChoice"), "first")
    assert counts["ShortText"] == products[of.get(class_name, "all")]


@pytest.mark.usefixtures("two_lengths")
@pytest.mark.parametrize(
    "activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "mish"]
)
def test_activations_are_computed_with_tokens_in_columns(
    graphs: ModuleType, activation: str
) -> None:
    model, _ = fused(graphs, "BertModel", hidden_act=activation)
    short, long = branches(model)
    # Query, key, value, attention output and the feed-forward's end; not its beginning.
    assert short.count("Transpose") - long.count("Transpose") == 2 * 5
    feeds = graphs.feeds_of("BertModel", 1, SHORT)
    expected = graphs.run(graphs.traced("BertModel", hidden_act=activation), feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(graphs.run(model, feeds)[name], value, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("two_lengths")
@pytest.mark.parametrize(("batch", "sequence"), SHAPES)
def test_only_one_short_text_takes_it(graphs: ModuleType, batch: int, sequence: int) -> None:
    model, _ = fused(graphs, "BertModel")
    feeds = graphs.feeds_of("BertModel", batch, sequence)
    before = graphs.run(model, feeds)["last_hidden_state"]
    columns = [v for v in model.graph.initializers.values() if str(v.name).endswith(".column")]
    assert len(columns) == 2
    for value in columns:  # which the second form alone reads
        value.const_value = ir.tensor(value.const_value.numpy() + np.float32(1), name=value.name)
    after = graphs.run(model, feeds)["last_hidden_state"]
    assert np.array_equal(before, after) == ((batch, sequence) not in SHAPES[:2])


@pytest.mark.usefixtures("two_lengths")
def test_weights_are_stored_once_as_pytorch_has_them(graphs: ModuleType) -> None:
    model, _ = fused(graphs, "BertModel")
    state = graphs.model_of("BertModel").state_dict()
    matrices = [
        value
        for value in model.graph.initializers.values()
        if "encoder.layer." in str(value.name) and value.const_value.numpy().ndim == 2
    ]
    weights = [value for value in matrices if not str(value.name).endswith(".column")]
    assert len(weights) == 12
    for value in weights:
        np.testing.assert_array_equal(value.const_value.numpy(), state[value.name].numpy())
    assert all(not graph.initializers for graph in model.graph.subgraphs())


@pytest.mark.usefixtures("two_lengths")
@pytest.mark.parametrize("attentions", [False, True])
def test_what_is_inside_may_be_an_output(graphs: ModuleType, attentions: bool) -> None:
    head = graphs.head_of("BertForTokenClassification")
    module = graphs.model_of(head.class_name)
    shown = internals(module.config, head, hidden_states=True, attentions=attentions)
    model, plain = trace(module, head, shown), trace(module, head, shown)
    assert fuse(model, module.config, head, "cpu", internals=shown)["ShortText"] == 12
    for batch, sequence in SHAPES:
        feeds = graphs.feeds_of(head.class_name, batch, sequence)
        expected, answer = graphs.run(plain, feeds), graphs.run(model, feeds)
        assert list(answer) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("two_lengths")
def test_what_is_quantized_has_no_second_form(graphs: ModuleType) -> None:
    model = graphs.traced("BertModel")
    config, head = graphs.model_of("BertModel").config, graphs.head_of("BertModel")
    assert "ShortText" not in fuse(model, config, head, "cpu", to_quantize=True)


def test_small_models_are_left_alone(graphs: ModuleType) -> None:
    model, counts = fused(graphs, "BertModel")
    assert "ShortText" not in counts
    assert "FusedMatMul" not in {node.op_type for node in model.graph.all_nodes()}


@pytest.mark.parametrize(
    ("hidden", "taken", "not_taken"),
    [
        (1024, (8, 17, 64, 112, 128), (7, 49, 129)),
        (768, (8, 12, 16, 17, 32, 38, 48, 64, 96, 128), (1, 7, 33, 36, 49, 66, 84, 100, 122, 144)),
        (384, (8, 16, 24, 32, 48, 64), (7, 17, 33, 80, 96, 128)),
        (64, (), (8, 16)),
    ],
)
def test_lengths(hidden: int, taken: tuple[int, ...], not_taken: tuple[int, ...]) -> None:
    lengths = set(short_lengths(hidden, weights=200_000_000))
    assert lengths.issuperset(taken)
    assert lengths.isdisjoint(not_taken)


def test_weights_that_a_cache_may_hold_are_read_as_before() -> None:
    assert short_lengths(768, weights=63_000_000) == []
