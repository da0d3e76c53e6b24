"""Read a graph from its ONNX file and check that the engine supports it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bertrt.errors import ArtifactError
from bertrt.kernels.ops.operator import DOMAIN, VERSION, Operator, Stage
from bertrt.kernels.ops.registry import OPERATORS, STANDARD_OPERATORS

__all__ = ["Graph", "Node", "read_graph"]


@dataclass(frozen=True)
class Node:
    """A node: its operator, its stage, and the names of its values.

    An omitted input is "". `attributes` has a value for each attribute of the operator.
    """

    op_type: str
    stage: Stage
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """A graph. `initializers` names its weights and the defaults of its optional inputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    initializers: frozenset[str]

    @property
    def mask_id(self) -> int | None:
        """The id of the mask token, if the graph can select mask tokens."""
        selects = [node for node in self.nodes if node.op_type == "MaskedRows"]
        return selects[0].attributes["mask_id"] if selects else None

    @property
    def optional_inputs(self) -> list[str]:
        """The names of the inputs that a caller may omit."""
        return [name for name in self.inputs if name in self.initializers]


def read_graph(path: Path) -> tuple[Graph, dict[str, np.ndarray]]:
    """Read an ONNX file and the weights beside it.

    Returns the graph and its initializers by name, in the dtypes in which they are stored
    (bfloat16 as in ml_dtypes).

    Raises ArtifactError for a file that cannot be read, and for an operator, domain, version,
    attribute or number of inputs that the engine does not support.
    """
    try:
        model = onnx.load(path)
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    except Exception as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}") from error
    for entry in model.opset_import:
        if entry.domain == DOMAIN and entry.version != VERSION:
            raise ArtifactError(
                f"{path.name} uses version {entry.version} of the domain {DOMAIN!r}, and this "
                f"bertrt runs version {VERSION}: export the checkpoint again"
            )
    graph = Graph(
        inputs=tuple(value.name for value in model.graph.input),
        outputs=tuple(value.name for value in model.graph.output),
        nodes=tuple(_read_node(node, path.name) for node in model.graph.node),
        initializers=frozenset(weights),
    )
    return graph, weights


def _read_node(proto: Any, file: str) -> Node:
    operator = _find_operator(proto, file)
    inputs = tuple(proto.input)
    required = [name not in operator.optional for name in operator.inputs]
    if not sum(required) <= len(inputs) <= len(required) or any(
        needed and not name for name, needed in zip(inputs, required, strict=False)
    ):
        raise ArtifactError(
            f"{file} has a {operator.name} with the inputs {list(inputs)}, which the Triton engine "
            "does not support: export the checkpoint again"
        )
    return Node(
        operator.name,
        operator.stage,
        inputs,
        tuple(proto.output),
        _read_attributes(proto, operator.attributes, file),
    )


def _find_operator(proto: Any, file: str) -> Operator:
    tables = {DOMAIN: OPERATORS, "": STANDARD_OPERATORS, "ai.onnx": STANDARD_OPERATORS}
    operator = tables.get(proto.domain, {}).get(proto.op_type)
    if operator is None:
        raise ArtifactError(
            f"{file} has the operator {proto.op_type!r} of the domain "
            f"{proto.domain or 'ai.onnx'!r}, which the Triton engine does not support: export the "
            "checkpoint again"
        )
    return operator


def _read_attributes(proto: Any, defaults: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    values = dict(defaults)
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        values[attribute.name] = value.decode() if isinstance(value, bytes) else value
    unknown = sorted(set(values) - set(defaults))
    missing = sorted(name for name, value in values.items() if value is None)
    if unknown or missing:
        what = f"has the attribute {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise ArtifactError(
            f"{file} has a {proto.op_type} that {what}, which the Triton engine does not support: "
            "export the checkpoint again"
        )
    if proto.op_type == "Cast" and values["to"] != onnx.TensorProto.FLOAT:
        raise ArtifactError(
            f"{file} has a Cast to the ONNX type {values['to']}, and the Triton engine casts to "
            "float32 only: export the checkpoint again"
        )
    return MappingProxyType(values)
