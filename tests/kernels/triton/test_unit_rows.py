"""Test UnitRows against PyTorch's normalize and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
unit_rows = KERNELS["UnitRows"]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 30), (5, 384), (2, 1000), (0, 64)])
def test_matches_normalize(
    rows: int, columns: int, dtype: torch.dtype, normal: Callable[..., torch.Tensor]
) -> None:
    x = normal(rows, columns, dtype=dtype)
    got = unit_rows(x)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.cpu(), F.normalize(x.double(), eps=1e-12).cpu(), atol=1e-6)
    if dtype != torch.bfloat16:
        expected = OPERATORS["UnitRows"].reference(x.cpu().numpy())
        np.testing.assert_allclose(got.cpu(), expected, atol=1e-6)


def test_zeros_stay_zeros_and_large_numbers_stay_finite(device: str) -> None:
    x = torch.zeros(2, 900, dtype=torch.float16, device=device)
    x[1] = 65504
    got = unit_rows(x)
    assert (got[0] == 0).all()
    np.testing.assert_allclose(got[1].cpu(), 1 / 30, rtol=1e-6)
