"""Search the cheapest mixture of recipes whose answers stay within the bound.

Every layer starts with its cheapest recipe. If that is not accurate enough, each layer is tried
alone in int8, which shows its share of the answers' error. From then on, the layers whose next
recipe removes the most error per cost get it, in steps, until the answers meet the bound on texts
that calibration did not see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.export.quantize.accuracy import Accuracy
from bertrt.export.quantize.candidates import Candidate
from bertrt.export.quantize.recipe import Recipe
from bertrt.progress import ProgressCallback

__all__ = ["LEAST_INT8", "Bound", "Found", "Measure", "Plan", "Step", "search"]

# The recipe of each layer.
Plan = dict[str, Recipe]
# Runs the graph of a plan.
Measure = Callable[[Plan], Accuracy]
# The index of each layer's recipe among its candidates.
_Choice = Mapping[str, int]

# From one try to the next the predicted error is multiplied by a factor between these. If the last
# reduction was more than needed, it is halved up to this many times.
_CUTS = (0.15, 0.9)
_REFINEMENTS = 4
# A layer's share of the error is measured with a recipe that has at most this share of its cheapest
# recipe's error: most of the error of a bad recipe has other causes than that of a good one.
_GOOD = 0.5
# A mixture with a smaller share of its multiplications in int8 is not worth it.
LEAST_INT8 = 0.5


@dataclass(frozen=True)
class Bound:
    """The smallest cosine or the smallest agreement that the answers must have; the other is 0."""

    cosine: float = 0.0
    agreement: float = 0.0

    def met_by(self, accuracy: Accuracy) -> bool:
        """Whether answers of this accuracy are close enough."""
        return accuracy.cosine >= self.cosine and accuracy.agreement >= self.agreement

    def share(self, accuracy: Accuracy) -> float:
        """Return the allowed error divided by the error."""
        errors = [(1 - self.cosine, 1 - accuracy.cosine)] if self.cosine else []
        errors += [(1 - self.agreement, 1 - accuracy.agreement)] if self.agreement else []
        return min((allowed / error for allowed, error in errors if error > 0), default=1.0)


@dataclass(frozen=True)
class Step:
    """One mixture that was tried.

    Attributes:
        cost: its cost divided by float32's.
        int8: the share of its multiplications in int8.
        accuracy: the accuracy of its answers.
    """

    cost: float
    int8: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        plan: the plan that was chosen; if none meets the bound, the last that was tried.
        step: that plan's step.
        met: whether it meets the bound.
        steps: every mixture tried, in order.
    """

    plan: Plan
    step: Step
    met: bool
    steps: tuple[Step, ...]


class _Layers:
    """The candidates of each layer, and the costs and predicted errors of choices among them."""

    def __init__(
        self, candidates: Mapping[str, Sequence[Candidate]], products: Mapping[str, int]
    ) -> None:
        self._candidates = candidates
        self._products = products

    def plan(self, choice: _Choice) -> Plan:
        return {name: self._candidates[name][index].recipe for name, index in choice.items()}

    def cost(self, choice: _Choice) -> float:
        """Return the cost of a choice divided by float32's."""
        full = sum(entries[-1].cost for entries in self._candidates.values())
        return sum(self._candidates[name][index].cost for name, index in choice.items()) / full

    def int8(self, choice: _Choice) -> float:
        """Return the share of multiplications in int8."""
        in_int8 = sum(
            self._products[name]
            for name, index in choice.items()
            if self._candidates[name][index].recipe.precision == "int8"
        )
        return in_int8 / sum(self._products.values())

    def error(self, choice: _Choice, shares: Mapping[str, float]) -> float:
        """Predict the distance of the answers: the sum of the layers' own errors."""
        return sum(self._error_of(name, index, shares) for name, index in choice.items())

    def improved(
        self, choice: _Choice, shares: Mapping[str, float], target: float
    ) -> dict[str, int]:
        """Take better candidates, the best gain per cost first, until the error is `target`.

        One that leaves less than `LEAST_INT8` in int8 is not taken.
        """
        result = dict(choice)
        error = self.error(result, shares)
        while error > target:
            best = max(
                (
                    (self._gain(name, result[name], index, shares), name, index)
                    for name in result
                    for index in range(result[name] + 1, len(self._candidates[name]))
                    if self.int8({**result, name: index}) >= LEAST_INT8
                ),
                default=None,
            )
            if best is None:
                break
            _, name, index = best
            result[name] = index
            error = self.error(result, shares)
        return result

    def typical(self, name: str) -> int:
        """Return the first candidate that is much better than the cheapest: a likely choice."""
        entries = self._candidates[name]
        good = [i for i, entry in enumerate(entries) if entry.error <= _GOOD * entries[0].error]
        return next((i for i in good if entries[i].error), 0)

    def _error_of(self, name: str, index: int, shares: Mapping[str, float]) -> float:
        measured = self._candidates[name][self.typical(name)].error
        return shares[name] * self._candidates[name][index].error / measured if measured else 0.0

    def _gain(self, name: str, index: int, other: int, shares: Mapping[str, float]) -> float:
        less = self._error_of(name, index, shares) - self._error_of(name, other, shares)
        return less / (self._candidates[name][other].cost - self._candidates[name][index].cost)


def search(
    candidates: Mapping[str, Sequence[Candidate]],
    products: Mapping[str, int],
    bound: Bound,
    measure: Measure,
    measure_alone: Measure,
    progress: ProgressCallback,
) -> Found:
    """Find the cheapest plan that meets a bound.

    Args:
        candidates: each layer's recipes, cheapest first.
        products: each layer's multiplications per token.
        bound: what the answers must meet.
        measure: runs the graph of a plan on all held-out texts.
        measure_alone: the same on a few of them, for plans that only compare layers.
        progress: called for each plan that is tried.
    """
    layers = _Layers(candidates, products)
    steps: list[Step] = []

    def meets_bound(choice: _Choice) -> bool:
        last = f", last: {_describe(steps[-1])}" if steps else ""
        progress(len(steps), None, f"try mixture {len(steps) + 1}{last}")
        accuracy = measure(layers.plan(choice))
        steps.append(Step(layers.cost(choice), layers.int8(choice), accuracy))
        return bound.met_by(accuracy)

    choice: dict[str, int] = dict.fromkeys(candidates, 0)
    if meets_bound(choice):
        return Found(layers.plan(choice), steps[-1], True, tuple(steps))

    shares = {}
    for index, name in enumerate(candidates):
        progress(index, len(candidates), "weigh layer")
        recipe = candidates[name][layers.typical(name)].recipe
        shares[name] = measure_alone({name: recipe}).distance

    failed, target = choice, layers.error(choice, shares)
    while True:
        before = target
        target *= float(np.clip(bound.share(steps[-1].accuracy), *_CUTS))
        choice = layers.improved(failed, shares, target)
        # With a predicted error of 0 nothing can be removed, and an infinite one is never met.
        error = layers.error(failed, shares)
        exhausted = choice == failed and error > target
        if exhausted or not 0 < error < np.inf:
            return Found(layers.plan(failed), steps[-1], False, tuple(steps))
        if choice == failed:  # the last changes removed more error than required
            continue
        if meets_bound(choice):
            break
        failed = choice
    # There may be a cheaper mixture between the last that failed and the first that did not.
    chosen, low, high = steps[-1], target, before
    for _ in range(_REFINEMENTS):
        middle = (low + high) / 2
        between = layers.improved(failed, shares, middle)
        if between in (failed, choice):
            break
        if meets_bound(between):
            choice, chosen, low = between, steps[-1], middle
        else:
            high = middle
    return Found(layers.plan(choice), chosen, True, tuple(steps))


def _describe(step: Step) -> str:
    return f"cosine {step.accuracy.cosine:.4f}, agreement {step.accuracy.agreement:.4f}"
