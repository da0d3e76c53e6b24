"""What a run does for the outputs asked for: the graph's live nodes, zone by zone, in order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bertrt.errors import ArtifactError, InputError
from bertrt.kernels.engine.graph import Graph, Node
from bertrt.kernels.ops import OPERATORS, Place

__all__ = ["Height", "Plan", "Step", "make_plan"]


@dataclass(frozen=True)
class Step:
    """A node to run, and the values that nobody needs after it.

    `sums` says that the node is a Linear whose result an AddLayerNorm alone takes, as its x: the
    two may pass partial sums between them.
    """

    node: Node
    dies: tuple[str, ...]
    sums: bool = False


@dataclass(frozen=True)
class Height:
    """How many rows a value of the device has: as many as an upload has entries, and `more`.

    `more` is -1 where there is a row a sequence, since offsets have one entry more.
    """

    upload: str
    more: int = 0


@dataclass(frozen=True)
class Plan:
    """A run's steps, and what passes between its zones.

    `uploads` are the integers that ENTRY, or the caller, gives to the device; `offsets` are those
    of them that are offsets, and `sequences` those by which attention tells sequences apart.
    `results` are the values that leave the device, each with its height, and `carried` what EXIT
    takes from ENTRY.
    """

    outputs: tuple[str, ...]
    entry: tuple[Step, ...]
    device: tuple[Step, ...]
    exit: tuple[Step, ...]
    uploads: tuple[str, ...]
    offsets: frozenset[str]
    sequences: frozenset[str]
    weights: tuple[str, ...]
    results: Mapping[str, Height]
    carried: tuple[str, ...]


def make_plan(graph: Graph, outputs: Sequence[str]) -> Plan:
    """The plan for some of a graph's outputs; what they do not need is not in it.

    Raises InputError for an output that the graph has not, and ArtifactError for a value that no
    node makes before it is used, or for nodes that go from a zone back to one before it.
    """
    for name in outputs:
        if name not in graph.outputs:
            raise InputError(
                f"unknown output {name!r}: this graph gives {', '.join(graph.outputs)}"
            )
    live = _live(graph, outputs)
    # A zone that needs a later one's value finds it missing.
    steps = _steps(graph, [n for place in Place for n in live if n.place is place], outputs)
    device = [step.node for step in steps if step.node.place is Place.DEVICE]
    made = {name for node in device for name in node.outputs if name}
    read = dict.fromkeys(name for node in device for name in node.inputs if name)
    left = [
        *(name for s in steps if s.node.place is Place.EXIT for name in s.node.inputs),
        *outputs,
    ]
    uploads = tuple(n for n in read if n not in made and n not in graph.initializers)
    heights = _heights(device, uploads)
    entry = [step for step in steps if step.node.place is Place.ENTRY]
    packed = {name for step in entry for name in step.node.outputs}
    return Plan(
        outputs=tuple(outputs),
        entry=tuple(entry),
        device=tuple(step for step in steps if step.node.place is Place.DEVICE),
        exit=tuple(step for step in steps if step.node.place is Place.EXIT),
        uploads=uploads,
        offsets=frozenset(_given(device, "offsets")),
        sequences=frozenset(
            _given([n for n in device if n.operator == "PackedAttention"], "offsets")
        ),
        weights=tuple(name for name in read if name in graph.initializers),
        results=MappingProxyType({name: heights[name] for name in left if name in made}),
        carried=tuple(dict.fromkeys(name for name in left if name in packed)),
    )


def _live(graph: Graph, outputs: Sequence[str]) -> list[Node]:
    """The nodes that the outputs need, in the graph's order."""
    wanted, live = set(outputs), []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs):
            wanted.update(name for name in node.inputs if name)
            live.append(node)
    return live[::-1]


def _steps(graph: Graph, nodes: Sequence[Node], outputs: Sequence[str]) -> list[Step]:
    """The nodes in their order, each with what dies; zone by zone, values must still be there."""
    known = {*graph.inputs, *graph.initializers}
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.inputs):
            if name not in known:
                raise ArtifactError(
                    f"the graph's {node.operator} needs {name!r} before that is computed: export "
                    "the checkpoint again"
                )
            last[name] = index
        for name in filter(None, node.outputs):
            known.add(name)
            last[name] = index
    keep = {*graph.inputs, *graph.initializers, *outputs}
    dies: list[list[str]] = [[] for _ in nodes]
    for name, index in last.items():
        if name not in keep:
            dies[index].append(name)
    sums = _sums(nodes, outputs)
    return [
        Step(node, tuple(names), node.outputs[0] in sums)
        for node, names in zip(nodes, dies, strict=True)
    ]


def _sums(nodes: Sequence[Node], outputs: Sequence[str]) -> set[str]:
    """The results of Linears that may be partial sums."""
    uses = Counter([name for node in nodes for name in node.inputs] + list(outputs))
    plain = {
        node.outputs[0]
        for node in nodes
        if node.operator == "Linear" and not node.attributes["activation"]
    }
    added = {node.inputs[0] for node in nodes if node.operator == "AddLayerNorm"}
    return {name for name in plain & added if uses[name] == 1}


def _given(nodes: Sequence[Node], parameter: str) -> list[str]:
    """The values that dialect nodes are given for an input of this name."""
    return [
        name
        for node in nodes
        if node.operator in OPERATORS
        for known, name in zip(OPERATORS[node.operator].inputs, node.inputs, strict=False)
        if known == parameter
    ]


def _heights(nodes: Sequence[Node], uploads: Sequence[str]) -> dict[str, Height]:
    """How many rows each value of the device has."""
    heights = {name: Height(name) for name in uploads}
    for node in nodes:
        if node.operator == "MeanRows":
            height = Height(node.inputs[1], -1)
        else:
            # Selected rows are as many as were picked; all else keeps its first input's.
            source = node.inputs[1 if node.operator == "SelectRows" else 0]
            if source not in heights:
                raise ArtifactError(
                    f"the graph's {node.operator} works on {source!r}, a weight: export the "
                    "checkpoint again"
                )
            height = heights[source]
        heights.update(dict.fromkeys(node.outputs, height))
    return heights
