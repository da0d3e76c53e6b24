"""The API keys of an application, of which each request needs one."""

import os
import re
from pathlib import Path

from bertrt.errors import InputError

__all__ = ["ENVIRONMENT", "read_keys"]

ENVIRONMENT = "BERTRT_API_KEY"

# What is in an API key: it has to fit into a header.
_KEY = re.compile(r"[\x21-\x7e]+")


def read_keys(path: Path | None) -> list[str]:
    """Return the API keys of a file and of the environment.

    Raises InputError for a file that cannot be read or holds none, and for a key that no header can
    hold. The message holds no key.
    """
    sources = {}
    if path is not None:
        try:
            sources[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the API keys in {str(path)!r} cannot be read: {error}") from error
    if ENVIRONMENT in os.environ:
        sources[ENVIRONMENT] = os.environ[ENVIRONMENT]
    keys = []
    for source, text in sources.items():
        found = [line.strip() for line in text.splitlines() if line.strip()]
        if not found:
            raise InputError(f"{source} holds no API key: write one on each line")
        if not all(_KEY.fullmatch(key) for key in found):
            raise InputError(f"{source} holds an API key with other than visible ASCII characters")
        keys += found
    return keys
