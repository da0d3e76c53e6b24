"""A large batch in pieces: which rows each has, and outputs that are those of one run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.export import export
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
    pieces = split_batch(rows, rows * length, budget)
    assert [row for piece in pieces for row in range(rows)[piece]] == list(range(rows))
    sizes = [(piece.stop - piece.start) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1
    if rows * length < 2 * budget:
        assert len(pieces) == 1
    else:
        # Less than a row may be missing to the budget, or be too much for twice of it.
        assert min(sizes) == 1 or (min(sizes) + 1) * length > budget
        assert max(sizes) == 1 or (max(sizes) - 1) * length < 2 * budget


@pytest.mark.parametrize("rows", [2, 3, 7, 32, 100])
@pytest.mark.parametrize("length", [1, 8, 127, 512])
@pytest.mark.parametrize("workers", [2, 5])
def test_split_for_workers(rows: int, length: int, workers: int) -> None:
    tokens = rows * length
    pieces = split_for_workers(rows, tokens, 256, workers)
    assert [row for piece in pieces for row in range(rows)[piece]] == list(range(rows))
    sizes = [(piece.stop - piece.start) for piece in pieces]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    if tokens < workers * 256:
        assert len(pieces) == 1
    elif len(pieces) < rows:
        assert len(pieces) % workers == 0
        # From one budget to one and a half times 1.5 of them, give or take a row.
        assert (min(sizes) + 1) * length > 256
        assert (max(sizes) - 1) * length < 2.25 * 256


def both(artifact: Path, **arrays: Any) -> tuple[Mapping[str, Any], Mapping[str, Any], list[int]]:
    """The outputs of one run and of pieces, and the rows of each of these."""
    with bertrt.load(artifact, threads=1, max_batch_tokens=10_000) as rt:
        whole = rt.run(**arrays)
    with bertrt.load(artifact, threads=1, max_batch_tokens=20) as rt:
        rows: list[int] = []
        session: Any = rt._pool.wide.session
        run = session.run
        session.run = lambda feeds, names: rows.append(len(feeds["input_ids"])) or run(feeds, names)
        pieces = rt.run(**arrays)
    return whole, pieces, rows


def assert_equal(whole: Mapping[str, Any], pieces: Mapping[str, Any]) -> None:
    assert list(whole) == list(pieces)
    for name, value in whole.items():
        for one, other in zip(value, pieces[name], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "class_name", ["BertModel", "BertForPreTraining", "BertForQuestionAnswering", "BertLMHeadModel"]
)
def test_outputs_are_those_of_one_run(class_name: str, make_artifact: Callable[..., Path]) -> None:
    whole, pieces, rows = both(make_artifact(class_name), input_ids=IDS, attention_mask=MASK)
    assert len(rows) > 2
    assert sum(rows) == len(IDS)
    assert_equal(whole, pieces)


def test_first_tokens(make_artifact: Callable[..., Path]) -> None:
    arrays = {"input_ids": IDS, "attention_mask": MASK, "first_token_only": True}
    whole, pieces, _ = both(make_artifact("BertModel"), **arrays)
    assert pieces["last_hidden_state"].shape[:2] == (11, 1)
    assert_equal(whole, pieces)


def test_a_piece_may_have_any_number_of_masks(make_artifact: Callable[..., Path]) -> None:
    ids = IDS.copy()
    ids[0, 3:6] = ids[8, 2] = ids[10, 1:9:2] = 4  # [MASK]
    arrays = {"input_ids": ids, "attention_mask": MASK, "masked_only": True}
    whole, pieces, rows = both(make_artifact("BertForMaskedLM"), **arrays)
    assert len(rows) > 2
    assert pieces["logits"].shape[0] == (ids == 4).sum()
    assert_equal(whole, pieces)


def test_choices_inside_and_out(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = make_checkpoint("BertForMultipleChoice")
    export(checkpoint, tmp_path / "out", output_hidden_states=True, output_attentions=True)
    ids = np.random.default_rng(4).integers(5, 200, (5, 3, 6))
    whole, pieces, rows = both(tmp_path / "out", input_ids=ids)
    assert len(rows) > 2
    assert pieces["logits"].shape == (5, 3)
    assert pieces["attentions"][0].shape[0] == 15
    assert_equal(whole, pieces)


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
    whole, pieces, rows = both(artifact, input_ids=IDS[:, 4:], **past)
    assert len(rows) > 1
    assert_equal(whole, pieces)


def test_a_small_batch_is_run_as_it_is() -> None:
    feeds = {"input_ids": IDS, "attention_mask": MASK}
    ran: list[Any] = []

    def run(some: Any) -> dict[str, np.ndarray]:
        ran.append(some)
        return {"logits": IDS}

    assert run_in_chunks(run, feeds, split_batch(11, 99, 100))["logits"] is IDS
    assert ran[0] is feeds
