"""Tell by a checkpoint's files which encoder it is, where its architecture does not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertrt.export.checkpoints.module_list import MODULES_FILE, read_module_list
from bertrt.export.checkpoints.multi_vector import is_multi_vector
from bertrt.export.checkpoints.router import ROUTER_FILE, read_router

__all__ = ["saved_task"]

# The module that makes an encoder's vectors, and the task that bertrt has for it.
_TASKS = {"SpladePooling": "sparse-embedding", "SparseStaticEmbedding": "sparse-embedding"}


def saved_task(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the task that a model was saved for; None if its config's architecture tells.

    Args:
        folder: the checkpoint's folder.
        config: the contents of config.json.

    Raises ExportError for modules or settings that are damaged.
    """
    if is_multi_vector(folder, config):
        return "multi-vector-embedding"
    if not (folder / MODULES_FILE).is_file():
        return None
    modules = read_module_list(folder / MODULES_FILE)
    if modules[0].kind == "Router":
        path = modules[0].path
        routes = read_router(folder / path / ROUTER_FILE, path).routes
        modules = [module for route in routes.values() for module in route]
    return next((_TASKS[module.kind] for module in modules if module.kind in _TASKS), None)
