"""Open a checkpoint by its name: its config, its weights and its folder.

A model is "demo" (the embedded one), a local folder, or a hub id. In each case the result is a
folder, whose weights are read in the best format that it has. Three concerns are separate: which
files there are and what bytes they hold (`formats/`), how the arrays in them are named (`naming/`),
and how they become a model (`build_model`). No code of a checkpoint is run, and no other framework
is imported.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.config_check import check_config, read_architecture
from bertrt.export.checkpoints.folder import find_in_folder, hash_of, read_config
from bertrt.export.checkpoints.folder_kind import names_in
from bertrt.export.checkpoints.formats.stored import Contents
from bertrt.export.checkpoints.hub import (
    VOCABULARIES,
    fetch,
    fetch_tokenizer,
    looks_like_path,
)
from bertrt.export.checkpoints.labels import LABEL_FIELDS
from bertrt.export.checkpoints.naming.mapping import from_scheme
from bertrt.export.checkpoints.naming.pytorch import pytorch_names
from bertrt.export.checkpoints.transformer_subfolder import transformer_subfolder

__all__ = ["DEMO", "Checkpoint", "Source", "TokenizerSource", "open_checkpoint"]

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).resolve().parents[1] / "demo"


@dataclass(frozen=True)
class TokenizerSource:
    """Where a tokenizer came from that is not the checkpoint's: `model` and `revision` as there."""

    model: str
    revision: str | None


@dataclass(frozen=True)
class Source:
    """Where the weights came from, for the manifest.

    Attributes:
        model: a hub id, a folder's name (never its path) or "demo".
        revision: the hub's commit hash; None for folders.
        format: the format of the weights.
        files: the names of the weight files.
        sha256: the hash of the one weight file or, for shards, of the sorted lines "name sha256".
        tokenizer: where the tokenizer came from; None for the checkpoint.
    """

    model: str
    revision: str | None
    format: str
    files: tuple[str, ...]
    sha256: str
    tokenizer: TokenizerSource | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        config: the contents of config.json.
        weights: by PyTorch's current names, in its layouts and the stored dtypes; they may be
            memory-mapped.
        folder: the checkpoint's folder.
        transformer_folder: the folder of its config and weights: the same, or the subfolder that
            sentence-transformers' modules.json gives.
        source: where the weights came from.
        stored: maps PyTorch's names to those in the file, if another framework wrote it.
        other_tokenizer: the folder of a tokenizer that is used in place of the checkpoint's.
    """

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    folder: Path
    transformer_folder: Path
    source: Source
    stored: dict[str, str] = field(default_factory=dict)
    other_tokenizer: Path | None = None

    @cached_property
    def architecture(self) -> Architecture:
        """The encoder, with the checkpoint's own config but its labels, which a head settles."""
        return read_architecture(
            {name: value for name, value in self.config.items() if name not in LABEL_FIELDS}
        )

    @property
    def tokenizer_folder(self) -> Path:
        """The folder with the tokenizer's files."""
        return self.other_tokenizer or self.transformer_folder


@dataclass(frozen=True)
class _Location:
    """A checkpoint's folder, its name for the manifest, and the hub's commit hash, if any."""

    folder: Path
    name: str
    commit: str | None = None


def open_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    tokenizer: str | None = None,
) -> Checkpoint:
    """Read a checkpoint.

    Args:
        model: "demo" for the embedded model, a local folder, or a hub id.
        revision: a branch, tag or commit of a hub id; None for its main branch.
        offline: take a hub id from the local cache only.
        tokenizer: as `model`, where to take the tokenizer from; None for the checkpoint.

    Raises ExportError if there is no such checkpoint, if it is of no encoder that bertrt exports
    (before its weights are downloaded), or if its files are damaged or in an unknown format.
    """
    other = None if tokenizer is None else _locate_tokenizer(tokenizer, offline)
    location = _locate(model, revision, offline)
    subfolder = transformer_subfolder(names_in(location.folder), location.folder.joinpath)
    folder, where = location.folder / subfolder, repr(f"{location.name}/{subfolder}".rstrip("/"))
    config = read_config(folder, where)
    check_config(config)
    files = find_in_folder(folder, where)
    contents = files.read(folder)
    config, weights, stored = _to_pytorch(contents, config)
    return Checkpoint(
        config=config,
        weights=weights,
        folder=location.folder,
        transformer_folder=folder,
        source=Source(
            location.name,
            location.commit,
            contents.format,
            files.names,
            hash_of(folder, files.names),
            None if other is None else TokenizerSource(other.name, other.commit),
        ),
        stored=stored,
        other_tokenizer=None if other is None else other.folder,
    )


def _locate(model: str, revision: str | None, offline: bool) -> _Location:
    """Find the folder of a model, downloading it if it is a hub id."""
    local = _local(model, "give a checkpoint's folder or a hub id")
    if local is None:
        folder, commit = fetch(model, revision=revision, offline=offline)
        return _Location(folder, model, commit)
    if revision is not None:
        raise ExportError(
            f"{model!r} is not a hub id, so it has no revision {revision!r}: leave out --revision"
        )
    return local


def _locate_tokenizer(tokenizer: str, offline: bool) -> _Location:
    """Find the folder of a tokenizer, downloading its files if it is a hub id."""
    advice = "give --tokenizer the folder of a tokenizer or a hub id"
    location = _local(tokenizer, advice)
    if location is None:
        folder, commit = fetch_tokenizer(tokenizer, offline=offline)
        return _Location(folder, tokenizer, commit)
    if not any((location.folder / name).is_file() for name in VOCABULARIES):
        raise ExportError(f"{tokenizer!r} has no {' or '.join(VOCABULARIES)}: {advice}")
    return location


def _local(model: str, advice: str) -> _Location | None:
    """Return where a local folder or "demo" is; None for a hub id.

    `advice` says in errors what to give.
    """
    if not model:
        raise ExportError(f"the model's name is empty: {advice}")
    if model == DEMO:
        return _Location(_DEMO_FOLDER, DEMO)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _Location(folder, folder.resolve().name)
    if folder.exists():
        raise ExportError(
            f"{model!r} is a file: give its folder, {str(folder.parent)!r}, without the file's name"
        )
    if looks_like_path(model):
        raise ExportError(f"there is no folder {model!r}: {advice}")
    return None


def _to_pytorch(
    contents: Contents, config: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, str]]:
    """Return the config, the weights by PyTorch's names, and their names in the file."""
    if contents.scheme == "pytorch":
        arrays = {name: array.read() for name, array in contents.arrays.items()}
        return config, pytorch_names(arrays), {}
    architecture = read_architecture(config)
    weights, stored = from_scheme(contents.scheme, contents.arrays, architecture)
    return _with_labels(config, weights), weights, stored


def _with_labels(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Take the number of labels from the classifier, for Google's configs, which lack it."""
    if "model_type" in config or not {"num_labels", "id2label"}.isdisjoint(config):
        return config
    classifier = weights.get("classifier.weight")
    return config if classifier is None else {**config, "num_labels": len(classifier)}
