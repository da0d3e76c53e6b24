"""Where a model's name becomes a checkpoint: its config, its weights, and the folder they lie in.

A model is "demo" (the embedded one), a local folder, or a hub id. Whatever it is, it ends as a
folder, whose weights are read by the first format in `folder.FORMATS` that it holds. No code from
a checkpoint is run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.folder import find_weights, hash_of, read_config, read_weights
from bertrt.export.checkpoints.hub import fetch, looks_like_path
from bertrt.export.config import check_config

__all__ = ["DEMO", "Checkpoint", "Source", "open_checkpoint"]

DEMO = "demo"
_DEMO_FOLDER = Path(__file__).resolve().parent.parent / "demo"


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

    `config` is config.json as it stands. `weights` have PyTorch's current names and the stored
    dtypes; they may be mapped from their files. `folder` holds the tokenizer's files.
    """

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    folder: Path
    source: Source


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
    found = find_weights(folder)
    return Checkpoint(
        config=config,
        weights=read_weights(folder, found),
        folder=folder,
        source=Source(name, commit, found.format.name, found.files, hash_of(folder, found.files)),
    )
