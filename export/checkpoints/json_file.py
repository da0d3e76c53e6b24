"""Read a JSON object from a checkpoint's file."""

import json
from pathlib import Path
from typing import Any

from bertrt.errors import ExportError

__all__ = ["read_json"]


def read_json(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return a file's JSON object.

    Args:
        path: the file.
        name: what errors call it; None for its name without folders.

    Raises ExportError if the file is damaged or holds no object.
    """
    name = path.name if name is None else name
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{name} cannot be read ({error}): download it again") from error
    if not isinstance(data, dict):
        raise ExportError(f"{name} holds a {type(data).__name__}, not a JSON object")
    return data
