"""JSON lines of a table say what the table has."""

import json
from typing import Any

import numpy as np
import pytest

from bertrt.batch.table_json import json_lines

pa = pytest.importorskip("pyarrow")


def rows(table: Any) -> list[dict[str, Any]]:
    lines = list(json_lines(table))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("type", "values"),
    [
        (pa.int64(), [1, None, -(2**62)]),
        (pa.bool_(), [True, None, False]),
        (pa.string(), ["a", None, '"\n\u2028\U0001f642\\']),
        (pa.float64(), [0.1, None, 1e300]),
        (pa.list_(pa.int32()), [[1, 2], None, []]),
        (pa.list_(pa.float64()), [[0.5, -1e-7], [], None]),
        (pa.list_(pa.uint8(), 2), [[1, 2], None, [3, 4]]),
        (pa.list_(pa.list_(pa.float32(), 2)), [[[0.5, 1.5], [2.5, 3.5]], None, []]),
    ],
    ids=str,
)
def test_values(type: Any, values: list[Any]) -> None:
    table = pa.table({"a": pa.array(values, type)})
    assert [row["a"] for row in rows(table)] == values
    whole = pa.table({"a": pa.array([*values, *values], type)})
    assert [row["a"] for row in rows(whole.slice(1, 4))] == [*values, *values][1:5]
    assert rows(table.slice(0, 0)) == []


def test_float32_is_given_back() -> None:
    numbers = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    numbers[0, :3] = [np.finfo(np.float32).tiny, np.finfo(np.float32).max, 1 / 3]
    table = pa.table({"a": pa.FixedSizeListArray.from_arrays(numbers.reshape(-1), 8)})
    lines = list(json_lines(table))
    assert np.array_equal(np.float32([json.loads(line)["a"] for line in lines]), numbers)
    assert "0.33333334" in lines[0]  # and no digit more


def test_an_answer_is_json_already() -> None:
    table = pa.table({"id": ['{"a"'], "answer": ['[{"word": "paris"}]']})
    assert rows(table) == [{"id": '{"a"', "answer": [{"word": "paris"}]}]
