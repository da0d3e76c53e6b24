"""Find a checkpoint's weight files in the best format that it has, and their reader.

A file's format does not determine how its arrays are named: a safetensors file may have PyTorch's,
TensorFlow's or Flax' names. `Contents.scheme` says which.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from bertrt.errors import ExportError
from bertrt.export.checkpoints.folder_kind import GetPath, where_it_lies
from bertrt.export.checkpoints.formats.flax_msgpack import read_msgpack
from bertrt.export.checkpoints.formats.keras_h5 import read_h5
from bertrt.export.checkpoints.formats.stored import Contents, Stored
from bertrt.export.checkpoints.formats.tf_bundle import read_bundle
from bertrt.export.checkpoints.formats.torch_weights import read_pickle, read_safetensors
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["WeightFiles", "find_weights"]

_INDEX = ".index.json"


@dataclass(frozen=True)
class WeightFiles:
    """The names of a checkpoint's weight files, and the function that reads them in a folder."""

    names: tuple[str, ...]
    read: Callable[[Path], Contents]


# The file names with their readers, in the order of preference.
_READERS: dict[str, Callable[[Path], Contents]] = {
    "model.safetensors": read_safetensors,
    "pytorch_model.bin": read_pickle,
    "tf_model.h5": read_h5,
    "flax_model.msgpack": read_msgpack,
}


def find_weights(names: Collection[str], get_path: GetPath, where: str) -> WeightFiles:
    """Find the weight files in the best format among a checkpoint's files.

    Args:
        names: the names of all files, those in subfolders included.
        get_path: returns the path of an index that must be read to know the weight files.
        where: the checkpoint's name, for errors.

    Raises ExportError if there are no weights in a known format, or some of them are missing.
    """
    all_names, names = names, {name for name in names if "/" not in name}
    for file, read in _READERS.items():
        if file in names:
            return WeightFiles((file,), _read_shards((file,), None, read))
        if file + _INDEX in names:
            index = get_path(file + _INDEX)
            shards = _shard_names(index)
            _check_present(shards, names, index.name)
            return WeightFiles(shards, _read_shards(shards, index, read))
    entry = _tensorflow_index(names, get_path, where)
    if entry is None:
        advice = where_it_lies(all_names) or (
            f"add {', '.join(_READERS)} or a TensorFlow checkpoint such as bert_model.ckpt.index"
        )
        raise ExportError(f"{where} has no weights: {advice}")
    files = (entry, *_data_files(entry, names))
    return WeightFiles(files, lambda folder: read_bundle(folder, files))


def _read_shards(
    files: tuple[str, ...], index: Path | None, read: Callable[[Path], Contents]
) -> Callable[[Path], Contents]:
    """Return a reader of several files, given the reader of one and the index that lists them."""

    def read_all(folder: Path) -> Contents:
        parts = [read(folder / file) for file in files]
        arrays: dict[str, Stored] = {}
        for file, part in zip(files, parts, strict=True):
            if part.scheme != parts[0].scheme:
                raise ExportError(f"{file} is from another framework than {files[0]}")
            for name, array in part.arrays.items():
                if name in arrays:
                    raise ExportError(f"{file} has {name!r}, which another shard has too")
                arrays[name] = array
        if index is not None:
            _check_complete(index, arrays)
        return Contents(parts[0].format, parts[0].scheme, arrays)

    return read_all


def _shard_names(index: Path) -> tuple[str, ...]:
    """Return the files that an index of shards lists, sorted.

    Raises ExportError for an index that is damaged or names a file outside its folder.
    """
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ExportError(f"{index.name} has no weight_map: download it again")
    for name in table.values():
        if not isinstance(name, str) or Path(name).name != name or name in (".", ".."):
            raise ExportError(f"{index.name} lists the shard {name!r}, which is not a file name")
    return tuple(sorted(set(table.values())))


def _check_complete(index: Path, arrays: Collection[str]) -> None:
    """Raise ExportError unless the shards have all arrays that their index lists."""
    for name in sorted(read_json(index)["weight_map"]):
        # TensorFlow's index has the model's scope before each name, and its shards do not.
        if name not in arrays and name.partition("/")[2] not in arrays:
            raise ExportError(f"{index.name} lists {name!r}, which no shard has")


def _check_present(files: Collection[str], names: Collection[str], listed: str) -> None:
    for file in files:
        if file not in names:
            raise ExportError(
                f"{file} is missing, which {listed} lists: download the checkpoint again"
            )


def _tensorflow_index(names: Collection[str], get_path: GetPath, where: str) -> str | None:
    """Return the `.index` file of a TensorFlow checkpoint; of several, that of the newest.

    TensorFlow records the newest in a file named "checkpoint". Raises ExportError if there are
    several and no such file.
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
        raise ExportError(f"{stem}.index is missing, to which {data[0]} belongs: download it too")
    if len(found) < 2:
        return found[0] if found else None
    newest = None
    if "checkpoint" in names:
        record = get_path("checkpoint").read_bytes().decode(errors="replace")
        path = re.search(r'^model_checkpoint_path: *"(.*)"', record, re.MULTILINE)
        # Often a path on the machine that trained the model.
        newest = path and re.split(r"[/\\]", path[1])[-1] + ".index"
    if newest not in found:
        raise ExportError(
            f"{where} has several checkpoints ({', '.join(found)}), and no file named "
            '"checkpoint" with the newest: keep one of them'
        )
    return newest


def _data_files(index: str, names: Collection[str]) -> tuple[str, ...]:
    """Return the `.data` files that belong to an `.index` file, in order."""
    stem = index.removesuffix(".index")
    counts = {
        int(found[1])
        for name in names
        if (found := re.fullmatch(re.escape(stem) + r"\.data-\d{5}-of-(\d{5})", name))
    }
    if len(counts) > 1:
        raise ExportError(f"the files {stem}.data-… are from two checkpoints: download it again")
    count = counts.pop() if counts else 1
    files = tuple(f"{stem}.data-{number:05}-of-{count:05}" for number in range(count))
    _check_present(files, names, index)
    return files
