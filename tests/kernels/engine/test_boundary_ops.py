"""ENTRY and EXIT on tensors mean what they mean in numpy, on random ragged batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.kernels.engine.boundary_ops import EXIT_ON_DEVICE, ON_HOST, Sizes, entry_on_device
from bertrt.kernels.ops import OPERATORS, STANDARD, Place

MASK = 4
SHAPES = [(1, 1), (1, 9), (5, 7), (3, 2, 6), (2, 3, 1)]


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batch(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Sizes]:
    """Ids, types and mask of ragged sequences, some with holes and some without a token."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, shape[-1] + 1, shape[:-1])
    mask = (np.arange(shape[-1]) < lengths[..., None]).astype(np.int64)
    mask &= random.random(shape) < 0.8
    mask.flat[0] = 1
    ids = random.integers(0, 7, shape)
    masks = int(((ids == MASK) & (mask != 0)).sum())
    sizes = Sizes(int(mask.sum()), int(mask.sum(-1).max()), masks)
    return ids, random.integers(0, 2, shape), mask, sizes


def same(tensors: Any, arrays: Any) -> None:
    tensors, arrays = (one if isinstance(one, tuple) else (one,) for one in (tensors, arrays))
    assert len(tensors) == len(arrays)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert tensor.cpu().numpy().dtype == array.dtype
        assert tuple(tensor.shape) == array.shape
        np.testing.assert_array_equal(tensor.cpu().numpy(), array)


def test_every_operator_has_both() -> None:
    places: dict[str, Place] = {**{name: one.place for name, one in OPERATORS.items()}, **STANDARD}
    named = {place: {name for name in places if places[name] is place} for place in Place}
    assert entry_on_device(Sizes(0, 0, 0)).keys() == named[Place.ENTRY]
    assert EXIT_ON_DEVICE.keys() == named[Place.EXIT]
    assert ON_HOST.keys() == named[Place.ENTRY] | named[Place.EXIT]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tensors_mean_the_same(shape: tuple[int, ...], seed: int, device: torch.device) -> None:
    ids, types, mask, sizes = batch(shape, seed)
    entry = entry_on_device(sizes)

    def there(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    def check(operators: Any, name: str, *given: Any, **more: Any) -> Any:
        """Both ways, of which the numpy result goes on."""
        tensors = [there(one) if isinstance(one, np.ndarray) and one.ndim else one for one in given]
        result = ON_HOST[name](*given, **more)
        same(operators[name](*tensors, **more), result)
        return result

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
        check(EXIT_ON_DEVICE, "Unpack", x, ids, rows, flag)
    x = random.standard_normal((len(rows), 5)).astype(np.float32)
    padded = check(EXIT_ON_DEVICE, "Unpack", x, ids, rows)
    check(EXIT_ON_DEVICE, "Split", padded, axis=-1, num_outputs=2)
    numbers = random.standard_normal((len(offsets) - 1, 1)).astype(np.float32)
    check(EXIT_ON_DEVICE, "Regroup", numbers, ids)


@pytest.mark.parametrize("sizes", [None, np.array([1, 4])])
@pytest.mark.parametrize("axis", [-1, 1])
def test_split_and_squeeze(axis: int, sizes: np.ndarray | None) -> None:
    x = np.arange(30.0, dtype=np.float32).reshape(2, 5, 3).swapaxes(1, axis)
    split: Callable[..., Any] = ON_HOST["Split"]
    expected = tuple(np.split(x, [3] if sizes is None else [1], axis=axis))
    for given in (x, torch.from_numpy(x.copy())):
        parts = split(given, sizes, axis=axis, num_outputs=2)
        same(tuple(map(torch.as_tensor, parts)), expected)
    for axes, shape in ((None, (3, 2)), (np.array([-1]), (1, 3, 2)), (np.array([0, 3]), (3, 2))):
        ones = np.zeros((1, 3, 2, 1), np.float32)
        for given in (ones, torch.from_numpy(ones)):
            assert tuple(ON_HOST["Squeeze"](given, axes).shape) == shape
