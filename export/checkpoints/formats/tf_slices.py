"""Variables that TensorFlow stores in parts: the keys of the parts, and their order."""

from collections.abc import Sequence

__all__ = ["Extents", "arrange_slices", "slice_key"]

# Of each axis the start and the length; a length of -1 is the whole axis.
Extents = tuple[tuple[int, int], ...]


def slice_key(name: str, extents: Extents) -> bytes:
    """The index's key for a part of a variable.

    Source: EncodeTensorNameSlice in tensorflow/core/util/saved_tensor_slice_util.cc, which codes
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
    """A number of n bytes has n leading ones, then its sign; a negative one has all bits turned."""
    if value < 0:
        return bytes(255 - byte for byte in _signed(~value))
    size = value.bit_length() // 7 + 1
    lead = ((1 << size) - 1) << (7 * size)
    return (value | lead).to_bytes(size, "big")


def arrange_slices(
    shape: Sequence[int], parts: Sequence[tuple[Extents, Sequence[int]]]
) -> tuple[int, list[int]]:
    """The axis along which parts, each with its extents and shape, are joined, and their order.

    Raises ValueError unless they cover the shape once, cut along one axis.
    """
    if any(len(extents) != len(shape) for extents, _ in parts) or not shape:
        raise ValueError("they have other axes than the whole")
    cut = {
        axis
        for extents, _ in parts
        for axis, (start, length) in enumerate(extents)
        if (start, length) not in ((0, -1), (0, shape[axis]))
    }
    if len(cut) > 1:
        raise ValueError("they are cut along more than one axis")
    axis = cut.pop() if cut else 0
    order = sorted(range(len(parts)), key=lambda number: parts[number][0][axis])
    at = 0
    for number in order:
        extents, stored = parts[number]
        start, length = extents[axis]
        size = shape[axis] if length == -1 else length
        if start != at or size < 1 or [*stored] != [*shape[:axis], size, *shape[axis + 1 :]]:
            raise ValueError(f"they have a gap or overlap at {start}")
        at += size
    if at != shape[axis]:
        raise ValueError(f"they end at {at} of {shape[axis]}")
    return axis, order
