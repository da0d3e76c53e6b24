"""Read modules.json, the list of modules of a sentence-transformers model."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from bertrt.errors import ExportError

__all__ = ["MODULES_FILE", "Module", "read_module_list", "transformer_subfolder"]

MODULES_FILE = "modules.json"


@dataclass(frozen=True)
class Module:
    """A module: its class and its folder, "" for the model's own.

    A class of sentence-transformers is without its package, which versions spell differently.
    """

    kind: str
    path: str


def read_module_list(path: Path) -> list[Module]:
    """Return a model's modules, in the order in which they run.

    Raises ExportError for a file that is damaged.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [Module(_kind(str(one["type"])), str(one["path"])) for one in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): download it again") from error


def _kind(name: str) -> str:
    package, _, short = name.rpartition(".")
    return short if package.startswith("sentence_transformers") else name


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
    path = next((module.path for module in modules if module.kind == "Transformer"), "")
    return path.strip("/").removeprefix("./")
