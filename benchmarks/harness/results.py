"""The results file: JSON lines, one measurement per line, only ever appended to.

Raw results are kept, and tables and plots are made from them, so that a number can be traced to
the run, the machine and the versions that produced it. A run that is killed leaves the rows that
it had; the next `append` ends a last line that was left half-written, and `read` skips it.

A row is one contender at one shape of one workload. Its fields:

    schema        version of these fields: 1
    run           the run's name: the time at which it began
    time          of the row; ISO 8601, UTC
    commit        what was checked out, with a + if tracked files differ from it; "" outside git
    machine       cpu, flags, cores, memory_gib, system, python (machine.py); threads, the same for
                  all contenders; hidden, the flags that the run hid from all; for a run on a GPU
                  also gpu, driver, gpu_memory_gib
    workload      fixed, ragged, mixed, texts, rerank, live, http, http_limits, cold_start, memory;
                  the two of http also with "_all_cpus"; "stream" in rows written before that
                  workload was renamed to "live"
    model         bert-base, bert-large, minilm; weights: "random", or where they come from
    task          embeddings, classification, fill-mask, sparse, rerank
    contender     its name; title, for tables; precision: float32, float16, bfloat16, int8
    shape         "8x128" (batch x sequence), "256 texts", "50 passages", "90 % of capacity"
    status        "timed", or "refused" with the reason: missing here, or a wrong answer
    median_ms, p20_ms, p80_ms, n    over n calls or rounds
    metric        if the numbers are not medians of times: "texts_per_s" or "mib"; of http_limits
                  "ms", "mib", "requests", "times" or "status"; the fields are median, p20, p80, n
    error         compared with eager PyTorch in float32: max_abs, relative, worst_cosine,
                  argmax_agreement
    speedup       {other contender: [ratio, low, high]} from the same rounds, with a 95 % interval;
                  above 1 this contender is the better one, whatever the metric
    versions      of the contender's packages
    settings      other settings of the run

and the fields that a workload adds, described in its module.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from benchmarks.harness.machine import describe_machine

__all__ = ["append", "describe_run", "of_run", "read"]

SCHEMA = 1

_KEY = ("workload", "model", "task", "contender", "shape")
# Workloads whose name has changed since rows were written.
_RENAMED = {"stream": "live"}


def describe_run(threads: int, gpu: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the fields that all rows of a run share, for a run that begins now.

    `gpu` is what `describe_gpu` returned, for a run on a GPU.
    """
    return {
        "schema": SCHEMA,
        "run": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"),
        "commit": _commit(Path(__file__).resolve().parent),
        "machine": {**describe_machine(), "threads": threads, **(gpu or {})},
    }


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to the file, each as soon as it arrives; create the file and its folder.

    Raises ValueError for a row with a number that JSON cannot hold (NaN, infinity), or without
    the fields that identify it; rows before it are written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if missing := [key for key in (*_KEY, "run", "status") if key not in row]:
            raise ValueError(f"a row has no {', '.join(missing)}: {row}")
        stamped = {**row, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        line = json.dumps(stamped, ensure_ascii=False, allow_nan=False) + "\n"
        with path.open("ab+") as file:
            # One write per row: another run may write rows between two, but not into one.
            file.write((line if _at_line_start(file) else "\n" + line).encode())


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a results file, oldest first, with today's workload names.

    A line that is not a complete row is skipped and reported on standard error.
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
            rows.append({**row, "workload": _RENAMED.get(row["workload"], row["workload"])})
        else:
            print(f"{path}: line {number} is not a complete row; skipped", file=sys.stderr)
    return rows


def of_run(rows: Iterable[dict[str, Any]], run: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of one run, the newest if `run` is None; the last of rows measured twice.

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
