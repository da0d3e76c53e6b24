"""Read the config of a checkpoint's folder, and find and hash its weight files."""

import hashlib
from pathlib import Path
from typing import Any

from bertrt.artifact.directory import sha256_of
from bertrt.errors import ExportError
from bertrt.export.checkpoints.folder_kind import check_adapter, names_in, where_it_lies
from bertrt.export.checkpoints.formats.find import WeightFiles, find_weights
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["CONFIG_FILES", "find_in_folder", "hash_of", "read_config"]

# The second is the name in Google's checkpoints.
CONFIG_FILES = ("config.json", "bert_config.json")


def read_config(folder: Path, where: str) -> dict[str, Any]:
    """Read the folder's config.json, or Google's bert_config.json; `where` is for errors.

    Raises ExportError if there is none, if it is not a JSON object, or if the folder holds an
    adapter.
    """
    names, get_path = names_in(folder), folder.joinpath
    check_adapter(names, get_path, where)
    for name in CONFIG_FILES:
        if name in names:
            return read_json(folder / name)
    advice = where_it_lies(names) or "give a checkpoint's folder or a hub id"
    raise ExportError(f"{where} has no {' or '.join(CONFIG_FILES)}: {advice}")


def find_in_folder(folder: Path, where: str) -> WeightFiles:
    """Find the weight files of a folder; `where` is its name for errors.

    Raises ExportError if there are none in a known format, or some of them are missing.
    """
    return find_weights(names_in(folder), folder.joinpath, where)


def hash_of(folder: Path, files: tuple[str, ...]) -> str:
    """Return the sha256 of one file or, for several, of the sorted lines "name sha256"."""
    if len(files) == 1:
        return sha256_of(folder / files[0])
    lines = "".join(f"{name} {sha256_of(folder / name)}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
