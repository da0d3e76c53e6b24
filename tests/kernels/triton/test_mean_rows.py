"""Test MeanRows against PyTorch's mean of each sequence and against its reference."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
mean_rows = KERNELS["MeanRows"]
# Empty sequences at the start, in the middle and at the end, and one longer than a step.
OFFSETS = [0, 0, 3, 3, 4, 75, 75]


@pytest.mark.parametrize("columns", [1, 30, 384, 1000])
def test_matches_the_mean_of_each_sequence(
    columns: int, dtype: torch.dtype, normal: Make, device: str
) -> None:
    # The buffer has rows after the last token.
    x = normal(OFFSETS[-1] + 3, columns, dtype=dtype)
    x[OFFSETS[-1] :] = torch.nan
    offsets = torch.tensor(OFFSETS, dtype=torch.int32, device=device)
    got = mean_rows(x, offsets)
    assert got.dtype == torch.float32
    for row, (begin, end) in zip(got, pairwise(OFFSETS), strict=True):
        expected = x[begin:end].double().mean(0) if end > begin else torch.zeros_like(row).double()
        np.testing.assert_allclose(row.cpu(), expected.cpu(), atol=1e-5)
    if dtype != torch.bfloat16:
        expected = OPERATORS["MeanRows"].reference(x.cpu().numpy(), offsets.cpu().numpy())
        np.testing.assert_allclose(got.cpu(), expected, atol=1e-5)


def test_large_numbers_stay_finite(device: str) -> None:
    x = torch.full((500, 30), 65504.0, dtype=torch.float16, device=device)
    offsets = torch.tensor([0, 500], dtype=torch.int32, device=device)
    assert (mean_rows(x, offsets) == 65504).all()


def test_no_tokens(normal: Make, device: str) -> None:
    x = normal(0, 30, dtype=torch.float16)
    for sequences in (0, 2):
        offsets = torch.zeros(sequences + 1, dtype=torch.int32, device=device)
        assert torch.equal(mean_rows(x, offsets).cpu(), torch.zeros(sequences, 30))
