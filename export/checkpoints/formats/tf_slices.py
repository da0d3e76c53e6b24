"""Slices of TensorFlow's partitioned variables: their keys in the index, and their order."""

from collections.abc import Sequence

__all__ = ["Extents", "arrange_slices", "slice_key"]

# The start and the length along each axis; a length of -1 is the whole axis.
Extents = tuple[tuple[int, int], ...]


def slice_key(name: str, extents: Extents) -> bytes:
    """Return the index's key for a slice of a variable.

    Source: EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.cc, which encodes
    numbers so that they sort as bytes (tensorflow/core/lib/strings/ordered_code.cc).
    """
    text = name.encode().replace(b"\0", b"\0\xff")
    key = _unsigned(0) + text + b"\0\1" + _unsigned(len(extents))
    for start, length in extents:
        key += _signed(start) + _signed(length)
    return key


def _unsigned(value: int) -> bytes:
    digits = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _signed(value: int) -> bytes:
    """Encode a number: n bytes start with n ones and the sign; negative numbers invert all bits."""
    if value < 0:
        return bytes(255 - byte for byte in _signed(~value))
    size = value.bit_length() // 7 + 1
    lead = ((1 << size) - 1) << (7 * size)
    return (value | lead).to_bytes(size, "big")


def arrange_slices(
    shape: Sequence[int], slices: Sequence[tuple[Extents, Sequence[int]]]
) -> tuple[int, list[int]]:
    """Return the axis along which slices are concatenated, and their order.

    Args:
        shape: the whole variable's shape.
        slices: the extents and the shape of each slice.

    Raises ValueError unless they cover the shape once, sliced along one axis.
    """
    if any(len(extents) != len(shape) for extents, _ in slices) or not shape:
        raise ValueError("they have other axes than the whole")
    sliced = {
        axis
        for extents, _ in slices
        for axis, (start, length) in enumerate(extents)
        if (start, length) not in ((0, -1), (0, shape[axis]))
    }
    if len(sliced) > 1:
        raise ValueError("they are sliced along more than one axis")
    axis = sliced.pop() if sliced else 0
    order = sorted(range(len(slices)), key=lambda number: slices[number][0][axis])
    at = 0
    for number in order:
        extents, stored = slices[number]
        start, length = extents[axis]
        size = shape[axis] if length == -1 else length
        if start != at or size < 1 or [*stored] != [*shape[:axis], size, *shape[axis + 1 :]]:
            raise ValueError(f"they have a gap or overlap at {start}")
        at += size
    if at != shape[axis]:
        raise ValueError(f"they end at {at} of {shape[axis]}")
    return axis, order
