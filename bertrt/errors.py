"""Everything that bertrt raises on purpose.

    BertrtError
    ├── InputError       a caller's text, array or option is not usable
    ├── ArtifactError    a directory is not a sound bertrt artifact
    ├── DeviceError      a device, provider or ONNX Runtime itself is missing
    ├── BusyError        a live stream is asked for more than it can answer
    └── ExportError      a checkpoint cannot be exported
        └── ParityError  the exported graph does not give the checkpoint's answers

A message says what was wrong, with the value, and what to do, in one line.
"""

from typing import Any

__all__ = [
    "ArtifactError",
    "BertrtError",
    "BusyError",
    "DeviceError",
    "ExportError",
    "InputError",
    "ParityError",
    "shorten",
]


class BertrtError(Exception):
    """The base of every error that bertrt raises on purpose."""


class InputError(BertrtError, ValueError):
    """A caller's text, array or option is not usable; nothing was computed."""


class ArtifactError(BertrtError):
    """A directory is not a sound bertrt artifact: foreign, damaged, or made by a newer version."""


class DeviceError(BertrtError):
    """A device, an execution provider or ONNX Runtime itself is not there as asked for."""


class BusyError(BertrtError):
    """A live stream is full, or had no answer in time; the request was dropped."""


class ExportError(BertrtError):
    """A checkpoint cannot be exported; nothing was written."""


class ParityError(ExportError):
    """The exported graph does not give the checkpoint's answers; nothing was written."""


def shorten(value: Any) -> str:
    """A value as it is shown in a message: its repr, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
