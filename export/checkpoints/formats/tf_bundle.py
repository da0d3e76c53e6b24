"""Arrays out of TensorFlow's checkpoints, of version 1 and 2: an `.index` file and `.data` files.

The index is a table (`tf_table.py`) from names to where the bytes are. A variable that was trained
in parts has an entry that lists the parts, and an entry for each part under a coded name.
Source: tensorflow/core/protobuf/tensor_bundle.proto and tensorflow/core/util/tensor_bundle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.crc32c import crc32c, masked
from bertrt.export.checkpoints.formats.protobuf import fields, signed
from bertrt.export.checkpoints.formats.stored import Contents, Stored
from bertrt.export.checkpoints.formats.tf_slices import Extents, arrange_slices, slice_key
from bertrt.export.checkpoints.formats.tf_table import read_table

__all__ = ["read_bundle"]

# TensorFlow's numbers for the types that weights and counters have (types.proto).
_DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    19: torch.float16,
}
_MOST_AXES = 8
_OBJECT_GRAPH = "/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class _Entry:
    """Where an array's bytes are; `slices` are the (start, length) of its parts, if it has any."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: tuple[Extents, ...]


def read_bundle(folder: Path, files: tuple[str, ...]) -> Contents:
    """The variables of a checkpoint, from its `.index` file and its `.data` files in their order.

    Raises ExportError when the index is damaged; an array's own damage is told when it is read.
    """
    index, data = files[0], files[1:]
    try:
        table = read_table((folder / index).read_bytes())
        _check_header(table.pop(b"", b""), len(data))
        entries = {key: _entry(value) for key, value in table.items()}
        # Names of parts begin with a zero byte.
        names = {key: key.decode() for key in entries if not key.startswith(b"\0")}
    except (OSError, ValueError) as error:
        raise ExportError(f"{index} is damaged ({error}): fetch it again") from error
    paths = tuple(folder / name for name in data)
    arrays = {
        name: Stored(entries[key].shape, _reader(paths, entries, key, name))
        for key, name in names.items()
    }
    if any(name.endswith(_OBJECT_GRAPH) for name in arrays):
        return Contents("TensorFlow 2 checkpoint", "model garden", arrays)
    return Contents("TensorFlow 1 checkpoint", "tensorflow 1", arrays)


def _check_header(header: bytes, files: int) -> None:
    values = dict(fields(header))
    if values.get(1, 0) != files:
        raise ValueError(f"it counts {values.get(1, 0)!r} data files, and there are {files}")
    if values.get(2, 0) != 0:
        raise ValueError("it was written on a big-endian machine")


def _entry(message: bytes) -> _Entry:
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    slices = []
    for number, value in fields(message):
        if number in numbers and isinstance(value, int):
            numbers[number] = value
        elif number == 2 and isinstance(value, bytes):
            shape = tuple(_int64(one, 1) for kind, one in fields(value) if kind == 2)
        elif number == 7 and isinstance(value, bytes):
            extents = [one for kind, one in fields(value) if kind == 1]
            slices.append(tuple((_int64(one, 1), _int64(one, 2, -1)) for one in extents))
    if any(size < 0 for size in shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"the shape {list(shape[:_MOST_AXES])} is impossible")
    return _Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6], tuple(slices))


def _int64(message: int | bytes, number: int, default: int = 0) -> int:
    """A field of a message inside a message."""
    if not isinstance(message, bytes):
        raise ValueError("a number where a message should be")
    value = dict(fields(message)).get(number)
    return default if not isinstance(value, int) else signed(value)


def _reader(
    paths: tuple[Path, ...], entries: dict[bytes, _Entry], key: bytes, name: str
) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        entry = entries[key]
        if not entry.slices:
            return _read(paths, entry, name)
        keys = [slice_key(name, extents) for extents in entry.slices]
        if any(key not in entries for key in keys):
            raise ExportError(f"the checkpoint lacks a part of {name!r}: fetch it again")
        parts = [entries[key] for key in keys]
        try:
            # Before anything is read, so that no part is read twice.
            shapes = [part.shape for part in parts]
            axis, order = arrange_slices(entry.shape, list(zip(entry.slices, shapes, strict=True)))
        except ValueError as error:
            raise ExportError(f"the parts of {name!r} are damaged: {error}") from error
        return torch.cat([_read(paths, parts[number], name) for number in order], dim=axis)

    return read


def _read(paths: tuple[Path, ...], entry: _Entry, name: str) -> torch.Tensor:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise ExportError(f"{name!r} is of TensorFlow's type {entry.dtype}, which is not read")
    if entry.shard >= len(paths) or entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise ExportError(
            f"{name!r} is damaged: its shape {list(entry.shape)} does not fit its size of "
            f"{entry.size} bytes in file {entry.shard}"
        )
    path = paths[entry.shard]
    try:
        with path.open("rb") as file:
            if entry.offset + entry.size > file.seek(0, 2):
                raise ExportError(f"{path.name} is cut off before {name!r}: fetch it again")
            file.seek(entry.offset)
            data = bytearray(file.read(entry.size))
    except OSError as error:
        raise ExportError(f"{path.name} cannot be read ({error}): fetch it again") from error
    if masked(crc32c(memoryview(data))) != entry.checksum:
        raise ExportError(
            f"{path.name} is damaged at {name!r}, whose checksum is wrong: fetch it again"
        )
    if not data:
        return torch.empty(entry.shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(entry.shape)
