"""The options of an int8 export, checked before any work is done."""

from dataclasses import dataclass
from pathlib import Path

from bertrt.errors import ExportError
from bertrt.export.quantize.texts import read_texts

__all__ = ["QuantizationOptions", "check_quantization_options"]


@dataclass(frozen=True)
class QuantizationOptions:
    """The options of an int8 export.

    Attributes:
        calibration: the file of texts or, for a reranker, pairs; None for the built-in ones.
        min_cosine, min_agreement: the accuracy bounds; None for the defaults.
    """

    calibration: Path | None = None
    min_cosine: float | None = None
    min_agreement: float | None = None


def check_quantization_options(
    dtype: str,
    *,
    calibration: str | Path | None,
    min_cosine: float | None,
    min_agreement: float | None,
) -> QuantizationOptions | None:
    """Return the options of an int8 export; None for another dtype.

    Raises ExportError for options of int8 with another dtype, a bound outside 0 to 1, or a file of
    texts that cannot be used.
    """
    bounds = {"min_cosine": min_cosine, "min_agreement": min_agreement}
    if dtype != "int8":
        for name, value in {"calibration": calibration, **bounds}.items():
            if value is not None:
                raise ExportError(f"{name} is {value!r}, which is for int8 only: add dtype 'int8'")
        return None
    for name, bound in bounds.items():
        if bound is not None and not (isinstance(bound, (int, float)) and 0 < bound < 1):
            raise ExportError(f"{name} is {bound!r}: give a number above 0 and below 1")
    path = None if calibration is None else Path(calibration)
    if path is not None:
        read_texts(path)
    return QuantizationOptions(path, min_cosine, min_agreement)
