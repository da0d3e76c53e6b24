"""The whole export: what it writes, and that a failed or killed export writes nothing."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

import bertrt
from bertrt.errors import ExportError, ParityError
from bertrt.export import export


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    """A checkpoint with one layer, since these tests export it many times."""
    return make_checkpoint("BertForMaskedLM", num_hidden_layers=1)


def test_progress_and_manifest(checkpoint: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None, str]] = []
    manifest = export(checkpoint, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [
        (0, 5, "1/5 read the checkpoint"),
        (1, 5, "2/5 trace"),
        (2, 5, "3/5 fuse"),
        (3, 5, "4/5 check parity"),
        (4, 5, "5/5 write"),
    ]
    assert manifest.task == "fill-mask"
    assert manifest.graph.fused["UnmaskedAttention"] == 1
    assert manifest.parity["outputs"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_any_has_standard_operators_only(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "out", device="any")
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    onnx.checker.check_model(model, full_check=True)


def test_export_is_reproducible(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export(checkpoint, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("device", ["any", "cpu"])
def test_weights_beside_the_graph(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """Large weights are in a file beside the graph, which is hashed, and found through links."""
    from bertrt.export import save_graph

    export(checkpoint, tmp_path / "one", device="any")
    monkeypatch.setattr(save_graph, "_LARGEST_INLINE", 1000)
    manifest = export(checkpoint, tmp_path / "two", device=device)
    assert "model.onnx_data" in {entry.name for entry in manifest.files}
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("one", "two")]
    assert sizes[1] < sizes[0] / 2
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in (tmp_path / "two").iterdir():
        (linked / path.name).symlink_to(path)
    hub = tmp_path / "hub"  # the hub's cache has links to files named by their hashes
    (hub / "blobs").mkdir(parents=True)
    (hub / "snapshots/main").mkdir(parents=True)
    for number, path in enumerate((tmp_path / "two").iterdir()):
        shutil.copy(path, hub / f"blobs/{number}")
        (hub / "snapshots/main" / path.name).symlink_to(f"../../blobs/{number}")
    answers = []
    for name in ("one", "two", "linked", "hub/snapshots/main"):
        with bertrt.load(tmp_path / name, threads=1) as rt:
            answers.append(rt("the [MASK] sat"))
    assert answers[1:] == answers[1:2] * 3
    assert device != "any" or answers[0] == answers[1]
    # The graphs of two devices may add in different orders.
    for answer, expected in zip(answers[0], answers[1], strict=True):
        assert answer["token"] == expected["token"]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-6)
    (tmp_path / "two" / "model.onnx_data").write_bytes(b"")
    with pytest.raises(bertrt.ArtifactError, match=r"model\.onnx_data is not the file"):
        bertrt.load(tmp_path / "two")


def test_a_model_with_large_weights(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """Its answers are correct at all kinds of lengths."""
    sizes = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 11_000}
    checkpoint = make_checkpoint("BertModel", scale=1.0, **sizes)
    manifest = export(checkpoint, tmp_path / "out")
    assert manifest.graph.fused["FusedMatMul"] == 10
    assert "1x24" in manifest.parity["shapes"]
    random = np.random.default_rng(0)
    model = transformers.BertModel.from_pretrained(checkpoint).eval()
    with bertrt.load(tmp_path / "out", threads=1) as rt:
        for batch, width, length in [
            (1, 8, 8),
            (1, 24, 20),
            (1, 25, 25),
            (2, 24, 24),
            (1, 60, 60),
        ]:
            ids = random.integers(5, model.config.vocab_size, (batch, width))
            mask = (np.arange(width) < length).astype(np.int64) * np.ones_like(ids)
            with torch.inference_mode():
                expected = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
            answer = rt.run(input_ids=ids, attention_mask=mask)["last_hidden_state"]
            theirs = expected.last_hidden_state.numpy()
            np.testing.assert_allclose(answer[:, :length], theirs[:, :length], rtol=0, atol=1e-4)


def test_overwrite(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, tmp_path / "out")
    with pytest.raises(ExportError, match="--overwrite"):
        export(checkpoint, tmp_path / "out")
    manifest = export(checkpoint, tmp_path / "out", device="any", overwrite=True)
    assert manifest.target["device"] == "any"


def test_an_output_that_is_the_checkpoint(checkpoint: Path) -> None:
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    with pytest.raises(ExportError, match="not a bertrt artifact"):
        export(checkpoint, checkpoint, overwrite=True)
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_parity_failure_writes_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parity check refuses a wrong fusion, and an existing artifact stays."""
    from bertrt.export import exporter

    export(checkpoint, tmp_path / "out")
    before = (tmp_path / "out" / "bertrt.json").read_bytes()
    original = exporter.fuse_for_cpu

    def wrong(model: Any, *args: Any, **options: Any) -> Any:
        import onnx_ir as ir

        bias = model.graph.initializers["cls.predictions.bias"]
        bias.const_value = ir.tensor(bias.const_value.numpy() + 1e-3)
        return original(model, *args, **options)

    monkeypatch.setattr(exporter, "fuse_for_cpu", wrong)
    with pytest.raises(ParityError, match="logits"):
        export(checkpoint, tmp_path / "out", overwrite=True)
    with pytest.raises(ParityError, match="logits"):
        export(checkpoint, tmp_path / "new")
    assert (tmp_path / "out" / "bertrt.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "summarization"}, "unknown task 'summarization'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"task": "text-classification"}, "classifier"),
        ({"model": "/no/such/folder"}, "no/such/folder"),
    ],
)
def test_refuses(checkpoint: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    arguments = {"model": checkpoint, "output": tmp_path / "out", **changes}
    with pytest.raises(ExportError, match=message) as caught:
        export(**arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from bertrt.export import export
import bertrt.export.exporter as exporter

def stall(*args, **kwargs):
    print("stalled", flush=True)
    time.sleep(600)

exporter.write_tokenizer = stall
export(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_export_writes_nothing(
    checkpoint: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(checkpoint), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stalled\n"
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert not output.exists()
    if signum == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []
    export(checkpoint, output)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with bertrt.load(output) as rt:
        assert rt("the [MASK] sat")


def test_zero_shot_uses_a_classifiers_graph(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    manifest = export(
        make_checkpoint("BertForSequenceClassification"),
        tmp_path / "out",
        task="zero-shot-classification",
    )
    assert manifest.task == "zero-shot-classification"
    assert manifest.architecture == "BertForSequenceClassification"
    with bertrt.load(tmp_path / "out") as rt:
        assert set(rt("the cat", candidate_labels=["a", "b"])) == {"sequence", "labels", "scores"}
