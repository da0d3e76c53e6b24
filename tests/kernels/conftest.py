"""For the kernels: buffers that show stray reads and writes, and the tolerance of an answer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

Near = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


@pytest.fixture(
    params=[
        torch.float32,
        torch.float16,
        # The interpreter's products of bfloat16 are wrong.
        pytest.param(torch.bfloat16, marks=pytest.mark.gpu),
    ],
    ids=lambda dtype: str(dtype)[6:],
)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Each type that activations and weights may have."""
    return request.param


@pytest.fixture
def normal(device: str) -> Callable[..., torch.Tensor]:
    """A factory of tensors of normal numbers, the same ones in each run.

    A tensor lies amid NaN: who reads before or after it does not stay unnoticed.
    """
    generator = torch.Generator().manual_seed(11)

    def make(*shape: int, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
        values = torch.randn(shape, generator=generator) * scale
        margin = 1024
        buffer = torch.full((values.numel() + 2 * margin,), torch.nan, dtype=dtype, device=device)
        buffer[margin : margin + values.numel()] = values.to(dtype).flatten()
        return buffer[margin : margin + values.numel()].view(shape)

    return make


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel allocates is full of NaN, so that what it leaves out shows."""
    empty = torch.Tensor.new_empty

    def full_of_nan(self: torch.Tensor, *shape: Any, **options: Any) -> torch.Tensor:
        made = empty(self, *shape, **options)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", full_of_nan)


@pytest.fixture(scope="session")
def near() -> Near:
    """A check: `got` is near `exact`, of float64, for its type; `eager` is PyTorch's answer.

    float32 keeps 24 bits, and sums of a few hundred terms lose some of them: 1e-5 of the largest
    number is a hundred roundings. In half precision the error may be twice eager PyTorch's,
    root mean square, since eager rounds no more often.
    """

    def check(got: torch.Tensor, exact: torch.Tensor, eager: torch.Tensor) -> None:
        assert exact.dtype == torch.float64
        assert got.shape == exact.shape
        assert not got.isnan().any()
        error = (got.double() - exact).abs()
        if exact.numel() == 0:
            return
        if eager.dtype == torch.float32:
            assert error.max() <= 1e-5 * exact.abs().max()
        else:
            theirs = (eager.double() - exact).square().mean().sqrt()
            assert error.square().mean().sqrt() <= 2 * theirs

    return check
