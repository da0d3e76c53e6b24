"""Test each launch of Linear against PyTorch's linear and against its reference."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.launch import measured_table
from bertrt.kernels.launch.configs import LinearLaunch, LinearTiles
from bertrt.kernels.ops.activations import ACTIVATIONS
from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS, choose_splits, takes_residual

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
Near = Callable[..., None]
linear = KERNELS["Linear"]

# test_compile.py compiles these, because the interpreter takes tiles of any size.
LAUNCHES = ["torch", LinearTiles(16, 32, 16, 4, 2), LinearTiles(64, 16, 32, 4, 1)]
SPLIT = LinearTiles(32, 32, 32, 4, 2)
# T, K, N: smaller than a block, whole blocks, several blocks and a part of one, and odd sizes.
# The last two are projections of small embeddings.
SHAPES = [(1, 30, 2), (64, 32, 32), (70, 96, 80), (33, 48, 30), (17, 16, 40), (9, 24, 72)]


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transposed", [0, 1])
def test_matches_the_linear_layer(
    shape: tuple[int, int, int],
    transposed: int,
    launch: LinearLaunch,
    dtype: torch.dtype,
    normal: Make,
    near: Near,
) -> None:
    rows, depth, columns = shape
    x, bias = normal(rows, depth, dtype=dtype), normal(columns, dtype=dtype)
    weight = normal(*((columns, depth) if transposed else (depth, columns)), dtype=dtype)
    matrix = weight if transposed else weight.T
    for addend in (bias, None):
        got = linear(x, weight, addend, transposed=transposed, launch=launch)
        assert got.dtype == dtype
        exact = F.linear(x.double(), matrix.double(), None if addend is None else addend.double())
        near(got, exact, F.linear(x, matrix, addend))


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_matches_the_reference(launch: LinearLaunch, normal: Make) -> None:
    x, weight, bias = (normal(*size, dtype=torch.float32) for size in ((9, 40), (24, 40), (24,)))
    for activation in ACTIVATIONS:
        settings = {"activation": activation, "transposed": 1}
        arrays = (tensor.cpu().numpy() for tensor in (x, weight, bias))
        expected = OPERATORS["Linear"].reference(*arrays, **settings)
        got = linear(x, weight, bias, **settings, launch=launch)
        np.testing.assert_allclose(got.cpu(), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("depth", [160, 100])
@pytest.mark.parametrize("splits", [1, 3, 8])
def test_partial_sums(
    splits: int, depth: int, dtype: torch.dtype, normal: Make, near: Near
) -> None:
    x, weight, bias = (normal(*s, dtype=dtype) for s in ((35, depth), (depth, 40), (40,)))
    tiles = dataclasses.replace(SPLIT, splits=splits)
    for addend in (bias, None):
        got = linear(x, weight, addend, partials=True, launch=tiles)
        assert got.dtype == torch.float32
        assert got.shape == (splits, 35, 40)
        exact = F.linear(x.double(), weight.T.double(), None if addend is None else addend.double())
        near(got.sum(0), exact, F.linear(x, weight.T, addend).float())
        assert torch.equal(got, linear(x, weight, addend, partials=True, launch=tiles))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_residual_is_overwritten_by_the_sum(
    shape: tuple[int, int, int], transposed: int, dtype: torch.dtype, normal: Make, near: Near
) -> None:
    rows, depth, columns = shape
    x, residual = normal(rows, depth, dtype=dtype), normal(rows, columns, dtype=dtype)
    weight = normal(*((columns, depth) if transposed else (depth, columns)), dtype=dtype)
    matrix = weight if transposed else weight.T
    exact = F.linear(x.double(), matrix.double()) + residual.double()
    eager = F.linear(x, matrix) + residual
    got = linear(x, weight, transposed=transposed, residual=residual)
    assert got is residual
    near(got, exact, eager)


def test_residuals_are_added_where_cublas_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (768, 768, torch.float16, torch.device("cpu"))
    assert takes_residual(257, *sizes)
    assert not takes_residual(256, *sizes)
    assert takes_residual(16, 768, 768, torch.float32, torch.device("cpu"))
    monkeypatch.setattr(measured_table, "choose_linear", lambda *_, **__: LAUNCHES[1])
    assert not takes_residual(257, *sizes)


def test_a_residual_refuses_what_cublas_cannot_add(normal: Make) -> None:
    x = normal(16, 16, dtype=torch.float32)
    for options in (
        {"bias": x[0]},
        {"activation": "gelu"},
        {"partials": True},
        {"launch": LAUNCHES[1]},
    ):
        before = x.clone()
        with pytest.raises(ValueError, match=r"to a product alone|before any activation"):
            linear(x, x, residual=before, **options)
        assert torch.equal(before, x)


def test_partial_sums_refuse_an_activation_and_cublas(normal: Make) -> None:
    x = normal(16, 16, dtype=torch.float32)
    with pytest.raises(ValueError, match="before any activation"):
        linear(x, x, activation="gelu", partials=True)
    with pytest.raises(ValueError, match="before any activation"):
        linear(x, x, partials=True, launch="torch")


def test_partial_sums_of_the_table(normal: Make) -> None:
    x, weight = normal(64, 768, dtype=torch.float16), normal(768, 64, dtype=torch.float16)
    parts = choose_splits(64, 768, 64, torch.float16, x.device)
    assert parts > 1
    assert linear(x, weight, partials=True).shape == (parts, 64, 64)


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_no_rows(launch: LinearLaunch, normal: Make) -> None:
    x, weight = normal(0, 32, dtype=torch.float16), normal(32, 30, dtype=torch.float16)
    assert linear(x, weight, activation="gelu", launch=launch).shape == (0, 30)
    if launch != "torch":
        assert linear(x, weight, partials=True, launch=launch).shape == (1, 0, 30)


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_rows_do_not_mix(launch: LinearLaunch, normal: Make) -> None:
    x, weight = normal(40, 32, dtype=torch.float32), normal(32, 30, dtype=torch.float32)
    clean = linear(x, weight, launch=launch)
    x[7] = torch.nan
    got = linear(x, weight, launch=launch)
    assert got[7].isnan().all()
    others = torch.arange(40) != 7
    assert torch.equal(got[others], clean[others])


@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_intermediate_sums_may_exceed_float16(launch: LinearLaunch, device: str) -> None:
    x = torch.full((20, 64), 60000.0, dtype=torch.float16, device=device)
    weight = torch.ones(64, 30, dtype=torch.float16, device=device)
    weight[32:] = -1
    bias = torch.full((30,), 5.0, dtype=torch.float16, device=device)
    assert (linear(x, weight, bias, launch=launch) == 5).all()
    if launch != "torch":
        assert (linear(x, weight, bias, launch=launch, partials=True).sum(0) == 5).all()


def test_the_table_chooses_the_launch(monkeypatch: pytest.MonkeyPatch, normal: Make) -> None:
    calls = []

    def choose(gpu: object, *sizes: int | bool) -> LinearLaunch:
        calls.append(sizes)
        return "torch"

    monkeypatch.setattr(measured_table, "choose_linear", choose)
    x, weight = normal(3, 32, dtype=torch.float16), normal(32, 30, dtype=torch.float16)
    linear(x, weight, activation="relu")
    linear(x, weight)
    assert calls == [(3, 32, 30, 2, True), (3, 32, 30, 2, False)]


def get_settings() -> list[bool]:
    settings = torch.backends.cuda.matmul
    return [
        settings.allow_fp16_reduced_precision_reduction,
        settings.allow_bf16_reduced_precision_reduction,
    ]


@pytest.fixture
def set_settings() -> Iterator[Callable[[bool], None]]:
    """Set both of PyTorch's settings that `get_settings` returns; they are restored afterwards."""
    settings = torch.backends.cuda.matmul

    def set_both(allowed_fp16: bool, allowed_bf16: bool) -> None:
        settings.allow_fp16_reduced_precision_reduction = allowed_fp16
        settings.allow_bf16_reduced_precision_reduction = allowed_bf16

    before = get_settings()
    yield lambda allowed: set_both(allowed, allowed)
    set_both(*before)


@pytest.mark.parametrize("allowed", [True, False])
def test_sums_are_in_float32_in_every_thread(
    allowed: bool,
    set_settings: Callable[[bool], None],
    normal: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's settings are the process's: threads must not restore each other's."""
    set_settings(allowed)
    x = normal(16, 16, dtype=torch.float16)
    mm, seen = torch.mm, []
    seconds = itertools.cycle([0.001, 0.01])  # so that one thread restores while another computes

    def slow_mm(*arguments: torch.Tensor) -> torch.Tensor:
        seen.extend(get_settings())
        time.sleep(next(seconds))
        seen.extend(get_settings())
        return mm(*arguments)

    monkeypatch.setattr(torch, "mm", slow_mm)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: linear(x, x, launch="torch"), range(8)))
    assert seen == [False] * 32
    assert get_settings() == [allowed] * 2


def test_settings_are_restored_after_an_error(normal: Make) -> None:
    before = get_settings()
    x, y = normal(16, 16, dtype=torch.float16), normal(8, 16, dtype=torch.float16)
    with pytest.raises(RuntimeError):
        linear(x, y, launch="torch")
    assert get_settings() == before
