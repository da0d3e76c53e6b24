"""bertrt beside everything else that one could serve a BERT with, on this machine.

`python benchmarks/run.py --quick`, in the environment that `make bench-install` makes; on a GPU
`--device cuda`, in one with PyTorch for CUDA, where what is not installed is left out. Answers are
proved before they are timed; rows are added to a results file as they come, and a table of them
is printed at the end. `report.py` draws plots of them.
"""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import models
from bench import Bench, tell
from common.packages import packages_missing
from contender import DEVICES
from machine import describe_gpu
from process import Refused
from results import append, facts
from rows import Row, refused
from selection import LEFT_OUT_OF_QUICK, WORKLOADS, Step, full, quick
from tables import markdown

__all__ = ["main"]

_FOLDER = Path(__file__).resolve().parent.parent / "out" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    began = time.perf_counter()
    chosen = (options.models, options.tasks, options.workloads, options.contenders)
    preset = options.quick and not any(chosen)
    try:
        steps = list(quick(options.device) if preset else full(*chosen, device=options.device))
        gpu = describe_gpu() if options.device == "cuda" else None
        bench = _bench(options, gpu)
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    if reason := _cannot_run(options.device, gpu):
        print(f"run.py: {reason}", file=sys.stderr)
        return 1
    lock = _lock(bench.folder)
    if lock is None:
        print(f"run.py: another run uses {bench.folder}: let it end first", file=sys.stderr)
        return 1
    _warn_of_load(bench.threads)
    shared = facts(bench.threads, gpu)
    rows: list[Row] = []
    try:
        for row in _measure(bench, steps):
            rows.append({**shared, **row})
            append(options.results, [rows[-1]])
    except KeyboardInterrupt:
        tell("interrupted; what was measured is kept")
    if rows:
        print(markdown(rows, options.against), end="")
    if preset:
        print(f"\n{LEFT_OUT_OF_QUICK[options.device]}")
    tell(f"{len(rows)} rows in {time.perf_counter() - began:.0f} s, added to {options.results}")
    return 0 if rows else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a selection, in minutes")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="whose contenders to run")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help=f"{', '.join(models.NAMES)}, or folders with checkpoints",
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK")
    parser.add_argument("--workloads", nargs="+", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--contenders", nargs="+", metavar="CONTENDER")
    parser.add_argument("--rounds", type=int, help="turns of each contender at a shape, at most")
    parser.add_argument("--seconds", type=float, help="for the rounds of one shape, about")
    parser.add_argument("--threads", type=int, help="for each contender; all CPUs by default")
    parser.add_argument(
        "--against", help="ratios in the table are to this contender, else to eager PyTorch"
    )
    parser.add_argument("--results", type=Path, default=_FOLDER / "results.jsonl", metavar="FILE")
    parser.add_argument(
        "--folder", type=Path, default=_FOLDER, help="where models and exports are kept"
    )
    return parser


def _cannot_run(device: str, gpu: Mapping[str, Any] | None) -> str | None:
    """Why nothing can be measured here, in one sentence."""
    if device == "cuda" and gpu is None:
        return "--device cuda needs an NVIDIA GPU, and nvidia-smi shows none"
    # They make the models, and the answers that prove everyone's.
    return packages_missing(("torch", "transformers"))


def _bench(options: argparse.Namespace, gpu: Mapping[str, Any] | None) -> Bench:
    """The settings; this process, and so its workers, is kept to as many CPUs as threads."""
    usable = sorted(os.sched_getaffinity(0))
    threads = options.threads or len(usable)
    if not 1 <= threads <= len(usable):
        raise ValueError(f"--threads is {threads}, and this process may use {len(usable)} CPUs")
    os.sched_setaffinity(0, usable[:threads])
    rounds, seconds, turn = (5, 8.0, 0.1) if options.quick else (15, 90.0, 0.3)
    return Bench(
        folder=options.folder.resolve(),
        threads=threads,
        rounds=options.rounds or rounds,
        seconds=options.seconds or seconds,
        turn=turn,
        quick=options.quick,
        device=options.device,
        gpu_bytes=int(gpu["gpu_memory_gib"] * 2**30) if gpu else None,
    )


def _warn_of_load(threads: int) -> None:
    """Rounds keep noise out of a ratio, but not that threads which wait for each other starve."""
    load = os.getloadavg()[0]
    if load > 0.5 * threads:
        tell(
            f"the load is {load:.1f} before anything is measured: contenders whose threads wait "
            "for each other will look worse than they are; measure on an idle machine"
        )


def _lock(folder: Path) -> IO[str] | None:
    """Keeps the folder to this run while it is held; None when another run has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _measure(bench: Bench, steps: Sequence[Step]) -> Iterator[Row]:
    made: dict[str, models.Model] = {}
    for step in steps:
        if step.model not in made:
            made[step.model] = models.make(step.model, bench.folder / "models")
        for task in step.tasks:
            bench.tell(f"{step.workload}: {step.model}, {task}")
            measure = WORKLOADS[step.workload].measure
            try:
                yield from measure(bench, made[step.model], task, step.contenders)
            except Refused as reason:
                # There is no reference, so that nobody can be proved.
                for name in step.contenders:
                    yield refused(step.workload, made[step.model], task, name, str(reason))


if __name__ == "__main__":
    sys.exit(main())
