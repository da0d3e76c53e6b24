"""Packed int8 product and Split → one int8 product for each part, which saves the Split's copy.

Query, key and value are packed while recipes are searched, since they read the same input and
share its scale. In the final graph each is a product of its own, of the same integers.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import replace_value, store
from bertrt.export.graph.values import is_read_once

__all__ = ["unpack_products"]

# The inputs of MatMulIntegerToFloat (it has seven) with an entry for each column of the output.
_WEIGHT, _SCALE, _BIAS = 1, 3, 6


def unpack_products(model: ir.Model) -> int:
    """Replace each MatMulIntegerToFloat that only an even Split reads, in place.

    One with outlier columns stays packed: their products are added before the Split. Returns the
    number of Splits that were replaced.
    """
    graph = model.graph
    count = 0
    for split in [node for node in graph if node.op_type == "Split"]:
        packed = split.inputs[0].producer()
        if packed is None or packed.op_type != "MatMulIntegerToFloat" or len(split.inputs) != 1:
            continue
        if not is_read_once(packed.outputs[0]) or split.attributes.get_int("axis", 0) != -1:
            continue
        _unpack(graph, packed, split)
        count += 1
    return count


def _unpack(graph: ir.Graph, packed: ir.Node, split: ir.Node) -> None:
    stored = {index: packed.inputs[index] for index in (_WEIGHT, _SCALE, _BIAS)}
    parts = {
        index: np.split(value.const_value.numpy(), len(split.outputs), axis=-1)
        for index, value in stored.items()
    }
    for number, old in enumerate(split.outputs):
        inputs = list(packed.inputs)
        for index, value in stored.items():
            data = np.ascontiguousarray(parts[index][number])
            inputs[index] = store(graph, f"{value.name}.{number}", data)
        node = ir.node(
            "MatMulIntegerToFloat", inputs, domain="com.microsoft", name=f"{packed.name}_{number}"
        )
        graph.insert_before(split, node)
        replace_value(old, node.outputs[0])
    graph.remove([split, packed], safe=True)
    for value in stored.values():
        graph.initializers.pop(value.name)
