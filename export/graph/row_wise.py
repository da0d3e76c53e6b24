"""Which part of a graph works token by token, and so gives the same numbers for fewer tokens.

Everything in BERT but attention does: linear layers, sums, normalizations, activations. Where only
some tokens' answers are read, that part may be run on those tokens alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx_ir as ir

__all__ = ["ELEMENTWISE", "LastLayer", "Use", "inner", "last_layer", "narrow", "row_wise"]

# A node and which of its inputs is meant.
Use = tuple[ir.Node, int]

# One number out for one number in; the activations that transformers knows are made of these.
ELEMENTWISE = frozenset(
    """
    Add Sub Mul Div Pow Sqrt Exp Erf Tanh Sigmoid Softplus Relu LeakyRelu PRelu HardSwish Mish Gelu
    BiasGelu Clip Min Max Greater Where CastLike
    """.split()
)


@dataclass(frozen=True)
class LastLayer:
    """Where the last encoder layer reads its input, and its attention's.

    `query` is the MatMul that makes queries of the layer's input `hidden`, float32 [B, S, H];
    `output` the MatMul that reads what attention gives, [B, S, H]; `residual` the Add of `hidden`
    to what comes of that.
    """

    query: ir.Node
    output: ir.Node
    residual: ir.Node

    @property
    def hidden(self) -> ir.Value:
        """What the layer reads."""
        value: ir.Value = self.query.inputs[0]
        return value

    @property
    def attention(self) -> ir.Node | None:
        """What makes the heads' joined contexts, [B, S, H]."""
        return self.output.inputs[0].producer()

    @property
    def residual_use(self) -> Use:
        """The residual Add, and which of its inputs is `hidden`."""
        return self.residual, list(self.residual.inputs).index(self.hidden)


def last_layer(graph: ir.Graph) -> LastLayer | None:
    """The last encoder layer, found by its modules' names; None in a graph without one.

    To be asked before the query is packed with key and value.
    """
    queries = _named(graph, ".attention.self.query/MatMul")
    outputs = _named(graph, ".attention.output.dense/MatMul")
    if not queries or not outputs:
        return None
    adds = [node for node in queries[-1].inputs[0].consumers() if node.op_type == "Add"]
    return LastLayer(queries[-1], outputs[-1], adds[0]) if len(adds) == 1 else None


def _named(graph: ir.Graph, ending: str) -> list[ir.Node]:
    return [node for node in graph if str(node.name).endswith(ending)]


def row_wise(
    graph: ir.Graph, starts: Iterable[Use], stop: Callable[[ir.Node], bool]
) -> list[ir.Value] | None:
    """The values that come, token by token, of what `starts` read.

    Args:
        graph: the graph, in topological order.
        starts: where fewer tokens would be read, [B, S, …].
        stop: says of a node that it may read fewer tokens and the search ends there.

    Returns them in order, or None when something on the way mixes tokens.
    """
    found: dict[ir.Value, None] = {}
    first = set(starts)
    for node in graph:
        places = [
            index
            for index, value in enumerate(node.inputs)
            if value is not None and (value in found or (node, index) in first)
        ]
        if not places or stop(node):
            continue
        if not _works_by_token(node, places):
            return None
        found.update(dict.fromkeys(node.outputs))
    return list(found)


def _works_by_token(node: ir.Node, places: list[int]) -> bool:
    """Whether fewer tokens at the inputs `places` give the same tokens' outputs and no others."""
    if node.op_type in ELEMENTWISE:
        return all(
            value is None or index in places or _is_the_same_for_every_token(value)
            for index, value in enumerate(node.inputs)
        )
    if node.op_type == "Attention":
        # Queries do not see each other; the mask has a row for each. Without a number of heads
        # the queries are [B, N, S, D].
        rows = [0] if len(node.inputs) < 4 else [0, 3]
        causal = node.attributes.get_int("is_causal", 0)
        return places == rows and "q_num_heads" in node.attributes and not causal
    if places != [0]:
        return False
    if node.op_type == "LayerNormalization":
        return bool(node.attributes.get_int("axis", -1) == -1)
    return node.op_type == "MatMul" and _is_matrix(node.inputs[1])


def _is_the_same_for_every_token(value: ir.Value) -> bool:
    """Whether this is stored, and has no axis but the last."""
    if not value.is_initializer() or value.is_graph_input() or value.shape is None:
        return False
    return all(size == 1 for size in list(value.shape)[:-1])


def _is_matrix(value: ir.Value) -> bool:
    """Whether this is a stored matrix, or one transposed."""
    node = value.producer()
    if node is not None and node.op_type == "Transpose":
        value = node.inputs[0]
    return value.is_initializer() and value.shape is not None and value.shape.rank() == 2


def inner(values: Iterable[ir.Value]) -> list[ir.Value]:
    """Those that are no graph outputs, which tools plan for by their axes' usual names."""
    return [value for value in values if not value.is_graph_output()]


def narrow(values: Iterable[ir.Value], *, tokens: str | int, batch: str | None = None) -> None:
    """Say that values [B, S, …] have another S, and B too if `batch` is given.

    ONNX Runtime plans memory by the names of axes, so that what has fewer tokens must not have
    the name of what has all. Values without a known shape stay so.
    """
    for value in values:
        if value.shape is not None and value.shape.rank() == 3:
            first, _, last = value.shape
            value.shape = ir.Shape([batch or first, tokens, last])
