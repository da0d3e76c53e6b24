"""Packed int8 products as one for each part: no Split copies what a packed product has written.

Query, key and value are packed while recipes are searched, since they read the same input and
share its scale. In the graph that is kept each is a product of its own, of the same integers.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import store
from bertrt.export.graph.replace import replace_value

__all__ = ["unpack_products"]

# MatMulIntegerToFloat's inputs that have a part for each column of the output, of its seven.
_WEIGHT, _SCALE, _BIAS = 1, 3, 6


def unpack_products(model: ir.Model) -> int:
    """Replace each MatMulIntegerToFloat that only an even Split reads, in place.

    Returns how many Splits that were. One with outlier columns, whose products are added before
    the Split, is left alone.
    """
    graph = model.graph
    count = 0
    for split in [node for node in graph if node.op_type == "Split"]:
        packed = split.inputs[0].producer()
        if packed is None or packed.op_type != "MatMulIntegerToFloat" or len(split.inputs) != 1:
            continue
        if packed.outputs[0].is_graph_output() or len(packed.outputs[0].uses()) != 1:
            continue
        if split.attributes.get_int("axis", 0) != -1:
            continue
        _unpack(graph, packed, split)
        count += 1
    return count


def _unpack(graph: ir.Graph, packed: ir.Node, split: ir.Node) -> None:
    parts = len(split.outputs)
    stored = {place: packed.inputs[place] for place in (_WEIGHT, _SCALE, _BIAS)}
    pieces = {
        place: np.split(value.const_value.numpy(), parts, axis=-1)
        for place, value in stored.items()
    }
    for index, old in enumerate(split.outputs):
        inputs = list(packed.inputs)
        for place, value in stored.items():
            data = np.ascontiguousarray(pieces[place][index])
            inputs[place] = store(graph, f"{value.name}.{index}", data)
        node = ir.node(
            "MatMulIntegerToFloat", inputs, domain="com.microsoft", name=f"{packed.name}_{index}"
        )
        node.outputs[0].shape, node.outputs[0].type = old.shape, old.type
        graph.insert_before(split, node)
        replace_value(old, node.outputs[0])
    graph.remove([split, packed], safe=True)
    for value in stored.values():
        graph.initializers.pop(value.name)
