"""Arrays from anywhere: those of other libraries in, and results in the caller's kind out.

No library is imported here: who has made an array has imported its library already.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from bertrt.errors import InputError

__all__ = ["converter", "place_of", "to_numpy"]

# Makes an array of the caller's kind of a result.
Convert: TypeAlias = Callable[[Any], Any]

# DLPack's numbers for memory that the CPU reads: its own, and that pinned for a GPU's copies.
_ON_HOST = (1, 3, 11)


def to_numpy(name: str, value: Any) -> np.ndarray:
    """An array-like of any library as a numpy array, without a copy where its memory allows.

    Args:
        name: the input's, for messages.
        value: numbers in nested lists, or anything with `__dlpack__` or `__array__`: an array of
            numpy, PyTorch, JAX, TensorFlow or CuPy. One on a GPU is copied to the host.

    Raises InputError for what is no array.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        if _is_elsewhere(value):
            return _fetched(value)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} is not an array: its rows differ in length") from error
    except Exception as error:
        # Each library has errors of its own.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{name} is a {type(value).__name__} that cannot be read as an array ({reason}): give "
            "it as a numpy array"
        ) from error


def place_of(value: Any) -> tuple[int, int] | None:
    """Where an array is, by DLPack's numbers for the kind of device and the device.

    None for numpy's arrays, for what DLPack does not know, and for TensorFlow's: that does not say
    which of its streams an array is of, so that its arrays go by way of the host.
    """
    if isinstance(value, np.ndarray) or _library(value) == "tensorflow":
        return None
    try:
        kind, number = value.__dlpack_device__()
    except Exception:  # an array that is on many devices, for one
        return None
    return int(kind), int(number)


def converter(like: Any) -> Convert:
    """What turns results into arrays of the kind of `like`, on its device.

    It takes numpy arrays, and tensors on a device where `place_of` says that `like` is there too.
    The result has their memory, where its library allows that.

    Raises InputError for what is no array of numpy, PyTorch, JAX, TensorFlow or CuPy.
    """
    make = _LIBRARIES.get(_library(like))
    if make is None:
        raise InputError(
            f"like is a {type(like).__name__}: give an array of numpy, PyTorch, JAX, TensorFlow or "
            "CuPy, whose kind the results shall be of"
        )
    return make(like)


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _is_elsewhere(value: Any) -> bool:
    """Whether an array's memory is a device's, by DLPack."""
    device = getattr(value, "__dlpack_device__", None)
    return device is not None and int(device()[0]) not in _ON_HOST


def _fetched(value: Any) -> np.ndarray:
    """A copy on the host of an array on a device."""
    for method in ("cpu", "get", "numpy"):  # PyTorch's name for it, CuPy's and TensorFlow's
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


# By the package that an array's class is in; JAX' arrays are of its compiled part.
_LIBRARIES: dict[str, Callable[[Any], Convert]] = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "jaxlib": _jax,
    "tensorflow": _tensorflow,
    "cupy": _cupy,
}
