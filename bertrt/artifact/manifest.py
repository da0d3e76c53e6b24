"""bertrt.json, the manifest: the contract between the exporter and the runtime.

Whatever the runtime must know about an artifact is in it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertrt.errors import ArtifactError

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "FileEntry",
    "Graph",
    "Manifest",
    "TensorSpec",
    "TokenizerFacts",
    "Variant",
]

MANIFEST = "bertrt.json"
SCHEMA = 2


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact: its plain name, its size in bytes and its hash."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TensorSpec:
    """A graph input or output; a named dimension is dynamic, and its name says which it is.

    An optional input has a default. An optional output is one that transformers' model has not,
    and is given only to those who ask for it.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Variant:
    """The file of the same graph for processors that have an instruction set, such as "avx512f".

    Its inputs, outputs and weights are those of the graph; `fused` counts what it has in place of
    other operators.
    """

    instructions: str
    file: str
    fused: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """The graph's file and what a session must know to run it.

    `fused` counts each fused operator. A graph for
    another engine than ONNX Runtime has no `least_onnxruntime`, and in `least` the first versions
    of the packages that run it. `variants` are files for some processors, the best first.
    """

    file: str
    opset: int
    least_onnxruntime: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fused: Mapping[str, int]
    least: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class TokenizerFacts:
    """What the runtime relies on in a tokenizer.

    `special_ids` maps the roles pad, unk, cls, sep and mask to ids (None: no such token).
    `golden` holds sentences with the ids that the exporter saw, checked again at every load.
    """

    max_length: int
    padding_side: str
    special_ids: Mapping[str, int | None]
    clean_up_tokenization_spaces: bool
    golden: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Manifest:
    """The contents of bertrt.json.

    `parity` compares the graph with PyTorch, of an int8 artifact the graph before quantization;
    `quantization` says how that was made and how near it is, and is None for float32.
    `text_graph` names the graph that takes text, and on which texts its tokenizer differs; None
    when there is none.
    """

    schema: int
    task: str
    architecture: str
    target: Mapping[str, str]
    source: Mapping[str, Any]
    graph: Graph
    tokenizer: TokenizerFacts
    parity: Mapping[str, Any]
    files: tuple[FileEntry, ...]
    versions: Mapping[str, str]
    quantization: Mapping[str, Any] | None = None
    text_graph: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """The text of bertrt.json."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read the text of bertrt.json.

        Raises ArtifactError for a text that is not a manifest, is damaged, or has another schema.
        """
        try:
            data = json.loads(text)
            schema = data["schema"]
            if not isinstance(schema, int):
                raise TypeError(f"schema is {schema!r}")
            if schema != SCHEMA:
                upgrade = "upgrade bertrt, or " if schema > SCHEMA else ""
                raise ArtifactError(
                    f"{MANIFEST} has schema {schema}, and this bertrt reads schema {SCHEMA}: "
                    f"{upgrade}export the checkpoint again"
                )
            graph, tokenizer = dict(data["graph"]), dict(data["tokenizer"])
            for side in ("inputs", "outputs"):
                graph[side] = tuple(
                    TensorSpec(
                        one["name"],
                        one["dtype"],
                        tuple(one["shape"]),
                        one.get("optional", False),
                    )
                    for one in graph[side]
                )
            graph["variants"] = tuple(Variant(**one) for one in graph.get("variants", ()))
            tokenizer["golden"] = tuple((str(t), tuple(ids)) for t, ids in tokenizer["golden"])
            return cls(
                **{
                    **data,
                    "graph": Graph(**graph),
                    "tokenizer": TokenizerFacts(**tokenizer),
                    "files": tuple(FileEntry(**one) for one in data["files"]),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(
                f"{MANIFEST} is damaged ({error!r}): export the checkpoint again"
            ) from error
