"""Rounds: each contender has every position, and ratios are taken within rounds."""

import itertools

import numpy as np
import pytest

from benchmarks.harness.rounds import rotations, speedup, speedups, summary

NAMES = ["a", "b", "c"]


def test_each_round_has_every_contender_once() -> None:
    for order in rotations(NAMES, 7):
        assert sorted(order) == NAMES


def test_each_contender_is_first_once_and_follows_every_other() -> None:
    orders = list(rotations(NAMES, 6))
    assert {order[0] for order in orders} == set(NAMES)
    followers = {pair for order in orders for pair in itertools.pairwise(order)}
    assert followers == {(a, b) for a in NAMES for b in NAMES if a != b}


def test_no_contenders_give_empty_rounds() -> None:
    assert list(rotations([], 2)) == [[], []]


def test_summary_is_in_milliseconds() -> None:
    assert summary([0.001, 0.002, 0.003, 0.004, 0.005, 0.006]) == {
        "median_ms": pytest.approx(3.5),
        "p20_ms": pytest.approx(2.0),
        "p80_ms": pytest.approx(5.0),
        "n": 6,
    }


def test_a_slower_machine_does_not_change_the_ratio() -> None:
    mine = np.array([1.0, 2.0, 8.0, 1.0, 4.0])
    ratio, low, high = speedup(mine.tolist(), (3 * mine).tolist())
    assert (ratio, low, high) == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_contains_the_ratio_and_is_reproducible() -> None:
    random = np.random.default_rng(0)
    mine = random.uniform(1.0, 1.1, 15).tolist()
    theirs = random.uniform(1.9, 2.3, 15).tolist()
    ratio, low, high = speedup(mine, theirs)
    assert 1.7 < low <= ratio <= high < 2.3
    assert speedup(mine, theirs) == [ratio, low, high]
    assert low < high


@pytest.mark.parametrize(("mine", "theirs"), [([1.0], [1.0, 2.0]), ([], [])])
def test_unequal_numbers_of_rounds_are_refused(mine: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="rounds have no ratio"):
        speedup(mine, theirs)


def test_speedups_are_relative_to_each_other_contender() -> None:
    times = {"fast": [1.0, 1.0], "slow": [2.0, 2.0], "slower": [4.0, 4.0]}
    found = speedups(times, "fast")
    assert {name: ratio for name, (ratio, _, _) in found.items()} == {"slow": 2.0, "slower": 4.0}
