"""Arrays of other libraries are accepted, and returned in the type and on the device of `like`.

JAX and TensorFlow are not installed with the other test packages: `make frameworks` runs these
tests in an environment that has them.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertrt.arrays.interop import converter, device_of, to_numpy
from bertrt.errors import InputError

NUMBERS = np.array([[1, 2, 3], [4, 5, 6]])


def array_function(library: str) -> Callable[[np.ndarray], Any]:
    module = pytest.importorskip(library)
    if library == "jax":
        return module.numpy.asarray
    return {"numpy": np.asarray, "torch": module.__dict__.get("from_numpy")}.get(
        library
    ) or module.convert_to_tensor


LIBRARIES = ["numpy", "torch", "jax", "tensorflow"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_converts_to_numpy_and_back(library: str) -> None:
    array = array_function(library)(NUMBERS)
    numbers = to_numpy("input_ids", array)
    np.testing.assert_array_equal(numbers, NUMBERS)
    assert numbers.dtype.kind == "i"
    result = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    back = converter(array)(result)
    assert type(back) is type(array)
    np.testing.assert_array_equal(np.asarray(back), result)


def test_memory_is_shared() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6)
    assert np.shares_memory(to_numpy("input_ids", tensor), tensor.numpy())
    result = np.zeros(4, np.float32)
    converter(tensor)(result)[1] = 7
    assert result[1] == 7
    assert converter(result)(result) is result


class OnlyDlpack:
    """An array that has no other protocol than DLPack."""

    def __dlpack__(self, **options: Any) -> Any:
        return NUMBERS.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return NUMBERS.__dlpack_device__()


def test_an_array_with_only_dlpack_is_accepted() -> None:
    array = to_numpy("input_ids", OnlyDlpack())
    np.testing.assert_array_equal(array, NUMBERS)
    assert np.shares_memory(array, NUMBERS)


class FakeGpuArray:
    """An array that DLPack reports as being on a GPU; `method` copies it to the host."""

    def __init__(self, method: str | None) -> None:
        if method:
            setattr(self, method, lambda: NUMBERS)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed")


@pytest.mark.parametrize("method", ["cpu", "get", "numpy"])
def test_an_array_on_a_gpu_is_copied_to_the_host(method: str) -> None:
    np.testing.assert_array_equal(to_numpy("input_ids", FakeGpuArray(method)), NUMBERS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            FakeGpuArray(None),
            "input_ids is a FakeGpuArray that cannot be read.*implicit conversion",
        ),
        ([[1, 2], [3]], "input_ids is not an array: its rows differ in length"),
    ],
)
def test_values_that_are_not_arrays_are_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_numpy("input_ids", value)


def test_tensors_that_require_grad_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="requires grad"):
        to_numpy("input_ids", torch.ones(3, requires_grad=True))


def test_place_of() -> None:
    torch = pytest.importorskip("torch")
    assert device_of(FakeGpuArray(None)) == (2, 0)
    assert device_of(torch.ones(2)) == (1, 0)
    assert device_of(OnlyDlpack()) == (1, 0)
    for value in (NUMBERS, NUMBERS[0, 0], [1, 2], 3, None, "torch"):
        assert device_of(value) is None
    assert device_of(fake_array("tensorflow", __dlpack_device__=lambda _: (2, 0))) is None

    def on_two_devices(_: Any) -> Any:
        raise BufferError("the array is sharded")

    assert device_of(fake_array("jax", __dlpack_device__=on_two_devices)) is None


def fake_array(library: str, **members: Any) -> Any:
    """Return an object whose class belongs to a library."""
    return type("Array", (), {"__module__": f"{library}.core", **members})()


def test_results_on_a_device_are_converted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake libraries return which of their functions was called, and its arguments."""
    torch = pytest.importorskip("torch")
    array, tensor = np.zeros(2, np.float32), torch.ones(2)
    members = {"device": nullcontext(), "sharding": "gpu"}
    cupy = SimpleNamespace(asarray=lambda x: ("copied", x), from_dlpack=lambda x: ("shared", x))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert converter(fake_array("cupy", **members))(tensor) == ("shared", tensor)
    assert converter(fake_array("cupy", **members))(array) == ("copied", array)
    jax = SimpleNamespace(device_put=lambda x, sharding: (x, sharding), dlpack=cupy)
    monkeypatch.setitem(sys.modules, "jax", jax)
    for module in ("jax", "jaxlib"):
        assert converter(fake_array(module, **members))(tensor) == (("shared", tensor), "gpu")
        assert converter(fake_array(module, **members))(array) == (array, "gpu")
    assert converter(torch.zeros(1))(tensor) is tensor


@pytest.mark.parametrize("like", ["torch", 3, [1.0]])
def test_like_must_be_an_array(like: Any) -> None:
    with pytest.raises(InputError, match=r"like is a (str|int|list): give an array of numpy"):
        converter(like)


def test_run_takes_and_returns_tensors(load_artifact: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    rt = load_artifact("BertModel")
    ids = torch.tensor([[2, 7, 3, 0], [2, 9, 8, 3]])
    mask = (ids != 0).long()
    theirs = rt.run(input_ids=ids, attention_mask=mask, like=ids)
    ours = rt.run(input_ids=ids.numpy(), attention_mask=mask.numpy())
    assert list(theirs) == list(ours)
    for name, tensor in theirs.items():
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(tensor.numpy(), ours[name])
    flagged = rt.run(input_ids=ids, first_token_only=torch.tensor(True), like=ids)
    assert flagged.last_hidden_state.shape[1] == 1
    with pytest.raises(InputError, match="like is a str"):
        rt.run(input_ids=ids, like="torch")
