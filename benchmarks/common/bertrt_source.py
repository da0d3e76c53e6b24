"""Which bertrt is measured: a version alone does not tell one working tree from the next."""

import hashlib
import importlib.util
from pathlib import Path

__all__ = ["source_hash"]


def source_hash(package: str) -> str:
    """Eight hexadecimal digits of the Python source of a package, subpackages included."""
    spec = importlib.util.find_spec(package)
    folders = sorted((spec.submodule_search_locations if spec else None) or ())
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
