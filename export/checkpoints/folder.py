"""A checkpoint's folder: its config, and the files whose hashes say which weights it has."""

import hashlib
from pathlib import Path
from typing import Any

from bertrt.artifact.directory import sha256_of
from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.find import Weights, find_weights, read_json

__all__ = ["CONFIG_FILES", "find_in_folder", "hash_of", "read_config"]

# The second is Google's own name for it.
CONFIG_FILES = ("config.json", "bert_config.json")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, or Google's bert_config.json.

    Raises ExportError when there is none, or it is not a JSON object.
    """
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return read_json(folder / name)
    raise ExportError(
        f"{folder.name!r} has no {' or '.join(CONFIG_FILES)}: give a checkpoint's folder or a "
        "hub id"
    )


def find_in_folder(folder: Path) -> Weights:
    """The weight files of a folder.

    Raises ExportError when there are none in a known format, or a part of them is missing.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    return find_weights(names, lambda name: folder / name, repr(folder.name))


def hash_of(folder: Path, files: tuple[str, ...]) -> str:
    """The sha256 of one file, or, for several, of the sorted lines "name sha256"."""
    if len(files) == 1:
        return sha256_of(folder / files[0])
    lines = "".join(f"{name} {sha256_of(folder / name)}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
