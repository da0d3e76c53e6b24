"""Draw the pictures of docs/architecture.md as SVG: each once for wide and once for narrow screens.

    python docs/pictures/draw.py

An SVG has colors of its own for light and dark screens, so that it is readable on any page.
"""

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

__all__ = ["pictures"]

FOLDER = Path(__file__).parent

STYLE = """\
text { font-family: system-ui, sans-serif; font-size: 13px; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px }
.code { font-family: ui-monospace, monospace; font-size: 12px }
.note { fill: #57606a; font-size: 12px }
.page { fill: #ffffff; stroke: #d0d7de }
.box { fill: #f6f8fa; stroke: #8c959f }
.main { fill: #e8eefc; stroke: #3949ab }
.arrow { stroke: #57606a; stroke-width: 1.5; fill: none; marker-end: url(#tip) }
.tip { fill: #57606a }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.note { fill: #9ea7b3 }
.page { fill: #1c1f26; stroke: #3d444d }
.box { fill: #262b33; stroke: #656c76 }
.main { fill: #232c4d; stroke: #8c9eff }
.arrow { stroke: #9ea7b3 }
.tip { fill: #9ea7b3 }
}"""

LINE = 17
PAD = 12


@dataclass(frozen=True)
class Box:
    """A box at (x, y) with a title and lines; a line that begins with a backtick is code."""

    x: int
    y: int
    width: int
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "box"

    @property
    def height(self) -> int:
        return 2 * PAD + LINE * (1 + len(self.lines)) - 4

    def svg(self) -> str:
        parts = [
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" '
            f'height="{self.height}" rx="6"/>',
            _text(self.x + PAD, self.y + PAD + 11, self.title, "title"),
        ]
        for number, line in enumerate(self.lines, start=1):
            kind = "code" if line.startswith("`") else "note"
            y = self.y + PAD + 11 + LINE * number
            parts.append(_text(self.x + PAD, y, line.lstrip("`"), kind))
        return "\n".join(parts)


def _text(x: int, y: int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text, quote=False)}</text>'


def _arrow(*points: tuple[int, int], label: str = "", at: tuple[int, int] = (0, 0)) -> str:
    path = "M" + " L".join(f"{x} {y}" for x, y in points)
    return f'<path class="arrow" d="{path}"/>' + (_text(*at, label, "code") if label else "")


def _down(above: Box, below: Box, label: str = "") -> str:
    x = above.x + min(above.width, below.width) // 2
    start, end = above.y + above.height, below.y - 2
    return _arrow((x, start), (x, end), label=label, at=(x + 8, (start + end) // 2 + 4))


def _picture(width: int, height: int, title: str, description: str, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(description)}</desc>\n"
        f"<style>\n{STYLE}\n</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>\n'
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


CHECKPOINT = ("checkpoint", ("PyTorch, TensorFlow,", "Flax; a folder,", "a hub id or demo"))
EXPORT = (
    "bertrt.export",
    ("needs PyTorch", "read · trace · fuse", "check parity", "quantize · write"),
)
ARTIFACT = ("artifact", ("`model.onnx", "`bertrt.json", "`tokenizer.json", "`config.json"))
RUNTIME = (
    "bertrt.Runtime",
    ("no PyTorch: numpy, tokenizers, onnxruntime", "tokenizer · heads · scheduling · arrays"),
)
ANSWERS = ("answers", ("text in,", "plain Python out"))
ENGINES = (
    ("ONNX Runtime", ("CPU", "`--device cpu or any")),
    ("ONNX Runtime", ("CUDA provider", "`--engine ort")),
    ("bertrt.kernels", ("Triton kernels, with PyTorch", "`--engine triton")),
)
ARCHITECTURE = (
    "bertrt from a checkpoint to answers",
    "bertrt.export reads a checkpoint and writes an artifact directory. bertrt.load opens the "
    "artifact and answers through one of three engines: ONNX Runtime on the CPU, ONNX Runtime's "
    "CUDA provider, or the Triton kernels.",
)


def architecture_wide() -> str:
    checkpoint = Box(16, 30, 180, *CHECKPOINT)
    export = Box(254, 22, 180, *EXPORT)
    artifact = Box(492, 22, 180, *ARTIFACT, kind="main")
    runtime = Box(254, 182, 418, *RUNTIME)
    answers = Box(16, 182, 180, *ANSWERS)
    engines = [Box(16 + 224 * i, 300, 208, *engine, kind="box") for i, engine in enumerate(ENGINES)]
    middle, row = 70, runtime.y + runtime.height // 2
    fork = runtime.y + runtime.height + 22
    parts = [box.svg() for box in (checkpoint, export, artifact, runtime, answers, *engines)]
    parts += [
        _arrow((196, middle), (252, middle)),
        _arrow((434, middle), (490, middle)),
        _arrow((582, artifact.y + artifact.height), (582, 180), label="bertrt.load", at=(490, 160)),
        _arrow((254, row), (198, row)),
    ]
    for box in engines:
        x = box.x + box.width // 2
        start = (463, runtime.y + runtime.height)
        parts.append(_arrow(start, (463, fork), (x, fork), (x, box.y - 2)))
    return _picture(688, 382, *ARCHITECTURE, parts)


def architecture_narrow() -> str:
    boxes: list[Box] = []
    y = 14
    for title, lines, kind in (
        (*CHECKPOINT, "box"),
        (*EXPORT, "box"),
        (*ARTIFACT, "main"),
        (*RUNTIME, "box"),
    ):
        boxes.append(Box(14, y, 332, title, lines, kind))
        y += boxes[-1].height + 34
    runtime, spine = boxes[-1], 26
    parts = [box.svg() for box in boxes]
    labels = ("", "", "bertrt.load")
    parts += [_down(a, b, label) for a, b, label in zip(boxes, boxes[1:], labels, strict=False)]
    parts.append(_text(50, y - 10, "one engine, by the artifact's target:", "note"))
    for title, lines in ENGINES:
        box = Box(50, y, 296, title, lines)
        middle = box.y + box.height // 2
        parts.append(box.svg())
        parts.append(_arrow((spine, runtime.y + runtime.height), (spine, middle), (48, middle)))
        y += box.height + 12
    answers = Box(50, y, 296, *ANSWERS)
    middle = answers.y + answers.height // 2
    parts.append(answers.svg())
    parts.append(_arrow((spine, runtime.y + runtime.height), (spine, middle), (48, middle)))
    return _picture(360, y + answers.height + 14, *ARCHITECTURE, parts)


CALL = (
    "What happens in Runtime.__call__",
    "The call is parsed, the tokenizer encodes its inputs, encodings are batched by length, "
    "padded to arrays, run by a session, split again without padding, and turned into the answer.",
)
STEPS = (
    ("1  parse", "options and inputs of the call, checked by the head", "heads/calls.py"),
    ("2  encode", "text to token ids; too long is an error", "tokenizer.py"),
    ("3  request", "encodings, and how rows become the answer", "heads/request.py"),
    ("4  batch", "sort by length, at most max_batch_tokens a batch", "scheduling/batching.py"),
    ("5  pad", "int64 arrays [B, S], padding on the right", "tokenizer.py"),
    (
        "6  choose",
        "one batch by all threads, or workers side by side",
        "scheduling/session_pool.py",
    ),
    ("7  run", "the engine computes the graph's outputs", "engines/"),
    ("8  split", "each text's own rows, without padding", "arrays/outputs.py"),
    ("9  answer", "softmax, top_k, spans: plain Python", "heads/<task>.py"),
)


def call_wide() -> str:
    boxes = []
    y = 14
    for title, line, _ in STEPS:
        boxes.append(Box(16, y, 656, title, (line,)))
        y += boxes[-1].height + 20
    parts = [box.svg() for box in boxes]
    parts += [_down(a, b) for a, b in pairwise(boxes)]
    for box, (_, _, place) in zip(boxes, STEPS, strict=True):
        parts.append(_text(468, box.y + PAD + 19, place, "code"))
    return _picture(688, y - 6, *CALL, parts)


def call_narrow() -> str:
    boxes = []
    y = 14
    for title, line, place in STEPS:
        boxes.append(Box(14, y, 332, title, (line, "`" + place)))
        y += boxes[-1].height + 20
    parts = [box.svg() for box in boxes]
    parts += [_down(a, b) for a, b in pairwise(boxes)]
    return _picture(360, y - 6, *CALL, parts)


def pictures() -> dict[str, str]:
    """Every picture by its file name."""
    return {
        "architecture-wide.svg": architecture_wide(),
        "architecture-narrow.svg": architecture_narrow(),
        "call-wide.svg": call_wide(),
        "call-narrow.svg": call_narrow(),
    }


if __name__ == "__main__":
    for name, svg in pictures().items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
