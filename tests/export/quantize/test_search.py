"""The search on layers whose errors are known: cheapest first, no more than needed, or refused."""

import pytest

from bertrt.export.quantize.accuracy import Accuracy
from bertrt.export.quantize.candidates import Rung
from bertrt.export.quantize.recipe import Recipe
from bertrt.export.quantize.search import LEAST_INT8, Bound, Found, search

# A layer's recipes: cost and error of each; float32 last.
RUNGS = [
    Rung(Recipe(), 100.0, 1.0),
    Rung(Recipe(smoothing=0.5), 105.0, 0.5),
    Rung(Recipe(smoothing=0.5, outliers=8), 120.0, 0.1),
    Rung(Recipe("float32"), 400.0, 0.0),
]
LAYERS = {f"layer.{i}": RUNGS for i in range(8)}
# How much of the answers' error each layer makes in its cheapest recipe; one makes most of it.
SHARES = {name: 0.08 if name == "layer.3" else 0.001 for name in LAYERS}


def measure(plan: dict[str, Recipe]) -> Accuracy:
    error = sum(
        SHARES[name] * next(one.error for one in RUNGS if one.recipe == recipe)
        for name, recipe in plan.items()
    )
    return Accuracy(cosine=1 - error, agreement=1 - error, distance=error, answers=10)


def find(bound: Bound) -> Found:
    products = dict.fromkeys(LAYERS, 100)
    return search(LAYERS, products, bound, measure, measure, lambda words: None)


def test_the_cheapest_is_taken_when_it_is_near_enough() -> None:
    found = find(Bound(cosine=0.9))
    assert found.met
    assert set(found.plan.values()) == {Recipe()}
    assert len(found.steps) == 1


@pytest.mark.parametrize("bound", [Bound(cosine=0.95), Bound(agreement=0.95)])
def test_only_the_layer_that_errs_is_raised(bound: Bound) -> None:
    found = find(bound)
    assert found.met
    raised = {name for name, recipe in found.plan.items() if recipe != Recipe()}
    assert raised == {"layer.3"}
    assert bound.met_by(measure(found.plan))
    assert found.step.accuracy == measure(found.plan)
    assert found.step in found.steps
    assert found.step.int8 == 1


def test_float32_where_nothing_else_helps() -> None:
    found = find(Bound(cosine=0.9945))
    assert found.met
    assert found.plan["layer.3"] == Recipe("float32")
    assert found.step.int8 == pytest.approx(7 / 8)


def test_a_bound_out_of_reach() -> None:
    found = find(Bound(cosine=0.99999))
    assert not found.met
    assert not any(Bound(cosine=0.99999).met_by(step.accuracy) for step in found.steps)
    assert all(step.int8 >= LEAST_INT8 for step in found.steps)


@pytest.mark.parametrize("distance", [0.0, float("inf")])
def test_an_error_that_no_layer_explains(distance: float) -> None:
    """Far off with all layers in int8, and alone not at all or without end: refused at once."""
    far = Accuracy(cosine=0.5, agreement=0.5, distance=0.1, answers=10)
    none = Accuracy(cosine=1, agreement=1, distance=distance, answers=10)
    products = dict.fromkeys(LAYERS, 100)
    bound = Bound(cosine=0.9)
    found = search(LAYERS, products, bound, lambda plan: far, lambda plan: none, lambda words: None)
    assert not found.met
    assert len(found.steps) == 1


def test_layers_are_weighed_one_by_one_by_a_recipe_that_they_may_end_with() -> None:
    weighed: list[dict[str, Recipe]] = []

    def alone(plan: dict[str, Recipe]) -> Accuracy:
        weighed.append(plan)
        return measure(plan)

    products = dict.fromkeys(LAYERS, 100)
    search(LAYERS, products, Bound(cosine=0.99), measure, alone, lambda words: None)
    # Half the error of the cheapest, in place of the cheapest itself.
    assert weighed == [{name: Recipe(smoothing=0.5)} for name in LAYERS]
