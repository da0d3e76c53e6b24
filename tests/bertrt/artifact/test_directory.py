"""The artifact's directory: damaged, foreign and newer ones are refused, with one clear error."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt.artifact.directory import Artifact, sha256_of
from bertrt.errors import ArtifactError


@pytest.fixture
def artifact(make_artifact: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy of a valid artifact, for the test to damage."""
    return Path(shutil.copytree(make_artifact("BertForMaskedLM"), tmp_path / "artifact"))


def edit_manifest(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((path / "bertrt.json").read_text())
    change(manifest)
    (path / "bertrt.json").write_text(json.dumps(manifest))


def test_the_graph_names_no_path_of_the_exporting_machine(artifact: Path) -> None:
    content = (artifact / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[3]).encode() not in content


def remove(name: str) -> Callable[[Path], Any]:
    return lambda path: (path / name).unlink()


def append(name: str) -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes() + b"\n")


def flip(name: str) -> Callable[[Path], Any]:
    def change(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(bytes(data))

    return change


def truncate(name: str) -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:100])


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    return lambda path: edit_manifest(path, change)


def replace_manifest(content: str) -> Callable[[Path], Any]:
    return lambda path: (path / "bertrt.json").write_text(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a directory"),
        (remove("bertrt.json"), "has no bertrt.json: make an artifact"),
        (remove("model.onnx"), "model.onnx is missing"),
        (remove("tokenizer.json"), "tokenizer.json is missing"),
        (remove("config.json"), "config.json is missing"),
        (remove("vocab.txt"), "vocab.txt is missing"),
        (flip("model.onnx"), "model.onnx is not the file .* hash differs"),
        (flip("tokenizer.json"), "tokenizer.json is not the file"),
        (truncate("model.onnx"), "100 bytes, not"),
        (append("config.json"), "config.json is not the file"),
        (replace_manifest(""), "bertrt.json is damaged"),
        (replace_manifest("[]"), "bertrt.json is damaged"),
        (replace_manifest("{}"), "bertrt.json is damaged"),
        (replace_manifest('{"schema": 1'), "bertrt.json is damaged"),
        (replace_manifest('{"schema": "1"}'), "bertrt.json is damaged"),
        (
            replace_manifest('{"schema": 6}'),
            "schema 6, and this bertrt reads schema 5: upgrade",
        ),
        (
            replace_manifest('{"schema": 1}'),
            "schema 1, and this bertrt reads schema 5: export the checkpoint",
        ),
        (lambda path: (path / "bertrt.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (edit(lambda m: m.pop("graph")), "damaged"),
        (edit(lambda m: m["graph"].pop("file")), "damaged"),
        (edit(lambda m: m["graph"].update(extra=1)), "damaged"),
        (edit(lambda m: m.update(graph=3)), "damaged"),
        (edit(lambda m: m.update(files=[])), "does not list model.onnx"),
        (edit(lambda m: m["files"][0].update(name="../x")), "outside its directory"),
        (edit(lambda m: m["files"][0].update(name="/etc/passwd")), "outside its directory"),
        (edit(lambda m: m["files"][0].update(name="..")), "outside its directory"),
        (edit(lambda m: m["files"][0].update(name="onnx/../../x")), "outside its directory"),
        (edit(lambda m: m["files"][0].update(name="onnx//x")), "outside its directory"),
        (edit(lambda m: m["files"][0].update(name="")), "outside its directory"),
        (edit(lambda m: m["target"].update(device="tpu")), "device 'tpu'"),
        (edit(lambda m: m["target"].pop("engine")), "engine ''"),
        (
            edit(lambda m: m["tokenizer"].update(golden=[["the cat", [1, 2, 3]]])),
            "encodes 'the cat' differently",
        ),
    ],
)
def test_damaged_artifacts_are_refused(
    artifact: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(artifact)
    with pytest.raises(ArtifactError, match=message) as caught:
        bertrt.load(artifact)
    assert "\n" not in str(caught.value)
    if not message.startswith(("device", "engine", "encodes")):
        assert str(artifact) in str(caught.value)


def test_large_files_are_hashed_before_the_first_answer(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertrt.artifact.directory._LARGE", 1000)
    flip("model.onnx")(artifact)
    with pytest.raises(ArtifactError, match="hash differs"):
        Artifact.open(artifact)
    with bertrt.load(artifact) as rt:
        for _ in range(2):
            with pytest.raises(ArtifactError, match="hash differs"):
                rt("the [MASK] sat")


def test_the_size_of_a_large_file_is_checked_at_once(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertrt.artifact.directory._LARGE", 1000)
    append("model.onnx")(artifact)
    with pytest.raises(ArtifactError, match="bytes, not"):
        bertrt.load(artifact)


def test_a_large_file_is_hashed_once(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertrt.artifact.directory._LARGE", 1000)
    hashed: list[str] = []
    monkeypatch.setattr(
        "bertrt.artifact.directory.sha256_of",
        lambda path: hashed.append(path.name) or sha256_of(path),
    )
    with bertrt.load(artifact, threads=2, max_batch_tokens=20) as rt:
        assert "model.onnx" not in hashed
        answers = [rt("the [MASK] sat") for _ in range(3)]
        rt(["the [MASK] sat"] * 20)  # in a second session
        copy = pickle.loads(pickle.dumps(rt))
    assert copy("the [MASK] sat") == answers[0]
    assert hashed.count("model.onnx") == 1


def test_a_relative_path_is_resolved_when_the_artifact_is_loaded(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process may change its working directory before the first call."""
    monkeypatch.setattr("bertrt.artifact.directory._LARGE", 1000)
    monkeypatch.chdir(artifact.parent)
    with bertrt.load(artifact.name) as rt:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert rt("the [MASK] sat")


def test_a_checkpoint_is_refused(make_checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(ArtifactError, match=r"has no bertrt\.json"):
        bertrt.load(make_checkpoint("BertForMaskedLM"))


def test_a_hub_id_is_refused() -> None:
    with pytest.raises(ArtifactError, match="not a directory"):
        bertrt.load("google-bert/bert-base-uncased")


def test_a_graph_that_is_not_onnx_is_refused(artifact: Path) -> None:
    """The hash is right, so only ONNX Runtime finds out."""
    import hashlib

    content = b"not a graph"
    (artifact / "model.onnx").write_bytes(content)

    def rehash(manifest: dict[str, Any]) -> None:
        manifest["graph"]["variants"] = []
        entry = next(file for file in manifest["files"] if file["name"] == "model.onnx")
        entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())

    edit_manifest(artifact, rehash)
    with pytest.raises(ArtifactError, match=r"cannot open model\.onnx"):
        bertrt.load(artifact).warmup()


def test_an_artifact_of_links_opens(artifact: Path, tmp_path: Path) -> None:
    """A hub's cache is made of links."""
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in artifact.iterdir():
        (linked / path.name).symlink_to(path)
    with bertrt.load(linked) as rt:
        assert rt("the [MASK] sat")
