"""The layouts: which graphs an export writes, and where."""

from dataclasses import dataclass

from bertrt.artifact.targets import Target
from bertrt.errors import ExportError
from bertrt.export.tracing.torch_export import OPSET

__all__ = [
    "LAYOUTS",
    "GraphFile",
    "Layout",
    "check_layout",
    "check_layout_task",
    "choose_layout",
]


@dataclass(frozen=True)
class GraphFile:
    """A graph to write.

    Attributes:
        path: its file, within the output.
        dtype: its dtype.
        inline: whether its weights are in the file as long as a protobuf can hold them.
    """

    path: str
    dtype: str
    inline: bool = False


@dataclass(frozen=True)
class Layout:
    """Where the files of an export lie.

    Attributes:
        name: "artifact" for bertrt's own layout, "hub" for the one that other runtimes look for.
        device: the device whose graphs it holds, if no other is asked for.
        opset: the opset of its graphs, if no other is asked for.
    """

    name: str
    device: str
    opset: int

    def graphs(self, dtype: str) -> tuple[GraphFile, ...]:
        """Return the graphs of an export in a dtype; the last one is in that dtype.

        The names in the hub's layout are those of transformers.js, whose default is float32.
        """
        if self.name == "artifact":
            return (GraphFile("model.onnx", dtype),)
        files = [GraphFile("onnx/model.onnx", "float32", inline=True)]
        if dtype == "int8":
            files.append(GraphFile("onnx/model_quantized.onnx", dtype, inline=True))
        return tuple(files)


# The hub's default opset is the oldest that bertrt writes, which the most runtimes read.
LAYOUTS = (Layout("artifact", "cpu", OPSET), Layout("hub", "any", 17))


def choose_layout(name: str) -> Layout:
    """Return a layout by its name; raises ExportError for another name."""
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise ExportError(f"unknown layout {name!r}: choose one of {known}")


def check_layout(layout: Layout, target: Target, *, with_tokenizer: bool) -> None:
    """Raise ExportError for a target or an option that a layout does not have."""
    if layout.name != "hub":
        return
    if target.device != "any":
        raise ExportError(
            f"the layout 'hub' is for every ONNX runtime, and a graph for the device "
            f"{target.device!r} is not: leave out --device, or leave out --layout"
        )
    if with_tokenizer:
        raise ExportError(
            "--with-tokenizer writes a graph that no runtime looks for in the layout 'hub': leave "
            "out one of them"
        )


def check_layout_task(layout: Layout, task: str, *, known: bool) -> None:
    """Raise ExportError for a task that no other runtime has, in the hub's layout."""
    if layout.name == "hub" and not known:
        raise ExportError(
            f"the layout 'hub' is for tasks that other runtimes know, and {task} is bertrt's own: "
            "leave out --layout, or export the transformers model with --task fill-mask or "
            "feature-extraction"
        )
