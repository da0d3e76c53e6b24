"""Observed inputs of layers, against PyTorch's hooks; and smoothing that changes no answer."""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from bertrt.export.quantize.graph_run import open_graph
from bertrt.export.quantize.linears import find_linears
from bertrt.export.quantize.observe import Observed, observe
from bertrt.export.quantize.values import smooth_values

HEAD = "BertForTokenClassification"
INNER = "bert.encoder.layer.1.intermediate.dense"


def test_ranges_and_covariance_equal_pytorchs(
    graphs: ModuleType, fused: Any, tmp_path: Any
) -> None:
    linears = find_linears(fused(HEAD))
    inputs = [graphs.random_inputs(HEAD, 3, 9), graphs.random_inputs(HEAD, 1, 30)]
    model = graphs.model_of(HEAD)
    seen: list[np.ndarray] = []

    def record(module: Any, arguments: Any) -> None:
        seen.append(arguments[0].detach().numpy())

    handle = model.get_submodule(INNER).register_forward_pre_hook(record)
    with torch.inference_mode():
        for arrays in inputs:
            model(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    handle.remove()
    masks = [arrays["attention_mask"].astype(bool) for arrays in inputs]
    assert not masks[0].all()  # there is padding, which must not count
    rows = np.concatenate([x[mask] for x, mask in zip(seen, masks, strict=True)])

    found = observe(fused(HEAD), list(linears.values()), inputs, tmp_path)
    assert set(found) == set(linears)
    np.testing.assert_allclose(found[INNER].low, rows.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(found[INNER].high, rows.max(axis=0), atol=1e-5)
    assert len(found[INNER].sample) == len(rows)
    expected = Observed.of(rows).covariance
    np.testing.assert_allclose(found[INNER].covariance, expected, atol=1e-5)


def test_smoothed_values_are_the_same_function(
    graphs: ModuleType, fused: Any, tmp_path: Any
) -> None:
    model = fused(HEAD)
    linears = find_linears(model)
    inputs = graphs.random_inputs(HEAD, 3, 9)
    observed = observe(model, list(linears.values()), [inputs], tmp_path)
    with open_graph(model, tmp_path) as run:
        before = run(inputs, ["logits"])["logits"]
    smoothed = smooth_values(model, linears, observed)
    with open_graph(model, tmp_path) as run:
        after = run(inputs, ["logits"])["logits"]
    valid = inputs["attention_mask"].astype(bool)
    np.testing.assert_allclose(after[valid], before[valid], atol=1e-5)
    changed = {name for name in linears if smoothed[name] is not observed[name]}
    assert changed == {name for name in linears if name.endswith("attention.output.dense")}
    assert len(changed) == 2
    again = observe(model, list(find_linears(model).values()), [inputs], tmp_path)
    for name in changed:
        np.testing.assert_allclose(again[name].high, smoothed[name].high, rtol=1e-4, atol=1e-5)


def test_the_sample_of_many_rows_is_uniform(graphs: ModuleType, fused: Any, tmp_path: Any) -> None:
    linear = find_linears(fused(HEAD))[INNER]
    inputs = [graphs.random_inputs(HEAD, batch, 40) for batch in range(1, 12)]
    alone = [observe(fused(HEAD), [linear], [batch], tmp_path)[INNER].sample for batch in inputs]
    found = observe(fused(HEAD), [linear], inputs, tmp_path)[INNER]
    batch_of = {row.tobytes(): index for index, part in enumerate(alone) for row in part}
    assert sum(map(len, alone)) > 2 * len(found.sample) == 2 * 512
    batches = np.array([batch_of[row.tobytes()] for row in found.sample])
    assert len({row.tobytes() for row in found.sample}) == 512  # no row twice
    expected = sum(map(len, alone[:8])) / sum(map(len, alone))
    assert abs((batches < 8).mean() - expected) < 0.08  # more than three standard deviations
    # The covariance includes all rows.
    together = Observed.of(np.concatenate(alone))
    np.testing.assert_allclose(found.covariance, together.covariance, atol=1e-5)
