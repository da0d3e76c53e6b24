"""A graph of the dialect as a session reads it: nodes, weights and names, checked and immutable."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bertrt.errors import ArtifactError
from bertrt.kernels.engine.standard_ops import ATTRIBUTES
from bertrt.kernels.ops import DOMAIN, OPERATORS, STANDARD, VERSION, Place

__all__ = ["Graph", "Node", "read_graph"]


@dataclass(frozen=True)
class Node:
    """A node: its operator, the place where that runs, and its values by name.

    An input that is left out is "". `attributes` has a value for each that the operator knows.
    """

    operator: str
    place: Place
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """A graph. `initializers` names its weights, and the inputs that have a default."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    initializers: frozenset[str]

    @property
    def mask_id(self) -> int | None:
        """The id of the tokens that it picks where only mask tokens are asked for."""
        picks = [node for node in self.nodes if node.operator == "MaskedRows"]
        return picks[0].attributes["mask_id"] if picks else None

    @property
    def optional(self) -> list[str]:
        """The names of the inputs that a caller may leave out."""
        return [name for name in self.inputs if name in self.initializers]


def read_graph(path: Path) -> tuple[Graph, dict[str, np.ndarray]]:
    """Read an ONNX file, with the weights beside it.

    Returns the graph and the values of its initializers, of the dtypes that they are stored in;
    bfloat16 is that of ml_dtypes.

    Raises ArtifactError for a file that cannot be read, and for an operator, a domain, a version,
    an attribute or a number of inputs that the dialect does not know.
    """
    try:
        model = onnx.load(path)
        weights = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    except Exception as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from error
    for entry in model.opset_import:
        if entry.domain == DOMAIN and entry.version != VERSION:
            raise ArtifactError(
                f"{path.name} is of version {entry.version} of the domain {DOMAIN!r}, and this "
                f"bertrt runs version {VERSION}: export the checkpoint again"
            )
    graph = Graph(
        inputs=tuple(one.name for one in model.graph.input),
        outputs=tuple(one.name for one in model.graph.output),
        nodes=tuple(_node(one, path.name) for one in model.graph.node),
        initializers=frozenset(weights),
    )
    return graph, weights


def _node(proto: Any, file: str) -> Node:
    operator = str(proto.op_type)
    if proto.domain == DOMAIN and operator in OPERATORS:
        known = OPERATORS[operator]
        place, defaults = known.place, known.attributes
        least = len([name for name in known.inputs if name not in known.optional])
        most = len(known.inputs)
        required = [name not in known.optional for name in known.inputs]
    elif proto.domain in ("", "ai.onnx") and operator in STANDARD:
        place, defaults = STANDARD[operator], ATTRIBUTES[operator]
        least, most, required = 1, 1 if operator == "Cast" else 2, [True]
    else:
        raise ArtifactError(
            f"{file} has the operator {operator!r} of the domain {proto.domain or 'ai.onnx'!r}, "
            "which the Triton engine does not run: export the checkpoint again"
        )
    inputs = tuple(proto.input)
    if not least <= len(inputs) <= most or any(
        needed and not name for name, needed in zip(inputs, required, strict=False)
    ):
        raise ArtifactError(
            f"{file} has a {operator} with the inputs {list(inputs)}, which is not how the Triton "
            "engine knows it: export the checkpoint again"
        )
    return Node(operator, place, inputs, tuple(proto.output), _attributes(proto, defaults, file))


def _attributes(proto: Any, defaults: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    given = {one.name: onnx.helper.get_attribute_value(one) for one in proto.attribute}
    values = {
        name: value.decode() if isinstance(value, bytes) else value for name, value in given.items()
    }
    values = {**defaults, **values}
    unknown = sorted(set(values) - set(defaults))
    missing = sorted(name for name, value in values.items() if value is None)
    if unknown or missing:
        what = f"has the attribute {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise ArtifactError(
            f"{file} has a {proto.op_type} that {what}, which is not how the Triton engine knows "
            "it: export the checkpoint again"
        )
    if proto.op_type == "Cast" and values["to"] != onnx.TensorProto.FLOAT:
        raise ArtifactError(
            f"{file} has a Cast to the ONNX type {values['to']}, and the Triton engine casts to "
            "float32 only: export the checkpoint again"
        )
    return MappingProxyType(values)
