"""Where a replica finds its models: directories, or what `publish` returned, under names."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from bertrt.errors import InputError, shorten

__all__ = ["Source", "Sources", "find", "name_models"]


class Fetched(Protocol):
    """An artifact that is fetched to the node where it is opened."""

    @property
    def name(self) -> str:
        """The name of its directory."""

    def fetch(self) -> Path:
        """Return its directory on this node."""


Source: TypeAlias = str | os.PathLike[str] | Fetched
Sources: TypeAlias = Source | Sequence[Source] | Mapping[str, Source]


def name_models(models: Sources) -> dict[str, Source]:
    """Return each model's source by its name: that given, or else that of its directory.

    Paths are those of the nodes, so they are not looked for. Raises InputError for what is neither
    a path nor published, for no model, and for a name that is given twice.
    """
    pairs: list[tuple[Any, Any]]
    if isinstance(models, Mapping):
        pairs = list(models.items())
    else:
        several = models if isinstance(models, Sequence) and not _is_path(models) else [models]
        pairs = [(_name(source), source) for source in several]
    if not pairs:
        raise InputError("there is no model: give an artifact's directory")
    named: dict[str, Source] = {}
    for name, source in pairs:
        if not source or not (_is_path(source) or hasattr(source, "fetch")):
            raise InputError(
                f"a model is {shorten(source)}: give an artifact's directory, or what "
                "bertrt.ray.publish returned"
            )
        if not isinstance(name, str) or not name or not name.isprintable():
            raise InputError(f"a model's name is {shorten(name)}: give printable characters")
        if name in named:
            raise InputError(
                f"the name {name!r} is given twice: give a mapping of names to directories"
            )
        named[name] = source
    return named


def find(source: Source) -> Path:
    """Return the directory of a source on this node; see `Fetched.fetch`."""
    return Path(source) if isinstance(source, (str, os.PathLike)) else source.fetch()


def _is_path(source: object) -> bool:
    return isinstance(source, (str, os.PathLike))


def _name(source: object) -> object:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return path.name or path.absolute().name
    return getattr(source, "name", None)
