"""Whole exports for a GPU, on a machine without one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bertrt.arrays.inputs import complete_inputs
from bertrt.artifact.directory import Artifact
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions
from bertrt.errors import ExportError, ParityError
from bertrt.export import export
from bertrt.export.parity.reference_session import ReferenceSession
from bertrt.heads import HEADS
from bertrt.kernels.ops.operator import DOMAIN, VERSION
from bertrt.tokenizer import Encoding, Tokenizer

HALF_FIELDS = {
    "name",
    "absolute_error",
    "eager_error",
    "bound",
    "relative_error",
    "argmax_agreement",
    "cosine",
}


@pytest.mark.parametrize(
    ("engine", "dtype", "domain"),
    [
        (None, None, DOMAIN),
        ("triton", "bfloat16", DOMAIN),
        ("triton", "float32", DOMAIN),
        ("ort", None, "com.microsoft"),
    ],
)
def test_artifact(
    make_artifact: Callable[..., Path], engine: str | None, dtype: str | None, domain: str
) -> None:
    path = make_artifact(
        "BertForMaskedLM", device="cuda", engine=engine, dtype=dtype, num_hidden_layers=1
    )
    manifest = Artifact.open(path).manifest
    kind = dtype or "float16"
    assert manifest.target == {"device": "cuda", "engine": engine or "triton", "dtype": kind}
    model = onnx.load(path / "model.onnx")
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", domain}
    assert {opset.domain for opset in model.opset_import} == {"", domain}
    assert [spec.dtype for spec in manifest.graph.outputs] == ["float32"]
    assert manifest.parity["outputs"][0]["absolute_error"] < 1e-4
    if domain == DOMAIN:
        versions = {opset.domain: opset.version for opset in model.opset_import}
        assert versions[DOMAIN] == VERSION
        assert manifest.graph.least_onnxruntime == ""
        assert manifest.graph.least == {"torch": "2.8", "triton": "3.4"}
        assert [spec.name for spec in manifest.graph.inputs if spec.optional] == ["masked_only"]
    else:
        assert manifest.graph.least_onnxruntime
        assert len(manifest.graph.inputs) == 3
    half = manifest.parity.get("half")
    assert (half is None) == (kind == "float32")
    if half is not None:
        assert half["dtype"] == kind
        assert set(half["outputs"][0]) == HALF_FIELDS
        assert all(output["absolute_error"] <= output["bound"] for output in half["outputs"])
    counted = {name: n for name, n in manifest.graph.fused.items() if name != "PackedQKV"}
    operators = [node.op_type for node in model.graph.node]
    for name, number in counted.items():
        if name != "Cast" or domain == DOMAIN:
            assert operators.count(name) == number


def test_float16_has_half_the_size(make_artifact: Callable[..., Path]) -> None:
    sizes = {}
    for dtype in ("float32", "float16"):
        changes = {"device": "cuda", "dtype": dtype, "num_hidden_layers": 1}
        path = make_artifact("BertForMaskedLM", **changes)
        model = onnx.load(path / "model.onnx")
        sizes[dtype] = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    assert sizes["float16"] < 0.55 * sizes["float32"]


def test_reproducible_and_complete_or_not_at_all(
    make_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertrt.export import save_graph
    from bertrt.export.parity import half

    checkpoint = make_checkpoint("BertForSequenceClassification", num_hidden_layers=1)
    for name in ("a", "b"):
        if name == "b":  # the answers are the same with the weights beside the graph
            monkeypatch.setattr(save_graph, "_LARGEST_INLINE", 1000)
        export(checkpoint, tmp_path / name, device="cuda")
    parity = [
        json.loads((tmp_path / name / "bertrt.json").read_text())["parity"] for name in ("a", "b")
    ]
    assert parity[0] == parity[1]
    assert (tmp_path / "b" / "model.onnx_data").stat().st_size > 1000

    monkeypatch.setattr(half, "_RATIO", -1.0)
    with pytest.raises(ParityError, match="logits in float16"):
        export(checkpoint, tmp_path / "c", device="cuda")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu", "engine": "triton"}, "runs graphs for the device 'cuda'"),
        ({"device": "cuda", "dtype": "int8"}, "int8 graphs are made for the device 'any' or 'cpu'"),
        ({"device": "cuda", "min_cosine": 0.9}, "min_cosine is 0.9, which is for int8 only"),
    ],
)
def test_invalid_options_are_refused_before_any_work(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        export("no/such/checkpoint", tmp_path / "out", **options)


def test_an_activation_that_only_one_engine_has(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint("BertModel", num_hidden_layers=1, hidden_act="quick_gelu")
    with pytest.raises(ExportError, match=r"after .*intermediate.dense .* --engine ort"):
        export(checkpoint, tmp_path / "out", device="cuda")
    export(checkpoint, tmp_path / "out", device="cuda", engine="ort")


class Graph:
    """Runs a GPU's graph on the CPU for a head, as the runtime's model does."""

    def __init__(self, path: Path) -> None:
        self.artifact = Artifact.open(path)
        manifest = self.artifact.manifest
        text = (path / "tokenizer.json").read_text(encoding="utf-8")
        self.tokenizer = Tokenizer(text, manifest.tokenizer)
        graph = self.artifact.graph_path()
        self._session: Any
        if manifest.target["engine"] == "ort":
            self._session = OrtCpuSession(graph, OrtOptions(level="all", threads=1))
        else:
            self._session = ReferenceSession(graph)
        self.lengths: list[int] = []

    def run(self, **arrays: Any) -> dict[str, np.ndarray]:
        self.lengths.append(arrays["input_ids"].shape[1])
        manifest = self.artifact.manifest
        inputs = complete_inputs(arrays, manifest.graph.inputs, self.artifact.config)
        outputs: dict[str, np.ndarray] = self._session.run(inputs)
        return outputs

    def rows(self, encodings: list[Encoding], **_: Any) -> Iterator[Any]:
        raise AssertionError("generation runs the graph itself")


@pytest.mark.parametrize("engine", ["triton", "ort"])
def test_a_decoder_without_a_cache_generates_the_same(
    make_artifact: Callable[..., Path], load_artifact: Callable[..., Any], engine: str
) -> None:
    """Each step reads the whole text again; the cpu's graph has a cache and gives the same."""
    path = make_artifact("BertLMHeadModel", device="cuda", engine=engine, dtype="float32")
    model = Graph(path)
    names = [spec.name for spec in model.artifact.manifest.graph.inputs]
    assert names == ["input_ids", "attention_mask", "token_type_ids"]
    head = HEADS["text-generation"](model.tokenizer, model.artifact.config)
    prompts = ["the cat sat on", "plants create", "oxygen sugar"]
    options = head.parse_options({"do_sample": False, "max_new_tokens": 6})
    parts, _ = head.read_inputs(prompts)
    answers = head.answer(parts, model, options)
    theirs = load_artifact("BertLMHeadModel")(prompts, do_sample=False, max_new_tokens=6)
    assert answers == theirs
    steps = np.diff(model.lengths)
    assert 1 in steps  # each input is longer by the new token, not the new token alone
    assert min(model.lengths) > 1
