"""Linear layers as 1x1 convolutions, for which ONNX Runtime has the faster kernel on a CPU.

ONNX Runtime multiplies matrices by a kernel that waits for weights which come from memory, the more
so the fewer tokens there are. Its convolutions read weights and features in blocks of one vector
of the processor, and do not. The graph has the standard operator on features before tokens,
[1, H, B, S]; ONNX Runtime blocks weights when it opens the graph, features where a chain of such
nodes begins, and takes them apart where it ends.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.fusion.activation import activation_after
from bertrt.export.fusion.linear import linear_at, owned
from bertrt.export.fusion.masked_rows import PICKED_ROWS
from bertrt.export.fusion.replace import take_over
from bertrt.export.fusion.stored import constant, store

__all__ = ["make_convolutions"]

# An encoder layer's products; but for the one after attention, which has no neighbour that it could
# share the blocking of its input or its output with.
_LAYERS = "encoder.layer."
_ALONE = ".attention.output."


def make_convolutions(model: ir.Model) -> int:
    """Make convolutions of the encoder layers' linear layers, in place; returns how many.

    Taken are MatMuls of float32 [B, S, K] by a stored [K, N], with the bias that is added to them,
    which is part of the convolution then. An activation between two of them stays between them.
    Left are those of rows that were picked of the batch, since there may be none, and ONNX
    Runtime's convolutions refuse that.
    """
    graph = model.graph
    products = [node for node in graph if _is_a_layers_product(node)]
    products = [node for node in products if str(node.inputs[0].shape[0]) != PICKED_ROWS]
    blocks = _Blocks(graph, set(products))
    for product in products:
        blocks.convolve(product)
    return len(products)


def _is_a_layers_product(node: ir.Node) -> bool:
    if node.op_type != "MatMul" or not owned(node.inputs[1]):
        return False
    x, weight = node.inputs
    name = str(weight.name)
    if weight.shape.rank() != 2 or _LAYERS not in name or _ALONE in name:
        return False
    return x.shape is not None and x.shape.rank() == 3


class _Blocks:
    """The values [B, S, N] that there are as [1, N, B, S] too, for convolutions to read."""

    def __init__(self, graph: ir.Graph, products: set[ir.Node]) -> None:
        self._graph = graph
        self._products = products
        self._known: dict[ir.Value, ir.Value] = {}

    def convolve(self, product: ir.Node) -> None:
        """Replace the MatMul, and the Add of its bias."""
        graph, layer = self._graph, linear_at(product)
        x, weight = product.inputs
        last = product if layer is None else layer.add
        rows = np.ascontiguousarray(weight.const_value.numpy().T)
        graph.initializers.pop(str(weight.name))
        kernel = store(graph, str(weight.name).removesuffix(".T"), rows[:, :, None, None])
        bias = [] if layer is None else [layer.bias]
        name = str(product.name)
        conv = ir.node(
            "Conv", [self._features(x, product), kernel, *bias], {"kernel_shape": [1, 1]}, name=name
        )
        graph.insert_before(last, conv)
        self._give(last.outputs[0], conv.outputs[0], before=last, name=name)
        if layer is not None:
            graph.remove(layer.add, safe=True)
        graph.remove(product, safe=True)

    def _features(self, x: ir.Value, reader: ir.Node) -> ir.Value:
        """`x` with its features first."""
        if x not in self._known:
            name = f"{reader.name}/{{}}"
            axis = constant(self._graph, [0])
            whole = ir.node("Unsqueeze", [x, axis], name=name.format("Unsqueeze"))
            first = ir.node(
                "Transpose", whole.outputs, {"perm": [0, 3, 1, 2]}, name=name.format("Transpose")
            )
            self._graph.insert_before(reader, [whole, first])
            self._known[x] = first.outputs[0]
        return self._known[x]

    def _give(self, old: ir.Value, new: ir.Value, *, before: ir.Node, name: str) -> None:
        """Have what read `old` read `new`, an activation for convolutions as it is."""
        activation = activation_after(self._graph, old)
        if activation is not None and self._is_for_products(activation.result):
            old.replace_all_uses_with(new)
            for node in activation.nodes:
                node.outputs[0].shape = None
            self._known[activation.result] = activation.result
            return
        last = ir.node("Transpose", [new], {"perm": [0, 2, 3, 1]}, name=f"{name}/Transpose_out")
        axis = constant(self._graph, [0])
        whole = ir.node("Squeeze", [last.outputs[0], axis], name=f"{name}/Squeeze")
        self._graph.insert_before(before, [last, whole])
        value = whole.outputs[0]
        value.name, value.shape, value.type = old.name, old.shape, old.type
        take_over(old, value)

    def _is_for_products(self, value: ir.Value) -> bool:
        return not value.is_graph_output() and all(
            node in self._products and index == 0 for node, index in value.uses()
        )
