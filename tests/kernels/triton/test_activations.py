"""Test the activations of Linear, after Triton's product and after cuBLAS's, against PyTorch."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.launch.configs import LinearLaunch, LinearTiles
from bertrt.kernels.ops.activations import ACTIVATIONS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
linear = KERNELS["Linear"]
LAUNCHES = ["torch", LinearTiles(16, 32, 16, 4, 2)]
Activations = dict[str, Callable[[torch.Tensor], torch.Tensor]]


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_matches_pytorch(
    activation: str,
    launch: LinearLaunch,
    dtype: torch.dtype,
    normal: Callable[..., torch.Tensor],
    near: Callable[..., None],
    torch_activations: Activations,
) -> None:
    activate = torch_activations[activation]
    x, weight, bias = (normal(*size, dtype=dtype) for size in ((40, 20), (20, 30), (30,)))
    got = linear(x, weight, bias, activation=activation, launch=launch)
    exact = activate(F.linear(x.double(), weight.T.double(), bias.double()))
    near(got, exact, activate(F.linear(x, weight.T, bias)))


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_small_and_large_numbers(
    activation: str, launch: LinearLaunch, device: str, torch_activations: Activations
) -> None:
    # A product with 1, from the smallest numbers to where every activation is flat.
    values = torch.logspace(-7, 4, 200)
    x = torch.cat([-values, torch.zeros(1), values])[:, None].to(device)
    got = linear(x, torch.ones(1, 1, device=device), activation=activation, launch=launch)[:, 0]
    exact = torch_activations[activation](x.double())[:, 0]
    # Relative to x where the activation is near x, so that no digits may be lost near zero.
    scale = exact.abs().clamp(min=1e-7) + 0.1 * x[:, 0].abs().double().clamp(max=1)
    assert ((got.double() - exact).abs() <= 3e-6 * scale).all()


def test_all_activations_are_tested(torch_activations: Activations) -> None:
    assert set(torch_activations) == set(ACTIVATIONS)
