"""Linear, in each way to compute it, against PyTorch's linear and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.launch import measured_table
from bertrt.kernels.launch.configs import How, LinearTiles
from bertrt.kernels.ops import ACTIVATIONS, OPERATORS
from bertrt.kernels.triton import KERNELS, splits

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
Near = Callable[..., None]
linear = KERNELS["Linear"]

TORCHS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}
WAYS = ["torch", LinearTiles(16, 32, 16, 4, 2), LinearTiles(64, 16, 32, 4, 1)]
# T, K, N: less than a block, blocks in full, several blocks and a part of one, and odd ones.
SHAPES = [(1, 30, 2), (64, 32, 32), (70, 96, 80), (33, 48, 30)]


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transposed", [0, 1])
def test_is_the_linear_layer(
    shape: tuple[int, int, int],
    transposed: int,
    how: How,
    dtype: torch.dtype,
    normal: Make,
    near: Near,
) -> None:
    rows, depth, columns = shape
    x, bias = normal(rows, depth, dtype=dtype), normal(columns, dtype=dtype)
    weight = normal(*((columns, depth) if transposed else (depth, columns)), dtype=dtype)
    matrix = weight if transposed else weight.T
    for addend in (bias, None):
        got = linear(x, weight, addend, transposed=transposed, how=how)
        assert got.dtype == dtype
        exact = F.linear(x.double(), matrix.double(), None if addend is None else addend.double())
        near(got, exact, F.linear(x, matrix, addend))


@pytest.mark.parametrize("how", WAYS[:2], ids=str)
@pytest.mark.parametrize("activation", TORCHS)
def test_activations(
    activation: str, how: How, dtype: torch.dtype, normal: Make, near: Near
) -> None:
    torchs = TORCHS[activation]
    x, weight, bias = (normal(*size, dtype=dtype) for size in ((40, 20), (20, 30), (30,)))
    got = linear(x, weight, bias, activation=activation, how=how)
    exact = torchs(F.linear(x.double(), weight.T.double(), bias.double()))
    near(got, exact, torchs(F.linear(x, weight.T, bias)))


@pytest.mark.parametrize("how", WAYS[:2], ids=str)
@pytest.mark.parametrize("activation", TORCHS)
def test_activations_of_all_sizes(activation: str, how: How, device: str) -> None:
    # Through a product with one: from the smallest numbers to where every activation is flat.
    values = torch.logspace(-7, 4, 200)
    x = torch.cat([-values, torch.zeros(1), values])[:, None].to(device)
    got = linear(x, torch.ones(1, 1, device=device), activation=activation, how=how)[:, 0]
    exact = TORCHS[activation](x.double())[:, 0]
    # Relative to the number where the activation is near it: no digits are lost at zero.
    scale = exact.abs().clamp(min=1e-7) + 0.1 * x[:, 0].abs().double().clamp(max=1)
    assert ((got.double() - exact).abs() <= 3e-6 * scale).all()


def test_has_all_activations_of_the_dialect() -> None:
    assert set(TORCHS) == set(ACTIVATIONS)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_equals_its_reference(how: How, normal: Make) -> None:
    x, weight, bias = (normal(*size, dtype=torch.float32) for size in ((9, 40), (24, 40), (24,)))
    for activation in ACTIVATIONS:
        settings = {"activation": activation, "transposed": 1}
        arrays = (one.cpu().numpy() for one in (x, weight, bias))
        want = OPERATORS["Linear"].reference(*arrays, **settings)
        got = linear(x, weight, bias, **settings, how=how)
        np.testing.assert_allclose(got.cpu(), want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("depth", [160, 100])
@pytest.mark.parametrize("parts", [1, 3, 8])
def test_partial_sums(parts: int, depth: int, dtype: torch.dtype, normal: Make, near: Near) -> None:
    x, weight, bias = (normal(*s, dtype=dtype) for s in ((35, depth), (depth, 40), (40,)))
    tiles = LinearTiles(32, 32, 32, 4, 2, splits=parts)
    for addend in (bias, None):
        got = linear(x, weight, addend, partials=True, how=tiles)
        assert got.dtype == torch.float32
        assert got.shape == (parts, 35, 40)
        exact = F.linear(x.double(), weight.T.double(), None if addend is None else addend.double())
        near(got.sum(0), exact, F.linear(x, weight.T, addend).float())
        assert torch.equal(got, linear(x, weight, addend, partials=True, how=tiles))


def test_partial_sums_have_no_activation(normal: Make) -> None:
    x = normal(16, 16, dtype=torch.float32)
    with pytest.raises(ValueError, match="before any activation"):
        linear(x, x, activation="gelu", partials=True)
    with pytest.raises(ValueError, match="before any activation"):
        linear(x, x, partials=True, how="torch")


def test_partial_sums_by_the_table(normal: Make) -> None:
    x, weight = normal(64, 768, dtype=torch.float16), normal(768, 64, dtype=torch.float16)
    parts = splits(64, 768, 64, torch.float16, x.device)
    assert parts > 1
    assert linear(x, weight, partials=True).shape == (parts, 64, 64)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_no_rows(how: How, normal: Make) -> None:
    x, weight = normal(0, 32, dtype=torch.float16), normal(32, 30, dtype=torch.float16)
    assert linear(x, weight, activation="gelu", how=how).shape == (0, 30)
    if how != "torch":
        assert linear(x, weight, partials=True, how=how).shape == (1, 0, 30)


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_rows_do_not_mix(how: How, normal: Make) -> None:
    x, weight = normal(40, 32, dtype=torch.float32), normal(32, 30, dtype=torch.float32)
    clean = linear(x, weight, how=how)
    x[7] = torch.nan
    got = linear(x, weight, how=how)
    assert got[7].isnan().all()
    others = torch.arange(40) != 7
    assert torch.equal(got[others], clean[others])


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_sums_may_pass_through_numbers_beyond_float16(how: How, device: str) -> None:
    x = torch.full((20, 64), 60000.0, dtype=torch.float16, device=device)
    weight = torch.ones(64, 30, dtype=torch.float16, device=device)
    weight[32:] = -1
    bias = torch.full((30,), 5.0, dtype=torch.float16, device=device)
    assert (linear(x, weight, bias, how=how) == 5).all()
    if how != "torch":
        assert (linear(x, weight, bias, how=how, partials=True).sum(0) == 5).all()


def test_the_table_decides(monkeypatch: pytest.MonkeyPatch, normal: Make) -> None:
    asked = []

    def decide(gpu: object, *sizes: int | bool) -> How:
        asked.append(sizes)
        return "torch"

    monkeypatch.setattr(measured_table, "linear", decide)
    x, weight = normal(3, 32, dtype=torch.float16), normal(32, 30, dtype=torch.float16)
    linear(x, weight, activation="relu")
    linear(x, weight)
    assert asked == [(3, 32, 30, 2, True), (3, 32, 30, 2, False)]


def test_settings_of_pytorch_are_left_as_they_were(normal: Make) -> None:
    settings = torch.backends.cuda.matmul
    before = settings.allow_fp16_reduced_precision_reduction
    x = normal(16, 16, dtype=torch.float16)
    linear(x, x, how="torch")
    assert settings.allow_fp16_reduced_precision_reduction == before
