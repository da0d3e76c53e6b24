"""Where a model's name becomes a checkpoint: its config, its weights, and the folder they lie in.

A model is "demo" (the embedded one), a local folder, or a hub id. Whatever it is, it ends as a
folder, whose weights are read in the best format that it holds (`formats.py`). Three things are
kept apart: which files there are, what bytes they have (`read_…`), and how the arrays in them are
named (`naming/`). No code from a checkpoint is run, and no other framework is imported.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.config_check import bert_config, check_config
from bertrt.export.checkpoints.folder import find_in_folder, hash_of, read_config
from bertrt.export.checkpoints.hub import fetch, looks_like_path
from bertrt.export.checkpoints.naming.mapping import from_scheme, stored_names
from bertrt.export.checkpoints.naming.pytorch import pytorch_names

__all__ = ["DEMO", "Checkpoint", "Source", "open_checkpoint"]

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).resolve().parents[1] / "demo"


@dataclass(frozen=True)
class Source:
    """Where weights came from, for the manifest.

    `model` is a hub id, a folder's name (never its path) or "demo"; `revision` the hub's commit
    hash, None for folders. `sha256` is of the weights: of the one file, or, for shards, of the
    sorted lines "name sha256".
    """

    model: str
    revision: str | None
    format: str
    files: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    `config` is config.json as it stands. `weights` have PyTorch's current names and layouts and the
    stored dtypes; they may be mapped from their files. `folder` holds the tokenizer's files.
    `stored` has the name in the file for each of PyTorch's names, where another framework wrote it.
    """

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    folder: Path
    source: Source
    stored: dict[str, str] = field(default_factory=dict)


def open_checkpoint(
    model: str, *, revision: str | None = None, offline: bool = False
) -> Checkpoint:
    """Read the checkpoint that `model` names.

    Args:
        model: "demo" for the embedded model, a local folder, or a hub id.
        revision: a branch, tag or commit of a hub id; its main branch when None.
        offline: whether to take a hub id from the local cache only.

    Raises ExportError when there is no such checkpoint, when it is not a BERT (before its weights
    are fetched), or when its files are damaged or in a format that is not read.
    """
    if not model:
        raise ExportError("the model's name is empty: give a checkpoint's folder or a hub id")
    folder = _DEMO_FOLDER if model == DEMO else Path(model).expanduser()
    commit = None
    if model == DEMO or folder.is_dir():
        if revision is not None:
            raise ExportError(
                f"{model!r} is no hub id, so it has no revision {revision!r}: leave --revision out"
            )
        name = DEMO if model == DEMO else folder.resolve().name
    elif folder.exists():
        raise ExportError(f"{model!r} is a file: give the folder that holds config.json")
    elif looks_like_path(model):
        raise ExportError(f"there is no folder {model!r}: give a checkpoint's folder or a hub id")
    else:
        name = model
        folder, commit = fetch(model, revision=revision, offline=offline)

    config = read_config(folder)
    check_config(config)
    found = find_in_folder(folder)
    contents = found.read(folder)
    stored: dict[str, str] = {}
    if contents.scheme == "pytorch":
        weights = pytorch_names({name: array.read() for name, array in contents.arrays.items()})
    else:
        full = bert_config(config)
        weights, stored = from_scheme(contents.scheme, contents.arrays, full)
        stored = stored_names(contents.scheme, full) | stored
        config = _with_labels(config, weights)
    return Checkpoint(
        config=config,
        weights=weights,
        folder=folder,
        source=Source(name, commit, contents.format, found.files, hash_of(folder, found.files)),
        stored=stored,
    )


def _with_labels(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Google's config, which says nothing of labels, with as many as the classifier has."""
    if "model_type" in config or not {"num_labels", "id2label"}.isdisjoint(config):
        return config
    classifier = weights.get("classifier.weight")
    return config if classifier is None else {**config, "num_labels": len(classifier)}
