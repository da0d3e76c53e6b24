"""Store vectors in fewer bytes: one byte or one bit a number, as sentence-transformers does."""

from typing import Any

import numpy as np

from bertrt.errors import InputError, shorten

__all__ = ["PRECISIONS", "check_precision", "quantize_embeddings", "read_ranges", "require_ranges"]

# The data type of each precision. "binary" and "ubinary" hold eight numbers in a byte.
PRECISIONS: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}
_SCALAR = ("int8", "uint8")


def quantize_embeddings(
    embeddings: Any, precision: str, ranges: Any = None, calibration: Any = None
) -> np.ndarray:
    """Quantize vectors as `sentence_transformers.quantize_embeddings` does, to the same numbers.

    Args:
        embeddings: vectors, float [n, H], or a single one, float [H].
        precision: "float32"; "uint8" and "int8", 256 equal steps from a dimension's minimum, where
            they are 0 and -128, to its maximum, with values beyond them clipped; "ubinary", one bit
            for each number, 1 if it is above 0, and "binary", the same bytes less 128.
        ranges: for int8 and uint8, the minimum and the maximum of each dimension, float [2, H].
        calibration: for int8 and uint8 without `ranges`, vectors float [m, H] to take the ranges
            from; None takes them from `embeddings`. Below some hundred vectors these say little.

    Returns int8 or uint8 [n, H], or [n, ceil(H / 8)] of the binary ones, whose first number is in
    the highest bit and whose last byte is filled with zeros; float32 [n, H]. No n for a single one.

    Raises InputError for arrays or a precision that cannot be used, and for int8 and uint8 of a
    single vector without `ranges` and `calibration`.
    """
    check_precision(precision)
    vectors = _read_vectors("embeddings", embeddings)
    if precision in ("binary", "ubinary"):
        packed: np.ndarray = np.packbits(vectors > 0, axis=-1)
        return packed if precision == "ubinary" else _signed(packed)
    if precision == "float32":
        return vectors.astype(np.float32)
    if not len(vectors):
        return np.empty(vectors.shape, PRECISIONS[precision])
    _check_finite("embeddings", vectors)
    if ranges is None:
        ranges = _ranges_of(vectors, precision, calibration)
    levels = _levels(vectors, read_ranges(ranges, vectors.shape[-1]))
    return levels if precision == "uint8" else _signed(levels)


def check_precision(precision: Any, ranges: Any = None) -> None:
    """Raise InputError unless `precision` is one of `PRECISIONS`, and one for ranges if given."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InputError(f"precision is {shorten(precision)}: use one of {', '.join(PRECISIONS)}")
    if ranges is not None and precision not in _SCALAR:
        raise InputError(f"precision is {precision!r}, which has no ranges: use int8 or uint8")


def require_ranges(precision: str, ranges: Any, what: str) -> None:
    """Raise InputError if the precision needs ranges, there are none, and `what` has none."""
    if precision in _SCALAR and ranges is None:
        raise InputError(
            f"precision is {precision!r}, which needs the ranges of many vectors, and {what} has "
            "none: give ranges, the minimum and the maximum of each dimension, [2, H]"
        )


def read_ranges(ranges: Any, size: int) -> np.ndarray:
    """Return ranges as float32 [2, size]. Raises InputError for anything else."""
    array = _read_numbers("ranges", ranges)
    if array.shape != (2, size):
        raise InputError(
            f"ranges has the shape {list(array.shape)}: give [2, {size}], the minimum and the "
            "maximum of each dimension"
        )
    _check_finite("ranges", array)
    if (array[0] > array[1]).any():
        raise InputError("ranges has a minimum above its maximum: give [minima, maxima]")
    result: np.ndarray = array.astype(np.float32)
    return result


def _ranges_of(vectors: np.ndarray, precision: str, calibration: Any) -> np.ndarray:
    """Return the least and the greatest number of each dimension, [2, H]."""
    if calibration is None:
        if vectors.ndim == 1 or len(vectors) == 1:
            require_ranges(precision, None, "a single vector")
    else:
        vectors = _read_vectors("calibration", calibration)
        if vectors.ndim != 2 or not len(vectors):
            raise InputError(
                f"calibration has the shape {list(vectors.shape)}: give vectors, [m, H]"
            )
        _check_finite("calibration", vectors)
    return np.stack((vectors.min(axis=0), vectors.max(axis=0)))


def _levels(vectors: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Return which of 256 steps each number is in, uint8 [n, H]."""
    starts = ranges[0]
    steps = (ranges[1] - starts) / 255
    # A dimension that is the same everywhere has no steps.
    steps = np.where(steps == 0, np.float32(1), steps)
    levels: np.ndarray = np.clip(np.floor((vectors - starts) / steps), 0, 255)
    return levels.astype(np.uint8)


def _signed(values: np.ndarray) -> np.ndarray:
    """Return uint8 values less 128, as int8: their highest bit is flipped."""
    return (values ^ 0x80).view(np.int8)


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise InputError(f"{name} has a number that is not finite: it has no place in 256 steps")


def _read_vectors(name: str, value: Any) -> np.ndarray:
    array = _read_numbers(name, value)
    if array.ndim not in (1, 2):
        raise InputError(f"{name} has the shape {list(array.shape)}: give [n, H] or [H]")
    if array.dtype in (np.int8, np.uint8):
        raise InputError(f"{name} is {array.dtype}, which is quantized already: give floats")
    return array


def _read_numbers(name: str, value: Any) -> np.ndarray:
    """Return a value as an array of numbers, in its own precision."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is no array of numbers ({error}): give floats") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} is {shorten(value)}: give an array of floats")
    return array
