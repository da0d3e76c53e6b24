"""Fixtures for the kernels: buffers that expose stray reads and writes, and the tolerances."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

Near = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


@pytest.fixture(
    params=[
        torch.float32,
        torch.float16,
        # The interpreter multiplies matrices of bfloat16 incorrectly.
        pytest.param(torch.bfloat16, marks=pytest.mark.gpu),
    ],
    ids=lambda dtype: str(dtype)[6:],
)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Each dtype that activations and weights may have."""
    return request.param


@pytest.fixture
def normal(device: str) -> Callable[..., torch.Tensor]:
    """Make tensors of normally distributed numbers, the same in each run.

    The memory before and after a tensor is NaN, so that reading it does not go unnoticed.
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
    """Fill what a kernel's launcher allocates with NaN, so that unwritten elements show."""
    new_empty = torch.Tensor.new_empty

    def full_of_nan(self: torch.Tensor, *shape: Any, **options: Any) -> torch.Tensor:
        tensor = new_empty(self, *shape, **options)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch.Tensor, "new_empty", full_of_nan)


@pytest.fixture(scope="session")
def near() -> Near:
    """Check that `got` is near `exact` (float64), given `eager`, PyTorch's result in the dtype.

    float32 keeps 24 bits, of which sums of a few hundred terms lose some: 1e-5 of the largest
    number is a hundred roundings. In half precision the root mean square error may be twice eager
    PyTorch's, which rounds at least as often.
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
            eager_error = (eager.double() - exact).square().mean().sqrt()
            assert error.square().mean().sqrt() <= 2 * eager_error

    return check


@pytest.fixture(scope="session")
def torch_activations() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """PyTorch's activations by the names of `bertrt.kernels.ops.activations`."""
    return {
        "": lambda x: x,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "relu": F.relu,
        "silu": F.silu,
        "tanh": torch.tanh,
    }
