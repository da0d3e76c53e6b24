"""bertrt on a Ray cluster. It needs the packages of `bertrt[ray]`.

The packages are imported when a name of this one is first used, not before.
"""

import importlib
from typing import Any

from bertrt.errors import BertrtError

__all__: list[str] = []

# The module of each public name.
_LAZY: dict[str, str] = {}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_LAZY[name])
    except ImportError as error:
        raise BertrtError(
            f"bertrt.ray.{name} needs packages that cannot be imported ({error}): install them "
            "with pip install 'bertrt[ray]'"
        ) from error
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
