"""Checkpoints that TensorFlow and Flax wrote give those frameworks' own answers.

The cases are those of tests/golden/frameworks, or, under `make frameworks`, all heads and forms
as the frameworks have just written them.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import bertrt
from bertrt.export import export
from bertrt.export.checkpoints.build_model import build_model
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.heads import head_for

GOLDEN = Path(__file__).parents[2] / "golden" / "frameworks"
CASES = (
    sorted(path.name for path in Path(os.environ["FRAMEWORK_CASES"]).iterdir())
    if "FRAMEWORK_CASES" in os.environ
    else sorted(path.name.removesuffix(".tar.xz") for path in GOLDEN.glob("*.tar.xz"))
)
Arrays = dict[str, np.ndarray]


def asked_and_answered(folder: Path) -> tuple[Arrays, Arrays]:
    with np.load(folder / "answers.npz") as file:
        arrays = dict(file.items())
    asked = {
        name[3:]: value.astype(np.int64) for name, value in arrays.items() if name[:3] == "in "
    }
    return asked, {name[4:]: value for name, value in arrays.items() if name[:4] == "out "}


def check(ours: Arrays, theirs: Arrays) -> None:
    for name, value in theirs.items():
        # float32 through two layers; the weights are the same to the bit.
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=2e-5, err_msg=name)
        assert value.std() > 0.01, f"{name} would hide an error"


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_the_weights_answers_as_the_framework(unpacked: Path, name: str) -> None:
    about = json.loads((unpacked / name / "case.json").read_text())
    checkpoint = open_checkpoint(str(unpacked / name))
    assert checkpoint.source.format == about["format"]
    asked, answered = asked_and_answered(unpacked / name)
    model = build_model(head_for(about["task"], None), checkpoint)
    with torch.no_grad():
        answer = model(**{key: torch.from_numpy(value) for key, value in asked.items()})
    check({key: answer[key].numpy() for key in answered}, answered)


def test_an_artifact_answers_as_the_framework(unpacked: Path, tmp_path: Path) -> None:
    folder = unpacked / "msgpack-pretraining"
    manifest = export(folder, tmp_path / "out")
    assert manifest.source["format"] == "flax_model.msgpack"
    asked, answered = asked_and_answered(folder)
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        check(rt.run(**asked), answered)


def test_googles_folder_is_a_whole_checkpoint(
    case: Callable[[str], Path],
    unpacked: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing but bert_config.json, vocab.txt and the weights; the head is asked for."""
    folder = case("tf1-pretraining")
    kept = {"bert_config.json", "vocab.txt"}
    for path in folder.iterdir():
        if path.name not in kept and not path.name.startswith("bert_model.ckpt"):
            path.unlink()
    with caplog.at_level(logging.WARNING):
        export(folder, tmp_path / "out", task="fill-mask")
    asked, answered = asked_and_answered(unpacked / "tf1-pretraining")
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        assert rt("paris [MASK] france!")[0]["sequence"].startswith("paris ")
        check(rt.run(**asked), {"logits": answered["prediction_logits"]})
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-12
    assert config["hidden_act"] == "gelu"


def test_googles_config_takes_its_labels_from_the_weights(unpacked: Path) -> None:
    checkpoint = open_checkpoint(str(unpacked / "tf1-classifier"))
    assert checkpoint.config["num_labels"] == 3


def test_pytorchs_formats_come_first(case: Callable[[str], Path]) -> None:
    folder = case("tf-safetensors-question-answering")
    for name in ("tf_model.h5", "flax_model.msgpack", "bert_model.ckpt.index"):
        (folder / name).write_bytes(b"never read")
    assert open_checkpoint(str(folder)).source.format == "safetensors of TensorFlow"


def test_the_newest_of_several_checkpoints_is_read(case: Callable[[str], Path]) -> None:
    folder = case("tf1-squad")
    assert open_checkpoint(str(folder)).source.files[0] == "model.ckpt-11.index"
    note = (folder / "checkpoint").read_text()
    (folder / "checkpoint").write_text(note.replace("model.ckpt-11", "model.ckpt-9", 1))
    assert open_checkpoint(str(folder)).source.files[0] == "model.ckpt-9.index"
    for text in ("", note.replace("ckpt-11", "ckpt-12", 1)):
        (folder / "checkpoint").write_text(text)
        with pytest.raises(bertrt.BertrtError, match=r"ckpt-11\.index, model\.ckpt-9\.index"):
            open_checkpoint(str(folder))


def test_what_is_read_is_float_and_contiguous(unpacked: Path) -> None:
    weights = open_checkpoint(str(unpacked / "msgpack-bfloat16-multiple-choice")).weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(tensor.is_contiguous() for tensor in weights.values())
