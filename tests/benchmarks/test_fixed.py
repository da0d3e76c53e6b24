"""Fixed shapes: wrong answers are never timed, and each contender has a row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.inputs import fixed_inputs
from benchmarks.data.models import Model
from benchmarks.harness import turns
from benchmarks.harness.config import BenchConfig
from benchmarks.workloads import fixed

# Answers that depend on the mask, as a mean over tokens does.
CORRECT = """
def run(self, ids, mask, types):
    weights = mask[:, :, None]
    features = np.cos(ids[:, :, None] * np.arange(1, 9))
    return (features * weights).sum(axis=1) / weights.sum(axis=1)
Fake.run = run
"""
IGNORES_THE_MASK = CORRECT.replace("mask[:, :, None]", "np.ones_like(mask)[:, :, None]")
WRONG = CORRECT.replace("np.cos", "np.sin")
FAILS_ON_MANY = (
    CORRECT
    + """
def run_few(self, ids, mask, types):
    assert len(ids) < 8, "too many"
    return run(self, ids, mask, types)
Fake.run = run_few
"""
)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    (folder / "embeddings").mkdir(parents=True)
    (folder / "embeddings" / "model.safetensors").write_bytes(bytes(100))
    return Model("fake", str(folder), "random", cls=2, sep=3, mask=4, pad=0, vocabulary=1500)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "SHAPES", ((1, 8), (8, 5)))
    monkeypatch.setattr(turns, "_PAUSE", 0.0)


def test_only_correct_answers_are_timed(
    fake: Callable[..., str], config: BenchConfig, model: Model
) -> None:
    names = [
        fake("eager", CORRECT),
        fake("peer", CORRECT),
        fake("wrong", WRONG),
        fake("unmasked", IGNORES_THE_MASK),
        fake("small", FAILS_ON_MANY),
        fake("absent", "def missing():\n    return 'not installed'"),
    ]
    rows = list(fixed.measure(config, model, "embeddings", names))
    assert [(row["shape"], row["contender"]) for row in rows] == [
        (shape, name) for shape in ("1x8", "8x5") for name in names
    ]
    found = {(row["shape"], row["contender"]): row for row in rows}
    for shape in ("1x8", "8x5"):
        peer = found[shape, "peer"]
        assert peer["status"] == "timed"
        assert peer["n"] == config.rounds
        assert peer["p20_ms"] <= peer["median_ms"] <= peer["p80_ms"]
        assert peer["error"]["max_abs"] == 0
        ratio, low, high = peer["speedup"]["eager"]
        assert low <= ratio <= high
        assert peer["versions"] == {"numpy": np.__version__}
        for name in ("wrong", "unmasked", "absent"):
            row = found[shape, name]
            assert row["status"] == "refused"
            assert not {"median_ms", "p20_ms", "speedup"} & set(row)
        # Only the batch with padding detects a contender that ignores the mask.
        assert "wrong answer at 5x37" in found[shape, "unmasked"]["reason"]
        assert found[shape, "wrong"]["error"]["worst_cosine"] < 0.9
        assert found[shape, "absent"]["reason"] == "not installed"
    assert found["1x8", "small"]["status"] == "timed"
    assert "too many" in found["8x5", "small"]["reason"]


def test_nothing_is_timed_without_a_reference(
    fake: Callable[..., str], config: BenchConfig, model: Model
) -> None:
    names = [fake("peer", CORRECT)]
    fake("eager", "def missing():\n    return 'no PyTorch here'")
    rows = list(fixed.measure(config, model, "embeddings", names))
    assert {row["status"] for row in rows} == {"refused"}
    assert "no PyTorch here" in rows[0]["reason"]


def test_the_reference_answers_even_if_it_is_not_timed(
    fake: Callable[..., str], config: BenchConfig, model: Model
) -> None:
    names = [fake("peer", CORRECT)]
    fake("eager", CORRECT)
    rows = list(fixed.measure(config, model, "embeddings", names))
    assert [row["contender"] for row in rows] == ["peer", "peer"]
    assert {row["status"] for row in rows} == {"timed"}
    assert rows[0]["speedup"] == {}


def test_inputs_look_like_a_tokenizers_and_are_reproducible(model: Model) -> None:
    inputs = fixed_inputs(model, (9, 3, 6))
    assert inputs.input_ids.shape == (3, 9)
    assert {array.dtype for array in inputs} == {np.dtype(np.int64)}
    assert inputs.attention_mask.sum(axis=1).tolist() == [9, 3, 6]
    for row, length in zip(inputs.input_ids, (9, 3, 6), strict=True):
        assert row[0] == model.cls
        assert row[length - 1] == model.sep
        assert (row == model.mask).sum() == 1
        assert (row[length:] == model.pad).all()
        assert row.max() < model.vocabulary
    repeated = fixed_inputs(model, (9, 3, 6))
    np.testing.assert_array_equal(repeated.input_ids, inputs.input_ids)


def test_a_row_without_room_for_a_mask_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="a row of 2 tokens has no room"):
        fixed_inputs(model, (4, 2))
