"""Checkpoints of TensorFlow and Flax give those frameworks' own answers.

The cases are those of tests/golden/frameworks or, with `make frameworks`, all heads and formats,
newly written by the frameworks.
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
from bertrt.export.checkpoints.reference_model import build_reference
from bertrt.export.heads import head_for

GOLDEN = Path(__file__).parents[2] / "golden" / "frameworks"
CASES = (
    sorted(path.name for path in Path(os.environ["FRAMEWORK_CASES"]).iterdir())
    if "FRAMEWORK_CASES" in os.environ
    else sorted(path.name.removesuffix(".tar.xz") for path in GOLDEN.glob("*.tar.xz"))
)
Arrays = dict[str, np.ndarray]


def inputs_and_outputs(folder: Path) -> tuple[Arrays, Arrays]:
    with np.load(folder / "answers.npz") as file:
        arrays = dict(file.items())
    inputs = {
        name[3:]: value.astype(np.int64) for name, value in arrays.items() if name[:3] == "in "
    }
    return inputs, {name[4:]: value for name, value in arrays.items() if name[:4] == "out "}


def check(ours: Arrays, theirs: Arrays) -> None:
    for name, value in theirs.items():
        # The rounding of two layers in float32; the weights are bit-identical.
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=2e-5, err_msg=name)
        assert value.std() > 0.01, f"{name} would hide an error"


@pytest.mark.parametrize("name", CASES)
def test_a_model_gives_the_frameworks_answers(unpacked: Path, name: str) -> None:
    case = json.loads((unpacked / name / "case.json").read_text())
    checkpoint = open_checkpoint(str(unpacked / name))
    assert checkpoint.source.format == case["format"]
    inputs, outputs = inputs_and_outputs(unpacked / name)
    head = head_for(case["task"], None)
    model = build_reference(build_model(head, checkpoint), head, checkpoint.architecture)
    with torch.no_grad():
        answer = model(**{key: torch.from_numpy(value) for key, value in inputs.items()})
    check({key: answer[key].numpy() for key in outputs}, outputs)


def test_an_artifact_gives_the_frameworks_answers(unpacked: Path, tmp_path: Path) -> None:
    folder = unpacked / "msgpack-pretraining"
    manifest = export(folder, tmp_path / "out")
    assert manifest.source["format"] == "flax_model.msgpack"
    inputs, outputs = inputs_and_outputs(folder)
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        check(rt.run(**inputs), outputs)


def test_googles_folder_is_a_complete_checkpoint(
    case: Callable[[str], Path],
    unpacked: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has bert_config.json, vocab.txt and the weights only; the task names the head."""
    folder = case("tf1-pretraining")
    kept = {"bert_config.json", "vocab.txt"}
    for path in folder.iterdir():
        if path.name not in kept and not path.name.startswith("bert_model.ckpt"):
            path.unlink()
    with caplog.at_level(logging.WARNING):
        export(folder, tmp_path / "out", task="fill-mask")
    inputs, outputs = inputs_and_outputs(unpacked / "tf1-pretraining")
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        assert rt("paris [MASK] france!")[0]["sequence"].startswith("paris ")
        check(rt.run(**inputs), {"logits": outputs["prediction_logits"]})
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-12
    assert config["hidden_act"] == "gelu"


def test_googles_config_takes_its_labels_from_the_weights(unpacked: Path) -> None:
    checkpoint = open_checkpoint(str(unpacked / "tf1-classifier"))
    assert checkpoint.config["num_labels"] == 3


def test_safetensors_are_preferred_to_other_frameworks_files(case: Callable[[str], Path]) -> None:
    folder = case("tf-safetensors-question-answering")
    for name in ("tf_model.h5", "flax_model.msgpack", "bert_model.ckpt.index"):
        (folder / name).write_bytes(b"never read")
    assert open_checkpoint(str(folder)).source.format == "safetensors of TensorFlow"


def test_the_newest_of_several_checkpoints_is_read(case: Callable[[str], Path]) -> None:
    folder = case("tf1-squad")
    assert open_checkpoint(str(folder)).source.files[0] == "model.ckpt-11.index"
    record = (folder / "checkpoint").read_text()
    (folder / "checkpoint").write_text(record.replace("model.ckpt-11", "model.ckpt-9", 1))
    assert open_checkpoint(str(folder)).source.files[0] == "model.ckpt-9.index"
    for text in ("", record.replace("ckpt-11", "ckpt-12", 1)):
        (folder / "checkpoint").write_text(text)
        with pytest.raises(bertrt.BertrtError, match=r"ckpt-11\.index, model\.ckpt-9\.index"):
            open_checkpoint(str(folder))


def test_weights_keep_their_dtype_and_are_contiguous(unpacked: Path) -> None:
    weights = open_checkpoint(str(unpacked / "msgpack-bfloat16-multiple-choice")).weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(tensor.is_contiguous() for tensor in weights.values())
