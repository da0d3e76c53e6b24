"""Test the polynomial GELU of half precision: where it comes from, and how near it is to erf."""

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev

from bertrt.kernels.launch.configs import LinearLaunch, LinearTiles
from bertrt.kernels.triton import KERNELS
from bertrt.kernels.triton.activations import GELU_END, GELU_POLYNOMIAL

linear = KERNELS["Linear"]
END, POLYNOMIAL = GELU_END.value, np.array(GELU_POLYNOMIAL.value)
LAUNCHES = ["torch", LinearTiles(16, 32, 16, 4, 2)]


def exact(x: np.ndarray) -> np.ndarray:
    """Compute gelu with erf, in float64."""
    numbers = torch.from_numpy(np.asarray(x, np.float64))
    return (numbers * 0.5 * torch.special.erfc(-numbers / 2**0.5)).numpy()


def approximate(x: np.ndarray) -> np.ndarray:
    """Compute what the kernel does, with numpy's float32, which fuses nothing."""
    one = np.float32(1)
    z = np.clip(x, -np.float32(END), np.float32(END))
    t = z * z * np.float32(2 / END**2) - one
    p = np.full_like(t, POLYNOMIAL[-1])
    for coefficient in POLYNOMIAL[-2::-1].astype(np.float32):
        p = p * t + coefficient
    return x * np.clip(one / 2 + z * p, 0, 1)


def least_error_polynomial() -> np.ndarray:
    """Fit by Lawson's iteration: least squares, weighted more and more where the error is large."""
    x = END * np.sin(np.linspace(0, 1, 600) * np.pi / 2)
    target = exact(x) / np.maximum(x, 1e-12) - 0.5
    target[0] = 0
    powers = chebyshev.chebvander(2 * (x / END) ** 2 - 1, len(POLYNOMIAL) - 1) * x[:, None]
    end = 1e3 * END * np.ones((1, len(POLYNOMIAL)))  # the values at t = 1
    weight = np.full(len(x), 1 / len(x))
    best, least = POLYNOMIAL, np.inf
    for _ in range(120):
        scale = np.sqrt(weight) * x
        rows = np.vstack([powers * scale[:, None], end])
        fitted = np.linalg.lstsq(rows, np.append(target * scale, 1e3 * (0.5 + 6e-7)))[0]
        error = np.abs((powers @ fitted - target) * x)
        if error.max() < least:
            best, least = chebyshev.cheb2poly(fitted), error.max()
        weight *= error / error.max() + 1e-4
        weight /= weight.sum()
    return best


def test_the_polynomial_is_the_one_of_least_error() -> None:
    x = np.linspace(-END, END, 10_001)
    t = 2 * (x / END) ** 2 - 1

    def error(polynomial: np.ndarray) -> float:
        phi = 0.5 + x * np.polynomial.polynomial.polyval(t, polynomial)
        return float(np.abs(x * phi - exact(x)).max())

    assert error(POLYNOMIAL) <= 1.02 * error(least_error_polynomial())


def test_the_error_in_float32() -> None:
    x = np.linspace(-10, 10, 400_001, dtype=np.float32)
    got = approximate(x)
    assert got.dtype == np.float32
    assert np.abs(got - exact(x)).max() <= 2.6e-5


def test_it_is_exact_where_gelu_is_flat() -> None:
    x = np.float32([END, 5, 100, 1e4, 65504, 1e30])
    np.testing.assert_array_equal(approximate(x), x)
    assert not approximate(-x).any()


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0, 4.0])
def test_the_error_is_a_third_of_a_rounding_at_most(spread: float) -> None:
    x = np.random.default_rng(7).normal(0, spread, 200_000).astype(np.float32)
    rounding = exact(x).astype(np.float16) - exact(x)
    error = approximate(x) - exact(x)
    assert np.sqrt(np.mean(error**2)) <= np.sqrt(np.mean(rounding**2)) / 3


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_every_float16_number(launch: LinearLaunch, device: str) -> None:
    """The kernel's result is the exact one, off by the polynomial's error and one rounding."""
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    x = x[np.abs(x) < 65504]  # whose next number numpy cannot take
    if launch != "torch":
        x = x[::5].copy()
    one = torch.ones(1, 1, dtype=torch.float16, device=device)
    got = linear(torch.from_numpy(x)[:, None].to(device), one, activation="gelu", launch=launch)
    got = got[:, 0].cpu().numpy()
    expected = exact(x)
    half_step = np.spacing(np.abs(expected).astype(np.float16)).astype(np.float64) / 2
    assert (np.abs(got - expected) <= half_step * 1.001 + 2.7e-5).all()
    np.testing.assert_array_equal(got[x >= 5], x[x >= 5])
    assert not got[x <= -5].any()


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_no_number_stays_none(launch: LinearLaunch, dtype: torch.dtype, device: str) -> None:
    x = torch.tensor([[float("nan")], [1.0]], dtype=dtype, device=device)
    one = torch.ones(1, 1, dtype=dtype, device=device)
    got = linear(x, one, activation="gelu", launch=launch)
    assert got.isnan().flatten().tolist() == [True, False]


def test_float32_keeps_erf(device: str) -> None:
    x = torch.linspace(-6, 6, 1001, device=device)[:, None]
    got = linear(x, torch.ones(1, 1, device=device), activation="gelu", launch=LAUNCHES[1])
    error = np.abs(got[:, 0].cpu().numpy() - exact(x[:, 0].cpu().numpy()))
    assert error.max() <= 1e-6
