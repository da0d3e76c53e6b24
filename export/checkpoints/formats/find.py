"""The formats of weights: which files each has, and how they are read.

What a file holds and how its arrays are named are apart: a safetensors file may hold PyTorch's,
TensorFlow's or Flax' names, and says so when it is read.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.flax_msgpack import read_msgpack
from bertrt.export.checkpoints.formats.keras_h5 import read_h5
from bertrt.export.checkpoints.formats.stored import Contents, Stored
from bertrt.export.checkpoints.formats.tf_bundle import read_bundle
from bertrt.export.checkpoints.formats.torch_weights import read_pickle, read_safetensors

__all__ = ["Weights", "find_weights", "read_json"]

# A file's name to where it lies; a hub's file is fetched by asking for it.
Open = Callable[[str], Path]

_INDEX = ".index.json"


@dataclass(frozen=True)
class Weights:
    """The weight files of a checkpoint, and what reads them, given their folder."""

    files: tuple[str, ...]
    read: Callable[[Path], Contents]


# The files with one reader each, in the order of preference.
_READERS: dict[str, Callable[[Path], Contents]] = {
    "model.safetensors": read_safetensors,
    "pytorch_model.bin": read_pickle,
    "tf_model.h5": read_h5,
    "flax_model.msgpack": read_msgpack,
}


def find_weights(names: Collection[str], open_: Open, where: str) -> Weights:
    """Of a checkpoint's file names, those of the weights in the best format that it has.

    `open_` gives the path of a file that has to be read to know them. `where` names the checkpoint
    for errors.

    Raises ExportError when there are no weights in a known format, or a part of them is missing.
    """
    names = {name for name in names if "/" not in name}
    for file, read in _READERS.items():
        if file in names:
            return Weights((file,), _joined((file,), None, read))
        if file + _INDEX in names:
            index = open_(file + _INDEX)
            shards = _shard_names(index)
            _check_there(shards, names, index.name)
            return Weights(shards, _joined(shards, index, read))
    entry = _tensorflow_index(names, open_, where)
    if entry is None:
        raise ExportError(
            f"{where} has no weights: {', '.join(_READERS)} or a TensorFlow checkpoint such as "
            "bert_model.ckpt.index is missing"
        )
    files = (entry, *_data_files(entry, names))
    return Weights(files, lambda folder: read_bundle(folder, files))


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; raises ExportError when it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): fetch it again") from error
    if not isinstance(data, dict):
        raise ExportError(f"{path.name} holds a {type(data).__name__}, not a JSON object")
    return data


def _joined(
    files: tuple[str, ...], index: Path | None, read: Callable[[Path], Contents]
) -> Callable[[Path], Contents]:
    """A reader of several files, of which `read` reads one; `index` lists what they hold."""

    def read_all(folder: Path) -> Contents:
        parts = [read(folder / file) for file in files]
        arrays: dict[str, Stored] = {}
        for file, part in zip(files, parts, strict=True):
            if part.scheme != parts[0].scheme:
                raise ExportError(f"{file} is of another framework than {files[0]}")
            for name, array in part.arrays.items():
                if name in arrays:
                    raise ExportError(f"{file} holds {name!r}, which another shard holds too")
                arrays[name] = array
        if index is not None:
            _check_held(index, arrays)
        return Contents(parts[0].format, parts[0].scheme, arrays)

    return read_all


def _shard_names(index: Path) -> tuple[str, ...]:
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


def _check_held(index: Path, arrays: Collection[str]) -> None:
    """Raise ExportError unless all that an index of shards lists is there."""
    for name in sorted(read_json(index)["weight_map"]):
        # TensorFlow's index has the model's scope before each name, and its shards have not.
        if name not in arrays and name.partition("/")[2] not in arrays:
            raise ExportError(f"{index.name} lists {name!r}, which no shard holds")


def _check_there(files: Collection[str], names: Collection[str], listed: str) -> None:
    for file in files:
        if file not in names:
            raise ExportError(
                f"{file} is missing, which {listed} lists: fetch the checkpoint again"
            )


def _tensorflow_index(names: Collection[str], open_: Open, where: str) -> str | None:
    """The `.index` file of a TensorFlow checkpoint; of several, that of the newest.

    TensorFlow notes the newest in a file named "checkpoint". Raises ExportError when there are
    several and no such note.
    """
    data = sorted(name for name in names if re.search(r"\.data-\d{5}-of-\d{5}$", name))
    stems = {name.rpartition(".data-")[0] for name in data}
    found = sorted(
        name
        for name in names
        if name.endswith(".index") and (".ckpt" in name or name.removesuffix(".index") in stems)
    )
    if not found and data:
        stem = data[0].rpartition(".data-")[0]
        raise ExportError(f"{stem}.index is missing, to which {data[0]} belongs: fetch it too")
    if len(found) < 2:
        return found[0] if found else None
    newest = None
    if "checkpoint" in names:
        note = open_("checkpoint").read_bytes().decode(errors="replace")
        path = re.search(r'^model_checkpoint_path: *"(.*)"', note, re.MULTILINE)
        # The path is often one on the machine that trained the model.
        newest = path and re.split(r"[/\\]", path[1])[-1] + ".index"
    if newest not in found:
        raise ExportError(
            f"{where} has several checkpoints ({', '.join(found)}), and no file named "
            '"checkpoint" that says which is the newest: keep one of them'
        )
    return newest


def _data_files(index: str, names: Collection[str]) -> tuple[str, ...]:
    """The `.data` files that belong to an `.index` file, in their order."""
    stem = index.removesuffix(".index")
    counts = {
        int(found[1])
        for name in names
        if (found := re.fullmatch(re.escape(stem) + r"\.data-\d{5}-of-(\d{5})", name))
    }
    if len(counts) > 1:
        raise ExportError(f"the files {stem}.data-… are of two checkpoints: fetch it again")
    count = counts.pop() if counts else 1
    files = tuple(f"{stem}.data-{number:05}-of-{count:05}" for number in range(count))
    _check_there(files, names, index)
    return files
