"""What the processor can do: the instruction sets that decide which kernels run, and how exactly.

On x86, ONNX Runtime multiplies unsigned activations by signed int8 weights with an instruction
that adds two products in 16 bits and saturates, unless the processor has VNNI. Sums above 32,767
are then cut off, and the answer is wrong without a word (`vpmaddubsw`). Graphs whose weights are
small enough for that not to happen say so in the manifest; for others ONNX Runtime's
`Avx2WeightS8ToU8Transformer` is the way around, and slower.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Processor", "read_processor"]

# Names in /proc/cpuinfo, in the order in which they came to processors.
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
class Processor:
    """The processor's name, and which of the instruction sets that matter here it has."""

    name: str
    sets: tuple[str, ...]
    x86: bool

    @property
    def int8_saturates(self) -> bool:
        """Whether products of uint8 and int8 may overflow, of graphs that do not see to it."""
        return self.x86 and not _VNNI.intersection(self.sets)

    @property
    def int8(self) -> str:
        """How int8 graphs are computed here, in words."""
        if self.int8_saturates:
            return "no VNNI: int8 products are as exact as with it, and slower"
        return "int8 products are computed with VNNI" if self.x86 else "not an x86 processor"


def read_processor(root: Path = Path("/"), machine: str | None = None) -> Processor:
    """Read the processor's abilities from `proc/cpuinfo`.

    Args:
        root: where `proc` is mounted; another folder in tests.
        machine: the architecture, such as "x86_64"; this machine's own when None.

    Where there is no such file, no instruction set is known to be there, which costs speed and
    never correctness.
    """
    machine = machine or platform.machine()
    fields: dict[str, str] = {}
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            if fields:  # the first processor's block ends; the others are like it
                break
            continue
        fields[name.strip()] = value.strip()
    flags = set(fields.get("flags", "").split())
    return Processor(
        name=fields.get("model name") or machine,
        sets=tuple(name for name in _SETS if name in flags),
        x86=machine.lower() in ("x86_64", "amd64", "i386", "i686"),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
