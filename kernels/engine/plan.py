"""Plan a run: the nodes that the requested outputs need, stage by stage."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bertrt.errors import ArtifactError, InputError
from bertrt.kernels.engine.graph import Graph, Node
from bertrt.kernels.ops.operator import Stage
from bertrt.kernels.ops.registry import OPERATORS

__all__ = ["Plan", "RowCount", "Step", "make_plan"]


@dataclass(frozen=True)
class Step:
    """A node to run. `frees` names the values that no later step reads.

    `allows_partial_sums` is True for a Linear whose result only an AddLayerNorm reads, as its x:
    the two may exchange partial sums. `residual` is the AddLayerNorm's residual if the Linear may
    overwrite it, and otherwise "".
    """

    node: Node
    frees: tuple[str, ...]
    allows_partial_sums: bool = False
    residual: str = ""


@dataclass(frozen=True)
class RowCount:
    """The number of rows of a value on the device: the length of an upload, plus `extra`.

    `extra` is -1 for one row per sequence, because offsets have one entry more.
    """

    upload: str
    extra: int = 0


@dataclass(frozen=True)
class Plan:
    """The steps of a run, and the values that pass between its stages.

    Attributes:
        outputs: the requested outputs.
        entry, device, exit: the steps of each stage, in order.
        uploads: the int32 vectors that DEVICE reads, made by ENTRY or given by the caller.
        offsets: the uploads that are offsets.
        attention_offsets: those of them that attention reads.
        weights: the initializers that DEVICE reads.
        device_results: the values of DEVICE that EXIT reads or that are outputs.
        entry_results: the values of ENTRY that EXIT reads or that are outputs.
    """

    outputs: tuple[str, ...]
    entry: tuple[Step, ...]
    device: tuple[Step, ...]
    exit: tuple[Step, ...]
    uploads: tuple[str, ...]
    offsets: frozenset[str]
    attention_offsets: frozenset[str]
    weights: tuple[str, ...]
    device_results: Mapping[str, RowCount]
    entry_results: tuple[str, ...]


def make_plan(graph: Graph, outputs: Sequence[str]) -> Plan:
    """Plan a run for some of the graph's outputs, with only the nodes that they need.

    Raises InputError for an output that the graph does not have. Raises ArtifactError for a node
    that reads a value before it is computed, or a value of a later stage.
    """
    for name in outputs:
        if name not in graph.outputs:
            raise InputError(
                f"unknown output {name!r}: this graph gives {', '.join(graph.outputs)}"
            )
    needed = _needed_nodes(graph, outputs)
    # Stage by stage, so that a node which reads a later stage's value is found out.
    by_stage = [node for stage in Stage for node in needed if node.stage is stage]
    steps: dict[Stage, list[Step]] = {stage: [] for stage in Stage}
    for step in _make_steps(graph, by_stage, outputs):
        steps[step.node.stage].append(step)

    device = [step.node for step in steps[Stage.DEVICE]]
    read = dict.fromkeys(name for node in device for name in node.inputs if name)
    computed = {name for node in device for name in node.outputs if name}
    packed = {name for step in steps[Stage.ENTRY] for name in step.node.outputs}
    # What EXIT reads, and the outputs themselves.
    final = [*(name for step in steps[Stage.EXIT] for name in step.node.inputs), *outputs]
    uploads = tuple(
        name for name in read if name not in computed and name not in graph.initializers
    )
    row_counts = _row_counts(device, uploads)
    attention = [node for node in device if node.op_type == "PackedAttention"]
    return Plan(
        outputs=tuple(outputs),
        entry=tuple(steps[Stage.ENTRY]),
        device=tuple(steps[Stage.DEVICE]),
        exit=tuple(steps[Stage.EXIT]),
        uploads=uploads,
        offsets=frozenset(_values_of_parameter(device, "offsets")),
        attention_offsets=frozenset(_values_of_parameter(attention, "offsets")),
        weights=tuple(name for name in read if name in graph.initializers),
        device_results=MappingProxyType(
            {name: row_counts[name] for name in final if name in computed}
        ),
        entry_results=tuple(dict.fromkeys(name for name in final if name in packed)),
    )


def _needed_nodes(graph: Graph, outputs: Sequence[str]) -> list[Node]:
    """Return the nodes that the outputs depend on, in the graph's order."""
    values, nodes = set(outputs), []
    for node in reversed(graph.nodes):
        if values & set(node.outputs):
            values.update(name for name in node.inputs if name)
            nodes.append(node)
    return nodes[::-1]


def _make_steps(graph: Graph, nodes: Sequence[Node], outputs: Sequence[str]) -> list[Step]:
    """Turn nodes into steps; raise ArtifactError if a node reads a value before it exists."""
    known = {*graph.inputs, *graph.initializers}
    last_use: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.inputs):
            if name not in known:
                raise ArtifactError(
                    f"the graph's {node.op_type} needs {name!r} before that is computed: export "
                    "the checkpoint again"
                )
            last_use[name] = index
        for name in filter(None, node.outputs):
            known.add(name)
            last_use[name] = index
    kept = {*graph.inputs, *graph.initializers, *outputs}
    frees: list[list[str]] = [[] for _ in nodes]
    for name, index in last_use.items():
        if name not in kept:
            frees[index].append(name)
    partial_sums = _possible_partial_sums(nodes, outputs)
    residuals = _overwritable_residuals(nodes, frees, partial_sums)
    return [
        Step(
            node,
            tuple(names),
            allows_partial_sums=node.outputs[0] in partial_sums,
            residual=residuals.get(node.outputs[0], ""),
        )
        for node, names in zip(nodes, frees, strict=True)
    ]


def _possible_partial_sums(nodes: Sequence[Node], outputs: Sequence[str]) -> set[str]:
    """Return the results of Linears that may be computed as partial sums."""
    uses = Counter([name for node in nodes for name in node.inputs] + list(outputs))
    without_activation = {
        node.outputs[0]
        for node in nodes
        if node.op_type == "Linear" and not node.attributes["activation"]
    }
    added = {node.inputs[0] for node in nodes if node.op_type == "AddLayerNorm"}
    return {name for name in without_activation & added if uses[name] == 1}


def _overwritable_residuals(
    nodes: Sequence[Node], frees: Sequence[Sequence[str]], sums: Collection[str]
) -> dict[str, str]:
    """Return the residuals that a Linear may overwrite with its sum, by the Linear's result.

    Args:
        nodes: the nodes in order.
        frees: the values that each is the last to read.
        sums: the results of Linears that only an AddLayerNorm reads, as its x.

    The AddLayerNorm comes next and is the residual's last reader, and the Linear has no bias and
    does not read the residual. A Cast of a value may share its memory.
    """
    computed = {name for node in nodes if node.stage is Stage.DEVICE for name in node.outputs}
    casts = [node for node in nodes if node.op_type == "Cast"]
    shared = {name for node in casts for name in (*node.inputs, *node.outputs)}
    residuals = {}
    for linear, norm, freed in zip(nodes, nodes[1:], frees[1:], strict=False):
        product = linear.outputs[0]
        if product not in sums or norm.inputs[0] != product or any(linear.inputs[2:]):
            continue
        residual = norm.inputs[4] if len(norm.inputs) > 4 else ""
        if residual in computed & set(freed) - shared - set(linear.inputs):
            residuals[product] = residual
    return residuals


def _values_of_parameter(nodes: Sequence[Node], parameter: str) -> list[str]:
    """Return the values that `bertrt` operators read as the input of this name."""
    return [
        value
        for node in nodes
        if node.op_type in OPERATORS
        for name, value in zip(OPERATORS[node.op_type].inputs, node.inputs, strict=False)
        if name == parameter
    ]


def _row_counts(nodes: Sequence[Node], uploads: Sequence[str]) -> dict[str, RowCount]:
    """Return the number of rows of each value on the device."""
    counts = {name: RowCount(name) for name in uploads}
    for node in nodes:
        if node.op_type == "PoolRows":
            count = RowCount(node.inputs[1], -1)
        else:
            # SelectRows has a row per index; all others have the rows of their first input.
            source = node.inputs[1 if node.op_type == "SelectRows" else 0]
            if source not in counts:
                raise ArtifactError(
                    f"the graph's {node.op_type} works on {source!r}, a weight: export the "
                    "checkpoint again"
                )
            count = counts[source]
        counts.update(dict.fromkeys(node.outputs, count))
    return counts
