"""The ways to compute one linear layer, cheapest first, with their costs and errors."""

from dataclasses import dataclass

from bertrt.export.quantize.linears import Linear
from bertrt.export.quantize.observe import Observed
from bertrt.export.quantize.recipe import (
    Recipe,
    relative_error,
    round_linear,
)

__all__ = ["Rung", "ladder"]

# Above 0.8 columns are so much alike that the calibration texts fill each one's range, and what
# other texts hold beyond it is cut off.
_SMOOTHINGS = (0.5, 0.6, 0.7, 0.8)
_OUTLIERS = (8, 16, 32, 64, 128, 256)
# Costs in int8 multiplications, on a processor with VNNI, where these ratios were measured
# (docs/decisions.md): a float32 product takes the time of four int8 ones; reading, changing and
# writing one float32 number that of 64; and fetching one by a Gather that of 4,000.
_FLOAT32 = 4.0
_ELEMENT = 64.0
_GATHERED = 4000.0


@dataclass(frozen=True)
class Rung:
    """One recipe for one layer: its cost a token in int8 products, and its relative error."""

    recipe: Recipe
    cost: float
    error: float


def ladder(linear: Linear, observed: Observed) -> list[Rung]:
    """Recipes for a layer in the order of their cost, each more exact than those before it.

    The last is float32, whose error is 0. Of the smoothing exponents only the best is kept.
    """
    weight = linear.weight
    inputs, outputs = weight.shape
    exact = observed.sample @ weight

    def rung(recipe: Recipe) -> Rung:
        cost = float(linear.products)
        if recipe.smoothing is not None:
            cost += _ELEMENT * inputs
        rounded = round_linear(weight, observed, recipe)
        if recipe.outliers:
            fetched = _ELEMENT if rounded.outliers_are_last else _GATHERED
            # A product of few columns takes as long as its output takes to be written.
            cost += max(_FLOAT32 * recipe.outliers, _ELEMENT) * outputs
            cost += _ELEMENT * outputs + fetched * recipe.outliers
        return Rung(recipe, cost, relative_error(rounded, observed.sample, exact))

    smoothing = min((rung(Recipe(smoothing=one)) for one in _SMOOTHINGS), key=lambda r: r.error)
    rungs = [rung(Recipe()), smoothing]
    for count in (count for count in _OUTLIERS if 4 * count <= inputs):
        rungs.append(rung(Recipe(outliers=count)))
        rungs.append(rung(Recipe(smoothing=smoothing.recipe.smoothing, outliers=count)))
    rungs.append(Rung(Recipe("float32"), _FLOAT32 * linear.products, 0.0))
    kept: list[Rung] = []
    for one in sorted(rungs, key=lambda r: (r.cost, r.error)):
        if not kept or one.error < kept[-1].error:
            kept.append(one)
    return kept
