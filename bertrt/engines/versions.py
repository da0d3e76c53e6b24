"""The packages that an artifact asks for: their versions by metadata, nothing is imported."""

import re
from collections.abc import Mapping

from bertrt.errors import DeviceError

__all__ = ["check_versions"]


def check_versions(least: Mapping[str, str]) -> None:
    """Raise DeviceError when a package is older than `least` says; "2.8" and "2.8.0" are the same.

    A package that is not there, or whose version is no number, is left for its import to tell.
    """
    from importlib import metadata  # slow to import, and not needed where nothing is asked

    for name, wanted in least.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if _numbers(version) and _numbers(version) < _numbers(wanted):
            raise DeviceError(
                f"the artifact needs {name} {wanted} or newer, and {version} is installed: upgrade "
                f"it with pip install --upgrade '{name}>={wanted}'"
            )


def _numbers(version: str) -> list[int]:
    """A version's release: [2, 11] of 2.11.0+cu128 and of 2.11.0rc1."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
