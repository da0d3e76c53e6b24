"""Run a command to its end, with all processes that it starts, and see what it used."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JobUsage", "run_job"]

# Of Linux.
_PR_SET_CHILD_SUBREAPER = 36
# Clusters end a little after the program that started them.
_LINGER_SECONDS = 20.0


@dataclass(frozen=True)
class JobUsage:
    """Seconds that a command took, and of CPU, all its processes and their children together."""

    seconds: float
    cpu_seconds: float


def run_job(command: Sequence[str], environment: Mapping[str, str]) -> JobUsage:
    """Run a command; its standard output goes where this process's errors go.

    Meanwhile this process becomes the parent of what the command leaves behind, and ends it. The
    children that it has already may go on, but their CPU time counts if they end meanwhile.

    Raises RuntimeError if the command fails.
    """
    others = _children()
    _adopt(True)
    try:
        return _run(command, environment, others)
    finally:
        _adopt(False)


def _run(command: Sequence[str], environment: Mapping[str, str], others: Set[int]) -> JobUsage:
    before, start = _cpu_of_children(), time.perf_counter()
    job = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, **environment},
    )
    status = job.wait()
    seconds = time.perf_counter() - start
    _reap(others)
    if status:
        raise RuntimeError(f"the job ended with status {status}")
    return JobUsage(seconds, _cpu_of_children() - before)


def _adopt(orphans: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(orphans))


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _reap(others: Set[int]) -> None:
    """Wait for the children that are left but the others, and end them when they stay."""
    deadline = time.monotonic() + _LINGER_SECONDS
    while left := _children() - others:
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)
        time.sleep(0.05)


def _children() -> Set[int]:
    """Return the ids of this process's children, each of which belongs to one of its threads."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.update(map(int, (thread / "children").read_text().split()))
    return found
