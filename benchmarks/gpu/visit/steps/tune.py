"""Measure the launch table; see `benchmarks.gpu.tune_kernels`."""

import itertools
import multiprocessing
import time
from collections.abc import Iterable

import torch

from benchmarks.gpu.limits import describe_gpu
from benchmarks.gpu.timing import kernel_device
from benchmarks.gpu.tune_kernels import table, tune
from benchmarks.gpu.tuning_jobs import Attention, Product, jobs
from benchmarks.gpu.visit.run_step import prepare
from benchmarks.gpu.visit.visit import Visit
from bertrt.kernels.triton.hardware import get_gpu

__all__ = ["run"]

# So many processes compile so many sizes, for at most a third of the step's time.
_PROCESSES = 10
_SIZES = 90
# The step ends so many seconds early, to write the table.
_SPARE = 8.0


def run(visit: Visit) -> None:
    """Write every time to tune.jsonl, and the table to paste as the last row."""
    gpu = get_gpu(kernel_device())
    if not visit.dry_run:
        _compile_side_by_side(visit)
    facts = describe_gpu(1024, 16) if visit.dry_run else describe_gpu()
    deadline = time.monotonic() + visit.seconds_left() - _SPARE
    with (visit.out / "tune.jsonl").open("a", encoding="utf-8", buffering=1) as file:
        best = tune(_jobs(visit), kernel_device(), deadline, facts, file)
    visit.add("tune", sizes=sum(map(len, best.values())), table=table(gpu.name, best))


def _jobs(visit: Visit) -> Iterable[Product | Attention]:
    gpu = get_gpu(kernel_device())
    if not visit.dry_run:
        return jobs(gpu)
    return [Product(gpu, "norm", 16, 64, 48), Attention(gpu, 16, 16, 16, busy=False)]


def _compile_side_by_side(visit: Visit) -> None:
    """Compile in several processes; the measuring one then finds the kernels in Triton's cache."""
    until = time.time() + visit.seconds_left() / 3
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_compile, args=(visit, i)) for i in range(_PROCESSES)]
    for process in running:
        process.start()
    for process in running:
        process.join(max(0.0, until - time.time()))
        process.kill()


def _compile(visit: Visit, first: int) -> None:
    prepare(visit)
    with torch.inference_mode():
        for job in itertools.islice(_jobs(visit), first, _SIZES, _PROCESSES):
            for _, run in job.launches(kernel_device()):
                try:
                    run()
                except Exception as error:
                    # The measurement writes a row about it.
                    print(f"{job.key}: {type(error).__name__}")
