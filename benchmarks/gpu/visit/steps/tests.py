"""The tests of the kernels and of the engine, on the GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.visit.visit import Visit

__all__ = ["pytest_arguments", "run"]

# Not __file__'s parents as they stand: `benchmarks` is imported through a link.
_ROOT = Path(__file__).resolve().parents[4]
_TESTS = ("tests/kernels/triton", "tests/kernels/engine", "tests/kernels/launch")
# It compiles for other GPUs, on the CPU.
_LEFT_OUT = "tests/kernels/triton/test_compile.py"
_DRY_TESTS = ("tests/kernels/triton/test_unit_rows.py",)
_MOST_PROCESSES = 10
_SECONDS_EACH = 60


def run(visit: Visit) -> None:
    """Run them, and exit with pytest's status."""
    command = [sys.executable, "-P", "-m", "pytest", *pytest_arguments(visit)]
    sys.exit(subprocess.run(command, cwd=_ROOT, check=False).returncode)


def pytest_arguments(visit: Visit) -> list[str]:
    """Return the arguments of pytest; its plugins are used where they are installed."""
    arguments = [*(_DRY_TESTS if visit.dry_run else _TESTS), "--ignore", _LEFT_OUT, "-q"]
    # Other versions of packages warn of other things.
    arguments += ["-o", "filterwarnings=", "-W", "ignore", "-p", "no:cacheprovider"]
    arguments += [f"--junitxml={visit.out / 'junit.xml'}"]
    if importlib.util.find_spec("xdist"):
        processes = 1 if visit.dry_run else min(_MOST_PROCESSES, os.cpu_count() or 1)
        arguments += ["-n", str(processes), "--dist", "load"]
    if importlib.util.find_spec("pytest_timeout"):
        arguments += ["--timeout", str(_SECONDS_EACH)]
    return arguments
