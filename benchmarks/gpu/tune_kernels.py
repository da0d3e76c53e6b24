"""Measure kernel launches on this GPU: `python -m benchmarks.gpu.tune_kernels`.

Prints the entries to paste into `kernels/launch/measured_table.py`, and adds each measurement to a
results file as a row of JSON. Stops after `--seconds`; the most important sizes come first.
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

from benchmarks.gpu.limits import describe_gpu, median_us
from benchmarks.gpu.tuning_jobs import jobs
from bertrt.kernels.triton.hardware import get_gpu

__all__ = ["main", "table", "tune"]

_RESULTS = Path(__file__).resolve().parents[2] / "out" / "benchmarks" / "tune_kernels.jsonl"
# How long a launch is measured; longer medians are not more stable.
_MILLISECONDS = 10
# A launch replaces PyTorch's only if it takes less than this share of its time: smaller gains are
# noise, and cuBLAS is the safer choice.
_BETTER = 0.98


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=540, help="when to stop (default: 540)")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="file to add rows to")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("tune_kernels.py: needs an NVIDIA GPU, and PyTorch finds none here", file=sys.stderr)
        return 1
    deadline = time.monotonic() + options.seconds
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a", encoding="utf-8") as file, torch.inference_mode():
        best = tune(torch.device("cuda"), deadline, describe_gpu(), file)
    print(table(get_gpu(torch.device("cuda")).name, best))
    return 0


def tune(
    device: torch.device, deadline: float, facts: dict[str, Any], file: IO[str]
) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Return the fastest launch of each size, by table and key; write every time to `file`."""
    best: dict[str, dict[tuple[Any, ...], Any]] = {}
    for job in jobs(get_gpu(device)):
        if time.monotonic() > deadline:
            print("tune_kernels.py: the time is up; the table has the sizes measured so far")
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
    """Return the entries as Python source, nested by rows as the linear tables are."""
    lines = []
    for name, entries in best.items():
        lines.append(f"{name}[{gpu!r}] = {{")
        if name == "ATTENTION":
            lines += [f"    {key}: {launch}," for key, launch in sorted(entries.items())]
        else:
            for layer in sorted({key[:-1] for key in entries}):
                rows = {key[-1]: best for key, best in sorted(entries.items()) if key[:-1] == layer}
                inner = ", ".join(f"{count}: {_source(best)}" for count, best in rows.items())
                lines.append(f"    {layer}: {{{inner}}},")
        lines.append("}")
    return "\n".join(lines)


def _source(launch: Any) -> str:
    return json.dumps(launch) if isinstance(launch, str) else repr(launch)


def _time(run: Callable[[], Any]) -> float:
    """Return microseconds, or infinity for a launch that needs more resources than the GPU has."""
    try:
        return median_us(run, _MILLISECONDS)
    except triton.OutOfResources:
        return float("inf")


if __name__ == "__main__":
    sys.exit(main())
