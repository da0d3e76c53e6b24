"""FusedMatMul by weights [N, K] → 1x1 Conv, which ONNX Runtime computes faster with AVX-512.

ONNX Runtime's matrix product waits for weights that come from memory, and the fewer tokens there
are, the longer its share. Its convolutions read weights and features in blocks of one vector
register, and do not wait. The graph has the standard Conv with features before tokens,
[1, H, B, S]. ONNX Runtime blocks the weights when it opens the graph; it blocks features at the
start of a chain of convolutions, and unblocks them at its end.
"""

import onnx_ir as ir

from bertrt.export.graph.activation import activation_after
from bertrt.export.graph.edit import constant, replace_value
from bertrt.export.graph.match_linear import bias_after, is_output_major_product

__all__ = ["make_convolutions"]


def make_convolutions(model: ir.Model) -> int:
    """Replace the products that `store_output_major` made, in place; returns the count.

    The bias after a product becomes the convolution's, and an activation between two of them stays
    between them. Weights in an external file stay there.
    """
    graph = model.graph
    products = [node for node in graph if is_output_major_product(node)]
    converter = _Converter(graph, set(products))
    for product in products:
        converter.convert(product)
    return len(products)


class _Converter:
    """Replaces products, and keeps the values [B, S, N] that also exist as [1, N, B, S]."""

    def __init__(self, graph: ir.Graph, products: set[ir.Node]) -> None:
        self._graph = graph
        self._products = products
        self._features_first: dict[ir.Value, ir.Value] = {}
        self._kernels: dict[ir.Value, ir.Value] = {}

    def convert(self, product: ir.Node) -> None:
        """Replace a product, and the Add of its bias, by a Conv."""
        graph, (x, weight) = self._graph, product.inputs
        found = bias_after(product, size=weight.shape[0])
        last, bias = (product, []) if found is None else (found[0], [found[1]])
        name = str(product.name)
        if weight not in self._kernels:  # layers may share it
            self._kernels[weight] = _kernel(graph, weight)
        inputs = [self._with_features_first(x, product), self._kernels[weight], *bias]
        conv = ir.node("Conv", inputs, {"kernel_shape": [1, 1]}, name=name)
        graph.insert_before(last, conv)
        self._replace(last.outputs[0], conv.outputs[0], before=last, name=name)
        if last is not product:
            graph.remove(last, safe=True)
        graph.remove(product, safe=True)

    def _with_features_first(self, x: ir.Value, reader: ir.Node) -> ir.Value:
        """Return `x` [B, S, N] as [1, N, B, S]."""
        if x not in self._features_first:
            axis = constant(self._graph, [0])
            batched = ir.node("Unsqueeze", [x, axis], name=f"{reader.name}/Unsqueeze")
            transposed = ir.node(
                "Transpose",
                batched.outputs,
                {"perm": [0, 3, 1, 2]},
                name=f"{reader.name}/Transpose",
            )
            self._graph.insert_before(reader, [batched, transposed])
            self._features_first[x] = transposed.outputs[0]
        return self._features_first[x]

    def _replace(self, old: ir.Value, new: ir.Value, *, before: ir.Node, name: str) -> None:
        """Replace `old` [B, S, N] by `new` [1, N, B, S], transposed back.

        An activation whose result only convolutions read is applied to `new` as it is, without
        transposing back.
        """
        activation = activation_after(self._graph, old)
        if activation is not None and self._only_products_read(activation.result):
            old.replace_all_uses_with(new)
            for node in activation.nodes:
                node.outputs[0].shape = None
            self._features_first[activation.result] = activation.result
            return
        transposed = ir.node(
            "Transpose", [new], {"perm": [0, 2, 3, 1]}, name=f"{name}/Transpose_out"
        )
        axis = constant(self._graph, [0])
        squeezed = ir.node("Squeeze", [transposed.outputs[0], axis], name=f"{name}/Squeeze")
        self._graph.insert_before(before, [transposed, squeezed])
        replace_value(old, squeezed.outputs[0])

    def _only_products_read(self, value: ir.Value) -> bool:
        return not value.is_graph_output() and all(
            node in self._products and index == 0 for node, index in value.uses()
        )


def _kernel(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    """Replace a stored [N, K] by the same numbers as [N, K, 1, 1]."""
    tensor, name, shape = weight.const_value, str(weight.name), ir.Shape([*weight.shape, 1, 1])
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
