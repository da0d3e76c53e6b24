"""The manifest: what it records of an export, and which texts are not one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bertrt.artifact.manifest import SCHEMA, Manifest
from bertrt.errors import ArtifactError


@pytest.fixture(scope="module")
def artifact(make_artifact: Callable[..., Path]) -> Path:
    return make_artifact("BertForMaskedLM")


def test_a_manifest_is_read_as_it_was_written(artifact: Path) -> None:
    text = (artifact / "bertrt.json").read_text(encoding="utf-8")
    manifest = Manifest.from_json(text)
    assert manifest.to_json() == text
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_manifest_describes_the_artifact(artifact: Path) -> None:
    manifest = json.loads((artifact / "bertrt.json").read_text())
    assert manifest["schema"] == SCHEMA == 5
    assert manifest["task"] == "fill-mask"
    assert manifest["target"] == {"device": "cpu", "engine": "ort", "dtype": "float32"}
    assert len(manifest["source"]["sha256"]) == 64
    assert {"torch", "transformers", "onnxruntime", "bertrt"} <= set(manifest["versions"])
    assert {entry["name"] for entry in manifest["files"]} == {
        path.name for path in artifact.iterdir() if path.name != "bertrt.json"
    }
    assert {"config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"} <= {
        entry["name"] for entry in manifest["files"]
    }
    assert str(Path.home()) not in json.dumps(manifest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not JSON", "bertrt.json is damaged"),
        ("null", "bertrt.json is damaged"),
        ('{"schema": null}', "schema is None"),
        ('{"schema": 5}', "bertrt.json is damaged"),
        ('{"schema": 1}', "has schema 1, and this bertrt reads schema 5: export the checkpoint"),
        ('{"schema": 6}', "has schema 6, .*: upgrade bertrt, or export the checkpoint again"),
    ],
)
def test_texts_that_are_no_manifest_are_refused(text: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(text)


def test_an_unknown_field_is_refused(artifact: Path) -> None:
    data = json.loads((artifact / "bertrt.json").read_text())
    for fields in (data, data["graph"], data["tokenizer"], data["files"][0]):
        fields["surprise"] = 1
        with pytest.raises(ArtifactError, match=r"bertrt\.json is damaged .*surprise"):
            Manifest.from_json(json.dumps(data))
        del fields["surprise"]
    Manifest.from_json(json.dumps(data))
