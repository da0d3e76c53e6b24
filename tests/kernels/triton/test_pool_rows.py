"""Test PoolRows against PyTorch's pooling of each sequence and against its reference."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from bertrt.kernels.ops.pool_rows import POOLINGS
from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
pool_rows = KERNELS["PoolRows"]
# Empty sequences at the start, in the middle and at the end, and one longer than a step.
OFFSETS = [0, 0, 3, 3, 4, 75, 75]


def pool(rows: torch.Tensor, name: str) -> torch.Tensor:
    """Pool rows [n, F] of float64 as sentence-transformers does; zeros without rows."""
    count = len(rows)
    if not count:
        return rows.sum(0)
    weights = torch.arange(1, count + 1, device=rows.device).unsqueeze(1)
    return {
        "cls": rows[0],
        "lasttoken": rows[-1],
        "max": rows.amax(0),
        "mean": rows.mean(0),
        "mean_sqrt_len_tokens": rows.sum(0) / count**0.5,
        "weightedmean": (rows * weights).sum(0) / weights.sum(),
    }[name]


@pytest.mark.parametrize("poolings", [*POOLINGS, "mean cls", " ".join(POOLINGS)])
@pytest.mark.parametrize("columns", [1, 30, 1000])
def test_matches_the_pooling_of_each_sequence(
    poolings: str, columns: int, dtype: torch.dtype, normal: Make, device: str
) -> None:
    # The buffer has rows after the last token.
    x = normal(OFFSETS[-1] + 3, columns, dtype=dtype)
    x[OFFSETS[-1] :] = torch.nan
    offsets = torch.tensor(OFFSETS, dtype=torch.int32, device=device)
    got = pool_rows(x, offsets, poolings=poolings)
    assert got.dtype == torch.float32
    for row, (begin, end) in zip(got, pairwise(OFFSETS), strict=True):
        parts = [pool(x[begin:end].double(), name) for name in poolings.split()]
        np.testing.assert_allclose(row.cpu(), torch.cat(parts).cpu(), atol=1e-5)
    if dtype != torch.bfloat16:
        arrays = x.cpu().numpy(), offsets.cpu().numpy()
        expected = OPERATORS["PoolRows"].reference(*arrays, poolings=poolings)
        np.testing.assert_allclose(got.cpu(), expected, atol=1e-5)


@pytest.mark.parametrize("poolings", ["mean", "weightedmean", "max", "cls", "lasttoken"])
def test_large_numbers_stay_finite(poolings: str, device: str) -> None:
    x = torch.full((500, 30), 65504.0, dtype=torch.float16, device=device)
    offsets = torch.tensor([0, 500], dtype=torch.int32, device=device)
    got = pool_rows(x, offsets, poolings=poolings)
    np.testing.assert_allclose(got.cpu(), 65504, rtol=1e-6)


def test_no_tokens(normal: Make, device: str) -> None:
    x = normal(0, 30, dtype=torch.float16)
    for sequences in (0, 2):
        offsets = torch.zeros(sequences + 1, dtype=torch.int32, device=device)
        got = pool_rows(x, offsets, poolings="max mean lasttoken")
        assert torch.equal(got.cpu(), torch.zeros(sequences, 90))
