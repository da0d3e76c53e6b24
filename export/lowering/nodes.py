"""Nodes of the dialect: made and found."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from bertrt.kernels.ops import DOMAIN, OPERATORS

__all__ = ["find", "make", "only"]


def make(operator: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any) -> ir.Node:
    """A node of the dialect, not yet in a graph; its name is `{name}/{operator}`."""
    return ir.node(
        operator,
        inputs,
        attributes,
        domain=DOMAIN,
        num_outputs=len(OPERATORS[operator].outputs),
        name=f"{name}/{operator}",
    )


def find(graph: ir.Graph, operator: str) -> list[ir.Node]:
    """The graph's nodes of one operator, in order."""
    return [node for node in graph if node.op_type == operator]


def only(graph: ir.Graph, operator: str) -> ir.Node | None:
    """The graph's one node of an operator; None where there is none, or more than one."""
    nodes = find(graph, operator)
    return nodes[0] if len(nodes) == 1 else None
