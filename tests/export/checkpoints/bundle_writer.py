"""Write TensorFlow's checkpoints byte by byte, so that tests can damage any part.

Nothing of the reader is used: the checksum is computed bit by bit, from its definition.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "float16": 19}


def _make_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """Compute the CRC-32C of bytes, one by one."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """Compute the checksum as TensorFlow stores it."""
    return _mask(crc32c(data))


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value: int) -> bytes:
    """Encode a number with seven bits per byte."""
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(index: int, value: int) -> bytes:
    """Encode a number field of a message."""
    return varint(index << 3) + varint(value & (1 << 64) - 1)


def message(index: int, data: bytes) -> bytes:
    """Encode a bytes field of a message."""
    return varint(index << 3 | 2) + varint(len(data)) + data


@dataclass
class Entry:
    """One variable's record; tests may set any field to a wrong value."""

    shape: tuple[int, ...]
    offset: int
    size: int
    checksum: int
    dtype: int = 1
    shard: int = 0
    extra: bytes = b""

    def encode(self) -> bytes:
        shape = b"".join(message(2, number(1, size)) for size in self.shape)
        return (
            number(1, self.dtype)
            + message(2, shape)
            + number(3, self.shard)
            + number(4, self.offset)
            + number(5, self.size)
            + varint(6 << 3 | 5)
            + struct.pack("<I", self.checksum)
            + self.extra
        )


@dataclass
class Bundle:
    """A checkpoint to write: entries by name, and the bytes that they describe."""

    entries: dict[str, Entry] = field(default_factory=dict)
    data: bytes = b""
    header: bytes = number(1, 1)

    def add(self, name: str, array: np.ndarray[Any, Any]) -> None:
        raw = array.tobytes()
        self.entries[name] = Entry(
            array.shape, len(self.data), len(raw), masked(raw), DTYPES[str(array.dtype)]
        )
        self.data += raw

    def write(self, folder: Path, stem: str = "bert_model.ckpt") -> None:
        records = {"": self.header}
        records |= {name: entry.encode() for name, entry in self.entries.items()}
        ordered = {name.encode(): records[name] for name in sorted(records)}
        (folder / f"{stem}.index").write_bytes(table(ordered))
        (folder / f"{stem}.data-00000-of-00001").write_bytes(self.data)


def bundle_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Bundle:
    """Make a valid checkpoint of arrays."""
    bundle = Bundle()
    for name, array in arrays.items():
        bundle.add(name, array)
    return bundle


def block(records: Mapping[bytes, bytes], kind: int = 0) -> bytes:
    """Encode a block of a table, whose keys share prefixes, with its trailer."""
    out, last = b"", b""
    for key, value in records.items():
        shared = 0
        while shared < min(len(key), len(last)) and key[shared] == last[shared]:
            shared += 1
        own = key[shared:]
        out += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        last = key
    return signed_block(out + struct.pack("<II", 0, 1), kind)


def signed_block(content: bytes, kind: int = 0) -> bytes:
    """Append a compression byte and a valid checksum to a block."""
    content += bytes([kind])
    return content + struct.pack("<I", masked(content))


def table(records: Mapping[bytes, bytes], size: int = 9) -> bytes:
    """Encode a table with `size` records per block, in the given order."""
    keys = list(records)
    groups = [keys[start : start + size] for start in range(0, len(keys), size)]
    return join([(group[-1], block({key: records[key] for key in group})) for group in groups])


def join(blocks: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a table from signed blocks and the last key of each."""
    out, handles = b"", {}
    for last, content in blocks:
        handles[last] = varint(len(out)) + varint(len(content) - 5)
        out += content
    places = []
    for content in (block({}), block(handles)):
        places.append(varint(len(out)) + varint(len(content) - 5))
        out += content
    footer = b"".join(places)
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def split(data: bytes) -> list[bytes]:
    """Return the blocks of a valid table, without trailers: each ends where its checksum fits."""
    blocks, start, crc = [], 0, 0xFFFFFFFF
    for at, byte in enumerate(data[:-48]):
        if at < start:
            continue
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
        if data[at + 1 : at + 5] == struct.pack("<I", _mask(crc ^ 0xFFFFFFFF)):
            blocks.append(data[start:at])
            start, crc = at + 5, 0xFFFFFFFF
    return blocks
