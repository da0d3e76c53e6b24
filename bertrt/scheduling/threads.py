"""Choose the number of threads: the CPUs that this process may use.

ONNX Runtime counts the machine's cores. In a container or under `taskset` these are too many, and
threads that wait for each other's time slices are slower than fewer threads. So this takes the
affinity mask, cut by the cgroup's CPU quota (v2 `cpu.max`, v1 `cpu.cfs_quota_us`).
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from bertrt.checks import check_whole_or_auto

__all__ = ["Threads", "choose_threads"]


@dataclass(frozen=True)
class Threads:
    """A number of threads, and a sentence that says why."""

    count: int
    reason: str


def choose_threads(
    threads: int | str = "auto",
    *,
    root: Path = Path("/"),
    available: int | None = None,
) -> Threads:
    """Return the threads for a session.

    Args:
        threads: a number, or "auto" for what this process may use.
        root: where `proc` and `sys` are mounted; another folder in tests.
        available: the CPUs of the affinity mask; read from the system when None.

    Raises InputError for anything that is neither "auto" nor a whole number of at least 1.
    """
    check_whole_or_auto("threads", threads)
    if isinstance(threads, int):
        return Threads(threads, "chosen by the caller")
    if available is None:
        affinity = getattr(os, "sched_getaffinity", None)
        available = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = _cgroup_quota(root)
    if quota is not None and quota < available:
        return Threads(max(1, math.floor(quota)), f"the cgroup's quota of {quota:g} CPUs")
    return Threads(available, f"{available} CPUs in this process's affinity mask")


def _cgroup_quota(root: Path) -> float | None:
    """Return the smallest CPU quota from this process's cgroup up to the root; None: no limit."""
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            base = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            base = root / "sys/fs/cgroup" / controllers
        else:
            continue
        # Inside a container the path is often the host's, and only the root of the mount exists.
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            quotas.append(_quota_of(base.joinpath(*parts[:depth])))
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_of(group: Path) -> float | None:
    fields = _read(group / "cpu.max").split()
    if not fields:
        fields = [
            _read(group / "cpu.cfs_quota_us").strip(),
            _read(group / "cpu.cfs_period_us").strip(),
        ]
    try:
        quota, period = (float(field) for field in fields)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
