"""Which rows of the results file the documentation shows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.contenders.registry import all_names
from benchmarks.reporting.report_data import Row, groups, is_bertrt

__all__ = ["KINDS", "Group", "earlier", "kind_of", "newest_run", "published"]

# The machine of the published results on a CPU, as far as they were measured there. Rows of
# different machines are never combined.
_CPU_MACHINE = {
    "cpu": "AMD EPYC",
    "flags": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni"],
    "cores": 2,
    "threads": 2,
}

# The kinds of x86 processors by what multiplies int8, which decides what int8 gains, and the flag
# of /proc/cpuinfo that shows each; a processor is of the first kind that it has.
KINDS = {
    "AMX": "amx_int8",
    "AVX-512 with VNNI": "avx512_vnni",
    "AVX2": "avx2",
}

Group = tuple[str, str, str]  # workload, model, task


def kind_of(machine: Mapping[str, Any]) -> str | None:
    """Return which of `KINDS` the processor of a row is, by what its libraries saw, or None."""
    return next((kind for kind, flag in KINDS.items() if flag in machine["flags"]), None)


def published(
    rows: Sequence[Row], device: str = "cpu", kind: str | None = None
) -> dict[Group, list[Row]]:
    """Return the rows to show for each workload, model and task on a device.

    These are the rows of the newest run on the published machine; of what was not measured there
    (or on a GPU), of the newest run's machine. A peer that this run did not measure has the rows of
    the newest run that did; ratios are always taken within one run. With a `kind` of `KINDS`, only
    rows of such processors count.
    """
    own = [row for row in rows if ("gpu" in row["machine"]) == (device != "cpu")]
    if kind is not None:
        own = [row for row in own if kind_of(row["machine"]) == kind]
    return {group: _select(_of_one_machine(found)) for group, found in groups(own).items()}


def _of_one_machine(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the published machine, or else of the newest run's."""
    newest = max(rows, key=lambda row: row["run"])["machine"]
    machine: Mapping[str, Any] = {"gpu": newest["gpu"]} if "gpu" in newest else _CPU_MACHINE
    if not any(_is_of(row, machine) for row in rows):
        machine = {key: newest[key] for key in _CPU_MACHINE}
    return [row for row in rows if _is_of(row, machine)]


def _is_of(row: Row, machine: Mapping[str, Any]) -> bool:
    return all(row["machine"].get(key) == value for key, value in machine.items())


def newest_run(rows: Iterable[Row]) -> str:
    """Return the newest run of these rows."""
    return str(max(row["run"] for row in rows))


def earlier(rows: Sequence[Row]) -> dict[str, str]:
    """Return the contenders whose rows are of an earlier run than the newest, and that run."""
    newest = newest_run(rows)
    return {row["contender"]: row["run"] for row in rows if row["run"] != newest}


def _select(rows: Sequence[Row]) -> list[Row]:
    """Return, for each contender, the rows of its newest run; bertrt's only of the newest run."""
    newest = newest_run(rows)
    weights = next(row["weights"] for row in rows if row["run"] == newest)
    runs: dict[str, str] = {}
    for row in rows:
        name, run = row["contender"], row["run"]
        if row["weights"] == weights and (run == newest or not is_bertrt(name)):
            runs[name] = max(run, runs.get(name, ""))
    # Of a row that was measured twice in a run, the last.
    chosen = {
        (row["contender"], row["shape"]): row
        for row in rows
        if runs.get(row["contender"]) == row["run"]
    }
    return sorted(chosen.values(), key=_order)


def _order(row: Row) -> tuple[int, bool]:
    """Sort contenders as in the registry, and a live batcher after its contender."""
    name = row["contender"].removesuffix("_live")
    return all_names().index(name), row["contender"] != name
