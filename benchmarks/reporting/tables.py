"""Markdown tables: one for each workload, model and task, and what was not timed."""

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.reporting.published import Group, earlier
from benchmarks.reporting.report_data import (
    LIVE_NUMBERS,
    MODELS,
    Row,
    amount,
    baseline,
    contenders,
    groups,
    is_bertrt,
    not_timed,
    shapes,
    speedup,
    three_digits,
    throughput,
    timed,
    worst_error,
)

__all__ = [
    "group_table",
    "markdown",
    "peers_table",
    "readme_table",
    "versions_text",
]

_TITLES = {
    "fixed": "Fixed shapes (batch x sequence)",
    "ragged": "Mixed lengths, as padded batches of token ids",
    "mixed": "Mixed lengths",
    "texts": "Texts of one length (texts x tokens)",
    "rerank": "Reranking, a query with its passages",
    "live": "Live requests",
    "http": "Over HTTP",
    "http_all_cpus": "Over HTTP, on all CPUs",
    "http_limits": "Limits of the server",
    "http_limits_all_cpus": "Limits of the server, on all CPUs",
    "http_ray": "Over HTTP, by Ray Serve on one machine",
    "corpus": "A corpus in a file, whole jobs",
    "cold_start": "Cold start, files in the page cache",
    "memory": "Memory",
}

# ONNX Runtime's float32 graphs; which of them is fastest depends on the shape.
ORT_GRAPHS = ("ort_plain", "ort_torchscript", "ort_optimizer", "transformers_exporters")
_COMPARISONS = (
    ("bertrt", "OpenVINO float32", ("openvino_float32",)),
    ("bertrt", "ONNX Runtime, fastest graph", ORT_GRAPHS),
    ("bertrt_int8", "ONNX Runtime, quantize_dynamic", ("ort_quantize_dynamic",)),
    ("bertrt_int8", "OpenVINO int8", ("openvino_int8",)),
)

# The table of the README: its rows, and its columns of embeddings.
_README_ROWS = (
    ("PyTorch eager", ("eager",)),
    ("ONNX Runtime, fastest graph", ORT_GRAPHS),
    ("OpenVINO", ("openvino_float32",)),
    ("**bertrt**", ("bertrt",)),
    ("ONNX Runtime int8 (dynamic)", ("ort_quantize_dynamic",)),
    ("**bertrt int8**", ("bertrt_int8",)),
)
_README_COLUMNS = (
    ("minilm", "1x32"),
    ("minilm", "1x128"),
    ("bert-base", "1x128"),
    ("bert-base", "32x128"),
)


def markdown(rows: Sequence[Row], against: str | None = None) -> str:
    """Return the tables of one run's rows.

    Ratios are relative to the contender `against` (by default the baseline of the run's device);
    above 1 is better.
    """
    against = against or baseline(rows)
    parts = [_heading(rows)]
    for (workload, model, task), group in groups(rows).items():
        weights = group[0].get("weights", "")
        parts.append(
            f"### {_TITLES.get(workload, workload)}: {model}, {task}"
            + (f" ({weights} weights)" if weights == "random" else "")
        )
        parts.append(group_table(group, against))
    return "\n\n".join(part for part in parts if part) + "\n"


def group_table(rows: Sequence[Row], against: str | None = None) -> str:
    """Return the table of one workload, model and task, and a list of what was not timed."""
    against = against or baseline(rows)
    parts = []
    if timed(rows):
        parts.append(_TABLES.get(rows[0]["workload"], partial(_numbers, against=against))(rows))
    if lines := not_timed(rows):
        parts.append("Not timed:\n\n" + "\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts)


def _machine_text(row: Row) -> str:
    """Describe the machine of a row."""
    machine = row["machine"]
    flags = ", ".join(machine["flags"]) or "no vector extensions"
    gpu = f"{machine['gpu']} (driver {machine['driver']}), " if "gpu" in machine else ""
    return (
        f"{gpu}{machine['cpu']} ({flags}), {machine['cores']} cores, {machine['threads']} "
        f"threads, {machine['system']}, Python {machine['python']}"
    )


def versions_text(rows: Sequence[Row]) -> str:
    """List the versions of all packages in rows of one run."""
    versions: dict[str, str] = {}
    for row in rows:
        versions.update(row.get("versions", {}))
    return ", ".join(f"{name} {versions[name]}" for name in sorted(versions))


def peers_table(published: Mapping[Group, Sequence[Row]]) -> str:
    """Return how many times as fast as the closest peers bertrt is, from the rows' own ratios."""
    fixed = {group: timed(rows) for group, rows in published.items() if group[0] == "fixed"}
    columns = list(dict.fromkeys(shape for rows in fixed.values() for shape in shapes(rows)))
    table = [["bertrt beside", "model, task", *columns]]
    for contender, title, peers in _COMPARISONS:
        for model in MODELS:
            for task in ("embeddings", "classification"):
                rows = fixed.get(("fixed", model, task), [])
                own = {row["shape"]: row for row in rows if row["contender"] == contender}
                ratios = {shape: _least_ratio(row, peers) for shape, row in own.items()}
                if any(ratios.values()):
                    cells = [f"{ratios[s]:.2f}" if ratios.get(s) else "–" for s in columns]
                    table.append([title, f"{MODELS[model]}, {task}", *cells])
    return _table(table)


def readme_table(published: Mapping[Group, Sequence[Row]]) -> str:
    """Return the table of the README: milliseconds per batch of embeddings, and the accuracy."""
    heads = [f"{MODELS[model]} {shape}" for model, shape in _README_COLUMNS]
    table = [["embeddings, batch x tokens", *heads, "worst cosine, MiniLM"]]
    for title, names in _README_ROWS:
        cells = []
        for model, shape in _README_COLUMNS:
            rows = timed(published["fixed", model, "embeddings"])
            own = [row for row in rows if row["contender"] in names and row["shape"] == shape]
            best = min(own, key=lambda row: row["median_ms"])
            cell = _cell(best, "eager")
            cells.append(f"**{cell}**" if title.startswith("**") else cell)
        rows = timed(published["fixed", "minilm", "embeddings"])
        error = worst_error([row for row in rows if row["contender"] in names])
        table.append([title, *cells, error.removeprefix("cos ")])
    return _table(table)


def _least_ratio(row: Row, peers: Sequence[str]) -> float | None:
    """Return the row's ratio to the fastest of these peers, among those in its run."""
    found = [ratio[0] for peer in peers if (ratio := row.get("speedup", {}).get(peer))]
    return min(found, default=None)


def _heading(rows: Sequence[Row]) -> str:
    """Return the run, the machine and all versions, in two lines."""
    first = rows[0]
    return (
        f"Run {first['run']}, commit {first['commit'] or 'unknown'}: {_machine_text(first)}.\n"
        f"{versions_text(rows)}."
    )


def _numbers(rows: Sequence[Row], against: str) -> str:
    """One line per contender, one column per shape: the median, and how many times better."""
    columns = shapes(rows)
    marked = earlier(rows)
    table = [["", *columns, "error"]]
    for name, title in contenders(rows).items():
        own = {row["shape"]: row for row in timed(rows) if row["contender"] == name}
        cells = [_cell(own[shape], against) if shape in own else "–" for shape in columns]
        mark = " †" if name in marked else ""
        table.append([_bold(name, title) + mark, *cells, worst_error(list(own.values()))])
    return _table(table)


def _cell(row: Row, against: str) -> str:
    ratio = speedup(row, against)
    number = ", ".join(part for part in (amount(row), throughput(row)) if part)
    if ratio is None or row["contender"] == against:
        return number
    return f"{number} ({ratio[0]:.2f}×)"


def _live(rows: Sequence[Row], more: Mapping[str, str] | None = None) -> str:
    """One line per contender and load: latencies, throughput, and requests turned away.

    There are no ratios: contenders share the offered load, and not the rounds. `more` has the
    titles and fields of further numbers.
    """
    fields = {**LIVE_NUMBERS, **(more or {})}
    table = [["offered", "", *fields, "turned away", "error"]]
    for shape in shapes(rows):
        for row in timed(rows):
            if row["shape"] == shape:
                numbers = [three_digits(row[key]) for key in fields.values()]
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


def _http(rows: Sequence[Row]) -> str:
    """Tables of busy clients and, where they were measured, of offered loads."""
    busy = [row for row in timed(rows) if "rate" not in row]
    columns = [
        f"{shape}, {unit}" for shape in shapes(busy) for unit in ("texts/s", "CPU ms a text")
    ]
    table = [["", *columns, "memory, MiB", "error"]]
    for name, title in contenders(busy).items():
        own = {row["shape"]: row for row in busy if row["contender"] == name}
        cells = [
            three_digits(own[shape][field]) if shape in own else "–"
            for shape in shapes(busy)
            for field in ("median", "cpu_ms")
        ]
        cells.append(three_digits(max(row["memory_mib"] for row in own.values())))
        table.append([_bold(name, title), *cells, worst_error(list(own.values()))])
    loads = [row for row in rows if "rate" in row]
    if not loads:
        return _table(table)
    more = {"CPU ms a text": "cpu_ms", "sent late, ms": "lag_ms"}
    return f"{_table(table)}\n\n{_live(loads, more)}"


def _limits(rows: Sequence[Row]) -> str:
    """One line per number."""
    table = [["what", "", "found"]]
    for shape in shapes(rows):
        for row in timed(rows):
            if row["shape"] == shape:
                table.append([shape, _bold(row["contender"], row["title"]), amount(row)])
    return _table(table)


# Of workloads whose rows are not a contender at some shapes.
_TABLES = {
    "live": _live,
    "http": _http,
    "http_all_cpus": _http,
    "http_limits": _limits,
    "http_limits_all_cpus": _limits,
    "http_ray": _http,
}


def _bold(contender: str, title: str) -> str:
    return f"**{title}**" if is_bertrt(contender) else title


def _table(lines: Sequence[Sequence[str]]) -> str:
    """Format a table, with the first column aligned left and the others right."""
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    rule = "|---|" + "---:|" * (len(lines[0]) - 1)
    return "\n".join([head, rule, *body])
