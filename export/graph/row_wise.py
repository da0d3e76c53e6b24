"""Find the nodes that process each token independently.

In BERT these are all nodes but attention: linear layers, sums, normalizations, activations. Where
only some tokens' outputs are read, those nodes can run on these tokens alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from bertrt.export.graph.match_linear import stored_matrix
from bertrt.export.graph.values import is_stored

__all__ = [
    "ELEMENTWISE",
    "PICKED_BATCH",
    "PICKED_SEQUENCE",
    "LastLayer",
    "Use",
    "internal_values",
    "last_layer",
    "row_wise_values",
    "set_token_axis",
]

# A node, and the index of one of its inputs.
Use = tuple[ir.Node, int]

# Operators with one output number for each input number. transformers' activations consist of them.
ELEMENTWISE = frozenset(
    """
    Add Sub Mul Div Pow Sqrt Exp Erf Tanh Sigmoid Softplus Relu LeakyRelu PRelu HardSwish Mish Gelu
    BiasGelu Clip Min Max Greater Where CastLike
    """.split()
)

# Names of the batch and sequence axes of values that may hold some of the tokens only.
PICKED_BATCH, PICKED_SEQUENCE = "kept_batch", "kept_sequence"


@dataclass(frozen=True)
class LastLayer:
    """The nodes of the last encoder layer that read its input or its attention's output.

    Attributes:
        query: the MatMul that makes queries of the layer's input `hidden`, float32 [B, S, H].
        output: the MatMul that reads the attention's output, [B, S, H].
        residual: the Add of `hidden` to the attention's projected output.
    """

    query: ir.Node
    output: ir.Node
    residual: ir.Node

    @property
    def hidden(self) -> ir.Value:
        """The layer's input."""
        value: ir.Value = self.query.inputs[0]
        return value

    @property
    def attention(self) -> ir.Node | None:
        """The node that makes the heads' joined contexts, [B, S, H]."""
        return self.output.inputs[0].producer()

    @property
    def residual_use(self) -> Use:
        """The residual Add, and the index of its input that is `hidden`."""
        return self.residual, list(self.residual.inputs).index(self.hidden)


def last_layer(graph: ir.Graph) -> LastLayer | None:
    """Find the last encoder layer by the names of its modules; None in a graph without one.

    Call this before `pack_qkv`, which joins the query with key and value.
    """
    queries = _nodes_ending(graph, ".attention.self.query/MatMul")
    outputs = _nodes_ending(graph, ".attention.output.dense/MatMul")
    if not queries or not outputs:
        return None
    adds = [node for node in queries[-1].inputs[0].consumers() if node.op_type == "Add"]
    return LastLayer(queries[-1], outputs[-1], adds[0]) if len(adds) == 1 else None


def row_wise_values(
    graph: ir.Graph, starts: Iterable[Use], stop: Callable[[ir.Node], bool]
) -> list[ir.Value] | None:
    """Return the values that are computed token by token from what `starts` read, in order.

    Args:
        graph: the graph, in topological order.
        starts: the uses that would read fewer tokens, [B, S, …].
        stop: returns True for a node at which the search ends; it may read fewer tokens.

    Returns None if a node on the way mixes tokens.
    """
    found: dict[ir.Value, None] = {}
    first = set(starts)
    for node in graph:
        indices = [
            index
            for index, value in enumerate(node.inputs)
            if value is not None and (value in found or (node, index) in first)
        ]
        if not indices or stop(node):
            continue
        if not _is_row_wise(node, indices):
            return None
        found.update(dict.fromkeys(node.outputs))
    return list(found)


def internal_values(values: Iterable[ir.Value]) -> list[ir.Value]:
    """Return the values that are not graph outputs; outputs keep the names of their axes."""
    return [value for value in values if not value.is_graph_output()]


def set_token_axis(
    values: Iterable[ir.Value], *, tokens: str | int, batch: str | None = None
) -> None:
    """Rename the axis S of values [B, S, …], and B too if `batch` is given.

    ONNX Runtime plans memory by the names of axes, so a value with fewer tokens must not have the
    axis name of one with all tokens. Values without a known shape keep it unknown.
    """
    for value in values:
        if value.shape is not None and value.shape.rank() == 3:
            first, _, last = value.shape
            value.shape = ir.Shape([batch or first, tokens, last])


def _nodes_ending(graph: ir.Graph, ending: str) -> list[ir.Node]:
    return [node for node in graph if str(node.name).endswith(ending)]


def _is_row_wise(node: ir.Node, indices: list[int]) -> bool:
    """Whether fewer tokens at the inputs `indices` leave the other tokens' outputs unchanged."""
    if node.op_type in ELEMENTWISE:
        return all(
            value is None or index in indices or _is_equal_for_all_tokens(value)
            for index, value in enumerate(node.inputs)
        )
    if node.op_type == "Attention":
        # Queries do not see each other; the mask has a row for each. Without a number of heads
        # the queries are [B, N, S, D].
        rows = [0] if len(node.inputs) < 4 else [0, 3]
        causal = node.attributes.get_int("is_causal", 0)
        return indices == rows and "q_num_heads" in node.attributes and not causal
    if indices != [0]:
        return False
    if node.op_type == "LayerNormalization":
        return bool(node.attributes.get_int("axis", -1) == -1)
    return node.op_type == "MatMul" and stored_matrix(node.inputs[1]) is not None


def _is_equal_for_all_tokens(value: ir.Value) -> bool:
    """Whether the value is stored, and all its axes but the last have size 1."""
    if not is_stored(value) or value.shape is None:
        return False
    return all(size == 1 for size in list(value.shape)[:-1])
