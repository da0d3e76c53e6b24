"""What can run here: packages that are installed, instructions that the processor has."""

import importlib.util
import platform
from collections.abc import Sequence
from pathlib import Path

__all__ = ["bfloat16_missing", "packages_missing"]

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def packages_missing(modules: Sequence[str], advice: str = "run make bench-install") -> str | None:
    """The sentence that names the first module that cannot be imported here; None when all can."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            return f"the Python package {module} is not installed: {advice}"
    return None


def bfloat16_missing() -> str | None:
    """The sentence that says that this processor cannot compute in bfloat16; None when it can.

    Libraries then emulate it, many times slower than float32, or compute in float32 in silence:
    neither is what a user would choose.
    """
    flags = set(_cpu_flags())
    if flags & _BFLOAT16_FLAGS:
        return None
    return f"this {platform.machine()} processor has no bfloat16 instructions"


def _cpu_flags() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return value.split()
    return []
