"""An output directory appears complete or not at all, and no other directory is changed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bertrt.errors import ExportError
from bertrt.export.atomic_dir import check_output, default_output, staged


def fill(stage: Path, text: str) -> None:
    (stage / "model.onnx").write_text(text)
    (stage / "bertrt.json").write_text("{}")


def fail_midway(output: Path) -> None:
    with staged(output, overwrite=True) as stage:
        fill(stage, "half")
        raise RuntimeError("midway")


def test_appears_complete(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    with staged(output, overwrite=False) as stage:
        fill(stage, "new")
        assert not output.exists()
    assert (output / "model.onnx").read_text() == "new"
    assert [path.name for path in output.parent.iterdir()] == ["out"]


def test_an_existing_empty_directory_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with staged(output, overwrite=False) as stage:
        fill(stage, "new")
    assert (output / "model.onnx").read_text() == "new"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_existing_artifact(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with staged(output, overwrite=False) as stage:
        fill(stage, "old")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(output)
    assert (output / "model.onnx").read_text() == "old"
    with staged(output, overwrite=True) as stage:
        fill(stage, "new")
    assert (output / "model.onnx").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_refuses_to_replace(tmp_path: Path) -> None:
    artifact, checkpoint, file = tmp_path / "artifact", tmp_path / "checkpoint", tmp_path / "file"
    artifact.mkdir()
    fill(artifact, "old")
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_text("precious")
    file.write_text("precious")
    with pytest.raises(ExportError, match="--overwrite"):
        check_output(artifact, overwrite=False)
    check_output(artifact, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(ExportError, match="not a bertrt artifact"):
            check_output(checkpoint, overwrite=overwrite)
        with pytest.raises(ExportError, match="is a file"):
            check_output(file, overwrite=overwrite)
        with pytest.raises(ExportError, match="cannot write"):
            check_output(file / "below", overwrite=overwrite)


def test_a_killed_export_leaves_no_output_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from bertrt.export.atomic_dir import staged\n"
        "with staged(pathlib.Path(sys.argv[1]), overwrite=False) as stage:\n"
        "    (stage / 'model.onnx').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    output = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", code, str(output)], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()
    running = tmp_path / f".out.partial-{os.getppid()}"  # another export that still runs
    running.mkdir()
    with staged(output, overwrite=False) as stage:
        fill(stage, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [running.name, "out"]


@pytest.mark.parametrize(
    ("model", "task", "folder"),
    [
        ("google-bert/bert-base-uncased", "fill-mask", "bert-base-uncased-fill-mask"),
        ("demo", "zero-shot-classification", "demo-zero-shot-classification"),
    ],
)
def test_default_output(model: str, task: str, folder: str) -> None:
    assert default_output(model, task) == Path(folder)
