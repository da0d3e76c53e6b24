"""The sorted table of names and values that a TensorFlow checkpoint's `.index` file is.

It is LevelDB's table: blocks of entries, each with a checksum, a block that lists the blocks, and a
footer that says where that one is. TensorFlow writes it without compression.
"""

import struct
from collections.abc import Iterator

from bertrt.export.checkpoints.formats.crc32c import crc32c, masked
from bertrt.export.checkpoints.formats.protobuf import read_varint

__all__ = ["read_table"]

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5  # a byte for the compression and four for the checksum

# Names share beginnings, so that a short file could spell out endless ones.
_LONGEST_KEY = 1024
_MOST_ENTRIES = 100_000


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All entries of a table. Raises ValueError when it is damaged, with the reason."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as a checkpoint's index does")
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0)  # of a block that TensorFlow leaves empty
    (offset, size), _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    last = None
    for _, handle in _entries(_block(data, offset, size)):
        (offset, size), _ = _handle(handle, 0)
        for key, value in _entries(_block(data, offset, size)):
            # Being sorted, no block can be listed twice.
            if last is not None and key <= last:
                raise ValueError("its names are not in order")
            if len(table) == _MOST_ENTRIES:
                raise ValueError(f"it has more than {_MOST_ENTRIES} names")
            table[key] = value
            last = key
    return table


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """A block's offset and size, and the place behind them."""
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return (offset, size), at


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The entries of a block whose checksum is right."""
    block = data[offset : offset + size + _TRAILER]
    if len(block) != size + _TRAILER:
        raise ValueError("it is cut off")
    if struct.unpack("<I", block[-4:])[0] != masked(crc32c(block[:-4])):
        raise ValueError("a checksum is wrong")
    if block[size] != 0:
        raise ValueError("it is compressed, which TensorFlow's checkpoints are not")
    restarts = struct.unpack("<I", block[size - 4 : size])[0] if size >= 4 else 0
    end = size - 4 - 4 * restarts
    if size < 4 or end < 0:
        raise ValueError("a block has no entries")
    return block[:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block; each key is told by what it shares with the one before."""
    key, at, count = b"", 0, 0
    while at < len(block):
        shared, at = read_varint(block, at)
        own, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + own + length > len(block):
            raise ValueError("an entry is cut off")
        if shared + own > _LONGEST_KEY:
            raise ValueError(f"a name is longer than {_LONGEST_KEY} bytes")
        count += 1
        if count > _MOST_ENTRIES:
            raise ValueError(f"it has more than {_MOST_ENTRIES} names")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length
