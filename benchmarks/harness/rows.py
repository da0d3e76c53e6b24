"""The rows of a results file: plain dicts, ready for JSON, one for each thing measured."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.contenders.registry import find
from benchmarks.data.models import Model

__all__ = ["Row", "distinct", "refused", "timed"]

Row = dict[str, Any]


def timed(
    workload: str,
    model: Model,
    task: str,
    contender: str,
    *,
    shape: str = "",
    versions: Mapping[str, str],
    error: Mapping[str, float],
    **measured: Any,
) -> Row:
    """Return the row of a measurement.

    `measured` has median_ms, p20_ms, p80_ms and n, and the fields that the workload adds.
    """
    row = _row(workload, model, task, contender, shape)
    return {**row, "status": "timed", "versions": dict(versions), "error": dict(error), **measured}


def refused(
    workload: str,
    model: Model,
    task: str,
    contender: str,
    reason: str,
    *,
    shape: str = "",
    **found: Any,
) -> Row:
    """Return the row of a contender that was not timed; `found` may have a wrong answer's error."""
    row = _row(workload, model, task, contender, shape)
    return {**row, "status": "refused", "reason": reason, **found}


def distinct(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the first row of each contender and shape: the baseline is in every group."""
    seen = set()
    for row in rows:
        key = (row["contender"], row["shape"])
        if key not in seen:
            seen.add(key)
            yield row


def _row(workload: str, model: Model, task: str, contender: str, shape: str) -> Row:
    found = find(contender)
    return {
        "workload": workload,
        "model": model.name,
        "weights": model.weights,
        "task": task,
        "contender": contender,
        "title": found.title,
        "precision": found.precision,
        "shape": shape,
    }
