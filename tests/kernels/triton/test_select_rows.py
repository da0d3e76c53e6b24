"""Test SelectRows against PyTorch's index_select and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
select_rows = KERNELS["SelectRows"]


@pytest.mark.parametrize("columns", [1, 30, 768, 3000])
def test_rows_come_in_the_order_of_the_indices(
    columns: int, dtype: torch.dtype, normal: Make, device: str
) -> None:
    x = normal(5, columns, dtype=dtype)
    picked = torch.tensor([4, 0, 0, 2], dtype=torch.int32, device=device)
    got = select_rows(x, picked)
    assert torch.equal(got, x.index_select(0, picked))
    if dtype != torch.bfloat16:
        expected = OPERATORS["SelectRows"].reference(x.cpu().numpy(), picked.cpu().numpy())
        np.testing.assert_array_equal(got.cpu(), expected)


def test_no_rows(normal: Make, device: str) -> None:
    none = torch.empty(0, dtype=torch.int32, device=device)
    assert select_rows(normal(5, 30, dtype=torch.float16), none).shape == (0, 30)
    assert select_rows(normal(0, 30, dtype=torch.float16), none).shape == (0, 30)


def test_other_rows_are_not_read(normal: Make, device: str) -> None:
    x = normal(3, 30, dtype=torch.float32)
    x[1] = torch.nan
    got = select_rows(x, torch.tensor([0, 2], dtype=torch.int32, device=device))
    assert not got.isnan().any()
