"""What tables and plots show, made from a run's rows: pure data, no drawing and no files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from contender import BASELINES

__all__ = [
    "STREAM_NUMBERS",
    "Bar",
    "Curve",
    "absent",
    "amount",
    "amounts",
    "baseline",
    "contenders",
    "curves",
    "error_text",
    "groups",
    "not_timed",
    "ratios",
    "shapes",
    "speedup",
    "three_digits",
    "throughput",
    "timed",
    "worst_error",
]

# What a stream's plot and table call its numbers, and the rows' fields.
STREAM_NUMBERS = {
    "p50, ms": "median_ms",
    "p95, ms": "p95_ms",
    "p99, ms": "p99_ms",
    "answered, texts/s": "throughput",
}

_UNITS = {"texts_per_s": "texts/s", "mib": "MiB"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One contender's bar: a value with the ends of its interval, and the note beside it."""

    title: str
    precision: str
    ours: bool
    value: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class Curve:
    """One contender's numbers over the offered load."""

    title: str
    precision: str
    ours: bool
    live: bool
    loads: list[float] = field(default_factory=list)
    # Each of p50, p95 and p99 in ms, and the throughput in texts per second.
    numbers: dict[str, list[float]] = field(default_factory=dict)


def baseline(rows: Sequence[Row]) -> str:
    """What a run's ratios are to, when nobody says otherwise."""
    return BASELINES["cuda" if "gpu" in rows[0]["machine"] else "cpu"]


def groups(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Rows by (workload, model, task), in the order in which they came."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["workload"], row["model"], row["task"]), []).append(row)
    return found


def timed(rows: Iterable[Row]) -> list[Row]:
    """The rows that have numbers."""
    return [row for row in rows if row["status"] == "timed"]


def shapes(rows: Iterable[Row]) -> list[str]:
    """The shapes of the timed rows, in the order in which they came."""
    return list(dict.fromkeys(row["shape"] for row in timed(rows)))


def contenders(rows: Iterable[Row]) -> dict[str, str]:
    """Contender to title, of the timed rows, in the order in which they came."""
    return {row["contender"]: row["title"] for row in timed(rows)}


def not_timed(rows: Iterable[Row]) -> list[str]:
    """One line for each contender and reason: what has no number, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["status"] == "refused":
            found.setdefault((row["title"], row["reason"]), []).append(row["shape"])
    lines = []
    for (title, reason), at in found.items():
        where = f" at {', '.join(at)}" if all(at) else ""
        lines.append(f"{title}{where}: {reason}")
    return lines


def speedup(row: Row, against: str) -> list[float] | None:
    """How many times better than `against`: [ratio, low, high]; None where that is not known."""
    if row["contender"] == against:
        return [1.0, 1.0, 1.0]
    known: dict[str, list[float]] = row.get("speedup", {})
    return known.get(against)


def ratios(rows: Iterable[Row], against: str) -> list[Bar]:
    """A bar for each timed row: how many times better than `against`, with its interval.

    A row that was not compared with `against` has no bar.
    """
    return [_bar(row, ratio, against) for row in timed(rows) if (ratio := speedup(row, against))]


def amounts(rows: Iterable[Row], against: str) -> list[Bar]:
    """A bar for each timed row: the number itself in its own unit, with p20 and p80."""
    return [_bar(row, [row[key] for key in _keys(row)], against) for row in timed(rows)]


def absent(rows: Sequence[Row]) -> list[str]:
    """The titles of those who have no number at all."""
    present = {row["contender"] for row in timed(rows)}
    return list(dict.fromkeys(row["title"] for row in rows if row["contender"] not in present))


def curves(rows: Iterable[Row]) -> list[Curve]:
    """A curve for each contender of a stream, its points in the order of the load."""
    found: dict[str, Curve] = {}
    for row in sorted(timed(rows), key=lambda row: row["load"]):
        curve = found.setdefault(
            row["contender"],
            Curve(row["title"], row["precision"], is_ours(row), row["contender"].endswith("_live")),
        )
        curve.loads.append(row["load"])
        for name, key in STREAM_NUMBERS.items():
            curve.numbers.setdefault(name, []).append(row[key])
    order = contenders(rows)
    return [found[name] for name in order]


def is_ours(row: Row) -> bool:
    """Whether the contender is bertrt, in any form."""
    return bool(row["contender"].startswith("bertrt"))


def amount(row: Row) -> str:
    """A row's number with its unit, three digits of it."""
    value = row[_keys(row)[0]]
    if "metric" in row:
        return f"{three_digits(value)} {_UNITS[row['metric']]}"
    return f"{three_digits(value / 1000)} s" if value >= 10_000 else f"{three_digits(value)} ms"


def throughput(row: Row) -> str:
    """The texts per second of a batch on a GPU, which batches are to fill; "" of anything else."""
    if row["workload"] != "fixed" or "gpu" not in row["machine"]:
        return ""
    batch = int(row["shape"].partition("x")[0])
    return f"{three_digits(1000 * batch / row['median_ms'])} texts/s" if batch > 1 else ""


def error_text(row: Row) -> str:
    """How far a row's answers are from eager PyTorch in float32; "" where that is not known.

    For embeddings the worst cosine; otherwise the worst absolute difference of a logit, and the
    share of texts with the same best answer.
    """
    error = row.get("error") or {}
    if not error:
        return ""
    if row["task"] == "embeddings":
        return f"cos {_cosine(error['worst_cosine'])}"
    # Python writes exponents with two digits.
    most = f"{error['max_abs']:.1g}".replace("e-0", "e-")
    return f"±{most}, same {_share(error['argmax_agreement'])}"


def worst_error(rows: Sequence[Row]) -> str:
    """The error of several rows of one contender: the worst of each number."""
    errors = [row["error"] for row in rows if row.get("error")]
    if not errors:
        return ""
    worst = {
        "max_abs": max(error["max_abs"] for error in errors),
        "worst_cosine": min(error["worst_cosine"] for error in errors),
        "argmax_agreement": min(error["argmax_agreement"] for error in errors),
    }
    return error_text({**rows[0], "error": worst})


def _bar(row: Row, numbers: Sequence[float], against: str) -> Bar:
    """The note: the number, how many times better than `against` that is, and the error."""
    ratio = speedup(row, against)
    times = f"{ratio[0]:.2f}×" if ratio and row["contender"] != against else ""
    note = ", ".join(part for part in (amount(row), times, error_text(row)) if part)
    value, low, high = numbers
    return Bar(row["title"], row["precision"], is_ours(row), value, low, high, note)


def _keys(row: Row) -> tuple[str, str, str]:
    """The fields of a row's median, p20 and p80."""
    if "metric" in row:
        return ("median", "p20", "p80")
    return ("median_ms", "p20_ms", "p80_ms")


def _cosine(value: float) -> str:
    """Cut, not rounded, so that 0.99996 does not read as 1; but float32 cannot tell 1 - 5e-7."""
    if value >= 1 - 5e-7:
        return "1.000000"
    digits = 6 if value > 0.9999 else 4
    scale = 10**digits
    return f"{int(value * scale) / scale:.{digits}f}"


def _share(value: float) -> str:
    return "100 %" if value == 1 else f"{int(value * 1000) / 10:g} %"


def three_digits(value: float) -> str:
    """Three digits, and no exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
