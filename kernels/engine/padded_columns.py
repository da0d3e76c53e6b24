"""Pad the columns of the last products, whose number a vocabulary or the labels decide.

cuBLAS is fastest where every row begins at a multiple of 16 bytes, and a row of 30,522 half
precision numbers does not. So the weights get columns of zeros when they are loaded, and the
results lose them again where they leave the device. The products inside of a model need none of
this: hidden sizes are multiples of 8.
"""

from collections.abc import Mapping

import numpy as np

from bertrt.kernels.engine.graph import Graph, Node
from bertrt.kernels.ops.operator import Stage

__all__ = ["pad_columns"]

# In half precision 16 bytes, in float32 32.
_MULTIPLE = 8


def pad_columns(
    graph: Graph, initializers: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Pad the weights and biases of the products that end the DEVICE stage.

    Args:
        graph: the graph.
        initializers: its initializers.

    Returns the initializers, of which some are larger now, and the number of columns without the
    padding of each product that has padding, by the name of its result.
    """
    padded, columns = dict(initializers), {}
    for node in _last_products(graph):
        axes, weight = _axes(node), node.inputs[1]
        count = initializers[weight].shape[axes[weight]]
        if count % _MULTIPLE:
            columns[node.outputs[0]] = count
            for name, axis in axes.items():
                padded[name] = _pad(initializers[name], axis)
    return padded, columns


def _axes(node: Node) -> dict[str, int]:
    """Return a Linear's initializers, and which axis of each is the result's columns."""
    _, weight, *bias = node.inputs
    axis = 0 if node.attributes["transposed"] else 1
    return {weight: axis, **{name: 0 for name in bias if name}}


def _pad(array: np.ndarray, axis: int) -> np.ndarray:
    shape = list(array.shape)
    shape[axis] = -shape[axis] % _MULTIPLE
    return np.concatenate([array, np.zeros(shape, array.dtype)], axis=axis)


def _last_products(graph: Graph) -> list[Node]:
    """Return the Linears that may be padded: no kernel reads their result.

    What else reads their weights has to agree: it is padded in the same way, or it is a table of
    embeddings (a decoder's weight may be that of the words), whose last rows no id selects.
    """
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in set(node.inputs):
            readers.setdefault(name, []).append(node)

    def leaves_the_device(value: str) -> bool:
        return all(
            leaves_the_device(node.outputs[0])
            if node.op_type == "Cast"
            else node.stage is Stage.EXIT
            for node in readers.get(value, [])
        )

    def readers_agree(name: str, axis: int) -> bool:
        return all(
            _axes(node).get(name) == axis
            if node in products
            else node.op_type == "EmbedLayerNorm" and name in node.inputs[3:6] and axis == 0
            for node in readers[name]
        )

    products = [
        node
        for node in graph.nodes
        if node.op_type == "Linear"
        and graph.initializers.issuperset(_axes(node))
        and leaves_the_device(node.outputs[0])
    ]
    while True:
        agreed = [
            node
            for node in products
            if all(readers_agree(name, axis) for name, axis in _axes(node).items())
        ]
        if len(agreed) == len(products):
            return products
        products = agreed
