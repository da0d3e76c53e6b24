"""The search on layers with known errors: the cheapest plan that meets the bound, or none."""

import pytest

from bertrt.export.quantize.accuracy import Accuracy
from bertrt.export.quantize.candidates import Candidate
from bertrt.export.quantize.decisions import Agreement
from bertrt.export.quantize.recipe import Recipe
from bertrt.export.quantize.search import LEAST_INT8, Bound, Found, search

# A layer's candidates with their costs and errors; float32 last.
CANDIDATES = [
    Candidate(Recipe(), 100.0, 1.0),
    Candidate(Recipe(smoothing=0.5), 105.0, 0.5),
    Candidate(Recipe(smoothing=0.5, outliers=8), 120.0, 0.1),
    Candidate(Recipe("float32"), 400.0, 0.0),
]
LAYERS = {f"layer.{i}": CANDIDATES for i in range(8)}
# Each layer's part of the answers' error with its cheapest recipe; one layer has most of it.
SHARES = {name: 0.08 if name == "layer.3" else 0.001 for name in LAYERS}


def measure(plan: dict[str, Recipe]) -> Accuracy:
    error = sum(
        SHARES[name] * next(entry.error for entry in CANDIDATES if entry.recipe == recipe)
        for name, recipe in plan.items()
    )
    judged = (Agreement("tokens", 1.0, 10), Agreement("entities", 1 - error, 10))
    return Accuracy(cosine=1 - error, distance=error, answers=10, judged=judged)


def ignore(done: int, total: int | None, what: str) -> None:
    pass


def find(bound: Bound) -> Found:
    products = dict.fromkeys(LAYERS, 100)
    return search(LAYERS, products, bound, measure, measure, ignore)


def test_the_cheapest_plan_if_it_meets_the_bound() -> None:
    found = find(Bound(cosine=0.9))
    assert found.met
    assert set(found.plan.values()) == {Recipe()}
    assert len(found.steps) == 1


@pytest.mark.parametrize("bound", [Bound(cosine=0.95), Bound(agreement=0.95)])
def test_only_the_layer_with_the_error_gets_a_better_recipe(bound: Bound) -> None:
    found = find(bound)
    assert found.met
    improved = {name for name, recipe in found.plan.items() if recipe != Recipe()}
    assert improved == {"layer.3"}
    assert bound.met_by(measure(found.plan))
    assert found.step.accuracy == measure(found.plan)
    assert found.step in found.steps
    assert found.step.int8 == 1


def test_float32_if_nothing_else_helps() -> None:
    found = find(Bound(cosine=0.9945))
    assert found.met
    assert found.plan["layer.3"] == Recipe("float32")
    assert found.step.int8 == pytest.approx(7 / 8)


def test_an_unreachable_bound() -> None:
    found = find(Bound(cosine=0.99999))
    assert not found.met
    assert not any(Bound(cosine=0.99999).met_by(step.accuracy) for step in found.steps)
    assert all(step.int8 >= LEAST_INT8 for step in found.steps)


@pytest.mark.parametrize("distance", [0.0, float("inf")])
def test_an_error_that_no_layer_explains(distance: float) -> None:
    """All layers in int8 have a large error, and each alone none or an infinite one."""
    together = Accuracy(cosine=0.5, distance=0.1, answers=10)
    alone = Accuracy(cosine=1, distance=distance, answers=10)
    products = dict.fromkeys(LAYERS, 100)
    bound = Bound(cosine=0.9)
    found = search(LAYERS, products, bound, lambda plan: together, lambda plan: alone, ignore)
    assert not found.met
    assert len(found.steps) == 1


def test_layers_are_weighed_alone_with_a_likely_recipe() -> None:
    weighed: list[dict[str, Recipe]] = []

    def alone(plan: dict[str, Recipe]) -> Accuracy:
        weighed.append(plan)
        return measure(plan)

    products = dict.fromkeys(LAYERS, 100)
    search(LAYERS, products, Bound(cosine=0.99), measure, alone, ignore)
    # The first with at most half of the cheapest's error.
    assert weighed == [{name: Recipe(smoothing=0.5)} for name in LAYERS]


def test_the_last_mixture_with_half_in_int8_is_tried() -> None:
    """Decisions come back all at once, and not in proportion to the error."""
    everything = len(LAYERS)

    def even(plan: dict[str, Recipe]) -> Accuracy:
        errors = {entry.recipe: entry.error for entry in CANDIDATES}
        error = sum(errors[recipe] for recipe in plan.values()) / everything
        same = 1.0 if error <= 0.06 else 0.5
        return Accuracy(1 - error, error, 10, (Agreement("orders", same, 10),))

    products = dict.fromkeys(LAYERS, 100)
    found = search(LAYERS, products, Bound(agreement=0.99), even, even, ignore)
    assert found.met
    assert found.step.int8 == LEAST_INT8
    assert (
        sorted(recipe.precision for recipe in found.plan.values()) == ["float32"] * 4 + ["int8"] * 4
    )
