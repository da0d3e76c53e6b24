"""What tables and plots show, computed from rows: pure data, no drawing and no files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contenders.registry import BASELINES

__all__ = [
    "LIVE_NUMBERS",
    "MODELS",
    "Bar",
    "Curve",
    "Row",
    "amount",
    "bars_of_amounts",
    "bars_of_ratios",
    "bars_of_tails",
    "baseline",
    "contenders",
    "curves",
    "error_text",
    "groups",
    "is_bertrt",
    "not_timed",
    "shapes",
    "speedup",
    "three_digits",
    "throughput",
    "timed",
    "worst_error",
]

MODELS = {"minilm": "MiniLM", "bert-base": "BERT-base", "bert-large": "BERT-large"}
# The numbers of live requests in tables, and the rows' fields.
LIVE_NUMBERS = {
    "p50, ms": "median_ms",
    "p95, ms": "p95_ms",
    "p99, ms": "p99_ms",
    "answered, texts/s": "throughput",
}

_UNITS = {
    "texts_per_s": "texts/s",
    "mib": "MiB",
    "ms": "ms",
    "requests": "",
    "times": "times",
    "status": "",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """One contender's bar: a value, the ends of its interval, and the label beside it."""

    title: str
    contender: str
    value: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Curve:
    """One contender's numbers over the offered load."""

    title: str
    contender: str
    loads: list[float] = field(default_factory=list)
    # By field of the rows: p50, p95 and p99 in ms, and the throughput in texts per second.
    numbers: dict[str, list[float]] = field(default_factory=dict)


def baseline(rows: Sequence[Row]) -> str:
    """Return the contender that ratios are relative to by default."""
    return BASELINES["cuda" if "gpu" in rows[0]["machine"] else "cpu"]


def groups(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Group rows by (workload, model, task), in their order."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["workload"], row["model"], row["task"]), []).append(row)
    return found


def timed(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that have numbers."""
    return [row for row in rows if row["status"] == "timed"]


def shapes(rows: Iterable[Row]) -> list[str]:
    """Return the shapes of the timed rows, in their order."""
    return list(dict.fromkeys(row["shape"] for row in timed(rows)))


def contenders(rows: Iterable[Row]) -> dict[str, str]:
    """Return the titles of the timed contenders by name, in their order."""
    return {row["contender"]: row["title"] for row in timed(rows)}


def not_timed(rows: Iterable[Row]) -> list[str]:
    """Return one line for each contender and reason that it was not timed."""
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
    """Return how many times better than `against`, [ratio, low, high]; None if it is unknown."""
    if row["contender"] == against:
        return [1.0, 1.0, 1.0]
    known: dict[str, list[float]] = row.get("speedup", {})
    return known.get(against)


def bars_of_ratios(rows: Iterable[Row], against: str) -> list[Bar]:
    """Return a bar for each timed row: how many times better than `against`, with its interval.

    A row that was not compared with `against` has no bar.
    """
    bars = []
    for row in timed(rows):
        if (ratio := speedup(row, against)) is not None:
            value, low, high = ratio
            label = f"{value:.1f}×  {amount(row)}"
            bars.append(Bar(row["title"], row["contender"], value, low, high, label))
    return bars


def bars_of_amounts(rows: Iterable[Row]) -> list[Bar]:
    """Return a bar for each timed row: the number in its unit, with p20 and p80."""
    bars = []
    for row in timed(rows):
        value, low, high = (row[key] for key in _keys(row))
        bars.append(Bar(row["title"], row["contender"], value, low, high, amount(row)))
    return bars


def bars_of_tails(rows: Iterable[Row]) -> list[Bar]:
    """Return a bar for each timed row of an offered load: the 99th percentile of the latency."""
    return [
        Bar(
            row["title"],
            row["contender"],
            *[row["p99_ms"]] * 3,
            f"{three_digits(row['p99_ms'])} ms",
        )
        for row in timed(rows)
    ]


def curves(rows: Iterable[Row]) -> list[Curve]:
    """Return a curve for each contender of live requests, its points ordered by load."""
    found: dict[str, Curve] = {}
    for row in sorted(timed(rows), key=lambda row: row["load"]):
        curve = found.setdefault(row["contender"], Curve(row["title"], row["contender"]))
        curve.loads.append(row["load"])
        for key in LIVE_NUMBERS.values():
            curve.numbers.setdefault(key, []).append(row[key])
    return [found[name] for name in contenders(rows)]


def is_bertrt(contender: str) -> bool:
    """Return whether a contender is bertrt, in any form."""
    return contender.startswith("bertrt")


def amount(row: Row) -> str:
    """Return a row's number with its unit, to three digits."""
    value = row[_keys(row)[0]]
    if "metric" in row:
        return f"{three_digits(value)} {_UNITS[row['metric']]}".strip()
    return f"{three_digits(value / 1000)} s" if value >= 10_000 else f"{three_digits(value)} ms"


def throughput(row: Row) -> str:
    """Return the texts per second of a batch on a GPU, or "" for anything else."""
    if row["workload"] != "fixed" or "gpu" not in row["machine"]:
        return ""
    batch = int(row["shape"].partition("x")[0])
    return f"{three_digits(1000 * batch / row['median_ms'])} texts/s" if batch > 1 else ""


def error_text(row: Row) -> str:
    """Return how far a row's answers are from eager PyTorch's in float32; "" if unknown.

    For embeddings the worst cosine; otherwise the largest absolute difference of a logit, and the
    share of texts with the same best answer.
    """
    error = row.get("error") or {}
    if not error:
        return ""
    if row["task"] == "embeddings":
        return f"cos {_cosine(error['worst_cosine'])}"
    # Python writes exponents with two digits.
    largest = f"{error['max_abs']:.1g}".replace("e-0", "e-")
    return f"±{largest}, same {_share(error['argmax_agreement'])}"


def worst_error(rows: Sequence[Row]) -> str:
    """Return the error of several rows of one contender, with the worst of each number."""
    errors = [row["error"] for row in rows if row.get("error")]
    if not errors:
        return ""
    worst = {
        "max_abs": max(error["max_abs"] for error in errors),
        "worst_cosine": min(error["worst_cosine"] for error in errors),
        "argmax_agreement": min(error["argmax_agreement"] for error in errors),
    }
    return error_text({**rows[0], "error": worst})


def three_digits(value: float) -> str:
    """Format a number with three digits and no exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _keys(row: Row) -> tuple[str, str, str]:
    """Return the fields of a row's median, p20 and p80."""
    if "metric" in row:
        return ("median", "p20", "p80")
    return ("median_ms", "p20_ms", "p80_ms")


def _cosine(value: float) -> str:
    """Truncate, so that 0.99996 does not read as 1; float32 cannot represent 1 - 5e-7."""
    if value >= 1 - 5e-7:
        return "1.000000"
    digits = 6 if value > 0.9999 else 4
    scale = 10**digits
    return f"{int(value * scale) / scale:.{digits}f}"


def _share(value: float) -> str:
    return "100 %" if value == 1 else f"{int(value * 1000) / 10:g} %"
