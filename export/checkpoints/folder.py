"""A checkpoint's folder: its config.json, and the weight files that are read from it."""

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertrt.artifact import sha256_of
from bertrt.errors import ExportError
from bertrt.export.checkpoints.names import pytorch_names
from bertrt.export.checkpoints.torch_weights import read_pickle, read_safetensors

__all__ = [
    "CONFIG_FILES",
    "FORMATS",
    "Format",
    "Weights",
    "choose_weights",
    "find_weights",
    "hash_of",
    "read_config",
    "read_json",
    "read_weights",
    "shard_names",
]

# The second is Google's own name for it.
CONFIG_FILES = ("config.json", "bert_config.json")
_INDEX = ".index.json"


@dataclass(frozen=True)
class Format:
    """A weight format: its name, its file (with an index beside it when sharded), its reader."""

    name: str
    file: str
    read: Callable[[Path], dict[str, torch.Tensor]]


# In the order of preference.
FORMATS: tuple[Format, ...] = (
    Format("safetensors", "model.safetensors", read_safetensors),
    Format("pytorch_model.bin", "pytorch_model.bin", read_pickle),
)

# How the weight files of formats that are not read begin, for the error's sake.
_UNREAD = {"tf_model": "TensorFlow", "bert_model.ckpt": "TensorFlow", "flax_model": "Flax"}


@dataclass(frozen=True)
class Weights:
    """The weight files of a folder; `index` names the file that lists them when sharded."""

    format: Format
    files: tuple[str, ...]
    index: str | None


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json, or Google's bert_config.json.

    Raises ExportError when there is none, or it is not a JSON object.
    """
    for name in CONFIG_FILES:
        if (folder / name).is_file():
            return read_json(folder / name)
    raise ExportError(f"{folder.name!r} has no config.json: give a checkpoint's folder or a hub id")


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; raises ExportError when it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): fetch it again") from error
    if not isinstance(data, dict):
        raise ExportError(f"{path.name} holds a {type(data).__name__}, not a JSON object")
    return data


def choose_weights(names: Collection[str], where: str) -> tuple[Format, str]:
    """Of a checkpoint's file names, the format to read and its file or its index of shards.

    Raises ExportError, which names the checkpoint as `where`, when none is in a known format.
    """
    for form in FORMATS:
        for name in (form.file, form.file + _INDEX):
            if name in names:
                return form, name
    known = " or ".join(form.file for form in FORMATS)
    for name in sorted(names):
        for start, framework in _UNREAD.items():
            if name.startswith(start):
                raise ExportError(
                    f"{where} has {framework} weights only ({name}), which are not read: convert "
                    f"the checkpoint to {FORMATS[0].file}"
                )
    raise ExportError(f"{where} has no weights: {known} is missing")


def find_weights(folder: Path) -> Weights:
    """The weight files of a folder.

    Raises ExportError when there are none in a known format, or a shard is missing.
    """
    form, name = choose_weights([path.name for path in folder.iterdir()], repr(folder.name))
    if not name.endswith(_INDEX):
        return Weights(form, (name,), None)
    shards = shard_names(folder / name)
    for shard in shards:
        if not (folder / shard).is_file():
            raise ExportError(f"{shard} is missing, which {name} lists: fetch the checkpoint again")
    return Weights(form, shards, name)


def shard_names(index: Path) -> tuple[str, ...]:
    """The files that an index of shards lists, sorted.

    Raises ExportError for an index that is damaged or names a file outside its folder.
    """
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ExportError(f"{index.name} has no weight_map: fetch it again")
    for name in table.values():
        if not isinstance(name, str) or Path(name).name != name or name in (".", ".."):
            raise ExportError(f"{index.name} names the shard {name!r}, which is no plain file name")
    return tuple(sorted(set(table.values())))


def read_weights(folder: Path, found: Weights) -> dict[str, torch.Tensor]:
    """All tensors of the weight files, with PyTorch's current names and the stored dtypes.

    Raises ExportError when a file is damaged, a name stands in two shards, or the shards do not
    hold what their index says.
    """
    weights: dict[str, torch.Tensor] = {}
    for file in found.files:
        for name, tensor in found.format.read(folder / file).items():
            if name in weights:
                raise ExportError(f"{file} holds {name!r}, which another shard holds too")
            weights[name] = tensor
    if found.index is not None:
        lost = sorted(set(read_json(folder / found.index)["weight_map"]) - set(weights))
        if lost:
            raise ExportError(f"{found.index} lists {lost[0]!r}, which no shard holds")
    return pytorch_names(weights)


def hash_of(folder: Path, files: tuple[str, ...]) -> str:
    """The sha256 of one file, or, for several, of the sorted lines "name sha256"."""
    if len(files) == 1:
        return sha256_of(folder / files[0])
    lines = "".join(f"{name} {sha256_of(folder / name)}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
