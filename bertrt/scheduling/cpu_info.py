"""The processor's instruction sets, which decide which graph and which kernels run.

On x86 without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with `vpmaddubsw`,
which adds two products in 16 bits and saturates: sums above 32,767 are cut off without a warning.
The exporter scales int8 weights so that no sum gets that large (`bertrt.export.quantize.recipe`).
"""

import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuInfo", "read_cpu_info"]

# Names in /proc/cpuinfo, oldest first.
_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
)
_VNNI = {"avx512_vnni", "avx_vnni"}


@dataclass(frozen=True)
class CpuInfo:
    """The processor's name, and the instruction sets that matter here."""

    name: str
    sets: tuple[str, ...]
    x86: bool

    @property
    def int8(self) -> str:
        """How int8 products are computed here, in words."""
        if not self.x86:
            return "not an x86 processor"
        if _VNNI.intersection(self.sets):
            return "int8 products are computed with VNNI"
        return "no VNNI: int8 products are as exact as with it, and slower"


def read_cpu_info(root: Path = Path("/"), machine: str | None = None) -> CpuInfo:
    """Read the processor's instruction sets from `proc/cpuinfo`.

    Args:
        root: where `proc` is mounted; another folder in tests.
        machine: the architecture, such as "x86_64"; this machine's own when None.

    Without such a file no instruction sets are known, which costs speed and never correctness.
    """
    machine = machine or platform.machine()
    fields: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            if fields:  # end of the first processor's block; the others are alike
                break
            continue
        fields[name.strip()] = value.strip()
    flags = set(fields.get("flags", "").split())
    return CpuInfo(
        name=fields.get("model name") or machine,
        sets=tuple(name for name in _SETS if name in flags),
        x86=machine.lower() in ("x86_64", "amd64", "i386", "i686"),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
