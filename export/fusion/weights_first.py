"""A copy of some of a graph's nodes, its products computed weights first, as W xᵀ.

What a product gives then has its tokens in columns, [B, N, S]. An activation between two products
is computed on those as they are; for whatever else reads them they are transposed.
"""

from collections.abc import Collection, Sequence
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.rows import ELEMENTWISE
from bertrt.export.fusion.stored import store

__all__ = ["copy_weights_first"]


def copy_weights_first(
    graph: ir.Graph,
    nodes: Sequence[ir.Node],
    products: Collection[ir.Node],
    results: Sequence[ir.Value],
    *,
    prefix: str,
) -> tuple[list[ir.Node], list[ir.Value]]:
    """Copies of `nodes`, which belong to no graph yet, and of `results` among their outputs.

    Args:
        graph: where the nodes are, and where biases are stored as columns.
        nodes: in order. Of an If, the nodes of its `else_branch` are copied.
        products: those nodes that are turned round: FusedMatMul of float32 [B, S, K] and a stored
            [N, K], transposed.
        results: what the copies are to give, with tokens in rows.
        prefix: what the names of the copies, and of what they give, begin with.
    """
    copy = _Copy(graph, products, prefix)
    for node in nodes:
        copy.add(node)
    return copy.nodes, [copy.rows(value) for value in results]


class _Copy:
    """What has been copied so far, and what each value has become."""

    def __init__(self, graph: ir.Graph, products: Collection[ir.Node], prefix: str) -> None:
        self.nodes: list[ir.Node] = []
        self._graph = graph
        self._products = set(products)
        self._prefix = prefix
        self._rows: dict[ir.Value, ir.Value] = {}
        self._columns: dict[ir.Value, ir.Value] = {}

    def add(self, node: ir.Node) -> None:
        """Copy a node; what it reads from among the nodes has been copied."""
        if node.op_type == "If":
            branch = node.attributes["else_branch"].as_graph()
            for inner in branch:
                self.add(inner)
            for old, given in zip(node.outputs, branch.outputs, strict=True):
                self._rows[old] = self.rows(given)
        elif node in self._products:
            x, weight = node.inputs
            columns = self._columns.get(x)
            inputs = [weight, self.rows(x) if columns is None else columns]
            attributes = {"transB": int(columns is None)}
            self._columns[node.outputs[0]] = self._append(node, inputs, attributes).outputs[0]
        elif self._stays_in_columns(node):
            inputs = [self._column(value) for value in node.inputs]
            new = self._append(node, inputs, dict(node.attributes))
            self._columns[node.outputs[0]] = new.outputs[0]
        else:
            rows = [None if value is None else self.rows(value) for value in node.inputs]
            new = self._append(node, rows, dict(node.attributes))
            for old, value in zip(node.outputs, new.outputs, strict=True):
                value.shape, value.type = old.shape, old.type
                self._rows[old] = value

    def rows(self, value: ir.Value) -> ir.Value:
        """What the value has become, with tokens in rows; itself if no copied node makes it."""
        if value in self._columns and value not in self._rows:
            turned = ir.node(
                "Transpose",
                [self._columns[value]],
                {"perm": [0, 2, 1]},
                name=f"{self._prefix}{value.name}/Transpose",
            )
            (output,) = turned.outputs
            output.name, output.shape, output.type = turned.name, value.shape, value.type
            self.nodes.append(turned)
            self._rows[value] = output
        return self._rows.get(value, value)

    def _append(
        self, node: ir.Node, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]
    ) -> ir.Node:
        new = ir.node(
            node.op_type,
            inputs,
            attributes,
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=f"{self._prefix}{node.name}",
        )
        for old, value in zip(node.outputs, new.outputs, strict=True):
            value.name = f"{self._prefix}{old.name}"
        self.nodes.append(new)
        return new

    def _stays_in_columns(self, node: ir.Node) -> bool:
        """Whether it is part of an activation between products, and so can do with columns."""
        return (
            node.op_type in ELEMENTWISE
            and any(value in self._columns for value in node.inputs)
            and all(value in self._columns or _is_a_bias(value) for value in node.inputs)
            and self._is_for_products(node)
        )

    def _is_for_products(self, node: ir.Node) -> bool:
        (value,) = node.outputs
        return not value.is_graph_output() and all(
            (reader in self._products and index == 0)
            or (reader.op_type in ELEMENTWISE and self._is_for_products(reader))
            for reader, index in value.uses()
        )

    def _column(self, value: ir.Value) -> ir.Value:
        """What an activation reads in columns: the value so, a number, or a bias as [N, 1]."""
        if value in self._columns:
            return self._columns[value]
        if value.const_value.size == 1:
            return value
        name = f"{value.name}.column"
        known: ir.Value | None = self._graph.initializers.get(name)
        return known or store(self._graph, name, value.const_value.numpy().reshape(-1, 1))


def _is_a_bias(value: ir.Value | None) -> bool:
    """Whether it is stored: one number, or one for each feature."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return False
    return value.const_value is not None and len(value.const_value.shape) <= 1
