"""SPLADE folders in every spelling become artifacts, or are refused by one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.saved_task import saved_task
from bertrt.export.checkpoints.sentence_transformers import settings_files
from bertrt.export.checkpoints.splade import Splade, read_splade
from bertrt.export.sparse_model import SparseModel

OLD = "sentence_transformers.sparse_encoder.models."
NEW = "sentence_transformers.sparse_encoder.modules."
QUERY, DOCUMENT = "query_0_SparseStaticEmbedding", "document_0_MLMTransformer"
POOLING = "document_1_SpladePooling"


@pytest.fixture
def splade(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder as sentence-transformers 5.0 saved it."""
    folder = tmp_path / "splade"
    shutil.copytree(make_checkpoint("BertForMaskedLM"), folder)
    write_modules(folder, f"{OLD}MLMTransformer", f"{OLD}SpladePooling")
    write(folder / "1_SpladePooling/config.json", {"pooling_strategy": "sum"})
    return folder


@pytest.fixture
def routed(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with a Router, as sentence-transformers 5.0 saved it."""
    folder = tmp_path / "routed"
    checkpoint = make_checkpoint("BertForMaskedLM")
    write_modules(folder, f"{OLD}Router")
    shutil.copytree(checkpoint, folder / DOCUMENT)
    write(folder / POOLING / "config.json", {"activation_function": "log1p_relu"})
    write(folder / QUERY / "config.json", {"frozen": True})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, folder / QUERY)
    weights = {"weight": torch.linspace(0, 3, 219)}
    safetensors.torch.save_file(weights, folder / QUERY / "model.safetensors")
    write_router(folder)
    return folder


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_modules(folder: Path, *types: str) -> None:
    paths = ["", *(f"{i}_{name.rpartition('.')[2]}" for i, name in enumerate(types) if i)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": name}
        for i, (path, name) in enumerate(zip(paths, types, strict=True))
    ]
    write(folder / "modules.json", modules)


def write_router(folder: Path, **changes: Any) -> None:
    config = {
        "types": {
            QUERY: f"{OLD}SparseStaticEmbedding.SparseStaticEmbedding",
            DOCUMENT: f"{OLD}MLMTransformer.MLMTransformer",
            POOLING: f"{NEW}splade_pooling.SpladePooling",
        },
        "structure": {"query": [QUERY], "document": [DOCUMENT, POOLING]},
        "parameters": {"default_route": "document"},
    }
    write(folder / "router_config.json", {**config, **changes})


def refused(folder: Path, message: str, **options: Any) -> None:
    output = folder.parent / "out"
    with pytest.raises(ExportError, match=message) as caught:
        export(folder, output, **options)
    assert "\n" not in str(caught.value)
    assert not output.exists()


def test_what_a_folder_is(splade: Path, routed: Path, make_checkpoint: Callable[..., Path]) -> None:
    plain = make_checkpoint("BertForMaskedLM")
    assert [saved_task(folder, {}) for folder in (splade, routed, plain)] == [
        "sparse-embedding",
        "sparse-embedding",
        None,
    ]
    assert read_splade(plain) == Splade("max", "relu", None, "document")
    assert read_splade(splade) == Splade("sum", "relu", None, "document")
    found = read_splade(routed)
    assert (found.pooling, found.activation, found.default_kind) == (
        "max",
        "log1p_relu",
        "document",
    )
    assert found.queries is not None
    assert found.queries.path == QUERY
    assert open_checkpoint(str(routed)).transformer_folder == routed / DOCUMENT
    write_modules(splade, f"{NEW}Transformer", f"{NEW}splade_pooling.SpladePooling")
    assert read_splade(splade).pooling == "sum"


def test_routes(routed: Path) -> None:
    write_router(routed, parameters={"default_route": None, "allow_empty_key": True})
    assert read_splade(routed).default_kind == "query"  # the first
    write_router(routed, parameters={"default_route": None, "allow_empty_key": False})
    assert read_splade(routed).default_kind is None
    both = [DOCUMENT, POOLING]
    write_router(routed, structure={"query": both, "document": both})
    assert read_splade(routed) == Splade("max", "log1p_relu", None, "document")


def test_files_to_download() -> None:
    names = ["router_config.json", f"{QUERY}/config.json", f"{QUERY}/model.safetensors"]
    names += [f"{QUERY}/tokenizer.json", f"{POOLING}/config.json"]
    others = [f"{DOCUMENT}/config.json", "onnx/config.json", f"{QUERY}/README.md"]
    assert sorted(settings_files([*names, *others])) == sorted(names)


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
@pytest.mark.parametrize("size", [1, 5, 97, 200])
def test_pieces_change_nothing(
    graphs: Any, pooling: str, activation: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertrt.export.sparse_model._PIECE", size)
    language_model = graphs.model_of("BertForMaskedLM")
    model = SparseModel(language_model, pooling, activation)
    hidden = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1, 1, 0, 0, 0, 0, 0], [1, 0, 1, 1, 0, 0, 0]])
    with torch.inference_mode():
        weights = torch.relu(language_model.cls(hidden))
        for _ in range(1 if activation == "relu" else 2):
            weights = torch.log1p(weights)
        weights = weights * mask[:, :, None]
        whole = weights.amax(dim=1) if pooling == "max" else weights.sum(dim=1)
        torch.testing.assert_close(model.pool(hidden, mask), whole)
        assert (whole[0] - whole[1]).abs().max() > 0.1
        hidden[1, 2:] = 100.0
        torch.testing.assert_close(model.pool(hidden, mask)[1], whole[1])


def test_bad_folders(splade: Path) -> None:
    refused(splade, "Triton engine has no kernel", device="cuda", engine="triton")
    write(splade / "1_SpladePooling/config.json", {"pooling_strategy": "mean"})
    refused(
        splade, "pooling_strategy in 1_SpladePooling/config.json is 'mean': bertrt has max, sum"
    )
    write(splade / "1_SpladePooling/config.json", {"activation_function": "gelu"})
    refused(splade, "activation_function in .* is 'gelu': bertrt has relu, log1p_relu")
    write_modules(splade, f"{OLD}MLMTransformer", f"{OLD}SpladePooling", f"{OLD}Normalize")
    refused(splade, "modules MLMTransformer, SpladePooling, Normalize")
    write_modules(splade, f"{OLD}MLMTransformer", f"{OLD}SpladePooling")
    write(splade / "1_SpladePooling/config.json", {})
    weights = safetensors.torch.load_file(splade / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("cls.")}
    safetensors.torch.save_file(kept, splade / "model.safetensors", metadata={"format": "pt"})
    refused(splade, "lacks .* weights of BertForMaskedLM")


def test_bad_routes(routed: Path) -> None:
    routes = {"query": [QUERY], "image": [DOCUMENT, POOLING]}
    write_router(routed, structure=routes, parameters={})
    refused(routed, "has the routes query, image")
    write_router(routed, structure={"query": [POOLING], "document": [DOCUMENT, POOLING]})
    refused(routed, "the route query has the modules SpladePooling")
    write_router(routed, structure={"query": [QUERY], "document": [DOCUMENT]})
    refused(routed, "the route document has the modules MLMTransformer")
    write_router(routed, parameters={"route_mappings": {"('query', 'text')": "query"}})
    refused(routed, "router_config.json has route_mappings")
    write_router(routed, types={})
    refused(routed, "router_config.json cannot be read")


def test_bad_weights_of_queries(routed: Path) -> None:
    file = routed / QUERY / "model.safetensors"
    safetensors.torch.save_file({"weight": torch.ones(30)}, file)
    refused(routed, r"has weights of shape \[30\], and the model has 219 tokens")
    for weight in (float("nan"), float("inf"), -float("inf")):
        weights = torch.ones(219).index_fill(0, torch.tensor([7, 90]), weight)
        safetensors.torch.save_file({"weight": weights}, file)
        refused(routed, f"gives token 7 the weight {weight}, and weights are finite: correct it")
    safetensors.torch.save_file({"weight": torch.full((219,), 1e300, dtype=torch.float64)}, file)
    refused(routed, "gives token 0 the weight inf")
    safetensors.torch.save_file({"idf": torch.ones(219)}, file)
    refused(routed, "holds idf, and the weights of queries are called weight")
    file.unlink()
    refused(routed, "has no model.safetensors or pytorch_model.bin")
    write(routed / QUERY / "config.json", {"path": "somewhere/idf.json"})
    for weight in ("high", True, float("nan"), float("inf"), 10**400):
        write(routed / QUERY / "idf.json", {"cat": weight})
        refused(routed, f"gives 'cat' the weight {weight!r}")
    settings = json.loads((routed / QUERY / "tokenizer_config.json").read_text())
    for change in ({"do_lower_case": False}, {"unk_token": None}, {"unk_token": ""}):
        write(routed / QUERY / "tokenizer_config.json", {**settings, **change})
        refused(routed, "differs from that of the model's documents")


def test_weights_by_token(routed: Path, tmp_path: Path) -> None:
    write(routed / QUERY / "config.json", {"path": "idf.json"})
    write(routed / QUERY / "idf.json", {"cat": 2.5, "[UNK]": 1})
    manifest = export(routed, tmp_path / "out", device="any")
    assert manifest.sparse is not None
    assert manifest.sparse.query_weights == "query_weights.npy"
    weights = np.load(tmp_path / "out" / "query_weights.npy")
    assert (weights.dtype, weights.shape, np.count_nonzero(weights)) == (np.float32, (219,), 2)


def test_int8_is_judged_by_the_cosine(splade: Path, tmp_path: Path) -> None:
    manifest = export(splade, tmp_path / "out", dtype="int8")
    report = manifest.quantization
    assert report is not None
    assert (report["bound"], report["outputs"]) == ({"cosine": 0.995}, ["sparse_embedding"])
    assert 0.995 <= report["cosine"] < 1


def test_float16_for_onnx_runtime(splade: Path, tmp_path: Path) -> None:
    manifest = export(splade, tmp_path / "out", device="cuda", engine="ort")
    (output,) = manifest.parity["half"]["outputs"]
    assert output["name"] == "sparse_embedding"
    assert 0 < output["absolute_error"] <= output["bound"]
