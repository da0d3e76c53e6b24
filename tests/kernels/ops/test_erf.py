"""Test erf against the standard library."""

import math

import numpy as np

from bertrt.kernels.ops.erf import erf


def test_values_are_those_of_math_erf() -> None:
    random = np.random.default_rng(0)
    edges = [0.0, -0.0, 1e-30, -1e-30, 5.999, 6.0, 6.001, 1e30, math.inf, -math.inf]
    x = np.concatenate([random.normal(0, 2, 20_000), np.linspace(-7, 7, 20_001), edges])
    x = x.astype(np.float32)
    expected = np.array([math.erf(number) for number in x], np.float32)
    np.testing.assert_array_equal(erf(x), expected)
    assert np.signbit(erf(np.float32([-0.0, -1.0]))).all()
    assert np.isnan(erf(np.float32([math.nan]))).all()


def test_shapes_are_kept() -> None:
    x = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
    for array in (x, x.transpose(2, 0, 1), x[:, ::2], x[:0]):
        assert erf(array).dtype == np.float32
        np.testing.assert_array_equal(erf(array).ravel(), erf(array.ravel()))
        assert erf(array).shape == array.shape
