"""Group weights that are one in memory: layers that share theirs are separate in a graph.

A fusion that changes the layout of weights makes one copy for each group. With a copy for each
layer, a graph of twelve layers that are one would need twelve times the memory.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import onnx_ir as ir

__all__ = ["by_memory"]


def by_memory(values: Sequence[ir.Value]) -> Iterator[list[ir.Value]]:
    """Yield stored values in groups whose numbers are at one place in memory, in order.

    No group is kept: its memory is free as soon as nothing else reads it.
    """
    groups = _group(values)
    del values
    while groups:
        yield groups.pop(next(iter(groups)))


def _group(values: Sequence[ir.Value]) -> dict[tuple[object, ...], list[ir.Value]]:
    groups: dict[tuple[object, ...], list[ir.Value]] = defaultdict(list)
    arrays = [value.const_value.numpy() for value in values]  # none gets the place of another
    for value, array in zip(values, arrays, strict=True):
        groups[array.ctypes.data, array.shape, array.strides, array.dtype.str].append(value)
    return groups
