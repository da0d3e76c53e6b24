"""Read TensorFlow's checkpoints, version 1 and 2: an `.index` file and `.data` files.

The index is a table (`tf_table.py`) from names to the positions of their bytes. A partitioned
variable has an entry that lists its slices, and an entry for each slice under an encoded name.
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

# TensorFlow's numbers of the dtypes of weights and counters (types.proto).
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
    """Where an array's bytes are, and the (start, length) of each slice if it is partitioned."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    slices: tuple[Extents, ...]


def read_bundle(folder: Path, files: tuple[str, ...]) -> Contents:
    """Return a checkpoint's variables, given its `.index` file and its `.data` files in order.

    Raises ExportError if the index is damaged. Damage inside an array raises when it is read.
    """
    index, data = files[0], files[1:]
    try:
        table = read_table((folder / index).read_bytes())
        _check_header(table.pop(b"", b""), len(data))
        entries = {key: _entry(value) for key, value in table.items()}
        # Encoded names of slices start with a zero byte.
        names = {key: key.decode() for key in entries if not key.startswith(b"\0")}
    except (OSError, ValueError) as error:
        raise ExportError(f"{index} is damaged ({error}): download it again") from error
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
            shape = tuple(_int64(size, 1) for kind, size in fields(value) if kind == 2)
        elif number == 7 and isinstance(value, bytes):
            extents = [extent for kind, extent in fields(value) if kind == 1]
            slices.append(tuple((_int64(entry, 1), _int64(entry, 2, -1)) for entry in extents))
    if any(size < 0 for size in shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"the shape {list(shape[:_MOST_AXES])} is impossible")
    return _Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6], tuple(slices))


def _int64(message: int | bytes, number: int, default: int = 0) -> int:
    """Return an int64 field of a nested message."""
    if not isinstance(message, bytes):
        raise ValueError("a message is a number")
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
            raise ExportError(f"the checkpoint lacks a slice of {name!r}: download it again")
        slices = [entries[key] for key in keys]
        try:
            # Before anything is read, so that no slice is read twice.
            shapes = [part.shape for part in slices]
            axis, order = arrange_slices(entry.shape, list(zip(entry.slices, shapes, strict=True)))
        except ValueError as error:
            raise ExportError(f"the slices of {name!r} are damaged: {error}") from error
        return torch.cat([_read(paths, slices[number], name) for number in order], dim=axis)

    return read


def _read(paths: tuple[Path, ...], entry: _Entry, name: str) -> torch.Tensor:
    dtype = _DTYPES.get(entry.dtype)
    if dtype is None:
        raise ExportError(f"{name!r} has TensorFlow's type {entry.dtype}, which is not supported")
    if entry.shard >= len(paths) or entry.size != math.prod(entry.shape) * dtype.itemsize:
        raise ExportError(
            f"{name!r} is damaged: its shape {list(entry.shape)} does not fit its size of "
            f"{entry.size} bytes in file {entry.shard}"
        )
    path = paths[entry.shard]
    try:
        with path.open("rb") as file:
            if entry.offset + entry.size > file.seek(0, 2):
                raise ExportError(f"{path.name} is truncated before {name!r}: download it again")
            file.seek(entry.offset)
            data = bytearray(file.read(entry.size))
    except OSError as error:
        raise ExportError(f"{path.name} cannot be read ({error}): download it again") from error
    if masked(crc32c(memoryview(data))) != entry.checksum:
        raise ExportError(
            f"{path.name} is damaged at {name!r}, whose checksum is wrong: download it again"
        )
    if not data:
        return torch.empty(entry.shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(entry.shape)
