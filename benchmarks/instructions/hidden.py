"""Start the benchmark again with instruction sets hidden from every library."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["CHOICES", "hidden_sets", "start_hidden", "without_hidden"]

# What a run may see: all that the processor has, or as much as one with AVX2 alone.
CHOICES = ("all", "avx2")

_CPUINFO = Path("/proc/cpuinfo")
_SOURCE = Path(__file__).parent / "hide.c"
# The sets that hide.c hides begin so in /proc/cpuinfo.
_PREFIXES = ("avx512", "avx_vnni", "amx_")
# The environment of a process for which they are hidden: their names, and the file that is shown.
_HIDDEN = "BENCHMARK_HIDDEN"
_SHOWN = "HIDDEN_CPUINFO"


def hidden_sets() -> list[str]:
    """Return the processor's flags that are hidden from this process."""
    return os.environ.get(_HIDDEN, "").split()


def without_hidden(cpuinfo: str) -> tuple[str, list[str]]:
    """Return the text of a /proc/cpuinfo without the sets that are hidden, and their names."""
    lines, hidden = [], {}
    for line in cpuinfo.splitlines(keepends=True):
        name, colon, value = line.partition(":")
        if name.strip() == "flags":
            hidden.update(dict.fromkeys(f for f in value.split() if f.startswith(_PREFIXES)))
            left = [flag for flag in value.split() if not flag.startswith(_PREFIXES)]
            line = f"{name}{colon} {' '.join(left)}\n"
        lines.append(line)
    return "".join(lines), list(hidden)


def start_hidden(folder: Path, cpuinfo: Path = _CPUINFO) -> None:
    """Start this program again with AVX-512, VNNI and AMX hidden; return if they are already.

    Args:
        folder: where the library that hides them is built.
        cpuinfo: what the processor says of itself; another file in tests.

    Raises ValueError where they cannot be hidden.
    """
    if hidden_sets():
        return
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    if "cpuid_fault" not in text.split():
        raise ValueError(
            "this processor cannot hide instruction sets (no cpuid_fault in /proc/cpuinfo): "
            "leave --instructions out"
        )
    shown, hidden = without_hidden(text)
    if not hidden:
        return
    library = _build(folder)
    file = folder / "cpuinfo"
    file.write_text(shown, encoding="utf-8")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        _SHOWN: str(file),
        _HIDDEN: " ".join(hidden),
    }
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
