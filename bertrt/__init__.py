"""Answer texts with BERT artifacts, without PyTorch in the process.

import bertrt
rt = bertrt.load("out")
rt("Plants create [MASK] through a process known as photosynthesis.")
"""

import importlib
from typing import TYPE_CHECKING, Any

from bertrt._version import __version__
from bertrt.errors import (
    ArtifactError,
    BertrtError,
    BusyError,
    DeadlineError,
    DeviceError,
    ExportError,
    InputError,
    ParityError,
    TooLargeError,
    TooLongError,
)

if TYPE_CHECKING:
    from bertrt.arrays.model_output import ModelOutput
    from bertrt.heads.base import TokenIds
    from bertrt.heads.maxsim import maxsim
    from bertrt.heads.quantize_embeddings import quantize_embeddings
    from bertrt.heads.sparse_vectors import SparseVector
    from bertrt.runtime import Runtime, load
    from bertrt.scheduling.answered import Answered
    from bertrt.scheduling.batcher_load import BatcherLoad
    from bertrt.scheduling.dynamic_batcher import DynamicBatcher
    from bertrt.tokenizer import Tokenizer

__all__ = [
    "Answered",
    "ArtifactError",
    "BatcherLoad",
    "BertrtError",
    "BusyError",
    "DeadlineError",
    "DeviceError",
    "DynamicBatcher",
    "ExportError",
    "InputError",
    "ModelOutput",
    "ParityError",
    "Runtime",
    "SparseVector",
    "TokenIds",
    "Tokenizer",
    "TooLargeError",
    "TooLongError",
    "__version__",
    "load",
    "maxsim",
    "quantize_embeddings",
]


# Imported on first use: they import numpy and tokenizers, which `bertrt --help` does not need.
_LAZY = {
    "Answered": "bertrt.scheduling.answered",
    "BatcherLoad": "bertrt.scheduling.batcher_load",
    "DynamicBatcher": "bertrt.scheduling.dynamic_batcher",
    "ModelOutput": "bertrt.arrays.model_output",
    "Runtime": "bertrt.runtime",
    "SparseVector": "bertrt.heads.sparse_vectors",
    "TokenIds": "bertrt.heads.base",
    "Tokenizer": "bertrt.tokenizer",
    "load": "bertrt.runtime",
    "maxsim": "bertrt.heads.maxsim",
    "quantize_embeddings": "bertrt.heads.quantize_embeddings",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
