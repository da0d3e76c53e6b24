"""The command of a visit: which steps to run, for how long, and where to write."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.visit.driver import run_steps
from benchmarks.gpu.visit.plan import STEPS, choose
from benchmarks.gpu.visit.visit import Visit

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="gpu_visit.py",
        description="Measure bertrt on a GPU that is at hand for minutes, the most decisive first.",
        epilog=f"Steps, in order: {', '.join(step.name for step in STEPS)}.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--seconds", type=float, default=440, help="when to stop (default: 440)")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="run only these steps")
    parser.add_argument(
        "--dry-run", action="store_true", help="run on the CPU at tiny sizes; times mean nothing"
    )
    options = parser.parse_args(arguments)
    deadline = time.time() + options.seconds
    try:
        steps = choose(options.only)
    except ValueError as error:
        print(f"gpu_visit.py: {error}", file=sys.stderr)
        return 2
    # So that the end of a time limit also ends the steps and deletes the models.
    signal.signal(signal.SIGTERM, _exit)
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-visit-") as work:
        ended_well = run_steps(steps, Visit(out, Path(work), deadline, options.dry_run))
    print(f"rows.jsonl and log.txt are in {options.out}")
    return 0 if ended_well else 1


def _exit(signum: int, _: Any) -> None:
    sys.exit(128 + signum)
