"""Read what sentence-transformers saves with a SPLADE model: its modules and its settings."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import SparseFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import MODULES_FILE, Module, read_module_list
from bertrt.export.checkpoints.router import ROUTER_FILE, read_router
from bertrt.export.checkpoints.sentence_transformers import (
    SETTINGS_FILE,
    read_encoder,
    read_encoder_settings,
)
from bertrt.export.sparse_model import ACTIVATIONS, POOLINGS
from bertrt.tokenizer import Tokenizer

__all__ = ["Splade", "read_sparse", "read_splade"]


@dataclass(frozen=True)
class Splade:
    """The modules of a sparse model; by default SparseEncoder's for a folder without modules.json.

    Attributes:
        pooling, activation: how logits are pooled: see `bertrt.export.sparse_model`.
        queries: the module that makes the vectors of queries; None if they are made as others.
        default_kind: "query" or "document", which a text is if nothing is said; None if it has to
            be said.
    """

    pooling: str = "max"
    activation: str = "relu"
    queries: Module | None = None
    default_kind: str | None = "document"


def read_splade(folder: Path) -> Splade:
    """Return the modules of a sparse model.

    Raises ExportError for a damaged file, and for modules and settings that bertrt does not have.
    """
    if not (folder / MODULES_FILE).is_file():
        return Splade()
    modules = read_module_list(folder / MODULES_FILE)
    if [module.kind for module in modules] != ["Router"]:
        return Splade(*_pooling(folder, modules, MODULES_FILE))
    path = modules[0].path
    router = read_router(folder / path / ROUTER_FILE, path)
    if set(router.routes) != {"query", "document"}:
        raise ExportError(
            f"{ROUTER_FILE} has the routes {', '.join(router.routes)}, and bertrt has a sparse "
            "model's query and document: correct it"
        )
    pooling = _pooling(folder, router.routes["document"], "the route document")
    query = router.routes["query"]
    if query == router.routes["document"]:
        return Splade(*pooling)
    if [module.kind for module in query] != ["SparseStaticEmbedding"]:
        raise ExportError(
            f"the route query has the modules {_names(query)}, and bertrt has a "
            "SparseStaticEmbedding there, or the modules of the route document: export the model "
            "of the route document alone"
        )
    return Splade(*pooling, query[0], router.default)


def read_sparse(
    folder: Path, transformer_folder: Path, tokenizer: Tokenizer, splade: Splade, size: int
) -> SparseFacts:
    """Return how a model makes sparse vectors of `size` entries, where the graph makes them all.

    Raises ExportError as `read_encoder` does.
    """
    encoder = read_encoder(folder, transformer_folder, tokenizer, similarity="dot")
    return SparseFacts(
        **vars(encoder),
        pooling=splade.pooling,
        activation=splade.activation,
        size=size,
        top_k=_top_k(read_encoder_settings(folder)),
    )


def _pooling(folder: Path, modules: Iterable[Module], where: str) -> tuple[str, str]:
    """Return the pooling and the activation of a Transformer with a SpladePooling."""
    transformer, *rest = modules
    if transformer.kind not in ("Transformer", "MLMTransformer") or [
        module.kind for module in rest
    ] != ["SpladePooling"]:
        raise ExportError(
            f"{where} has the modules {_names(modules)}, and bertrt exports a sparse model of a "
            "Transformer and a SpladePooling: choose another --task"
        )
    file = f"{rest[0].path}/config.json"
    config = read_json(folder / file, file)
    return (
        _choose(config, "pooling_strategy", POOLINGS, file),
        _choose(config, "activation_function", tuple(ACTIVATIONS), file),
    )


def _names(modules: Iterable[Module]) -> str:
    return ", ".join(module.kind for module in modules)


def _choose(config: dict[str, Any], key: str, known: Collection[str], file: str) -> str:
    """Return a setting of SpladePooling, whose default is the first of `known`."""
    name = config.get(key, next(iter(known)))
    if name not in known:
        raise ExportError(f"{key} in {file} is {name!r}: bertrt has {', '.join(known)}")
    return str(name)


def _top_k(settings: dict[str, Any]) -> int | None:
    count = settings.get("max_active_dims")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ExportError(
            f"max_active_dims in {SETTINGS_FILE} is {count!r}: it must be a whole number above 0"
        )
    return count
