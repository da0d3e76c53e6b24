"""BERT checkpoints to answers in milliseconds, without PyTorch in the process.

import bertrt
rt = bertrt.load("out")
rt("Plants create [MASK] through a process known as photosynthesis.")
"""

from bertrt._version import __version__
from bertrt.errors import (
    ArtifactError,
    BertrtError,
    DeviceError,
    ExportError,
    InputError,
    ParityError,
)
from bertrt.runtime import Runtime, load

__all__ = [
    "ArtifactError",
    "BertrtError",
    "DeviceError",
    "ExportError",
    "InputError",
    "ParityError",
    "Runtime",
    "__version__",
    "load",
]
