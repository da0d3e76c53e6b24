"""The machine that a row was measured on: what decides how fast it can be."""

import os
import platform
from pathlib import Path
from typing import Any

from bertrt.processor import read_processor

__all__ = ["describe_machine"]


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """The processor, its instruction sets, the cores that this process may use, and memory.

    Args:
        root: where `proc` is mounted; another folder in tests.

    Returns {"cpu": str, "flags": [str], "cores": int, "memory_gib": float, "system": str,
    "python": str}; nothing in it names the machine itself.
    """
    processor = read_processor(root)
    return {
        "cpu": processor.name,
        "flags": list(processor.sets),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
