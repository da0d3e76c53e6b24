"""Test copies from the device to the host, with tensors that only seem to be on a GPU."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.kernels.engine.transfer import start_download

LARGE, SMALL = (512, 600), (512, 500)  # more and less than 1 MiB


class DeviceTensor:
    """A tensor of a GPU: `to` copies it into new memory, and remembers that memory."""

    is_cuda = False  # so that nothing waits for a GPU

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self.copies: list[weakref.ref[np.ndarray]] = []

    def to(self, device: str, *, non_blocking: bool) -> torch.Tensor:
        assert (device, non_blocking) == ("cpu", True)
        memory = self.values.numpy().copy()
        self.copies.append(weakref.ref(memory))
        return torch.from_numpy(memory)  # which keeps the memory


def get(tensor: Any) -> np.ndarray:
    return start_download({"x": tensor})()["x"]


def test_a_large_array_is_the_memory_that_the_gpu_copied_into() -> None:
    tensor = DeviceTensor(torch.arange(512.0 * 600).reshape(LARGE))
    array = get(tensor)
    (copy,) = tensor.copies
    gc.collect()
    memory = copy()
    assert memory is not None  # only the array keeps it
    assert np.shares_memory(array, memory)
    del memory, array
    gc.collect()
    assert copy() is None


def test_a_small_array_is_copied_out_of_it() -> None:
    tensor = DeviceTensor(torch.ones(SMALL))
    array = get(tensor)
    gc.collect()
    assert [copy() for copy in tensor.copies] == [None]
    assert array.flags.owndata


@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=str)
def test_arrays_survive_later_runs(shape: tuple[int, ...]) -> None:
    """The next run overwrites the device's memory, and takes new memory on the host."""
    memory = torch.zeros(shape)
    tensor = DeviceTensor(memory)
    arrays = []
    for run in range(4):
        memory.fill_(run)
        arrays.append(get(tensor))
    del memory, tensor
    gc.collect()
    noise = [np.full(shape, 7.0, np.float32) for _ in range(4)]
    for run, array in enumerate(arrays):
        assert (array == run).all()
        assert array.flags.writeable
    arrays[0][:] = 9
    assert (arrays[1] == 1).all()
    del noise


@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=str)
def test_a_tensor_on_the_cpu_is_always_copied(shape: tuple[int, ...]) -> None:
    """Triton's interpreter computes there, and the next run may overwrite it."""
    tensor = torch.ones(shape)
    array = get(tensor)
    tensor.fill_(3)
    assert (array == 1).all()


@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=str)
@pytest.mark.parametrize("kind", [DeviceTensor, lambda tensor: tensor], ids=["gpu", "cpu"])
def test_the_next_run_may_begin_before_the_arrays_are_taken(
    shape: tuple[int, ...], kind: Any
) -> None:
    memory = torch.zeros(shape)
    waits = []
    for run in range(3):
        memory.fill_(run)
        waits.append(start_download({"x": kind(memory)}))
    memory.fill_(9)
    for run, wait in enumerate(waits):
        assert (wait()["x"] == run).all()
