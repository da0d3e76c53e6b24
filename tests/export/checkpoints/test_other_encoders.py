"""Checkpoints of other encoders than BERT: read as transformers reads them, or refused by name."""

import json
import logging
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from bertrt.errors import ExportError
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.config_check import check_config
from bertrt.export.checkpoints.reference_model import build_reference
from bertrt.export.heads import head_for

Weights = dict[str, torch.Tensor]
Config = dict[str, Any]
MakeEncoder = Callable[..., Path]
Edit = Callable[[Config, Weights], Any]

TYPES = ["roberta", "distilbert", "electra", "mpnet", "albert"]
# A weight of a layer, by its name in a bare encoder.
LINEAR = {
    "roberta": "encoder.layer.1.attention.self.query.weight",
    "distilbert": "transformer.layer.1.attention.q_lin.weight",
    "electra": "encoder.layer.1.attention.self.query.weight",
    "mpnet": "encoder.layer.1.attention.attn.q.weight",
    "albert": "encoder.albert_layer_groups.1.albert_layers.0.attention.query.weight",
}


@pytest.fixture
def copy(make_encoder: MakeEncoder, tmp_path: Path) -> Callable[..., Path]:
    """A factory: a model type, a head and an edit of its config and weights to a folder."""

    def write(model_type: str, head: str, edit: Edit | None = None, **changes: Any) -> Path:
        original = make_encoder(model_type, head, **changes)
        config = json.loads((original / "config.json").read_text())
        weights = safetensors.torch.load_file(original / "model.safetensors")
        if edit is not None:
            edit(config, weights)
        folder = tmp_path / f"{model_type}-{head}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder

    return write


def build(folder: Path, task: str | None = None, *, allow_new_head: bool = False) -> Any:
    """Return transformers' own class with the weights that bertrt read."""
    opened = open_checkpoint(str(folder))
    architectures = opened.config.get("architectures")
    head = head_for(task, architectures, opened.weights, opened.architecture)
    model = build_model(head, opened, allow_new_head=allow_new_head)
    return build_reference(model, head, opened.architecture)


def refusal(folder: Path, task: str | None = None) -> str:
    with pytest.raises(ExportError) as caught:
        build(folder, task)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_weights(model: Any, expected: Weights) -> None:
    found = model.state_dict()
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor.float(), rtol=0, atol=0)


def fields(**changes: Any) -> Edit:
    """Return an edit of a config's fields."""
    return lambda config, _: config.update(changes)


def rename(weights: Weights, change: Callable[[str], str]) -> None:
    renamed = {change(name): tensor for name, tensor in weights.items()}
    weights.clear()
    weights.update(renamed)


HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice", "ForQuestionAnswering")


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("head", HEADS)
def test_weights_are_those_that_transformers_reads(
    make_encoder: MakeEncoder, model_type: str, head: str
) -> None:
    labels = 2 if head == "ForQuestionAnswering" else 3
    folder = make_encoder(model_type, head, num_labels=labels)
    model = build(folder)
    theirs = type(model).from_pretrained(folder, dtype=torch.float32)
    check_weights(model, theirs.state_dict())


@pytest.mark.parametrize("model_type", TYPES)
def test_wrappers_old_names_half_precision_and_shards(
    copy: Callable[..., Path], model_type: str
) -> None:
    expected: Weights = {}

    def edit(config: Config, weights: Weights) -> None:
        expected.update({name: tensor.half() for name, tensor in weights.items()})
        weights.update(expected)
        rename(weights, lambda name: f"module.{model_type}.{name}")
        norm = f"module.{model_type}.embeddings.LayerNorm"
        weights[f"{norm}.gamma"] = weights.pop(f"{norm}.weight")
        weights[f"{norm}.beta"] = weights.pop(f"{norm}.bias")

    folder = copy(model_type, "Model", edit)
    check_weights(build(folder), expected)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(weights)}
    for file in set(files.values()):
        part = {name: weights[name] for name in weights if files[name] == file}
        safetensors.torch.save_file(part, folder / file, {"format": "pt"})
    index = {"weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    check_weights(build(folder), expected)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_missing_weight(copy: Callable[..., Path], model_type: str) -> None:
    name = LINEAR[model_type]
    folder = copy(model_type, "Model", lambda _, weights: weights.pop(name))
    assert f"lacks 1 weights of its embeddings and encoder ({name})" in refusal(folder)


@pytest.mark.parametrize("model_type", TYPES)
def test_a_surplus_weight(copy: Callable[..., Path], model_type: str) -> None:
    name = LINEAR[model_type]
    surplus = name.replace("weight", "gate")

    def edit(config: Config, weights: Weights) -> None:
        weights[surplus] = weights[name].clone()

    assert repr(f"{model_type}.{surplus}") in refusal(copy(model_type, "Model", edit))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_weight_under_two_names(copy: Callable[..., Path], model_type: str) -> None:
    name = LINEAR[model_type]

    def edit(config: Config, weights: Weights) -> None:
        weights[f"{model_type}.{name}"] = weights[name].clone()

    message = refusal(copy(model_type, "Model", edit))
    assert f"{name}' twice, with '{model_type}.' and without" in message


@pytest.mark.parametrize(
    ("model_type", "field", "value", "message"),
    [
        ("roberta", "max_position_embeddings", 40, "max_position_embeddings is 40, and"),
        ("roberta", "num_hidden_layers", 3, "its num_hidden_layers is 3, and the weights have 2"),
        ("mpnet", "vocab_size", 50, "its vocab_size is 50, and"),
        ("distilbert", "dim", 36, "its dim is 36, and 'distilbert.embeddings.word_embeddings"),
        ("distilbert", "n_layers", 3, "its n_layers is 3, and the weights have 2 layers"),
        ("distilbert", "hidden_dim", 38, "its hidden_dim is 38, and"),
        ("distilbert", "n_heads", 5, "dim 32 is not divisible by its n_heads 5"),
        ("distilbert", "activation", "nonsense", "activation is 'nonsense'"),
        ("electra", "embedding_size", 20, "its embedding_size is 20, and"),
        ("electra", "hidden_size", 36, "hidden_size is 36, and 'electra.embeddings_project.weight"),
        ("albert", "embedding_size", 20, "its embedding_size is 20, and"),
        ("albert", "num_hidden_groups", 1, "albert_layer_groups.1."),
        ("albert", "num_hidden_groups", 3, "lacks 16 weights of its embeddings and encoder"),
        ("albert", "num_hidden_groups", 0, "num_hidden_groups is 0"),
        ("albert", "embedding_size", 2**62, f"embedding_size is {2**62}"),
        ("roberta", "vocab_size", 2**62, f"vocab_size is {2**62}"),
        ("albert", "inner_group_num", 2, "albert_layer_groups.0.albert_layers.1."),
    ],
)
def test_a_size_that_contradicts_the_weights(
    copy: Callable[..., Path], model_type: str, field: str, value: Any, message: str
) -> None:
    """The errors name the fields of the encoder's own config, and its own weights."""
    folder = copy(model_type, "Model", fields(**{field: value}))
    error = refusal(folder)
    assert message in error
    assert "bert.encoder" not in error.replace(f"{model_type}.", "")


def test_positions_that_a_text_may_have(make_encoder: MakeEncoder) -> None:
    """The rows before the first position are no text's."""
    for model_type, positions in (("roberta", 40), ("mpnet", 40), ("distilbert", 40)):
        opened = open_checkpoint(str(make_encoder(model_type, "Model")))
        assert opened.architecture.bert_fields()["max_position_embeddings"] == positions


@pytest.mark.parametrize("model_type", TYPES)
def test_weights_of_other_heads_are_left_out_silently(
    copy: Callable[..., Path], model_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    def edit(config: Config, weights: Weights) -> None:
        weights["extra.weight"] = torch.ones(3)

    folder = copy(model_type, "ForSequenceClassification", edit)
    with caplog.at_level(logging.WARNING):
        build(folder, "feature-extraction")
    (record,) = caplog.records
    assert record.getMessage() == "1 weights belong to no head and are left out: extra.weight"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        build(folder, "token-classification", allow_new_head=True)
    assert [r.getMessage().partition(":")[0] for r in caplog.records][1:] == [
        f"2 weights of {type(build(folder)).__name__.replace('Sequence', 'Token')} are new and "
        "untrained"
    ]


@pytest.mark.parametrize("model_type", TYPES)
def test_a_head_that_the_checkpoint_lacks(copy: Callable[..., Path], model_type: str) -> None:
    """Three heads have a `classifier`, and one is not another's."""
    folder = copy(model_type, "ForSequenceClassification")
    for task in ("fill-mask", "token-classification", "multiple-choice", "question-answering"):
        error = refusal(folder, task)
        assert "--allow-new-head" in error
        assert "cls." not in error  # BERT's names
    body = build(folder, "feature-extraction").state_dict()
    model = build(folder, "fill-mask", allow_new_head=True)
    again = build(folder, "fill-mask", allow_new_head=True).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again[name])
        own = name.removeprefix(f"{model.base_model_prefix}.")
        assert own == name or torch.equal(tensor, body[own])


@pytest.mark.parametrize("model_type", TYPES)
def test_untied_language_models(copy: Callable[..., Path], model_type: str) -> None:
    folder = copy(model_type, "ForMaskedLM", tie_word_embeddings=False)
    model = build(folder)
    words, decoder = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert not torch.equal(words, decoder)
    check_weights(model, type(model).from_pretrained(folder).state_dict())

    folder.rename(folder.with_name("untied"))
    # As in transformers 5, a decoder of its own is kept whatever the config says.
    model = build(
        copy(model_type, "ForMaskedLM", fields(tie_word_embeddings=True), tie_word_embeddings=False)
    )
    assert torch.equal(model.get_output_embeddings().weight, decoder)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
def test_what_old_files_have_beside_their_weights(copy: Callable[..., Path], head: str) -> None:
    """A pooler that no head reads, positions, and the decoder's weights once again."""

    def edit(config: Config, weights: Weights) -> None:
        weights["roberta.embeddings.position_ids"] = torch.arange(42)[None]
        weights["roberta.pooler.dense.weight"] = torch.ones(32, 32)
        weights["roberta.pooler.dense.bias"] = torch.ones(32)
        if head == "ForMaskedLM":
            words = weights["roberta.embeddings.word_embeddings.weight"]
            weights["lm_head.decoder.weight"] = words.clone()
            weights["lm_head.decoder.bias"] = weights["lm_head.bias"].clone()

    folder = copy("roberta", head, edit)
    model = build(folder)
    check_weights(model, type(model).from_pretrained(folder).state_dict())
    # A classifier's own first layer is not the encoder's pooler.
    pooler = build(folder, "feature-extraction").pooler.dense
    assert torch.equal(pooler.weight, torch.ones(32, 32))


def test_sinusoidal_positions_are_in_the_file(copy: Callable[..., Path]) -> None:
    folder = copy("distilbert", "Model", sinusoidal_pos_embds=True)
    model = build(folder)
    table = model.embeddings.position_embeddings.weight.detach().numpy()
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(table, stored["embeddings.position_embeddings.weight"])


@pytest.mark.parametrize("model_type", ["roberta", "distilbert"])
def test_bfloat16(copy: Callable[..., Path], model_type: str) -> None:
    def halve(config: Config, weights: Weights) -> None:
        weights.update({name: tensor.bfloat16() for name, tensor in weights.items()})

    folder = copy(model_type, "Model", halve)
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    check_weights(build(folder), stored)


@pytest.mark.parametrize(
    ("model_type", "padding", "message"),
    [
        ("roberta", None, "pad_token_id is None, and positions are the 42 rows"),
        ("roberta", 41, "pad_token_id is 41, and positions are the 42 rows"),
        ("roberta", 999, "pad_token_id is 999, which is not an id of its vocabulary"),
        ("distilbert", 999, "pad_token_id is 999, which is not an id of its vocabulary"),
        ("albert", -999, "pad_token_id is -999, which is not an id of its vocabulary"),
    ],
)
def test_padding_ids_that_are_refused(
    copy: Callable[..., Path], model_type: str, padding: int | None, message: str
) -> None:
    assert message in refusal(copy(model_type, "Model", fields(pad_token_id=padding)))


@pytest.mark.parametrize("model_type", ["distilbert", "electra", "mpnet", "albert"])
def test_no_padding_id(copy: Callable[..., Path], model_type: str) -> None:
    """The tokenizer's is used, as in transformers."""
    build(copy(model_type, "Model", fields(pad_token_id=None)))


@pytest.mark.parametrize("model_type", TYPES)
def test_a_config_without_a_model_type(copy: Callable[..., Path], model_type: str) -> None:
    """Configs of 2019 have an architecture only."""
    folder = copy(model_type, "Model", lambda config, _: config.pop("model_type"))
    assert build(folder).config.model_type == model_type


@pytest.mark.parametrize(
    ("model_type", "tasks"),
    [("electra", "feature-extraction"), ("albert", "feature-extraction, fill-mask, sparse-embe")],
)
def test_pretraining_heads_are_refused_by_name(
    copy: Callable[..., Path], model_type: str, tasks: str
) -> None:
    """The error names the tasks that the weights can serve, and these are served."""
    folder = copy(model_type, "ForPreTraining")
    stem = {"electra": "Electra", "albert": "Albert"}[model_type]
    message = refusal(folder)
    assert f"['{stem}ForPreTraining'], none of which" in message
    assert f"--task ({tasks}" in message
    build(folder, "feature-extraction")
    assert f"{model_type} has no head for pretraining" in refusal(folder, "pretraining")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "roberta-prelayernorm", "architectures": ["RobertaPreLayerNormModel"]},
        {"model_type": "xlm-roberta-xl", "architectures": ["XLMRobertaXLModel"]},
        {"model_type": "deberta-v2", "architectures": ["DebertaV2Model"]},
        {"model_type": "modernbert"},
        {"model_type": "nomic_bert", "architectures": ["NomicBertModel"]},
        {"model_type": "new", "architectures": ["NewModel"]},
    ],
)
def test_encoders_that_bertrt_does_not_export(config: Config) -> None:
    with pytest.raises(ExportError) as caught:
        check_config(config)
    assert str(caught.value) == (
        f"the config's model_type is {config['model_type']!r}: bertrt exports bert, roberta, "
        "xlm-roberta, camembert, distilbert, electra, mpnet, albert"
    )


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("roberta", "RobertaPreLayerNormForMaskedLM"),
        ("roberta", "XLMRobertaXLModel"),
        ("mpnet", "BertModel"),
        ("distilbert", "DebertaModel"),
        (None, "DebertaModel"),
        (None, "MyRoberta"),
    ],
)
def test_architectures_of_another_encoder(model_type: str | None, architecture: str) -> None:
    with pytest.raises(ExportError) as caught:
        check_config({"model_type": model_type, "architectures": [architecture]})
    assert architecture in str(caught.value) or "'deberta'" in str(caught.value)


def test_a_class_of_ones_own_over_an_encoder(copy: Callable[..., Path]) -> None:
    folder = copy("mpnet", "Model", fields(architectures=["MPNetForSearch"]))
    assert "none of which is a head that bertrt exports" in refusal(folder)
    assert isinstance(build(folder, "feature-extraction"), transformers.MPNetModel)


def test_googles_files_of_other_encoders(copy: Callable[..., Path]) -> None:
    """Google's ALBERT and ELECTRA are TensorFlow 1's, with names of their own."""
    folder = copy("albert", "Model")
    golden = Path(__file__).parents[2] / "golden" / "frameworks" / "tf1-squad.tar.xz"
    with tarfile.open(golden) as archive:
        archive.extractall(folder, filter="data")
    (folder / "model.safetensors").unlink()
    for path in (folder / "tf1-squad").glob("model.ckpt-11*"):
        path.rename(folder / path.name)
    message = refusal(folder)
    assert "files of BERT only, and the config's model_type is 'albert'" in message
    assert "transformers 4.57" in message
