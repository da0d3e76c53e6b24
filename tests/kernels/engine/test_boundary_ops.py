"""Test that ENTRY and EXIT compute the same on tensors as in numpy, on random ragged batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.kernels.engine.boundary_ops import (
    DEVICE_EXIT_OPERATORS,
    HOST_OPERATORS,
    BatchSizes,
    device_entry_operators,
)
from bertrt.kernels.ops.operator import Stage
from bertrt.kernels.ops.registry import OPERATORS, STANDARD_OPERATORS

MASK = 4
SHAPES = [(1, 1), (1, 9), (5, 7), (3, 2, 6), (2, 3, 1)]


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_batch(
    shape: tuple[int, ...], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, BatchSizes]:
    """Make ids, types and mask of ragged sequences, some with holes and some without tokens."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, shape[-1] + 1, shape[:-1])
    mask = (np.arange(shape[-1]) < lengths[..., None]).astype(np.int64)
    mask &= random.random(shape) < 0.8
    mask.flat[0] = 1
    ids = random.integers(0, 7, shape)
    masks = int(((ids == MASK) & (mask != 0)).sum())
    sizes = BatchSizes(int(mask.sum()), int(mask.sum(-1).max()), masks)
    return ids, random.integers(0, 2, shape), mask, sizes


def check_equal(tensors: Any, arrays: Any) -> None:
    tensors, arrays = (
        value if isinstance(value, tuple) else (value,) for value in (tensors, arrays)
    )
    assert len(tensors) == len(arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tensor.cpu().numpy().dtype == array.dtype
        assert tuple(tensor.shape) == array.shape
        np.testing.assert_array_equal(tensor.cpu().numpy(), array)


def test_every_operator_exists_on_host_and_device() -> None:
    operators = {**OPERATORS, **STANDARD_OPERATORS}
    names = {stage: {n for n, op in operators.items() if op.stage is stage} for stage in Stage}
    assert device_entry_operators(BatchSizes(0, 0, 0)).keys() == names[Stage.ENTRY]
    assert DEVICE_EXIT_OPERATORS.keys() == names[Stage.EXIT]
    assert HOST_OPERATORS.keys() == names[Stage.ENTRY] | names[Stage.EXIT]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensors_give_the_same_as_numpy(
    shape: tuple[int, ...], seed: int, device: torch.device
) -> None:
    ids, types, mask, sizes = make_batch(shape, seed)
    entry = device_entry_operators(sizes)

    def to_device(value: Any) -> Any:
        is_tensor = isinstance(value, np.ndarray) and value.ndim > 0
        return torch.from_numpy(value).to(device) if is_tensor else value

    def check(operators: Any, name: str, *inputs: Any, **attributes: Any) -> Any:
        """Run an operator in numpy and on tensors, compare, and return the numpy result."""
        result = HOST_OPERATORS[name](*inputs, **attributes)
        tensors = operators[name](*map(to_device, inputs), **attributes)
        check_equal(tensors, result)
        return result

    for padding_id in range(7):
        check(entry, "Pack", ids, types, mask, padding_id=padding_id)
    packed = check(entry, "Pack", ids, types, mask)
    packed_ids, _, _, rows, offsets = packed
    random = np.random.default_rng(seed)
    for flag in (None, np.array(False), np.array(True)):
        firsts = check(entry, "FirstRows", offsets, rows, flag)
        check(entry, "PickedOffsets", firsts, offsets)
        if flag is None:
            continue
        picked = check(entry, "MaskedRows", packed_ids, flag, mask_id=MASK)
        check(entry, "PickedOffsets", picked, offsets)
        x = random.standard_normal((len(picked), 3)).astype(np.float32)
        check(DEVICE_EXIT_OPERATORS, "Unpack", x, ids, rows, flag)
    x = random.standard_normal((len(rows), 5)).astype(np.float32)
    padded = check(DEVICE_EXIT_OPERATORS, "Unpack", x, ids, rows)
    check(DEVICE_EXIT_OPERATORS, "Split", padded, axis=-1, num_outputs=2)
    numbers = random.standard_normal((len(offsets) - 1, 1)).astype(np.float32)
    check(DEVICE_EXIT_OPERATORS, "Regroup", numbers, ids)


@pytest.mark.parametrize("sizes", [None, np.array([1, 4])])
@pytest.mark.parametrize("axis", [-1, 1])
def test_split_and_squeeze(axis: int, sizes: np.ndarray | None) -> None:
    x = np.arange(30.0, dtype=np.float32).reshape(2, 5, 3).swapaxes(1, axis)
    split: Callable[..., Any] = HOST_OPERATORS["Split"]
    expected = tuple(np.split(x, [3] if sizes is None else [1], axis=axis))
    for value in (x, torch.from_numpy(x.copy())):
        parts = split(value, sizes, axis=axis, num_outputs=2)
        check_equal(tuple(map(torch.as_tensor, parts)), expected)
    for axes, shape in ((None, (3, 2)), (np.array([-1]), (1, 3, 2)), (np.array([0, 3]), (3, 2))):
        ones = np.zeros((1, 3, 2, 1), np.float32)
        for value in (ones, torch.from_numpy(ones)):
            assert tuple(HOST_OPERATORS["Squeeze"](value, axes).shape) == shape
