"""Make and find nodes of the Triton engine's operators."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from bertrt.kernels.ops.operator import DOMAIN
from bertrt.kernels.ops.registry import OPERATORS

__all__ = ["find_nodes", "make_node", "only_node"]


def make_node(
    operator: str, inputs: Sequence[ir.Value | None], scope: str, **attributes: Any
) -> ir.Node:
    """Make a node named `{scope}/{operator}`; it is not in a graph yet."""
    return ir.node(
        operator,
        inputs,
        attributes,
        domain=DOMAIN,
        num_outputs=len(OPERATORS[operator].outputs),
        name=f"{scope}/{operator}",
    )


def find_nodes(graph: ir.Graph, operator: str) -> list[ir.Node]:
    """Return the graph's nodes of an operator, in order."""
    return [node for node in graph if node.op_type == operator]


def only_node(graph: ir.Graph, operator: str) -> ir.Node | None:
    """Return the graph's only node of an operator; None if there is none, or more than one."""
    nodes = find_nodes(graph, operator)
    return nodes[0] if len(nodes) == 1 else None
