"""The command line: light help, exit statuses, and errors in one line."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertrt.cli
from bertrt.errors import ArtifactError, DeviceError

COMMANDS = ("export", "run", "inspect", "bench", "doctor")
HEAVY = ("numpy", "tokenizers", "onnxruntime", "torch", "transformers", "onnx", "asyncio")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([c, "--help"] for c in COMMANDS)]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from bertrt.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as error:\n"
        "    assert error.code == 0\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(bertrt_command: Callable[..., Any], name: str) -> None:
    done = bertrt_command(name, "--help")
    assert done.status == 0
    assert f"usage: bertrt {name}" in done.out
    assert "--json" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["serving"], "invalid choice: 'serving'"),
        (["run"], "DIR"),
        (["run", "out", "--json=yes"], "--json"),
        (["run", "out", "--js"], "--js"),
        (["run", "out", "--threads", "0"], "'0' is neither 'auto'"),
        (["run", "out", "--threads", "²"], "'²' is neither 'auto'"),
        (["run", "out", "-o", "top_k"], "'top_k' is not NAME=VALUE"),
        (["run", "out", "-o", "=3"], "'=3' is not NAME=VALUE"),
        (["run", "out", "--json", "text", "--nope", "-5"], "arguments: --nope -5"),
        (["inspect", "out", "out"], "arguments: out"),
        (["export"], "--model"),
        (["export", "--model", "demo", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["bench", "out", "--shapes", "8"], "'8' is not a shape"),
        (["bench", "out", "--shapes", "1x8,0x1"], "'0x1' is not a shape"),
        (["bench", "out", "--shapes", "1x-1"], "'1x-1' is not a shape"),
        (["bench", "out", "--seconds", "nan"], "'nan' is not a number"),
        (["bench", "out", "--seconds", "0"], "'0' is not a number"),
        (["bench", "out", "--seconds", "soon"], "'soon' is not a number"),
    ],
)
def test_invalid_arguments(
    bertrt_command: Callable[..., Any], arguments: list[str], message: str
) -> None:
    done = bertrt_command(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("usage: bertrt")
    assert message in done.err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ArtifactError("no such thing"), 1, "bertrt: error: no such thing\n"),
        (DeviceError("two\nlines \x1b[31m"), 1, "bertrt: error: two lines \\x1b[31m\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "[Errno 13] Permission denied: 'x'\n"),
        (MemoryError(), 1, "bertrt: error: MemoryError\n"),
        (BrokenPipeError(), 141, ""),
        (KeyboardInterrupt(), 130, ""),
        (LookupError("odd"), 1, "this is a bug in bertrt, LookupError: odd "),
    ],
)
def test_errors_become_exit_statuses(
    bertrt_command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    line: str,
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.delenv("BERTRT_TRACEBACK", raising=False)
    monkeypatch.setattr(bertrt.cli.doctor, "run", fail)
    done = bertrt_command("doctor")
    assert (done.status, done.out) == (status, "")
    assert line in done.err
    assert done.err.count("\n") == (1 if line else 0)
    assert "Traceback" not in done.err


def test_a_traceback_on_request(
    bertrt_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTRT_TRACEBACK", "1")
    monkeypatch.setattr(bertrt.cli.doctor, "run", lambda arguments: 1 // 0)
    done = bertrt_command("doctor")
    assert done.status == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize("command", ["run", "inspect", "bench"])
def test_a_directory_that_is_not_an_artifact(
    bertrt_command: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        done = bertrt_command(command, directory)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("bertrt: error: ")
        assert done.err.count("\n") == 1
        assert "bertrt export" in done.err


def test_both_entry_points() -> None:
    script = Path(sys.executable).parent / "bertrt"
    for command in ([str(script)], [sys.executable, "-P", "-m", "bertrt"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"bertrt {bertrt.__version__}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written(make_artifact: Callable[..., Path]) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "bertrt",
        "inspect",
        str(make_artifact("BertForMaskedLM")),
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("bertrt: error: [Errno 28]")
    assert done.stderr.count("\n") == 1


def test_the_package_is_lazy_and_complete() -> None:
    code = (
        "import sys, bertrt\n"
        "assert 'numpy' not in sys.modules\n"
        "assert set(bertrt.__all__) <= set(dir(bertrt))\n"
        "from bertrt import *\n"
        "assert load is bertrt.load is bertrt.runtime.load\n"
        "assert Runtime is bertrt.Runtime\n"
        "assert not hasattr(bertrt, 'laod')\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=dict(os.environ))
