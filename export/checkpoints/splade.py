"""Read what sentence-transformers saves with a SPLADE model: its pooling and its settings."""

from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import SparseFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import MODULES_FILE, read_module_list
from bertrt.export.checkpoints.sentence_transformers import (
    SETTINGS_FILE,
    read_encoder,
    read_encoder_settings,
)
from bertrt.export.sparse_model import ACTIVATIONS, POOLINGS, SparseModel
from bertrt.tokenizer import Tokenizer

__all__ = ["read_sparse", "read_splade_pooling"]


def read_splade_pooling(folder: Path) -> tuple[str, str]:
    """Return a model's pooling and activation; "max" and "relu" for a folder without modules.json.

    Raises ExportError for a damaged file, and for modules and settings that bertrt does not have.
    """
    if not (folder / MODULES_FILE).is_file():
        return "max", "relu"
    modules = read_module_list(folder / MODULES_FILE)
    kinds = [module.kind for module in modules]
    if kinds not in (["MLMTransformer", "SpladePooling"], ["Transformer", "SpladePooling"]):
        raise ExportError(
            f"{MODULES_FILE} has the modules {', '.join(kinds)}, and bertrt exports a sparse model "
            "as a Transformer and a SpladePooling: choose another --task"
        )
    where = f"{modules[1].path}/config.json"
    config = read_json(folder / where, where)
    pooling = _choose(config, "pooling_strategy", POOLINGS, where)
    return pooling, _choose(config, "activation_function", ACTIVATIONS, where)


def read_sparse(
    folder: Path, transformer_folder: Path, tokenizer: Tokenizer, model: SparseModel
) -> SparseFacts:
    """Return how a model makes sparse vectors; see `read_encoder`."""
    encoder = read_encoder(folder, transformer_folder, tokenizer, similarity="dot")
    return SparseFacts(
        **vars(encoder),
        pooling=model.pooling,
        activation=model.activation,
        size=model.config.vocab_size,
        top_k=_top_k(read_encoder_settings(folder)),
    )


def _choose(config: dict[str, Any], key: str, known: Any, where: str) -> str:
    """Return a setting of SpladePooling, whose default is the first of `known`."""
    name = config.get(key, next(iter(known)))
    if name not in known:
        raise ExportError(f"{key} in {where} is {name!r}: bertrt has {', '.join(known)}")
    return str(name)


def _top_k(settings: dict[str, Any]) -> int | None:
    count = settings.get("max_active_dims")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ExportError(
            f"max_active_dims in {SETTINGS_FILE} is {count!r}: it must be a whole number above 0"
        )
    return count
