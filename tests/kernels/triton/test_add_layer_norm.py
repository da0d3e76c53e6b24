"""Test AddLayerNorm against PyTorch's layer_norm and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
add_layer_norm = KERNELS["AddLayerNorm"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 30), (5, 384), (3, 768), (2, 1000), (0, 64)])
@pytest.mark.parametrize("omitted", ["", "bias", "residual", "both"])
def test_matches_layer_norm_of_the_sum(
    rows: int,
    columns: int,
    omitted: str,
    dtype: torch.dtype,
    normal: Make,
    near: Callable[..., None],
) -> None:
    x = normal(rows, columns, dtype=dtype)
    gamma, beta = normal(columns, dtype=dtype), normal(columns, dtype=dtype)
    bias = None if omitted in ("bias", "both") else normal(columns, dtype=dtype)
    residual = None if omitted in ("residual", "both") else normal(rows, columns, dtype=dtype)

    def torch_layer_norm(cast: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        total = cast(x)
        for addend in (bias, residual):
            total = total if addend is None else total + cast(addend)
        return F.layer_norm(total, (columns,), cast(gamma), cast(beta), 1e-12)

    got = add_layer_norm(x, gamma, beta, bias, residual)
    assert got.dtype == dtype
    near(got, torch_layer_norm(torch.Tensor.double), torch_layer_norm(lambda x: x))


def test_matches_the_reference(normal: Make) -> None:
    x, residual = normal(3, 48, dtype=torch.float32), normal(3, 48, dtype=torch.float32)
    vectors = [normal(48, dtype=torch.float32) for _ in range(3)]
    expected = OPERATORS["AddLayerNorm"].reference(
        *(tensor.cpu().numpy() for tensor in (x, *vectors, residual)), epsilon=0.5
    )
    got = add_layer_norm(x, *vectors, residual, epsilon=0.5)
    np.testing.assert_allclose(got.cpu(), expected, atol=1e-5)


def test_partial_sums_are_added_and_rounded_once(normal: Make, dtype: torch.dtype) -> None:
    parts = normal(3, 5, 48, dtype=torch.float32)
    gamma, beta, bias = (normal(48, dtype=dtype) for _ in range(3))
    residual = normal(5, 48, dtype=dtype)
    got = add_layer_norm(parts, gamma, beta, bias, residual)
    assert got.dtype == dtype
    total = parts.double().sum(0) + bias.double() + residual.double()
    expected = F.layer_norm(total, (48,), gamma.double(), beta.double(), 1e-12)
    # One rounding of at most half a unit in the last place, after the errors of float32.
    step = torch.finfo(dtype).eps
    assert ((got.double() - expected).abs() <= 0.51 * step * expected.abs() + 1e-5).all()
    assert add_layer_norm(parts, gamma, beta).dtype == dtype


def test_large_numbers_stay_finite(normal: Make, near: Callable[..., None]) -> None:
    # The sum of two float16 numbers exceeds float16's range.
    x = normal(4, 768, dtype=torch.float16, scale=1.0).sign() * 65504
    gamma, beta = normal(768, dtype=torch.float16), normal(768, dtype=torch.float16)
    got = add_layer_norm(x, gamma, beta, None, x)
    expected = F.layer_norm(2 * x.double(), (768,), gamma.double(), beta.double(), 1e-12)
    near(got, expected, expected.half())


def test_a_large_mean_does_not_cancel(normal: Make) -> None:
    x = normal(4, 768, dtype=torch.float32, scale=0.01) + 100
    ones = torch.ones_like(x[0])
    expected = F.layer_norm(x.double(), (768,), eps=1e-12)
    # The mean is 1e4 times the spread, and so is the error relative to float32's precision.
    np.testing.assert_allclose(
        add_layer_norm(x, ones, 0 * ones).cpu(), expected.cpu(), atol=1e4 * 2**-24
    )


def test_rows_do_not_mix(normal: Make) -> None:
    x, gamma = normal(3, 30, dtype=torch.float32), normal(30, dtype=torch.float32)
    x[1] = torch.nan
    got = add_layer_norm(x, gamma, gamma)
    assert got[1].isnan().all()
    assert not got[[0, 2]].isnan().any()
    assert torch.equal(got[[0, 2]], add_layer_norm(x[[0, 2]], gamma, gamma))
