"""Read a checkpoint of Stanford's ColBERT: a linear layer beside `bert.`, and artifact.metadata.

The defaults are those of sentence-transformers 6.2, which takes such a checkpoint in too.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.colbert_settings import (
    DEFAULT_LENGTH,
    PUNCTUATION,
    ColbertSettings,
    Expansion,
    read_flag,
    read_length,
)
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.vector_modules import Dense, Normalize

__all__ = [
    "ARCHITECTURE",
    "LINEAR_WEIGHT",
    "METADATA_FILE",
    "read_stanford_layers",
    "read_stanford_settings",
]

ARCHITECTURE = "HF_ColBERT"
METADATA_FILE = "artifact.metadata"
LINEAR_WEIGHT = "linear.weight"

# The settings that change a score, and their values that bertrt has.
_SCORING = {"similarity": "cosine", "interaction": "colbert"}
# The keys and defaults of the markers.
_MARKERS = {"query": ("query_token_id", "[unused0]"), "document": ("doc_token_id", "[unused1]")}

_log = logging.getLogger(__name__)


def read_stanford_settings(folder: Path) -> ColbertSettings:
    """Return how a checkpoint takes texts; ColBERT's defaults for one without artifact.metadata.

    Raises ExportError for a damaged file, and for a setting that bertrt does not have.
    """
    metadata = _metadata(folder)
    for key, known in _SCORING.items():
        if metadata.get(key) not in (None, known):
            raise ExportError(
                f"{key} in {METADATA_FILE} is {metadata[key]!r}, and bertrt has {known!r} only: "
                "train the checkpoint with that"
            )
    prompts = {}
    for kind, (key, default) in _MARKERS.items():
        marker = metadata.get(key) or default
        if not isinstance(marker, str):
            raise ExportError(f"{key} in {METADATA_FILE} is {marker!r}: it must name a token")
        prompts[kind] = f"{marker} "
    skips = read_flag(metadata, "mask_punctuation", METADATA_FILE, default=True)
    return ColbertSettings(
        prompts=prompts,
        markers=tuple(prompts.values()),
        needs_markers=True,
        document_length=read_length(metadata, "doc_maxlen", METADATA_FILE),
        expansion=Expansion(
            length=read_length(metadata, "query_maxlen", METADATA_FILE) or DEFAULT_LENGTH,
            fixed=True,
            attend=read_flag(metadata, "attend_to_mask_tokens", METADATA_FILE, default=False),
        ),
        skipped_words={"document": PUNCTUATION if skips else ()},
    )


def read_stanford_layers(
    folder: Path, weights: Mapping[str, torch.Tensor], hidden_size: int
) -> tuple[list[torch.nn.Module], int]:
    """Return the modules after the encoder, and the size of the vectors that they give.

    Args:
        folder: the checkpoint's folder.
        weights: its weights.
        hidden_size: the size of the encoder's hidden states.

    Raises ExportError for a linear layer that is missing, or that does not fit.
    """
    if LINEAR_WEIGHT not in weights:
        raise ExportError(
            f"the config's architecture is {ARCHITECTURE}, and the checkpoint has no "
            f"{LINEAR_WEIGHT}: download it again"
        )
    weight = weights[LINEAR_WEIGHT].float()
    if weight.ndim != 2 or weight.shape[1] != hidden_size:
        raise ExportError(
            f"{LINEAR_WEIGHT} has shape {list(weight.shape)}, and the encoder's hidden states have "
            f"{hidden_size} entries: they are from different checkpoints"
        )
    size, dim = len(weight), _metadata(folder, quiet=True).get("dim")
    if dim not in (None, size):
        raise ExportError(
            f"dim in {METADATA_FILE} is {dim!r}, and {LINEAR_WEIGHT} gives {size}: they are from "
            "different checkpoints"
        )
    layer = Dense((hidden_size, size), torch.nn.Identity(), bias=False, residual=False)
    layer.load_state_dict({LINEAR_WEIGHT: weight})
    return [layer, Normalize()], size


def _metadata(folder: Path, *, quiet: bool = False) -> dict[str, Any]:
    if (folder / METADATA_FILE).is_file():
        return read_json(folder / METADATA_FILE)
    if not quiet:
        _log.warning("the checkpoint has no %s: ColBERT's defaults are used", METADATA_FILE)
    return {}
