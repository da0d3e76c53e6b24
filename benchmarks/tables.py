"""A run as Markdown: a table for each workload, model and task, and what was not timed."""

from collections.abc import Sequence

from views import (
    STREAM_NUMBERS,
    Row,
    amount,
    baseline,
    contenders,
    groups,
    not_timed,
    shapes,
    speedup,
    three_digits,
    throughput,
    timed,
    worst_error,
)

__all__ = ["markdown"]

_TITLES = {
    "fixed": "Fixed shapes (batch x sequence)",
    "ragged": "Mixed lengths, as padded batches of token ids",
    "mixed": "Mixed lengths",
    "stream": "A live stream",
    "cold_start": "Cold start, files in the page cache",
    "memory": "Memory",
}


def markdown(rows: Sequence[Row], against: str | None = None) -> str:
    """The tables of one run's rows; ratios are to the contender `against`, above 1 is better.

    None is the baseline of the device that the run was on.
    """
    against = against or baseline(rows)
    parts = [_heading(rows)]
    for (workload, model, task), group in groups(rows).items():
        weights = group[0].get("weights", "")
        parts.append(
            f"### {_TITLES.get(workload, workload)}: {model}, {task}"
            + (f" ({weights} weights)" if weights == "random" else "")
        )
        if timed(group):
            parts.append((_stream if workload == "stream" else _numbers)(group, against))
        if lines := not_timed(group):
            parts.append("Not timed:\n" + "\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"


def _heading(rows: Sequence[Row]) -> str:
    """The run, the machine and every version, in two lines."""
    first = rows[0]
    machine = first["machine"]
    versions = {}
    for row in rows:
        versions.update(row.get("versions", {}))
    listed = ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
    flags = ", ".join(machine["flags"]) or "no vector extensions"
    gpu = f"{machine['gpu']} (driver {machine['driver']}), " if "gpu" in machine else ""
    return (
        f"Run {first['run']}, commit {first['commit'] or 'unknown'}: {gpu}"
        f"{machine['cpu']} ({flags}), "
        f"{machine['cores']} cores, {machine['threads']} threads, {machine['system']}, "
        f"Python {machine['python']}.\n{listed}."
    )


def _numbers(rows: Sequence[Row], against: str) -> str:
    """One line a contender, one column a shape: the median, and how many times better it is."""
    columns = shapes(rows)
    table = [["", *columns, "error"]]
    for name, title in contenders(rows).items():
        own = {row["shape"]: row for row in timed(rows) if row["contender"] == name}
        cells = [_cell(own[shape], against) if shape in own else "–" for shape in columns]
        table.append([_bold(name, title), *cells, worst_error(list(own.values()))])
    return _table(table)


def _cell(row: Row, against: str) -> str:
    ratio = speedup(row, against)
    number = ", ".join(part for part in (amount(row), throughput(row)) if part)
    if ratio is None or row["contender"] == against:
        return number
    return f"{number} ({ratio[0]:.2f}×)"


def _stream(rows: Sequence[Row], against: str) -> str:
    """One line a contender and load: latencies, throughput, and the requests turned away."""
    del against  # a stream's contenders share the offered load, not the rounds
    table = [["offered", "", *STREAM_NUMBERS, "turned away", "error"]]
    for shape in shapes(rows):
        for row in timed(rows):
            if row["shape"] == shape:
                numbers = [three_digits(row[key]) for key in STREAM_NUMBERS.values()]
                table.append(
                    [
                        f"{three_digits(row['rate'])} texts/s ({shape})",
                        _bold(row["contender"], row["title"]),
                        *numbers,
                        f"{row['turned_away']} of {row['n'] + row['turned_away']}",
                        worst_error([row]),
                    ]
                )
    return _table(table)


def _bold(contender: str, title: str) -> str:
    return f"**{title}**" if contender.startswith("bertrt") else title


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Markdown, the first column to the left and the others to the right."""
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|---|" + "---:|" * (len(lines[0]) - 1)
    return "\n".join([head, rule, *body])
