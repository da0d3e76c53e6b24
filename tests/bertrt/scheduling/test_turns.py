"""Turns: requests alternate, and each batch has parts of similar length."""

import random
from typing import Any

import pytest

from bertrt.scheduling.turns import Turns, choose_batch


@pytest.mark.parametrize(
    ("lengths", "budget", "batch"),
    [
        ([9], 4, [0]),  # longer than the budget: alone
        ([10, 10, 10], 30, [0, 1, 2]),
        ([10, 10, 10, 10], 30, [0, 1, 2]),
        ([10, 18], 256, [0, 1]),  # 8 tokens of padding
        ([10, 19], 256, [0]),  # 9: a second run is cheaper
        ([19, 10], 256, [0]),
        ([10, 10, 15], 256, [0, 1]),  # 5 for each of two
        ([30, 5, 5, 5, 29], 256, [4, 0]),
        ([40, 5, 6, 7, 8, 9, 10], 256, [0]),  # alone, because it is the oldest
        ([200, 100, 101, 102], 210, [0]),
    ],
)
def test_choose_batch(lengths: list[int], budget: int, batch: list[int]) -> None:
    assert choose_batch(lengths, budget) == batch


def test_batches_drain_any_queue_oldest_first() -> None:
    random.seed(0)
    for _ in range(200):
        budget = random.choice([1, 40, 256])
        lengths = [random.randint(1, 99) for _ in range(random.randint(1, 40))]
        runs = 0
        while lengths:
            batch = choose_batch(lengths, budget)
            chosen = [lengths[i] for i in batch]
            assert 0 in batch
            assert len(set(batch)) == len(batch)
            assert len(batch) == 1 or len(batch) * max(chosen) <= budget
            for before in range(1, len(batch)):
                assert before * (chosen[before] - chosen[before - 1]) <= 8
            lengths = [length for i, length in enumerate(lengths) if i not in batch]
            runs += 1
            assert runs <= 40


def take_all(turns: Turns) -> list[list[int]]:
    batches = []
    while turns:
        batches.append([part.length for part in turns.take()])
    return batches


def test_a_batch_may_have_parts_of_several_requests(fakes: Any) -> None:
    turns = Turns(40)
    for lengths in ([10, 30, 11], [12], [31]):
        turns.add(fakes.one(*lengths))
    assert take_all(turns) == [[30], [10, 11, 12], [31]]


def test_requests_for_other_outputs_are_in_another_batch(fakes: Any) -> None:
    turns = Turns(100)
    for request in (
        fakes.one(5, outputs=("a",)),
        fakes.one(6),
        fakes.one(7, outputs=("a",), tokens="first"),
        fakes.one(8, outputs=("a",)),
        fakes.one(),
        fakes.one(9),
    ):
        turns.add(request)
    assert take_all(turns) == [[5, 8], [6, 9], [7], [0]]


def test_an_input_that_runs_itself_comes_alone(fakes: Any) -> None:
    turns = Turns(100)
    turns.add(fakes.one(5, 6, runs_itself=True))
    turns.add(fakes.one(7, runs_itself=True))
    assert take_all(turns) == [[11], [7]]


def test_a_large_request_shares_its_batches_with_others(fakes: Any) -> None:
    turns = Turns(40)
    large, single = fakes.many(*[10] * 2048), fakes.one(10)
    turns.add(large)
    turns.add(single)
    batch = turns.take()
    assert [part.request is single for part in batch].count(True) == 1
    assert len(batch) == 4


def test_a_large_request_delays_one_of_another_length_by_one_batch(fakes: Any) -> None:
    turns = Turns(40)
    large = fakes.many(*[10] * 2048)
    turns.add(large)
    turns.take()
    singles = [fakes.one(length) for length in (39, 25, 38)]
    for single in singles:
        turns.add(single)
    order = [turns.take()[0].request for _ in range(8)]
    # The large request was first in line, and has every fourth batch while the others wait.
    assert order[:4] == [large, *singles]
    assert order[4:] == [large] * 4


def test_large_requests_alternate(fakes: Any) -> None:
    turns = Turns(20)
    first, second = fakes.many(*[10] * 40), fakes.many(*[20] * 20)
    turns.add(first)
    turns.add(second)
    assert [turns.take()[0].request for _ in range(6)] == [first, second] * 3


def test_a_stream_of_singles_does_not_starve_a_large_request(fakes: Any) -> None:
    turns = Turns(40)
    large = fakes.many(*[10] * 12)
    turns.add(large)
    singles = [fakes.one(39) for _ in range(3)]
    for single in singles:
        turns.add(single)
    batches = 0
    while large.waiting:
        turns.take()
        turns.add(fakes.one(39))  # one more for each that leaves
        batches += 1
        assert batches < 40
    assert batches > 3


def test_singles_are_merged_as_far_as_the_budget_goes(fakes: Any) -> None:
    turns = Turns(256)
    for index in range(300):
        turns.add(fakes.one(8 + index % 3))
    batches = take_all(turns)
    assert sum(map(len, batches)) == 300
    assert len(batches) <= 12 + 3  # 300 rows of at most 10 tokens fit into 12


def test_parts_of_a_removed_request_do_not_run(fakes: Any) -> None:
    turns = Turns(10)
    removed, kept = fakes.many(10, 10), fakes.one(10)
    turns.add(removed)
    turns.add(kept)
    turns.take()
    turns.remove(removed)
    turns.remove(removed)
    assert [part.request for part in turns.take()] == [kept]
    assert not turns
