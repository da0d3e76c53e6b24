"""The short comparison with other libraries: `benchmarks.run --device cuda --short`."""

import subprocess
import sys

from benchmarks.gpu.visit.visit import Visit

__all__ = ["run"]


def run(visit: Visit) -> None:
    """Add its rows to results.jsonl, and exit with its status."""
    command = [sys.executable, "-P", "-m", "benchmarks.run", "--device", "cuda", "--short"]
    command += ["--folder", str(visit.work / "benchmarks")]
    command += ["--results", str(visit.out / "results.jsonl")]
    if visit.dry_run:
        # Shows that the command is understood; the comparison itself needs a GPU.
        command.append("--help")
    sys.exit(subprocess.run(command, check=False).returncode)
