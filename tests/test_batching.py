"""The batch plan: every row once, lengths alike, no batch over the budget."""

import random

import pytest

from bertrt.batching import plan


@pytest.mark.parametrize("seed", range(5))
def test_plan(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [min(512, int(draw.lognormvariate(3, 1)) + 1) for _ in range(draw.randrange(1, 300))]
    batches = plan(lengths, budget=256)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= 256 or len(batch) == 1
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(order)


def test_plan_of_nothing() -> None:
    assert plan([]) == []
