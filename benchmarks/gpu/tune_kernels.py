"""Measure kernel launches on this GPU: `python -m benchmarks.gpu.tune_kernels`.

Prints the entries to paste into `kernels/launch/measured_table.py`, and adds each measurement to a
results file as a row of JSON. Stops after `--seconds`; the most important sizes come first.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch

from benchmarks.gpu.limits import describe_gpu
from benchmarks.gpu.timing import median_us
from benchmarks.gpu.tuning_jobs import Attention, Product, jobs
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
    device = torch.device("cuda")
    gpu = get_gpu(device)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    # Line by line, so that a crash loses no row.
    with options.results.open("a", encoding="utf-8", buffering=1) as file:
        best = tune(jobs(gpu), device, deadline, describe_gpu(), file)
    print(table(gpu.name, best))
    return 0


def tune(
    jobs: Iterable[Product | Attention],
    device: torch.device,
    deadline: float,
    facts: dict[str, Any],
    file: IO[str],
) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Return the fastest launch of each size, by table and key.

    Args:
        jobs: the sizes to measure, the most important first.
        device: the GPU.
        deadline: when to stop, by `time.monotonic`.
        facts: what every row says besides.
        file: gets a row of JSON for each launch; one that fails has a `failure` in place of `us`.
    """
    best: dict[str, dict[tuple[Any, ...], Any]] = {}
    for job in jobs:
        if time.monotonic() > deadline:
            print("tune_kernels.py: the time is up; the table has the sizes measured so far")
            break
        times = {}
        for launch, run in job.launches(device):
            found = _time(run)
            times[launch] = found.get("us", float("inf"))
            described = launch if isinstance(launch, str) else asdict(launch)
            row = {"table": job.table, "key": job.key, "launch": described, **found}
            file.write(json.dumps({**facts, **row}) + "\n")
        if min(times.values()) < float("inf"):
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


def _time(run: Callable[[], Any]) -> dict[str, Any]:
    """Return {"us": float}, or {"failure": str} for a launch that the GPU or the compiler refuses.

    Some candidates need more shared memory or registers than the GPU has.
    """
    try:
        return {"us": median_us(run, _MILLISECONDS)}
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main())
