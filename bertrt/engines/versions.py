"""Check the installed versions of the packages that an artifact needs, without importing them."""

import re
from collections.abc import Mapping

from bertrt.errors import DeviceError

__all__ = ["check_versions"]


def check_versions(least: Mapping[str, str]) -> None:
    """Raise DeviceError if an installed package is older than `least` says.

    "2.8" and "2.8.0" are equal. A package that is missing, or whose version is not a number,
    passes: its import will fail with a better message.
    """
    from importlib import metadata  # slow to import, and not needed without requirements

    for name, required in least.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if _release(version) and _release(version) < _release(required):
            raise DeviceError(
                f"the artifact needs {name} {required} or newer, and {version} is installed: "
                f"upgrade it with pip install --upgrade '{name}>={required}'"
            )


def _release(version: str) -> list[int]:
    """Return the release numbers of a version: [2, 11] for 2.11.0+cu128 and for 2.11.0rc1."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
