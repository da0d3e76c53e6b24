"""Hidden instruction sets: what rows say, and what libraries then find."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness.machine import describe_machine
from benchmarks.instructions.hidden import start_hidden, without_hidden

CPUINFO = "model name\t: A\nflags\t\t: fpu avx2 avx512f avx512_vnni avx_vnni amx_int8\n\n"
# NumPy asks CPUID when it is imported, as ONNX Runtime, PyTorch and OpenVINO do; bertrt and some
# libraries read the file.
PROBE = """
import numpy
from bertrt.scheduling.cpu_info import read_cpu_info
print(numpy._core._multiarray_umath.__cpu_features__["AVX512F"], *read_cpu_info().sets)
"""


def can_hide() -> bool:
    file = Path("/proc/cpuinfo")
    flags = file.read_text().split() if file.exists() else []
    return {"cpuid_fault", "avx512f"} <= set(flags) and shutil.which("cc") is not None


def test_the_flags_of_every_core_lose_what_is_hidden():
    text, hidden = without_hidden(CPUINFO * 2)
    assert text == "model name\t: A\nflags\t\t: fpu avx2\n\n" * 2
    assert hidden == ["avx512f", "avx512_vnni", "avx_vnni", "amx_int8"]


def test_rows_name_what_was_hidden(monkeypatch):
    assert "hidden" not in describe_machine()
    monkeypatch.setenv("BENCHMARK_HIDDEN", "avx512f amx_int8")
    assert describe_machine()["hidden"] == ["avx512f", "amx_int8"]


def test_a_processor_that_cannot_trap_cpuid_is_refused(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO)
    with pytest.raises(ValueError, match="cannot hide instruction sets"):
        start_hidden(tmp_path, file)
    with pytest.raises(ValueError, match="cannot hide instruction sets"):
        start_hidden(tmp_path, tmp_path / "none")


@pytest.mark.skipif(not can_hide(), reason="needs an Intel processor with AVX-512, and a compiler")
def test_libraries_find_no_hidden_set_and_children_of_threads_neither(tmp_path):
    program = f"""
import subprocess, sys, threading
from pathlib import Path
from benchmarks.instructions.hidden import hidden_sets, start_hidden
start_hidden(Path(sys.argv[1]))
assert "avx512f" in hidden_sets()
{PROBE}
child = lambda: subprocess.run([sys.executable, "-c", {PROBE!r}], check=True)
child()
thread = threading.Thread(target=child)
thread.start()
thread.join()
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-u", "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["False avx2"] * 3


@pytest.mark.skipif(not can_hide(), reason="needs an Intel processor with AVX-512, and a compiler")
def test_a_real_fault_still_ends_the_process(tmp_path):
    program = """
import ctypes, sys
from pathlib import Path
from benchmarks.instructions.hidden import start_hidden
start_hidden(Path(sys.argv[1]))
ctypes.string_at(8)
"""
    crashed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert crashed.returncode == -11
