"""The commands: run as modules from the checkout, or as files from anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_comparison_on_a_gpu_needs_no_package_of_the_server() -> None:
    """`benchmarks.gpu_visit` starts it where only PyTorch, transformers and ONNX are installed."""
    absent = ("httptools", "orjson", "uvicorn", "uvloop", "matplotlib", "openvino")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from benchmarks.run import main; main(['--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["run", "report"])
@pytest.mark.parametrize("as_module", [True, False])
def test_the_commands_start(name: str, as_module: bool, tmp_path: Path) -> None:
    if as_module:
        command, folder = ["-m", f"benchmarks.{name}"], ROOT
    else:
        command, folder = [str(ROOT / "benchmarks" / f"{name}.py")], tmp_path
    done = subprocess.run(
        [sys.executable, *command, "--help"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name}.py ")
