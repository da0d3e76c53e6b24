"""The artifact: one directory with a graph, its tokenizer and the manifest that describes them.

Nothing in it is trusted before its hash is checked.
"""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bertrt.artifact.manifest import MANIFEST, FileEntry, Manifest
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ArtifactError, InputError

__all__ = ["Artifact", "sha256_of"]

# Files above this many bytes take noticeably long to hash.
_LARGE = 16_000_000


@dataclass(frozen=True)
class Artifact:
    """An artifact directory whose files match the manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, directory: str | Path, *, large_files_later: bool = False) -> "Artifact":
        """Open a directory and check every file's size and sha256 against the manifest.

        Args:
            directory: the artifact.
            large_files_later: leave the hashes of files above 16 MB to `check_large_files`; the
                graph can be opened meanwhile.

        Raises ArtifactError for a directory that is missing, foreign, damaged or of another schema,
        and InputError if `directory` is not a path.
        """
        if not isinstance(directory, (str, os.PathLike)):
            raise InputError(f"the artifact's directory is {directory!r}: give a path")
        path = Path(directory).absolute()  # files are opened later, perhaps from another folder
        if not path.is_dir():
            raise ArtifactError(
                f"{str(directory)!r} is not a directory: bertrt loads what 'bertrt export' wrote"
            )
        where = str(path / MANIFEST)
        try:
            manifest = Manifest.from_json((path / MANIFEST).read_text(encoding="utf-8"), where)
        except FileNotFoundError:
            raise ArtifactError(
                f"{str(directory)!r} has no {MANIFEST}: make an artifact of a checkpoint with "
                "'bertrt export --model MODEL --output DIR'"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{where} cannot be read: {error}") from error
        for entry in manifest.files:
            _check_file(path, entry, hash_large=not large_files_later)
        listed = {entry.name for entry in manifest.files}
        graphs = [manifest.graph.file, *(one.file for one in manifest.graph.variants)]
        for name in (*graphs, "tokenizer.json"):
            if name not in listed:
                raise ArtifactError(f"{where} does not list {name}: export the checkpoint again")
        return cls(path, manifest)

    @property
    def config(self) -> ModelConfig:
        """The model's config, in BERT's terms."""
        return self.manifest.model

    def check_large_files(self) -> None:
        """Hash the files that `open` left for later; once they have passed, do nothing.

        Raises ArtifactError as `open` does.
        """
        # Not a cached_property: a fork could leave its lock locked in the child.
        if "found_whole" in self.__dict__:
            return
        for entry in self.manifest.files:
            if entry.size > _LARGE:
                _check_file(self.path, entry)
        self.__dict__["found_whole"] = True

    def graph_path(self, instructions: Collection[str] = ()) -> Path:
        """Return the path of the graph file for a processor with these instruction sets.

        Links are not resolved: ONNX Runtime looks for weights beside the graph, and in a hub's
        cache, which is made of links, only the links have the names that the graph refers to.
        """
        graph = self.manifest.graph
        for variant in graph.variants:
            if variant.instructions in instructions:
                return self.path / variant.file
        return self.path / graph.file


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(directory: Path, entry: FileEntry, *, hash_large: bool = True) -> None:
    # Names have slashes on every system.
    if not all(part and Path(part).name == part != ".." for part in entry.name.split("/")):
        raise ArtifactError(
            f"{directory / MANIFEST} names {entry.name!r}, which is outside its directory"
        )
    path = directory / entry.name
    try:
        size = path.stat().st_size
        later = size > _LARGE and not hash_large
        if size == entry.size and (later or sha256_of(path) == entry.sha256):
            return
    except OSError as error:
        raise ArtifactError(f"{path} is missing or cannot be read: {error}") from error
    detail = "its hash differs" if size == entry.size else f"{size} bytes, not {entry.size}"
    raise ArtifactError(
        f"{path} is not the file that was exported ({detail}): copy the artifact again, "
        "or export the checkpoint again"
    )
