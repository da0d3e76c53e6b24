"""Write a model repository from an artifact: complete, or not at all."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bertrt.artifact.directory import Artifact
from bertrt.errors import ExportError, shorten
from bertrt.staging import find_unwritable, staged_directory
from bertrt.triton_repository.ensemble_kind import write_ensemble
from bertrt.triton_repository.model_config import Interface, Settings
from bertrt.triton_repository.python_kind import write_python
from bertrt.triton_repository.readme import readme
from bertrt.triton_repository.text_kind import write_text

__all__ = ["KINDS", "write_repository"]

# By the name of a kind, the default first: what writes its models, and returns what the one that
# clients ask takes and gives.
KINDS: dict[str, Callable[[Artifact, Settings, Path], Interface]] = {
    "python": write_python,
    "text": write_text,
    "ensemble": write_ensemble,
}
# Names of folders have at most 255 characters, and an ensemble adds some.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
_README = "README.md"
# The largest number in a field of the configuration.
_MOST = 2**31 - 1


def write_repository(directory: Path, output: Path, kind: str, settings: Settings) -> Interface:
    """Write a model repository, and return what its model takes and gives.

    Args:
        directory: the artifact, whose files are copied.
        output: the repository, a directory that does not exist yet.
        kind: one of `KINDS`.
        settings: how the model is served.

    Raises ArtifactError for a directory that is no artifact, and ExportError for an output that
    exists or cannot be written, settings that Triton cannot read, and an artifact that the kind
    cannot serve.
    Nothing is written then.
    """
    _check_output(output)
    _check_settings(settings)
    artifact = Artifact.open(directory)
    with staged_directory(output, partial(_check_output, output)) as stage:
        interface = KINDS[kind](artifact, settings, stage)
        text = readme(artifact, kind, settings, interface)
        (stage / _README).write_text(text, encoding="utf-8")
    return interface


def _check_settings(settings: Settings) -> None:
    name = settings.name
    if not _NAME.fullmatch(name) or name == _README:
        raise ExportError(
            f"the model's name is {shorten(name)}: give one of letters, digits, '_', '-' and '.', "
            f"of at most 200 characters, and not {_README}, as --name"
        )
    numbers = {
        "--max-batch": settings.max_batch,
        "--queue": settings.queue,
        "--threads": settings.threads,
    }
    for option, number in numbers.items():
        if isinstance(number, int) and number > _MOST:
            raise ExportError(f"{option} is {number}: Triton reads no number above {_MOST}")
    try:
        settings.op_library.encode()
    except UnicodeEncodeError:
        raise ExportError(
            f"--op-library is {settings.op_library!r}: give a path in UTF-8"
        ) from None


def _check_output(output: Path) -> None:
    if (parent := find_unwritable(output)) is not None:
        raise ExportError(f"cannot write to {str(parent)!r}: choose another output")
    if output.exists() or output.is_symlink():
        raise ExportError(f"{str(output)!r} exists: choose another output, or remove it")
