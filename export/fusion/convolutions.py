"""Linear layers as 1x1 convolutions, for which ONNX Runtime has the faster kernel with AVX-512.

ONNX Runtime multiplies matrices by a kernel that waits for weights which come from memory, the more
so the fewer tokens there are. Its convolutions read weights and features in blocks of one vector
of the processor, and do not. The graph has the standard operator on features before tokens,
[1, H, B, S]; ONNX Runtime blocks weights when it opens the graph, features where a chain of such
nodes begins, and takes them apart where it ends.
"""

import onnx_ir as ir

from bertrt.export.fusion.weight_rows import reads_rows
from bertrt.export.graph.activation import activation_after
from bertrt.export.graph.edit import constant
from bertrt.export.graph.match_linear import bias_after
from bertrt.export.graph.replace import replace_value

__all__ = ["make_convolutions"]


def make_convolutions(model: ir.Model) -> int:
    """Make convolutions of the products that `store_rows` made, in place; returns how many.

    The bias that is added to one is part of the convolution then, and an activation between two of
    them stays between them. Weights that lie in a file are still read from where they are.
    """
    graph = model.graph
    products = [node for node in graph if reads_rows(node)]
    blocks = _Blocks(graph, set(products))
    for product in products:
        blocks.convolve(product)
    return len(products)


def _kernel(graph: ir.Graph, rows: ir.Value) -> ir.Value:
    """A stored [N, K] as [N, K, 1, 1], in the place of it."""
    tensor, name, shape = rows.const_value, str(rows.name), ir.Shape([*rows.shape, 1, 1])
    if isinstance(tensor, ir.ExternalTensor):
        tensor = ir.ExternalTensor(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=shape,
            name=name,
            base_dir=tensor.base_dir,
        )
    else:
        tensor = ir.tensor(tensor.numpy()[:, :, None, None], name=name)
    graph.initializers.pop(name)
    kernel = ir.Value(name=name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(kernel)
    return kernel


class _Blocks:
    """The values [B, S, N] that there are as [1, N, B, S] too, for convolutions to read."""

    def __init__(self, graph: ir.Graph, products: set[ir.Node]) -> None:
        self._graph = graph
        self._products = products
        self._known: dict[ir.Value, ir.Value] = {}

    def convolve(self, product: ir.Node) -> None:
        """Replace a product, and the Add of its bias."""
        graph, (x, rows) = self._graph, product.inputs
        found = bias_after(product, rows.shape[0])
        last, bias = (product, []) if found is None else (found[0], [found[1]])
        name = str(product.name)
        inputs = [self._features(x, product), _kernel(graph, rows), *bias]
        conv = ir.node("Conv", inputs, {"kernel_shape": [1, 1]}, name=name)
        graph.insert_before(last, conv)
        self._give(last.outputs[0], conv.outputs[0], before=last, name=name)
        if last is not product:
            graph.remove(last, safe=True)
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
        replace_value(old, value)

    def _is_for_products(self, value: ir.Value) -> bool:
        return not value.is_graph_output() and all(
            node in self._products and index == 0 for node, index in value.uses()
        )
