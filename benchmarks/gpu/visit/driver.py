"""Run the steps of a visit one after another, each in a process of its own and in its time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from benchmarks.gpu.visit.plan import Step
from benchmarks.gpu.visit.visit import NO_GPU, Visit, add_row

__all__ = ["run_steps", "step_command", "step_environment"]

# With less time than this left, no step is begun: importing PyTorch takes some of it.
_LEAST_SECONDS = 15.0
# The threads of a step that runs beside the others, so that these are not slowed down.
_THREADS_BESIDE = "4"


@dataclass(frozen=True)
class _Running:
    """A step's process, in a process group of its own."""

    step: Step
    process: subprocess.Popen[bytes]
    began: float
    deadline: float

    def wait(self) -> int | str:
        """Return the exit status, or "late" if the deadline came first."""
        try:
            return self.process.wait(max(0.0, self.deadline - time.time()))
        except subprocess.TimeoutExpired:
            return "late"

    def stop(self) -> None:
        """End what is left of it: also the processes that it started, which use the GPU too."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run_steps(steps: Sequence[Step], visit: Visit) -> bool:
    """Run these steps until the visit's deadline; return whether all of them ended well.

    A step that fails or is late ends alone, and what it had written is kept. Its output goes to
    log.txt, that of a step which runs beside the others to a file of its own.
    """
    ended_well = True
    beside = [_start(step, visit) for step in steps if step.beside]
    try:
        for step in steps:
            if step.beside:
                continue
            if visit.seconds_left() < _LEAST_SECONDS:
                add_row(visit.out, step=step.name, ended="skipped: no time was left")
                ended_well = False
                continue
            status = _finish(_start(step, visit), visit)
            ended_well &= status == 0
            if status == NO_GPU:
                return False
        for running in beside:
            ended_well &= _finish(running, visit) == 0
    finally:
        for running in beside:
            running.stop()
    return ended_well


def step_command(step: Step, visit: Visit) -> list[str]:
    """Return the command of a step's process; `visit` has the step's own deadline."""
    command = [sys.executable, "-P", "-m", "benchmarks.gpu.visit.run_step", step.name]
    command += [str(visit.out), str(visit.work), str(visit.deadline)]
    return [*command, "--dry-run"] if visit.dry_run else command


def step_environment(
    environment: Mapping[str, str], *, dry_run: bool, beside: bool
) -> dict[str, str]:
    """Return the environment variables of a step: no network, and the interpreter as asked."""
    return {
        **environment,
        # "0" also tells the tests, which turn the interpreter on where they see no GPU.
        "TRITON_INTERPRET": "1" if dry_run else "0",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **({"OMP_NUM_THREADS": _THREADS_BESIDE} if beside else {}),
    }


def _start(step: Step, visit: Visit) -> _Running:
    began = time.time()
    # A dry run shows that the steps work, however slow the machine is.
    deadline = visit.deadline if visit.dry_run else min(began + step.seconds, visit.deadline)
    log = visit.out / (f"{step.name}.txt" if step.beside else "log.txt")
    with log.open("a", encoding="utf-8") as file:
        print(f"\n=== {step.name}", file=file, flush=True)
        process = subprocess.Popen(
            step_command(step, replace(visit, deadline=deadline)),
            env=step_environment(os.environ, dry_run=visit.dry_run, beside=step.beside),
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    return _Running(step, process, began, deadline)


def _finish(running: _Running, visit: Visit) -> int | str:
    """Wait for a step, end it, and write and print how it ended."""
    try:
        status = running.wait()
    finally:
        running.stop()
    seconds = round(time.time() - running.began, 1)
    add_row(visit.out, step=running.step.name, ended=status, seconds=seconds)
    print(
        f"{running.step.name}: {'ended well' if status == 0 else status}, {seconds} s", flush=True
    )
    return status
