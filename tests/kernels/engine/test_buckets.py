"""Test that sizes are rounded up by little, and to few buckets."""

from pathlib import Path

import numpy as np
import pytest

from bertrt.kernels.engine.buckets import (
    Bucket,
    choose_bucket,
    round_length,
    round_rows,
    round_sequences,
)
from bertrt.kernels.engine.graph import read_graph
from bertrt.kernels.engine.plan import make_plan


def test_rows_are_rounded_up_by_less_than_an_eighth() -> None:
    assert round_rows(0) == 8
    rounded = [round_rows(count) for count in range(1, 20_000)]
    assert rounded == sorted(rounded)
    for count, size in enumerate(rounded, start=1):
        assert size >= count
        assert size % 8 == 0
        assert size - count < max(8, count / 8)
        assert round_rows(size) == size
    # Eight sizes up to 64, and eight per doubling after.
    assert len(set(rounded)) <= 8 + 8 * 9


@pytest.mark.parametrize(
    ("count", "rows", "sequences", "length"),
    [(0, 8, 1, 32), (1, 8, 1, 32), (3, 8, 4, 32), (9, 16, 16, 32), (65, 72, 128, 128)],
)
def test_rounded_sizes(count: int, rows: int, sequences: int, length: int) -> None:
    assert round_rows(count) == rows
    assert round_sequences(count) == sequences
    assert round_length(count) == length


def test_choose_bucket(tiny_path: Path) -> None:
    plan = make_plan(read_graph(tiny_path)[0], ["logits"])
    assert plan.uploads == ("ids", "types", "positions", "offsets", "picked")
    tokens = np.zeros(40 + 3 + 3, np.int32)
    arrays = {
        **dict.fromkeys(("ids", "types", "positions"), tokens),
        "offsets": np.array([0, 40, 43, 46], np.int32),
        "picked": np.zeros(0, np.int32),
    }
    assert choose_bucket(plan, arrays) == Bucket((48, 48, 48, 5, 8), 64)
