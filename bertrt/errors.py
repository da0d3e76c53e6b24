"""The errors that bertrt raises.

    BertrtError
    ├── InputError       a text, array or option cannot be used
    │   ├── TooLongError   a text has more tokens than the model reads
    │   └── TooLargeError  a request has more than a dynamic batcher ever holds
    ├── ArtifactError    a directory is not a valid artifact
    ├── DeviceError      a device, a provider or ONNX Runtime is missing
    ├── BusyError        a dynamic batcher is full or too slow
    │   └── DeadlineError  a request's deadline has passed
    └── ExportError      a checkpoint cannot be exported
        └── ParityError  the exported graph does not give the checkpoint's answers

Each message is one line: what is wrong, with the value, and what to do.
"""

import re
from typing import Any

__all__ = [
    "ArtifactError",
    "BertrtError",
    "BusyError",
    "DeadlineError",
    "DeviceError",
    "ExportError",
    "InputError",
    "ParityError",
    "TooLargeError",
    "TooLongError",
    "shorten",
    "without_texts",
]

# From the first quote to the last, or to where a long text is cut.
_QUOTED = re.compile(r"""['"].*(?:['"]|\.\.\.)""", re.DOTALL)


class BertrtError(Exception):
    """The base class of all errors that bertrt raises."""


class InputError(BertrtError, ValueError):
    """A text, array or option cannot be used; nothing was computed.

    Attributes:
        problem: the message without `options`.
        options: options of the call that help, with the values to pass; the message ends with
            them. The command line spells them in its own way.
    """

    def __init__(self, problem: str, **options: Any) -> None:
        spelled = ", ".join(f"{name}={value!r}" for name, value in options.items())
        super().__init__(f"{problem} {spelled}" if options else problem)
        self.problem = problem
        self.options = options


class TooLongError(InputError):
    """A text has more tokens than the model reads, and truncation is off.

    Attributes:
        tokens: how many the text has.
        limit: how many are read.
    """

    def __init__(self, problem: str, *, tokens: int = 0, limit: int = 0, **options: Any) -> None:
        super().__init__(problem, **options)
        self.tokens = tokens
        self.limit = limit


class TooLargeError(InputError):
    """A request has more texts or tokens than a dynamic batcher ever holds.

    Attributes:
        size: how many the request has.
        unit: "texts" or "tokens".
        limit: how many the batcher holds.
    """

    def __init__(self, problem: str, *, size: int = 0, unit: str = "texts", limit: int = 0) -> None:
        super().__init__(problem)
        self.size = size
        self.unit = unit
        self.limit = limit


class ArtifactError(BertrtError):
    """A directory is not a valid artifact: foreign, damaged, or of another schema."""


class DeviceError(BertrtError):
    """A device, an execution provider or ONNX Runtime is missing or cannot be used."""


class BusyError(BertrtError):
    """A dynamic batcher is full, or did not answer in time; the request was dropped.

    Attributes:
        retry_after: after how many seconds to try again: the time that what waits takes, 0.05 to
            60; 1 where that is not known.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(BusyError):
    """A request's deadline passed before all of it had started; what had not was dropped."""


class ExportError(BertrtError):
    """A checkpoint cannot be exported; nothing was written."""


class ParityError(ExportError):
    """The exported graph does not give the checkpoint's answers; nothing was written."""


def shorten(value: Any) -> str:
    """Return a value's repr for a message, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def without_texts(error: InputError) -> str:
    """Return an error's message for a client: without what is quoted, which may be a text.

    Options are spelled as fields of a request, not as Python's keyword arguments.
    """
    fields = ", ".join(
        f"{name} {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for name, value in error.options.items()
    )
    problem = _QUOTED.sub("…", error.problem)
    return f"{problem} {fields}" if fields else problem
