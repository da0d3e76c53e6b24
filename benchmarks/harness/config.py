"""The settings of one benchmark run, which every workload receives."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BenchConfig", "report", "worker_environment"]


def report(line: str) -> None:
    """Print what is being done to standard error; standard output is for results only."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class BenchConfig:
    """How a run measures.

    Args:
        folder: where models, exports, reference answers and logs are kept between runs.
        threads: the threads of every contender; the process is pinned to as many CPUs.
        rounds: the most turns that each contender has at one shape.
        seconds: about how long the rounds of one shape may take; at least three are run.
        turn: how long one turn lasts, in seconds; at least one call.
        quick: whether to measure only a selection, so that a run takes minutes.
        device: where the contenders compute, "cpu" or "cuda".
        gpu_bytes: the GPU's memory in bytes, if they compute on one.
        report: called with a line about what is being done.
    """

    folder: Path
    threads: int
    rounds: int
    seconds: float
    turn: float
    quick: bool = False
    device: str = "cpu"
    gpu_bytes: int | None = None
    report: Callable[[str], None] = report


def worker_environment(config: BenchConfig) -> dict[str, str]:
    """Return a worker's environment variables: equal threads for all, no network, no noise."""
    threads = str(config.threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TORCHINDUCTOR_CACHE_DIR": str(config.folder / "inductor"),
        "PYTHONWARNINGS": "ignore",
    }
