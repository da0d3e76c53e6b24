"""Centered inputs and smoothed values leave the graph's function as it is."""

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
    """This includes a decoder's cache, which holds the values."""
    model = fused(class_name)
    linears = find_linears(model)
    batches = [graphs.random_inputs(class_name, *shape) for shape in ((3, 33), (2, 7), (1, 1))]
    outputs = [value.name for value in model.graph.outputs]
    with open_graph(model, tmp_path) as run:
        expected = [run(inputs, outputs) for inputs in batches]
    seen = observe(model, list(linears.values()), batches, tmp_path)
    changed = change(model, linears, seen)
    with open_graph(model, tmp_path) as run:
        for inputs, before in zip(batches, expected, strict=True):
            for name, value in run(inputs, outputs).items():
                np.testing.assert_allclose(value, before[name], rtol=0, atol=1e-5, err_msg=name)
    # The layers read what the function returned.
    again = observe(model, list(linears.values()), batches, tmp_path)
    for name in linears:
        np.testing.assert_allclose(again[name].low, changed[name].low, atol=1e-5)
        np.testing.assert_allclose(again[name].high, changed[name].high, atol=1e-5)
        np.testing.assert_allclose(again[name].sample, changed[name].sample, atol=1e-5)
        np.testing.assert_allclose(again[name].covariance, changed[name].covariance, atol=1e-5)


def test_inputs_of_normalizations_and_attentions_are_centered(
    fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any
) -> None:
    model = fused("BertModel")
    linears = find_linears(model)
    batches = [graphs.random_inputs("BertModel", 3, 33)]
    seen = observe(model, list(linears.values()), batches, tmp_path)
    assert not any(np.allclose(entry.low, -entry.high, atol=1e-3) for entry in seen.values())
    centered = center_inputs(model, linears, seen)
    # An activation's output cannot be shifted at no cost.
    kept = [name for name in linears if centered[name] is seen[name]]
    assert kept == [n for n in linears if n.endswith("output.dense") and CONTEXT not in n]
    assert len(kept) == 2
    for name in linears:
        if name not in kept:
            np.testing.assert_allclose(centered[name].low, -centered[name].high, atol=1e-5)


def test_layers_that_share_an_input_have_the_same_shift(
    fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any
) -> None:
    """A pruned layer's query and feed-forward read some tokens, its keys and values all."""
    model = fused("BertForSequenceClassification")
    linears = find_linears(model)
    seen = observe(
        model, list(linears.values()), [graphs.random_inputs("BertModel", 3, 33)], tmp_path
    )
    centered = center_inputs(model, linears, seen)
    query, others = (
        next(name for name in linears if name.endswith(ending))
        for ending in ("1.attention.self.query", "1.attention.self.key_value")
    )
    shifts = [seen[name].low - centered[name].low for name in (query, others)]
    np.testing.assert_allclose(shifts[0], shifts[1], atol=1e-6)
    np.testing.assert_allclose(centered[others].low, -centered[others].high, atol=1e-5)
    assert not np.allclose(centered[query].low, -centered[query].high, atol=1e-3)


def test_a_decoders_values_are_not_changed(
    fused: Callable[..., Any], graphs: ModuleType, tmp_path: Any
) -> None:
    model = fused("BertLMHeadModel")
    linears = find_linears(model)
    seen = observe(
        model, list(linears.values()), [graphs.random_inputs("BertLMHeadModel", 3, 33)], tmp_path
    )
    assert smooth_values(model, linears, seen) == seen
    centered = center_inputs(model, linears, seen)
    changed = [name for name in linears if centered[name] is not seen[name]]
    assert changed
    assert not any(CONTEXT in name for name in changed)


def test_only_contexts_get_headroom(observed: Callable[..., Any]) -> None:
    name = f"bert.encoder.layer.0.{CONTEXT}"
    seen = {name: observed(), "bert.encoder.layer.0.output.dense": observed()}
    widened = with_headroom(seen)
    assert widened["bert.encoder.layer.0.output.dense"] is seen["bert.encoder.layer.0.output.dense"]
    np.testing.assert_allclose(widened[name].low, 1.5 * seen[name].low)
    np.testing.assert_allclose(widened[name].high, 1.5 * seen[name].high)
    assert widened[name].sample is seen[name].sample
