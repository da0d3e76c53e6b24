"""Folders that hold no whole checkpoint: each gets one sentence that says what it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.checkpoints.checkpoint import open_checkpoint

BASE = "google-bert/bert-base-uncased"


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a checkpoint."""
    return Path(shutil.copytree(make_checkpoint("BertModel"), tmp_path / "my-model"))


def refusal(folder: Path) -> str:
    with pytest.raises(ExportError) as caught:
        open_checkpoint(str(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(folder: Path, **files: Any) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter(folder: Path, weights: str) -> None:
    settings = {"peft_type": "LORA", "base_model_name_or_path": BASE}
    # Beside a model's own weights: transformers would load the other model, and the adapter.
    write(folder, **{"adapter_config.json": settings, weights: ""})
    message = refusal(folder)
    assert message.startswith(f"'my-model' is an adapter (LORA) of {BASE!r}, not a whole model: ")
    for step in ("PeftModel.from_pretrained", "merge_and_unload()", "save_pretrained"):
        assert step in message
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == message
    (folder / "config.json").unlink()
    assert refusal(folder) == message


def test_an_adapter_that_does_not_name_its_model(folder: Path) -> None:
    write(folder, **{"adapter_config.json": {}})
    assert "'my-model' is an adapter of another model, not" in refusal(folder)
    write(folder, **{"adapter_config.json": {"model_name": BASE}})
    assert f"is an adapter of {BASE!r}" in refusal(folder)
    write(folder, **{"adapter_config.json": "{"})
    assert "adapter_config.json cannot be read" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.onnx", "ONNX"),
        ("onnx/model_quantized.onnx", "ONNX"),
        ("openvino_model.xml", "OpenVINO"),
        ("bert.q4.gguf", "GGUF"),
        ("model.tflite", "TensorFlow Lite"),
    ],
)
def test_files_of_another_exporter(folder: Path, name: str, kind: str) -> None:
    write(folder, **{name: ""})
    open_checkpoint(str(folder))  # beside the weights they do not matter
    (folder / "model.safetensors").unlink()
    found = f"it holds {kind} files ({name}), the result of another export"
    assert f"'my-model' has no weights: {found}" in refusal(folder)
    (folder / "config.json").unlink()
    assert f"'my-model' has no config.json or bert_config.json: {found}" in refusal(folder)


def test_an_artifact(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    write(folder, **{"bertrt.json": {}, "model.onnx": ""})
    assert "has no weights: it is an artifact already, which bertrt.load opens" in refusal(folder)


def test_a_trainers_output(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for step in (500, 1500, 1000):
        shutil.copytree(folder, output / f"checkpoint-{step}")
    shutil.copytree(folder, output / "checkpoint-best")
    write(output, **{"runs/events": "", "trainer_state.json": {}})
    assert "'out' has no config.json" in refusal(output)
    assert "of which 'checkpoint-1500' is the last: export that, or another" in refusal(output)
    step = output / "checkpoint-500"
    write(step, **{"optimizer.pt": "", "scheduler.pt": "", "trainer_state.json": {}})
    assert open_checkpoint(str(step)).source.model == "checkpoint-500"


def test_an_older_folder_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(folder, outer / "0_Transformer")
    write(outer, **{"1_Pooling/config.json": {}, "2_Dense/config.json": {}})
    kind = "sentence_transformers.models."
    modules = [
        {"path": "1_Pooling", "type": f"{kind}Pooling"},
        {"path": "0_Transformer", "type": f"{kind}Transformer"},
    ]
    write(outer, **{"modules.json": modules})
    found = open_checkpoint(str(outer))
    assert found.source.model == "outer"
    assert (found.folder, found.transformer_folder) == (outer, outer / "0_Transformer")
    assert found.tokenizer_folder == outer / "0_Transformer"
    for damaged in ("{", [1], [{"type": "x.Transformer"}], {"a": 1}, []):
        write(outer, **{"modules.json": damaged})
        assert refusal(outer).startswith("modules.json cannot be read")
    modules[1]["path"] = "1_Transformer"
    write(outer, **{"modules.json": modules})
    assert "'outer/1_Transformer' has no config.json" in refusal(outer)
    # A newer one has it in the folder itself.
    write(folder, **{"modules.json": [{"path": "", "type": f"{kind}Transformer"}]})
    open_checkpoint(str(folder))
    (folder / "model.safetensors").unlink()
    assert "has no weights: add model.safetensors" in refusal(folder)


def test_a_file(folder: Path) -> None:
    message = refusal(folder / "model.safetensors")
    assert message.endswith(f"is a file: give its folder, {str(folder)!r}, without the file's name")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path / "empty")
    assert message == (
        "'empty' has no config.json or bert_config.json: give a checkpoint's folder or a hub id"
    )


def test_another_tokenizer(
    make_checkpoint: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    own = open_checkpoint(str(folder))
    assert (own.tokenizer_folder, own.source.tokenizer) == (folder, None)
    cased = make_checkpoint("BertForMaskedLM", cased=True)
    other = open_checkpoint(str(folder), tokenizer=str(cased))
    assert (other.tokenizer_folder, other.folder) == (cased, folder)
    assert vars(other.source.tokenizer) == {"model": cased.name, "revision": None}
    assert open_checkpoint(str(folder), tokenizer="demo").tokenizer_folder != folder
    (tmp_path / "none").mkdir()
    with pytest.raises(
        ExportError,
        match=r"none' has no tokenizer.json or vocab.txt or vocab.json or .*: give --tok",
    ):
        open_checkpoint(str(folder), tokenizer=str(tmp_path / "none"))
    with pytest.raises(ExportError, match=r"vocab.txt' is a file: give its folder"):
        open_checkpoint(str(folder), tokenizer=str(cased / "vocab.txt"))


def test_an_export_with_another_tokenizer(folder: Path, tmp_path: Path) -> None:
    """A Trainer's checkpoint without tokenizer files gets them from elsewhere."""
    whole = Path(shutil.copytree(folder, tmp_path / "whole"))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"has no tokenizer: .*--tokenizer"):
        export(folder, tmp_path / "artifact", device="any")
    manifest = export(folder, tmp_path / "artifact", device="any", tokenizer=whole)
    assert manifest.source["tokenizer"] == {"model": "whole", "revision": None}
    expected = export(whole, tmp_path / "expected", device="any")
    assert expected.source["tokenizer"] is None
    assert manifest.tokenizer == expected.tokenizer
