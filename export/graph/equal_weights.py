"""Store weights that are equal once: layers that share theirs are separate while they are fused."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

__all__ = ["equal_weights", "share_weights"]


def share_weights(model: ir.Model) -> int:
    """Replace each stored matrix that equals an earlier one by it, in place; returns the count."""
    count = 0
    for first, others in list(equal_weights(model)):
        for other in others:
            other.replace_all_uses_with(first)
            model.graph.initializers.pop(other.name)
            count += 1
    return count


def equal_weights(model: ir.Model) -> Iterator[tuple[ir.Value, list[ir.Value]]]:
    """Yield each stored matrix that others equal, and these; vectors are too small to matter."""
    groups: dict[tuple[object, ...], list[tuple[ir.Value, list[ir.Value]]]] = {}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or len(tensor.shape) < 2 or value.is_graph_input():
            continue
        array = tensor.numpy()
        key = (tensor.dtype, tuple(tensor.shape), array[:1].tobytes())
        same = groups.setdefault(key, [])
        for first, others in same:
            if np.array_equal(first.const_value.numpy(), array):
                others.append(value)
                break
        else:
            same.append((value, []))
    for same in groups.values():
        yield from ((first, others) for first, others in same if others)
