"""Read modules.json, the list of modules of a sentence-transformers model."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bertrt.errors import ExportError

__all__ = ["MODULES_FILE", "Module", "read_module_list", "transformer_subfolder"]

MODULES_FILE = "modules.json"


@dataclass(frozen=True)
class Module:
    """A module: its class and its folder within the model's, "" for the model's own.

    A class of sentence-transformers is without its package, which versions spell differently.
    """

    kind: str
    path: str


def read_module_list(path: Path) -> list[Module]:
    """Return a model's modules, in the order in which they run.

    Raises ExportError for a file that is damaged, and for a path that leaves the model's folder.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not entries:
            raise ValueError("it lists no modules")
        return [Module(_kind(str(one["type"])), _subfolder(str(one["path"]))) for one in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): download it again") from error


def _kind(name: str) -> str:
    package, _, short = name.rpartition(".")
    return short if package.startswith("sentence_transformers") else name


def _subfolder(path: str) -> str:
    """Return a path within the model's folder in its shortest form."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"the path {path!r} leaves the model's folder")
    return "" if pure == PurePosixPath() else str(pure)


def transformer_subfolder(names: Collection[str], get_path: Callable[[str], Path]) -> str:
    """Return the subfolder that holds the transformer; "" if it is the model's own folder.

    Args:
        names: the names of the folder's files.
        get_path: returns the path of a file that must be read.

    Raises ExportError for a modules.json that is damaged.
    """
    if MODULES_FILE not in names:
        return ""
    modules = read_module_list(get_path(MODULES_FILE))
    return next((module.path for module in modules if module.kind == "Transformer"), "")
