"""A decoder's token types are zeros by default."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertrt.artifact.targets import OPTIMIZATION_LEVEL
from bertrt.engines.ort_cpu import OrtCpuSession
from bertrt.engines.ort_options import OrtOptions


@pytest.mark.parametrize("device", ["cpu", "any"])
@pytest.mark.parametrize("past", [0, 3])
def test_default(make_artifact: Callable[..., Path], device: str, past: int) -> None:
    path = make_artifact("BertLMHeadModel", device=device) / "model.onnx"
    session = OrtCpuSession(path, OrtOptions(level=OPTIMIZATION_LEVEL[device], threads=1))
    random = np.random.default_rng(past)
    cache = {
        f"past_key_values.{layer}.{part}": random.normal(size=(3, 4, past, 8)).astype(np.float32)
        for layer in range(2)
        for part in ("key", "value")
    }
    inputs = {
        "input_ids": random.integers(5, 200, (3, 5)),
        "attention_mask": np.ones((3, past + 5), np.int64),
        **cache,
    }
    default = session.run(inputs)["logits"]
    zeros = session.run({**inputs, "token_type_ids": np.zeros((3, 5), np.int64)})["logits"]
    ones = session.run({**inputs, "token_type_ids": np.ones((3, 5), np.int64)})["logits"]
    np.testing.assert_array_equal(default, zeros)
    assert np.abs(default - ones).max() > 1e-2


def test_an_encoders_token_types_have_no_default(make_artifact: Callable[..., Path]) -> None:
    import onnx

    model = onnx.load(make_artifact("BertForMaskedLM") / "model.onnx")
    assert "token_type_ids" not in {tensor.name for tensor in model.graph.initializer}
