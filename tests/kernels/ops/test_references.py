"""References of the dialect that have arithmetic of their own: erf, and offsets of picked rows."""

import math

import numpy as np
import pytest

from bertrt.kernels.ops import OPERATORS
from bertrt.kernels.ops.erf import erf


def test_erf_is_maths() -> None:
    random = np.random.default_rng(0)
    edges = [0.0, -0.0, 1e-30, -1e-30, 5.999, 6.0, 6.001, 1e30, math.inf, -math.inf]
    x = np.concatenate([random.normal(0, 2, 20_000), np.linspace(-7, 7, 20_001), edges])
    x = x.astype(np.float32)
    wanted = np.array([math.erf(one) for one in x], np.float32)
    np.testing.assert_array_equal(erf(x), wanted)
    assert np.signbit(erf(np.float32([-0.0, -1.0]))).all()
    assert np.isnan(erf(np.float32([math.nan]))).all()


def test_erf_keeps_shapes() -> None:
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    for one in (x, x.transpose(2, 0, 1), x[:, ::2], x[:0]):
        assert erf(one).dtype == np.float32
        np.testing.assert_array_equal(erf(one).ravel(), erf(one.ravel()))
        assert erf(one).shape == one.shape


@pytest.mark.parametrize(
    ("picked", "wanted"),
    [
        ([0, 3, 4], [0, 1, 2, 3]),  # the first of each sequence
        ([0, 1, 2, 3, 4, 5, 6], [0, 3, 4, 7]),  # all
        ([1, 2, 5, 6], [0, 2, 2, 4]),  # some, and none of the second
        ([], [0, 0, 0, 0]),
    ],
)
def test_picked_offsets(picked: list[int], wanted: list[int]) -> None:
    offsets = np.array([0, 3, 4, 7], np.int32)
    operator = OPERATORS["PickedOffsets"].reference
    found = operator(np.array(picked, np.int32), offsets)
    assert found.dtype == np.int32
    assert found.tolist() == wanted
    # Sequence by sequence, the picked rows between its entries are its own.
    for b in range(3):
        own = [row for row in picked if offsets[b] <= row < offsets[b + 1]]
        assert picked[found[b] : found[b + 1]] == own
