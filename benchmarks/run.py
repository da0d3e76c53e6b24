"""Benchmark bertrt beside other ways to serve a BERT checkpoint, on this machine.

`python -m benchmarks.run --quick`, in the environment that `make bench-install` makes. On a GPU,
use `--device cuda` in an environment with PyTorch for CUDA; contenders that are not installed are
left out. Answers are checked before they are timed. Rows are added to a results file as they are
measured, and a table of them is printed at the end; `benchmarks.report` draws plots of them.
"""

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

if not __package__:
    # Run as a file, Python has put this folder on sys.path, and not the one that contains it.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.contenders.registry import DEVICES
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import NAMES, make_model
from benchmarks.harness.config import BenchConfig, report
from benchmarks.harness.machine import describe_gpu
from benchmarks.harness.results import append, describe_run
from benchmarks.harness.rows import Row, refused
from benchmarks.harness.worker_process import RefusedError
from benchmarks.instructions.hidden import CHOICES, start_hidden
from benchmarks.reporting.tables import markdown
from benchmarks.workloads.selection import (
    LEFT_OUT_OF_QUICK,
    LEFT_OUT_OF_SHORT,
    WORKLOADS,
    Step,
    full,
    quick,
    short,
)

__all__ = ["main"]

_FOLDER = Path(__file__).resolve().parents[1] / "out" / "benchmarks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    start = time.perf_counter()
    chosen = (options.models, options.tasks, options.workloads, options.contenders)
    try:
        if options.instructions == "avx2":
            start_hidden(options.folder.resolve())
        if any(chosen) or not (options.quick or options.short):
            steps, left_out = full(*chosen, device=options.device), ""
        elif options.quick:
            steps, left_out = quick(options.device), LEFT_OUT_OF_QUICK[options.device]
        else:
            steps, left_out = short(options.device), LEFT_OUT_OF_SHORT
        steps = list(steps)
        gpu = describe_gpu() if options.device == "cuda" else None
        config = _config(options, gpu)
    except ValueError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    if reason := _cannot_run(options.device, gpu):
        print(f"run.py: {reason}", file=sys.stderr)
        return 1
    lock = _lock(config.folder)
    if lock is None:
        print(f"run.py: another run uses {config.folder}: wait until it ends", file=sys.stderr)
        return 1
    _warn_of_load(config.threads)
    shared = describe_run(config.threads, gpu)
    rows: list[Row] = []
    try:
        for row in _measure(config, steps):
            rows.append({**shared, **row})
            append(options.results, [rows[-1]])
    except KeyboardInterrupt:
        report("interrupted; the rows measured so far are kept")
    if rows:
        print(markdown(rows, options.against), end="")
    if left_out:
        print(f"\n{left_out}")
    report(f"{len(rows)} rows in {time.perf_counter() - start:.0f} s, added to {options.results}")
    return 0 if rows else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="measure only a selection, in minutes")
    size.add_argument(
        "--short",
        action="store_true",
        help="measure a selection on a GPU that one has for minutes",
    )
    parser.add_argument(
        "--device", choices=DEVICES, default="cpu", help="where contenders compute (default: cpu)"
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help=f"{', '.join(NAMES)}, or folders with checkpoints",
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK")
    parser.add_argument("--workloads", nargs="+", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--contenders", nargs="+", metavar="CONTENDER")
    parser.add_argument("--rounds", type=int, help="most turns of each contender at a shape")
    parser.add_argument("--seconds", type=float, help="about how long the rounds of a shape take")
    parser.add_argument("--threads", type=int, help="threads of each contender (default: all CPUs)")
    parser.add_argument(
        "--instructions",
        choices=CHOICES,
        default="all",
        help="avx2 hides AVX-512, VNNI and AMX from every contender, on an Intel processor",
    )
    parser.add_argument(
        "--against", help="contender that ratios are relative to (default: eager PyTorch)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=_FOLDER / "results.jsonl",
        metavar="FILE",
        help="file to add rows to",
    )
    parser.add_argument(
        "--folder", type=Path, default=_FOLDER, help="where models and exports are kept"
    )
    return parser


def _cannot_run(device: str, gpu: Mapping[str, Any] | None) -> str | None:
    """Return why nothing can be measured here, in one sentence, or None."""
    if device == "cuda" and gpu is None:
        return "--device cuda needs an NVIDIA GPU, and nvidia-smi shows none"
    # They make the models and the reference answers.
    return packages_missing("torch", "transformers")


def _config(options: argparse.Namespace, gpu: Mapping[str, Any] | None) -> BenchConfig:
    """Return the settings, and pin this process and its workers to as many CPUs as threads."""
    usable = sorted(os.sched_getaffinity(0))
    threads = options.threads or len(usable)
    if not 1 <= threads <= len(usable):
        raise ValueError(f"--threads is {threads}, and this process may use {len(usable)} CPUs")
    os.sched_setaffinity(0, usable[:threads])
    rounds, seconds, turn = 15, 90.0, 0.3
    if options.quick:
        rounds, seconds, turn = 5, 8.0, 0.1
    elif options.short:
        rounds, seconds, turn = 3, 2.0, 0.1
    return BenchConfig(
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
    """Warn of a busy machine: rounds cancel noise, but not threads that wait for starved ones."""
    load = os.getloadavg()[0]
    if load > 0.5 * threads:
        report(
            f"the load average is {load:.1f} before the first measurement: contenders whose "
            "threads wait for each other will look slower than they are; use an idle machine"
        )


def _lock(folder: Path) -> IO[str] | None:
    """Lock the folder for this run while the file is open; None if another run has it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _measure(config: BenchConfig, steps: Sequence[Step]) -> Iterator[Row]:
    for step in steps:
        model = make_model(step.model, config.folder / "models", step.tasks)
        for task in step.tasks:
            config.report(f"{step.workload}: {step.model}, {task}")
            measure = WORKLOADS[step.workload].measure
            try:
                yield from measure(config, model, task, step.contenders)
            except RefusedError as error:
                # There is no reference, so no contender can be checked.
                for name in step.contenders:
                    yield refused(step.workload, model, task, name, str(error))


if __name__ == "__main__":
    sys.exit(main())
