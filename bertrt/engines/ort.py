"""Import ONNX Runtime with telemetry off, and with a clear error if it cannot be used.

Official Linux wheels since 1.29 send telemetry unless `ORT_DISABLE_TELEMETRY=1` is set before the
first import. A value that the user has set is left alone.
"""

import functools
import importlib
import os
from types import ModuleType

from bertrt.errors import DeviceError

__all__ = ["onnxruntime", "telemetry_disabled", "wheels"]

_WHEELS = ("onnxruntime", "onnxruntime-gpu")


def wheels() -> dict[str, str]:
    """Return the installed ONNX Runtime wheels, name to version; more than one is a fault."""
    from importlib import metadata  # slow to import, and not needed before a session is opened

    found = {}
    for name in _WHEELS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def telemetry_disabled() -> bool:
    """Return whether ONNX Runtime's telemetry is off in this process."""
    return os.environ.get("ORT_DISABLE_TELEMETRY", "1") not in ("", "0")


@functools.cache
def onnxruntime() -> ModuleType:
    """Return the onnxruntime module, imported on the first call.

    Raises DeviceError if no ONNX Runtime wheel is installed, or if both are: they own the same
    files, and which of them end up on disk depends on the order of installation.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    installed = wheels()
    if len(installed) > 1:
        raise DeviceError(
            f"both {' and '.join(installed)} are installed and overwrite each other's files: "
            "uninstall both, then install bertrt[cpu] or bertrt[gpu]"
        )
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime cannot be imported ({error}): install it with pip install 'bertrt[cpu]'"
        ) from error
