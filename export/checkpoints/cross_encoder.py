"""What a checkpoint says of a cross-encoder: that it is one, its activation and its prompts."""

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
    read_max_seq_length,
    read_prompts,
)
from bertrt.heads.reranking import ACTIVATIONS

__all__ = ["is_reranker", "read_cross_encoder"]

# Where a CrossEncoder saves its activation in config.json, since version 4 and before.
_IN_CONFIG, _BEFORE_4 = "sentence_transformers", "sbert_ce_default_activation_function"

_log = logging.getLogger(__name__)


def is_reranker(folder: Path, config: Mapping[str, Any], labels: int) -> bool:
    """Whether a classifier scores pairs of a query and a passage.

    It has one label, and its files are a CrossEncoder's, or they do not say that it is a
    regression. transformers writes problem_type "regression" when it trains one label by labels of
    single texts; the libraries that train rerankers have losses of their own, and write none.

    Args: as for `read_cross_encoder`.
    """
    if labels != 1:
        return False
    saved_by_one = _settings(folder) or config.get(_IN_CONFIG) or config.get(_BEFORE_4)
    return bool(saved_by_one) or config.get("problem_type") != "regression"


def read_cross_encoder(folder: Path, config: Mapping[str, Any], labels: int) -> CrossEncoderFacts:
    """Return how a classifier scores pairs.

    The activation is `activation_fn` in the config_sentence_transformers.json of a cross-encoder
    (which counts only beside a modules.json), in the config's `sentence_transformers` or, before
    version 4, its `sbert_ce_default_activation_function`, in this order, as in
    sentence-transformers 6. Without one, a single label has the sigmoid, and several have the
    identity. Prompts are in the first of these files only. The limit is that of the transformer's
    settings, where there are any beside it.

    Args:
        folder: the checkpoint's folder.
        config: the contents of config.json.
        labels: the number of labels.

    Raises ExportError for a class of PyTorch that bertrt does not have, and for damaged prompts.
    Other code is never run: as in sentence-transformers, the next place is read instead, with a
    warning.
    """
    saved = _settings(folder)
    prompts = read_prompts(saved)
    return CrossEncoderFacts(
        activation=_activation(saved, config, labels),
        prompts=prompts,
        default_prompt_name=read_default_prompt(saved, prompts),
        max_length=read_max_seq_length(folder) if saved else None,
    )


def _activation(saved: Mapping[str, Any], config: Mapping[str, Any], labels: int) -> str:
    """Return what turns logits into scores: a name in `ACTIVATIONS`."""
    default = "sigmoid" if labels == 1 else "identity"
    in_config = config.get(_IN_CONFIG)
    if isinstance(in_config, dict) and "activation_fn" in in_config:
        of_config = in_config["activation_fn"]
    else:
        of_config = config.get(_BEFORE_4)
    for name in (saved.get("activation_fn"), of_config):
        if name is None:
            continue
        if str(name).startswith("torch."):
            return _torch_activation(str(name))
        _log.warning(
            "the cross-encoder's activation %r is not PyTorch's own and is not used, as in "
            "sentence-transformers",
            name,
        )
    return default


def _torch_activation(name: str) -> str:
    activation = name.rpartition(".")[2].lower()
    if activation not in ACTIVATIONS:
        raise ExportError(
            f"the cross-encoder's activation is {name!r}, which bertrt does not have: set "
            f"activation_fn to one of {', '.join(ACTIVATIONS)} of torch.nn"
        )
    return activation


def _settings(folder: Path) -> dict[str, Any]:
    """Return the config_sentence_transformers.json of a cross-encoder, which is empty without."""
    if not (folder / MODULES_FILE).is_file() or not (folder / SETTINGS_FILE).is_file():
        return {}
    saved = read_json(folder / SETTINGS_FILE)
    return saved if saved.get("model_type") == "CrossEncoder" else {}
