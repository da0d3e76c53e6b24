"""Hidden instruction sets: what rows say, and what libraries then find."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders.requirements import bfloat16_missing, cpu_flags
from benchmarks.harness.machine import describe_machine
from benchmarks.instructions.hidden import start_hidden, visible

HIDDEN = {"BENCHMARK_INSTRUCTIONS": "avx2"}
SETS = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"]
# NumPy asks CPUID when it is imported, as ONNX Runtime, PyTorch and OpenVINO do.
PROBE = "import numpy; print(numpy._core._multiarray_umath.__cpu_features__['AVX512F'])"


def test_only_a_marked_process_sees_fewer_sets() -> None:
    assert visible(SETS, {}) == SETS
    assert visible(SETS, HIDDEN) == ["avx2"]


def test_rows_name_what_was_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"model name : A\nflags : fpu {' '.join(SETS)}\n")
    assert "hidden" not in describe_machine(tmp_path)
    monkeypatch.setenv("BENCHMARK_INSTRUCTIONS", "avx2")
    described = describe_machine(tmp_path)
    assert (described["flags"], described["hidden"]) == (["avx2"], SETS[1:])


def test_bfloat16_contenders_are_refused_when_its_instructions_are_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BENCHMARK_INSTRUCTIONS", "avx2")
    assert "no bfloat16" in str(bfloat16_missing())


def test_a_processor_that_cannot_trap_cpuid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hide instruction sets"):
        start_hidden(tmp_path, ["avx2"])


@pytest.mark.skipif(
    "cpuid_fault" not in cpu_flags() or not shutil.which("cc"),
    reason="needs an Intel processor whose CPUID can be trapped, and a C compiler",
)
def test_libraries_find_no_hidden_set_and_threads_and_children_neither(tmp_path: Path) -> None:
    program = f"""
import os, subprocess, sys, threading
from pathlib import Path
from benchmarks.contenders.requirements import cpu_flags
from benchmarks.instructions.hidden import start_hidden
start_hidden(Path(sys.argv[1]), cpu_flags())
{PROBE}
subprocess.run([sys.executable, "-c", {PROBE!r}], check=True)
thread = threading.Thread(target=lambda: subprocess.run(
    [sys.executable, "-c", {PROBE!r}], check=True))
thread.start(); thread.join()
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-u", "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False"] * 3
    crash = "import ctypes; ctypes.string_at(8)"
    preload = {**os.environ, "LD_PRELOAD": str(tmp_path / "hide_instructions.so")}
    crashed = subprocess.run([sys.executable, "-c", crash], env=preload, check=False)
    assert crashed.returncode == -11  # a real fault still ends the process
