"""`bertrt inspect`: the manifest's contents, and an error for a damaged artifact."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import FileEntry
from bertrt.cli.format_manifest import format_details, format_summary

Command = Callable[..., Any]


@pytest.mark.parametrize("class_name", ["BertForMaskedLM", "BertLMHeadModel", "BertModel"])
def test_table(
    bertrt_command: Command, make_artifact: Callable[..., Path], class_name: str
) -> None:
    path = make_artifact(class_name)
    done = bertrt_command("inspect", path)
    assert (done.status, done.err) == (0, "")
    manifest = Artifact.open(path).manifest
    assert f"{manifest.task} ({class_name})" in done.out
    for entry in (*manifest.graph.inputs, *manifest.graph.outputs, *manifest.files):
        assert entry.name in done.out
    for name, count in manifest.graph.fused.items():
        assert f"{name} {count}" in done.out
    for variant in manifest.graph.variants:
        assert f"with {variant.instructions}" in done.out
        assert f"{variant.file}, Conv {variant.fused['Conv']}" in done.out
    for output in manifest.parity["outputs"]:
        assert f"{output['absolute_error']:.1e} (bound 1e-04)" in done.out
    assert f"at most {manifest.tokenizer.max_length} tokens" in done.out
    assert f"opset {manifest.graph.opset}" in done.out


def test_table_of_bfloat16(bertrt_command: Command, make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM", device="cuda", dtype="bfloat16", num_hidden_layers=1)
    done = bertrt_command("inspect", path)
    assert (done.status, done.err) == (0, "")
    assert "device cuda, engine triton, dtype bfloat16" in done.out
    assert "torch 2.8 and triton 3.4 or newer" in done.out
    assert "ONNX Runtime" not in done.out
    assert "before the weights were rounded to bfloat16" in done.out
    for output in Artifact.open(path).manifest.parity["half"]["outputs"]:
        assert f"{output['absolute_error']:.1e} (bound {output['bound']:.1e})" in done.out
        assert f"PyTorch's {output['eager_error']:.1e}" in done.out


def test_json_is_the_manifest(bertrt_command: Command, make_artifact: Callable[..., Path]) -> None:
    path = make_artifact("BertForMaskedLM")
    done = bertrt_command("inspect", path, "--json")
    assert (done.status, done.err) == (0, "")
    written = json.loads((path / "bertrt.json").read_text(encoding="utf-8"))
    assert json.loads(done.out) == {"directory": str(path), **written}


def test_a_damaged_artifact(
    bertrt_command: Command, make_artifact: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(make_artifact("BertForMaskedLM"), path)
    with (path / "model.onnx").open("r+b") as file:
        file.write(b"x")
    done = bertrt_command("inspect", path)
    assert (done.status, done.out) == (1, "")
    assert "model.onnx is not the file that was exported" in done.err


def test_external_data_hub_revisions_and_escapes(make_artifact: Callable[..., Path]) -> None:
    manifest = Artifact.open(make_artifact("BertForMaskedLM")).manifest
    big = dataclasses.replace(
        manifest,
        files=(
            FileEntry("model.onnx", 10**6, "0" * 64),
            FileEntry("model.onnx_data", 3 * 10**9, "1" * 64),
        ),
        source={**manifest.source, "model": "org/bert\x1b[2J", "revision": "abc123"},
        graph=dataclasses.replace(manifest.graph, fused={}),
    )
    for lines in (format_summary(Path("x"), big), format_details(Path("x"), big)):
        text = "\n".join(lines)
        assert "model.onnx, 3 GB, " in text
        assert "org/bert\\x1b[2J at abc123, safetensors" in text
        assert "fused" in text
        assert "nothing" in text
