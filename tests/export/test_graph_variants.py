"""A graph for AVX-512 beside the common graph: shared weights, checked, chosen by processor."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import bertrt
from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import Manifest, Variant
from bertrt.errors import ArtifactError, ExportError, ParityError
from bertrt.export import export, graph_variants
from bertrt.export.fusion.convolutions import make_convolutions
from bertrt.scheduling.cpu_info import CpuInfo

VARIANT = Variant("avx512f", "model_avx512.onnx", {"Conv": 5})


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("BertForTokenClassification", num_hidden_layers=1)


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variants") / "artifact"
    assert export(checkpoint, path).graph.variants == (VARIANT,)
    return path


def external_weights(graph: Path) -> dict[str, dict[str, str]]:
    """Return the position of each external weight of a graph."""
    model = onnx.load(graph, load_external_data=False)
    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.external_data
    }


def test_weights_are_stored_once(artifact: Path) -> None:
    products = external_weights(artifact / "model.onnx")
    convolutions = external_weights(artifact / VARIANT.file)
    assert convolutions == products
    assert "bert.encoder.layer.0.output.dense.weight" in products
    assert {position["location"] for position in products.values()} == {"model.onnx_data"}
    weights = sum(int(position["length"]) for position in products.values())
    assert weights <= (artifact / "model.onnx_data").stat().st_size < 1.05 * weights + 2**16
    model = onnx.load(artifact / VARIANT.file)
    assert [node.op_type for node in model.graph.node].count("Conv") == 5
    assert not [node for node in model.graph.node if node.op_type == "FusedMatMul"]
    onnx.checker.check_model(str(artifact / VARIANT.file))


@pytest.mark.parametrize(
    ("sets", "file"),
    [((), "model.onnx"), (("avx2",), "model.onnx"), (("avx2", "avx512f"), VARIANT.file)],
)
def test_the_processor_decides(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, sets: tuple[str, ...], file: str
) -> None:
    assert Artifact.open(artifact).graph_path(sets) == artifact / file
    processor = CpuInfo("another", sets, x86=True)
    monkeypatch.setattr("bertrt.scheduling.session_pool.read_cpu_info", lambda: processor)
    opened = []
    original = bertrt.engines.select.OrtCpuSession
    monkeypatch.setattr(
        "bertrt.engines.select.OrtCpuSession",
        lambda graph, *rest: opened.append(graph) or original(graph, *rest),
    )
    with bertrt.load(artifact, threads=2) as rt:
        assert rt.info["graph"] == file
        rt(["a text", "another text"] * 5)  # by workers, which have another session
    assert set(opened) == {artifact / file}
    assert len(opened) > 1


def test_same_answers(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(5, 50, (3, 33))
    mask = (np.arange(33) < np.array([[33], [20], [1]])).astype(np.int64)
    answers = []
    for sets in ((), ("avx512f",)):
        processor = CpuInfo("another", sets, x86=True)
        monkeypatch.setattr(
            "bertrt.scheduling.session_pool.read_cpu_info", lambda one=processor: one
        )
        with bertrt.load(artifact, threads=1) as rt:
            answers.append(rt.run(input_ids=ids, attention_mask=mask)["logits"][mask == 1])
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{"device": "any"}, {"dtype": "int8", "min_agreement": 0.1}])
def test_other_targets_have_no_variants(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    manifest = export(checkpoint, tmp_path / "out", **options)
    assert manifest.graph.variants == ()
    assert list(tmp_path.glob("out/*.onnx")) == [tmp_path / "out/model.onnx"]
    assert Artifact.open(tmp_path / "out").graph_path(["avx512f"]).name == "model.onnx"


def test_a_wrong_variant_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parity check runs both graphs, and the variant's operators are counted."""

    def wrong(model: ir.Model) -> int:
        count = make_convolutions(model)
        bias = model.graph.initializers["classifier.bias"]
        bias.const_value = ir.tensor(bias.const_value.numpy() + 1e-3)
        return count

    monkeypatch.setattr(graph_variants, "make_convolutions", wrong)
    with pytest.raises(ParityError, match="logits"):
        export(checkpoint, tmp_path / "out")
    monkeypatch.setattr(graph_variants, "make_convolutions", lambda model: 0)
    with pytest.raises(ExportError, match="0 convolutions for 5 products"):
        export(checkpoint, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_variants_file_is_checked(artifact: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    (copy / VARIANT.file).write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model_avx512\.onnx is not the file"):
        Artifact.open(copy)
    manifest = Artifact.open(artifact).manifest
    files = tuple(entry for entry in manifest.files if entry.name != VARIANT.file)
    unlisted = dataclasses.replace(manifest, files=files)
    (copy / "bertrt.json").write_text(unlisted.to_json())
    with pytest.raises(ArtifactError, match=r"does not list model_avx512\.onnx"):
        Artifact.open(copy)


def test_manifests_with_and_without_variants(artifact: Path) -> None:
    manifest = Artifact.open(artifact).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    text = manifest.to_json()
    start = text.index('    "variants"')
    before = text[:start].rstrip().removesuffix(",") + text[text.index("\n  },", start) :]
    assert Manifest.from_json(before).graph == dataclasses.replace(manifest.graph, variants=())
