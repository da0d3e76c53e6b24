"""The artifact: one directory with a graph, and bertrt.json, the manifest that describes it.

The artifact is the contract between the exporter and the runtime: whatever the runtime must know
stands in it, and nothing in it is trusted before its hash is checked.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.config import ModelConfig
from bertrt.errors import ArtifactError, InputError

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "Artifact",
    "FileEntry",
    "Graph",
    "Manifest",
    "TensorSpec",
    "TokenizerFacts",
    "Variant",
    "sha256_of",
]

MANIFEST = "bertrt.json"
SCHEMA = 1
# Files above this many bytes take longer to hash than anybody would want to wait for.
_LARGE = 16_000_000


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

    `session_level` is ONNX Runtime's graph optimization level, as measured for the target:
    "disabled", "basic", "extended" or "all". `fused` counts each fused operator. A graph for
    another engine than ONNX Runtime has no `least_onnxruntime`, and in `least` the first versions
    of the packages that run it. `variants` are files for some processors, the best first.
    """

    file: str
    opset: int
    least_onnxruntime: str
    session_level: str
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

        Raises ArtifactError when it is not one, is damaged, or is of a newer schema.
        """
        try:
            data = json.loads(text)
            schema = data["schema"]
            if not isinstance(schema, int):
                raise TypeError(f"schema is {schema!r}")
            if schema > SCHEMA:
                raise ArtifactError(
                    f"{MANIFEST} has schema {schema}, and this bertrt reads up to {SCHEMA}: "
                    "upgrade bertrt, or export the checkpoint again"
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


@dataclass(frozen=True)
class Artifact:
    """An artifact directory whose files were found whole."""

    path: Path
    manifest: Manifest
    config: ModelConfig

    @classmethod
    def open(cls, directory: str | Path, *, large_files_later: bool = False) -> "Artifact":
        """Open a directory and check every file's size and sha256 against the manifest.

        Args:
            directory: the artifact.
            large_files_later: whether to leave the hashes of files above 16 MB to
                `check_large_files`; the graph can be opened meanwhile.

        Raises ArtifactError with one sentence for a directory that is missing, foreign, damaged
        or made by a newer version, and InputError for what is no path at all.
        """
        if not isinstance(directory, (str, os.PathLike)):
            raise InputError(f"the artifact's directory is {directory!r}: give a path")
        path = Path(directory).absolute()  # files are opened later, perhaps from another folder
        if not path.is_dir():
            raise ArtifactError(
                f"{str(directory)!r} is not a directory: bertrt loads what 'bertrt export' wrote"
            )
        try:
            manifest = Manifest.from_json((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ArtifactError(
                f"{str(directory)!r} has no {MANIFEST}: make an artifact of a checkpoint with "
                "'bertrt export --model MODEL --output DIR'"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{MANIFEST} cannot be read: {error}") from error
        for entry in manifest.files:
            _check_file(path, entry, hash_large=not large_files_later)
        listed = {entry.name for entry in manifest.files}
        graphs = [manifest.graph.file, *(one.file for one in manifest.graph.variants)]
        for name in (*graphs, "tokenizer.json", "config.json"):
            if name not in listed:
                raise ArtifactError(f"{MANIFEST} does not list {name}: export the checkpoint again")
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise ArtifactError(f"config.json is damaged: {error}") from error
        return cls(path, manifest, ModelConfig.from_json(config))

    def check_large_files(self) -> None:
        """Hash the files that `open` left for later, until they are found whole once.

        Raises ArtifactError as `open` does.
        """
        # Not a cached_property, whose lock a fork could leave locked in the child.
        if "found_whole" in self.__dict__:
            return
        for entry in self.manifest.files:
            if entry.size > _LARGE:
                _check_file(self.path, entry)
        self.__dict__["found_whole"] = True

    def graph_path(self, instructions: Collection[str] = ()) -> Path:
        """The path of the graph for a processor with these instruction sets, links and all.

        ONNX Runtime looks for weights beside it, and in a hub's cache, which is made of links,
        only the links have the names that the graph knows.
        """
        graph = self.manifest.graph
        for one in graph.variants:
            if one.instructions in instructions:
                return self.path / one.file
        return self.path / graph.file


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(directory: Path, entry: FileEntry, *, hash_large: bool = True) -> None:
    if Path(entry.name).name != entry.name or entry.name in ("", ".", ".."):
        raise ArtifactError(f"{MANIFEST} names {entry.name!r}, which is outside its directory")
    path = directory / entry.name
    try:
        size = path.stat().st_size
        later = size > _LARGE and not hash_large
        if size == entry.size and (later or sha256_of(path) == entry.sha256):
            return
    except OSError as error:
        raise ArtifactError(f"{entry.name} is missing or cannot be read: {error}") from error
    detail = "its hash differs" if size == entry.size else f"{size} bytes, not {entry.size}"
    raise ArtifactError(
        f"{entry.name} is not the file that was exported ({detail}): copy the artifact again, "
        "or export the checkpoint again"
    )
