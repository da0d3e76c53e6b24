"""The wire format of protocol buffers, as far as TensorFlow's checkpoints need it."""

from collections.abc import Iterator

__all__ = ["fields", "read_varint", "signed"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each field's number and value: whole numbers without sign, and bytes.

    Raises ValueError for a message that is cut off or no message.
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
            raise ValueError(f"a field of the unknown kind {kind}")
        data = message[at : at + length]
        if len(data) != length:
            raise ValueError("a message that is cut off")
        at += length
        yield number, data if kind == _BYTES else int.from_bytes(data, "little")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, below 2^64, and the place behind it; raises ValueError."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number that is cut off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError("a number of more than ten bytes")


def signed(value: int) -> int:
    """An int64 field's value, from the number that its wire format has."""
    return value - (1 << 64) if value >> 63 else value
