"""The results file: JSON lines, one measurement a line, only ever appended to.

Raw results are kept and tables and plots are made from them, so that a number can be traced to
the run, the machine and the versions that gave it. A run that is killed leaves the rows that it
had; a last line that it left half-written is closed by the next `append` and skipped by `read`.

A row is one contender at one shape of one workload. Its fields:

    schema        of these fields: 1
    run           the run's name: the time at which it began
    time          of the row; ISO 8601, UTC
    commit        checked out, with a + when tracked files differ from it; "" outside of git
    machine       cpu, flags, cores, memory_gib, system, python (machine.py); threads, of everyone;
                  of a run on a GPU also gpu, driver, gpu_memory_gib
    workload      fixed, ragged, mixed, stream, cold_start, memory
    model         bert-base, bert-large, minilm; weights: "random", or whose they are
    task          embeddings, classification, fill-mask
    contender     its file's name; title, for tables; precision: float32, float16, bfloat16,
                  int8
    shape         what was asked: "8x128" (batch x sequence), "256 texts", "90 % of capacity"
    status        "timed", or "refused" with the reason: missing here, or a wrong answer
    median_ms, p20_ms, p80_ms, n    of n calls or rounds
    metric        where the numbers are no times: "texts_per_s" or "mib", and the fields are
                  median, p20, p80, n
    error         against eager PyTorch in float32: max_abs, relative, worst_cosine,
                  argmax_agreement
    speedup       {other contender: [ratio, low, high]} from the same rounds, with a 95 %
                  interval; above 1 this contender is the better one, whatever the metric
    versions      of the contender's packages
    settings      what else the run was told

and those that a workload adds, described in its file.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from machine import describe_machine

__all__ = ["append", "facts", "of_run", "read"]

SCHEMA = 1

_KEY = ("workload", "model", "task", "contender", "shape")


def facts(threads: int, gpu: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What every row of a run that begins now has: its name, the commit and the machine.

    `gpu` is as from `describe_gpu`, of a run on one.
    """
    return {
        "schema": SCHEMA,
        "run": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        "commit": _commit(Path(__file__).resolve().parent),
        "machine": {**describe_machine(), "threads": threads, **(gpu or {})},
    }


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to the file, each as soon as it comes; the file and its folder are made.

    Raises ValueError for a row with a number that JSON cannot hold (NaN, infinity), or without
    the fields that name it; rows before it are written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if missing := [key for key in (*_KEY, "run", "status") if key not in row]:
            raise ValueError(f"a row has no {', '.join(missing)}: {row}")
        stamped = {**row, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        line = json.dumps(stamped, ensure_ascii=False, allow_nan=False) + "\n"
        with path.open("ab+") as file:
            # One write a row: another run's rows may come between two, but not into one.
            file.write((line if _at_line_start(file) else "\n" + line).encode())


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file, oldest first.

    A line that is not a whole row is skipped, and said on standard error.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and all(key in row for key in _KEY):
            rows.append(row)
        else:
            print(f"{path}: line {number} is not a whole row; skipped", file=sys.stderr)
    return rows


def of_run(rows: Iterable[dict[str, Any]], run: str | None = None) -> list[dict[str, Any]]:
    """The rows of one run, the newest if `run` is None; of a row measured twice, the last.

    Raises ValueError when there is no such run.
    """
    rows = list(rows)
    if run is None:
        run = max((row["run"] for row in rows), default=None)
    found = {tuple(row[key] for key in _KEY): row for row in rows if row["run"] == run}
    if not found:
        runs = ", ".join(sorted({row["run"] for row in rows})) or "none"
        raise ValueError(f"the results have no run {run!r}; they have {runs}")
    return list(found.values())


def _at_line_start(file: IO[bytes]) -> bool:
    if file.seek(0, 2) == 0:
        return True
    file.seek(-1, 2)
    return file.read(1) == b"\n"


def _commit(folder: Path) -> str:
    try:
        short = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return short + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode().strip()
