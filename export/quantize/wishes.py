"""What a user may ask of an int8 export, checked before any work is done."""

from dataclasses import dataclass
from pathlib import Path

from bertrt.errors import ExportError
from bertrt.export.quantize.texts import read_texts

__all__ = ["DTYPES", "Wishes", "check_wishes"]

DTYPES = ("float32", "int8")


@dataclass(frozen=True)
class Wishes:
    """An int8 export's texts (None: the built-in ones) and bounds (None: the usual ones)."""

    calibration: Path | None = None
    min_cosine: float | None = None
    min_agreement: float | None = None


def check_wishes(
    dtype: str,
    device: str,
    *,
    calibration: str | Path | None,
    min_cosine: float | None,
    min_agreement: float | None,
) -> Wishes | None:
    """The wishes of an int8 export; None for float32.

    Raises ExportError for an unknown dtype, int8 for a device that has none, options of int8
    without it, a bound outside 0 to 1, or a file of texts that cannot be used.
    """
    if dtype not in DTYPES:
        raise ExportError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    given = {
        "calibration": calibration,
        "min_cosine": min_cosine,
        "min_agreement": min_agreement,
    }
    if dtype == "float32":
        for name, value in given.items():
            if value is not None:
                raise ExportError(f"{name} is {value!r}, which is for int8 only: add dtype 'int8'")
        return None
    if device != "cpu":
        raise ExportError(f"int8 graphs are made for the device 'cpu', not {device!r}")
    for name in ("min_cosine", "min_agreement"):
        bound = given[name]
        if bound is not None and not (isinstance(bound, (int, float)) and 0 < bound < 1):
            raise ExportError(f"{name} is {bound!r}: give a number above 0 and below 1")
    path = None if calibration is None else Path(calibration)
    if path is not None:
        read_texts(path)
    return Wishes(path, min_cosine, min_agreement)
