"""AddLayerNorm against PyTorch's layer_norm and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.ops import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
add_layer_norm = KERNELS["AddLayerNorm"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 30), (5, 384), (3, 768), (2, 1000), (0, 64)])
@pytest.mark.parametrize("left_out", ["", "bias", "residual", "both"])
def test_is_layer_norm_of_the_sum(
    rows: int,
    columns: int,
    left_out: str,
    dtype: torch.dtype,
    normal: Make,
    near: Callable[..., None],
) -> None:
    x = normal(rows, columns, dtype=dtype)
    gamma, beta = normal(columns, dtype=dtype), normal(columns, dtype=dtype)
    bias = None if left_out in ("bias", "both") else normal(columns, dtype=dtype)
    residual = None if left_out in ("residual", "both") else normal(rows, columns, dtype=dtype)

    def torchs(cast: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        total = cast(x)
        for addend in (bias, residual):
            total = total if addend is None else total + cast(addend)
        return F.layer_norm(total, (columns,), cast(gamma), cast(beta), 1e-12)

    got = add_layer_norm(x, gamma, beta, bias, residual)
    assert got.dtype == dtype
    near(got, torchs(torch.Tensor.double), torchs(lambda one: one))


def test_equals_its_reference(normal: Make) -> None:
    x, residual = normal(3, 48, dtype=torch.float32), normal(3, 48, dtype=torch.float32)
    vectors = [normal(48, dtype=torch.float32) for _ in range(3)]
    want = OPERATORS["AddLayerNorm"].reference(
        *(one.cpu().numpy() for one in (x, *vectors, residual)), epsilon=0.5
    )
    got = add_layer_norm(x, *vectors, residual, epsilon=0.5)
    np.testing.assert_allclose(got.cpu(), want, atol=1e-5)


def test_adds_partial_sums_and_rounds_once(normal: Make, dtype: torch.dtype) -> None:
    parts = normal(3, 5, 48, dtype=torch.float32)
    gamma, beta, bias = (normal(48, dtype=dtype) for _ in range(3))
    residual = normal(5, 48, dtype=dtype)
    got = add_layer_norm(parts, gamma, beta, bias, residual)
    assert got.dtype == dtype
    total = parts.double().sum(0) + bias.double() + residual.double()
    want = F.layer_norm(total, (48,), gamma.double(), beta.double(), 1e-12)
    # One rounding, of at most half a unit in the last place, and float32's before it.
    step = torch.finfo(dtype).eps
    assert ((got.double() - want).abs() <= 0.51 * step * want.abs() + 1e-5).all()
    assert add_layer_norm(parts, gamma, beta).dtype == dtype


def test_large_numbers_stay_finite(normal: Make, near: Callable[..., None]) -> None:
    # The sum of two float16 beyond float16's range.
    x = normal(4, 768, dtype=torch.float16, scale=1.0).sign() * 65504
    gamma, beta = normal(768, dtype=torch.float16), normal(768, dtype=torch.float16)
    got = add_layer_norm(x, gamma, beta, None, x)
    want = F.layer_norm(2 * x.double(), (768,), gamma.double(), beta.double(), 1e-12)
    near(got, want, want.half())


def test_a_large_mean_does_not_cancel(normal: Make) -> None:
    x = normal(4, 768, dtype=torch.float32, scale=0.01) + 100
    ones = torch.ones_like(x[0])
    want = F.layer_norm(x.double(), (768,), eps=1e-12)
    # A hundred times the number, a hundredth of the spread: 1e4 times float32's own error.
    np.testing.assert_allclose(
        add_layer_norm(x, ones, 0 * ones).cpu(), want.cpu(), atol=1e4 * 2**-24
    )


def test_rows_do_not_mix(normal: Make) -> None:
    x, gamma = normal(3, 30, dtype=torch.float32), normal(30, dtype=torch.float32)
    x[1] = torch.nan
    got = add_layer_norm(x, gamma, gamma)
    assert got[1].isnan().all()
    assert not got[[0, 2]].isnan().any()
    assert torch.equal(got[[0, 2]], add_layer_norm(x[[0, 2]], gamma, gamma))
