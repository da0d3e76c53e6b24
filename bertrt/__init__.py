"""BERT checkpoints to answers in milliseconds, without PyTorch in the process.

import bertrt
rt = bertrt.load("out")
rt("Plants create [MASK] through a process known as photosynthesis.")
"""

from typing import TYPE_CHECKING, Any

from bertrt._version import __version__
from bertrt.errors import (
    ArtifactError,
    BertrtError,
    BusyError,
    DeviceError,
    ExportError,
    InputError,
    ParityError,
)

if TYPE_CHECKING:
    from bertrt.runtime import Runtime, load

__all__ = [
    "ArtifactError",
    "BertrtError",
    "BusyError",
    "DeviceError",
    "ExportError",
    "InputError",
    "ParityError",
    "Runtime",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    # The runtime brings numpy and tokenizers, and `bertrt --help` has no use for them.
    if name in ("Runtime", "load"):
        from bertrt import runtime

        globals().update(Runtime=runtime.Runtime, load=runtime.load)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
