"""bertrt on a Ray cluster. It needs the packages of `bertrt[ray]`.

    from ray import serve
    import bertrt.ray
    serve.run(bertrt.ray.app("/models/minilm", num_replicas=4))

The packages are imported when a name of this one is first used, not before.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bertrt.errors import BertrtError

if TYPE_CHECKING:
    from bertrt.ray.application import BertReplica, app, build
    from bertrt.ray.data import map
    from bertrt.ray.publishing import Published, publish
    from bertrt.ray.settings import ReplicaSettings, Settings

__all__ = [
    "BertReplica",
    "Published",
    "ReplicaSettings",
    "Settings",
    "app",
    "build",
    "map",
    "publish",
]

# The module of each public name.
_LAZY = {
    "BertReplica": "bertrt.ray.application",
    "Published": "bertrt.ray.publishing",
    "ReplicaSettings": "bertrt.ray.settings",
    "Settings": "bertrt.ray.settings",
    "app": "bertrt.ray.application",
    "build": "bertrt.ray.application",
    "map": "bertrt.ray.data",
    "publish": "bertrt.ray.publishing",
}


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
