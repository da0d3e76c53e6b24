"""Plots of a run, drawn with matplotlib: bars for every workload, curves for the stream."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from views import (
    STREAM_NUMBERS,
    Bar,
    Curve,
    Row,
    absent,
    amounts,
    baseline,
    contenders,
    curves,
    groups,
    ratios,
    shapes,
    timed,
)

__all__ = ["draw"]

# Okabe and Ito's colours, told apart by colour-blind readers too; peers get a paler tint, so that
# bertrt stands out by strength, by its bold name, and not by hue alone.
_COLOURS = {
    "float32": "#0072B2",
    "float16": "#CC79A7",
    "bfloat16": "#009E73",
    "int8": "#D55E00",
}
_TINT = 0.4
_GREYS = ("#444444", "#777777", "#999999", "#BBBBBB")
_MARKERS = "osD^vP*X"
# Of a note's letter, over the width of a panel.
_CHARACTER_WIDTH = 0.0165
# Of the letters of a line below the narrowest plot.
_FOOT = 75

_AXES = {
    "fixed": "times as fast as {against}",
    "ragged": "texts per second",
    "mixed": "texts per second",
    "cold_start": "milliseconds",
    "memory": "MiB",
}
_TITLES = {
    "fixed": "Fixed shapes",
    "ragged": "Mixed lengths, token ids",
    "mixed": "Mixed lengths",
    "stream": "A live stream",
    "cold_start": "Cold start in a new process, files in the page cache",
    "memory": "Memory of the process",
}


def draw(rows: Sequence[Row], folder: Path, against: str | None = None) -> list[Path]:
    """Write a PNG for each workload, model and task of one run's rows; see `tables.markdown`.

    Returns the files. Raises ImportError where matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    against = against or baseline(rows)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for (workload, model, task), group in groups(rows).items():
        if not timed(group):
            continue
        title = f"{_TITLES[workload]}: {model}, {task}"
        missing = absent(group)
        absentees = f"not timed, for reasons in the table: {', '.join(missing)}"
        foot = f"\n{fill(absentees, _FOOT)}" if missing else ""
        path = folder / f"{workload}-{model}-{task}.png"
        if workload == "stream":
            _curves(curves(group), title, foot, path)
        else:
            view = ratios if workload == "fixed" else amounts
            panels = {
                shape: view([row for row in group if row["shape"] == shape], against)
                for shape in shapes(group)
            }
            axis = _AXES[workload].format(against=contenders(group).get(against, against))
            shown = {shape: bars for shape, bars in panels.items() if bars}
            if not shown:
                continue
            _bars(shown, title, axis + foot, path)
        drawn.append(path)
    return drawn


def _bars(panels: Mapping[str, Sequence[Bar]], title: str, label: str, path: Path) -> None:
    """A panel a shape, a horizontal bar a contender, the same contender at the same height."""
    from matplotlib import pyplot

    names = list(dict.fromkeys(bar.title for bars in panels.values() for bar in bars))
    ours = {bar.title for bars in panels.values() for bar in bars if bar.ours}
    across = 2 if len(panels) == 4 else min(3, len(panels))
    down = -(-len(panels) // across)
    figure, axes = pyplot.subplots(
        down,
        across,
        figsize=(1.6 + 4.4 * across, 0.9 + down * (0.75 + 0.27 * len(names))),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(title, fontweight="bold")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (shape, bars) in zip(axes.flat, panels.items(), strict=False):
        axis.set_title(shape, fontsize=10)
        axis.set_xlim(0, max(_room(bar) for bar in bars))
        for bar in bars:
            height = names.index(bar.title)
            axis.barh(height, bar.value, color=_colour(bar), height=0.72)
            axis.plot([bar.low, bar.high], [height, height], color="black", linewidth=1.2)
            axis.annotate(
                bar.note,
                (max(bar.high, bar.value), height),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
                fontweight="bold" if bar.ours else "normal",
            )
        axis.set_yticks(range(len(names)), names, fontsize=8)
        _tidy(axis)
    axes[0][0].invert_yaxis()
    for axis in axes[:, 0]:
        for text in axis.get_yticklabels():
            text.set_fontweight("bold" if text.get_text() in ours else "normal")
    figure.supxlabel(label, fontsize=9)
    _legend(figure, {bar.precision for bars in panels.values() for bar in bars})
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _room(bar: Bar) -> float:
    """How far the axis has to reach for the note to fit beside the bar."""
    return max(bar.high, bar.value) / (1 - len(bar.note) * _CHARACTER_WIDTH)


def _curves(lines: Sequence[Curve], title: str, foot: str, path: Path) -> None:
    """A panel a number, a line a contender, solid for live batchers; latencies logarithmic."""
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    figure, axes = pyplot.subplots(2, 2, figsize=(13, 8), sharex=True, layout="constrained")
    figure.suptitle(title, fontweight="bold")
    for axis, name in zip(axes.flat, STREAM_NUMBERS, strict=True):
        for i, line in enumerate(lines):
            axis.plot(
                [100 * load for load in line.loads],
                line.numbers[name],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=6 if line.ours else 4,
                color=_colour(line) if line.ours else _GREYS[i % len(_GREYS)],
                linewidth=2.4 if line.ours else 1.2,
                linestyle="-" if line.live else "--",
                label=line.title,
            )
        if name.endswith("ms"):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(ScalarFormatter())
            # Names the steps between powers of ten where there are few of those.
            axis.yaxis.set_minor_formatter(LogFormatter())
        axis.set_title(name, fontsize=10)
        _tidy(axis)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    figure.supxlabel(f"offered load, % of what bertrt answers one by one{foot}", fontsize=9)
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside right upper",
        fontsize=9,
        frameon=False,
    )
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(which="both", labelsize=8)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _legend(figure: Any, precisions: set[str]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(color=colour, label=name) for name, colour in _COLOURS.items() if name in precisions
    ]
    figure.legend(handles=patches, loc="upper right", fontsize=8, frameon=False, ncols=3)


def _colour(one: Bar | Curve) -> str:
    from matplotlib.colors import to_hex, to_rgb

    own = to_rgb(_COLOURS.get(one.precision, "#666666"))
    if one.ours:
        return str(to_hex(own))
    return str(to_hex([1 - _TINT * (1 - part) for part in own]))
