"""Replace a node by several others."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.edit import constant, replace_value

__all__ = ["Replacement"]


class Replacement:
    """The nodes that will take the place of one node."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        """Begin without nodes."""
        self._graph = graph
        self._node = node
        self._nodes: list[ir.Node] = []

    def add(self, operator: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        """Add a node and return its output."""
        name = f"{self._node.name}/{operator}_{len(self._nodes)}"
        self._nodes.append(ir.node(operator, inputs, attributes, name=name))
        output: ir.Value = self._nodes[-1].outputs[0]
        output.name = name
        return output

    def number(self, value: float) -> ir.Value:
        """Return a stored float32 number, shape []."""
        return constant(self._graph, np.array(value, np.float32))

    def integers(self, values: Sequence[int]) -> ir.Value:
        """Return stored int64 numbers, shape [len(values)]."""
        return constant(self._graph, np.array(values, np.int64))

    def finish(self, result: ir.Value) -> None:
        """Put the nodes where the node was, and `result` in place of its output."""
        self._graph.insert_before(self._node, self._nodes)
        replace_value(self._node.outputs[0], result)
        self._graph.remove(self._node, safe=True)
