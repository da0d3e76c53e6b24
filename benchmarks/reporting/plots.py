"""Plots of results, drawn with matplotlib: bars for most workloads, curves for live requests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting.published import Group, earlier
from benchmarks.reporting.report_data import (
    MODELS,
    Bar,
    Curve,
    Row,
    bars_of_amounts,
    bars_of_ratios,
    bars_of_tails,
    baseline,
    contenders,
    curves,
    groups,
    is_bertrt,
    shapes,
    speedup,
    three_digits,
    timed,
    worst_error,
)
from benchmarks.reporting.tables import ORT_GRAPHS

__all__ = ["draw", "draw_group", "draw_speed", "title_of"]

# bertrt has colour, and darker for int8; its peers are grey.
_BERTRT = "#1f6feb"
_INT8 = "#e8590c"
_PEER = "#c3c9d0"
_INK = "#1f2328"
_MUTED = "#6b7480"
_DPI = 160
_WIDTH = 10.5  # inches; on 800 pixels 11 points are 12 pixels

# Of a fixed-shapes plot; tables have all shapes.
_SHAPES = ("1x32", "1x128", "32x128")
_MEMORY_STEPS = {"loaded": "after loading", "256 texts": "at the peak, after 256 texts"}
_START_PARTS = {"start": "#e4e7eb", "load": "#b3bac3", "first answer": "#7d8794"}
_OUR_START_PARTS = {"start": "#cfe0fc", "load": "#7fb0f7", "first answer": _BERTRT}

_TITLES = {
    "fixed": "{model} {task}: times as fast as {against}",
    "ragged": "{model} {task}, batches of mixed lengths: texts per second",
    "mixed": "{model} {task}, texts of mixed lengths: texts per second",
    "texts": "{model} {task}, text in and vectors out: times as fast as {against}",
    "rerank": "{model}, a query with its passages: milliseconds",
    "live": "{model} {task}, live requests",
    "http": "{model} {task} over HTTP",
    "corpus": "{model}, a corpus in a file: texts per second of whole jobs",
    "cold_start": "{model}: seconds from starting a process to the first answer",
    "memory": "{model}: memory of the process, MiB",
}

# The panels of the speed picture: title, workload, model and shape of embeddings.
_SPEED_PANELS = (
    ("MiniLM, 128 tokens", "fixed", "minilm", "1x128"),
    ("BERT-base, 128 tokens", "fixed", "bert-base", "1x128"),
    ("MiniLM, 256 mixed texts", "mixed", "minilm", "256 texts"),
)
# Its bars, from top to bottom: title, and the contenders of which the fastest is shown.
_SPEED_BARS = (
    ("bertrt int8", ("bertrt_int8",)),
    ("OpenVINO int8", ("openvino_int8",)),
    ("OpenVINO bfloat16", ("openvino_bfloat16",)),
    ("ONNX Runtime int8", ("ort_quantize_dynamic",)),
    ("bertrt", ("bertrt",)),
    ("OpenVINO", ("openvino_float32",)),
    ("ONNX Runtime", ORT_GRAPHS),
    ("sentence-transformers", ("sentence_transformers",)),
    ("PyTorch eager", ("eager",)),
)
# How many of them compute in 8 or 16 bits.
_SPEED_LOW = 4


def title_of(rows: Sequence[Row], against: str | None = None) -> str:
    """Return the title of the plot of one workload, model and task."""
    row = rows[0]
    against = against or baseline(rows)
    return _TITLES[row["workload"]].format(
        model=MODELS.get(row["model"], row["model"]),
        task=row["task"],
        against=contenders(rows).get(against, against),
    )


def draw(rows: Sequence[Row], folder: Path, against: str | None = None) -> list[Path]:
    """Write a PNG for each workload, model and task of one run's rows; return the files.

    Raises ImportError if matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for group, found in groups(rows).items():
        path = folder / f"{'-'.join(group).replace('_', '-')}.png"
        if draw_group(found, path, against):
            drawn.append(path)
    return drawn


def draw_group(rows: Sequence[Row], path: Path, against: str | None = None) -> bool:
    """Draw the plot of one workload, model and task; False if there is nothing to draw."""
    against = against or baseline(rows)
    workload = rows[0]["workload"]
    if workload not in _TITLES:  # numbers of different kinds
        return False
    title = title_of(rows, against)
    marked = earlier(rows)
    rows = [
        {**row, "title": f"{row['title']} †"} if row["contender"] in marked else row for row in rows
    ]
    if workload == "live":
        lines = curves(rows)
        if lines:
            _draw_live(lines, title, path)
        return bool(lines)
    if workload == "cold_start":
        if timed(rows):
            _draw_start(rows, title, path)
        return bool(timed(rows))
    panels = _panels(rows, against)
    if panels:
        _draw_bars(panels, title, path)
    return bool(panels)


def draw_speed(published: Mapping[Group, Sequence[Row]], path: Path) -> None:
    """Draw the picture of the README: bertrt beside its peers, and how accurate int8 is."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 3, figsize=(_WIDTH, 5.2), sharey=True, layout="constrained")
    heights = [i + (0.4 if i >= _SPEED_LOW else 0.0) for i in range(len(_SPEED_BARS))]
    for axis, (title, workload, model, shape) in zip(axes, _SPEED_PANELS, strict=True):
        rows = timed(published[workload, model, "embeddings"])
        ratios = {
            row["contender"]: ratio[0]
            for row in rows
            if row["shape"] == shape and (ratio := speedup(row, "eager"))
        }
        errors = {row["contender"]: worst_error([row]) for row in rows if row["shape"] == shape}
        for height, (_, names) in zip(heights, _SPEED_BARS, strict=True):
            measured = {name: ratios[name] for name in names if name in ratios}
            best = max(measured, key=lambda name: measured[name], default="")
            value = measured.get(best, 0.0)
            axis.barh(height, value, color=_colour(best), height=0.76)
            rounded = best in errors and height < heights[_SPEED_LOW]
            axis.annotate(
                f"{value:.1f}×" if best else "not measured",
                (value, height),
                xytext=(5, 5 if rounded else 0),
                textcoords="offset points",
                va="center",
                fontsize=13 if best else 10,
                fontweight="bold" if is_bertrt(best) else "normal",
                color=_INK if best else _MUTED,
            )
            if rounded:
                axis.annotate(
                    errors[best],
                    (value, height),
                    xytext=(5, -10),
                    textcoords="offset points",
                    va="center",
                    fontsize=9.5,
                    color=_MUTED,
                )
        axis.set_title(title, fontsize=12.5, loc="left", color=_INK, pad=8)
        axis.set_xlim(0, 1.3 * max(ratios.values()))
        _clean(axis)
    axes[0].set_ylim(heights[-1] + 0.6, -0.6)
    axes[0].set_yticks(heights, [title for title, _ in _SPEED_BARS], fontsize=13)
    _bold_ticks(axes[0], {"bertrt", "bertrt int8"})
    path.parent.mkdir(parents=True, exist_ok=True)
    _finish(figure, "Embeddings on two CPU cores: speedup over eager PyTorch", path, size=15)


def _panels(rows: Sequence[Row], against: str) -> dict[str, list[Bar]]:
    """Return the bars of each panel, by the panel's title."""
    workload = rows[0]["workload"]
    panels = {}
    for shape in shapes(rows):
        own = [row for row in rows if row["shape"] == shape]
        if workload in ("fixed", "texts"):
            if "gpu" in own[0]["machine"] or shape in _SHAPES or len(shapes(rows)) < 3:
                panels[_words(shape)] = bars_of_ratios(own, against)
        elif workload == "http" and "rate" in own[0]:
            if shape == next(row["shape"] for row in rows if "rate" in row):
                title = f"p99 at {three_digits(own[0]['rate'])} texts/s"
                panels[title] = bars_of_tails(own)
        elif workload == "http":
            panels[shape.removeprefix("busy clients, ")] = bars_of_amounts(own)
        elif workload == "memory":
            if shape in _MEMORY_STEPS:
                panels[_MEMORY_STEPS[shape]] = bars_of_amounts(own)
        else:
            panels[shape] = bars_of_amounts(own)
    return {title: bars for title, bars in panels.items() if bars}


def _draw_bars(panels: Mapping[str, Sequence[Bar]], title: str, path: Path) -> None:
    """Draw a panel for each shape, with a horizontal bar for each contender."""
    pyplot = _pyplot()
    titles = list(dict.fromkeys(bar.title for bars in panels.values() for bar in bars))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure, axes = pyplot.subplots(
        down,
        across,
        figsize=(_WIDTH, 0.6 + down * (0.55 + 0.3 * len(titles))),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (shape, bars) in zip(axes.flat, panels.items(), strict=False):
        for bar in bars:
            height = titles.index(bar.title)
            axis.barh(height, bar.value, color=_colour(bar.contender), height=0.74)
            axis.plot([bar.low, bar.high], [height, height], color=_INK, linewidth=0.9)
            axis.annotate(
                bar.label,
                (max(bar.high, bar.value), height),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9.5,
                fontweight="bold" if is_bertrt(bar.contender) else "normal",
                color=_INK,
            )
        letters = max(len(bar.label) for bar in bars)
        longest = max(max(bar.high, bar.value) for bar in bars)
        # The labels' width, as a share of a panel.
        axis.set_xlim(0, longest / (1 - min(0.6, 0.0102 * letters * across)))
        axis.set_title(shape, fontsize=11, loc="left", color=_INK)
        _clean(axis)
        axis.set_yticks(range(len(titles)), titles, fontsize=10.5)
    axes[0][0].set_ylim(len(titles) - 0.4, -0.6)
    ours = {bar.title for bars in panels.values() for bar in bars if is_bertrt(bar.contender)}
    for axis in axes[:, 0]:
        _bold_ticks(axis, ours)
    _finish(figure, title, path)


def _draw_start(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw a bar for each contender, stacked from the parts of its cold start."""
    from matplotlib.patches import Patch

    pyplot = _pyplot()
    names = contenders(rows)
    seconds = {(row["contender"], row["shape"]): row["median_ms"] / 1000 for row in timed(rows)}
    figure, axis = pyplot.subplots(figsize=(_WIDTH, 0.95 + 0.42 * len(names)), layout="constrained")
    for height, name in enumerate(names):
        left = 0.0
        parts = _OUR_START_PARTS if is_bertrt(name) else _START_PARTS
        for part, colour in parts.items():
            axis.barh(height, seconds[name, part], left=left, color=colour, height=0.74)
            left += seconds[name, part]
        axis.annotate(
            f"{seconds[name, 'total']:.2f} s",
            (left, height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=10.5,
            fontweight="bold" if is_bertrt(name) else "normal",
        )
    _clean(axis)
    axis.set_xlim(0, 1.1 * max(seconds.values()))
    axis.set_yticks(range(len(names)), list(names.values()), fontsize=10.5)
    axis.set_ylim(len(names) - 0.4, -0.6)
    _bold_ticks(axis, {names[name] for name in names if is_bertrt(name)})
    words = {"start": "start Python", "load": "import and load", "first answer": "first answer"}
    handles = [Patch(color=colour, label=words[part]) for part, colour in _START_PARTS.items()]
    axis.legend(handles=handles, loc="lower right", fontsize=10, frameon=False, handlelength=1.2)
    _finish(figure, title, path)


def _draw_live(lines: Sequence[Curve], title: str, path: Path) -> None:
    """Draw the 99th percentile of the latency and the throughput over the offered load."""
    from matplotlib.ticker import FuncFormatter

    pyplot = _pyplot()
    panels = {
        "p99_ms": "99 % of the answers take at most, ms",
        "throughput": "answered, texts per second",
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(_WIDTH, 4.4), layout="constrained")
    for axis, (number, heading) in zip(axes, panels.items(), strict=True):
        for line in lines:
            live = line.contender.endswith("_live")
            axis.plot(
                [100 * load for load in line.loads],
                line.numbers[number],
                color=_colour(line.contender),
                linewidth=2.6 if live else 1.6,
                linestyle="-" if live else (0, (4, 2)),
                marker="o",
                markersize=4.5,
                label=line.title
                if live or not is_bertrt(line.contender)
                else f"{line.title}, one at a time",
            )
        axis.set_title(heading, fontsize=11, loc="left", color=_INK)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#d0d7de")
        axis.tick_params(labelsize=10, colors=_MUTED, which="both", length=0)
        axis.grid(axis="y", color="#eaeef2", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.set_xticks([round(100 * load) for load in lines[0].loads])
        axis.set_xlabel("offered load, % of bertrt's capacity one at a time", fontsize=10)
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[1].set_ylim(bottom=0)
    axes[0].legend(fontsize=10, frameon=False, loc="upper left")
    _finish(figure, title, path)


def _finish(figure: Any, title: str, path: Path, size: float = 13) -> None:
    # A line break below the title, which constrained layout puts close to the panels.
    figure.suptitle(
        f"{title}\n",
        fontsize=size,
        linespacing=0.5,
        fontweight="bold",
        x=0.01,
        ha="left",
        color=_INK,
    )
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", pad_inches=0.12)
    _pyplot().close(figure)


def _clean(axis: Any) -> None:
    """Remove the frame and the scale: every bar has its number."""
    axis.spines[:].set_visible(False)
    axis.spines["left"].set_visible(True)
    axis.spines["left"].set_color("#d0d7de")
    axis.tick_params(axis="both", length=0, labelcolor=_INK)
    axis.set_xticks([])


def _bold_ticks(axis: Any, titles: set[str]) -> None:
    for text in axis.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() in titles else "normal")


def _words(shape: str) -> str:
    """Describe a shape: "one text of 128 tokens"."""
    batch, _, sequence = shape.partition("x")
    return f"{'one text' if batch == '1' else f'{batch} texts'} of {sequence} tokens"


def _colour(contender: str) -> str:
    if not is_bertrt(contender):
        return _PEER
    return _INT8 if "int8" in contender else _BERTRT


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
