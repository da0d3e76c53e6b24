"""Checkpoint folders: their formats, their names, and all kinds of damage."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.config_check import check_config
from bertrt.export.checkpoints.naming.pytorch import pytorch_names

GOOGLE_CONFIG = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}

Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a checkpoint of a masked language model."""
    return Path(shutil.copytree(make_checkpoint("BertForMaskedLM"), tmp_path / "my-model"))


@pytest.fixture
def weights(folder: Path) -> Weights:
    return safetensors.torch.load_file(folder / "model.safetensors")


def save_shards(weights: Weights, folder: Path, *, file: str, save: Callable[..., Any]) -> None:
    """Replace the folder's weights by two shards and an index."""
    (folder / "model.safetensors").unlink()
    stem, _, ending = file.rpartition(".")
    names = sorted(weights)
    table = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        shard = f"{stem}-0000{number}-of-00002.{ending}"
        save({name: weights[name] for name in part}, folder / shard)
        table |= dict.fromkeys(part, shard)
    (folder / f"{file}.index.json").write_text(json.dumps({"weight_map": table}))


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refusal(folder: Path) -> str:
    with pytest.raises(ExportError) as caught:
        open_checkpoint(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_safetensors(folder: Path, weights: Weights) -> None:
    checkpoint = open_checkpoint(str(folder))
    assert equal(checkpoint.weights, weights)
    assert checkpoint.config == json.loads((folder / "config.json").read_text())
    assert checkpoint.folder == folder
    source = checkpoint.source
    assert (source.model, source.revision) == ("my-model", None)
    assert (source.format, source.files) == ("safetensors", ("model.safetensors",))
    data = (folder / "model.safetensors").read_bytes()
    assert source.sha256 == hashlib.sha256(data).hexdigest()


def test_the_current_folder_has_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert open_checkpoint(".").source.model == "my-model"


@pytest.mark.parametrize(
    ("file", "save"),
    [("model.safetensors", safetensors.torch.save_file), ("pytorch_model.bin", torch.save)],
)
def test_shards(folder: Path, weights: Weights, file: str, save: Callable[..., Any]) -> None:
    save_shards(weights, folder, file=file, save=save)
    checkpoint = open_checkpoint(str(folder))
    assert equal(checkpoint.weights, weights)
    assert len(checkpoint.source.files) == 2
    lines = "".join(
        f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n"
        for name in sorted(checkpoint.source.files)
    )
    assert checkpoint.source.sha256 == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle(folder: Path, weights: Weights, zipped: bool) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    checkpoint = open_checkpoint(str(folder))
    assert equal(checkpoint.weights, weights)
    assert checkpoint.source.format == "pytorch_model.bin"


def test_safetensors_are_preferred_to_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert open_checkpoint(str(folder)).source.format == "safetensors"


def test_half_precision_stays_as_stored(folder: Path, weights: Weights) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in weights.items()}
    safetensors.torch.save_file(halves, folder / "model.safetensors")
    assert equal(open_checkpoint(str(folder)).weights, halves)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_legacy_names(weights: Weights, prefix: str) -> None:
    legacy = {}
    for name, tensor in weights.items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        legacy[prefix + old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    assert equal(pytorch_names(legacy), weights)


def test_gamma_outside_a_layer_norm_keeps_its_name() -> None:
    names = ["scale.gamma", "module.LayerNormal.beta", "LayerNorm.gamma.x"]
    assert list(pytorch_names(dict.fromkeys(names, torch.zeros(1)))) == names


def test_an_old_name_beside_the_new_one_is_refused() -> None:
    both = {"a.LayerNorm.gamma": torch.zeros(1), "a.LayerNorm.weight": torch.ones(1)}
    with pytest.raises(ExportError, match=r"has 'a\.LayerNorm\.weight' twice"):
        pytorch_names(both)


class Payload:
    """A pickle that makes a directory if it is loaded without restrictions."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(
    folder: Path, tmp_path: Path, zipped: bool
) -> None:
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "ran"
    content = {"bert.x": Payload(mark)}
    if zipped:
        torch.save(content, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    assert "pytorch_model.bin cannot be read" in refusal(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({"model": {"a": torch.zeros(1)}}, "holds 'model', a dict"),
        ({"epoch": 3}, "holds 'epoch', a int"),
        ({1: torch.zeros(1)}, "holds 1, a Tensor"),
    ],
)
def test_a_pickle_that_is_not_a_dictionary_of_tensors_is_refused(
    folder: Path, content: Any, message: str
) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    assert message in refusal(folder)


@pytest.mark.parametrize("length", [0, 5, 100, 2000])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_weights_are_refused(
    folder: Path, weights: Weights, file: str, length: int
) -> None:
    torch.save(weights, folder / "pytorch_model.bin")
    if file == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[:length])
    assert file in refusal(folder)
    (folder / file).write_bytes(data[:-40])
    assert file in refusal(folder)


@pytest.mark.parametrize("framework", ["tf", "flax"])
def test_pytorchs_names_in_a_file_of_another_framework_are_refused(
    folder: Path, weights: Weights, framework: str
) -> None:
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": framework})
    assert "is not a weight of a model of this config" in refusal(folder)


@pytest.mark.parametrize("name", ["bert/pooler/dense/{}:0", "bert.pooler.dense.{}"])
def test_safetensors_without_metadata(folder: Path, name: str) -> None:
    kernel = torch.arange(32 * 32, dtype=torch.float32).reshape(32, 32)
    stored = {name.format("kernel"): kernel, name.format("bias"): kernel[3].clone()}
    safetensors.torch.save_file(stored, folder / "model.safetensors")
    found = open_checkpoint(str(folder)).weights
    assert equal(found, {"bert.pooler.dense.weight": kernel.T, "bert.pooler.dense.bias": kernel[3]})


@pytest.mark.parametrize("file", ["tf_model.h5", "flax_model.msgpack", "bert_model.ckpt.index"])
def test_renamed_files_are_refused(folder: Path, file: str) -> None:
    (folder / "model.safetensors").rename(folder / file)
    (folder / "bert_model.ckpt.data-00000-of-00001").write_bytes(b"")
    assert f"{file} is damaged" in refusal(folder)


def test_folders_without_weights_in_a_known_format(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    message = refusal(folder)
    assert "has no weights" in message
    for name in ("model.safetensors", "tf_model.h5", "flax_model.msgpack", "bert_model.ckpt"):
        assert name in message


def test_an_index_of_another_kind_is_ignored(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "search.index").write_bytes(b"never read")
    assert "has no weights" in refusal(folder)


def test_damaged_shards_are_refused(folder: Path, weights: Weights) -> None:
    save_shards(weights, folder, file="model.safetensors", save=safetensors.torch.save_file)
    index = folder / "model.safetensors.index.json"
    valid = json.loads(index.read_text())["weight_map"]
    first = folder / "model-00001-of-00002.safetensors"

    index.write_text(json.dumps({"weight_map": {**valid, "bert.extra": first.name}}))
    assert "lists 'bert.extra', which no shard has" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {**valid, "x": "../x.safetensors"}}))
    assert "is not a file name" in refusal(folder)
    for text in ("{}", "[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        assert index.name in refusal(folder)

    index.write_text(json.dumps({"weight_map": valid}))
    data = first.read_bytes()
    shutil.copy(folder / "model-00002-of-00002.safetensors", first)
    assert "which another shard has too" in refusal(folder)
    first.write_bytes(data[:-8])
    assert first.name in refusal(folder)
    first.unlink()
    assert f"{first.name} is missing" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\xff"])
def test_damaged_configs_are_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in refusal(folder)


def test_paths_that_are_not_checkpoints(folder: Path, tmp_path: Path) -> None:
    assert "is a file" in refusal(folder / "model.safetensors")
    assert "no folder" in refusal(tmp_path / "absent")
    (tmp_path / "bare").mkdir()
    assert "has no config.json" in refusal(tmp_path / "bare")
    with pytest.raises(ExportError, match="has no revision 'main'"):
        open_checkpoint(str(folder), revision="main")


def test_google_config_is_read(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    fields = {name: config[name] for name in GOOGLE_CONFIG}
    (folder / "bert_config.json").write_text(json.dumps(fields))
    assert open_checkpoint(str(folder)).config == fields


@pytest.mark.parametrize(
    "config",
    [
        GOOGLE_CONFIG,
        {"model_type": "bert"},
        {"architectures": ["BertForMaskedLM"], "hidden_size": 24},
        {**GOOGLE_CONFIG, "model_type": "bert", "position_embedding_type": "absolute"},
        {"model_type": "bert", "pruned_heads": {}, "add_cross_attention": False},
        {"model_type": "bert", "architectures": None, "is_decoder": True},
        {"model_type": "bert", "auto_map": {"AutoModel": "code.Model"}},
        {"model_type": "bert", "architectures": ["HF_ColBERT"]},
        {"model_type": "bert", "architectures": ["MyBert", "BertForMyTask"]},
        {"model_type": "bert", "architectures": [None]},
        {"model_type": "bert", "architectures": []},
        {"model_type": "bert", "architectures": ["TFBertModel"]},
        {"architectures": ["FlaxBertForMaskedLM"]},
    ],
)
def test_configs_of_bert(config: dict[str, Any]) -> None:
    check_config(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "deberta"}, "model_type is 'deberta'"),
        ({"model_type": "bert-generation"}, "model_type is 'bert-generation'"),
        ({"architectures": ["RobertaForMaskedLM"]}, "'RobertaForMaskedLM'"),
        ({"architectures": ["CamembertModel"]}, "'CamembertModel'"),
        ({"architectures": ["BertGenerationEncoder"]}, "'BertGenerationEncoder'"),
        ({"architectures": ["TFRobertaModel"]}, "'TFRobertaModel'"),
        ({"architectures": ["BertModel", "ElectraModel"]}, "'ElectraModel'"),
        ({"architectures": ["MyBert"], "model_type": None}, "'MyBert'"),
        ({"architectures": ["HF_ColBERT"], "model_type": "deberta-v2"}, "is 'deberta-v2'"),
        ({"architectures": "BertModel"}, "must be a list"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"position_embedding_type": "relative_key_query"}, "relative_key_query"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": 770}, "hidden_size 770 is not divisible"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"vocab_size": "30522"}, "vocab_size is '30522'"),
        ({"hidden_size": 768.0}, "hidden_size is 768.0"),
        ({"type_vocab_size": None}, "type_vocab_size is None"),
        ({"intermediate_size": True}, "intermediate_size is True"),
        ({"hidden_act": "nonsense"}, "hidden_act is 'nonsense'"),
    ],
)
def test_configs_that_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_config({**GOOGLE_CONFIG, "model_type": "bert", **change})


def test_a_config_that_may_not_be_berts_is_refused() -> None:
    fields = {name: GOOGLE_CONFIG[name] for name in GOOGLE_CONFIG if name != "type_vocab_size"}
    with pytest.raises(ExportError, match="no model_type and no type_vocab_size"):
        check_config(fields)
