"""Measures launches on this GPU for the launch table: `python benchmarks/tune_kernels.py`.

Prints the entries to paste into `kernels/tuning.py`, and adds every measurement to a results file
as a row of JSON. Stops after `--seconds`, what matters most having been measured first.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch
import triton

from bertrt.kernels.triton.hardware import gpu_of
from gpu_limits import describe_gpu, median_us
from tune_sizes import jobs

__all__ = ["main", "table"]

_RESULTS = Path(__file__).resolve().parent.parent / "out" / "benchmarks" / "tune_kernels.jsonl"
# A launch is measured for so many milliseconds; medians of more are no steadier.
_MILLISECONDS = 10
# A measured launch has to beat PyTorch by this factor: less is noise, and cuBLAS's is sturdier.
_BETTER = 0.98


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=540, help="after which it stops")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="rows are added to it")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("tune_kernels.py: needs an NVIDIA GPU, and PyTorch finds none here", file=sys.stderr)
        return 1
    deadline = time.monotonic() + options.seconds
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as file, torch.inference_mode():
        best = tune(torch.device("cuda"), deadline, describe_gpu(), file)
    print(table(gpu_of(torch.device("cuda")).name, best))
    return 0


def tune(
    device: torch.device, deadline: float, facts: dict[str, Any], file: IO[str]
) -> dict[str, dict[tuple[Any, ...], Any]]:
    """The fastest launch of each size: table's name to key to launch; `file` gets every time."""
    best: dict[str, dict[tuple[Any, ...], Any]] = {}
    for job in jobs(gpu_of(device)):
        if time.monotonic() > deadline:
            print("tune_kernels.py: the time is up; the table has what was measured")
            break
        times = {}
        for launch, run in job.launches(device):
            microseconds = _time(run)
            times[launch] = microseconds
            described = launch if isinstance(launch, str) else asdict(launch)
            row = {"table": job.table, "key": job.key, "launch": described, "us": microseconds}
            file.write(json.dumps({**facts, **row}) + "\n")
        best.setdefault(job.table, {})[job.key] = job.choose(times, _BETTER)
    return best


def table(gpu: str, best: dict[str, dict[tuple[Any, ...], Any]]) -> str:
    """The entries as Python text, the last part of a key (rows) inside where a table has it so."""
    lines = []
    for name, entries in best.items():
        lines.append(f"{name}[{gpu!r}] = {{")
        if name == "ATTENTION":
            lines += [f"    {key}: {launch}," for key, launch in sorted(entries.items())]
        else:
            for layer in sorted({key[:-1] for key in entries}):
                rows = {key[-1]: one for key, one in sorted(entries.items()) if key[:-1] == layer}
                inside = ", ".join(f"{count}: {_written(one)}" for count, one in rows.items())
                lines.append(f"    {layer}: {{{inside}}},")
        lines.append("}")
    return "\n".join(lines)


def _written(launch: Any) -> str:
    return json.dumps(launch) if isinstance(launch, str) else repr(launch)


def _time(run: Callable[[], Any]) -> float:
    """Microseconds; infinite for a launch that needs more than this GPU has."""
    try:
        return median_us(run, _MILLISECONDS)
    except triton.OutOfResources:
        return float("inf")


if __name__ == "__main__":
    sys.exit(main())
