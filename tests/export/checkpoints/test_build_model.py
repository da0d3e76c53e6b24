"""Models from checkpoints: the weights that transformers would load, and no random ones."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertrt.errors import ExportError
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import Checkpoint, open_checkpoint
from bertrt.export.checkpoints.config_check import check_config
from bertrt.export.heads import HEADS, HeadSpec

BY_CLASS = {head.class_name: head for head in HEADS}
Make = Callable[..., Path]


def head(class_name: str) -> HeadSpec:
    return BY_CLASS[class_name]


def outputs(model: Any) -> dict[str, torch.Tensor]:
    """Return a model's answers to a ragged batch, [3, 11] or [1, 3, 11] for multiple choice."""
    ids = torch.randint(5, 100, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    types = (torch.arange(11) > 5).long().expand(3, 11)
    if type(model).__name__ == "BertForMultipleChoice":
        ids, mask, types = ids[None], mask[None], types[None]
    with torch.no_grad():
        answer = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    return {name: value for name, value in answer.items() if isinstance(value, torch.Tensor)}


def same_answers(model: Any, reference: Any) -> None:
    ours, theirs = outputs(model), outputs(reference)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


def reference(folder: Path, class_name: str, **options: Any) -> Any:
    return (
        getattr(transformers, class_name)
        .from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **options)
        .eval()
    )


def edited(checkpoint: Checkpoint, *, drop: str = "", add: Any = None, **config: Any) -> Checkpoint:
    """Return the checkpoint without weights that start with `drop`, with `add` and other config."""
    kept = {k: v for k, v in checkpoint.weights.items() if not (drop and k.startswith(drop))}
    return replace(
        checkpoint, weights={**kept, **(add or {})}, config={**checkpoint.config, **config}
    )


@pytest.mark.parametrize("class_name", list(BY_CLASS))
def test_every_head_equals_transformers(make_checkpoint: Make, class_name: str) -> None:
    folder = make_checkpoint(class_name)
    model: Any = build_model(head(class_name), open_checkpoint(str(folder)))
    theirs = reference(folder, class_name)
    assert type(model) is type(theirs)
    state, expected = model.state_dict(), theirs.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
    for (name, ours), (_, buffer) in zip(
        model.named_buffers(), theirs.named_buffers(), strict=True
    ):
        assert torch.equal(ours, buffer), name
    same_answers(model, theirs)
    assert not model.training
    assert model.dtype == torch.float32
    assert model.config._attn_implementation == "eager"
    assert model.config.architectures == [class_name]


def test_labels_and_problem_type_are_kept(make_checkpoint: Make) -> None:
    folder = make_checkpoint(
        "BertForSequenceClassification",
        id2label={0: "bad", 1: "good", 2: "so-so", 3: "none"},
        label2id={"bad": 0, "good": 1, "so-so": 2, "none": 3},
        problem_type="multi_label_classification",
        num_labels=4,
    )
    checkpoint = open_checkpoint(str(folder))
    with_options = edited(
        checkpoint,
        return_dict=False,
        output_hidden_states=True,
        chunk_size_feed_forward=3,
        torch_dtype="float16",
        auto_map={"AutoModel": "code.Model"},
    )
    model: Any = build_model(head("BertForSequenceClassification"), with_options)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "bad", 1: "good", 2: "so-so", 3: "none"}
    assert model.config.num_labels == 4
    assert outputs(model).keys() == {"logits"}
    assert model.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(make_checkpoint: Make, dtype: torch.dtype) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForMaskedLM")))
    stored = {name: tensor.to(dtype) for name, tensor in checkpoint.weights.items()}
    model = build_model(head("BertForMaskedLM"), replace(checkpoint, weights=stored))
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, stored[name].float())


def test_base_weights_in_a_head_and_a_heads_in_a_base(make_checkpoint: Make) -> None:
    base = open_checkpoint(str(make_checkpoint("BertModel")))
    assert not any(name.startswith("bert.") for name in base.weights)
    classifier = {"classifier.weight": torch.ones(2, 32), "classifier.bias": torch.zeros(2)}
    model: Any = build_model(head("BertForSequenceClassification"), edited(base, add=classifier))
    same_answers(model.bert, reference(base.folder, "BertModel"))

    pretraining = open_checkpoint(str(make_checkpoint("BertForPreTraining")))
    for class_name in ("BertModel", "BertForMaskedLM", "BertForNextSentencePrediction"):
        same_answers(
            build_model(head(class_name), pretraining), reference(pretraining.folder, class_name)
        )


def test_a_name_with_and_without_prefix_is_refused(make_checkpoint: Make) -> None:
    base = open_checkpoint(str(make_checkpoint("BertModel")))
    with pytest.raises(ExportError, match=r"twice, with 'bert\.' and without"):
        build_model(
            head("BertModel"), edited(base, add={"bert.pooler.dense.bias": torch.zeros(32)})
        )


def test_a_bert_without_a_pooler(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForMaskedLM")))
    model: Any = build_model(head("BertModel"), checkpoint)
    assert model.pooler is None
    same_answers(model, reference(checkpoint.folder, "BertModel", add_pooling_layer=False))
    half = {"bert.pooler.dense.weight": torch.zeros(32, 32)}
    with pytest.raises(ExportError, match=r"lacks 1 weights of BertModel \(bert.pooler.dense.bias"):
        build_model(head("BertModel"), edited(checkpoint, add=half))


@pytest.mark.parametrize(
    ("stored", "requested", "named"),
    [
        ("BertForMaskedLM", "BertForSequenceClassification", "bert.pooler.dense.weight"),
        ("BertForMaskedLM", "BertForNextSentencePrediction", "cls.seq_relationship.weight"),
        ("BertForMaskedLM", "BertForQuestionAnswering", "qa_outputs.weight"),
        ("BertForMaskedLM", "BertForPreTraining", "cls.seq_relationship.bias"),
        ("BertModel", "BertForMaskedLM", "cls.predictions.bias"),
        ("BertModel", "BertForTokenClassification", "classifier.weight, classifier.bias"),
        ("BertModel", "BertLMHeadModel", "cls.predictions.bias"),
        # The same names with another meaning.
        ("BertForSequenceClassification", "BertForTokenClassification", "classifier.weight"),
    ],
)
def test_a_missing_head(
    make_checkpoint: Make, caplog: pytest.LogCaptureFixture, stored: str, requested: str, named: str
) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint(stored)))
    with pytest.raises(ExportError, match="--allow-new-head") as caught:
        build_model(head(requested), checkpoint)
    assert named in str(caught.value)

    caplog.set_level(logging.WARNING, logger="bertrt")
    first: Any = build_model(head(requested), checkpoint, allow_new_head=True)
    assert "new and untrained" in caplog.text
    again: Any = build_model(head(requested), checkpoint, allow_new_head=True)
    state, repeated = first.state_dict(), again.state_dict()
    assert all(torch.equal(state[name], repeated[name]) for name in state)
    assert all(torch.isfinite(value).all() for value in outputs(first).values())
    body = {name.removeprefix("bert."): value for name, value in checkpoint.weights.items()}
    for name, value in first.bert.state_dict().items():
        if name.startswith(("embeddings.", "encoder.")):
            assert torch.equal(value, body[name])


def test_a_missing_encoder_is_never_new(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForMaskedLM")))
    for name in ("bert.encoder.layer.1.output.dense.bias", "bert.embeddings.LayerNorm"):
        with pytest.raises(ExportError, match="embeddings and encoder") as caught:
            build_model(head("BertForMaskedLM"), edited(checkpoint, drop=name), allow_new_head=True)
        assert name in str(caught.value)
    foreign = replace(checkpoint, weights={"roberta.encoder.x": torch.zeros(1)})
    with pytest.raises(ExportError, match="and 33 more"):
        build_model(head("BertForMaskedLM"), foreign, allow_new_head=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 1}, "num_hidden_layers is 1, and the weights have 2"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, and the weights have 2"),
        ({"vocab_size": 7}, "vocab_size is 7, .*word_embeddings.weight' has"),
        ({"max_position_embeddings": 63}, "max_position_embeddings is 63, .* has 64"),
        ({"type_vocab_size": 1}, "type_vocab_size is 1, .* has 2"),
        ({"hidden_size": 36}, "hidden_size is 36, .* has 32"),
        ({"intermediate_size": 38}, "intermediate_size is 38, .* has 37"),
        ({"id2label": {"0": "a", "1": "b"}, "label2id": None}, "num_labels is 2, .* has 3"),
    ],
)
def test_a_config_that_contradicts_its_weights(
    make_checkpoint: Make, config: dict[str, Any], message: str
) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForSequenceClassification")))
    with pytest.raises(ExportError, match=message):
        build_model(
            head("BertForSequenceClassification"),
            edited(checkpoint, **config),
            allow_new_head=True,
        )


def test_unexpected_weights(make_checkpoint: Make, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForTokenClassification")))
    ignored = {
        "bert.embeddings.position_ids": torch.arange(64)[None],
        "bert.pooler.dense.weight": torch.zeros(32, 32),
        "cls.predictions.bias": torch.zeros(5),
        "qa_outputs.bias": torch.zeros(2),
    }
    plain = build_model(head("BertForTokenClassification"), checkpoint)
    same_answers(
        build_model(head("BertForTokenClassification"), edited(checkpoint, add=ignored)), plain
    )
    assert not caplog.records
    unknown = {f"crf.{number}": torch.zeros(2) for number in range(6)}
    build_model(head("BertForTokenClassification"), edited(checkpoint, add=unknown))
    (record,) = caplog.records
    assert record.getMessage() == (
        "6 weights belong to no head and are left out: crf.0, crf.1, crf.2, crf.3 and 2 more"
    )
    for name in (
        "bert.embeddings.extra.weight",
        "bert.encoder.layer.0.crossattention.self.query.weight",
        "bert.encoder.layer.0.attention.self.distance_embedding.weight",
    ):
        with pytest.raises(ExportError, match=f"contradicts the weights: they include '{name}'"):
            build_model(
                head("BertForTokenClassification"), edited(checkpoint, add={name: torch.zeros(2)})
            )


def test_integer_weights_are_refused(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForMaskedLM")))
    name = "bert.encoder.layer.0.output.dense.weight"
    quantized = {name: torch.zeros(32, 37, dtype=torch.int8)}
    with pytest.raises(ExportError, match=f"{name}' is torch.int8"):
        build_model(head("BertForMaskedLM"), edited(checkpoint, add=quantized))


def test_question_answering_needs_two_labels(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForQuestionAnswering")))
    three = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": None}
    with pytest.raises(ExportError, match="3 labels, and question answering needs 2"):
        build_model(head("BertForQuestionAnswering"), edited(checkpoint, **three))
    # Missing weights are said first.
    without = edited(checkpoint, drop="qa_outputs", **three)
    with pytest.raises(ExportError, match=r"lacks 2 weights .*\(qa_outputs.weight"):
        build_model(head("BertForQuestionAnswering"), without)
    with pytest.raises(ExportError, match="3 labels, and question answering needs 2"):
        build_model(head("BertForQuestionAnswering"), without, allow_new_head=True)


@pytest.mark.parametrize(
    ("class_name", "architecture"),
    [
        ("BertModel", "HF_ColBERT"),
        ("BertModel", "MyBert"),
        ("BertModel", None),
        ("BertForSequenceClassification", "BertForMyTask"),
    ],
)
def test_an_architecture_that_is_somebodys_own(
    make_checkpoint: Make, caplog: pytest.LogCaptureFixture, class_name: str, architecture: Any
) -> None:
    """The head is what the caller asks for; weights that it does not use are named once."""
    checkpoint = open_checkpoint(str(make_checkpoint(class_name)))
    own = edited(
        checkpoint,
        add={"linear.weight": torch.zeros(8, 32)},
        architectures=[architecture],
        model_type="bert",
    )
    check_config(own.config)
    model = build_model(head(class_name), own)
    same_answers(model, reference(checkpoint.folder, class_name))
    (record,) = caplog.records
    assert "1 weights belong to no head and are left out: linear.weight" in record.message
    assert model.config.architectures == [class_name]


def test_a_classifier_of_another_frameworks_class_is_not_used(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForSequenceClassification")))
    other = edited(checkpoint, architectures=["TFBertForTokenClassification"])
    with pytest.raises(ExportError, match=r"lacks 2 weights .*\(classifier.weight"):
        build_model(head("BertForSequenceClassification"), other)


DECODER = "cls.predictions.decoder"


def tied(model: Any) -> bool:
    return model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_a_decoder_that_is_stored_once_is_shared(make_checkpoint: Make) -> None:
    checkpoint = open_checkpoint(str(make_checkpoint("BertForMaskedLM")))
    once = edited(checkpoint, drop=DECODER)
    model: Any = build_model(head("BertForMaskedLM"), once)
    assert tied(model)
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias
    words = once.weights["bert.embeddings.word_embeddings.weight"]
    twice = {
        f"{DECODER}.weight": words.clone(),
        f"{DECODER}.bias": once.weights["cls.predictions.bias"],
    }
    assert tied(build_model(head("BertForMaskedLM"), edited(once, add=twice)))
    # Only the second name of the bias.
    moved = edited(
        once, drop="cls.predictions.bias", add={f"{DECODER}.bias": twice[f"{DECODER}.bias"]}
    )
    same_answers(build_model(head("BertForMaskedLM"), moved), model)


def test_an_untied_decoder(make_checkpoint: Make) -> None:
    folder = make_checkpoint("BertForMaskedLM", tie_word_embeddings=False)
    checkpoint = open_checkpoint(str(folder))
    model: Any = build_model(head("BertForMaskedLM"), checkpoint)
    assert not tied(model)
    same_answers(model, reference(folder, "BertForMaskedLM"))
    with pytest.raises(ExportError, match=f"lacks 1 weights.*{DECODER}.weight"):
        build_model(head("BertForMaskedLM"), edited(checkpoint, drop=f"{DECODER}.weight"))
    # The bias is shared even if the embeddings are not.
    without = edited(checkpoint, drop=f"{DECODER}.bias")
    bias = checkpoint.weights["cls.predictions.bias"]
    built: Any = build_model(head("BertForMaskedLM"), without)
    assert torch.equal(built.cls.predictions.decoder.bias, bias)


def test_tied_by_the_config_but_stored_separately(
    make_checkpoint: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(
        shutil.copytree(
            make_checkpoint("BertForMaskedLM", tie_word_embeddings=False), tmp_path / "x"
        )
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    checkpoint = open_checkpoint(str(folder))
    model: Any = build_model(head("BertForMaskedLM"), checkpoint)
    assert "differs from the word embeddings" in caplog.text
    assert not tied(model)
    assert model.config.tie_word_embeddings is False
    assert torch.equal(
        model.cls.predictions.decoder.weight, checkpoint.weights[f"{DECODER}.weight"]
    )
    if int(transformers.__version__.partition(".")[0]) >= 5:
        same_answers(model, reference(folder, "BertForMaskedLM"))
