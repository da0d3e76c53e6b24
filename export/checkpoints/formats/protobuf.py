"""Decode the wire format of protocol buffers, as far as TensorFlow's checkpoints use it."""

from collections.abc import Iterator

__all__ = ["fields", "read_varint", "signed"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each field's number and value: unsigned integers, and bytes.

    Raises ValueError for a message that is truncated or invalid.
    """
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = read_varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = read_varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field has the unknown kind {kind}")
        data = message[at : at + length]
        if len(data) != length:
            raise ValueError("a message is truncated")
        at += length
        yield number, data if kind == _BYTES else int.from_bytes(data, "little")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the number at an offset, below 2^64; returns it and the offset after it.

    Raises ValueError if the number is truncated or too long.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number is truncated")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number has more than ten bytes")


def signed(value: int) -> int:
    """Convert an int64 field's unsigned wire format to its value."""
    return value - (1 << 64) if value >> 63 else value
