"""The machine that a row was measured on: what determines its speed."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.instructions.hidden import hidden_sets
from bertrt.scheduling.cpu_info import read_cpu_info

__all__ = ["describe_gpu", "describe_machine"]


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Describe the processor, its instruction sets, the usable cores, and the memory.

    Args:
        root: where `proc` is mounted; another folder in tests.

    Returns {"cpu": str, "flags": [str], "cores": int, "memory_gib": float, "system": str,
    "python": str}, and in a run that hides instruction sets "hidden": [str], which are then not
    among the flags; nothing in it identifies the machine itself.
    """
    processor = read_cpu_info(root)
    hidden = hidden_sets()
    return {
        "cpu": processor.name,
        "flags": list(processor.sets),
        **({"hidden": hidden} if hidden else {}),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def describe_gpu() -> dict[str, Any] | None:
    """Describe the first NVIDIA GPU as its driver reports it; None if there is none.

    Returns {"gpu": str, "driver": str, "gpu_memory_gib": float}. CUDA's version is in PyTorch's.
    """
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total"]
    try:
        done = subprocess.run(
            [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    first = [part.strip() for part in done.stdout.partition("\n")[0].split(",")]
    if len(first) != 3:
        return None
    name, driver, mebibytes = first
    return {"gpu": name, "driver": driver, "gpu_memory_gib": round(float(mebibytes) / 1024, 1)}
