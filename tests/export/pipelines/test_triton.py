"""The Triton engine's graph: every head's numbers by the references, and all its operators."""

from collections import Counter
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from bertrt.errors import ExportError
from bertrt.export.heads import HEADS
from bertrt.export.pipelines.triton import fuse_to_dialect
from bertrt.kernels.ops import ACTIVATIONS, DOMAIN, OPERATORS, REFERENCES, STANDARD, VERSION

NAMES = [head.class_name for head in HEADS]
MASK = 4
Arrays = dict[str, np.ndarray]

# Of two layers, with the mask token's id known.
ENCODER = {"Pack": 1, "EmbedLayerNorm": 1, "PackedAttention": 2}
FIRST = {**ENCODER, "AddLayerNorm": 4, "Linear": 10, "FirstRows": 1, "SelectRows": 2}
COUNTS = {
    "BertModel": {
        **ENCODER,
        "AddLayerNorm": 4,
        "Linear": 9,
        "FirstRows": 2,
        "PickedOffsets": 1,
        "SelectRows": 3,
        "Unpack": 1,
        "MeanRows": 1,
        "UnitRows": 3,
    },
    "BertForPreTraining": {
        **ENCODER,
        "AddLayerNorm": 5,
        "Linear": 12,
        "FirstRows": 1,
        "MaskedRows": 1,
        "SelectRows": 2,
        "Unpack": 1,
    },
    "BertLMHeadModel": {**ENCODER, "AddLayerNorm": 5, "Linear": 10, "Unpack": 1},
    "BertForMaskedLM": {
        **ENCODER,
        "AddLayerNorm": 5,
        "Linear": 10,
        "MaskedRows": 1,
        "SelectRows": 2,
        "Unpack": 1,
    },
    "BertForNextSentencePrediction": FIRST,
    "BertForSequenceClassification": FIRST,
    "BertForMultipleChoice": {**FIRST, "Regroup": 1},
    "BertForTokenClassification": {**ENCODER, "AddLayerNorm": 4, "Linear": 9, "Unpack": 1},
    "BertForQuestionAnswering": {
        **ENCODER,
        "AddLayerNorm": 4,
        "Linear": 9,
        "Unpack": 1,
        "Split": 1,
        "Squeeze": 2,
    },
}
FLAGS = {
    "BertModel": ["first_token_only"],
    "BertForPreTraining": ["masked_only"],
    "BertForMaskedLM": ["masked_only"],
}


@pytest.fixture(scope="module")
def fused(graphs: ModuleType) -> Callable[..., ir.Model]:
    """A factory: a head's graph in the dialect, from the traced one."""

    def make(class_name: str, *, mask_id: int | None = MASK, **changes: Any) -> ir.Model:
        model = graphs.traced(class_name, cached=False, **changes)
        config = graphs.model_of(class_name, **changes).config
        fuse_to_dialect(model, config, graphs.head_of(class_name), mask_id=mask_id)
        return model

    return make


@pytest.fixture(scope="module")
def same_numbers(graphs: ModuleType, fused: Callable[..., ir.Model]) -> Callable[..., None]:
    """A check: the dialect's graph gives the traced one's numbers for every token that counts."""

    def check(class_name: str, shapes: list[tuple[int, int]], **changes: Any) -> None:
        traced = graphs.traced(class_name, cached=False, **changes)
        model = fused(class_name, **changes)
        for batch, sequence in shapes:
            feeds = graphs.feeds_of(class_name, batch, sequence, cached=False, **changes)
            compare(class_name, feeds, run(model, feeds), graphs.run(traced, feeds))

    return check


def run(model: ir.Model, feeds: Arrays) -> Arrays:
    evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=REFERENCES)
    return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def compare(class_name: str, feeds: Arrays, answer: Arrays, expected: Arrays) -> None:
    """Where a token counts the numbers are the same, and where none does they are zeros."""
    mask = feeds["attention_mask"] != 0
    for name, value in expected.items():
        assert answer[name].shape == value.shape
        assert answer[name].dtype == np.float32
        by_token = class_name != "BertForMultipleChoice" and value.shape[:2] == mask.shape
        if by_token and not name.startswith(("pooler", "seq_")):
            assert not answer[name][~mask].any()
            np.testing.assert_allclose(answer[name][mask], value[mask], rtol=0, atol=1e-5)
        else:
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", NAMES)
def test_same_numbers_as_the_traced_graph(
    same_numbers: Callable[..., None], class_name: str
) -> None:
    # 2 is also the number of labels, and so of a shape that could be mistaken for a batch.
    same_numbers(class_name, [(1, 1), (1, 7), (3, 33), (5, 3), (2, 40)])


@pytest.mark.parametrize("class_name", NAMES)
def test_operators(graphs: ModuleType, class_name: str) -> None:
    model = graphs.traced(class_name, cached=False)
    config, head = graphs.model_of(class_name).config, graphs.head_of(class_name)
    counts = fuse_to_dialect(model, config, head, mask_id=MASK)
    assert counts == COUNTS[class_name] == Counter(node.op_type for node in model.graph)
    assert model.opset_imports[DOMAIN] == VERSION
    assert [value.name for value in model.graph.inputs[3:]] == FLAGS.get(class_name, [])
    outputs = [value.name for value in model.graph.outputs]
    assert outputs[: len(head.outputs)] == list(head.outputs)
    onnx.checker.check_model(ir.to_proto(model))
    assert len({node.name for node in model.graph}) == len(list(model.graph))


@pytest.mark.parametrize("class_name", NAMES)
def test_every_node_is_as_the_dialect_defines_it(
    fused: Callable[..., ir.Model], class_name: str
) -> None:
    places = []
    for node in fused(class_name).graph:
        if node.domain == "":
            places.append(STANDARD[node.op_type])
            continue
        operator = OPERATORS[node.op_type]
        places.append(operator.place)
        assert node.domain == DOMAIN
        assert len(node.outputs) == len(operator.outputs)
        given = dict(zip(operator.inputs, node.inputs, strict=False))
        left_out = {name for name in operator.inputs if given.get(name) is None}
        assert left_out <= operator.optional
        assert set(node.attributes) <= set(operator.attributes)
        needed = {name for name, default in operator.attributes.items() if default is None}
        assert needed <= set(node.attributes)
        if node.op_type == "Linear":
            assert node.attributes.get_string("activation") in ACTIVATIONS
    assert places  # and each is in one of the three zones, or one of the lookups above failed


@pytest.mark.parametrize("class_name", NAMES)
def test_what_padding_holds_changes_nothing(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    model = fused(class_name)
    feeds = graphs.feeds_of(class_name, 4, 11, cached=False)
    padding = feeds["attention_mask"] == 0
    others = {name: feeds[name].copy() for name in feeds}
    others["input_ids"][padding] = MASK
    others["token_type_ids"][padding] = 1 - others["token_type_ids"][padding]
    flags = FLAGS.get(class_name, [])
    for flag in (False, True):
        extra = dict.fromkeys(flags, np.array(flag))
        one, other = run(model, feeds | extra), run(model, others | extra)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("class_name", NAMES)
def test_padding_alone_changes_nothing(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    """A row's answer is the same alone and in a batch that is wider."""
    model = fused(class_name)
    feeds = graphs.feeds_of(class_name, 3, 9, cached=False)
    lengths = feeds["attention_mask"].reshape(3, -1, 9).sum(axis=-1)[:, 0]
    together = run(model, feeds)
    for row, length in enumerate(lengths):
        alone = run(
            model, {name: array[row : row + 1, ..., :length] for name, array in feeds.items()}
        )
        for name, value in alone.items():
            whole = together[name][row : row + 1]
            if whole.shape != value.shape:
                whole = whole[:, :length]
            np.testing.assert_allclose(value, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", ["BertForTokenClassification", "BertLMHeadModel"])
def test_a_mask_with_holes(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    feeds = graphs.feeds_of(class_name, 2, 13, cached=False)
    feeds["attention_mask"][:, [3, 4, 8]] = 0
    expected = graphs.run(graphs.traced(class_name, cached=False), feeds)
    compare(class_name, feeds, run(fused(class_name), feeds), expected)


@pytest.mark.parametrize("class_name", NAMES)
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_without_a_token_does_no_harm(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str, row: int
) -> None:
    """The runtime refuses one; buffers for more rows than there are have them."""
    model = fused(class_name)
    feeds = graphs.feeds_of(class_name, 3, 6, cached=False)
    whole = run(model, feeds)
    feeds["attention_mask"][row] = 0
    answer = run(model, feeds)
    others = [one for one in range(3) if one != row]
    for name, value in answer.items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value[others], whole[name][others], rtol=0, atol=1e-5)


def test_first_token_only(graphs: ModuleType, fused: Callable[..., ir.Model]) -> None:
    model = fused("BertModel")
    feeds = graphs.feeds_of("BertModel", 4, 13)
    every = run(model, feeds)
    first = run(model, feeds | {"first_token_only": np.array(True)})
    hidden = every["last_hidden_state"]
    np.testing.assert_allclose(first["last_hidden_state"], hidden[:, :1], rtol=0, atol=1e-5)
    for name in ("pooler_output", "cls_embedding", "pooler_embedding"):
        np.testing.assert_allclose(first[name], every[name], rtol=0, atol=1e-5)

    # The vectors are those of numpy on the model's own outputs.
    lengths = feeds["attention_mask"].sum(axis=1)
    mean = np.stack(
        [row[:length].mean(axis=0) for row, length in zip(hidden, lengths, strict=True)]
    )
    for name, vector in (
        ("mean_embedding", mean),
        ("cls_embedding", hidden[:, 0]),
        ("pooler_embedding", every["pooler_output"]),
    ):
        unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
        np.testing.assert_allclose(every[name], unit, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", ["BertForMaskedLM", "BertForPreTraining"])
@pytest.mark.parametrize("masks", [[], [(0, 2)], [(0, 1), (0, 5), (2, 3)]])
def test_masked_only(
    graphs: ModuleType,
    fused: Callable[..., ir.Model],
    class_name: str,
    masks: list[tuple[int, int]],
) -> None:
    model = fused(class_name)
    feeds = graphs.feeds_of(class_name, 3, 9)
    feeds["input_ids"][feeds["input_ids"] == MASK] = 7
    for place in masks:
        feeds["input_ids"][place] = MASK
    every = run(model, feeds)
    only = run(model, feeds | {"masked_only": np.array(True)})
    for name, value in every.items():
        wanted = value
        if name in ("logits", "prediction_logits"):
            wanted = value[feeds["input_ids"] == MASK][:, None]
        assert only[name].shape == wanted.shape
        np.testing.assert_allclose(only[name], wanted, rtol=0, atol=1e-5)


VARIANTS = [
    ("BertModel", {"num_attention_heads": 1, "type_vocab_size": 1, "architectures": ("bare",)}),
    (
        "BertForMaskedLM",
        {"tie_word_embeddings": False, "layer_norm_eps": 1e-3, "num_attention_heads": 8},
    ),
    (
        "BertForTokenClassification",
        {"num_labels": 11, "hidden_act": "silu", "num_hidden_layers": 1},
    ),
    ("BertForPreTraining", {"hidden_act": "gelu_new", "num_hidden_layers": 1}),
    ("BertLMHeadModel", {"is_decoder": False}),
]


@pytest.mark.parametrize(("class_name", "changes"), VARIANTS, ids=str)
def test_other_configs(
    same_numbers: Callable[..., None], class_name: str, changes: dict[str, Any]
) -> None:
    same_numbers(class_name, [(3, 33), (1, 1)], **changes)


def test_an_activation_without_a_kernel(graphs: ModuleType) -> None:
    changes = {"hidden_act": "quick_gelu", "num_hidden_layers": 1}
    model = graphs.traced("BertForTokenClassification", **changes)
    config = graphs.model_of("BertForTokenClassification", **changes).config
    with pytest.raises(ExportError, match=r"hidden_act is 'quick_gelu', .* --engine ort"):
        fuse_to_dialect(model, config, graphs.head_of("BertForTokenClassification"))


def test_tied_embeddings_are_stored_once(
    graphs: ModuleType, fused: Callable[..., ir.Model]
) -> None:
    model = fused("BertForMaskedLM")
    config = graphs.model_of("BertForMaskedLM").config
    sizes = [value.const_value.size for value in model.graph.initializers.values()]
    assert sizes.count(config.vocab_size * config.hidden_size) == 1
    readers = model.graph.initializers["bert.embeddings.word_embeddings.weight"].consumers()
    assert sorted(node.op_type for node in readers) == ["EmbedLayerNorm", "Linear"]
    decoder = next(node for node in readers if node.op_type == "Linear")
    assert decoder.attributes.get_int("transposed") == 1


def test_causal_attention_is_a_decoders_only(fused: Callable[..., ir.Model]) -> None:
    for changes, causal in (({}, 1), ({"is_decoder": False}, 0)):
        model = fused("BertLMHeadModel", **changes)
        nodes = [node for node in model.graph if node.op_type == "PackedAttention"]
        assert [node.attributes.get_int("causal") for node in nodes] == [causal] * 2


def test_without_a_mask_token(fused: Callable[..., ir.Model]) -> None:
    for class_name in ("BertForMaskedLM", "BertForPreTraining"):
        model = fused(class_name, mask_id=None)
        assert len(model.graph.inputs) == 3
        assert "MaskedRows" not in {node.op_type for node in model.graph}


def test_another_number_of_layers_is_an_error(graphs: ModuleType) -> None:
    fields = vars(graphs.model_of("BertForMaskedLM").config)
    config = SimpleNamespace(**{**fields, "num_hidden_layers": 3})
    with pytest.raises(ExportError, match=r"triton graph of BertForMaskedLM has .* calls for"):
        fuse_to_dialect(graphs.traced("BertForMaskedLM"), config, graphs.head_of("BertForMaskedLM"))


def _other_scale(model: ir.Model) -> None:
    _node(model, "Attention").attributes["scale"] = ir.AttrFloat32("scale", 1.0)


def _soft_cap(model: ir.Model) -> None:
    _node(model, "Attention").attributes["softcap"] = ir.AttrFloat32("softcap", 50.0)


def _no_mask(model: ir.Model) -> None:
    _node(model, "Attention").replace_input_with(3, None)


def _other_mask(model: ir.Model) -> None:
    """All true: attention that looks at padding."""
    mask = _node(model, "Attention").inputs[3]
    twice = ir.node("Or", [mask, mask], name="Or")
    model.graph.insert_before(_node(model, "Attention"), twice)
    _node(model, "Attention").replace_input_with(3, twice.outputs[0])


def _positions_from_one(model: ir.Model) -> None:
    node = _node(model, "Range")
    one = node.inputs[2]
    node.replace_input_with(0, one)


def _a_sum_more(model: ir.Model) -> None:
    """What a fusion does not know stays, and no kernel could run it."""
    node = [one for one in model.graph if one.op_type == "LayerNormalization"][-1]
    value = node.outputs[0]
    extra = ir.node("Abs", [value], name="Abs")
    extra.outputs[0].shape, extra.outputs[0].type = value.shape, value.type
    model.graph.insert_after(node, extra)
    for user, index in list(value.uses()):
        if user is not extra:
            user.replace_input_with(index, extra.outputs[0])


def _node(model: ir.Model, operator: str) -> ir.Node:
    return next(node for node in model.graph if node.op_type == operator)


@pytest.mark.parametrize(
    "change", [_other_scale, _soft_cap, _no_mask, _other_mask, _positions_from_one, _a_sum_more]
)
def test_a_graph_that_is_half_known_is_refused(
    graphs: ModuleType, change: Callable[[ir.Model], None]
) -> None:
    model = graphs.traced("BertForTokenClassification")
    change(model)
    config = graphs.model_of("BertForTokenClassification").config
    with pytest.raises(ExportError, match="traces in a form that bertrt does not know"):
        fuse_to_dialect(model, config, graphs.head_of("BertForTokenClassification"))
