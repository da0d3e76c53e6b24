"""Find the folder within a sentence-transformers model that holds its transformer."""

from collections.abc import Callable, Collection
from itertools import chain
from pathlib import Path

from bertrt.export.checkpoints.module_list import MODULES_FILE, read_module_list
from bertrt.export.checkpoints.router import ROUTER_FILE, read_router

__all__ = ["transformer_subfolder"]

# The second is the name of a transformer with its language model's head before version 5.4.
_TRANSFORMERS = ("Transformer", "MLMTransformer")


def transformer_subfolder(names: Collection[str], get_path: Callable[[str], Path]) -> str:
    """Return the subfolder that holds the transformer; "" if it is the model's own folder.

    Of a Router it is the transformer of documents.

    Args:
        names: the names of the folder's files.
        get_path: returns the path of a file that must be read.

    Raises ExportError for a modules.json or Router that is damaged.
    """
    if MODULES_FILE not in names:
        return ""
    modules = read_module_list(get_path(MODULES_FILE))
    if modules[0].kind == "Router":
        file = f"{modules[0].path}/{ROUTER_FILE}".lstrip("/")
        routes = read_router(get_path(file), modules[0].path).routes
        modules = [*routes.get("document", ()), *chain.from_iterable(routes.values())]
    return next((module.path for module in modules if module.kind in _TRANSFORMERS), "")
