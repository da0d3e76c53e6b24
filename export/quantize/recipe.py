"""Quantize one linear layer by a recipe: int8 scales, smoothing, and columns kept in float32.

Weights are int8, symmetric, with a scale for each output column, and small enough that no kernel
saturates. The input is uint8 with one scale and zero point for all tokens, fixed in advance, so
that a text's answer does not depend on the other texts in its batch. Three techniques make that
accurate enough:

- smoothing (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438): each input column is divided by a
  factor and the weight's row multiplied by it, so that columns of unequal ranges share one scale;
- outlier columns (after LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339): the few columns
  with the widest range are multiplied in float32, and the scale covers only the others;
- weights compensate for the rounding of others (`rounding.py`).

The remaining mean error over the calibration tokens is subtracted from the bias.
"""

from dataclasses import dataclass, replace

import numpy as np

from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.rounding import round_rows

__all__ = [
    "Quantized",
    "Recipe",
    "quantize_linear",
    "relative_error",
    "round_linear",
    "smoothing_divisor",
]

_TINY = 1e-5


@dataclass(frozen=True)
class Recipe:
    """How to compute one linear layer.

    Attributes:
        precision: "int8" or "float32".
        smoothing: the exponent that divides the range between input (1) and weight (0), or None.
        outliers: the number of columns left in float32.
    """

    precision: str = "int8"
    smoothing: float | None = None
    outliers: int = 0

    @property
    def label(self) -> str:
        """The recipe in the manifest: "float32", "int8", "int8+smoothing+8 outliers"."""
        if self.precision != "int8":
            return self.precision
        parts = ["int8"]
        if self.smoothing is not None:
            parts.append("smoothing")
        if self.outliers:
            parts.append(f"{self.outliers} outliers")
        return "+".join(parts)


@dataclass(frozen=True)
class Quantized:
    """The tensors of one linear layer in int8.

    Attributes:
        divisor: float32 [K], divides the input before it is quantized; or None.
        scale, zero: the scale and zero point that make the input uint8.
        weight: int8 [K, N], with 0 in the outliers' rows.
        weight_scale: float32 [N].
        outliers: int64 [k], the columns that are multiplied in float32.
        outlier_weight: float32 [k, N]; the product of the outliers with it is added.
        correction: float32 [N], is added to the bias.
    """

    divisor: np.ndarray | None
    scale: np.float32
    zero: np.uint8
    weight: np.ndarray
    weight_scale: np.ndarray
    outliers: np.ndarray
    outlier_weight: np.ndarray
    correction: np.ndarray

    @property
    def outliers_are_last(self) -> bool:
        """Whether the outliers are the last columns, which are adjacent in memory."""
        columns, count = len(self.weight), len(self.outliers)
        return np.array_equal(self.outliers, np.arange(columns - count, columns))


def quantize_linear(weight: np.ndarray, observed: Observed, recipe: Recipe) -> Quantized:
    """Quantize a weight [K, N] for the observed inputs.

    Later rows compensate for the rounding of earlier ones; the outliers' rows come last.
    """
    linear = round_linear(weight, observed, recipe)
    smoothed, inputs = weight, observed
    if linear.divisor is not None:
        smoothed, inputs = weight * linear.divisor[:, None], observed.divided(linear.divisor)
    steps = smoothed / linear.weight_scale
    rounded, exact = round_rows(steps, inputs.covariance, linear.outliers)
    outlier_weight = (exact * linear.weight_scale).astype(np.float32)
    linear = replace(linear, weight=rounded, outlier_weight=outlier_weight)
    error = multiply(linear, observed.sample) - observed.sample @ weight
    return replace(linear, correction=-error.mean(axis=0))


def round_linear(weight: np.ndarray, observed: Observed, recipe: Recipe) -> Quantized:
    """Quantize a weight [K, N] with each number rounded independently, without a correction.

    This is fast, and close enough to `quantize_linear` to compare recipes.
    """
    divisor = None
    low, high = observed.low, observed.high
    if recipe.smoothing is not None:
        divisor = smoothing_divisor(weight, observed, recipe.smoothing)
        weight = weight * divisor[:, None]
        low, high = low / divisor, high / divisor
    spread = np.maximum(high, -low)
    widest = np.argsort(spread, kind="stable")[len(spread) - recipe.outliers :]
    outliers = np.sort(widest).astype(np.int64)
    kept = np.ones(len(spread), dtype=bool)
    kept[outliers] = False
    scale, zero = _input_scale(float(low[kept].min()), float(high[kept].max()))
    outlier_weight = np.ascontiguousarray(weight[outliers], dtype=np.float32)
    inner = np.where(kept[:, None], weight, 0)
    weight_scale = _weight_scale(inner)
    return Quantized(
        divisor=divisor,
        scale=scale,
        zero=zero,
        weight=np.rint(inner / weight_scale).astype(np.int8),
        weight_scale=weight_scale,
        outliers=outliers,
        outlier_weight=outlier_weight,
        correction=np.zeros(weight.shape[1], dtype=np.float32),
    )


def _weight_scale(weight: np.ndarray) -> np.ndarray:
    """Return the scales [N] of a weight [K, N] for which int8 products fit into 16 bits.

    Without VNNI, x86 processors add the products of two adjacent rows in 16 bits and saturate
    (`vpmaddubsw`): 255 times the weights of one sign in such a pair must stay below 32,768. These
    weights sum to 127 before they are rounded, and to at most 128 after.
    """
    padded = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    pairs = padded.reshape(-1, 2, weight.shape[1])
    highest = pairs.clip(min=0).sum(axis=1).max(axis=0)
    lowest = pairs.clip(max=0).sum(axis=1).min(axis=0)
    scale: np.ndarray = np.maximum(np.maximum(highest, -lowest) / 127, _TINY * _TINY)
    return scale.astype(np.float32)


def multiply(linear: Quantized, inputs: np.ndarray) -> np.ndarray:
    """Compute what the int8 graph does for inputs [R, K]: float32 [R, N], without the bias."""
    if linear.divisor is not None:
        inputs = inputs * (1 / linear.divisor)
    zero = float(linear.zero)
    steps = np.clip(np.rint(inputs / linear.scale) + zero, 0, 255) - zero
    # float32 holds these sums of products to one part in a million, far below a quantization step.
    product = steps.astype(np.float32) @ linear.weight.astype(np.float32)
    answer = product * (linear.scale * linear.weight_scale)
    answer += inputs[:, linear.outliers] @ linear.outlier_weight
    result: np.ndarray = answer + linear.correction
    return result


def relative_error(linear: Quantized, sample: np.ndarray, exact: np.ndarray) -> float:
    """Return a layer's squared error over a sample, divided by the output's square.

    Args:
        linear: the quantized layer.
        sample: inputs, float32 [R, K].
        exact: their product with the weight, [R, N].
    """
    error = multiply(linear, sample) - exact
    error -= error.mean(axis=0)  # the correction of the bias will do this
    return float(np.square(error, dtype=np.float64).sum() / np.square(exact).sum(dtype=np.float64))


def smoothing_divisor(weight: np.ndarray, observed: Observed, exponent: float) -> np.ndarray:
    """Return SmoothQuant's factors [K]: input range ** a / weight range ** (1 - a)."""
    inputs = np.maximum(observed.spread, _TINY)
    weights = np.maximum(np.abs(weight).max(axis=1), _TINY)
    divisor = inputs**exponent / weights ** (1 - exponent)
    result: np.ndarray = np.maximum(divisor / np.median(divisor), _TINY).astype(np.float32)
    return result


def _input_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Return the scale and zero point that map [low, high], extended to include 0, to 0…255."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, _TINY * _TINY))
    return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))
