"""A large batch in chunks: which rows each has, and outputs equal to those of one run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.scheduling.chunks import run_in_chunks, split_batch, split_for_workers

IDS = np.random.default_rng(3).integers(5, 200, (11, 9))
MASK = np.ones_like(IDS)
MASK[4, 5:] = 0
MASK[9, 1:] = 0
IDS[:, 0] = 2


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 32, 100])
@pytest.mark.parametrize("length", [1, 8, 127, 512])
@pytest.mark.parametrize("budget", [1, 128, 256, 1024])
def test_split_batch(rows: int, length: int, budget: int) -> None:
    chunks = split_batch(rows, rows * length, budget)
    assert [row for chunk in chunks for row in range(rows)[chunk]] == list(range(rows))
    sizes = [(chunk.stop - chunk.start) for chunk in chunks]
    assert max(sizes) - min(sizes) <= 1
    if rows * length < 2 * budget:
        assert len(chunks) == 1
    else:
        # A chunk may be less than a row below the budget, or above twice the budget.
        assert min(sizes) == 1 or (min(sizes) + 1) * length > budget
        assert max(sizes) == 1 or (max(sizes) - 1) * length < 2 * budget


@pytest.mark.parametrize("rows", [2, 3, 7, 32, 100])
@pytest.mark.parametrize("length", [1, 8, 127, 512])
@pytest.mark.parametrize("workers", [2, 5])
def test_split_for_workers(rows: int, length: int, workers: int) -> None:
    tokens = rows * length
    chunks = split_for_workers(rows, tokens, 256, workers)
    assert [row for chunk in chunks for row in range(rows)[chunk]] == list(range(rows))
    sizes = [(chunk.stop - chunk.start) for chunk in chunks]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    if tokens < workers * 256:
        assert len(chunks) == 1
    elif len(chunks) < rows:
        assert len(chunks) % workers == 0
        # From one budget to 1.5 x 1.5 budgets, within a row.
        assert (min(sizes) + 1) * length > 256
        assert (max(sizes) - 1) * length < 2.25 * 256


def run_both_ways(
    artifact: Path, **arrays: Any
) -> tuple[Mapping[str, Any], Mapping[str, Any], list[int]]:
    """Return the outputs of one run, those of chunks, and the number of rows of each chunk."""
    with bertrt.load(artifact, threads=1, max_batch_tokens=10_000) as rt:
        whole = rt.run(**arrays)
    with bertrt.load(artifact, threads=1, max_batch_tokens=20) as rt:
        rows: list[int] = []
        session: Any = rt._pool.wide.session
        run = session.run
        session.run = lambda inputs, names: (
            rows.append(len(inputs["input_ids"])) or run(inputs, names)
        )
        chunks = rt.run(**arrays)
    return whole, chunks, rows


def assert_equal(whole: Mapping[str, Any], chunks: Mapping[str, Any]) -> None:
    assert list(whole) == list(chunks)
    for name, value in whole.items():
        for row, chunk in zip(value, chunks[name], strict=True):
            np.testing.assert_allclose(row, chunk, atol=1e-5)


@pytest.mark.parametrize(
    "class_name", ["BertModel", "BertForPreTraining", "BertForQuestionAnswering", "BertLMHeadModel"]
)
def test_outputs_equal_those_of_one_run(
    class_name: str, make_artifact: Callable[..., Path]
) -> None:
    whole, chunks, rows = run_both_ways(
        make_artifact(class_name), input_ids=IDS, attention_mask=MASK
    )
    assert len(rows) > 2
    assert sum(rows) == len(IDS)
    assert_equal(whole, chunks)


def test_outputs_of_first_tokens(make_artifact: Callable[..., Path]) -> None:
    arrays = {"input_ids": IDS, "attention_mask": MASK, "first_token_only": True}
    whole, chunks, _ = run_both_ways(make_artifact("BertModel"), **arrays)
    assert chunks["last_hidden_state"].shape[:2] == (11, 1)
    assert_equal(whole, chunks)


def test_chunks_may_have_different_numbers_of_masks(make_artifact: Callable[..., Path]) -> None:
    ids = IDS.copy()
    ids[0, 3:6] = ids[8, 2] = ids[10, 1:9:2] = 4  # [MASK]
    arrays = {"input_ids": ids, "attention_mask": MASK, "masked_only": True}
    whole, chunks, rows = run_both_ways(make_artifact("BertForMaskedLM"), **arrays)
    assert len(rows) > 2
    assert chunks["logits"].shape[0] == (ids == 4).sum()
    assert_equal(whole, chunks)


def test_choices_with_hidden_states_and_attentions(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    from bertrt.export import export

    checkpoint = make_checkpoint("BertForMultipleChoice")
    export(checkpoint, tmp_path / "out", output_hidden_states=True, output_attentions=True)
    ids = np.random.default_rng(4).integers(5, 200, (5, 3, 6))
    whole, chunks, rows = run_both_ways(tmp_path / "out", input_ids=ids)
    assert len(rows) > 2
    assert chunks["logits"].shape == (5, 3)
    assert chunks["attentions"][0].shape[0] == 15
    assert_equal(whole, chunks)


def test_a_batch_with_a_cache(make_artifact: Callable[..., Path]) -> None:
    artifact = make_artifact("BertLMHeadModel")
    with bertrt.load(artifact, threads=1) as rt:
        first = rt.run(input_ids=IDS[:, :4])
    past = {
        name.replace("present", "past_key_values"): value
        for name, value in first.items()
        if name.startswith("present.")
    }
    assert past
    whole, chunks, rows = run_both_ways(artifact, input_ids=IDS[:, 4:], **past)
    assert len(rows) > 1
    assert_equal(whole, chunks)


def test_a_small_batch_is_not_copied() -> None:
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    runs: list[Any] = []

    def run(arrays: Any) -> dict[str, np.ndarray]:
        runs.append(arrays)
        return {"logits": IDS}

    assert run_in_chunks(run, inputs, split_batch(11, 99, 100))["logits"] is IDS
    assert runs[0] is inputs
