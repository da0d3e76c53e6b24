"""Arrays from anywhere: those of other libraries in, and results in the caller's kind out.

No library is imported here: who has made an array has imported its library already.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from bertrt.errors import InputError

__all__ = ["converter", "to_numpy"]

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


def converter(like: Any) -> Callable[[np.ndarray], Any]:
    """What turns numpy arrays into arrays of the kind of `like`, on its device.

    On the CPU the result has the numpy array's own memory, where its library allows that.

    Raises InputError for what is no array of numpy, PyTorch, JAX, TensorFlow or CuPy.
    """
    library = type(like).__module__.partition(".")[0]
    make = _LIBRARIES.get(library)
    if make is None:
        raise InputError(
            f"like is a {type(like).__name__}: give an array of numpy, PyTorch, JAX, TensorFlow or "
            "CuPy, whose kind the results shall be of"
        )
    return make(like)


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


def _numpy(_: Any) -> Callable[[np.ndarray], Any]:
    return lambda array: array


def _torch(like: Any) -> Callable[[np.ndarray], Any]:
    torch = sys.modules["torch"]
    return lambda array: torch.from_numpy(array).to(like.device)


def _jax(like: Any) -> Callable[[np.ndarray], Any]:
    jax = sys.modules["jax"]
    return lambda array: jax.device_put(array, like.sharding)


def _tensorflow(like: Any) -> Callable[[np.ndarray], Any]:
    tensorflow = sys.modules["tensorflow"]

    def convert(array: np.ndarray) -> Any:
        with tensorflow.device(like.device):
            return tensorflow.convert_to_tensor(array)

    return convert


def _cupy(like: Any) -> Callable[[np.ndarray], Any]:
    cupy = sys.modules["cupy"]

    def convert(array: np.ndarray) -> Any:
        with like.device:
            return cupy.asarray(array)

    return convert


# By the package that an array's class is in; JAX' arrays are of its compiled part.
_LIBRARIES: dict[str, Callable[[Any], Callable[[np.ndarray], Any]]] = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "jaxlib": _jax,
    "tensorflow": _tensorflow,
    "cupy": _cupy,
}
