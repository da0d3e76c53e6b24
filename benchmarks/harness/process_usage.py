"""What a group of processes has used: CPU time and memory, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["cpu_seconds", "memory_bytes", "processes_of"]

_TICK = os.sysconf("SC_CLK_TCK")
# Of /proc/PID/stat after the name: the session, and the user and system time.
_SESSION, _USER, _SYSTEM = 3, 11, 12


def cpu_seconds(session: int) -> float:
    """Return the CPU seconds that the live processes of a session have used."""
    return sum(
        (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICK for fields in _stats(session).values()
    )


def memory_bytes(processes: Iterable[int]) -> int:
    """Return the bytes in memory of processes; what they share is counted once."""
    total = 0
    for pid in processes:
        for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def processes_of(session: int) -> list[int]:
    """Return the ids of the live processes of a session."""
    return list(_stats(session))


def _stats(session: int) -> dict[int, list[str]]:
    """Return the fields of /proc/PID/stat after the name, for each process of a session."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _read(folder / "stat").rpartition(")")[2].split()
            if fields and int(fields[_SESSION]) == session:
                found[int(folder.name)] = fields
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""
