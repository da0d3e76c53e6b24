"""Read what sentence-transformers saves with a cross-encoder: activation and prompts."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import CrossEncoderFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import MODULES_FILE
from bertrt.export.checkpoints.sentence_transformers import (
    SETTINGS_FILE,
    read_default_prompt,
    read_prompts,
)
from bertrt.heads.reranking import ACTIVATIONS

__all__ = ["read_cross_encoder"]

_log = logging.getLogger(__name__)


def read_cross_encoder(folder: Path, config: Mapping[str, Any], labels: int) -> CrossEncoderFacts:
    """Return how a classifier scores pairs.

    The activation is `activation_fn` in the config_sentence_transformers.json of a cross-encoder
    (which counts only beside a modules.json), in the config's `sentence_transformers` or, before
    version 4, its `sbert_ce_default_activation_function`, in this order, as in
    sentence-transformers 6. Without one, a single label has the sigmoid, and several have the
    identity. Prompts are in the first of these files only.

    Args:
        folder: the checkpoint's folder.
        config: the contents of config.json.
        labels: the number of labels.

    Raises ExportError for a class of PyTorch that bertrt does not have, and for damaged prompts.
    Other code is never run: as in sentence-transformers, the default replaces it, with a warning.
    """
    saved: dict[str, Any] = {}
    if (folder / MODULES_FILE).is_file() and (folder / SETTINGS_FILE).is_file():
        saved = read_json(folder / SETTINGS_FILE)
        if saved.get("model_type") != "CrossEncoder":
            saved = {}
    prompts = read_prompts(saved)
    return CrossEncoderFacts(
        _activation(saved, config, labels), prompts, read_default_prompt(saved, prompts)
    )


def _activation(saved: Mapping[str, Any], config: Mapping[str, Any], labels: int) -> str:
    """Return what turns logits into scores: a name in `ACTIVATIONS`."""
    in_config = config.get("sentence_transformers")
    name = (
        saved.get("activation_fn")
        or (in_config.get("activation_fn") if isinstance(in_config, dict) else None)
        or config.get("sbert_ce_default_activation_function")
    )
    default = "sigmoid" if labels == 1 else "identity"
    if name is None:
        return default
    if not str(name).startswith("torch."):
        _log.warning(
            "the cross-encoder's activation %r is not PyTorch's own: %s is used, as in "
            "sentence-transformers",
            name,
            default,
        )
        return default
    activation = str(name).rpartition(".")[2].lower()
    if activation not in ACTIVATIONS:
        raise ExportError(
            f"the cross-encoder's activation is {name!r}, which bertrt does not have: set "
            f"activation_fn to one of {', '.join(ACTIVATIONS)} of torch.nn"
        )
    return activation
