"""Write JSON in pieces, since the writer holds the interpreter's lock until it has written all."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

__all__ = ["write_pieces"]

# About the bytes of a piece, which takes well below a millisecond.
_PIECE = 1 << 18
# About the bytes of a number, and of a field's name.
_NUMBER, _NAME = 12, 16


def write_pieces(value: Any) -> Iterator[bytes]:
    """Yield a value's JSON; numpy arrays are lists of numbers that give each float32 back."""
    if isinstance(value, dict) and _size(value) > _PIECE:
        for place, (name, item) in enumerate(value.items()):
            yield (b"," if place else b"{") + orjson.dumps(name) + b":"
            yield from write_pieces(item)
        yield b"}"
    elif isinstance(value, (list, np.ndarray)) and len(value) > 1 and _size(value) > _PIECE:
        yield b"["
        for place, part in enumerate(_parts(value)):
            if place:
                yield b","
            if len(part) == 1:
                yield from write_pieces(part[0])
            else:
                yield _dump(part)[1:-1]
        yield b"]"
    else:
        yield _dump(value)


def _parts(value: Any) -> Iterator[Any]:
    """Yield the parts of a list or an array, each about a piece or a single item."""
    if isinstance(value, np.ndarray):
        rows = max(1, _PIECE // (_NUMBER * value[0].size))
        yield from (value[start : start + rows] for start in range(0, len(value), rows))
        return
    start = size = 0
    for place, item in enumerate(value):
        more = _size(item)
        if place > start and size + more > _PIECE:
            yield value[start:place]
            start, size = place, 0
        size += more
    yield value[start:]


def _size(value: Any) -> int:
    """Return about how many bytes a value's JSON has."""
    if isinstance(value, np.ndarray):
        return _NUMBER * value.size
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_NAME + _size(item) for item in value.values())
    if isinstance(value, list):
        if value and isinstance(value[0], (int, float)):
            return _NUMBER * len(value)
        return sum(map(_size, value))
    return _NUMBER


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
