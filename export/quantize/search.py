"""The search for the fastest mixture of recipes whose answers stay within the bound.

Every layer begins with its cheapest recipe. When that is not near enough, each layer is tried in
int8 alone, which tells how much of the answers' error is its own; from then on the layers whose
next recipe takes off most error for the least time get it, a part of the way at a time, until the
answers meet the bound on texts that calibration did not see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.export.quantize.accuracy import Accuracy
from bertrt.export.quantize.candidates import Rung
from bertrt.export.quantize.recipe import Recipe

__all__ = ["Bound", "Found", "Step", "search"]

Plan = dict[str, Recipe]
Measure = Callable[[Plan], Accuracy]
Tell = Callable[[str], None]

# From one try to the next the predicted error is cut to at least and at most these shares of
# itself, and the last cut, when it was more than needed, is halved this often.
_CUTS = (0.15, 0.9)
_REFINEMENTS = 4
# A layer is weighed by a recipe with at most this share of its cheapest recipe's error: what makes
# most of the error in a bad recipe is not what is left of it in a good one.
_GOOD = 0.5
# A mixture with less than this share of its multiplications in int8 is not worth the name.
LEAST_INT8 = 0.5


@dataclass(frozen=True)
class Bound:
    """What the answers have to meet: the least cosine, or the least agreement; the other is 0."""

    cosine: float = 0.0
    agreement: float = 0.0

    def met_by(self, accuracy: Accuracy) -> bool:
        """Whether answers so accurate are near enough."""
        return accuracy.cosine >= self.cosine and accuracy.agreement >= self.agreement

    def share(self, accuracy: Accuracy) -> float:
        """What the bound leaves of an error, as a share of that error."""
        left = [(1 - self.cosine, 1 - accuracy.cosine)] if self.cosine else []
        left += [(1 - self.agreement, 1 - accuracy.agreement)] if self.agreement else []
        return min((allowed / error for allowed, error in left if error > 0), default=1.0)


@dataclass(frozen=True)
class Step:
    """One mixture that was tried: its cost as a share of float32's, and how near it came."""

    cost: float
    int8: float
    accuracy: Accuracy


@dataclass(frozen=True)
class Found:
    """The outcome: the plan that was chosen, its step, and every mixture tried, in order.

    Without a plan that meets the bound, `met` is False, and the plan the last that was tried.
    """

    plan: Plan
    step: Step
    met: bool
    steps: tuple[Step, ...]


class _Ladders:
    """Which rung each layer stands on, and what all of them cost together."""

    def __init__(self, ladders: Mapping[str, Sequence[Rung]], weights: Mapping[str, int]) -> None:
        self.rungs = ladders
        self.weights = weights

    def plan(self, places: Mapping[str, int]) -> Plan:
        return {name: self.rungs[name][place].recipe for name, place in places.items()}

    def cost(self, places: Mapping[str, int]) -> float:
        full = sum(rungs[-1].cost for rungs in self.rungs.values())
        return sum(self.rungs[name][place].cost for name, place in places.items()) / full

    def int8(self, places: Mapping[str, int]) -> float:
        inside = sum(
            self.weights[name]
            for name, place in places.items()
            if self.rungs[name][place].recipe.precision == "int8"
        )
        return inside / sum(self.weights.values())

    def error(self, places: Mapping[str, int], shares: Mapping[str, float]) -> float:
        """The predicted distance of the answers: each layer's own, as if they added up."""
        return sum(self._share(name, place, shares) for name, place in places.items())

    def lowered(
        self, places: Mapping[str, int], shares: Mapping[str, float], target: float
    ) -> dict[str, int]:
        """The cheapest moves up the ladders until the predicted error is at most `target`."""
        result = dict(places)
        error = self.error(result, shares)
        while error > target:
            best = max(
                (
                    (self._gain(name, result[name], place, shares), name, place)
                    for name in result
                    for place in range(result[name] + 1, len(self.rungs[name]))
                ),
                default=None,
            )
            if best is None:
                break
            _, name, place = best
            result[name] = place
            error = self.error(result, shares)
        return result

    def typical(self, name: str) -> int:
        """The first place that is a good part better than the cheapest: where a layer will end."""
        rungs = self.rungs[name]
        good = [i for i, rung in enumerate(rungs) if rung.error <= _GOOD * rungs[0].error]
        return next((i for i in good if rungs[i].error), 0)

    def _share(self, name: str, place: int, shares: Mapping[str, float]) -> float:
        measured = self.rungs[name][self.typical(name)].error
        return shares[name] * self.rungs[name][place].error / measured if measured else 0.0

    def _gain(self, name: str, place: int, other: int, shares: Mapping[str, float]) -> float:
        less = self._share(name, place, shares) - self._share(name, other, shares)
        return less / (self.rungs[name][other].cost - self.rungs[name][place].cost)


def search(
    ladders: Mapping[str, Sequence[Rung]],
    products: Mapping[str, int],
    bound: Bound,
    measure: Measure,
    measure_alone: Measure,
    tell: Tell,
) -> Found:
    """Find the cheapest plan that meets a bound.

    Args:
        ladders: each layer's recipes, cheapest first.
        products: each layer's multiplications a token.
        bound: what the answers have to meet.
        measure: runs the graph of a plan on all held-out texts.
        measure_alone: the same on a few of them, for plans that only compare layers.
        tell: told what is being tried.
    """
    rows = _Ladders(ladders, products)
    steps: list[Step] = []

    def tried(places: Mapping[str, int]) -> bool:
        tell(f"try mixture {len(steps) + 1}" + (f", {_words(steps[-1])}" if steps else ""))
        accuracy = measure(rows.plan(places))
        steps.append(Step(rows.cost(places), rows.int8(places), accuracy))
        return bound.met_by(accuracy)

    places = dict.fromkeys(ladders, 0)
    if tried(places):
        return Found(rows.plan(places), steps[-1], True, tuple(steps))

    shares = {}
    for index, name in enumerate(ladders, start=1):
        tell(f"weigh layer {index} of {len(ladders)}")
        shares[name] = measure_alone({name: ladders[name][rows.typical(name)].recipe}).distance

    failed, target = places, rows.error(places, shares)
    while True:
        before = target
        target *= float(np.clip(bound.share(steps[-1].accuracy), *_CUTS))
        places = rows.lowered(failed, shares, target)
        # An error of 0 predicts nothing to take off, and one without end nothing that would do.
        if rows.int8(places) < LEAST_INT8 or not 0 < rows.error(failed, shares) < np.inf:
            return Found(rows.plan(failed), steps[-1], False, tuple(steps))
        if places == failed:  # the last moves took off more than they were asked for
            continue
        if tried(places):
            break
        failed = places
    # Between the last that failed and the first that did not there may be a cheaper one.
    chosen, low, high = steps[-1], target, before
    for _ in range(_REFINEMENTS):
        middle = (low + high) / 2
        between = rows.lowered(failed, shares, middle)
        if between in (failed, places):
            break
        if tried(between):
            places, chosen, low = between, steps[-1], middle
        else:
            high = middle
    return Found(rows.plan(places), chosen, True, tuple(steps))


def _words(step: Step) -> str:
    return f"last: cosine {step.accuracy.cosine:.4f}, agreement {step.accuracy.agreement:.4f}"
