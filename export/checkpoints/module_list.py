"""Read modules.json, the list of modules of a sentence-transformers model."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bertrt.errors import ExportError

__all__ = ["MODULES_FILE", "Module", "read_module_list"]

MODULES_FILE = "modules.json"


@dataclass(frozen=True)
class Module:
    """A module: its class and its folder within the model's, "" for the model's own.

    A class of sentence-transformers is without its package, which versions spell differently.
    """

    kind: str
    path: str

    @classmethod
    def of(cls, type: str, path: str) -> "Module":
        """Return a module by the path of its class and that of its folder.

        Raises ValueError for a folder that is not within the model's.
        """
        package, _, short = type.rpartition(".")
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"the path {path!r} leaves the model's folder")
        return cls(
            kind=short if package.startswith("sentence_transformers") else type,
            path="" if pure == PurePosixPath() else str(pure),
        )


def read_module_list(path: Path) -> list[Module]:
    """Return a model's modules, in the order in which they run.

    Raises ExportError for a file that is damaged, and for a path that leaves the model's folder.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list) or not entries:
            raise ValueError("it lists no modules")
        return [Module.of(str(one["type"]), str(one["path"])) for one in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): download it again") from error
