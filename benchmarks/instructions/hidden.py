"""Start the benchmark again with instruction sets hidden from every library."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["CHOICES", "HIDDEN", "hidden_sets", "start_hidden", "visible"]

# What a run may see: all that the processor has, or as much as one with AVX2 alone.
CHOICES = ("all", "avx2")
# The sets that hide.c hides, by their names in /proc/cpuinfo, as prefixes.
HIDDEN = ("avx512", "avx_vnni", "amx_")

_SOURCE = Path(__file__).parent / "hide.c"
# In the environment of a process for which they are hidden.
_MARK = "BENCHMARK_INSTRUCTIONS"


def hidden_sets(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether instruction sets are hidden from this process."""
    return environment.get(_MARK) == "avx2"


def visible(sets: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return those of a processor's instruction sets that this process's libraries see."""
    prefixes = HIDDEN if hidden_sets(environment) else ()
    return [name for name in sets if not name.startswith(prefixes)]


def start_hidden(folder: Path, flags: Sequence[str]) -> None:
    """Start this program again with AVX-512, VNNI and AMX hidden; return if they are already.

    Args:
        folder: where the library that hides them is built.
        flags: of /proc/cpuinfo.

    Raises ValueError where they cannot be hidden.
    """
    if hidden_sets():
        return
    if "cpuid_fault" not in flags:
        raise ValueError(
            "this processor cannot hide instruction sets (no cpuid_fault in /proc/cpuinfo): "
            "leave --instructions out"
        )
    library = _build(folder)
    environment = {**os.environ, "LD_PRELOAD": str(library), _MARK: "avx2"}
    # Not sys.argv: it lacks Python's own options, such as -m.
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _build(folder: Path) -> Path:
    """Compile the library.

    Raises ValueError without a C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ValueError("--instructions avx2 needs a C compiler: install one, such as gcc")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "hide_instructions.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
    subprocess.run(command, check=True)
    return library
