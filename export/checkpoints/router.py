"""Read a sentence-transformers Router: the modules of queries, and those of documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import Module

__all__ = ["ROUTER_FILE", "Router", "read_router"]

ROUTER_FILE = "router_config.json"


@dataclass(frozen=True)
class Router:
    """The routes of a model.

    Attributes:
        routes: each route's modules, in the order in which they run.
        default: the route of a text whose kind is not given; None if it has to be given.
    """

    routes: Mapping[str, tuple[Module, ...]]
    default: str | None


def read_router(path: Path, subfolder: str) -> Router:
    """Read a Router's file.

    Args:
        path: the file.
        subfolder: the Router's folder within the model's, "" for the model's own.

    Raises ExportError for a file that is damaged, a path that leaves the model's folder, and routes
    that are chosen by more than "query" and "document".
    """
    config = read_json(path)
    try:
        types, parameters = config["types"], config.get("parameters") or {}
        routes = {
            str(name): tuple(_module(str(id), types, subfolder) for id in ids)
            for name, ids in config["structure"].items()
        }
        mappings, default = parameters.get("route_mappings"), parameters.get("default_route")
        if not routes or not all(routes.values()):
            raise ValueError("a route has no modules")
        if default is None and parameters.get("allow_empty_key", True):
            default = next(iter(routes))
        if default is not None and default not in routes:
            raise ValueError(f"default_route {default!r} is not among the routes")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): download it again") from error
    if mappings:
        raise ExportError(
            f"{path.name} has route_mappings {mappings!r}, and bertrt chooses a route by query and "
            "document alone: remove them"
        )
    return Router(routes, default)


def _module(id: str, types: Mapping[str, Any], subfolder: str) -> Module:
    """Return a module of a Router, whose id is its folder's name."""
    return Module.of(str(types[id]), f"{subfolder}/{id}".lstrip("/"))
