"""The candidate recipes of a linear layer, cheapest first, with their costs and errors."""

from dataclasses import dataclass

from bertrt.export.quantize.linears import QuantizableLinear
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.recipe import (
    Recipe,
    relative_error,
    round_linear,
)

__all__ = ["Candidate", "candidates"]

# Above 0.8 columns are so similar that the calibration texts fill each one's range, and values of
# other texts beyond it are clipped.
_SMOOTHINGS = (0.5, 0.6, 0.7, 0.8)
_OUTLIERS = (8, 16, 32, 64, 128, 256)
# Costs in int8 multiplications, measured on a processor with VNNI (see docs/decisions): a float32
# product takes as long as four int8 products; reading, changing and writing one float32 number as
# long as 64; and fetching one by a Gather as long as 4,000.
_FLOAT32 = 4.0
_ELEMENT = 64.0
_GATHERED = 4000.0


@dataclass(frozen=True)
class Candidate:
    """A recipe for a layer, its cost per token in int8 products, and its relative error."""

    recipe: Recipe
    cost: float
    error: float


def candidates(linear: QuantizableLinear, observed: Observed) -> list[Candidate]:
    """Return recipes for a layer in the order of their cost, each with a smaller error.

    The last is float32, whose error is 0. Of the smoothing exponents only the best is used.
    """
    weight = linear.weight
    inputs, outputs = weight.shape
    exact = observed.sample @ weight

    def candidate(recipe: Recipe) -> Candidate:
        cost = float(linear.products)
        if recipe.smoothing is not None:
            cost += _ELEMENT * inputs
        rounded = round_linear(weight, observed, recipe)
        if recipe.outliers:
            fetched = _ELEMENT if rounded.outliers_are_last else _GATHERED
            # A product of few columns takes as long as writing its output.
            cost += max(_FLOAT32 * recipe.outliers, _ELEMENT) * outputs
            cost += _ELEMENT * outputs + fetched * recipe.outliers
        return Candidate(recipe, cost, relative_error(rounded, observed.sample, exact))

    smoothed = min(
        (candidate(Recipe(smoothing=exponent)) for exponent in _SMOOTHINGS),
        key=lambda entry: entry.error,
    )
    found = [candidate(Recipe()), smoothed]
    for count in (count for count in _OUTLIERS if 4 * count <= inputs):
        found.append(candidate(Recipe(outliers=count)))
        found.append(candidate(Recipe(smoothing=smoothed.recipe.smoothing, outliers=count)))
    found.append(Candidate(Recipe("float32"), _FLOAT32 * linear.products, 0.0))
    kept: list[Candidate] = []
    for entry in sorted(found, key=lambda entry: (entry.cost, entry.error)):
        if not kept or entry.error < kept[-1].error:
            kept.append(entry)
    return kept
