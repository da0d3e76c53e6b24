"""How one linear layer is computed in int8: its scales, its smoothing, its columns kept in float32.

Weights are int8, symmetric, with a scale for each output column, and small enough that no kernel
saturates. The input is uint8 with one scale and zero point for all tokens, fixed beforehand, so
that a text's answer does not depend on what stands beside it in a batch. Three things make that
accurate enough:

- smoothing (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438): each input column is divided by a
  factor and the weight's row multiplied by it, so that columns of unequal ranges share one scale;
- outlier columns (after LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339): the few columns
  with the widest range are multiplied in float32, and the scale has to cover the others only;
- weights make up for how others are rounded (`rounding.py`).

The mean error that is left over the calibration's tokens is taken off the bias.
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
    """What to do with one linear layer.

    `precision` is "int8" or "float32"; `smoothing` the exponent that shares the range between
    input (1) and weight (0), or None; `outliers` the number of columns left in float32.
    """

    precision: str = "int8"
    smoothing: float | None = None
    outliers: int = 0

    @property
    def label(self) -> str:
        """As it is written in the manifest: "float32", "int8", "int8+smoothing+8 outliers"."""
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

    `divisor` float32 [K] is what the input is divided by before, or None; `scale` and `zero` turn
    it into uint8; `weight` is int8 [K, N], with 0 in the outliers' rows, and `weight_scale`
    float32 [N]; `outliers` int64 [k] are the columns whose product with `outlier_weight`, float32
    [k, N], is added; `correction` float32 [N] is added to the bias.
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
        """Whether the outliers are the last columns, which lie side by side in memory."""
        columns, count = len(self.weight), len(self.outliers)
        return np.array_equal(self.outliers, np.arange(columns - count, columns))


def quantize_linear(weight: np.ndarray, observed: Observed, recipe: Recipe) -> Quantized:
    """Quantize a weight [K, N] for the inputs that were observed.

    Of its rows, the later ones make up for how the earlier ones are rounded, the outliers' last.
    """
    linear = round_linear(weight, observed, recipe)
    smoothed, read = weight, observed
    if linear.divisor is not None:
        smoothed, read = weight * linear.divisor[:, None], observed.divided(linear.divisor)
    steps = smoothed / linear.weight_scale
    rounded, exact = round_rows(steps, read.covariance, linear.outliers)
    outlier_weight = (exact * linear.weight_scale).astype(np.float32)
    linear = replace(linear, weight=rounded, outlier_weight=outlier_weight)
    error = multiply(linear, observed.sample) - observed.sample @ weight
    return replace(linear, correction=-error.mean(axis=0))


def round_linear(weight: np.ndarray, observed: Observed, recipe: Recipe) -> Quantized:
    """A linear layer with each weight rounded by itself, and its mean error still in it.

    Nearly what `quantize_linear` gives, and in no time: enough to compare recipes by.
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
    """The scales [N] of a weight [K, N] for which int8 products fit into 16 bits.

    Without VNNI, x86 processors add the products of two neighbouring rows in 16 bits, and cut the
    sum off (`vpmaddubsw`): 255 times the weights of one sign in such a pair has to stay below
    32,768. Those weights are 127 together before they are rounded, and 128 at most after.
    """
    padded = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    pairs = padded.reshape(-1, 2, weight.shape[1])
    highest = pairs.clip(min=0).sum(axis=1).max(axis=0)
    lowest = pairs.clip(max=0).sum(axis=1).min(axis=0)
    scale: np.ndarray = np.maximum(np.maximum(highest, -lowest) / 127, _TINY * _TINY)
    return scale.astype(np.float32)


def multiply(linear: Quantized, inputs: np.ndarray) -> np.ndarray:
    """What the int8 graph computes for inputs [R, K]: float32 [R, N], without the layer's bias."""
    if linear.divisor is not None:
        inputs = inputs * (1 / linear.divisor)
    zero = float(linear.zero)
    steps = np.clip(np.rint(inputs / linear.scale) + zero, 0, 255) - zero
    # float32 holds these sums of products to a part in a million, far below a quantization step.
    product = steps.astype(np.float32) @ linear.weight.astype(np.float32)
    answer = product * (linear.scale * linear.weight_scale)
    answer += inputs[:, linear.outliers] @ linear.outlier_weight
    result: np.ndarray = answer + linear.correction
    return result


def relative_error(linear: Quantized, sample: np.ndarray, exact: np.ndarray) -> float:
    """A linear layer's squared error over a sample, as a share of the output's square.

    `sample` float32 [R, K] are inputs, and `exact` [R, N] their product with the weight.
    """
    error = multiply(linear, sample) - exact
    error -= error.mean(axis=0)  # as the correction of the bias will
    return float(np.square(error, dtype=np.float64).sum() / np.square(exact).sum(dtype=np.float64))


def smoothing_divisor(weight: np.ndarray, observed: Observed, exponent: float) -> np.ndarray:
    """SmoothQuant's factor of each column: range of the input ** a / range of the weight ** 1-a."""
    inputs = np.maximum(observed.spread, _TINY)
    weights = np.maximum(np.abs(weight).max(axis=1), _TINY)
    divisor = inputs**exponent / weights ** (1 - exponent)
    result: np.ndarray = np.maximum(divisor / np.median(divisor), _TINY).astype(np.float32)
    return result


def _input_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """The scale and zero point that spread [low, high], 0 in it, over 0 to 255."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, _TINY * _TINY))
    return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))
