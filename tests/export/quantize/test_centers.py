"""Inputs in the middle of their ranges, and smoothed values: the same function, all of it."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bertrt.export.quantize.centers import center_inputs
from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import find_linears
from bertrt.export.quantize.observe import observe
from bertrt.export.quantize.values import smooth_values, with_headroom

CONTEXT = "attention.output.dense"


@pytest.mark.parametrize("change", [center_inputs, smooth_values])
@pytest.mark.parametrize(
    "class_name",
    ["BertModel", "BertForSequenceClassification", "BertForMaskedLM", "BertLMHeadModel"],
)
def test_the_same_function(
    fused: Callable[..., Any],
    graphs: ModuleType,
    tmp_path: Any,
    class_name: str,
    change: Callable[..., Any],
) -> None:
    """Every output stays, a decoder's cache among them, which is the values themselves."""
    model = fused(class_name)
    linears = find_linears(model)
    feeds = [graphs.feeds_of(class_name, *shape) for shape in ((3, 33), (2, 7), (1, 1))]
    outputs = [one.name for one in model.graph.outputs]
    with open_graph(model, tmp_path) as run:
        expected = [run(one, outputs) for one in feeds]
    seen = observe(model, list(linears.values()), feeds, tmp_path)
    moved = change(model, linears, seen)
    with open_graph(model, tmp_path) as run:
        for one, before in zip(feeds, expected, strict=True):
            for name, value in run(one, outputs).items():
                np.testing.assert_allclose(value, before[name], rtol=0, atol=1e-5, err_msg=name)
    # And the layers read what they are said to read.
    again = observe(model, list(linears.values()), feeds, tmp_path)
    for name in linears:
        np.testing.assert_allclose(again[name].low, moved[name].low, atol=1e-5)
        np.testing.assert_allclose(again[name].high, moved[name].high, atol=1e-5)
        np.testing.assert_allclose(again[name].sample, moved[name].sample, atol=1e-5)
        np.testing.assert_allclose(again[name].covariance, moved[name].covariance, atol=1e-5)


def test_what_is_centered(fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any) -> None:
    model = fused("BertModel")
    linears = find_linears(model)
    feeds = [graphs.feeds_of("BertModel", 3, 33)]
    seen = observe(model, list(linears.values()), feeds, tmp_path)
    assert not any(np.allclose(one.low, -one.high, atol=1e-3) for one in seen.values())
    moved = center_inputs(model, linears, seen)
    # An activation's outputs cannot be moved without a cost.
    left = [name for name in linears if moved[name] is seen[name]]
    assert left == [n for n in linears if n.endswith("output.dense") and CONTEXT not in n]
    assert len(left) == 2
    for name in linears:
        if name not in left:
            np.testing.assert_allclose(moved[name].low, -moved[name].high, atol=1e-5)


def test_layers_that_share_an_input_have_one_middle(
    fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any
) -> None:
    """A pruned layer's query and feed-forward read some tokens only, its keys and values all."""
    model = fused("BertForSequenceClassification")
    linears = find_linears(model)
    seen = observe(model, list(linears.values()), [graphs.feeds_of("BertModel", 3, 33)], tmp_path)
    moved = center_inputs(model, linears, seen)
    query, others = (
        next(name for name in linears if name.endswith(end))
        for end in ("1.attention.self.query", "1.attention.self.key_value")
    )
    shifts = [seen[name].low - moved[name].low for name in (query, others)]
    np.testing.assert_allclose(shifts[0], shifts[1], atol=1e-6)
    np.testing.assert_allclose(moved[others].low, -moved[others].high, atol=1e-5)
    assert not np.allclose(moved[query].low, -moved[query].high, atol=1e-3)


def test_a_decoders_values_stay(
    fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any
) -> None:
    model = fused("BertLMHeadModel")
    linears = find_linears(model)
    seen = observe(
        model, list(linears.values()), [graphs.feeds_of("BertLMHeadModel", 3, 33)], tmp_path
    )
    assert smooth_values(model, linears, seen) == seen
    moved = center_inputs(model, linears, seen)
    changed = [name for name in linears if moved[name] is not seen[name]]
    assert changed
    assert not any(CONTEXT in name for name in changed)


def test_headroom_is_for_contexts_alone(observed: Callable[..., Any]) -> None:
    name = f"bert.encoder.layer.0.{CONTEXT}"
    seen = {name: observed(), "bert.encoder.layer.0.output.dense": observed()}
    widened = with_headroom(seen)
    assert widened["bert.encoder.layer.0.output.dense"] is seen["bert.encoder.layer.0.output.dense"]
    np.testing.assert_allclose(widened[name].low, 1.5 * seen[name].low)
    np.testing.assert_allclose(widened[name].high, 1.5 * seen[name].high)
    assert widened[name].sample is seen[name].sample
