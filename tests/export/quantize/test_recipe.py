"""A linear layer in int8: its tensors against numpy, and the gain by smoothing and outliers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.recipe import (
    Recipe,
    multiply,
    quantize_linear,
    relative_error,
    round_linear,
)

WEIGHT = np.random.default_rng(1).standard_normal((24, 10)).astype(np.float32)

recipes = pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(smoothing=0.5), Recipe(outliers=3), Recipe("int8", 0.6, 2)]
)


def error_of(seen: Any, recipe: Recipe) -> float:
    linear = round_linear(WEIGHT, seen, recipe)
    return relative_error(linear, seen.sample, seen.sample @ WEIGHT)


@recipes
@pytest.mark.parametrize("make", [round_linear, quantize_linear])
def test_tensors(observed: Any, recipe: Recipe, make: Any) -> None:
    seen = observed()
    linear = make(WEIGHT, seen, recipe)
    divisor = 1.0 if linear.divisor is None else linear.divisor
    weight = WEIGHT * np.reshape(divisor, (-1, 1)) if recipe.smoothing else WEIGHT
    kept = np.setdiff1d(np.arange(24), linear.outliers)
    assert linear.weight.dtype == np.int8
    assert linear.weight.min() >= -127  # -128 would make the scales asymmetric
    assert not linear.weight[linear.outliers].any()
    if make is round_linear:  # in quantize_linear weights compensate for each other
        np.testing.assert_array_equal(linear.outlier_weight, weight[linear.outliers])
        restored = linear.weight[kept] * linear.weight_scale
        assert (np.abs(restored - weight[kept]) <= linear.weight_scale * 0.501).all()
    # 0 is exactly a step, and the steps cover every observed input.
    low, high = (seen.low / divisor)[kept].min(), (seen.high / divisor)[kept].max()
    zero = float(linear.zero)
    assert (0 - zero) * linear.scale <= low + linear.scale
    assert (255 - zero) * linear.scale >= high - linear.scale


@recipes
@pytest.mark.parametrize("rows", [24, 23])
@pytest.mark.parametrize("shape", ["normal", "positive", "heavy"])
@pytest.mark.parametrize("make", [round_linear, quantize_linear])
def test_products_of_adjacent_rows_fit_into_16_bits(
    observed: Any, recipe: Recipe, rows: int, shape: str, make: Any
) -> None:
    """This holds for any inputs: 0 and 255 give the largest and the smallest sum of a pair."""
    weight = np.random.default_rng(3).standard_normal((rows, 400)).astype(np.float32)
    weight = {"normal": weight, "positive": abs(weight), "heavy": weight**5}[shape]
    seen = observed(columns=rows)
    pairs = np.zeros((-(-rows // 2) * 2, 400), np.int64)
    pairs[:rows] = make(weight, seen, recipe).weight
    highest, lowest = (
        255 * part.reshape(-1, 2, 400).sum(axis=1)
        for part in (pairs.clip(min=0), pairs.clip(max=0))
    )
    assert highest.max() <= 32_767
    assert lowest.min() >= -32_768
    if make is round_linear:  # the scales of both are the same
        # The range is used: each column has a pair with the largest sum allowed.
        assert np.maximum(highest, -lowest).max(axis=0).min() >= 255 * 126


@recipes
def test_close_to_the_float32_product(observed: Any, recipe: Recipe) -> None:
    seen = observed()
    exact = seen.sample.astype(np.float64) @ WEIGHT
    linear = quantize_linear(WEIGHT, seen, recipe)
    answer = multiply(linear, seen.sample)
    # The bias corrects the mean error.
    np.testing.assert_allclose((answer - exact).mean(axis=0), 0, atol=1e-4)
    error = np.square(answer - exact).sum() / np.square(exact).sum()
    assert error == pytest.approx(
        relative_error(linear, seen.sample, seen.sample @ WEIGHT), rel=1e-3
    )
    # No worse than with each weight rounded independently, on the observed inputs.
    assert error <= error_of(seen, recipe)
    assert error < 2e-3


@recipes
def test_weights_compensate_for_each_other_if_inputs_are_correlated(recipe: Recipe) -> None:
    """Compare the error of the weights, without that of the inputs' steps."""
    random = np.random.default_rng(4)
    mixing = random.standard_normal((4, 24)) * np.geomspace(0.1, 10, 24)
    rows = (random.standard_normal((300, 4)) @ mixing).astype(np.float32)
    seen = Observed.of(rows)
    linear, plain = quantize_linear(WEIGHT, seen, recipe), round_linear(WEIGHT, seen, recipe)
    errors = []
    for layer in (linear, plain, replace(linear, outlier_weight=plain.outlier_weight)):
        divisor = 1.0 if layer.divisor is None else layer.divisor
        restored = layer.weight * layer.weight_scale
        restored[layer.outliers] = layer.outlier_weight
        errors.append(np.square((rows / divisor) @ restored - rows @ WEIGHT).sum())
    assert errors[0] < errors[1] / 4
    if recipe.outliers:  # float32 columns compensate for the others too
        assert errors[0] < errors[2] / 4


def test_outliers_are_the_widest_columns(observed: Any) -> None:
    linear = quantize_linear(WEIGHT, observed(wide=2), Recipe(outliers=2))
    np.testing.assert_array_equal(linear.outliers, [0, 1])


def test_smoothing_and_outliers_help_with_uneven_columns(observed: Any) -> None:
    seen = observed(wide=2)
    narrow = replace(seen, sample=seen.sample * (np.arange(24) >= 2))
    plain = error_of(narrow, Recipe())
    assert error_of(narrow, Recipe(smoothing=0.5)) < plain / 4
    assert error_of(narrow, Recipe(outliers=2)) < plain / 4


def test_a_layer_that_read_only_zeros() -> None:
    seen = Observed.of(np.zeros((5, 24), np.float32))
    for recipe in (Recipe(), Recipe(smoothing=0.5, outliers=2)):
        linear = quantize_linear(WEIGHT, seen, recipe)
        answer = multiply(linear, np.zeros((2, 24), np.float32))
        np.testing.assert_array_equal(answer, np.zeros((2, 10), np.float32))
