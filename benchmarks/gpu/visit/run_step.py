"""Run one step: `python -P -m benchmarks.gpu.visit.run_step STEP OUT WORK DEADLINE [--dry-run]`."""

import importlib
import sys
from pathlib import Path

from benchmarks.gpu.visit.visit import Visit

__all__ = ["main"]


def main(name: str, out: str, work: str, deadline: str, *flags: str) -> None:
    """Run the step of this name."""
    visit = Visit(Path(out), Path(work), float(deadline), dry_run="--dry-run" in flags)
    prepare(visit)
    importlib.import_module(f"benchmarks.gpu.visit.steps.{name}").run(visit)


def prepare(visit: Visit) -> None:
    """Prepare this process for a dry run, if it is one."""
    if visit.dry_run:
        from benchmarks.gpu.visit import fake_cuda

        fake_cuda.install()


if __name__ == "__main__":
    main(*sys.argv[1:])
