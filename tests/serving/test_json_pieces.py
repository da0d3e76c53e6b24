"""JSON that is written in pieces is what the writer gives at once, and no piece is large."""

from typing import Any

import numpy as np
import orjson
import pytest

from bertrt.serving.json_pieces import _PIECE, write_pieces

RANDOM = np.random.default_rng(0)
WIDE = RANDOM.standard_normal((700, 384)).astype(np.float32)
UNEVEN = [RANDOM.standard_normal((n, 64)).tolist() for n in (1, 900, 3, 1, 0, 700)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "text",
        [],
        {},
        [[]],
        [{"a": []}],
        WIDE[:2],
        WIDE,
        WIDE[0],
        WIDE.reshape(-1),
        WIDE.reshape(7, 100, 384),
        WIDE[:, None],
        UNEVEN,
        {"object": "list", "data": [{"index": i, "embedding": row} for i, row in enumerate(WIDE)]},
        {"a": "x", "b": ["y" * 100_000] * 9, "c": {"d": UNEVEN}},
        [{"label": "a", "score": 0.5}] * 30_000,
        [["y" * 1_000_000], "z"],
        list(range(100_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pieces(value: Any) -> None:
    pieces = list(write_pieces(value))
    assert b"".join(pieces) == orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    # A text is not divided.
    assert max(map(len, pieces)) < 2 * _PIECE or "y" in str(value)[:100_100]
