"""Read the sorted table of names and values in a TensorFlow checkpoint's `.index` file.

This is LevelDB's table format: blocks of entries, each with a checksum, a block that lists the
blocks, and a footer with that one's position. TensorFlow writes it without compression.
"""

import struct
from collections.abc import Iterator

from bertrt.export.checkpoints.formats.crc32c import crc32c, masked
from bertrt.export.checkpoints.formats.protobuf import read_varint

__all__ = ["read_table"]

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5  # a byte for the compression and four for the checksum

# Names share prefixes, so a short file could expand to very long ones.
_LONGEST_KEY = 1024
_MOST_ENTRIES = 100_000


def read_table(data: bytes) -> dict[bytes, bytes]:
    """Return all entries of a table; raises ValueError, with the reason, if it is damaged."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it does not end like a checkpoint's index")
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0)  # a block that TensorFlow leaves empty
    (offset, size), _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    last = None
    for _, handle in _entries(_block(data, offset, size)):
        (offset, size), _ = _handle(handle, 0)
        for key, value in _entries(_block(data, offset, size)):
            # The order also ensures that no block is listed twice.
            if last is not None and key <= last:
                raise ValueError("its names are not in order")
            if len(table) == _MOST_ENTRIES:
                raise ValueError(f"it has more than {_MOST_ENTRIES} names")
            table[key] = value
            last = key
    return table


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Decode a block's offset and size; returns them and the offset after them."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    """Return the bytes of a block's entries, after checking its checksum."""
    block = data[offset : offset + size + _TRAILER]
    if len(block) != size + _TRAILER:
        raise ValueError("it is truncated")
    if struct.unpack("<I", block[-4:])[0] != masked(crc32c(block[:-4])):
        raise ValueError("a checksum is wrong")
    if block[size] != 0:
        raise ValueError("it is compressed, unlike TensorFlow's checkpoints")
    restarts = struct.unpack("<I", block[size - 4 : size])[0] if size >= 4 else 0
    end = size - 4 - 4 * restarts
    if size < 4 or end < 0:
        raise ValueError("a block has no entries")
    return block[:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block; each key gives its common prefix with the previous one."""
    key, at, count = b"", 0, 0
    while at < len(block):
        shared, at = read_varint(block, at)
        own, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + own + length > len(block):
            raise ValueError("an entry is truncated")
        if shared + own > _LONGEST_KEY:
            raise ValueError(f"a name is longer than {_LONGEST_KEY} bytes")
        count += 1
        if count > _MOST_ENTRIES:
            raise ValueError(f"it has more than {_MOST_ENTRIES} names")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length
