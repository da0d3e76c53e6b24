"""The versions of what is measured."""

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["package_versions", "source_hash"]


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of the installed distributions among these, and what qualifies them.

    With torch comes the version of CUDA that it was built for, if any, and with bertrt a hash of
    its exporter's source.
    """
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        # PyTorch's wheels for several versions of CUDA may have one name; without CUDA it is None.
        if name == "torch" and (cuda := _cuda_version()):
            found["CUDA"] = cuda
        # A version alone does not distinguish one working tree from the next.
        if name == "bertrt":
            found["bertrt.export"] = f"source {source_hash('bertrt.export')}"
    return found


def source_hash(package: str) -> str:
    """Return eight hexadecimal digits of a hash of a package's Python files."""
    spec = importlib.util.find_spec(package)
    folders = sorted((spec.submodule_search_locations if spec else None) or ())
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _cuda_version() -> str | None:
    """Return the CUDA version of PyTorch, if a contender's `missing` has imported PyTorch."""
    return sys.modules["torch"].version.cuda if "torch" in sys.modules else None
