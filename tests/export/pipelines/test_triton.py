"""The pipeline for the Triton engine: its operators, and its answers by their references."""

import functools
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
from bertrt.export.pipelines.triton import fuse_for_triton
from bertrt.kernels.ops.activations import ACTIVATIONS
from bertrt.kernels.ops.operator import DOMAIN, VERSION
from bertrt.kernels.ops.registry import OPERATORS, REFERENCES, STANDARD_OPERATORS

NAMES = [head.class_name for head in HEADS]
MASK = 4
Arrays = dict[str, np.ndarray]

# For two layers, with a mask token.
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
        "PoolRows": 1,
        "UnitRows": 1,
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
    """A factory of a head's graph for the Triton engine, which a test must not change."""

    @functools.cache
    def make(
        class_name: str,
        *,
        mask_id: int | None = MASK,
        pooling: tuple[str, ...] = (),
        **changes: Any,
    ) -> ir.Model:
        model = graphs.traced(class_name, cached=False, **changes)
        config = graphs.model_of(class_name, **changes).config
        vectors = graphs.vectors_of(class_name, *pooling)
        fuse_for_triton(model, config, graphs.head_of(class_name), mask_id=mask_id, vectors=vectors)
        return model

    return make


@pytest.fixture(scope="module")
def same_answers(graphs: ModuleType, fused: Callable[..., ir.Model]) -> Callable[..., None]:
    """A check that the graph gives the traced graph's answers for every token but padding."""

    def check(class_name: str, shapes: list[tuple[int, int]], **changes: Any) -> None:
        traced = graphs.traced(class_name, cached=False, **changes)
        model = fused(class_name, **changes)
        for batch, sequence in shapes:
            arrays = graphs.random_inputs(class_name, batch, sequence, cached=False, **changes)
            compare(class_name, arrays, run(model, arrays), graphs.run(traced, arrays))

    return check


def run(model: ir.Model, arrays: Arrays) -> Arrays:
    evaluator = ReferenceEvaluator(ir.to_proto(model), new_ops=REFERENCES)
    return dict(zip(evaluator.output_names, evaluator.run(None, arrays), strict=True))


def compare(class_name: str, arrays: Arrays, answer: Arrays, expected: Arrays) -> None:
    """Check that answers are equal for tokens, and zero for padding."""
    mask = arrays["attention_mask"] != 0
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
def test_same_answers_as_the_traced_graph(
    same_answers: Callable[..., None], class_name: str
) -> None:
    # A batch of 2 is also the number of labels, which must not be mistaken for it.
    same_answers(class_name, [(1, 1), (1, 7), (3, 33), (5, 3), (2, 40)])


@pytest.mark.parametrize("class_name", NAMES)
def test_operators(graphs: ModuleType, class_name: str) -> None:
    model = graphs.traced(class_name, cached=False)
    config, head = graphs.model_of(class_name).config, graphs.head_of(class_name)
    counts = fuse_for_triton(
        model, config, head, mask_id=MASK, vectors=graphs.vectors_of(class_name)
    )
    assert counts == COUNTS[class_name] == Counter(node.op_type for node in model.graph)
    assert model.opset_imports[DOMAIN] == VERSION
    assert [value.name for value in model.graph.inputs[3:]] == FLAGS.get(class_name, [])
    outputs = [value.name for value in model.graph.outputs]
    assert outputs[: len(head.outputs)] == list(head.outputs)
    onnx.checker.check_model(ir.to_proto(model))
    assert len({node.name for node in model.graph}) == len(list(model.graph))


@pytest.mark.parametrize("class_name", NAMES)
def test_every_node_fits_its_operators_definition(
    fused: Callable[..., ir.Model], class_name: str
) -> None:
    stages = []
    for node in fused(class_name).graph:
        if node.domain == "":
            stages.append(STANDARD_OPERATORS[node.op_type].stage)
            continue
        operator = OPERATORS[node.op_type]
        stages.append(operator.stage)
        assert node.domain == DOMAIN
        assert len(node.outputs) == len(operator.outputs)
        inputs = dict(zip(operator.inputs, node.inputs, strict=False))
        omitted = {name for name in operator.inputs if inputs.get(name) is None}
        assert omitted <= operator.optional
        assert set(node.attributes) <= set(operator.attributes)
        required = {name for name, default in operator.attributes.items() if default is None}
        assert required <= set(node.attributes)
        if node.op_type == "Linear":
            assert node.attributes.get_string("activation") in ACTIVATIONS
    assert stages  # the lookups above check that each node has a stage


@pytest.mark.parametrize("class_name", NAMES)
def test_padding_tokens_have_no_influence(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    model = fused(class_name)
    arrays = graphs.random_inputs(class_name, 4, 11, cached=False)
    padding = arrays["attention_mask"] == 0
    others = {name: arrays[name].copy() for name in arrays}
    others["input_ids"][padding] = MASK
    others["token_type_ids"][padding] = 1 - others["token_type_ids"][padding]
    flags = FLAGS.get(class_name, [])
    for flag in (False, True):
        extra = dict.fromkeys(flags, np.array(flag))
        answer, changed = run(model, arrays | extra), run(model, others | extra)
        for name in answer:
            np.testing.assert_array_equal(answer[name], changed[name])


@pytest.mark.parametrize("class_name", NAMES)
def test_a_row_has_the_same_answer_alone_and_in_a_wider_batch(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str
) -> None:
    model = fused(class_name)
    arrays = graphs.random_inputs(class_name, 3, 9, cached=False)
    lengths = arrays["attention_mask"].reshape(3, -1, 9).sum(axis=-1)[:, 0]
    together = run(model, arrays)
    for row, length in enumerate(lengths):
        alone = run(
            model, {name: array[row : row + 1, ..., :length] for name, array in arrays.items()}
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
    arrays = graphs.random_inputs(class_name, 2, 13, cached=False)
    arrays["attention_mask"][:, [3, 4, 8]] = 0
    expected = graphs.run(graphs.traced(class_name, cached=False), arrays)
    compare(class_name, arrays, run(fused(class_name), arrays), expected)


@pytest.mark.parametrize("class_name", NAMES)
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_without_tokens_does_not_change_others(
    graphs: ModuleType, fused: Callable[..., ir.Model], class_name: str, row: int
) -> None:
    """The runtime refuses such rows, but buffers for more rows than needed have them."""
    model = fused(class_name)
    arrays = graphs.random_inputs(class_name, 3, 6, cached=False)
    whole = run(model, arrays)
    arrays["attention_mask"][row] = 0
    answer = run(model, arrays)
    others = [index for index in range(3) if index != row]
    for name, value in answer.items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value[others], whole[name][others], rtol=0, atol=1e-5)


def test_first_token_only(graphs: ModuleType, fused: Callable[..., ir.Model]) -> None:
    model = fused("BertModel", pooling=("cls",))
    arrays = graphs.random_inputs("BertModel", 4, 13)
    every = run(model, arrays)
    first = run(model, arrays | {"first_token_only": np.array(True)})
    hidden = every["last_hidden_state"]
    np.testing.assert_allclose(first["last_hidden_state"], hidden[:, :1], rtol=0, atol=1e-5)
    for name in ("pooler_output", "sentence_embedding"):
        np.testing.assert_allclose(first[name], every[name], rtol=0, atol=1e-5)


def test_vectors_of_every_pooling(graphs: ModuleType, fused: Callable[..., ir.Model]) -> None:
    arrays = graphs.random_inputs("BertModel", 4, 13)
    poolings = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    for pooling in [*zip(poolings), poolings]:
        answer = run(fused("BertModel", pooling=pooling), arrays)
        vectors = graphs.vectors_of("BertModel", *pooling)
        lengths = arrays["attention_mask"].sum(axis=1)
        expected = vectors.vectors(answer["last_hidden_state"], lengths)
        np.testing.assert_allclose(answer["sentence_embedding"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("class_name", ["BertForMaskedLM", "BertForPreTraining"])
@pytest.mark.parametrize("masks", [[], [(0, 2)], [(0, 1), (0, 5), (2, 3)]])
def test_masked_only(
    graphs: ModuleType,
    fused: Callable[..., ir.Model],
    class_name: str,
    masks: list[tuple[int, int]],
) -> None:
    model = fused(class_name)
    arrays = graphs.random_inputs(class_name, 3, 9)
    arrays["input_ids"][arrays["input_ids"] == MASK] = 7
    for position in masks:
        arrays["input_ids"][position] = MASK
    every = run(model, arrays)
    only = run(model, arrays | {"masked_only": np.array(True)})
    for name, value in every.items():
        expected = value
        if name in ("logits", "prediction_logits"):
            expected = value[arrays["input_ids"] == MASK][:, None]
        assert only[name].shape == expected.shape
        np.testing.assert_allclose(only[name], expected, rtol=0, atol=1e-5)


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
    same_answers: Callable[..., None], class_name: str, changes: dict[str, Any]
) -> None:
    same_answers(class_name, [(3, 33), (1, 1)], **changes)


def test_an_activation_without_a_kernel(graphs: ModuleType) -> None:
    changes = {"hidden_act": "quick_gelu", "num_hidden_layers": 1}
    model = graphs.traced("BertForTokenClassification", **changes)
    config = graphs.model_of("BertForTokenClassification", **changes).config
    with pytest.raises(ExportError, match=r"after .*intermediate.dense is one .* --engine ort"):
        fuse_for_triton(model, config, graphs.head_of("BertForTokenClassification"))


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
    with pytest.raises(ExportError, match=r"triton graph for fill-mask has .* requires"):
        fuse_for_triton(graphs.traced("BertForMaskedLM"), config, graphs.head_of("BertForMaskedLM"))


def _other_scale(model: ir.Model) -> None:
    _node(model, "Attention").attributes["scale"] = ir.AttrFloat32("scale", 1.0)


def _soft_cap(model: ir.Model) -> None:
    _node(model, "Attention").attributes["softcap"] = ir.AttrFloat32("softcap", 50.0)


def _no_mask(model: ir.Model) -> None:
    _node(model, "Attention").replace_input_with(3, None)


def _other_mask(model: ir.Model) -> None:
    """The same mask in an unknown form."""
    mask = _node(model, "Attention").inputs[3]
    twice = ir.node("Or", [mask, mask], name="Or")
    model.graph.insert_before(_node(model, "Attention"), twice)
    _node(model, "Attention").replace_input_with(3, twice.outputs[0])


def _positions_from_one(model: ir.Model) -> None:
    node = _node(model, "Range")
    node.replace_input_with(0, node.inputs[2])


def _an_unknown_node(model: ir.Model) -> None:
    """No fusion matches the node, and no kernel can run it."""
    node = [node for node in model.graph if node.op_type == "LayerNormalization"][-1]
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
    "change",
    [_other_scale, _soft_cap, _no_mask, _other_mask, _positions_from_one, _an_unknown_node],
)
def test_an_unknown_graph_is_refused(
    graphs: ModuleType, change: Callable[[ir.Model], None]
) -> None:
    model = graphs.traced("BertForTokenClassification")
    change(model)
    config = graphs.model_of("BertForTokenClassification").config
    with pytest.raises(ExportError, match="traces a graph that bertrt does not know"):
        fuse_for_triton(model, config, graphs.head_of("BertForTokenClassification"))
