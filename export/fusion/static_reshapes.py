"""Reshape to a computed shape → Reshape to a constant such as [0, 0, N, D]."""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import store

__all__ = ["make_reshapes_static"]


def make_reshapes_static(model: ir.Model) -> int:
    """Give each Reshape a constant shape where the known shapes allow it; returns the count.

    A dimension that the input has at the same index becomes 0 (keep), and one other unknown
    dimension -1 (the rest). With two unknown dimensions that moved, the node stays as it is.
    """
    count = 0
    for node in model.graph:
        if node.op_type != "Reshape" or node.inputs[1].const_value is not None:
            continue
        source, result = node.inputs[0].shape, node.outputs[0].shape
        if source is None or result is None:
            continue
        target = _constant_shape(source, result)
        if target is None:
            continue
        shape = store(model.graph, f"{node.name}/shape", np.array(target, np.int64))
        node.replace_input_with(1, shape)
        node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
        count += 1
    return count


def _constant_shape(source: ir.Shape, result: ir.Shape) -> list[int] | None:
    target = []
    for index, size in enumerate(result):
        if isinstance(size, int):
            target.append(size)
        elif index < len(source) and size.value is not None and size == source[index]:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None
