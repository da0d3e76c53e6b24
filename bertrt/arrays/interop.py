"""Convert arrays of other libraries to numpy, and results to the caller's type of array.

No library is imported here: a caller who has its arrays has imported it already.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from bertrt.errors import InputError

__all__ = ["converter", "device_of", "to_numpy"]

# Converts a result to the caller's type of array.
Convert: TypeAlias = Callable[[Any], Any]

# DLPack's device types that the CPU can read: its own memory, and memory pinned for a GPU.
_ON_HOST = (1, 3, 11)


def to_numpy(name: str, value: Any) -> np.ndarray:
    """Return an array of any library as a numpy array, without a copy where possible.

    Args:
        name: the name of the input, for messages.
        value: numbers in nested lists, or anything with `__dlpack__` or `__array__`: an array of
            numpy, PyTorch, JAX, TensorFlow or CuPy. An array on a GPU is copied to the host.

    Raises InputError for a value that is not an array.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        if _is_on_device(value):
            return _fetch(value)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} is not an array: its rows differ in length") from error
    except Exception as error:
        # Each library raises errors of its own.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{name} is a {type(value).__name__} that cannot be read as an array ({reason}): give "
            "it as a numpy array"
        ) from error


def device_of(value: Any) -> tuple[int, int] | None:
    """Return an array's device as DLPack's (device type, device id).

    None for numpy arrays, for values that DLPack does not know, and for TensorFlow's arrays: these
    do not say which stream they are computed on, so they are copied through the host.
    """
    if isinstance(value, np.ndarray) or _library(value) == "tensorflow":
        return None
    try:
        kind, number = value.__dlpack_device__()
    except Exception:  # for example, an array that is spread over several devices
        return None
    return int(kind), int(number)


def converter(like: Any) -> Convert:
    """Return a function that converts results to arrays of the type and device of `like`.

    It takes numpy arrays, and tensors on a device if `device_of` says that `like` is there too. The
    converted array shares their memory where its library allows that.

    Raises InputError unless `like` is an array of numpy, PyTorch, JAX, TensorFlow or CuPy.
    """
    make = _LIBRARIES.get(_library(like))
    if make is None:
        raise InputError(
            f"like is a {type(like).__name__}: give an array of numpy, PyTorch, JAX, TensorFlow or "
            "CuPy"
        )
    return make(like)


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _is_on_device(value: Any) -> bool:
    """Return whether an array's memory is on a device, according to DLPack."""
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and int(device()[0]) not in _ON_HOST


def _fetch(value: Any) -> np.ndarray:
    """Return a host copy of an array on a device."""
    for method in ("cpu", "get", "numpy"):  # the methods of PyTorch, CuPy and TensorFlow
        if hasattr(value, method):
            return np.asarray(getattr(value, method)())
    return np.asarray(value)  # JAX


def _numpy(_: Any) -> Convert:
    return lambda array: array


def _torch(like: Any) -> Convert:
    torch = sys.modules["torch"]

    def convert(result: Any) -> Any:
        tensor = torch.from_numpy(result) if isinstance(result, np.ndarray) else result
        return tensor.to(like.device)

    return convert


def _jax(like: Any) -> Convert:
    jax = sys.modules["jax"]

    def convert(result: Any) -> Any:
        array = result if isinstance(result, np.ndarray) else jax.dlpack.from_dlpack(result)
        return jax.device_put(array, like.sharding)

    return convert


def _tensorflow(like: Any) -> Convert:
    tensorflow = sys.modules["tensorflow"]

    def convert(array: np.ndarray) -> Any:
        with tensorflow.device(like.device):
            return tensorflow.convert_to_tensor(array)

    return convert


def _cupy(like: Any) -> Convert:
    cupy = sys.modules["cupy"]

    def convert(result: Any) -> Any:
        with like.device:
            on_host = isinstance(result, np.ndarray)
            return cupy.asarray(result) if on_host else cupy.from_dlpack(result)

    return convert


# By the package of an array's class; JAX's arrays belong to jaxlib.
_LIBRARIES: dict[str, Callable[[Any], Convert]] = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "jaxlib": _jax,
    "tensorflow": _tensorflow,
    "cupy": _cupy,
}
