"""Read the config of a checkpoint's folder, and find and hash its weight files."""

import hashlib
from pathlib import Path
from typing import Any

from bertrt.artifact.directory import sha256_of
from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.find import WeightFiles, find_weights
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["CONFIG_FILES", "find_in_folder", "hash_of", "read_config"]

# The second is the name in Google's checkpoints.
CONFIG_FILES = ("config.json", "bert_config.json")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the folder's config.json, or Google's bert_config.json.

    Raises ExportError if there is none, or it is not a JSON object.
    """
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return read_json(folder / name)
    raise ExportError(
        f"{folder.name!r} has no {' or '.join(CONFIG_FILES)}: give a checkpoint's folder or a "
        "hub id"
    )


def find_in_folder(folder: Path) -> WeightFiles:
    """Find the weight files of a folder.

    Raises ExportError if there are none in a known format, or some of them are missing.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    return find_weights(names, lambda name: folder / name, repr(folder.name))


def hash_of(folder: Path, files: tuple[str, ...]) -> str:
    """Return the sha256 of one file or, for several, of the sorted lines "name sha256"."""
    if len(files) == 1:
        return sha256_of(folder / files[0])
    lines = "".join(f"{name} {sha256_of(folder / name)}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
