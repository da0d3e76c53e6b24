"""`bertrt export`: the exporter's arguments, the report, and what remains after a failure."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt
from bertrt.artifact.directory import Artifact
from bertrt.errors import ParityError

Command = Callable[..., Any]


@pytest.fixture
def calls(
    make_artifact: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Replace the exporter by a function that records its calls, and return the list of calls."""
    manifest = Artifact.open(make_artifact("BertForMaskedLM")).manifest
    recorded: list[dict[str, Any]] = []

    def export(model: str, output: Path, **options: Any) -> Any:
        recorded.append({"model": model, "output": output, **options})
        return manifest

    monkeypatch.setattr("bertrt.export.exporter.export", export)
    return recorded


def test_every_argument_reaches_the_exporter(
    bertrt_command: Command, calls: list[dict[str, Any]]
) -> None:
    options = (
        "--task fill-mask --device any --engine ort --dtype int8 --calibration texts.txt "
        "--layout hub --opset 18 "
        "--min-cosine 0.9 --min-agreement 0.8 --revision v1 --offline --tokenizer org/words "
        "--allow-new-head --overwrite --output-hidden-states --output-attentions --with-tokenizer"
    )
    done = bertrt_command("export", "--model", "org/bert", "--output", "x/y", *options.split())
    assert (done.status, done.err) == (0, "")
    assert callable(calls[0].pop("progress"))
    assert calls == [
        {
            "model": "org/bert",
            "output": Path("x/y"),
            "task": "fill-mask",
            "device": "any",
            "engine": "ort",
            "dtype": "int8",
            "layout": "hub",
            "opset": 18,
            "calibration": Path("texts.txt"),
            "min_cosine": 0.9,
            "min_agreement": 0.8,
            "revision": "v1",
            "offline": True,
            "tokenizer": "org/words",
            "allow_new_head": True,
            "output_hidden_states": True,
            "with_tokenizer": True,
            "output_attentions": True,
            "overwrite": True,
        }
    ]


def test_defaults(bertrt_command: Command, calls: list[dict[str, Any]]) -> None:
    assert bertrt_command("export", "--model", "org/bert", "--output", "x").status == 0
    arguments = {name: calls[0][name] for name in calls[0] if name not in ("progress", "model")}
    assert arguments == {
        "output": Path("x"),
        "task": None,
        "device": None,
        "engine": None,
        "dtype": None,
        "layout": "artifact",
        "opset": None,
        "calibration": None,
        "min_cosine": None,
        "min_agreement": None,
        "revision": None,
        "offline": False,
        "tokenizer": None,
        "allow_new_head": False,
        "output_hidden_states": False,
        "with_tokenizer": False,
        "output_attentions": False,
        "overwrite": False,
    }


def test_json(bertrt_command: Command, calls: list[dict[str, Any]]) -> None:
    done = bertrt_command("export", "--model", "org/bert", "--output", "x", "--json")
    document = json.loads(done.out)
    assert (done.status, document["directory"], document["task"]) == (0, "x", "fill-mask")
    assert document["parity"]["outputs"][0]["name"] == "logits"


def test_a_whole_export(
    bertrt_command: Command,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = make_checkpoint("BertForMaskedLM")
    done = bertrt_command("export", "--model", checkpoint)
    assert (done.status, done.err) == (0, "")
    output = tmp_path / f"{checkpoint.name}-fill-mask"
    assert list(tmp_path.iterdir()) == [output]
    report = dict(line.split(maxsplit=1) for line in done.out.splitlines() if line[0] != " ")
    assert report["artifact"] == output.name
    assert report["task"] == "fill-mask (BertForMaskedLM)"
    assert report["parity"].split()[:3] == ["logits", "absolute", "error"]
    assert "(bound 1e-04)" in report["parity"]

    again = bertrt_command("export", "--model", checkpoint)
    assert (again.status, again.out) == (1, "")
    assert "--overwrite" in again.err

    with bertrt.load(output) as rt:
        assert rt("the [MASK] sat")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "summarization"], "unknown task 'summarization'"),
        (["--revision", "main"], "has no revision 'main'"),
        (["--model", "./nowhere"], "there is no folder './nowhere'"),
        (["--model", ""], "the model's name is empty"),
        (["--engine", "triton"], "the engine 'triton' runs graphs for the device 'cuda'"),
        (
            ["--device", "cuda", "--dtype", "int8"],
            "int8 graphs are made for the device 'any' or 'cpu'",
        ),
        (["--dtype", "bfloat16"], "bfloat16 graphs are made for the device 'cuda'"),
    ],
)
@pytest.mark.parametrize("output", [["--output", "out"], []])
def test_errors(
    bertrt_command: Command,
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
    output: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ["--model", make_checkpoint("BertForMaskedLM")]
    done = bertrt_command("export", *model, *flags, *output)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("bertrt: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_parity_error(bertrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*args: Any, **options: Any) -> Any:
        raise ParityError("logits is 0.5 off at shape 1x7")

    monkeypatch.setattr("bertrt.export.exporter.export", export)
    done = bertrt_command("export", "--model", "x", "--output", "y")
    assert done == (1, "", "bertrt: error: logits is 0.5 off at shape 1x7\n")


def test_without_the_export_extra(bertrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bertrt.export.exporter", None)
    done = bertrt_command("export", "--model", "demo")
    assert (done.status, done.out) == (1, "")
    assert "pip install 'bertrt[export]'" in done.err
    assert done.err.count("\n") == 1


STALLED = """
import sys, time, types
from bertrt.cli import main
from bertrt.export.atomic_dir import staged

def export(model, output, **options):
    with staged(output, overwrite=False):
        print("stalled", flush=True)
        time.sleep(600)

# Replaces the real module, which would import PyTorch first.
sys.modules["bertrt.export.exporter"] = types.SimpleNamespace(export=export)
sys.exit(main(["export", "--model", "demo", "--output", sys.argv[1]]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_remove_what_is_unfinished(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STALLED, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stalled\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == status
    assert list(tmp_path.iterdir()) == []


def test_the_sigterm_handler_is_restored(
    bertrt_command: Command, calls: list[dict[str, Any]]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert bertrt_command("export", "--model", "x", "--output", "y").status == 0
    assert signal.getsignal(signal.SIGTERM) is before
