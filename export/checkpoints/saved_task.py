"""Tell by a folder's modules.json which of sentence-transformers' encoders it holds."""

from pathlib import Path

from bertrt.export.checkpoints.module_list import MODULES_FILE, read_module_list

__all__ = ["saved_task"]

# The module that makes an encoder's vectors, and the task that bertrt has for it.
_TASKS = {"SpladePooling": "sparse-embedding"}


def saved_task(folder: Path) -> str | None:
    """Return the task that a model was saved for; None if its config's architecture tells.

    Raises ExportError for a modules.json that is damaged.
    """
    if not (folder / MODULES_FILE).is_file():
        return None
    kinds = [module.kind for module in read_module_list(folder / MODULES_FILE)]
    return next((_TASKS[kind] for kind in kinds if kind in _TASKS), None)
