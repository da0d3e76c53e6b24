"""`bertrt doctor`: its findings and problems, and that it does not import PyTorch."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bertrt.cli import diagnose
from bertrt.errors import DeviceError

Command = Callable[..., Any]


def test_healthy(bertrt_command: Command) -> None:
    done = bertrt_command("doctor")
    assert (done.status, done.err) == (0, "")
    names = [line.split("  ")[0] for line in done.out.splitlines()]
    assert names[:2] == ["bertrt", "python"]
    for name in ("providers", "threads", "threads reason", "telemetry off", "gpu", "for export"):
        assert name in names
    assert "CPUExecutionProvider" in done.out


def test_json(bertrt_command: Command) -> None:
    done = bertrt_command("doctor", "--json")
    assert done.status == 0
    document = json.loads(done.out)
    assert document["healthy"] is True
    assert document["problems"] == []
    assert document["threads"] >= 1
    assert bool(document["for_export"]["torch"]) == (find_spec("torch") is not None)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from bertrt.cli import main\n"
        "assert main(['doctor']) == 0\n"
        "assert not {'torch', 'transformers', 'onnx', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)


def test_no_onnxruntime(bertrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise DeviceError("ONNX Runtime cannot be imported: pip install 'bertrt[cpu]'")

    monkeypatch.setattr(diagnose, "onnxruntime", missing)
    monkeypatch.setattr(diagnose, "wheels", dict)
    done = bertrt_command("doctor")
    assert done.status == 1
    assert done.err == "bertrt: error: ONNX Runtime cannot be imported: pip install 'bertrt[cpu]'\n"
    rows = dict(line.split("  ", maxsplit=1) for line in done.out.splitlines())
    assert rows["wheels"].strip() == rows["providers"].strip() == "none"


def test_broken_packages(bertrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(get_available_providers=lambda: ["OtherProvider"])
    monkeypatch.setattr(diagnose, "onnxruntime", lambda: fake)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    done = bertrt_command("doctor", "--json")
    assert done.status == 1
    first, second = json.loads(done.out)["problems"]
    assert "pip install tokenizers" in first
    assert "no CPUExecutionProvider, only OtherProvider" in second
    assert done.err.count("\n") == 2


def test_telemetry(bertrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert json.loads(bertrt_command("doctor", "--json").out)["telemetry_off"] is False


def test_a_missing_package(bertrt_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "_EXPORT", ("no-such-package",))
    done = bertrt_command("doctor")
    assert done.status == 0
    assert "no-such-package not installed" in done.out


@pytest.mark.parametrize(
    ("devices", "smi", "providers", "expected"),
    [
        ((), None, [], "none"),
        ((), "/usr/bin/nvidia-smi", [], "is the GPU passed through?"),
        (("nvidiactl", "nvidia-uvm"), None, [], "none"),
        (("nvidia1", "nvidia0"), None, [], "nvidia0, nvidia1, not usable by this ONNX Runtime"),
        (("nvidia0",), None, ["CUDAExecutionProvider"], "nvidia0, usable"),
    ],
)
def test_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    devices: tuple[str, ...],
    smi: str | None,
    providers: list[str],
    expected: str,
) -> None:
    (tmp_path / "dev").mkdir()
    for name in devices:
        (tmp_path / "dev" / name).touch()
    monkeypatch.setattr(diagnose, "_TRITON", ("pytest",))
    monkeypatch.setattr(diagnose.shutil, "which", lambda name: smi)
    fake = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider", *providers])
    monkeypatch.setattr(diagnose, "onnxruntime", lambda: fake)
    findings, problems = diagnose.diagnose(tmp_path)
    assert problems == []
    assert expected in findings["gpu"]
    assert findings["gpu"].endswith("the Triton engine has its packages") == any(
        name[6:].isdecimal() for name in devices
    )
    assert findings["processor"]  # without /proc/cpuinfo too
    assert findings["instruction_sets"] == []


def test_gpu_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ("NVIDIA H200", "NVIDIA L4", "NVIDIA H200")
    (tmp_path / "dev").mkdir()
    for number, model in enumerate(models):
        (tmp_path / "dev" / f"nvidia{number}").touch()
        folder = tmp_path / f"proc/driver/nvidia/gpus/0000:{number}b:00.0"
        folder.mkdir(parents=True)
        text = f"Model: \t\t {model}\nIRQ:   \t\t 18\nGPU UUID: \t GPU-0\n"
        (folder / "information").write_text(text)
    monkeypatch.setattr(diagnose, "_TRITON", ("no-such-package", "pytest", "nor-this-one"))
    gpu = diagnose.diagnose(tmp_path)[0]["gpu"]
    assert "nvidia0, nvidia1, nvidia2 (2 x NVIDIA H200, NVIDIA L4), " in gpu
    assert gpu.endswith("the Triton engine needs no-such-package and nor-this-one")
