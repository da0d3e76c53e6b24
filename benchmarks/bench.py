"""The settings of one benchmark run, as every workload is given them."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Bench", "tell", "worker_environment"]


def tell(line: str) -> None:
    """Say what is being done, on standard error: standard output holds the results alone."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Bench:
    """How a run measures.

    Args:
        folder: where models, exports, references and logs are kept between runs.
        threads: threads for every contender alike; the process is pinned to as many CPUs.
        rounds: how many times each contender has its turn at one shape, at most.
        seconds: how long the rounds of one shape may take; three are run in any case.
        turn: how long one turn lasts, in seconds; one call at least.
        quick: whether to measure a selection only, so that a run is a matter of minutes.
        device: where the contenders compute, "cpu" or "cuda".
        gpu_bytes: of the GPU's memory, where they compute on one.
        tell: told what is being done.
    """

    folder: Path
    threads: int
    rounds: int
    seconds: float
    turn: float
    quick: bool = False
    device: str = "cpu"
    gpu_bytes: int | None = None
    tell: Callable[[str], None] = tell


def worker_environment(bench: Bench) -> dict[str, str]:
    """The environment variables of a worker: as many threads for everyone, no network, no noise."""
    threads = str(bench.threads)
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
        "TORCHINDUCTOR_CACHE_DIR": str(bench.folder / "inductor"),
        "PYTHONWARNINGS": "ignore",
    }
